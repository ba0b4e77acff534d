"""Is the function affine, as an exact reference takes it to be? If not, it is another reference's turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.directions import signed
from verify.checker.exact import check_exact, difference, placed, through_zero
from verify.checker.exact_numbers import GUARD_BITS, MOST_BITS, draw_gapped, draw_integers, dyadic_shift, mantissa_bits
from verify.checker.objections import Disagreement
from verify.checker.point import Point, StructureError

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.point import Arrays

# A maximum of two, or a median of three, shows no kink along a random direction and one through zero in 9 of 100 draws
# (measured). Eight such pairs show none in 4 of 10^9.
_DRAWS = 8
# An entry of a floor seems affine every other time: 32 entries, seen in all, seem so once in 2^32.
_ENTRIES = 32
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
        difference(case.point, k, draw_integers(case.rng, layer.arrays[k].shape, bits, layer.dtype))
        drawn = [draw_integers(case.rng, shape, fraction_bits, layer.dtype) for shape in shapes]
        point = _bare_point(layer, placed(layer, drawn, unit), unit, case.rng)
        v = draw_integers(case.rng, layer.arrays[k].shape, fraction_bits, layer.dtype)
        difference(point, k, v)
        difference(point, k, through_zero(point, k, v))


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
        difference(point, k, draw_integers(rng, layer.arrays[k].shape, bits - 2, layer.arrays[k].dtype))


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
