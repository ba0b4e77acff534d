"""A second opinion on what passed, under every reference: backward is linear in dy.

A power of two goes through every product and sum without rounding. So the gradient for c dy is c times that for dy,
to the last bit, where c is a power of two. dy is negated and made so small that no entry exceeds 2^-32. It is also
negated and made larger by 2^20. A threshold, a clip or a quantisation of dy shows, and so does a random backward.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from verify.checker.directions import index_of
from verify.checker.layer import NoResult
from verify.checker.point import Array, Point, Worst
from verify.checker.reference import asked_again

# Nothing overflows by 2^20, or underflows at 2^-32. In a dtype of a smaller range, an eighth of its exponents keeps
# clear of both ends: 16 in float32.
_POWER, _SMALL, _SHARE_OF_EXPONENTS = 20, 32, 8
# A backward may halve a large dy until it is small, and square as often. It loses a bit each time. 1,200 of PyTorch's
# matrix exponentials lost at most 15 roundings of the largest dy. In float32 64 roundings would be all there is,
# so a millionth is the most.
_ROUNDINGS, _MOST_LOST = 64, 2.0**-20


class Opinion(NamedTuple):
    """How far gradients for a scaled dy are off, relative to the largest entry; if that is too far, what shows it."""

    off: float
    worst: Worst | None = None
    point: Point | None = None
    note: str = ""
    repeated: bool = True  # whether the forward gave the same y again


def opinions(point: Point, floors: dict[int, float]) -> dict[int, Opinion]:
    """Compare the gradients for scaled dy; `floors` are the errors that the check might have missed."""
    found: dict[int, Opinion] = {}
    if not floors:
        return found
    dtypes = (point.dy.dtype, *(point.claimed[k].dtype for k in floors))  # the smallest range counts
    range_bits = min(int(np.finfo(dtype).maxexp) for dtype in dtypes) // _SHARE_OF_EXPONENTS
    bits = min(_POWER, range_bits)
    # Made small, no entry exceeds 2^-32, however large the integers are that an exact reference draws.
    down = min(_SMALL, range_bits) + math.frexp(float(np.abs(point.dy).max(initial=0.0)))[1]
    for factor, size in ((-(2.0**-down), f"/2^{down}"), (-(2.0**bits), f" * 2^{bits}")):
        large = abs(factor) > 1
        try:
            with np.errstate(over="ignore" if large else None, invalid="ignore" if large else None):
                other, same = asked_again(point, point.dy * point.dy.dtype.type(factor))
        except NoResult:
            if large:  # backward may refuse that
                continue
            raise
        for k in floors:
            now, before = _opinion(point, other, k, factor, floors[k]), found.get(k, Opinion(0.0))
            if now.worst is not None:
                now = now._replace(note=f"of -dy{size}: backward is not linear in dy")
            off, repeated = max(before.off, now.off), before.repeated and same
            found[k] = (before if before.worst else now)._replace(off=off, repeated=repeated)
        del other  # before the next one is made: a large check then takes less memory
    return found


def _opinion(point: Point, other: Point, k: int, factor: float, floor: float) -> Opinion:
    gradient, answer = point.claimed[k], other.claimed[k]
    if abs(factor) > 1:
        if not np.isfinite(answer).all():  # it overflows, which says nothing
            return Opinion(0.0)
        lost = _ROUNDINGS * float(np.finfo(point.dy.dtype).eps) * abs(factor) * float(np.abs(point.dy).max(initial=0.0))
        floor = max(floor, min(lost, _MOST_LOST))
    largest = float(np.abs(gradient).max()) or 1.0
    off: Array = np.asarray(answer / gradient.dtype.type(factor))
    off -= gradient  # in place: a large check then takes less memory
    np.nan_to_num(np.abs(off, out=off), copy=False, nan=np.inf)
    share = float(off.max()) / largest
    if share <= floor:
        return Opinion(share)
    index = index_of(int(off.argmax()), off.shape)
    worst = Worst(k, index, float(answer[index]), factor * float(gradient[index]), floor * largest * abs(factor))
    return Opinion(share, worst, other)
