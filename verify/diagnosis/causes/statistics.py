"""Means over an axis taken as constants: the statistics of a batch, of a layer, of a group.

Beside a copy of themselves, joined along that axis, arrays have the same mean and variance, and y is twice what it was.
But an entry of one copy adds half as much to them. So the true gradient there, G, of one copy's dy, lies half way
between the true gradient and that with the means held constant: the latter is 2 G - true.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from verify.checker.directions import index_of, unit
from verify.checker.point import Array, Point
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_arrays, guarded

Found = Iterator[tuple[CauseCode, str]]
# A choice: of more entries the gradient with one of the two held constant is not looked at, entry by entry.
_MOST_ENTRIES = 64


class _Doubled(NamedTuple):
    """The point beside its copy along an axis of argument k, and that axis of y."""

    point: Point
    axis: int
    of_y: int


def statistics(evidence: Evidence) -> Found:
    """Means over one axis of the argument held constant, or one of the mean and the variance."""
    for axis in range(evidence.claimed.ndim):
        if evidence.claimed.shape[axis] < 2 or (axis == 0 and evidence.batched):
            continue
        for doubled in guarded(_doubled(evidence, axis)):
            yield from guarded(_held(evidence, doubled))


def _held(evidence: Evidence, doubled: _Doubled) -> Found:
    k, reference, point = evidence.k, evidence.reference, evidence.point

    def slopes(v: Array, known: Array) -> Array:
        wide = np.concatenate([v, np.zeros_like(v)], axis=doubled.axis)
        both = evidence.slopes_at(doubled.point, k, wide)
        return np.asarray(2 * both.take(range(point.y.shape[doubled.of_y]), doubled.of_y) - known)

    name = point.layer.names[k]
    what = f"its means over axis {doubled.axis} of {name}, such as a mean and a variance"
    fits = True
    for v, known in zip(evidence.directions, evidence.slopes, strict=True):
        evidence.spend()
        fits = fits and reference.matches(point, k, v, point.dy, slopes(v, known))
        if not fits:
            break
    if fits:
        yield CauseCode.STATISTICS_CONSTANT, f"takes {what}, as constants"
        return
    if not evidence.whole or evidence.claimed.size > _MOST_ENTRIES:
        return
    shape = evidence.claimed.shape
    rows = []
    for i, column in enumerate(evidence.columns):
        evidence.spend()
        rows.append((slopes(unit(point, k, index_of(i, shape)), column) * point.dy).sum())
    held = np.array(rows).reshape(shape)
    for axes in _sets(evidence.claimed.ndim, doubled.axis):
        mean = np.broadcast_to(held.mean(axis=axes, keepdims=True), shape)
        rounding = evidence.claimed.size * float(np.finfo(evidence.claimed.dtype).eps) * np.abs(held).max()
        if evidence.fits(held - mean, rounding):
            yield CauseCode.STATISTICS_CONSTANT, f"takes the variance over axes {axes} of {name} as a constant"
        elif evidence.fits(evidence.true + mean, rounding):
            yield CauseCode.STATISTICS_CONSTANT, f"takes the mean over axes {axes} of {name} as a constant"


def _sets(rank: int, axis: int) -> Iterator[tuple[int, ...]]:
    """The sets of axes with this one among them."""
    others = [each for each in range(rank) if each != axis]
    for count in range(rank):
        for more in itertools.combinations(others, count):
            yield tuple(sorted((axis, *more)))


def _doubled(evidence: Evidence, axis: int) -> Iterator[_Doubled]:
    """The arrays beside a copy of themselves: all that have as many entries there, or the argument alone."""
    point, k = evidence.point, evidence.k
    own: Any = point.arrays[k]
    for alone in (False, True):
        arrays = [
            a if j != k and (alone or not _shares(a, own, axis)) else _twice(a, axis, own.ndim)
            for j, a in enumerate(point.arrays)
        ]
        for doubled in guarded(_points(point, arrays)):
            yield _Doubled(doubled[0], axis, doubled[1])
            return


def _shares(array: Any, own: Array, axis: int) -> bool:
    """Whether an array has this axis, too: the first, as of a batch, or counted from the last."""
    if not isinstance(array, np.ndarray):
        return False
    if axis == 0:
        return array.ndim > 0 and len(array) == len(own)
    back = axis - own.ndim
    return array.ndim >= -back and array.shape[back] == own.shape[back]


def _twice(array: Any, axis: int, rank: int) -> Array:
    return np.concatenate([array, array], axis=axis if axis == 0 else axis - rank)


def _points(point: Point, arrays: list[Any]) -> Iterator[tuple[Point, int]]:
    """The point at these arrays, if y is there what it was, twice along one axis."""
    layer = point.layer.with_options({})  # shapes are remembered for each layer
    other = at_arrays(point, tuple(arrays), point.dy, layer)
    for axis, size in enumerate(point.y.shape):
        if other.y.shape == (*point.y.shape[:axis], 2 * size, *point.y.shape[axis + 1 :]):
            rounding = other.y.size * float(np.finfo(point.y.dtype).eps) * np.abs(point.y).max(initial=0.0)
            if (np.abs(other.y - np.concatenate([point.y, point.y], axis)) <= rounding).all():
                yield other, axis
                return
