"""Where a gradient is compared with its forward: a point, an upstream gradient, and what was found there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np

from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS, ArgumentResult, StructureError, Worst
from verify.checker.exact_numbers import UNKNOWN, Array, Grid, exact_dot
from verify.checker.layer import Arrays, LayerUnderTest

_LESS = 2.0**-12
OVERFLOWS = "the gradient overflows with 8 to 16 upstream, as it should or not: take arrays of moderate size"


@dataclass(frozen=True)
class Point:
    """The arrays, y = f(arrays), the upstream gradient dy, and the gradients that backward claims for it.

    Each oracle has a Point of its own, which differentiates the forward in its own way.
    """

    subject: LayerUnderTest
    arrays: Arrays
    y: Array
    dy: Array
    gradients: dict[int, Array]

    def slopes(self, k: int, v: Array) -> Array:
        """J v, the derivative of y along v in argument k, entry by entry."""
        raise NotImplementedError

    def residual(self, k: int, v: Array) -> Any:
        """What the differences say less what the gradient says: <dy, J v> - <da, v>."""
        raise NotImplementedError

    def worst(self, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry of the gradient of argument k."""
        raise NotImplementedError

    def allowed(self, k: int, expected: Array) -> Array | float:
        """By how much entries of two equal gradients of argument k may differ."""
        raise NotImplementedError

    def matches(self, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether <da, v> is <dy, slopes>, as far as this oracle can tell; both may be those of another function."""
        raise NotImplementedError

    def at(self, arrays: Arrays, dy: Array, subject: LayerUnderTest | None = None) -> Self:
        """The same way to differentiate, at other arrays and upstream gradients; it knows no gradients."""
        subject = subject or self.subject
        return replace(self, subject=subject, arrays=arrays, y=subject.value(arrays), dy=dy, gradients={})

    def scaled(self, factor: float) -> Self:
        """The same with dy times a factor, a power of two unless it shall round, and what backward claims for it."""
        dy = self.dy * self.dy.dtype.type(factor)
        _, cache = self.subject.value_and_cache(self.arrays)
        return replace(self, dy=dy, gradients=self.subject.pull_back(self.arrays, dy, cache))

    def only_overflows(self, k: int) -> bool:
        """Whether the gradient of argument k, which is not finite, is so where less is upstream."""
        return bool(np.isfinite(self.scaled(_LESS).gradients[k]).all())

    def unit(self, k: int, index: tuple[int, ...]) -> Array:
        """The basis vector of one entry of argument k."""
        unit = np.zeros(self.subject.arrays[k].shape, self.subject.arrays[k].dtype)
        unit[index] = 1
        return unit


@dataclass(frozen=True)
class ExactPoint(Point):
    """A point of integers, or dyadic fractions, at which nothing rounds: residuals are fractions.

    The grids that dy, y and the gradients are on, known or likely, save time.
    """

    dy_grid: Grid = UNKNOWN
    y_grid: Grid = UNKNOWN

    def at(self, arrays: Arrays, dy: Array, subject: LayerUnderTest | None = None) -> Self:
        """The same way to differentiate, at other arrays and upstream gradients; no gradients, no grids."""
        return replace(super().at(arrays, dy, subject), dy_grid=UNKNOWN, y_grid=UNKNOWN)

    def scaled(self, factor: float) -> Self:
        """The same with dy times a power of two, and what backward claims for it."""
        shift = max(0, self.dy_grid.shift - round(math.log2(abs(factor))))
        return replace(super().scaled(factor), dy_grid=Grid(shift))

    @property
    def gradient_grid(self) -> Grid:
        """That which gradients are likely on."""
        return Grid(self.dy_grid.shift)

    def residual(self, k: int, v: Array, slopes: Array | None = None, v_grid: Grid = UNKNOWN) -> Fraction:
        """0 if the gradient is right."""
        slopes = self.slopes(k, v) if slopes is None else slopes
        claimed = exact_dot(self.gradients[k], v, self.gradient_grid, v_grid)
        return exact_dot(self.dy, slopes, self.dy_grid, Grid(self.y_grid.shift)) - claimed

    def worst(self, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry; StructureError where the gradient is right but for rounding."""
        slopes = self.slopes(k, self.unit(k, index))
        numeric = exact_dot(self.dy, slopes, self.dy_grid)
        analytic = float(self.gradients[k][index])
        not_but_rounded(self.subject.names[k], index, analytic, numeric, self.dy, slopes)
        return Worst(k, index, analytic, float(numeric), 0.0)

    def allowed(self, k: int, expected: Array) -> float:
        """Nothing."""
        return 0.0

    def matches(self, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether they are equal: exactly, unless floating point, which is faster, tells already that they are not."""
        one, other = self.gradients[k] * v, dy * slopes
        terms = one.size + other.size
        rounding = terms * float(np.finfo(float).eps) * (float(np.abs(one).sum()) + float(np.abs(other).sum()))
        if abs(float(one.sum()) - float(other.sum())) > rounding:
            return False
        return exact_dot(self.gradients[k], v) == exact_dot(dy, slopes)


def not_but_rounded(
    name: str, index: tuple[int, ...], analytic: float, numeric: Fraction, dy: Array, slopes: Array
) -> None:
    """Raise StructureError where an entry had to be rounded, and differs from the exact one by no more than that.

    It had to be where it is no integer, or where the exact one does not fit its dtype. The rounding is
    at most that of a sum of so many products, each rounded (Higham 2002, section 3.1); with 0 nothing rounds.
    """
    fits = np.isfinite(analytic) and Fraction(float(dy.dtype.type(float(numeric)))) == numeric
    products = dy * slopes
    rounding = np.count_nonzero(products) * float(np.finfo(dy.dtype).eps) * float(np.abs(products).sum())
    exact = fits and (analytic.is_integer() or Fraction(analytic) == numeric)
    if not exact and abs(analytic - float(numeric)) <= rounding:
        raise StructureError(
            f"the backward rounds: d{name}[{', '.join(map(str, index))}] is {analytic!r}, "
            f"where {float(numeric)!r} is exact"
        )


class Findings:
    """What an oracle found: a result for each argument of wrt, and the point at which a wrong one showed."""

    def __init__(self, subject: LayerUnderTest) -> None:
        self.subject = subject
        self.points: dict[int, Point] = {}
        self.results = {k: ArgumentResult(k, subject.names[k], subject.arrays[k].shape, PASS) for k in subject.wrt}

    def undecided(self) -> list[int]:
        """The arguments that have entries, and have not failed yet."""
        open_ = (k for k, result in self.results.items() if result.verdict != FAIL)
        return [k for k in open_ if self.subject.arrays[k].size]

    def note(self, k: int, note: str) -> None:
        """Say something about argument k."""
        self.results[k] = self.results[k]._replace(note=note)

    def note_zero(self, k: int, within: float) -> None:
        """The gradient of argument k is 0, as far as roundings tell."""
        name = self.subject.names[k]
        self.note(k, f"0 to within {within:.2g}: y stays as it is wherever {name} is moved")

    def leave_open(self, k: int, note: str, error: float = 0.0, tolerance: float = 0.0) -> None:
        """Argument k is INCONCLUSIVE, unless it fails yet."""
        self.results[k] = self.results[k]._replace(
            verdict=INCONCLUSIVE, detection_floor=None, note=note, error=error, tolerance=tolerance
        )

    def fail(self, point: Point, k: int, index: tuple[int, ...], note: str = "") -> None:
        """Argument k is wrong at this point, at this entry among others."""
        worst = point.worst(k, index)
        error = abs(worst.analytic - worst.numeric)
        self.points[k] = point
        self.results[k] = self.results[k]._replace(
            verdict=FAIL, error=error, tolerance=worst.tolerance, worst=worst, note=note
        )
