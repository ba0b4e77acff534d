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

from verify.gradcheck.certificate import StructureError
from verify.gradcheck.exact_numbers import (
    CHUNK,
    Array,
    draw_integers,
    dyadic_shift,
    exact_dot,
    mantissa_bits,
)
from verify.gradcheck.locate import locate, not_finite
from verify.gradcheck.point import ExactPoint, Findings
from verify.gradcheck.subject import Arrays, Subject

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
        subject: Subject,
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
        exactly(y, -round(math.log2(step)) * len(subject.wrt))
        if wide:
            others = dy_bits * (len(subject.wrt) - 1)
            room = min(mantissa_bits(y.dtype), mantissa_bits(subject.dtype)) - GUARD_BITS - y.size.bit_length() - others
            dy_bits = max(dy_bits, min(WIDE_BITS, room))
        dy_shift = 0 if below is None else dy_bits + below
        dy = draw_integers(generator, y.shape, dy_bits, y.dtype, 2.0**-dy_shift)
        return cls(subject, arrays, y, dy, subject.pull_back(arrays, dy, cache), dy_shift=dy_shift, step=step)

    def without_y(self) -> Self:
        """The same, in less memory."""
        nothing = np.broadcast_to(self.y.dtype.type(np.nan), self.y.shape)
        return replace(self, y=nothing, total=self.upstream(self.y))

    def with_y(self) -> Self:
        """The same, with y again."""
        return self if self.total is None else replace(self, y=self.subject.value(self.arrays), total=None)

    def residual(self, k: int, v: Array, slopes: Array | None = None) -> Fraction:
        """0 if the gradient is right. Without y, v is where a + v is put together, and again as it was in the end."""
        if self.total is None or slopes is not None:
            return super().residual(k, v, slopes)
        array: Any = self.arrays[k]
        claimed, step = exact_dot(self.gradients[k], v, self.gradient_shift), v.dtype.type(self.step)
        v *= step
        v += array
        total = self.upstream(
            exactly(self.subject.borrowed(self.subject.with_array(self.arrays, k, v))[0], self.y_shift)
        )
        v -= array
        v /= step
        return (total - self.total) / Fraction(self.step) - claimed

    def change(self, k: int, v: Array) -> Array:
        """f(a + v) - f(a), exactly; v touches argument k alone."""
        change = exactly(self.subject.value(self.subject.moved(self.arrays, k, v)), self.y_shift)
        change -= self.y if self.total is None else self.subject.value(self.arrays)
        return change

    @property
    def y_shift(self) -> int:
        """That of y, if every array is of integers times the step: a product takes one of each."""
        return -round(math.log2(self.step)) * len(self.subject.wrt)

    @property
    def gradient_shift(self) -> int:
        """That of gradients: in a product dy stands in the place of an array."""
        return self.dy_shift - round(math.log2(self.step)) * (len(self.subject.wrt) - 1)

    def slopes(self, k: int, v: Array) -> Array:
        """(f(a + step v) - f(a)) / step, exactly: step is a power of two."""
        if self.step == 1:
            return self.change(k, v)
        change = self.change(k, self.step * v)
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


def draws_to_confirm(subject: Subject, k: int) -> int:
    """At so many points, along one direction each: at one an entry of a floor may seem affine every other time."""
    return max(2, 16 // int(subject.arrays[k].size))


def check_affine_at(
    subject: Subject, k: int, arrays: Arrays, bits: int, unit: float, generator: np.random.Generator
) -> None:
    """Raise StructureError unless f is affine in argument k along a direction of integers times the unit."""
    v = draw_integers(generator, subject.arrays[k].shape, bits, subject.arrays[k].dtype)
    point = Differences(subject, arrays, subject.value(arrays), v, {}, step=unit)
    point.check_affine(k, v, point.slopes(k, v))


def placed(subject: Subject, drawn: Sequence[Array], unit: float) -> Arrays:
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
    confirm: Callable[[int], None] | None = None,
) -> None:
    """One trial: every argument that has not failed before, along one direction each.

    `affine` asks for a test that the function is so; it is made in any case before anything is called wrong.
    A function of many entries that is not affine cannot satisfy the identity along a random direction;
    one of a few may, as a relu of positive numbers does.
    """
    undecided = findings.undecided()
    for k in (k for k in point.subject.wrt if point.gradients[k].size and k not in findings.settled):
        gradient = point.gradients[k]
        if k not in undecided and not affine:
            continue
        v = draw_integers(generator, gradient.shape, v_bits, gradient.dtype)
        slopes = point.slopes(k, v) if affine else None
        index = not_finite(gradient)
        wrong = index is None and point.residual(k, v, slopes) != 0
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


def exactly(y: Array, likely: int = 0) -> Array:
    """The array y itself. StructureError unless its entries are integers, or short dyadic fractions, in range.

    `likely` is a shift that likely makes integers of them; it saves a search for the least.
    """
    largest = max(float(y.max(initial=0.0)), -float(y.min(initial=0.0)))
    limit = 2.0 ** mantissa_bits(y.dtype)
    if largest * 2.0 ** (likely + GUARD_BITS if likely else 0) <= limit:
        flat, scale = y.reshape(-1), y.dtype.type(2.0**likely)
        chunks = (flat[start : start + CHUNK] * scale for start in range(0, flat.size, CHUNK))
        if all((np.rint(chunk) == chunk).all() for chunk in chunks):
            return y
    try:
        shift = dyadic_shift(y)
        fits = largest * 2.0**shift <= (limit / 2.0**GUARD_BITS if shift else limit)
    except ValueError:
        fits = False
    if not fits:
        raise StructureError(f"y leaves the integers that {y.dtype} holds exactly (largest entry {largest:.6g})")
    return y
