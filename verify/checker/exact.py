"""The exact oracles: no step and no tolerance, on integers.

With integer arrays a, an integer direction v and an integer upstream
gradient dy, as long as nothing exceeds the mantissa, a function that is affine in a satisfies

    sum(dy * (f(a + v) - f(a))) == sum(da * v)        exactly.

A backward that errs by a polynomial of degree d in what is drawn survives one draw from a set S
with probability at most d / |S| (Schwartz 1980, Zippel 1979; for matrix products Freivalds 1977);
trials are repeated until (d / |S|)^trials is small enough. d counts v, dy and the arrays, once each.
Errors tied to particular values (`if x == 0.123`) are outside this bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np

from verify.checker.certificate import StructureError
from verify.checker.exact_numbers import (
    UNKNOWN,
    Array,
    Grid,
    draw_integers,
    exact_dot,
    grid_of,
    mantissa_bits,
)
from verify.checker.layer import Arrays, LayerUnderTest
from verify.checker.locate import locate, not_finite
from verify.checker.point import ExactPoint, Findings

# 20 bits for one factor and 20 for the other leave 12 of float64's 52 for sums of 4,096 products;
# longer sums get fewer. Two trials then miss with probability below 1e-9.
MOST_BITS = 20
# More than the 24 that a float32 holds.
WIDE_BITS = 30
# Of so many entries of all arrays together a maximum may keep its winner along every direction tried.
FEW = 4096
# Of fractions, so many bits must be left over: a rounded number that looks short by chance, as one in
# two does that may fill the mantissa, then passes for exact one time in 2^7.
GUARD_BITS = 6


@dataclass(frozen=True)
class Differences(ExactPoint):
    """Differentiates by one exact difference, as long as `step`.

    Where y would take too much memory, `total` is sum(dy * y), and y is of NaN.
    """

    step: float = 1.0
    total: Fraction | None = None

    @classmethod
    def draw(
        cls,
        subject: LayerUnderTest,
        arrays: Arrays,
        dy_bits: int,
        generator: np.random.Generator,
        step: float = 1.0,
        *,
        below: int | None = None,
        wide: bool = False,
    ) -> Self:
        """Run forward and backward at these arrays, of entries of `dy_bits`, with integers of them upstream.

        `below` makes fractions of them, up to 2^-below, so that a threshold shows. `wide` asks for as many bits
        as there is room for, up to 30: more than a float32 holds, so that one on the way back shows.
        """
        y, cache = subject.value_and_cache(arrays)
        # That of y, if every array is of integers times the step: a product takes one of each.
        y_grid = exactly(y, -round(math.log2(step)) * len(subject.wrt))
        if wide:
            others = dy_bits * (len(subject.wrt) - 1)
            room = min(mantissa_bits(y.dtype), mantissa_bits(subject.dtype)) - GUARD_BITS - y.size.bit_length() - others
            dy_bits = max(dy_bits, min(WIDE_BITS, room))
        dy_grid = Grid(0 if below is None else dy_bits + below, dy_bits)
        dy = draw_integers(generator, y.shape, dy_bits, y.dtype, 2.0**-dy_grid.shift)
        gradients = subject.pull_back(arrays, dy, cache)
        return cls(subject, arrays, y, dy, gradients, dy_grid=dy_grid, y_grid=y_grid, step=step)

    def without_y(self) -> Self:
        """The same, in less memory."""
        nothing = np.broadcast_to(self.y.dtype.type(np.nan), self.y.shape)
        return replace(self, y=nothing, total=exact_dot(self.dy, self.y, self.dy_grid, self.y_grid))

    def with_y(self) -> Self:
        """The same, with y again."""
        return self if self.total is None else replace(self, y=self.subject.value(self.arrays), total=None)

    def residual(self, k: int, v: Array, slopes: Array | None = None, v_grid: Grid = UNKNOWN) -> Fraction:
        """0 if the gradient is right. Without y, v is where a + v is put together, and again as it was in the end."""
        if slopes is not None:
            return super().residual(k, v, slopes, v_grid)
        claimed = exact_dot(self.gradients[k], v, self.gradient_grid, v_grid)
        if self.total is None:
            change, grid = self.change(k, v if self.step == 1 else self.step * v)
            told = exact_dot(self.dy, change, self.dy_grid, grid)
            return (told if self.step == 1 else told / Fraction(self.step)) - claimed
        array: Any = self.arrays[k]
        step = v.dtype.type(self.step)
        v *= step
        v += array
        y, _ = self.subject.borrowed(self.subject.with_array(self.arrays, k, v))
        total = exact_dot(self.dy, y, self.dy_grid, exactly(y, self.y_grid.shift))
        v -= array
        v /= step
        return (total - self.total) / Fraction(self.step) - claimed

    def change(self, k: int, v: Array) -> tuple[Array, Grid]:
        """f(a + v) - f(a), exactly, and its grid; v touches argument k alone."""
        change = self.subject.value(self.subject.moved(self.arrays, k, v))
        grid = exactly(change, self.y_grid.shift)
        change -= self.y if self.total is None else self.subject.value(self.arrays)
        if self.y_grid.bits is None or grid.shift != self.y_grid.shift:
            return change, Grid(grid.shift)
        return change, Grid(grid.shift, max(grid.bits or 0, self.y_grid.bits) + 1)

    @property
    def gradient_grid(self) -> Grid:
        """That which gradients are likely on: in a product dy stands in the place of an array."""
        return Grid(self.dy_grid.shift - round(math.log2(self.step)) * (len(self.subject.wrt) - 1))

    def slopes(self, k: int, v: Array) -> Array:
        """(f(a + step v) - f(a)) / step, exactly: step is a power of two."""
        if self.step == 1:
            return self.change(k, v)[0]
        change, _ = self.change(k, self.step * v)
        change /= self.y.dtype.type(self.step)
        return change

    def check_affine(self, k: int, v: Array, slopes: Array) -> None:
        """Raise StructureError unless what is ahead along v is what is behind."""
        gap = np.abs(slopes + self.slopes(k, -v))
        if gap.any():
            raise StructureError(
                f"not affine in {self.subject.names[k]}: on exact integers f(a + v) - f(a) and f(a) - f(a - v) "
                f"differ by up to {gap.max():.6g}"
            )


def draws_to_confirm(subject: LayerUnderTest, k: int) -> int:
    """At so many points, along one direction each: at one an entry of a floor may seem affine every other time."""
    return max(2, 16 // int(subject.arrays[k].size))


def check_affine_at(
    subject: LayerUnderTest,
    k: int,
    arrays: Arrays,
    bits: int,
    unit: float,
    generator: np.random.Generator,
    *,
    across: bool = False,
) -> None:
    """Raise StructureError unless f is affine in argument k along a direction of integers times the unit."""
    v = draw_integers(generator, subject.arrays[k].shape, bits, subject.arrays[k].dtype)
    point = Differences(subject, arrays, subject.value(arrays), v, {}, step=unit)
    if across:
        v = _across_zero(point, k, v)
    point.check_affine(k, v, point.slopes(k, v))


def placed(subject: LayerUnderTest, drawn: Sequence[Array], unit: float) -> Arrays:
    """The subject's arrays, those of wrt replaced by what was drawn, times the unit."""
    arrays: Arrays = subject.arrays
    for k, array in zip(subject.wrt, drawn, strict=True):
        arrays = subject.with_array(arrays, k, np.asarray(unit * array).astype(subject.arrays[k].dtype))
    return arrays


