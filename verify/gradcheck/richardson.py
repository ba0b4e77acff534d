"""Smooth functions of which nothing else is known: central differences, extrapolated, that know their own error.

    D(h) = sum(dy * (f(a + h v) - f(a - h v))) / 2h

over a ladder of halved steps. Each window of five steps is extrapolated to h = 0 in even powers of h
(Richardson 1911; Ridders 1982). What its value may be off by is the sum of

- truncation: the changes to the window's extrapolation through four steps, and to the next window's;
- noise: of two windows that differ, the difference times the step is what f's values are uncertain by.
  The largest over all windows of shorter steps counts, since there noise rules: so rounding in float32
  inside, added noise, and plateaus that a short step does not leave are measured where they are seen;
- rounding: eps sum|dy||f| / h of f, and eps sum|da||a| / h of the arrays moved.

The window with the least sum is taken, and ten times the sum is tolerated: over the functions of
`tox -e calibrate`, whose derivatives are known, ten covered every case, and the sum itself, as other
extrapolations use it, did not. A gradient is called wrong if it is off by more, along two directions.
Where one-sided derivatives differ there is a kink, and output by output the claim must lie between
them (Clarke 1983). If an error of a thousandth could pass, the verdict is INCONCLUSIVE.

Taylor's remainder |f(a + h v) - f(a) - h <da, v>| falls with slope 2 in h, if the gradient is right,
and with slope 1 if not: it is printed as a second opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from verify.gradcheck.certificate import INCONCLUSIVE, Worst
from verify.gradcheck.exact_numbers import Array, signed
from verify.gradcheck.locate import descend, not_finite, restricted
from verify.gradcheck.point import Findings, Point

_WINDOW = 5
# From a quarter of the arrays' scale down; further while shorter steps are better.
_LEVELS, _MOST_LEVELS = 14, 40
_SAFETY = 10.0
_COARSEST_USEFUL = 1e-3
_MOST_KINKS = 64


class Estimate(NamedTuple):
    """A derivative along a direction, what it may be off by, the level of the window, and the noise of f."""

    value: float
    error: float
    level: int
    noise: float


class Ladder:
    """f along one line, at steps h of either sign; called once for each, and only as far as asked."""

    def __init__(self, point: Extrapolated, k: int, v: Array) -> None:
        self.point, self.k, self.v = point, k, v
        self.steps: list[float] = []
        self.ahead: list[float] = []
        self.behind: list[float] = []

    def extend(self, levels: int) -> None:
        """Go down to so many levels."""
        for level in range(len(self.steps), levels):
            h = self.point.step(self.k, level)
            ahead, behind = self.point.differences(self.k, self.v, h)
            self.steps.append(h)
            self.ahead.append(self.point.weigh(ahead))
            self.behind.append(self.point.weigh(behind))

    def central(self) -> Array:
        """D(h) for each step."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray((np.array(self.ahead) - np.array(self.behind)) / (2 * np.array(self.steps)))

    def taylor_slope(self, claimed: float, noise: float) -> float | None:
        """The median slope of Taylor's remainder over the steps at which noise does not rule; None without any."""
        with np.errstate(invalid="ignore", over="ignore"):
            remainder = np.abs(np.array(self.ahead) - np.array(self.steps) * claimed)
            seen = np.isfinite(remainder) & (remainder > 100 * noise)
        pairs = [np.log2(one / two) for one, two, ok in zip(remainder, remainder[1:], seen[1:], strict=False) if ok]
        return float(np.median(pairs[-4:])) if len(pairs) >= 4 else None


