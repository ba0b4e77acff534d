"""One call, made again: what differs then is random, or grows. No true gradient is needed to see that."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from verify.checker.point import Array, Point
from verify.diagnosis.causes.codes import CauseCode

# Three forwards, each with its backward, show by two equal steps that a gradient grows; so do four backwards.
_FORWARDS, _BACKWARDS = 3, 3
# Of two sums that are subtracted, and of what is subtracted from that: a rounding each.
_ROUNDINGS = 8


RANDOM = "is another when the same call is made again"


class Repeats(NamedTuple):
    """The gradients of the same arrays and dy: as first claimed, after new forwards, and of the last of these again."""

    claimed: dict[int, Array]
    anew: tuple[dict[int, Array], ...]
    again: tuple[dict[int, Array], ...]

    @classmethod
    def of(cls, point: Point) -> Repeats:
        """Call forward and backward a few times more, at the point."""
        layer, arrays = point.layer, point.arrays
        anew = []
        for _ in range(_FORWARDS):
            cache = layer.value_and_cache(arrays)[1]
            anew.append(layer.pull_back(arrays, point.dy, cache))
        again = tuple(layer.pull_back(arrays, point.dy, cache) for _ in range(_BACKWARDS))
        return cls(point.claimed, tuple(anew), again)

    def cause(self, k: int, *, exact: bool) -> tuple[CauseCode, str] | None:
        """What differs of argument k, in words; None if nothing but rounding does, of exact numbers nothing."""
        anew, again = ([each[k] for each in of] for of in (self.anew, self.again))
        every = [self.claimed[k], *anew, *again]
        if _same(every, exact):
            return None
        if _grows([anew[-1], *again]):
            return CauseCode.ACCUMULATES, "grows each time backward is called again: it adds to the one before"
        if _same([anew[-1], *again], exact) and _grows(anew):
            return CauseCode.ACCUMULATES, "grows with each forward: backward counts the forwards before, too"
        if _same([*anew[1:], *again], exact):  # the first came after another forward
            return CauseCode.STALE_CACHE, "is another after a forward of other arrays"
        if _same(anew, exact):
            return CauseCode.CACHE_OVERWRITTEN, "is another when backward is called again, until the next forward"
        return CauseCode.RANDOM, RANDOM

    def repeats(self, before: Repeats, k: int) -> bool:
        """Whether the same calls gave the same gradients before."""
        pairs = zip((*self.anew, *self.again), (*before.anew, *before.again), strict=True)
        return all(np.array_equal(one[k], other[k], equal_nan=True) for one, other in pairs)


def _same(gradients: Sequence[Array], exact: bool) -> bool:
    """Whether all are equal. Sums of floats in another order round otherwise, but of exact numbers they do not."""
    first = gradients[0]
    if all(np.array_equal(first, each, equal_nan=True) for each in gradients[1:]):
        return True
    if exact or not all(np.isfinite(each).all() for each in gradients):
        return False
    rounding = first.size * float(np.finfo(first.dtype).eps) * max(float(np.abs(each).max()) for each in gradients)
    return all(bool((np.abs(each - first) <= rounding).all()) for each in gradients[1:])


def _grows(gradients: Sequence[Array]) -> bool:
    """Whether each is the one before and a step more, where the steps have one ratio."""
    steps = [later - earlier for earlier, later in itertools.pairwise(gradients)]
    largest = np.unravel_index(int(np.nan_to_num(np.abs(steps[0])).argmax()), steps[0].shape)
    if not steps[0][largest] or not steps[1][largest]:
        return False
    ratio = steps[1][largest] / steps[0][largest]
    eps = float(np.finfo(gradients[0].dtype).eps)
    rounding = _ROUNDINGS * eps * (1 + abs(ratio)) * max(float(np.nan_to_num(np.abs(each)).max()) for each in gradients)
    pairs = itertools.pairwise(steps)
    return ratio > 0 and all(bool((np.abs(later - ratio * step) <= rounding).all()) for step, later in pairs)
