"""Padding cropped, or put, at the wrong end; a winner's index counted in the padded plane.

The array that is padded is found by padding it by hand: f(padded array, padding=0) is f(array, padding).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from verify.checker.point import Array, Arrays, Point
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_options, guarded

Pads = tuple[tuple[int, int], ...]
Found = Iterator[tuple[CauseCode, str]]
# More than any window is longer than the array it slides over, one hopes; else there is no prediction.
_AMPLE = 16


class ByHand(NamedTuple):
    """Argument j, padded so, gives the same y without the option: at this point."""

    j: int
    pads: Pads
    same: Point


def padded(evidence: Evidence, padding: Any) -> Found:
    """What the padding tells of the claim; nothing where there is none, or it is no such option."""
    point, k = evidence.point, evidence.k
    found = by_hand(point, padding)
    if found is None or not any(map(any, found.pads)):
        return
    j, pads, same = found
    array: Any = point.arrays[j]
    if j == k and np.isin(point.y, array).all():
        yield from _winners(evidence, pads)
    for other in _elsewhere(pads):
        if j == k:
            fits = evidence.fits_elsewhere(same, k, lambda v, o=other: _pad(v, o, 0.0))  # type: ignore[misc]
        else:
            moved = _padless(point, point.layer.with_array(point.arrays, j, _pad(array, other, 0.0)))
            fits = moved.y.shape == point.y.shape and evidence.fits_elsewhere(moved, k)
        if fits:
            where = f"at {_before(other)} in its padding, not at {_before(pads)}"
            yield CauseCode.PADDING_CROPPED, f"is the true one for {point.layer.names[j]} {where}"


def by_hand(point: Point, padding: Any) -> ByHand | None:
    """The array that is padded, and by how much; None where there is no such array, or no such padding."""
    for j in point.layer.wrt:
        array: Any = point.arrays[j]
        for fill in (0.0, -4.0 * (1 + float(np.abs(array).max(initial=0.0)))):  # for maxima, less than every entry
            for pads in guarded(_sides(point, padding, j)):
                for same in guarded(_padded(point, j, pads, fill)):
                    if np.array_equal(same.y, point.y):
                        return ByHand(j, pads, same)
    return None


def _padded(point: Point, j: int, pads: Pads, fill: float) -> Iterator[Point]:
    array: Any = point.arrays[j]
    yield _padless(point, point.layer.with_array(point.arrays, j, _pad(array, pads, fill)))


def _sides(point: Point, padding: Any, j: int) -> Iterator[Pads]:
    """(before, after) of each of the last axes; "same" is what makes y as large as it is at stride 1."""
    array: Any = point.arrays[j]
    if isinstance(padding, int) and not isinstance(padding, bool):
        yield ((padding, padding),) * max(0, array.ndim - 2)
    elif padding == "same":
        ample = ((_AMPLE, _AMPLE),) * (array.ndim - 2)
        (wide,) = (each.y.shape for each in _padded(point, j, ample, 0.0))
        totals = [size + 2 * _AMPLE - more for size, more in zip(array.shape[2:], wide[2:], strict=True)]
        yield tuple((total // 2, total - total // 2) for total in totals)
    elif isinstance(padding, (tuple, list)) and len(padding) <= array.ndim:
        yield tuple((side, side) if isinstance(side, int) else tuple(side) for side in padding)


def _padless(point: Point, arrays: Arrays) -> Point:
    return at_options(point, {"padding": 0}, arrays)


def _pad(array: Array, pads: Pads, fill: float) -> Array:
    still = ((0, 0),) * (array.ndim - len(pads))
    return np.pad(array, (*still, *pads), constant_values=fill)


def _elsewhere(pads: Pads) -> Iterator[Pads]:
    """Paddings as large in all, with the array at another place: the trailing side first, then either end."""
    every = [[(before, after), (after, before), (0, before + after), (before + after, 0)] for before, after in pads]
    for chosen in itertools.product(*(dict.fromkeys(sides) for sides in every)):
        if chosen != pads:
            yield chosen


def _before(pads: Pads) -> tuple[int, ...]:
    return tuple(before for before, _ in pads)


def _winners(evidence: Evidence, pads: Pads) -> Found:
    """Each entry at its padded coordinates, or at its flat index in the padded plane, where that is inside."""
    shape = evidence.claimed.shape
    axes = len(pads)
    size = shape[len(shape) - axes :]
    wide = tuple(side + sum(pad) for side, pad in zip(size, pads, strict=True))
    inside = [np.arange(side) + before for side, (before, _) in zip(size, pads, strict=True)]
    grid = np.meshgrid(*inside, indexing="ij")
    flat = np.ravel_multi_index(tuple(grid), wide).ravel()
    fitting = [np.where(axis < side, axis, -1) for axis, side in zip(grid, size, strict=True)]
    kept = np.all([axis >= 0 for axis in fitting], axis=0).ravel()
    by_coordinates = np.where(kept, np.ravel_multi_index(tuple(np.maximum(a, 0) for a in fitting), size).ravel(), -1)
    planes = evidence.claimed.size // flat.size
    base = flat.size * np.arange(planes)[:, None]
    in_plane = np.where(flat < flat.size, flat, -1)
    for why, targets in (
        ("its coordinates", np.where(by_coordinates >= 0, base + by_coordinates, -1)),
        ("its flat index", np.where(in_plane >= 0, base + in_plane, -1)),
        ("its flat index, into the next plane", np.where(base + flat < evidence.claimed.size, base + flat, -1)),
    ):
        if evidence.fits_places(_taken(targets.ravel(), shape)):
            yield CauseCode.WINNER_IN_PADDING, f"has each entry at {why} in the padded plane"


def _taken(targets: Array, shape: tuple[int, ...]) -> Array:
    """From where each entry is taken, given where each goes; -1 from nowhere."""
    places = np.full(targets.size, -1)
    told = targets >= 0
    places[targets[told]] = np.flatnonzero(told)
    return places.reshape(shape)
