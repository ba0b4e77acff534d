"""Ties and kinks: what is wrong off them is sought off them; what is right there is wrong in its choice alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from verify.checker.directions import unit
from verify.checker.exact_numbers import draw_integers
from verify.checker.point import Array, Arrays, Point
from verify.checker.reference import Reference, point_at
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import FEWEST_WRONG, weighed
from verify.diagnosis.causes.slopes import elementwise

# Directions of 6 bits, or basis vectors, cross no gap of four times their largest.
_GAP_BITS, _DY_BITS = 9, 10


# A choice: each entry takes two forwards, unless the function is one of each entry alone.
_MOST_AT_TIES = 512

# All positive shows most of a relu. Mirrored shows what is flat as the arrays are.
SIDES = ("positive", "as given", "mirrored")


def off_ties(point: Point, side: str) -> Point:
    """A point of integers in gaps, in the order and with the signs of the arrays, mirrored, or all positive.

    Of equal entries the first becomes the largest; zeros become negative.
    """
    layer = point.layer
    values = np.concatenate([np.ravel(np.asarray(point.arrays[k], np.float64)) for k in layer.wrt])
    order = np.lexsort((-np.arange(values.size), values))
    rank = np.empty_like(order)
    rank[order] = np.arange(values.size)
    below = 0 if side == "positive" else np.count_nonzero(values <= 0)
    gapped = (2 * (rank - below) + 1) * 2 ** (_GAP_BITS - 1) * (-1 if side == "mirrored" else 1)
    arrays: Arrays = point.arrays
    start = 0
    for k in layer.wrt:
        array = layer.arrays[k]
        part = gapped[start : start + array.size].reshape(array.shape).astype(array.dtype)
        arrays, start = layer.with_array(arrays, k, part), start + array.size
    rng = np.random.default_rng(0)
    return point_at(layer, arrays, lambda y: draw_integers(rng, y.shape, _DY_BITS, y.dtype))


def at_ties(reference: Reference, point: Point, k: int) -> Iterator[tuple[CauseCode, str]]:
    """The choices at ties and kinks that are what the backward claims."""
    claimed: Any = point.claimed[k]
    if claimed.size > _MOST_AT_TIES:
        return
    ahead, behind = (side * _columns(reference, point, k, side) for side in (1, -1))
    kinked = ahead != behind
    counts = kinked.sum(axis=0)  # of the entries tied, for each entry of y
    tied = int(counts.max(initial=0))
    first = kinked & (np.cumsum(kinked, axis=0) == 1)
    if np.count_nonzero(kinked.any(axis=tuple(range(1, kinked.ndim)))) < FEWEST_WRONG:
        return
    code = CauseCode.ALL_TIES_REWARDED if tied > 1 else CauseCode.WRONG_SIDE_OF_KINK
    for columns, other in ((ahead, behind), (behind, ahead)):
        smooth = np.where(kinked, 0, columns)
        nothing = not columns[kinked].any()
        for least in np.unique(counts[counts > 1]) if nothing else ():
            if _fits(point, claimed, columns + np.where(first & (counts > 1) & (counts < least), other, 0)):
                beyond = "" if least == counts[counts > 1].min() else f" where {least} or more are tied"
                yield CauseCode.WRONG_TIE_WINNER, f"gives nothing to the entries tied{beyond}"
        if not (tied > 1 and nothing) and _fits(point, claimed, columns):
            yield code, "is what each entry would get alone at a tie" if tied > 1 else "takes the other side's slope"
        last = kinked & (np.cumsum(kinked[::-1], axis=0)[::-1] == 1)
        if tied > 1 and _fits(point, claimed, smooth + np.where(last, columns, np.where(kinked, other, 0))):
            yield CauseCode.WRONG_TIE_WINNER, "gives all to the last of the entries tied"
        share = columns / np.maximum(counts, 1)
        if tied > 1 and _fits(point, claimed, smooth + np.where(kinked, share, 0)):
            yield CauseCode.WRONG_TIE_WINNER, "gives an equal share to each of the entries tied"
    if tied == 1 and _fits(point, claimed, (ahead + behind) / 2):
        yield CauseCode.WRONG_SIDE_OF_KINK, "takes the mean of both sides' slopes"


def _columns(reference: Reference, point: Point, k: int, side: int) -> Array:
    shape = point.claimed[k].shape
    alone = elementwise(reference.slopes, point, k, side)
    if alone is not None:
        return alone
    return np.array([reference.slopes(point, k, side * unit(point, k, index)) for index in np.ndindex(*shape)])


def _fits(point: Point, claimed: Array, columns: Array) -> bool:
    """Whether the claim is what these columns make; the shares of a tie are rounded, as any sum of y.size products."""
    predicted = weighed(point, columns).reshape(claimed.shape)
    scale = weighed(point, np.abs(columns) * np.sign(point.dy)).reshape(claimed.shape)
    allowed = point.y.size * float(np.finfo(claimed.dtype).eps) * np.abs(scale)
    whole = np.array_equal(predicted, np.rint(predicted))
    close = np.abs(claimed - predicted) <= (0 if whole else allowed)
    return bool(close.all() and np.count_nonzero(predicted) >= FEWEST_WRONG)
