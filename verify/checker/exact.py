"""What exact references share: they tolerate nothing.

Let a backward be wrong by a polynomial of degree d in the drawn numbers. It survives one draw from a set S with
probability at most d / |S| (Schwartz 1980, Zippel 1979; for matrix products Freivalds 1977).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from verify.checker.exact_numbers import (
    GUARD_BITS,
    WIDE_BITS,
    dyadic_shift,
    exact_dot,
    integer_bits,
    mantissa_bits,
)
from verify.checker.point import Array, Arrays, Point, StructureError, Worst
from verify.checker.reference import Interval, Reference, Way

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest


# A float64 is a multiple of 2^-1074.
_FINEST = 1074


class ExactReference(Reference):
    """A reference whose arithmetic is exact: it tolerates nothing."""

    exact = True

    def claim(self, point: Point, k: int, v: Array) -> Fraction:
        """<da, v>, without rounding."""
        return exact_dot(point.claimed[k], v)

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """One number."""
        slope = exact_dot(point.dy, self.slopes(point, k, v))
        return Interval(slope, slope)

    def offset(self, point: Point, k: int, v: Array) -> Fraction:
        """0 if the gradient is right."""
        return exact_dot(point.dy, self.slopes(point, k, v)) - self.claim(point, k, v)

    def allowed(self, point: Point, k: int, expected: Array) -> float:
        """Nothing."""
        return 0.0

    def matches(self, point: Point, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether both are equal; floating point, which is faster, settles most cases that are not."""
        one, other = point.claimed[k] * v, dy * slopes
        terms = one.size + other.size
        rounding = terms * float(np.finfo(float).eps) * (float(np.abs(one).sum()) + float(np.abs(other).sum()))
        if abs(float(one.sum()) - float(other.sum())) > rounding:
            return False
        return exact_dot(point.claimed[k], v) == exact_dot(dy, slopes)


BY_ONE = Way(
    "{as_array}(a + step) if i == {k} else a", "forward(*moved, **options)[0] - y", drawn="rng.integers(-4, 5, {shape})"
)
AHEAD = Way("{as_array}(a + step * {h}) if i == {k} else a", "(forward(*moved, **options)[0] - y) / {h}")
BEHIND = Way("{as_array}(a - step * {h}) if i == {k} else a", "(y - forward(*moved, **options)[0]) / {h}")


class ExactDifference(ExactReference):
    """Differentiates by one exact difference, where f is affine: f(a + v) - f(a), for integers or dyadic fractions."""

    def slopes(self, point: Point, k: int, v: Array) -> Array:
        """(f(a + step v) - f(a)) / step, exactly."""
        change = point.layer.value(point.layer.moved(point.arrays, k, point.step * v))
        check_exact(change)
        change -= point.y
        if point.step != 1:
            change /= change.dtype.type(point.step)
        return change

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """One number. Raises StructureError where f is not affine along v."""
        slope = difference(point, k, v) / Fraction(point.step)
        return Interval(slope, slope)

    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """A difference of one, at small integers; or one as long as the step, at the very arrays."""
        yield BY_ONE
        yield AHEAD._replace(h=point.step)


def difference(point: Point, k: int, v: Array) -> Fraction:
    """<dy, f(a + step v) - f(a)>; StructureError where it is not <dy, f(a) - f(a - step v)>.

    dy is random: if an entry of f is not affine along v, both are equal with probability 1 / |S| at most.
    """
    there = exact_dot(point.dy, point.y)
    ahead, behind = (_weighed(point, k, v, step) - there for step in (point.step, -point.step))
    if ahead != -behind:
        raise StructureError(
            f"not affine in {point.layer.names[k]}: on exact numbers <dy, f(a + v) - f(a)> is {float(ahead):.6g}, "
            f"and <dy, f(a) - f(a - v)> is {float(-behind):.6g}"
        )
    return ahead


def check_sum(point: Point, k: int, rays: Iterable[Array]) -> None:
    """Raise StructureError unless <dy, f> changes by 0 in all along rays whose sum is 0: f is then not affine."""
    there = exact_dot(point.dy, point.y)
    total = sum(_weighed(point, k, ray, point.step) - there for ray in rays)
    if total:
        name, off = point.layer.names[k], float(total)
        raise StructureError(f"not affine in {name}: <dy, f> changes by {off:.6g} along directions whose sum is 0")


def _weighed(point: Point, k: int, v: Array, step: float) -> Fraction:
    """<dy, f(a + step v)>. y is not copied, and no cache kept: a large check then takes less memory."""
    y = point.layer.borrowed(point.layer.moved(point.arrays, k, v if step == 1 else step * v))[0]
    check_exact(y)
    return exact_dot(point.dy, y)


def check_exact(y: Array) -> None:
    """Raise StructureError unless y is of integers, or of short dyadic fractions, that its dtype holds exactly."""
    limit = 2.0 ** mantissa_bits(y.dtype)
    largest = max(y.max(initial=0.0), -y.min(initial=0.0))  # NaN if there is one
    if not largest < limit:
        raise StructureError(f"y leaves the integers that {y.dtype} holds exactly (largest entry {largest:.6g})")
    shift = dyadic_shift(y, _FINEST)
    if shift and integer_bits(y, shift) + GUARD_BITS > mantissa_bits(y.dtype):
        entry = y[y != np.rint(y)][0].item()
        raise StructureError(f"y is not of integers and short fractions, where its arrays are: {entry!r} is an entry")


def placed(layer: LayerUnderTest, drawn: Sequence[Array], unit: float) -> Arrays:
    """The layer's arrays, those of wrt replaced by what was drawn, times a unit."""
    arrays = list(layer.arrays)
    for k, array in zip(layer.wrt, drawn, strict=True):
        arrays[k] = np.asarray(unit * array).astype(arrays[k].dtype)
    return tuple(arrays)


def upstream_bits(layer: LayerUnderTest, y: Array, other_bits: int) -> int:
    """How many bits dy may have: its gradients sum products with `other_bits` over at most all entries of y."""
    room = min(mantissa_bits(y.dtype), mantissa_bits(layer.dtype)) - GUARD_BITS - y.size.bit_length() - other_bits
    return min(WIDE_BITS, room)


def plan(degree: int, bits: int, miss_probability: float) -> tuple[float, int]:
    """The probability d / |S| that one trial misses, and how many trials the one asked for takes.

    S are the 2^(bits + 1) integers of that size. A backward that is wrong by a polynomial of degree d in the drawn
    numbers survives one draw with at most that probability (Schwartz 1980, Zippel 1979; Freivalds 1977).
    """
    rate = degree / (2 << bits)
    if rate >= 0.5:
        raise StructureError(f"only {2 << bits} integers are exact at these sizes: too few for a meaningful draw")
    return rate, max(1, math.ceil(math.log(miss_probability) / math.log(rate)))
