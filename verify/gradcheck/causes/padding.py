"""Padding cropped, or put, at the wrong end; a winner's index counted in the padded plane.

The array that is padded is found by padding it by hand: f(padded array, padding=0) is f(array, padding).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from verify.gradcheck.causes.codes import CauseCode
from verify.gradcheck.causes.evidence import Evidence
from verify.gradcheck.causes.options import at_options
from verify.gradcheck.exact_numbers import Array
from verify.gradcheck.point import Point
from verify.gradcheck.subject import Arrays

Pads = tuple[tuple[int, int], ...]
Found = Iterator[tuple[CauseCode, str]]


def padded(evidence: Evidence, padding: Any) -> Found:
    """What the padding tells of the claim; nothing where there is none, or it is no such option."""
    point, k = evidence.point, evidence.k
    for j in point.subject.wrt:
        array: Any = point.arrays[j]
        pads = _sides(point, padding, array.ndim)
        if pads is None or not any(map(any, pads)):
            continue
        found = _by_hand(point, j, pads)
        if found is None:
            continue
        if j == k and np.isin(point.y, array).all():
            yield from _winners(evidence, pads)
        for other in _elsewhere(pads):
            if j == k:
                fits = evidence.fits_elsewhere(found, k, lambda v, o=other: _pad(v, o, 0.0))  # type: ignore[misc]
            else:
                moved = _padless(point, point.subject.with_array(point.arrays, j, _pad(array, other, 0.0)))
                fits = moved.y.shape == point.y.shape and evidence.fits_elsewhere(moved, k)
            if fits:
                name = point.subject.names[j]
                yield (
                    CauseCode.PADDING_CROPPED,
                    f"is the true one for {name} at {_before(other)} in its padding, not at {_before(pads)}",
                )


def _sides(point: Point, padding: Any, rank: int) -> Pads | None:
    """(before, after) of each of the last axes; "same" is what makes y as large as it is at stride 1."""
    if isinstance(padding, int) and not isinstance(padding, bool):
        return ((padding, padding),) * max(0, rank - 2)
    if padding == "same":
        without = _padless(point, point.arrays).y.shape
        totals = [size - less for size, less in zip(point.y.shape[2:], without[2:], strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, (tuple, list)) and len(padding) <= rank:
        return tuple((side, side) if isinstance(side, int) else tuple(side) for side in padding)
    return None


def _by_hand(point: Point, j: int, pads: Pads) -> Point | None:
    """The point at argument j padded by hand, by zeros or, for maxima, by less than every entry; None for neither."""
    array: Any = point.arrays[j]
    for fill in (0.0, -4.0 * (1 + float(np.abs(array).max(initial=0.0)))):
        try:
            other = _padless(point, point.subject.with_array(point.arrays, j, _pad(array, pads, fill)))
        except Exception:  # not the array that is padded
            return None
        if np.array_equal(other.y, point.y):
            return other
    return None


def _padless(point: Point, arrays: Arrays) -> Point:
    return at_options(point, {"padding": 0}, arrays)


def _pad(array: Array, pads: Pads, fill: float) -> Array:
    still = ((0, 0),) * (array.ndim - len(pads))
    return np.pad(array, (*still, *pads), constant_values=fill)


def _elsewhere(pads: Pads) -> Iterator[Pads]:
    """The same padding in all, with the array at another place in it: the trailing side first, an end, the other."""
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