@dataclass(frozen=True)
class Extrapolated(Point):
    """Differentiates by extrapolated differences."""

    repeated: float = 0.0

    def step(self, k: int, level: int) -> float:
        """The step of a level of the ladder."""
        array: Any = self.arrays[k]
        return float(2.0 ** (-2 - level) * max(1.0, float(np.abs(array).max())))

    def differences(self, k: int, v: Array, h: float) -> tuple[Array, Array]:
        """f(a + h v) - f(a) and f(a - h v) - f(a)."""
        with np.errstate(all="ignore"):
            ahead, behind = (
                self.subject.value(self.subject.moved(self.arrays, k, side * h * v)).astype(np.float64) - self.y
                for side in (1, -1)
            )
        return ahead, behind

    def weigh(self, change: Array) -> float:
        """sum(dy * change), NaN where that is not finite."""
        total = float((self.dy * change).sum())
        return total if np.isfinite(total) else np.nan

    def rounding(self, k: int) -> float:
        """What sum(dy * f) may be off by, by rounding alone."""
        own = float(np.finfo(self.y.dtype).eps) * float((np.abs(self.dy) * np.abs(self.y)).sum(dtype=np.float64))
        array: Any = self.arrays[k]
        gradient = self.gradients.get(k, np.zeros_like(array))
        moved = float(np.finfo(array.dtype).eps) * float(np.nan_to_num(np.abs(gradient) * np.abs(array)).sum())
        return own + moved + self.repeated + float(np.finfo(np.float64).tiny)

    def estimate(self, ladder: Ladder) -> Estimate:
        """The derivative along the ladder's direction; the ladder is extended while shorter steps are better."""
        levels = _LEVELS
        while True:
            ladder.extend(levels)
            best = _best(np.array(ladder.steps), ladder.central(), self.rounding(ladder.k))
            # Five windows below the best measure the noise that it is given.
            if best.level + 2 * _WINDOW <= levels or levels >= _MOST_LEVELS:
                return best
            levels += _WINDOW

    def slopes(self, k: int, v: Array) -> Array:
        """The derivative along v of each entry of y, by the window that suits all of them together."""
        return self._extrapolated(k, v, self.estimate(Ladder(self, k, v)).level)

    def _extrapolated(self, k: int, v: Array, level: int) -> Array:
        rows = []
        for each in range(level, level + _WINDOW):
            ahead, behind = self.differences(k, v, self.step(k, each))
            rows.append((ahead - behind) / (2 * self.step(k, each)))
        return np.asarray(_to_zero(np.array(rows), even=True))

    def one_sided(self, k: int, v: Array, level: int) -> tuple[Array, Array, Array]:
        """The derivatives of each entry of y ahead and behind, and what they may be off by."""
        sides: list[list[Array]] = [[], []]
        for each in range(level, level + _WINDOW + 1):
            h = self.step(k, each)
            for side, change in zip(sides, self.differences(k, v, h), strict=True):
                side.append(change / h)
        ahead, behind = (np.array(side) for side in sides)
        full = [_to_zero(rows[1:], even=False) for rows in (ahead, behind)]
        less = [_to_zero(rows[:-1], even=False) for rows in (ahead, behind)]
        rounding = float(np.finfo(self.y.dtype).eps) * np.abs(self.y) / self.step(k, level + _WINDOW)
        error = np.abs(full[0] - less[0]) + np.abs(full[1] - less[1]) + 8 * rounding
        return full[0], -full[1], error

    def residual(self, k: int, v: Array) -> float:
        """What the differences say less what the gradient says."""
        return self.estimate(Ladder(self, k, v)).value - self.claimed(k, v)

    def claimed(self, k: int, v: Array) -> float:
        """<da, v>."""
        return float((self.gradients[k] * v).sum(dtype=np.float64))

    def worst(self, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry, and what is tolerated between them."""
        found = self.estimate(Ladder(self, k, self.unit(k, index)))
        return Worst(k, index, float(self.gradients[k][index]), found.value, _SAFETY * found.error)

    def agree(self, k: int, claimed: Array, expected: Array) -> bool:
        """Whether they differ by less than could be told."""
        scale = float(np.abs(expected).max(initial=0.0))
        return bool((np.abs(claimed - expected) <= 1e-6 * scale + self.rounding(k)).all())


def check_smooth(findings: Findings, generator: np.random.Generator) -> None:
    """Fill in the findings, with the error in one entry that is always caught."""
    subject = findings.subject
    y, cache = subject.value_and_cache(subject.arrays)
    dy = signed(generator, y.shape).astype(y.dtype)
    gradients = subject.pull_back(subject.arrays, dy, cache)
    again = [subject.value(subject.arrays) for _ in range(3)]
    with np.errstate(invalid="ignore"):
        repeated = max((float((np.abs(dy) * np.abs(each - y)).sum()) for each in again), default=0.0)
    point = Extrapolated(subject, subject.arrays, y, dy, gradients, repeated)
    for k in findings.results:
        findings.results[k] = findings.results[k]._replace(detection_floor=0.0)
    for k in findings.undecided():
        _check_argument(point, k, findings, generator)


def _check_argument(point: Extrapolated, k: int, findings: Findings, generator: np.random.Generator) -> None:
    gradient, result = point.gradients[k], findings.results[k]

    def undecided(note: str, error: float = 0.0, tolerance: float = 0.0) -> None:
        findings.results[k] = result._replace(
            verdict=INCONCLUSIVE, detection_floor=None, note=note, error=error, tolerance=tolerance
        )

    if not np.isfinite(point.y).all():
        undecided("y is not finite at these arrays: take arrays at which it is")
        return
    index = not_finite(gradient)
    if index is not None:
        findings.fail(point, k, index)
        return
    v = signed(generator, gradient.shape)
    ladder = Ladder(point, k, v)
    found = point.estimate(ladder)
    tolerance, error = _SAFETY * found.error, abs(found.value - point.claimed(k, v))
    if not np.isfinite(tolerance):
        undecided("f is finite at no five steps in a row: too close to where it overflows or ends")
        return
    if not np.any(ladder.ahead) and not np.any(ladder.behind) and np.any(gradient) and not _is_constant(point, k):
        undecided(
            f"steps up to {point.step(k, 0):.3g} do not change y at all: give arrays of the scale of its plateaus"
        )
        return
    if not error <= tolerance:
        look = _SecondLook(point, k, v, found)
        again = signed(generator, v.shape)
        if look.agrees(again):
            undecided(
                "the differences contradict each other: along another direction the gradient is right", error, tolerance
            )
            return
        kinked = look.kinked()
        if kinked is None:
            undecided(f"more than {_MOST_KINKS} entries are at kinks: take arrays with fewer", error, tolerance)
            return
        wrong = look.wrong_at(kinked)
        if wrong is not None:
            findings.fail(point, k, wrong)
            return
        v = look.without(kinked)
        note = f"{len(kinked)} of {v.size} entries at kinks, each between its one-sided derivatives"
        result = result._replace(note=note)
        ladder = Ladder(point, k, v)
        found = point.estimate(ladder)
        tolerance, error = _SAFETY * found.error, abs(found.value - point.claimed(k, v))
    # |v| >= 1/2 everywhere, and the right gradient may itself be off by the tolerance.
    largest = float(np.abs(gradient).max())
    floor = 4 * tolerance / largest if largest else 4 * tolerance
    scale = max(largest, abs(found.value) / gradient.size)
    if 4 * tolerance > _COARSEST_USEFUL * scale and scale > 0:
        undecided(_remedy(point, k, found, tolerance), error, tolerance)
        return
    slope = ladder.taylor_slope(point.claimed(k, v), found.noise)
    opinion = () if slope is None else (f"Taylor's remainder falls with slope {slope:.2f}",)
    findings.results[k] = result._replace(
        error=error, tolerance=tolerance, detection_floor=floor, second_opinions=opinion
    )


class _SecondLook(NamedTuple):
    """At a gradient that disagrees along v: kinks, or a wrong entry?"""

    point: Extrapolated
    k: int
    v: Array
    found: Estimate

    def agrees(self, v: Array) -> bool:
        """Whether the gradient is right along another direction."""
        found = self.point.estimate(Ladder(self.point, self.k, v))
        return abs(found.value - self.point.claimed(self.k, v)) <= _SAFETY * found.error

    def kinked(self) -> list[int] | None:
        """The coordinates of v, in flat order, along which one-sided derivatives differ; None if there are too many."""
        kinked: list[int] = []
        groups = [np.flatnonzero(self.v)]
        while groups:
            group = groups.pop()
            if not self._interval(restricted(self.v, group))[2]:
                continue
            if len(group) == 1:
                kinked.append(int(group[0]))
                if len(kinked) > _MOST_KINKS:
                    return None
            else:
                groups += np.array_split(group, 2)
        return kinked

    def wrong_at(self, kinked: list[int]) -> tuple[int, ...] | None:
        """The index of a wrong entry: outside its interval, or, where there is no kink, off."""
        for coordinate in kinked:
            part = restricted(self.v, np.array([coordinate]))
            low, high, _ = self._interval(part)
            if not low <= self.point.claimed(self.k, part) <= high:
                return self._index(coordinate)
        v = self.without(kinked)
        found = self.point.estimate(Ladder(self.point, self.k, v))
        whole = found.value - self.point.claimed(self.k, v)
        if abs(whole) <= _SAFETY * found.error:
            return None
        return descend(v, self._residual, whole)[0]

    def without(self, kinked: list[int]) -> Array:
        """v with these coordinates at rest."""
        return restricted(self.v, np.setdiff1d(np.arange(self.v.size), kinked))

    def _interval(self, v: Array) -> tuple[float, float, bool]:
        """The least and the largest that may be claimed along v, and whether any entry of y has a kink."""
        ahead, behind, error = self.point.one_sided(self.k, v, self.found.level)
        doubt = _SAFETY * float((np.abs(self.point.dy) * error).sum())
        ends = np.sort([(self.point.dy * side).ravel() for side in (ahead, behind)], axis=0).sum(axis=1)
        kinked = bool((np.abs(ahead - behind) > _SAFETY * error).any())
        return float(ends[0]) - doubt, float(ends[1]) + doubt, kinked

    def _residual(self, v: Array) -> float:
        """By two steps only, four forwards: enough to tell which half is wrong."""
        steps = [self.point.step(self.k, each) for each in (self.found.level, self.found.level + 1)]
        changes = [self.point.differences(self.k, v, h) for h in steps]
        rows = [self.point.weigh(one - two) / (2 * h) for (one, two), h in zip(changes, steps, strict=True)]
        return float(_to_zero(np.array(rows), even=True)) - self.point.claimed(self.k, v)

    def _index(self, coordinate: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(coordinate, self.v.shape))


def _is_constant(point: Extrapolated, k: int) -> bool:
    """Whether y is the same at arrays far away."""
    array: Any = point.arrays[k]
    scale = max(1.0, float(np.abs(array).max()))
    far = [np.asarray(-3 * array + shift * scale).astype(array.dtype) for shift in (0.7, -11.3)]
    with np.errstate(all="ignore"):
        values = [point.subject.value(point.subject.with_array(point.arrays, k, each)) for each in far]
    return all(np.array_equal(value, point.y) for value in values)


def _remedy(point: Extrapolated, k: int, found: Estimate, tolerance: float) -> str:
    name = point.subject.names[k]
    note = f"the differences in {name} are known to {tolerance:.2g} only, of {abs(found.value):.2g}"
    if point.repeated:
        return f"{note}: two calls of the forward with the same arrays differ; fix its randomness"
    if found.noise > 100 * point.rounding(k):
        return f"{note}: f is uncertain by {found.noise:.2g}; let the forward compute in float64 throughout"
    return f"{note}: take arrays of moderate size, away from kinks and poles"


def _best(steps: Array, central: Array, rounding: float) -> Estimate:
    """The window whose value may be off by least."""
    windows = range(len(steps) - _WINDOW + 1)
    full = np.array([_to_zero(central[j : j + _WINDOW], even=True) for j in windows])
    less = np.array([_to_zero(central[j : j + _WINDOW - 1], even=True) for j in windows])
    shortest = steps[_WINDOW - 1 :]
    with np.errstate(invalid="ignore"):
        change = np.abs(np.diff(full, append=full[-1:]))
        change[-1] = np.abs(full[-1] - less[-1])
        noise = np.nan_to_num(change * shortest, nan=0.0)
    # The largest from here down.
    noise = np.maximum.accumulate(noise[::-1])[::-1]
    below = np.append(noise[1:], noise[-1])
    errors = np.abs(full - less) + change + 2 * (below + rounding) / shortest
    if not np.isfinite(errors).any():
        return Estimate(np.nan, np.inf, 0, float(noise[0]))
    level = int(np.nanargmin(errors))
    return Estimate(float(full[level]), float(errors[level]), level, float(below[level]))


def _to_zero(rows: Array, *, even: bool) -> Array:
    """Extrapolate values at steps h, h/2, h/4, ... to 0, in all or in even powers of h (Neville)."""
    ratio = 4.0 if even else 2.0
    with np.errstate(invalid="ignore"):
        for order in range(1, len(rows)):
            rows = rows[1:] + (rows[1:] - rows[:-1]) / (ratio**order - 1)
    return np.asarray(rows[0])
