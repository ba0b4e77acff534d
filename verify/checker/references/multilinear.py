"""Multilinear functions: affine in each array with the others fixed. No step and no tolerance.

For arrays a, a direction v and an upstream gradient dy of integers, as long as nothing exceeds the mantissa,

    sum(dy * (f(a + v) - f(a))) == sum(da * v)        exactly.

The first trial is on integers over a power of two, so between -1 and 1. They are as exact, and a function that
is linear far out only (a tanh that has saturated), or on integers only (a floor), is not affine there. Every direction
leads each entry through zero. Along it f(a + v) - f(a) == f(a) - f(a - v) is checked: a relu is no linear function.
If the arrays given hold zeros or ties, one more trial keeps them.

Errors tied to particular values (`if x == 0.123`) are outside the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.exact import ExactDifference, check_exact, placed, plan, upstream_bits
from verify.checker.exact_numbers import GUARD_BITS, MOST_BITS, draw_integers, mantissa_bits
from verify.checker.point import Array, Arrays, Point, StructureError
from verify.checker.reference import point_at

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Disagreement, Objection


# A first guess, from which the range of larger integers is computed.
_TRIED_BITS = 6


# If y has few entries, a draw may cross no kink of a function that is not affine. A median of three passed once in 60
# checks. Over all draws 16 entries of y are seen.
_ENTRIES = 16
# Half the digits of float32, in which a part of forward may compute. What is not affine is so by more.
_ROUNDED = 2.0**-12


class Multilinear(ExactDifference):
    """Exact differences at drawn integers. The number of bits is assumed, or proved to suffice."""

    def __init__(
        self, miss_probability: float, objections: tuple[Objection, ...] = (), *, proved: bool = False
    ) -> None:
        self.objections, self._miss_probability, self.proved = objections, miss_probability, proved
        self.most_bits = self.dy_bits = self._outputs = 0

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """Fractions first, then integers, as often as the miss probability takes.

        Errors may hide at zeros and ties: one more point keeps those of the arrays given.
        """
        factors = len(layer.wrt)
        self.most_bits = bits = proved_bits(layer) if self.proved else assumed_bits(layer)
        fraction_bits = max(1, bits - math.ceil(GUARD_BITS / factors))
        # v, dy and the arrays count once each; v, which leads through zero, has but half the values.
        degree = factors + 3
        rate, trials = plan(degree, bits, self._miss_probability)
        first = min(degree / (2 << fraction_bits), 0.5)
        while trials > 1 and first * rate ** (trials - 1) <= self._miss_probability:
            trials -= 1
        yield self._point(layer, rng, fraction_bits, 2.0**-fraction_bits)
        for _ in range(max(trials, -(-_ENTRIES // (self._outputs or _ENTRIES)) - 1)):
            yield self._point(layer, rng, bits, 1.0)
        if any(_has_zeros_or_ties(layer.arrays[k]) for k in layer.wrt):
            yield self._point(layer, rng, bits, 1.0, alike=True)
        _check_affine_where_given(layer, rng)
        self.missed = first * rate**trials

    def _point(
        self, layer: LayerUnderTest, rng: np.random.Generator, bits: int, unit: float, *, alike: bool = False
    ) -> Point:
        """A drawn point. `alike`: what is 0 or equal in the arrays given is so in those drawn."""
        self.bits = bits

        def upstream(y: Array) -> Array:
            check_exact(y)
            self._outputs = y.size
            wide = 0 if self.proved else upstream_bits(layer, y, bits * (len(layer.wrt) - 1))
            self.dy_bits = max(bits, wide)
            return draw_integers(rng, y.shape, self.dy_bits, y.dtype)

        drawn = [draw_integers(rng, layer.arrays[k].shape, bits, layer.dtype) for k in layer.wrt]
        if alike:
            drawn = [_alike(array, layer.arrays[k]) for k, array in zip(layer.wrt, drawn, strict=True)]
        return point_at(layer, placed(layer, drawn, unit), upstream, unit)

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """One that leads every entry past 0, to minus its sign times a drawn number."""
        array: Any = point.arrays[k]
        yield np.asarray(
            -np.copysign(draw_integers(rng, array.shape, self.bits, array.dtype), array)
            - array / array.dtype.type(point.step)
        )


def _check_affine_where_given(layer: LayerUnderTest, rng: np.random.Generator) -> None:
    """Raise StructureError unless f is affine at the arrays given, too, as far as rounding lets that show.

    A loss of labels 1 and -1 is 0 for all other labels, and so it is at those drawn.
    """
    y = layer.value(layer.arrays)
    share = max(_ROUNDED, float(np.sqrt(np.finfo(layer.dtype).eps)))
    for k in layer.wrt:
        array: Any = layer.arrays[k]
        scale = float(max(array.max(initial=0.0), -array.min(initial=0.0))) or 1.0
        v = rng.uniform(0.5 * scale, scale, array.shape)
        v *= rng.choice([-1.0, 1.0], array.shape)
        off, allowed = np.asarray(-2 * y), np.asarray(np.abs(y))  # in place: a large check then takes less memory
        for sign in (1, -1):
            moved = layer.borrowed(layer.moved(layer.arrays, k, sign * v))[0]
            off += moved
            allowed += np.abs(moved)
        allowed *= share
        if (np.abs(off, out=off) > allowed).any():
            raise StructureError(f"not affine in {layer.names[k]} at the arrays given, though it is at those drawn")


def _has_zeros_or_ties(array: Array) -> bool:
    return len(np.unique(array[array != 0])) < array.size


def _alike(drawn: Array, given: Array) -> Array:
    """The drawn array, with the zeros and the ties of the one given."""
    _, first, place = np.unique(given, return_index=True, return_inverse=True)
    return np.where(given == 0, 0, drawn.ravel()[first][place].reshape(given.shape)).astype(drawn.dtype)


def assumed_bits(layer: LayerUnderTest) -> int:
    """How many bits the integers may have if a product takes two of them, and signs cancel in sums.

    A sum of n products of random signs is of the order of sqrt(n) of them, and takes every entry once at most.
    """
    terms = max(int(layer.arrays[k].size) for k in layer.wrt)
    room = mantissa_bits(layer.dtype) - terms.bit_length() // 2
    return max(1, min(MOST_BITS, room // min(2, len(layer.wrt))))


def proved_bits(layer: LayerUnderTest) -> int:
    """How many bits the integers may have for every intermediate to stay exact.

    The layer is run on arrays filled with one value. For nonnegative coefficients no partial sum of a drawn case can
    be larger; for others `check_affine` guards. A function that is affine in each of d arrays
    grows at most with the d-th power of that value. So do gradients, in which dy takes the place of an array.
    """
    limit = 2.0 ** mantissa_bits(layer.dtype)
    for bits in (_TRIED_BITS, 1):
        largest = _largest_intermediate(layer, bits)
        if largest < limit:
            return min(MOST_BITS, bits + int(math.log2(limit / max(largest, 1.0)) / len(layer.wrt)))
    raise StructureError(f"at these sizes even small integers leave the {limit:.3g} that {layer.dtype} holds exactly")


def _largest_intermediate(layer: LayerUnderTest, bits: int) -> float:
    fill = float(3 << bits)  # |a - v| is at most this
    arrays: Arrays = [np.asarray(np.abs(a)) if k in layer.fixed else a for k, a in enumerate(layer.arrays)]
    for k in layer.wrt:
        arrays = layer.with_array(arrays, k, np.full_like(layer.arrays[k], fill))
    y, cache = layer.value_and_cache(arrays)
    magnitudes = np.abs(y, dtype=np.float64)
    # sum(|dy| |y|) / |a|, dy and a being filled with one value: the sum of all entries of a right gradient.
    together = float(magnitudes.sum())
    gradients = layer.pull_back(arrays, np.full_like(y, fill), cache)
    claimed = max((float(np.abs(g).max()) for g in gradients.values() if g.size), default=0.0)
    # A wrong gradient must not leave the check without a range.
    return max(float(magnitudes.max(initial=0.0)), min(together, claimed))


def range_not_proved(case: Disagreement[Multilinear]) -> None:
    """Raise StructureError where the drawn integers had more bits than are proved to stay exact."""
    layer, reference, others = case.point.layer, case.reference, len(case.point.layer.wrt) - 1
    # A gradient sums dy times an entry of each other array: `room` is what it leaves to the bits of dy.
    largest = max(_largest_intermediate(layer, _TRIED_BITS), 1.0)
    room = mantissa_bits(layer.dtype) - math.log2(largest) + _TRIED_BITS * (others + 1) - reference.bits * others
    if proved_bits(layer) < reference.most_bits or room < reference.dy_bits:
        raise StructureError("the backward may have rounded: its sums need more bits than were assumed")
