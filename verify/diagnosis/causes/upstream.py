"""The true gradient for another dy: what of dy is read, where, and in which order.

All of them are tested by the slopes along the directions that are known already: no forward is called.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from verify.checker.point import Array
from verify.checker.reference import with_upstream
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import windowed
from verify.diagnosis.causes.rearranged import MOST_LOST, mirrored, moved, orders

# A choice: one prediction for each image, which takes up to four forwards where it fits.
_MOST_IMAGES = 64


class Upstream(NamedTuple):
    """Another dy, the code it speaks for, and what it is."""

    code: CauseCode
    why: str
    dy: Array


def of_some_upstream(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """A part of dy, or none, whose true gradient is what the backward claims."""
    dy, images = evidence.point.dy, windowed(evidence.point)
    yield from _masks(evidence)
    yield from _fitting(evidence, itertools.chain(_filled(dy), _positive(dy), _alone(dy), _lost(dy, images)))


def of_rearranged_upstream(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """A dy in another order whose true gradient is what the backward claims."""
    yield from _fitting(evidence, _rearranged(evidence.point.dy, windowed(evidence.point)))


def _masks(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """dy where dy is positive and nothing, or a share of it, elsewhere: the mask of a relu, taken of dy."""
    claimed, dy = evidence.claimed, evidence.point.dy
    negative = dy < 0
    if claimed.shape != dy.shape or not negative.any() or negative.all():
        return
    largest = np.unravel_index(int(np.where(negative, -dy, 0).argmax()), dy.shape)
    slope = claimed[largest] / dy[largest]
    rounding = 2 * float(np.finfo(claimed.dtype).eps) * np.abs(dy)  # of the slope, and of the product
    if slope == 1 or not evidence.fits(np.where(negative, slope * dy, dy), rounding if slope else 0.0):
        return
    mirrored_claim = with_upstream(evidence.point, -dy).claimed[evidence.k]
    if (np.abs(mirrored_claim - np.where(negative, -dy, -slope * dy)) <= rounding).all():
        where = f", and {slope:.6g} times dy elsewhere" if slope else ""
        yield CauseCode.MASK_OF_UPSTREAM, f"is dy where dy is positive{where}: the mask is taken of dy"


def _fitting(evidence: Evidence, others: Iterator[Upstream]) -> Iterator[tuple[CauseCode, str]]:
    dy = evidence.point.dy
    for found in others:
        if not np.array_equal(found.dy, dy) and evidence.fits_upstream(found.dy):
            if found.code is CauseCode.MASK_OF_UPSTREAM and not _masked_by_its_sign(evidence):
                continue
            yield found.code, found.why


def _masked_by_its_sign(evidence: Evidence) -> bool:
    """Whether of -dy, too, the positive entries alone count: others may be lost for another reason."""
    other = with_upstream(evidence.point, -evidence.point.dy)
    kept = np.maximum(other.dy, 0)
    pairs = zip(evidence.directions, evidence.slopes, strict=True)
    return all(evidence.reference.matches(other, evidence.k, v, kept, slopes) for v, slopes in pairs)


def _filled(dy: Array) -> Iterator[Upstream]:
    if not dy.size:
        return
    yield Upstream(CauseCode.UPSTREAM_IGNORED, "is the true gradient for dy = 1", np.ones_like(dy))
    if dy.size > 1:
        why = f"is the true gradient for dy = {float(dy.flat[0]):.6g}, its first entry, everywhere"
        yield Upstream(CauseCode.UPSTREAM_BROADCAST, why, np.full_like(dy, dy.flat[0]))
    if dy.ndim > 1 and len(dy) > 1:
        why = "is the true gradient for dy of the first image in the place of every image's"
        yield Upstream(CauseCode.UPSTREAM_BROADCAST, why, np.broadcast_to(dy[:1], dy.shape))


def _positive(dy: Array) -> Iterator[Upstream]:
    why = "is the true gradient for dy with its negative entries set to 0: a mask is taken of dy"
    yield Upstream(CauseCode.MASK_OF_UPSTREAM, why, np.maximum(dy, 0))


def _alone(dy: Array) -> Iterator[Upstream]:
    """One image of the batch; one position along the other axes."""
    if dy.ndim and 1 < len(dy) <= _MOST_IMAGES:
        for image in range(len(dy)):
            why = f"counts image {image} of the batch of {len(dy)} alone"
            yield Upstream(CauseCode.ONE_IMAGE_ONLY, why, _masked(dy, (0,), slice(image, image + 1)))
    long = [axis for axis in range(dy.ndim) if dy.shape[axis] > 1]
    for count in range(len(long), 0, -1):
        for axes in itertools.combinations(long, count):
            if axes == (0,):
                continue
            for which, only in (("first", slice(0, 1)), ("last", slice(-1, None))):
                why = f"counts the {which} position along y's axes {axes} alone"
                # Of images and positions both, one: a loop over all of them assigned where it should add.
                code = CauseCode.OVERLAP_ASSIGNED if 0 in axes else CauseCode.ONE_POSITION_ONLY
                yield Upstream(code, why, _masked(dy, axes, only))


def _lost(dy: Array, images: bool) -> Iterator[Upstream]:
    """As many rows as columns; all but the last slices along an axis, or along the last two.

    One row more than columns may be a remainder as well, and that mistake is the commoner one: it is named first.
    """
    longer = abs(dy.shape[-1] - dy.shape[-2]) if images and dy.ndim > 2 else 0
    if longer > 1:
        yield _square(dy)
    for axes in [(axis,) for axis in reversed(range(dy.ndim))] + [tuple(range(dy.ndim))[-2:]]:
        for lost in range(1, min(MOST_LOST + 1, min((dy.shape[axis] for axis in axes), default=0))):
            why = f"counts all but the last {lost} along y's axes {axes}"
            yield Upstream(CauseCode.REMAINDER_LOST, why, _masked(dy, axes, slice(0, -lost)))
    if longer == 1:
        yield _square(dy)


def _square(dy: Array) -> Upstream:
    """As many rows as columns."""
    axes = dy.ndim - 2, dy.ndim - 1
    why = "counts as many rows of y as columns: height and width are exchanged in the bounds of a loop"
    return Upstream(CauseCode.HEIGHT_WIDTH, why, _masked(dy, axes, slice(0, min(dy.shape[-2:]))))


def _rearranged(dy: Array, images: bool) -> Iterator[Upstream]:
    places = np.arange(math.prod(dy.shape)).reshape(dy.shape)
    for found in itertools.chain(orders(places, images=images), mirrored(places), moved(places)):
        kept = (CauseCode.SHIFTED, CauseCode.HEIGHT_WIDTH)
        code = found.code if found.code in kept else CauseCode.DY_LAYOUT
        values = np.where(found.places < 0, 0, dy.reshape(-1)[found.places]).astype(dy.dtype)
        yield Upstream(code, f"is the true gradient for a dy that {found.why}", values)


def _masked(dy: Array, axes: tuple[int, ...], kept: slice) -> Array:
    """dy with zeros but in this slice along each of the axes."""
    masked = np.zeros_like(dy)
    place = tuple(kept if axis in axes else slice(None) for axis in range(dy.ndim))
    masked[place] = dy[place]
    return masked
