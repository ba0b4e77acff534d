"""A derivative taken at y for x, or at x for y."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_arrays, guarded

Found = Iterator[tuple[CauseCode, str]]


def exchanged_with_output(evidence: Evidence) -> Found:
    """The gradient with y in the place of an argument of y's shape, or the other way round.

    Of a formula that is right of y and is given x, the claim where y stands for x is the true gradient at x.
    """
    point = evidence.point
    for j in point.layer.wrt:
        array = point.arrays[j]
        if array is None or array.shape != point.y.shape or np.array_equal(array, point.y):
            continue
        name = point.layer.names[j]
        y = point.y.astype(array.dtype)
        for _ in guarded(_at_output(evidence, j, y)):
            yield CauseCode.AT_OUTPUT, f"is the true gradient for {name} = y: it takes y where {name} is meant"
        for _ in guarded(_at_input(evidence, j, y)):
            text = f"with y in the place of {name} it is the true gradient at {name}"
            yield CauseCode.AT_INPUT, f"takes {name} where y is meant: {text}"


def _at_output(evidence: Evidence, j: int, y: Array) -> Iterator[None]:
    point = evidence.point
    if evidence.fits_elsewhere(at_arrays(point, point.layer.with_array(point.arrays, j, y), point.dy), evidence.k):
        yield


def _at_input(evidence: Evidence, j: int, y: Array) -> Iterator[None]:
    point, k = evidence.point, evidence.k
    arrays = point.layer.with_array(point.arrays, j, y)
    cache = point.layer.value_and_cache(arrays)[1]
    there = replace(point, claimed={**point.claimed, k: point.layer.pull_back(arrays, point.dy, cache)[k]})
    if not np.isfinite(there.claimed[k]).all() or not there.claimed[k].any():
        return
    pairs = zip(evidence.directions, evidence.slopes, strict=True)
    if all(evidence.reference.matches(there, k, v, point.dy, slopes) for v, slopes in pairs):
        yield
