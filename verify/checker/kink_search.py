"""Where extrapolated differences disagree with a gradient: find the entries at kinks, by halving.

Along an entry at a kink the one-sided derivatives differ. What may be claimed there lies between them (Clarke 1983).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from verify.checker.directions import restricted, signed
from verify.checker.extrapolation import SAFETY, Estimate, one_sided
from verify.checker.line import Line
from verify.checker.point import Array, Point

# An error of a thousandth of an entry must not pass.
COARSEST = 1e-3
# Nor one of a sixteenth in float32: 40 recurrent layers of 60 outputs were known to 0.7 to 4 % (measured).
_COARSEST_SINGLE = 2.0**-4
# Each takes up to 2 log2(n) one-sided derivatives, of at most 36 forwards: 64 of a thousand entries, 46,000.
MOST_KINKS = 64
# Entries at kinks, and points beside the arrays, at which regularity is asked.
_BESIDE = 8
# Where slopes change at 0 only central differences need short steps: one-sided ones may begin 12 levels earlier.
_COARSER = 12
# A hundredth: of slopes ahead and behind, more is a kink and no curvature.
_KINK = 0.01


class OneSided(NamedTuple):
    """The least and the largest that may be claimed along a direction, with what both may be off by."""

    low: float
    high: float
    doubt: float
    kinked: bool


class KinkSearch(NamedTuple):
    """One-sided derivatives at a point, as precise as the window and the noise of an estimate allow."""

    point: Point
    k: int
    known: Estimate

    def kinked(self, directions: tuple[Array, Array]) -> list[int] | None:
        """The coordinates, in flat order, along which one-sided derivatives differ; None if there are too many."""
        kinked: list[int] = []
        groups = [np.flatnonzero(directions[0])]
        while groups:
            group = groups.pop()
            if not any(self.one_sided(restricted(v, group)).kinked for v in directions[: len(group)]):
                continue
            if len(group) > 1:
                groups += np.array_split(group, 2)
            else:
                kinked.append(int(group[0]))
                if len(kinked) > MOST_KINKS:
                    return None
        return kinked

    def one_sided(self, v: Array) -> OneSided:
        """What may be claimed along v, and whether any entry of y has a kink."""
        ahead, behind, error = self._sides(v)
        dy = self.point.dy
        doubt = SAFETY * float((np.abs(dy) * error).sum())
        ends = np.sort([(dy * side).ravel() for side in (ahead, behind)], axis=0).sum(axis=1)
        # The error bounds what roundings, and noise as large as any seen, may do to both.
        return OneSided(float(ends[0]), float(ends[1]), doubt, bool((np.abs(ahead - behind) > error).any()))

    def is_regular(self, kinked: list[int], v: Array, rng: np.random.Generator) -> bool:
        """Whether beside the arrays, too, each entry of y has slopes between its one-sided derivatives (Clarke 1983).

        At a kink it is off by as much at any distance. What a slope that varies smoothly is off by falls with it.
        """
        shape = v.shape
        h = Line(self.point, self.k, v).step(self.known.level + 2)
        off_kinks = [v] if not kinked else []
        for along in [restricted(signed(rng, shape), np.array([c])) for c in kinked[:_BESIDE]] + off_kinks:
            ahead, behind, error = self._sides(along)
            low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
            for _ in range(_BESIDE):
                u = rng.normal(size=shape)
                off = np.array([self._off(u, along, h / shorter, low, high, error) for shorter in (1, 4, 16)])
                if ((off > 0) & (off > np.roll(off, 1, axis=0) / 2)).all(axis=0).any():
                    return False
        return True

    def _off(self, u: Array, v: Array, distance: float, low: Array, high: Array, error: Array) -> Array:
        """How far the slope along v of each entry of y, so far along u, lies outside; NaN at a kink."""
        point, step = self.point, distance / 16
        beside = replace(point, arrays=point.layer.moved(point.arrays, self.k, distance * u))
        beside = replace(beside, y=point.layer.value(beside.arrays))
        ahead, behind = Line(beside, self.k, v).changes(step)
        # The noise is that of sum(dy * f). Of an entry with nothing upstream nothing is known.
        rounding = float(np.finfo(point.y.dtype).eps) * np.abs(point.y)
        unknown = np.full(point.dy.shape, np.inf)
        uncertain = rounding + np.divide(self.known.noise, np.abs(point.dy), out=unknown, where=point.dy != 0)
        kink = np.abs(ahead + behind) > _KINK * np.abs(ahead - behind) + SAFETY * uncertain
        there = np.where(kink, np.nan, (ahead - behind) / (2 * step))
        return np.asarray(np.maximum(low - there, there - high) - SAFETY * (error + uncertain / step))

    def _sides(self, v: Array) -> tuple[Array, Array, Array]:
        levels = range(max(0, self.known.level - _COARSER), self.known.level + 1)
        return one_sided(Line(self.point, self.k, v), levels, self.known.noise)


def coarsest(y: Array) -> float:
    """The error, relative to the largest entry, that must not pass."""
    return COARSEST if y.dtype == np.float64 else _COARSEST_SINGLE


@dataclass
class Seen:
    """What differences along two directions showed of one argument."""

    directions: list[Array]
    estimates: list[Estimate]
    largest: float
    entries: int
    right: list[bool]
    insensitive_step: float | None = None
    flat: Array | None = None
    kinked: list[int] | None = field(default_factory=list)
    unsure: float = 0.0
    coarsest: float = COARSEST

    @property
    def tolerance(self) -> float:
        """What f is uncertain by shows better in two directions: the worse error serves both."""
        error = max(each.error for each in self.estimates)
        return SAFETY * error if np.isfinite(error) else np.inf

    @property
    def slope(self) -> float:
        """How large an entry of the gradient is, by the differences."""
        return max(abs(each.value) for each in self.estimates) / self.entries

    @property
    def is_sharp(self) -> bool:
        """Whether an error that must not pass would have been found."""
        scale = max(self.largest, self.slope)
        return np.isfinite(self.tolerance) and (4 * self.tolerance <= self.coarsest * scale or scale == 0)

    def search(self, point: Point, k: int) -> KinkSearch:
        """One-sided derivatives, as precise as these differences allow."""
        return KinkSearch(point, k, self.estimates[0])
