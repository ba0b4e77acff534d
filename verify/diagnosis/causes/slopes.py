"""J v for the causes: by the reference, or by four forwards where these are shown to do as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import Reference

Slopes = Callable[[Point, int, Array], Array]

# Of five points, a step h leaves h^4 / 30 of the fifth derivative, some 5e-13, and a rounding of 1.5 eps / h, 2e-13.
_STEP = 2.0**-9
# Their columns are 2^22 numbers.
_MOST_ELEMENTWISE = 1 << 11
# A hundredth of what gradients may differ by that differences take for alike.
_AGREES = 1e-8


def economical(reference: Reference, point: Point, k: int, v: Array) -> tuple[Slopes, Array]:
    """How slopes are taken, and those along v. A reference with extrapolation takes some forty forwards for each."""
    known = reference.slopes(point, k, v)
    if reference.forwards == 1:
        return reference.slopes, known
    try:
        short = _five_points(point, k, v)
    except StructureError:
        raise
    except Exception:  # so long a step leaves the domain
        return reference.slopes, known
    close = bool((np.abs(short - known) <= _AGREES * np.abs(known).max(initial=0.0)).all())
    return (_five_points if close else reference.slopes), known


def elementwise(slopes_at: Slopes, point: Point, k: int, side: int = 1) -> Array | None:
    """J e_i for every entry i, times `side`, if each entry of y hangs on the same entry of the argument alone.

    For each bit of a flat index, the entries that have it are moved, and then the others. Any two entries differ in a
    bit: where one is moved and the other is not, y may change at the one alone. None if that does not hold, if it takes
    more forwards than moving each entry, or if the columns are too large.
    """
    array = point.arrays[k]
    if array is None or array.shape != point.y.shape or array.size > _MOST_ELEMENTWISE:
        return None
    numbers = np.arange(array.size).reshape(array.shape)
    bits = max(array.size - 1, 0).bit_length()
    if 2 * bits + 1 >= array.size:
        return None
    for bit in range(bits):
        for moved in (numbers >> bit & 1 == 1, numbers >> bit & 1 == 0):
            if slopes_at(point, k, side * moved.astype(array.dtype))[~moved].any():
                return None
    along = slopes_at(point, k, side * np.ones_like(array))
    return np.asarray(np.diag(along.ravel()).reshape(array.size, *array.shape))


def _five_points(point: Point, k: int, v: Array) -> Array:
    """(8 (f(a + h v) - f(a - h v)) - (f(a + 2 h v) - f(a - 2 h v))) / 12 h."""
    array = point.arrays[k]
    h = _STEP * (float(np.abs(array).max(initial=0.0)) or 1.0) if array is not None else _STEP
    one, other = (
        point.layer.value(point.layer.moved(point.arrays, k, h * times * v))
        - point.layer.value(point.layer.moved(point.arrays, k, -h * times * v))
        for times in (1, 2)
    )
    return np.asarray((8 * one - other) / (12 * h))
