"""Smooth functions of which nothing else is known: central differences, extrapolated, that know their own error.

    D(h) = sum(dy * (f(a + h v) - f(a - h v))) / 2h

over a ladder of halved steps. Each window of five steps is extrapolated to h = 0 in even powers of h
(Richardson 1911; Ridders 1982). What its value may be off by is the sum of

- truncation: the changes to the window's extrapolation through four steps, and to the next window's;
- noise: of two windows that differ, the difference times the step is what f's values are uncertain by.
  The largest over all windows of shorter steps counts, since there noise rules: so rounding in float32
  inside, added noise, and plateaus that a short step does not leave are measured where they are seen;
- rounding: eps sum|dy||f| / h of f, and eps sum|da||a| / h of the arrays moved; of the changes, too,
  k eps sum|dy||f(a + h v) - f(a)| / h with k the entries of y and of the array, which is all there is where
  a and f(a) are 0: there each step halves every rounding with it, and no window shows any.

The window with the least sum is taken, unless shorter steps contradict it, and ten times the sum is tolerated: over
thirty functions whose derivatives are known, `tox -e calibrate` found the true error below the sum in every case.

Taylor's remainder |f(a + h v) - f(a) - h <da, v>| falls with slope 2 in h, if the gradient is right,
and with slope 1 if not: it is printed as a second opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from verify.checker.certificate import Worst
from verify.checker.exact_numbers import Array
from verify.checker.point import Point

WINDOW = 5
# From a quarter of the arrays' scale down; further while shorter steps are better.
_LEVELS, MOST_LEVELS = 14, 39
_FINE = 1e-8
# Two gradients that differ by less, relatively, are taken for one, when a cause is sought.
_TOLD = 1e-6
SAFETY = 10.0
# Relatively: what is known no better could be noise, or the slope of plateaus.
_SURE = 1e-3


class Estimate(NamedTuple):
    """A derivative along a direction, what it may be off by, the level of the window, and the noise of f."""

    value: float
    error: float
    level: int
    noise: float


class Ladder:
    """f along one line, at steps h of either sign; called once for each, and only as far as asked.

    `blind` is the first level, if there is one, at which an entry of y stays as it is on both sides that
    longer steps move up on one side and down on the other: what is felt there only (a plateau, float32
    inside), or a flat place between slopes. A relu that is off is no such entry. Entries with nothing upstream are not
    looked at. `flat` tells more: which entries stay as they are where longer steps moved them in any way.
    """

    def __init__(self, point: Extrapolated, k: int, v: Array) -> None:
        self.point, self.k, self.v = point, k, v
        self.steps: list[float] = []
        self.ahead: list[float] = []
        self.behind: list[float] = []
        self.relative: list[float] = []
        self.blind: int | None = None
        self.flat, self._moved = np.zeros(point.y.shape, bool), np.zeros(point.y.shape, bool)
        # A change that rounding alone may swallow is no plateau.
        self._felt = 64 * float(np.finfo(point.y.dtype).eps) * np.abs(point.y)
        self._slope = np.zeros(point.y.shape)
        self._unit = (point.y.size + v.size) * float(np.finfo(point.y.dtype).eps)

    def extend(self, levels: int) -> None:
        """Go down to so many levels."""
        for level in range(len(self.steps), levels):
            h = self.point.step(self.k, level)
            changes = self.point.differences(self.k, self.v, h)
            ahead, behind = changes
            still = (ahead == 0) & (behind == 0)
            self.flat |= still & self._moved
            self._moved |= np.maximum(np.abs(ahead), np.abs(behind)) > self._felt
            if self.blind is None and (still & (self._slope * h > self._felt) & (self.point.dy != 0)).any():
                self.blind = level
            opposite = np.sign(ahead) * np.sign(behind) < 0
            self._slope = np.where(opposite, np.minimum(np.abs(ahead), np.abs(behind)) / h, self._slope)
            self.steps.append(h)
            self.ahead.append(self.point.weigh(changes[0]))
            self.behind.append(self.point.weigh(changes[1]))
            with np.errstate(over="ignore", invalid="ignore"):
                both = float((np.abs(self.point.dy) * (np.abs(ahead) + np.abs(behind))).sum())
            self.relative.append(self._unit * both / (2 * h))

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
    """Differentiates by extrapolated differences.

    `repeated` is what sum(dy * f) differs by when f is called again; `seen` is an estimate to go by.
    """

    repeated: float = 0.0
    seen: Estimate | None = None

    def step(self, k: int, level: int) -> float:
        """The step of a level of the ladder."""
        array: Any = self.arrays[k]
        return float(2.0 ** (-2 - level) * max(1.0, float(np.abs(array).max())))

    def differences(self, k: int, v: Array, h: float) -> tuple[Array, Array]:
        """f(a + h v) - f(a) and f(a - h v) - f(a)."""
        return self._difference(k, h * v), self._difference(k, -h * v)

    def _difference(self, k: int, step: Array) -> Array:
        with np.errstate(all="ignore"):
            try:
                return self.subject.value(self.subject.moved(self.arrays, k, step)).astype(np.float64) - self.y
            except (ArithmeticError, ValueError):  # beyond the function's domain
                return np.full(self.y.shape, np.nan)

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
            best = self._best(ladder, levels)
            # Five windows below the best measure the noise that it is given; and what looks like noise may
            # be a function too fast for these steps.
            enough = best.level + 2 * WINDOW <= levels and best.error <= _FINE * abs(best.value)
            if enough or levels >= MOST_LEVELS:
                return best
            levels += WINDOW

    def coarse_estimate(self, ladder: Ladder) -> Estimate:
        """The same from the steps that every entry of y feels, and the first that one does not, as noise."""
        return self._best(ladder, len(ladder.steps) if ladder.blind is None else ladder.blind + 1)

    def _best(self, ladder: Ladder, levels: int) -> Estimate:
        steps, central = np.array(ladder.steps[:levels]), ladder.central()[:levels]
        return _best(steps, central, self.rounding(ladder.k), np.array(ladder.relative[:levels]))

    def slopes(self, k: int, v: Array) -> Array:
        """The derivative along v of each entry of y, by the window that suits all of them together."""
        return self._extrapolated(k, v, self.estimate(Ladder(self, k, v)).level)

    def _extrapolated(self, k: int, v: Array, level: int) -> Array:
        rows = []
        for each in range(level, level + WINDOW):
            ahead, behind = self.differences(k, v, self.step(k, each))
            rows.append((ahead - behind) / (2 * self.step(k, each)))
        return np.asarray(to_zero(np.array(rows), even=True))

    def one_sided(self, k: int, v: Array, levels: range, noise: float) -> tuple[Array, Array, Array]:
        """The derivatives of each entry of y ahead and behind, and what they may be off by.

        By the window, of those that begin at these levels, that tells them best. What no step moves changes by less
        than a rounding at the longest.
        """
        steps = [self.step(k, each) for each in range(levels.start, levels.stop + WINDOW)]
        changes = np.array([self.differences(k, v, h) for h in steps])
        slopes = changes / np.reshape(steps, (-1, *[1] * (changes.ndim - 1)))
        still = (changes == 0).all(axis=(0, 1))
        found = []
        for first in range(len(levels)):
            window = slopes[first : first + WINDOW + 1]
            full, less = to_zero(window[1:], even=False), to_zero(window[:-1], even=False)
            # Extrapolation weighs values by up to (1 + 2)/(2 - 1) (1 + 4)/(4 - 1) ... < 8 in all.
            eps = float(np.finfo(self.y.dtype).eps)
            uncertain = (eps * np.abs(self.y) + noise) / steps[first + WINDOW]
            uncertain += eps * np.abs(window).max(axis=(0, 1))  # of changes, where y is 0
            error = np.abs(full - less).sum(axis=0) + 8 * uncertain
            error = np.where(still, eps * np.abs(self.y) / steps[0], error)
            found.append((full[0], -full[1], error))
        return min(found, key=lambda each: float(np.nan_to_num(each[2], nan=np.inf).sum()))

    def residual(self, k: int, v: Array) -> float:
        """What the differences say less what the gradient says."""
        return self.estimate(Ladder(self, k, v)).value - self.claimed(k, v)

    def claimed(self, k: int, v: Array) -> float:
        """<da, v>."""
        return float((self.gradients[k] * v).sum(dtype=np.float64))

    def worst(self, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry, and what is tolerated between them."""
        unit = self.unit(k, index)
        found = self.estimate(Ladder(self, k, unit)) if self.seen is None else self._seen(k, unit, self.seen)
        return Worst(k, index, float(self.gradients[k][index]), found.value, SAFETY * found.error)

    def _seen(self, k: int, v: Array, seen: Estimate) -> Estimate:
        """The derivative along v by the end of the window, and with the noise, that served for another direction."""
        steps = [self.step(k, level) for level in range(seen.level + WINDOW - 3, seen.level + WINDOW)]
        changes = [self.differences(k, v, h) for h in steps]
        rows = np.array(
            [self.weigh(ahead - behind) / (2 * h) for (ahead, behind), h in zip(changes, steps, strict=True)]
        )
        full, less = (float(to_zero(each, even=True)) for each in (rows, rows[:-1]))
        error = abs(full - less) + 2 * (seen.noise + self.rounding(k)) / steps[-1]
        return Estimate(full, error, seen.level, seen.noise)

    def allowed(self, k: int, expected: Array) -> float:
        """A millionth of the largest: less could hardly be told."""
        return _TOLD * float(np.abs(expected).max(initial=0.0)) + self.rounding(k)

    def matches(self, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether they differ by less than a millionth of what they sum."""
        scale = np.abs(self.gradients[k] * v).sum() + np.abs(dy * slopes).sum()
        return abs(float((dy * slopes).sum()) - self.claimed(k, v)) <= _TOLD * float(scale) + self.rounding(k)


def _best(steps: Array, central: Array, rounding: float, relative: Array) -> Estimate:
    """The window whose value may be off by least."""
    if len(steps) < WINDOW:
        return Estimate(np.nan, np.inf, 0, 0.0)
    windows = range(len(steps) - WINDOW + 1)
    full = np.array([to_zero(central[j : j + WINDOW], even=True) for j in windows])
    less = np.array([to_zero(central[j : j + WINDOW - 1], even=True) for j in windows])
    shortest = steps[WINDOW - 1 :]
    with np.errstate(invalid="ignore"):
        change = np.abs(np.diff(full, append=full[-1:]))
        change[-1] = np.abs(full[-1] - less[-1])
        noise = np.nan_to_num(change * shortest, nan=0.0)
    # The largest from here down.
    noise = np.maximum.accumulate(noise[::-1])[::-1]
    below = np.append(noise[1:], noise[-1])
    errors = np.abs(full - less) + change + 2 * (below + rounding) / shortest + relative[WINDOW - 1 :]
    if not np.isfinite(errors).any():
        return Estimate(np.nan, np.inf, 0, float(noise[0]))
    errors = np.where(_contradicted(full, errors), np.inf, errors)
    level = int(np.nanargmin(errors))
    return Estimate(float(full[level]), float(errors[level]), level, float(below[level]))


def _contradicted(full: Array, errors: Array) -> Array:
    """Whether three windows of shorter steps in a row, sure of themselves and of one another, say something else.

    At the long steps that one large entry of the arrays makes, a function may be another.
    """
    found = np.zeros(len(full), bool)
    with np.errstate(invalid="ignore"):
        sure = errors <= _SURE * np.abs(full)
        for first in range(1, len(full) - 2):
            run = slice(first, first + 3)
            alike = np.ptp(full[run]) <= SAFETY * errors[run].sum()
            if sure[run].all() and alike:
                apart = np.abs(full[:first, None] - full[run]) > SAFETY * (errors[:first, None] + errors[run])
                found[:first] |= apart.all(axis=1)
    return found


def to_zero(rows: Array, *, even: bool) -> Array:
    """Extrapolate values at steps h, h/2, h/4, ... to 0, in all or in even powers of h (Neville)."""
    ratio = 4.0 if even else 2.0
    with np.errstate(invalid="ignore"):
        for order in range(1, len(rows)):
            rows = rows[1:] + (rows[1:] - rows[:-1]) / (ratio**order - 1)
    return np.asarray(rows[0])
