"""A derivative taken at y for x, or at x for y."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from verify.checker.exact_numbers import draw_integers
from verify.checker.point import Array, Arrays, Point
from verify.checker.reference import point_at
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_arrays, guarded

Found = Iterator[tuple[CauseCode, str]]
# Integers whose products and sums leave room for another such product.
_SMALL_BITS = 3


def exchanged_with_output(evidence: Evidence) -> Found:
    """The gradient with y in the place of an argument of y's shape, or the other way round.

    Of a formula that is right of y and is given x, the claim where y stands for x is the true gradient at x.
    """
    point, slopes = evidence.point, evidence.slopes
    if evidence.reference.exact:  # y is too large to stand for an argument
        point = _small(point)
        slopes = tuple(evidence.slopes_at(point, evidence.k, v) for v in evidence.directions)
        if _matches(evidence, point, slopes):
            return
    for j in point.layer.wrt:
        array = point.arrays[j]
        if array is None or array.shape != point.y.shape or np.array_equal(array, point.y):
            continue
        name = point.layer.names[j]
        arrays = point.layer.with_array(point.arrays, j, point.y.astype(array.dtype))
        for _ in guarded(_at_output(evidence, point, arrays)):
            yield CauseCode.AT_OUTPUT, f"is the true gradient for {name} = y: it takes y where {name} is meant"
        for _ in guarded(_at_input(evidence, point, arrays, slopes)):
            text = f"with y in the place of {name} it is the true gradient at {name}"
            yield CauseCode.AT_INPUT, f"takes {name} where y is meant: {text}"


def _at_output(evidence: Evidence, point: Point, arrays: Arrays) -> Iterator[None]:
    evidence.spend()
    other = at_arrays(point, arrays, point.dy)
    if _matches(evidence, point, (evidence.slopes_at(other, evidence.k, v) for v in evidence.directions)):
        yield


def _at_input(evidence: Evidence, point: Point, arrays: Arrays, slopes: Iterable[Array]) -> Iterator[None]:
    cache = point.layer.value_and_cache(arrays)[1]
    claimed = point.layer.pull_back(arrays, point.dy, cache)
    if not np.isfinite(claimed[evidence.k]).all() or not claimed[evidence.k].any():
        return
    if _matches(evidence, replace(point, claimed=claimed), slopes):
        yield


def _matches(evidence: Evidence, point: Point, slopes: Iterable[Array]) -> bool:
    """Whether what is claimed at the point are these slopes, weighed by its dy."""
    pairs = zip(evidence.directions, slopes, strict=True)
    return all(evidence.reference.matches(point, evidence.k, v, point.dy, each) for v, each in pairs)


def _small(point: Point) -> Point:
    """A point at small whole numbers."""
    generator = np.random.default_rng(0)
    arrays: Arrays = tuple(point.arrays)
    for j in point.layer.wrt:
        array: Any = arrays[j]
        arrays = point.layer.with_array(arrays, j, draw_integers(generator, array.shape, _SMALL_BITS, array.dtype))
    return point_at(point.layer, arrays, lambda y: draw_integers(generator, y.shape, _SMALL_BITS, y.dtype))
