"""A gradient that is nearly the true one: everywhere a little off, smoothly, as an epsilon left out makes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from verify.checker.point import Array, Arrays, Point
from verify.checker.reference import with_upstream
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import FEWEST_WRONG, Evidence
from verify.diagnosis.causes.options import at_arrays

# An epsilon is small beside what it is added to.
_SMALL = 1e-2
# How far the arrays are moved, and by how much the error may then change. A smooth error changes by some parts in a
# thousand, one of rounding by as much as itself.
_MOVED, _CHANGED = 2.0**-10, 0.25


def small_constant(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """An error that is small in every entry, and changes little where the arrays move a little."""
    known = ~np.isnan(evidence.true)
    off = np.abs(evidence.claimed - evidence.true)[known]
    largest = float(np.abs(evidence.true[known]).max(initial=0.0))
    if not 0 < off.max(initial=0.0) <= _SMALL * largest:
        return
    if evidence.wrong < max(FEWEST_WRONG, np.count_nonzero(evidence.true[known]) / 2):
        return
    error = _error(evidence, evidence.point)
    beside = _error(evidence, _beside(evidence))
    if not error.any() or np.abs(beside - error).max() > _CHANGED * np.abs(error).max():
        return
    share = f"by {float(off.max()) / largest:.2g} of the largest entry at most"
    text = "the two are a small constant apart, such as an epsilon of the forward that backward leaves out"
    yield CauseCode.SMALL_CONSTANT, f"differs from the true gradient {share}, smoothly: {text}"


def _error(evidence: Evidence, point: Point) -> Array:
    """<da, v> - <dy, J v> along the directions."""
    slopes = [evidence.slopes_at(point, evidence.k, v) for v in evidence.directions]
    claimed = point.claimed[evidence.k]
    pairs = zip(evidence.directions, slopes, strict=True)
    return np.array([float((claimed * v).sum()) - float((point.dy * each).sum()) for v, each in pairs])


def _beside(evidence: Evidence) -> Point:
    """The point a little to the side of this one, in every array."""
    point = evidence.point
    generator = np.random.default_rng(0)
    arrays: Arrays = tuple(point.arrays)
    for j in point.layer.wrt:
        array: Any = arrays[j]
        size = _MOVED * float(np.abs(array).mean()) if array.size else 0.0
        step = size * generator.choice([-1.0, 1.0], size=array.shape)
        arrays = point.layer.with_array(arrays, j, (array + step).astype(array.dtype))
    return with_upstream(at_arrays(point, arrays, point.dy), point.dy)
