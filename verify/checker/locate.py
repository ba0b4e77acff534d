"""Find a wrong entry of a gradient by halving the set of coordinates that a direction touches."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

import numpy as np

from verify.checker.directions import index_of, restricted
from verify.checker.point import Array

Number = TypeVar("Number", Fraction, float)

# One descent may follow errors that cancel. Of three, calibration found the right entry in 0.998 of cases.
_DESCENTS = 3


def locate(
    shape: tuple[int, ...],
    residual: Callable[[Array], Number],
    rng: np.random.Generator,
    first: Array | None = None,
) -> tuple[int, ...]:
    """The index of a wrong entry: of three descents, the one that ends at the largest error.

    `residual(v)` is the disagreement of the directional derivatives along v, linear in v. A descent halves the
    coordinates and keeps the half that disagrees more. The residuals of both halves add up to that of the whole, so
    one call a level is enough: log2(n) + 1 calls. `first` is a direction known to disagree; the others consist of
    signs, so that they weigh all entries alike.
    """
    found: list[tuple[Number, tuple[int, ...]]] = []
    for descent in range(_DESCENTS):
        signs = rng.choice([-1.0, 1.0], size=shape)
        direction = first if descent == 0 and first is not None else signs
        index, error = descend(direction, residual, residual(direction))
        found.append((abs(error), index))
    return max(found)[1]


def descend(direction: Array, residual: Callable[[Array], Number], whole: Number) -> tuple[tuple[int, ...], Number]:
    """One wrong entry, and its error; `whole` is the residual along the whole direction."""
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
    index = index_of(int(coordinates[0]), direction.shape)
    return index, whole / type(whole)(float(flat[coordinates[0]]))
