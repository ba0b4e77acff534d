"""Means over an axis taken as constants: the statistics of a batch, of a layer, of a group.

Arrays joined to a copy of themselves along that axis have the same mean and variance, and y is y twice. But an entry
of one copy adds half as much to both. Let G be the true gradient there for the dy of one copy. It lies half way between
the true gradient and the one with constant means. So the latter is 2 G - true.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from verify.checker.point import Array, Point
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_arrays, guarded

Found = Iterator[tuple[CauseCode, str]]
# A mean that counts for less is not looked for.
_ALIKE = 1e-6


class _Doubled(NamedTuple):
    """The point beside its copy along an axis of argument k, and that axis of y."""

    point: Point
    axis: int
    of_y: int


def statistics(evidence: Evidence) -> Found:
    """The mean and the variance over one axis of the argument taken as constants, or one of the two."""
    for axis in range(evidence.claimed.ndim):
        if evidence.claimed.shape[axis] < 2 or (axis == 0 and evidence.batched):
            continue
        for doubled in guarded(_doubled(evidence, axis)):
            yield from guarded(_held(evidence, doubled))


def _held(evidence: Evidence, doubled: _Doubled) -> Found:
    """Both constant. If only the variance is, the gradient loses its mean; if only the mean, true and that remain."""
    k, point, size = evidence.k, evidence.point, evidence.point.y.shape[doubled.of_y]

    def held(v: Array, slopes: Array | None = None) -> Array:
        evidence.spend()
        wide = np.concatenate([v, np.zeros_like(v)], axis=doubled.axis)
        both = evidence.slopes_at(doubled.point, k, wide).take(range(size), doubled.of_y)
        return np.asarray(2 * both - (evidence.slopes_at(point, k, v) if slopes is None else slopes))

    def fits(slopes: Iterable[Array]) -> bool:
        pairs = zip(evidence.directions, slopes, strict=True)
        return all(evidence.reference.matches(point, k, v, point.dy, each) for v, each in pairs)

    known = list(zip(evidence.directions, evidence.slopes, strict=True))
    name = point.layer.names[k]
    first, slopes = held(*known[0]), known[0][1]
    if np.abs(first - slopes).max() <= _ALIKE * np.abs(slopes).max():
        return  # no mean over this axis counts
    if fits(held(v, slopes) for v, slopes in known):
        what = f"its means over axis {doubled.axis} of {name}, such as a mean and a variance"
        yield CauseCode.STATISTICS_CONSTANT, f"takes {what}, as constants"
        return
    for axes in _sets(evidence.claimed.ndim, doubled.axis):
        what = f"over axes {axes} of {name} as a constant"
        if fits(held(v, slopes) - held(_mean(v, axes)) for v, slopes in known):
            yield CauseCode.STATISTICS_CONSTANT, f"takes the variance {what}"
        elif fits(slopes + held(_mean(v, axes)) for v, slopes in known):
            yield CauseCode.STATISTICS_CONSTANT, f"takes the mean {what}"


def _mean(v: Array, axes: tuple[int, ...]) -> Array:
    return np.broadcast_to(v.mean(axis=axes, keepdims=True), v.shape)


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
