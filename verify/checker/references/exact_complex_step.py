"""Chains of multilinear and piecewise-linear layers at the arrays given: the complex step, exactly.

A network of convolutions, poolings, relus and linear layers is affine in each of its arrays alone, until a branch
switches. Its forward takes complex arrays and branches on their real parts. With i v added to one array the branches
stay what they are, and no product is ever of two imaginary parts. So Im f(a + iv) is the derivative along v of the
branches taken: of whole numbers, or short dyadic fractions, without any rounding. Ties and zeros included,

    sum(dy * Im f(a + iv)) == sum(da * v)        exactly.

A gradient that is wrong in any entry at these arrays survives one draw of v and dy with probability at most 2 / |S|,
since the two enter linearly.

What is exact is derived. No intermediate exceeds what the forward gives on absolute values, and none is finer than the
product of the finest fractions of all arrays. Both together must fit the mantissa.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from verify.checker.complex_consistency import check_consistent
from verify.checker.exact import ExactReference, check_exact, plan
from verify.checker.exact_numbers import GUARD_BITS, MOST_BITS, WIDE_BITS, draw_integers, dyadic_shift, mantissa_bits
from verify.checker.point import Array, Point, StructureError, Worst
from verify.checker.reference import BY_COMPLEX, Interval, Way, point_at

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Objection

_FEWEST_BITS = 3  # fewer leave a direction but a few values


class ExactComplexStep(ExactReference):
    """The branches that the forward takes, by a complex step of 1."""

    def __init__(self, miss_probability: float, objections: tuple[Objection, ...] = ()) -> None:
        self.objections, self._miss_probability = objections, miss_probability
        self._consistent: set[int] = set()
        self._rng = np.random.default_rng(0)

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """The arrays given, with integers upstream: of more bits than a float32 holds, if there is room."""
        room = _bits_in_range(layer, layer.value(layer.arrays))
        self.bits, self._rng = min(MOST_BITS, room), rng
        rate, trials = plan(2, self.bits, self._miss_probability)
        for _ in range(trials):
            yield point_at(layer, layer.arrays, lambda y: draw_integers(rng, y.shape, min(WIDE_BITS, room), y.dtype))
        self.missed = rate**trials

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """One of integers."""
        yield draw_integers(rng, point.claimed[k].shape, self.bits, point.claimed[k].dtype)

    def slopes(self, point: Point, k: int, v: Array) -> Array:
        """Im f(a + iv)."""
        moved = point.layer.complex_value(point.arrays, k, v)
        if not np.array_equal(moved.real, point.y):
            raise StructureError(f"Re f(a + iv) is not f(a): {point.layer.names[k]} enters more than once in a product")
        check_exact(moved.imag)
        return moved.imag

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """One number. Raises StructureError unless the step is odd in v, and agrees with plain differences."""
        if k not in self._consistent:
            check_consistent(point.layer, k, v, 1.0, self._rng)
            if not np.array_equal(self.slopes(point, k, v), -self.slopes(point, k, -v)):
                raise StructureError(f"the branches depend on the imaginary part of {point.layer.names[k]}")
            self._consistent.add(k)
        return super().derivative(point, k, v)

    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """A complex step of one, at small integers, or at the arrays themselves."""
        yield BY_COMPLEX._replace(drawn="rng.integers(-4, 5, {shape})")
        yield BY_COMPLEX


def _bits_in_range(layer: LayerUnderTest, y: Array) -> int:
    """How many bits directions and upstream gradients may have.

    On absolute values the layers at hand are monotone: relu and maxima of nonnegative numbers pass them on. So
    f(|a| + i |v|) bounds every value and every slope. A right gradient's entry is at most
    sum(|dy| Im f(|a| + i |v|)) with v = 1.
    """
    limit = 2.0 ** (mantissa_bits(layer.dtype) - GUARD_BITS)
    absolute = [
        np.asarray(np.abs(a)) if k in layer.differentiable and a is not None else a for k, a in enumerate(layer.arrays)
    ]
    fineness = 2.0 ** sum(_shift(layer, k) for k in (*layer.wrt, *layer.fixed))
    values, slopes = 0.0, 0.0
    for k in layer.wrt:
        moved = layer.complex_value(absolute, k, np.ones(layer.arrays[k].shape))
        values = max(values, float(np.abs(moved.real).max(initial=0.0)))
        slopes = max(slopes, float(np.abs(moved.imag).max(initial=0.0)))
    _, cache = layer.value_and_cache(absolute)
    gradients = layer.pull_back(absolute, np.ones_like(y), cache)
    claimed = max((float(np.abs(g).max()) for g in gradients.values() if g.size), default=0.0)
    slopes = max(slopes, min(claimed, slopes * y.size))
    spare = math.log2(limit / fineness / max(slopes, 1.0))
    if not values * fineness < limit or not spare >= _FEWEST_BITS:
        raise StructureError(
            f"values up to {values:.3g} in steps of 1/{fineness:.3g} leave {layer.dtype} no room for exact directions"
        )
    return int(spare)


def _shift(layer: LayerUnderTest, k: int) -> int:
    if np.iscomplexobj(layer.arrays[k]):
        raise StructureError(f"{layer.names[k]} holds complex numbers")
    try:
        return dyadic_shift(layer.arrays[k])
    except ValueError:
        text = f"{layer.names[k]} holds no short dyadic fractions: exact arithmetic needs them"
        raise StructureError(text) from None
