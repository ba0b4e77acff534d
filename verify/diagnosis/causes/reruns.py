"""What a few more calls tell: backward twice, of dy of another size, between the forwards of other arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from verify.checker.point import Array, Arrays, Point
from verify.checker.reference import scaled
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import FEWEST_WRONG, Evidence
from verify.diagnosis.causes.options import at_arrays

# To which dy is scaled, as powers of two: small beside any threshold on what is large, and the other way round.
_POWERS = (0, 10, -10)


def stateful(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """State that a backward keeps, or a forward leaves to it."""
    point, k = evidence.point, evidence.k
    layer = point.layer
    _, cache = layer.value_and_cache(point.arrays)
    first, second = (layer.pull_back(point.arrays, point.dy, cache)[k].copy() for _ in range(2))
    if not np.array_equal(first, second, equal_nan=True):
        known = ~np.isnan(evidence.true)
        # Of the two sums and of what they are less by: three roundings.
        rounding = 2 * float(np.finfo(first.dtype).eps) * (np.abs(first) + np.abs(second))
        grown = np.abs(second - first - evidence.true) <= rounding + evidence.reference.allowed(
            point, k, np.nan_to_num(evidence.true)
        )
        if grown[known].all() and (np.abs(evidence.true) > rounding)[known].any():
            yield CauseCode.ACCUMULATES, "grows by the true gradient when backward is called again"
        else:
            yield CauseCode.RANDOM, "is another when backward is called again"
        return
    moved = _moved(evidence)
    other = at_arrays(point, moved, point.dy)
    slopes = [evidence.reference.slopes(other, k, v) for v in evidence.directions]
    for when, order in (("the forward before", (moved, point.arrays)), ("the latest forward", (point.arrays, moved))):
        caches = [layer.value_and_cache(arrays)[1] for arrays in order]
        late = layer.pull_back(point.arrays, point.dy, caches[0 if order[0] is point.arrays else 1])[k]
        # A function that is affine in its own array has the same slopes elsewhere: they say nothing.
        differ = not evidence.reference.matches(point, k, evidence.directions[0], point.dy, slopes[0])
        of_other = replace(point, claimed={**point.claimed, k: late})
        pairs = zip(evidence.directions, slopes, strict=True)
        if differ and all(evidence.reference.matches(of_other, k, v, point.dy, each) for v, each in pairs):
            yield CauseCode.STALE_CACHE, f"is the true gradient of {when}, not of its cache's"
            return


def with_large_dy(point: Point) -> Point:
    """The point with a dy that is not small: a gradient that is cut to whole numbers is 0 of small ones."""
    exponent = int(np.frexp(np.abs(point.dy).max(initial=0.0))[1])
    return point if exponent > min(_POWERS) else scaled(point, 2.0 ** (max(_POWERS) - exponent))


def not_linear(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """A gradient that is right for the same dy, made smaller or larger: it is cut off, or clipped."""
    point, k = evidence.point, evidence.k
    exponent = int(np.frexp(np.abs(point.dy).max(initial=0.0))[1])
    for power in _POWERS:  # of a power of two nothing rounds
        other = scaled(point, 2.0 ** (power - exponent))
        if np.array_equal(other.claimed[k] / 2.0 ** (power - exponent), point.claimed[k]):
            continue  # it is as wrong there, whatever is tolerated
        known = zip(evidence.directions, evidence.slopes, strict=True)
        if all(evidence.reference.matches(other, k, v, other.dy, slopes) for v, slopes in known):
            size = f"2^{power - exponent}" if power > exponent else f"2^-{exponent - power}"
            yield (
                CauseCode.NOT_LINEAR,
                f"is right for {size} dy: it cuts off what is small, clips what is large, or loses accuracy",
            )
            return


def ignores_upstream(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """A gradient that stays as it is for twice the upstream gradient."""
    point, k = evidence.point, evidence.k
    if np.count_nonzero(np.nan_to_num(evidence.true)) < FEWEST_WRONG:
        return  # the true gradient does not change, either
    _, cache = point.layer.value_and_cache(point.arrays)
    doubled = point.layer.pull_back(point.arrays, 2 * point.dy, cache)[k]
    if evidence.claimed.any() and np.array_equal(doubled, evidence.claimed):
        yield CauseCode.UPSTREAM_IGNORED, "does not change when dy is doubled"


def _moved(evidence: Evidence) -> Arrays:
    """Other arrays, as exact as these: every one mirrored about 0 and turned by one entry."""
    point = evidence.point
    arrays: Arrays = tuple(point.arrays)
    for k in point.layer.wrt:
        array: Any = arrays[k]
        turned: Array = -np.roll(array, 1)
        arrays = point.layer.with_array(arrays, k, turned)
    return arrays
