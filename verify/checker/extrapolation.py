"""The derivative along a line by central differences, extrapolated, with its error. It knows no layer.

    D(h) = sum(dy * (f(a + h v) - f(a - h v))) / 2h

over a ladder of halved steps. Each window of five steps is extrapolated to h = 0 in even powers of h
(Richardson 1911; Ridders 1982). What its value may be off by is the sum of

- truncation: the changes to the window's extrapolation through four steps, and to the next window's;
- noise: where two windows differ, the difference times the step is the uncertainty of f's values. The largest over
  all windows of shorter steps counts, since noise, float32 inside f, and plateaus rule there;
- rounding: eps sum|dy||f| / h of f, and eps sum|da||a| / h of the arrays that are moved;
- rounding of the changes: n eps sum|dy||f(a + h v) - f(a)| / h with n the entries of y and of the array. Where a and
  f(a) are 0 this is all there is: each step halves every rounding with it, and no window shows any.

Of a function that is affine up to rounding the longest step is known best. Otherwise the window with the least sum is
taken, unless shorter steps contradict it, and ten times the sum is tolerated. Over thirty known functions
`tox -e calibrate` found the true error below the sum in every case.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from verify.checker.line import Line
from verify.checker.point import Array

# Five steps cancel the even powers up to h^8. SAFETY is calibrated with it.
WINDOW = 5
# Of float32 rounding outweighs truncation: fewer steps, of which the shortest is longer, may be known better.
_SHORTER_WINDOWS = (3, 4)
# Down from a quarter of the arrays' scale; further while shorter steps are better.
_LEVELS, MOST_LEVELS = 14, 39
# Half of the digits: shorter steps are not worth their forwards.
_FINE = 1e-8
# Calibrated: of 30,000 derivatives over thirty known functions none was off by more than the estimated error.
SAFETY = 10.0
# Relative: what is known no better could be noise, or the slope of plateaus.
SURE = 1e-3
# A change of up to 64 roundings of y may be rounding alone, and shows no plateau.
_ROUNDINGS = 64


class Estimate(NamedTuple):
    """A derivative along a direction, what it may be off by, the level of the window, and the noise of f."""

    value: float
    error: float
    level: int
    noise: float


class Ladder:
    """f along one line, at steps h of either sign; called once for each, and only as far as asked.

    `insensitive` is the first level at which an entry of y stays as it is on both sides. Longer steps moved it up on
    one side and down on the other. Such a plateau, or float32 inside, shows at longer steps only. A relu that
    is off is no such entry, nor is one with nothing upstream. `flat` marks every entry that stays as it is although
    longer steps moved it in any way.
    """

    def __init__(self, line: Line) -> None:
        point = line.point
        self.line, self.point = line, point
        self.steps: list[float] = []
        self.ahead: list[float] = []
        self.behind: list[float] = []
        self.relative: list[float] = []
        self.insensitive: int | None = None
        self.flat, self._moved = np.zeros(point.y.shape, bool), np.zeros(point.y.shape, bool)
        eps = float(np.finfo(point.y.dtype).eps)
        self._least = _ROUNDINGS * eps * np.abs(point.y)
        self._visible = float(self._least.max(initial=0.0))  # an entry near 0 may move by what larger numbers round
        self._slope, self._unit = np.zeros(point.y.shape), (point.y.size + line.v.size) * eps

    def extend(self, levels: int) -> None:
        """Go down to this number of levels."""
        for level in range(len(self.steps), levels):
            h = self.line.step(level)
            ahead, behind = self.line.changes(h)
            still = (ahead == 0) & (behind == 0)
            self.flat |= still & self._moved
            self._moved |= np.maximum(np.abs(ahead), np.abs(behind)) > self._least
            if self.insensitive is None and (still & (self._slope * h > self._visible) & (self.point.dy != 0)).any():
                self.insensitive = level
            opposite = np.sign(ahead) * np.sign(behind) < 0
            self._slope = np.where(opposite, np.minimum(np.abs(ahead), np.abs(behind)) / h, self._slope)
            self.steps.append(h)
            self.ahead.append(self.line.weigh(ahead))
            self.behind.append(self.line.weigh(behind))
            with np.errstate(over="ignore", invalid="ignore"):
                both = float((np.abs(self.point.dy) * (np.abs(ahead) + np.abs(behind))).sum())
            self.relative.append(self._unit * both / (2 * h))

    def estimate(self) -> Estimate:
        """The derivative along the line; the ladder is extended while shorter steps are better."""
        levels = _LEVELS
        while True:
            self.extend(levels)
            best = self._best(levels)
            # Five windows below the best measure its noise. What looks like noise may be a function too fast for
            # these steps.
            enough = best.level + 2 * WINDOW <= levels and best.error <= _FINE * abs(best.value)
            if enough or levels >= MOST_LEVELS:
                return best
            levels += WINDOW

    def coarse_estimate(self) -> Estimate:
        """The derivative by the steps that move every entry of y, and the first that does not, as noise."""
        return self._best(len(self.steps) if self.insensitive is None else self.insensitive + 1)

    def says_what_is_claimed(self, found: Estimate, sure: float = np.inf) -> Array:
        """Of each window: whether it says what is claimed, and not, by ten times both errors, what was found."""
        full, errors, _ = windows(*self._central(len(self.steps)), self.line.rounding())
        claimed = self.line.claimed()
        with np.errstate(invalid="ignore"):
            near = (np.abs(full - claimed) <= SAFETY * errors) & (errors <= sure * np.abs(full))
            apart = np.abs(full - found.value) > SAFETY * (errors + found.error)
        return np.asarray(near & apart)

    def _central(self, levels: int) -> tuple[Array, Array, Array]:
        steps, relative = np.array(self.steps[:levels]), np.array(self.relative[:levels])
        with np.errstate(over="ignore"):
            central = (np.array(self.ahead[:levels]) - np.array(self.behind[:levels])) / (2 * steps)
        return steps, central, relative

    def _best(self, levels: int) -> Estimate:
        steps, central, relative = self._central(levels)
        lengths = (WINDOW,) if self.point.y.dtype == np.float64 else (*_SHORTER_WINDOWS, WINDOW)
        found = [best_window(steps, central, self.line.rounding(), relative, length) for length in lengths]
        return min(found, key=lambda each: each.error)


def slopes_at(line: Line, level: int) -> Array:
    """The derivative of each entry of y, by the window that begins at this level."""
    rows = []
    for each in range(level, level + WINDOW):
        ahead, behind = line.changes(line.step(each))
        rows.append((ahead - behind) / (2 * line.step(each)))
    return to_zero(np.array(rows), even=True)


def short_estimate(line: Line, known: Estimate) -> Estimate:
    """The derivative by the end of a window, and with the noise, that served along another direction: six forwards."""
    steps = [line.step(level) for level in range(known.level + WINDOW - 3, known.level + WINDOW)]
    rows = np.array([line.central(h) for h in steps])
    full, less = (float(to_zero(each, even=True)) for each in (rows, rows[:-1]))
    error = abs(full - less) + 2 * (known.noise + line.rounding()) / steps[-1]
    return Estimate(full, error, known.level, known.noise)


def one_sided(line: Line, levels: range, noise: float) -> tuple[Array, Array, Array]:
    """The derivatives of each entry of y ahead and behind, and what they may be off by.

    By the window, of those that begin at these levels, whose error is least. An entry that no step moves changes by
    less than a rounding at the longest.
    """
    y = line.point.y
    steps = [line.step(level) for level in range(levels.start, levels.stop + WINDOW)]
    changes = np.array([line.changes(h) for h in steps])
    slopes = changes / np.reshape(steps, (-1, *[1] * (changes.ndim - 1)))
    still = (changes == 0).all(axis=(0, 1))
    eps = float(np.finfo(y.dtype).eps)
    found = []
    for first in range(len(levels)):
        window = slopes[first : first + WINDOW + 1]
        full, less = to_zero(window[1:], even=False), to_zero(window[:-1], even=False)
        uncertain = (eps * np.abs(y) + noise) / steps[first + WINDOW]
        uncertain += eps * np.abs(window).max(axis=(0, 1))  # of changes, where y is 0
        # Extrapolation weighs values by up to (1 + 2)/(2 - 1) (1 + 4)/(4 - 1) ... < 8 in all.
        error = np.abs(full - less).sum(axis=0) + 8 * uncertain
        error = np.where(still, eps * np.abs(y) / steps[0], error)
        found.append((full[0], -full[1], error))
    return min(found, key=lambda each: float(np.nan_to_num(each[2], nan=np.inf).sum()))


def best_window(steps: Array, central: Array, rounding: float, relative: Array, length: int = WINDOW) -> Estimate:
    """Of all windows of `length` steps, the one whose value may be off by least."""
    if len(steps) < WINDOW:
        return Estimate(np.nan, np.inf, 0, 0.0)
    full, errors, noise = windows(steps, central, relative, rounding, length)
    if not np.isfinite(errors).any():
        return Estimate(np.nan, np.inf, 0, float(noise.max()))
    errors = np.where(_contradicted(full, errors), np.inf, errors)
    long = _without_truncation(steps, central, rounding, relative)
    if long is not None and long.error < np.nanmin(errors):
        return long
    level = int(np.nanargmin(errors))
    return Estimate(float(full[level]), float(errors[level]), level, float(noise[level]))


def windows(
    steps: Array, central: Array, relative: Array, rounding: float, length: int = WINDOW
) -> tuple[Array, Array, Array]:
    """The value of each window, what it may be off by, and the noise of f that shorter steps show."""
    starts = range(len(steps) - length + 1)
    full = np.array([to_zero(central[j : j + length], even=True) for j in starts])
    less = np.array([to_zero(central[j : j + length - 1], even=True) for j in starts])
    shortest = steps[length - 1 :]
    with np.errstate(invalid="ignore"):
        change = np.abs(np.diff(full, append=full[-1:]))
        change[-1] = np.abs(full[-1] - less[-1])
        noise = np.nan_to_num(change * shortest, nan=0.0)
    # The largest from here down.
    noise = np.maximum.accumulate(noise[::-1])[::-1]
    below = np.append(noise[1:], noise[-1])
    errors = np.abs(full - less) + change + 2 * (below + rounding) / shortest + relative[length - 1 :]
    return full, errors, below


def _without_truncation(steps: Array, central: Array, rounding: float, relative: Array) -> Estimate | None:
    """The difference over the longest step, if the first window of steps shows rounding alone.

    Then f is affine there, up to rounding, and the longest step rounds least. Truncation falls to a quarter with each
    step: four thirds of the first change is what the longest has.
    """
    first = slice(0, WINDOW)
    allowed = 2 * rounding / steps[first] + relative[first]
    with np.errstate(invalid="ignore"):
        if not (np.abs(central[first] - central[0]) <= allowed + allowed[0]).all():
            return None
    error = 4 / 3 * abs(central[1] - central[0]) + allowed[0]
    return Estimate(float(central[0]), float(error), 0, rounding)


def _contradicted(full: Array, errors: Array) -> Array:
    """Whether three windows of shorter steps in a row, sure of themselves and of one another, say something else.

    One large entry of the arrays makes long steps, at which a function may behave in another way.
    """
    found = np.zeros(len(full), bool)
    with np.errstate(invalid="ignore"):
        sure = errors <= SURE * np.abs(full)
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
