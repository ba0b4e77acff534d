"""Is the function affine, as an exact reference takes it to be? If not, it is another reference's turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.directions import signed
from verify.checker.exact import check_exact, check_sum, placed
from verify.checker.exact_numbers import GUARD_BITS, MOST_BITS, draw_gapped, draw_integers, dyadic_shift, mantissa_bits
from verify.checker.objections import Disagreement
from verify.checker.point import Point, StructureError

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.point import Array, Arrays

# Directions that lead from a point near 0 and sum to 0. Of thirteen kinks a median of three hides best: along 7 such
# directions in 18 of 10^4 draws, so in three draws 6 times in 10^9 (measured, 200,000 draws each).
_RAYS, _DRAWS = 7, 3
# An entry of a floor hides along 7 directions once in 7 draws: 12 entries, seen in all, hide once in 10^10.
_ENTRIES = 12
_SMALL_BITS = 2  # integers so small that any layer keeps them exact: they show the bits of a leaky slope
_DY_BITS = 20  # of upstream gradients that weigh the entries of y
_FEWEST_BITS = 3  # of a gap that leaves a direction of halves in it


def not_multilinear(case: Disagreement[Any]) -> None:
    """Raise StructureError unless f is affine in this array: along other directions, and between whole numbers."""
    layer, k, bits = case.point.layer, case.k, case.reference.bits
    _check_affine_at_the_arrays_given(layer, k, case.rng)
    shapes = [layer.arrays[j].shape for j in layer.wrt]
    fraction_bits = max(2, bits - (math.ceil(GUARD_BITS / len(shapes)) if case.point.step == 1 else 0))
    unit = 2.0 ** -(fraction_bits // 2)
    for _ in range(_draws(layer, k)):
        drawn = [draw_integers(case.rng, shape, fraction_bits, layer.dtype) for shape in shapes]
        drawn[layer.wrt.index(k)] = draw_integers(case.rng, layer.arrays[k].shape, fraction_bits // 2, layer.dtype)
        point = _bare_point(layer, placed(layer, drawn, unit), unit, case.rng)
        check_sum(point, k, _rays(layer.arrays[k], fraction_bits, case.rng))


def _rays(array: Any, bits: int, rng: np.random.Generator) -> Iterator[Array]:
    """Directions of integers whose sum is 0: each leads back, entry by entry, from where those before have led."""
    together = np.zeros_like(array)
    for _ in range(_RAYS - 1):
        drawn = draw_integers(rng, array.shape, bits, array.dtype)
        ray = np.where(together == 0, drawn, -np.copysign(drawn, together))
        together += ray
        yield ray
    yield -together


def _check_affine_at_the_arrays_given(layer: LayerUnderTest, k: int, rng: np.random.Generator) -> None:
    """Raise StructureError unless f is affine beside them, too: sin(2^20 pi x) is 0 at integers and at fractions.

    Half way it is the mean of both ends, up to the rounding of the longest sum of products (Higham 2002, section 3.1).
    """
    array = layer.arrays[k]
    v = (float(np.abs(array).max(initial=0.0)) or 1.0) * signed(rng, array.shape)
    values = [layer.value(layer.moved(layer.arrays, k, s * v)).astype(np.float64) for s in (0, 1, 2)]
    largest = float(np.abs(values).max(initial=0.0))
    rounding = 4 * max(int(layer.arrays[j].size) for j in layer.wrt) * float(np.finfo(layer.dtype).eps) * largest
    if (np.abs(values[1] - (values[0] + values[2]) / 2) > rounding).any():
        raise StructureError(f"not affine in {layer.names[k]} at the arrays given")


def not_piecewise_linear(case: Disagreement[Any]) -> None:
    """Raise StructureError unless f is affine in this array between its kinks."""
    check_affine_between_kinks(case.point.layer, case.k, case.rng)


def check_affine_between_kinks(layer: LayerUnderTest, k: int, rng: np.random.Generator) -> None:
    """Raise StructureError unless f is affine in argument k, within the gaps between entries that are fractions.

    To show that takes fewer bits than to show that a gradient is right.
    """
    shapes = [layer.arrays[j].shape for j in layer.wrt]
    entries = sum(math.prod(shape) for shape in shapes)
    spare = (bits_above_unit(layer, rng) - GUARD_BITS) // len(shapes) - entries.bit_length()
    bits = min(MOST_BITS + 2, spare)
    if bits < _FEWEST_BITS:
        raise StructureError(f"{entries} entries of {layer.dtype} leave no room for fractions")
    unit = 2.0 ** -(bits // 2)
    for _ in range(_draws(layer, k)):
        point = _bare_point(layer, placed(layer, draw_gapped(rng, shapes, bits), unit), unit, rng)
        check_sum(point, k, _rays(layer.arrays[k], bits - 2, rng))


def _draws(layer: LayerUnderTest, k: int) -> int:
    return max(_DRAWS, _ENTRIES // max(1, int(layer.arrays[k].size)))


def bits_above_unit(layer: LayerUnderTest, rng: np.random.Generator) -> int:
    """How many bits of the mantissa integers may use, beside those that the layer adds below: of a leaky slope."""
    drawn = [draw_integers(rng, layer.arrays[k].shape, _SMALL_BITS, layer.dtype) for k in layer.wrt]
    y = layer.value(placed(layer, drawn, 1.0))
    check_exact(y)
    shift = dyadic_shift(y)
    return mantissa_bits(layer.dtype) - (shift + GUARD_BITS if shift else 0)


def _bare_point(layer: LayerUnderTest, arrays: Arrays, step: float, rng: np.random.Generator) -> Point:
    """A point at which backward is not asked."""
    y = layer.value(arrays)
    check_exact(y)
    return Point(layer, arrays, y, draw_integers(rng, y.shape, _DY_BITS, y.dtype), {}, step)
