"""Ties and kinks: what is wrong off them is sought off them; what is right there is wrong in its choice alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from verify.checker.exact import Differences
from verify.checker.exact_numbers import Array
from verify.checker.layer import Arrays
from verify.checker.references.at_ties import AtKinks
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import FEWEST_WRONG, MOST_ENTRIES, weighed

# Directions of 6 bits, or basis vectors, cross no gap of four times their largest.
_GAP_BITS, _DY_BITS = 9, 10


# All positive, where a relu shows most; as the arrays are; mirrored: what is flat on one side shows on another.
SIDES = ("positive", "as given", "mirrored")


def off_ties(point: Differences, side: str) -> Differences:
    """A point of integers in gaps, in the order and with the signs of the arrays, mirrored, or all positive.

    Of equal entries the first becomes the largest; zeros become negative.
    """
    subject = point.subject
    values = np.concatenate([np.ravel(np.asarray(point.arrays[k], np.float64)) for k in subject.wrt])
    order = np.lexsort((-np.arange(values.size), values))
    rank = np.empty_like(order)
    rank[order] = np.arange(values.size)
    below = 0 if side == "positive" else np.count_nonzero(values <= 0)
    gapped = (2 * (rank - below) + 1) * 2 ** (_GAP_BITS - 1) * (-1 if side == "mirrored" else 1)
    arrays: Arrays = point.arrays
    start = 0
    for k in subject.wrt:
        array = subject.arrays[k]
        part = gapped[start : start + array.size].reshape(array.shape).astype(array.dtype)
        arrays, start = subject.with_array(arrays, k, part), start + array.size
    return Differences.draw(subject, arrays, _DY_BITS, np.random.default_rng(0))


def at_ties(point: AtKinks, k: int) -> Iterator[tuple[CauseCode, str]]:
    """The choices at ties and kinks that are what the backward claims."""
    claimed: Any = point.gradients[k]
    if claimed.size > MOST_ENTRIES:
        return
    ahead, behind = (side * _columns(point, k, side) for side in (1, -1))
    kinked = ahead != behind
    tied = int(kinked.sum(axis=0).max(initial=0))  # of entries that one entry of y hangs on
    if np.count_nonzero(kinked.any(axis=tuple(range(1, kinked.ndim)))) < FEWEST_WRONG:
        return
    code = CauseCode.ALL_TIES_REWARDED if tied > 1 else CauseCode.WRONG_SIDE_OF_KINK
    for columns, other in ((ahead, behind), (behind, ahead)):
        smooth = np.where(kinked, 0, columns)
        if _fits(point, claimed, columns):
            yield code, "is what each entry would get alone at a tie" if tied > 1 else "takes the other side's slope"
        last = kinked & (np.cumsum(kinked[::-1], axis=0)[::-1] == 1)
        if tied > 1 and _fits(point, claimed, smooth + np.where(last, columns, np.where(kinked, other, 0))):
            yield CauseCode.WRONG_TIE_WINNER, "gives all to the last of the entries tied"
        share = columns / np.maximum(kinked.sum(axis=0), 1)
        if tied > 1 and _fits(point, claimed, smooth + np.where(kinked, share, 0)):
            yield CauseCode.WRONG_TIE_WINNER, "gives an equal share to each of the entries tied"
    if tied == 1 and _fits(point, claimed, (ahead + behind) / 2):
        yield CauseCode.WRONG_SIDE_OF_KINK, "takes the mean of both sides' slopes"


def _columns(point: AtKinks, k: int, side: int) -> Array:
    shape = point.gradients[k].shape
    return np.array([point.slopes(k, side * point.unit(k, index)) for index in np.ndindex(*shape)])


def _fits(point: AtKinks, claimed: Array, columns: Array) -> bool:
    """Whether the claim is what these columns make; the shares of a tie are rounded, as any sum of y.size products."""
    predicted = weighed(point, columns).reshape(claimed.shape)
    scale = weighed(point, np.abs(columns) * np.sign(point.dy)).reshape(claimed.shape)
    allowed = point.y.size * float(np.finfo(claimed.dtype).eps) * np.abs(scale)
    whole = np.array_equal(predicted, np.rint(predicted))
    close = np.abs(claimed - predicted) <= (0 if whole else allowed)
    return bool(close.all() and np.count_nonzero(predicted) >= FEWEST_WRONG)
