"""At a gradient that extrapolated differences call wrong: kinks, or a wrong entry?

Entries at kinks are found by halving: along them one-sided derivatives differ. What may be claimed there lies between
them (Clarke 1983), entry by entry of y, give or take what they may be off by; all others are checked without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from verify.checker.exact_numbers import Array, signed
from verify.checker.extrapolation import SAFETY, Estimate, Extrapolated, Ladder, to_zero
from verify.checker.locate import descend, restricted

MOST_KINKS = 64
_BESIDE = 8
# Where slopes change at 0 central differences like short steps, and one-sided ones need not.
_COARSER = 12


class SecondLook(NamedTuple):
    """At a gradient that disagrees along v: kinks, or a wrong entry?"""

    point: Extrapolated
    k: int
    v: Array
    other: Array
    found: Estimate

    def kinked(self) -> list[int] | None:
        """The coordinates of v, in flat order, along which one-sided derivatives differ; None if there are too many."""
        kinked: list[int] = []
        groups = [np.flatnonzero(self.v)]
        while groups:
            group = groups.pop()
            if not any(self._interval(restricted(each, group))[2] for each in (self.v, self.other)[: len(group)]):
                continue
            if len(group) > 1:
                groups += np.array_split(group, 2)
            else:
                kinked.append(int(group[0]))
                if len(kinked) > MOST_KINKS:
                    return None
        return kinked

    def wrong_at(self, kinked: list[int]) -> tuple[tuple[int, ...] | None, float]:
        """The index of a wrong entry: outside its interval, or, where there is no kink, off.

        And what the ends of these intervals may be off by, in one entry.
        """
        widest = 0.0
        for coordinate in kinked:
            part = restricted(self.v, np.array([coordinate]))
            low, high, _, doubt = self._interval(part)
            widest = max(widest, doubt / abs(float(self.v.flat[coordinate])))
            if not low <= self.point.claimed(self.k, part) <= high:
                return self._index(coordinate), widest
        v = self.without(kinked)
        found = self.point.estimate(Ladder(self.point, self.k, v))
        whole = found.value - self.point.claimed(self.k, v)
        if abs(whole) <= SAFETY * found.error:
            return None, widest
        return descend(v, self._residual, whole)[0], widest

    def is_regular(self, kinked: list[int], generator: np.random.Generator) -> bool:
        """Whether beside the arrays, too, each entry of y has slopes between its one-sided derivatives (Clarke 1983).

        At a kink it is off by as much at any distance; what a slope that varies smoothly is off by falls with it.
        """
        point, k, shape = self.point, self.k, self.v.shape
        h = point.step(k, self.found.level + 2)
        off_kinks = [self.v] if not kinked else []
        for v in [restricted(signed(generator, shape), np.array([c])) for c in kinked[:_BESIDE]] + off_kinks:
            ahead, behind, error = self._one_sided(v)
            low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
            for _ in range(_BESIDE):
                u = generator.normal(size=shape)
                off = np.array([self._off(u, v, h / shorter, low, high, error) for shorter in (1, 4, 16)])
                if ((off > 0) & (off > np.roll(off, 1, axis=0) / 2)).all(axis=0).any():
                    return False
        return True

    def _off(self, u: Array, v: Array, distance: float, low: Array, high: Array, error: Array) -> Array:
        """How far the slope along v of each entry of y, so far along u, is from what lies between; NaN at a kink."""
        point, step = self.point, distance / 16
        beside = replace(point, arrays=point.subject.moved(point.arrays, self.k, distance * u))
        beside = replace(beside, y=point.subject.value(beside.arrays))
        ahead, behind = beside.differences(self.k, v, step)
        # The noise is that of sum(dy * f).
        rounding = float(np.finfo(point.y.dtype).eps) * np.abs(point.y)
        # Of an entry with nothing upstream nothing is known.
        unknown = np.full(point.dy.shape, np.inf)
        uncertain = rounding + np.divide(self.found.noise, np.abs(point.dy), out=unknown, where=point.dy != 0)
        kink = np.abs(ahead + behind) > 0.01 * np.abs(ahead - behind) + SAFETY * uncertain
        there = np.where(kink, np.nan, (ahead - behind) / (2 * step))
        return np.asarray(np.maximum(low - there, there - high) - SAFETY * (error + uncertain / step))

    def without(self, kinked: list[int]) -> Array:
        """v with these coordinates at rest."""
        return restricted(self.v, np.setdiff1d(np.arange(self.v.size), kinked))

    def _one_sided(self, v: Array) -> tuple[Array, Array, Array]:
        """By the window that tells them best: they bear less noise, and so longer steps, than central differences."""
        levels = range(max(0, self.found.level - _COARSER), self.found.level + 1)
        return self.point.one_sided(self.k, v, levels, self.found.noise)

    def _interval(self, v: Array) -> tuple[float, float, bool, float]:
        """The least and the largest that may be claimed along v, whether any entry of y has a kink, and the doubt."""
        ahead, behind, error = self._one_sided(v)
        doubt = SAFETY * float((np.abs(self.point.dy) * error).sum())
        ends = np.sort([(self.point.dy * side).ravel() for side in (ahead, behind)], axis=0).sum(axis=1)
        # The error bounds what roundings, and noise as large as any seen, may do to both.
        kinked = bool((np.abs(ahead - behind) > error).any())
        return float(ends[0]) - doubt, float(ends[1]) + doubt, kinked, doubt

    def _residual(self, v: Array) -> float:
        """By two steps only, four forwards: enough to tell which half is wrong."""
        steps = [self.point.step(self.k, each) for each in (self.found.level, self.found.level + 1)]
        changes = [self.point.differences(self.k, v, h) for h in steps]
        rows = [self.point.weigh(one - two) / (2 * h) for (one, two), h in zip(changes, steps, strict=True)]
        return float(to_zero(np.array(rows), even=True)) - self.point.claimed(self.k, v)

    def _index(self, coordinate: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(coordinate, self.v.shape))
