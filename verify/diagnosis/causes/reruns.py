"""What a few more calls say: backward between the forwards of other arrays, and at those of the first forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from verify.checker.point import Array, Arrays, Point
from verify.checker.reference import with_upstream
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_arrays, attributes, guarded

Found = Iterator[tuple[CauseCode, str]]


def stateful(evidence: Evidence) -> Found:
    """State that a forward leaves to a backward: that of another forward than the cache's."""
    point, k, layer = evidence.point, evidence.k, evidence.point.layer
    moved = _moved(evidence)
    late = []
    for order in ((moved, point.arrays), (point.arrays, moved)):
        caches = [layer.value_and_cache(arrays)[1] for arrays in order]
        late.append(layer.pull_back(point.arrays, point.dy, caches[0 if order[0] is point.arrays else 1])[k])
    if not all(np.array_equal(each, point.claimed[k], equal_nan=True) for each in late):
        other = at_arrays(point, moved, point.dy)
        for when, each in zip(("the forward before", "the latest forward"), late, strict=True):
            if _is_gradient_at(evidence, other, replace(point, claimed={**point.claimed, k: each})):
                yield CauseCode.STALE_CACHE, f"is the true gradient of {when}, not of its cache's"
                return
    yield from guarded(_of_the_first(evidence, moved))


def _of_the_first(evidence: Evidence, moved: Arrays) -> Found:
    """A gradient that is the same for other arrays: that of the first forward of all, which the layer has kept."""
    point, k, layer = evidence.point, evidence.k, evidence.point.layer
    cache = layer.value_and_cache(moved)[1]
    there = layer.pull_back(moved, point.dy, cache)[k]
    if not np.array_equal(there, point.claimed[k]):
        return
    grown = _grown(point)
    piles = f": forwards pile up in its {', '.join(grown)}" if grown else ""
    if layer.first is not None and _is_gradient_at(evidence, at_arrays(point, layer.first, point.dy), point):
        yield CauseCode.STALE_CACHE, f"is the true gradient of the first forward, not of its cache's{piles}"
    elif grown and _is_right_of_emptied(evidence, grown):
        yield CauseCode.STALE_CACHE, f"is that of an earlier forward{piles}"


def _is_right_of_emptied(evidence: Evidence, grown: Mapping[str, Any]) -> bool:
    """Whether the gradient is right of a layer whose lists that grow are emptied before the forward."""
    point, k = evidence.point, evidence.k
    before = [(each, each.copy()) for each in grown.values()]
    try:
        for each in grown.values():
            each.clear()
        alone = with_upstream(point, point.dy)
    finally:
        for each, kept in before:
            each.clear()
            (each.update if isinstance(each, dict) else each.extend)(kept)
    pairs = zip(evidence.directions, evidence.slopes, strict=True)
    return all(evidence.reference.matches(alone, k, v, point.dy, slopes) for v, slopes in pairs)


def _is_gradient_at(evidence: Evidence, other: Point, claim: Point) -> bool:
    """Whether the claim is the true gradient at another point, and that is another than the true one here.

    A function that is affine in its own array has the same slopes elsewhere: they say nothing.
    """
    reference, k, dy = evidence.reference, evidence.k, evidence.point.dy
    fits = all(reference.matches(claim, k, v, dy, evidence.slopes_at(other, k, v)) for v in evidence.directions)
    return fits and not reference.matches(claim, k, evidence.directions[0], dy, evidence.slopes[0])


def _grown(point: Point) -> dict[str, Any]:
    """The lists and dicts among the layer's attributes that are longer after a forward."""
    owner = getattr(point.layer.forward, "layer", getattr(point.layer.forward, "__self__", None))
    before = {name: len(value) for name, value in _containers(owner).items()}
    point.layer.value(point.arrays)
    return {name: value for name, value in _containers(owner).items() if len(value) > before.get(name, len(value))}


def _containers(owner: Any) -> dict[str, Any]:
    kept = {name: value for name, value in attributes(owner).items() if isinstance(value, (list, dict))}
    for name, value in list(kept.items()):
        inner = value.items() if isinstance(value, dict) else ()
        kept.update({f"{name}[{key!r}]": each for key, each in inner if isinstance(each, (list, dict))})
    return kept


def _moved(evidence: Evidence) -> Arrays:
    """Other arrays, as exact as these: every one mirrored about 0 and turned by one entry."""
    point = evidence.point
    arrays: Arrays = tuple(point.arrays)
    for k in point.layer.wrt:
        array: Any = arrays[k]
        turned: Array = -np.roll(array, 1)
        arrays = point.layer.with_array(arrays, k, turned)
    return arrays
