"""Piecewise-linear functions between their kinks: as exact as multilinear ones.

The entries are drawn so far apart that no order between two of them, and no sign, changes between a - v and a + v.
There the function is affine, and f(a + v) - f(a) == f(a) - f(a - v) is checked along every direction. What happens at
the kinks is in at_ties.py. Where there is room the entries are no whole numbers, on which a floor, or x % 1, is affine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from verify.checker.exact import ExactDifference, check_exact, placed, plan
from verify.checker.exact_numbers import GUARD_BITS, MOST_BITS, WIDE_BITS, draw_gapped, draw_integers
from verify.checker.objections.structure import bits_above_unit, check_affine_between_kinks
from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import point_at

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Objection
    from verify.checker.point import Arrays

_ROOM_FOR_FRACTIONS = 16  # bits for each array, beside those that count entries
# Of few entries of y one draw takes few branches, and its mirror image may take the same. A gradient that is right in
# a third of the branches only passes 32 points with probability 3^-16 at most.
_POINTS = 32
_FEWEST_BITS = 4  # below that a direction of one bit less, or dy, has but a few values
# A clip is made for low < high, a learned level for alpha > 0. Others may be drawn.
_ELSEWHERE = (
    "right at arrays in the order of those given, wrong at others: {}. "
    'If the layer excludes such arrays, write structure="smooth"'
)


class PiecewiseLinear(ExactDifference):
    """Exact differences at integers, or dyadic fractions, far apart."""

    def __init__(self, miss_probability: float, objections: tuple[Objection, ...] = ()) -> None:
        self.objections, self._miss_probability = objections, miss_probability

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """First entries of the signs and in the order of those given, then others, where a layer's domain may end.

        Every other one of these mirrors the one before, so that each entry is seen on both sides of 0.
        """
        shapes = [layer.arrays[k].shape for k in layer.wrt]
        entries = sum(math.prod(shape) for shape in shapes)
        factors, entry_bits = len(shapes), entries.bit_length()
        spare = bits_above_unit(layer, rng)
        fractions = spare - GUARD_BITS >= factors * (_ROOM_FOR_FRACTIONS + entry_bits)
        spare -= GUARD_BITS if fractions else 0
        # The entries reach entries * 2^(gap_bits - 1), with a bit to spare for sums of two.
        gap_bits = min(MOST_BITS + 2, spare // factors - entry_bits)
        self.bits = gap_bits - 2  # |v| is at most a quarter of the gap
        outputs = layer.value(layer.arrays).size
        # A gradient may sum dy, times an entry of each other array, over all outputs.
        dy_bits = min(WIDE_BITS, spare - outputs.bit_length() - (factors - 1) * (gap_bits + entry_bits))
        if min(self.bits, dy_bits) < _FEWEST_BITS:
            raise StructureError(f"{entries} entries of {layer.dtype} leave no room for gaps between them")
        rate, trials = plan(factors + 2, min(self.bits, dy_bits), self._miss_probability)
        if not fractions:
            for k in layer.wrt:
                check_affine_between_kinks(layer, k, rng)
        given = [layer.arrays[k] for k in layer.wrt]
        self.bits = gap_bits - 3  # as many numbers of either sign: a bit less apart
        chance = rng.random(entries)
        for _ in range(max(2, trials)):
            chance = 1 - chance  # every zero gets either sign, and every tie either order
            unit = 2.0 ** (1 - gap_bits - entry_bits) if fractions else 1.0
            yield self._point(layer, rng, placed(layer, _alike(rng, given, gap_bits - 1, chance), unit), unit, dy_bits)
        self.bits = gap_bits - 2
        drawn: list[Array] = []
        for trial in range(max(2, trials, -(-_POINTS // max(1, outputs)))):
            drawn = [-array for array in drawn] if trial % 2 else draw_gapped(rng, shapes, gap_bits)
            unit = 2.0 ** -(gap_bits // 2) if fractions else 1.0
            if trial % 2 and fractions:  # these lie within 1, where a clip, say, does not cut
                unit = 2.0 ** (1 - gap_bits - entry_bits)
            point = self._point(layer, rng, placed(layer, drawn, unit), unit, dy_bits)
            yield replace(point, elsewhere=_ELSEWHERE)
        self.missed = rate**trials

    def _point(self, layer: LayerUnderTest, rng: np.random.Generator, arrays: Arrays, unit: float, bits: int) -> Point:
        def upstream(y: Array) -> Array:
            check_exact(y)
            return draw_integers(rng, y.shape, bits, y.dtype)

        return point_at(layer, arrays, upstream, unit)

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """One, within the gaps."""
        yield draw_integers(rng, point.claimed[k].shape, self.bits, point.claimed[k].dtype)


def _alike(rng: np.random.Generator, given: Sequence[Array], gap_bits: int, chance: Array) -> list[Array]:
    """Gapped integers with the signs, and in the order, of the entries given; `chance` decides at ties and zeros."""
    flat = np.concatenate([array.ravel() for array in given])
    drawn = np.sort(draw_gapped(rng, [(2 * flat.size,)], gap_bits)[0])  # half of them are negative
    negative = (flat < 0) | ((flat == 0) & (chance < 0.5))
    values = np.empty(flat.size, drawn.dtype)
    for side, pool in ((negative, drawn[: flat.size]), (~negative, drawn[flat.size :])):
        places = np.flatnonzero(side)
        order = np.lexsort((chance[places], flat[places]))
        values[places[order]] = np.sort(rng.choice(pool, len(places), replace=False))
    parts = np.split(values, np.cumsum([array.size for array in given])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, given, strict=True)]
