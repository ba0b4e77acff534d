"""Find a wrong entry of a gradient by halving the set of coordinates a direction touches."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

import numpy as np

from verify.checker.exact_numbers import Array

Number = TypeVar("Number", Fraction, float)

_DESCENTS = 3


def locate(
    shape: tuple[int, ...],
    residual: Callable[[Array], Number],
    generator: np.random.Generator,
    first: Array | None = None,
) -> tuple[int, ...]:
    """The index of a wrong entry: of three descents, the one that ends at the largest error.

    `residual(v)` is the disagreement of the directional derivatives along v, linear in v. Each
    descent halves the coordinates and keeps the half that disagrees more; since the residuals of
    the halves add up to that of the whole, one call a level is enough: log2(n) + 1 calls. `first`
    is a direction known to disagree; the others have signs as entries, so that they weigh all alike.
    """
    found: list[tuple[Number, tuple[int, ...]]] = []
    for descent in range(_DESCENTS):
        signs = generator.choice([-1.0, 1.0], size=shape)
        direction = first if descent == 0 and first is not None else signs
        index, error = descend(direction, residual, residual(direction))
        found.append((abs(error), index))
    return max(found)[1]


def not_finite(gradient: Array) -> tuple[int, ...] | None:
    """The index of the first NaN or infinite entry, if there is one."""
    finite = np.isfinite(gradient)
    if finite.all():
        return None
    return tuple(int(i) for i in np.argwhere(~finite)[0])  # of a scalar, the one index is ()


def descend(direction: Array, residual: Callable[[Array], Number], whole: Number) -> tuple[tuple[int, ...], Number]:
    """One wrong entry, and its error; `whole` is the residual along the direction, all of it."""
    flat = direction.ravel()
    coordinates = np.flatnonzero(flat)
    while len(coordinates) > 1:
        half = coordinates[: len(coordinates) // 2]
        left = residual(restricted(direction, half))
        right = whole - left
        if abs(left) >= abs(right):
            coordinates, whole = half, left
        else:
            coordinates, whole = coordinates[len(half) :], right
    index = tuple(int(i) for i in np.unravel_index(coordinates[0], direction.shape))
    return index, whole / type(whole)(float(flat[coordinates[0]]))


def restricted(direction: Array, coordinates: Array) -> Array:
    """The direction with all but these coordinates, in flat order, at rest."""
    part = np.zeros_like(direction).ravel()
    part[coordinates] = direction.ravel()[coordinates]
    return part.reshape(direction.shape)