def plan(degree: int, size: int, miss_probability: float, dtype: np.dtype[Any]) -> tuple[float, int]:
    """The probability that one trial misses, d / |S|, and how many trials the one asked for takes."""
    rate = degree / size
    if rate >= 0.5:
        raise StructureError(f"only {size} integers fit {dtype} at these sizes: too few for a meaningful draw")
    return rate, max(1, math.ceil(math.log(miss_probability) / math.log(rate)))


def compare(
    point: Differences,
    v_bits: int,
    generator: np.random.Generator,
    findings: Findings,
    *,
    affine: bool,
    across: bool = False,
    confirm: Callable[[int], None] | None = None,
) -> None:
    """One trial: every argument that has not failed before, along one direction each.

    `affine` asks for a test that the function is so; it is made in any case before anything is called wrong.
    A function of many entries that is not affine cannot satisfy the identity along a random direction;
    one of a few may, as a relu of positive numbers does, unless the direction leads `across` zero.
    """
    undecided = findings.undecided()
    for k in (k for k in point.subject.wrt if point.gradients[k].size):
        gradient = point.gradients[k]
        if k not in undecided and not affine:
            continue
        v = draw_integers(generator, gradient.shape, v_bits, gradient.dtype)
        if across:
            v = _across_zero(point, k, v)
        slopes = point.slopes(k, v) if affine else None
        index = not_finite(gradient)
        wrong = index is None and point.residual(k, v, slopes, Grid(0, v_bits + across)) != 0
        if affine or wrong:  # of what has failed at its kinks, too: is it the function it was taken for?
            point.check_affine(k, v, point.slopes(k, v) if slopes is None else slopes)
        if wrong and confirm is not None:
            confirm(k)
        if wrong and gradient.size <= FEW:  # of few entries, one direction may be rounded alike on both sides
            for _ in range(max(4, 16 // gradient.size)):
                other = draw_integers(generator, gradient.shape, v_bits, gradient.dtype)
                point.check_affine(k, other, point.slopes(k, other))
        if k not in undecided:
            continue
        if wrong:
            index = locate(gradient.shape, lambda d, k=k: point.residual(k, d), generator, first=v)  # type: ignore[misc]
        if index is not None:
            findings.fail(point.with_y(), k, index)


def _across_zero(point: Differences, k: int, v: Array) -> Array:
    """A direction that leads every entry of argument k past 0, to minus its sign times |v|."""
    array: Any = point.arrays[k]
    return np.asarray(-np.copysign(v, array) - array / array.dtype.type(point.step))


def exactly(y: Array, likely: int = 0) -> Grid:
    """The grid of y. StructureError unless its entries are integers, or short dyadic fractions, in range.

    `likely` is a shift that likely makes integers of them; it saves a search for the least.
    """
    grid = grid_of(y, likely)
    if grid is not None and likely and not _in_range(grid, y):
        grid = grid_of(y)
    if grid is None or not _in_range(grid, y):
        largest = np.abs(y).max(initial=0.0)
        if largest < 2.0 ** mantissa_bits(y.dtype):
            entry = y[y != np.rint(y)][0].item()
            raise StructureError(
                f"y is not of integers and short fractions, where its arrays are: {entry!r} is an entry"
            )
        raise StructureError(f"y leaves the integers that {y.dtype} holds exactly (largest entry {largest:.6g})")
    return grid


def _in_range(grid: Grid, y: Array) -> bool:
    return (grid.bits or 0) + (GUARD_BITS if grid.shift else 0) <= mantissa_bits(y.dtype)
