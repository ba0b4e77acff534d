"""The gradient of a layer in float32, beside the one that was checked in float64.

Integers, differences and the complex step have few bits in float32. So a layer that follows the dtype of its arrays is
checked at the same arrays in float64. Then both gradients for the same dy are compared, entry by entry:

    |da32 - da64| <= gamma_k * (2 max|da64| + max|da64(u)|) + c * delta

Both gamma_k and k are those of conditioning.py, in float32. The arrays u are those given, scaled to entries of at most
1. By delta is meant how far da64 moves when the arrays move by an ulp of float32. It is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from verify.checker.conditioning import DOUBTFUL, MOST_AMPLIFIED, gamma, moved_by_ulps, unsaturated
from verify.checker.directions import draw_upstream, index_of, unit
from verify.checker.layer import ContractError, LayerUnderTest, is_floating
from verify.checker.point import Array, Point, Worst
from verify.checker.reference import Interval, Promise, Reference, Way, point_at

if TYPE_CHECKING:
    from verify.checker.objections import Disagreement, Objection

# Four draws of signs show how one ulp is amplified typically.
_DRAWS = 4
# Before anything is called wrong: two signs of three or four numbers are alike in all of 16 draws once in 2^16.
_MANY_DRAWS = 16
# Above it a gradient could not be distinguished from zero.
_COARSEST = 0.5


class Widened(Reference):
    """The gradient in float64, give or take the rounding of float32."""

    where = "compared with the gradient in float64"

    def __init__(self, wide: LayerUnderTest, objections: tuple[Objection, ...] = ()) -> None:
        self.objections, self.wide = objections, wide
        self.true: dict[int, Array] = {}
        self._allowed: dict[int, Array] = {}

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """The arrays given."""
        wide, eps = self.wide, float(np.finfo(layer.dtype).eps)
        point = point_at(layer, layer.arrays, lambda y: draw_upstream(rng, y.shape, y.dtype))
        dy = point.dy.astype(np.float64)
        self.true = wide.pull_back(wide.arrays, dy, wide.value_and_cache(wide.arrays)[1])
        elsewhere = unsaturated(wide, dy, rng)
        moved = moved_by_ulps(wide, dy, self.true, rng, _DRAWS, ulp=eps)
        roundings = gamma(layer, point.y)
        for k, true in self.true.items():
            largest = 2 * np.abs(true).max(initial=0.0) + np.abs(elsewhere[k]).max(initial=0.0)
            tiny = float(np.finfo(layer.dtype).tiny)
            self._allowed[k] = roundings * largest + MOST_AMPLIFIED * moved[k] + tiny
        yield point

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """The entry that is off by most, beside what it may be off by."""
        off = np.abs(point.claimed[k] - self.true[k]) / self._allowed[k]
        yield unit(point, k, index_of(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape))

    def slopes(self, point: Point, k: int, v: Array) -> Array:
        """J v, by a difference in float64."""
        wide, step = self.wide, float(np.finfo(np.float32).eps)
        ahead, behind = (wide.value(wide.moved(wide.arrays, k, s * step * v)) for s in (1, -1))
        return np.asarray((ahead - behind) / (2 * step))

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """<da64, v>, give or take the rounding of float32."""
        return Interval.around(float((self.true[k] * v).sum()), float((self._allowed[k] * np.abs(v)).sum()))

    def claim(self, point: Point, k: int, v: Array) -> float:
        """<da32, v>."""
        return float((point.claimed[k] * v).sum(dtype=np.float64))

    def offset(self, point: Point, k: int, v: Array) -> float:
        """<da64 - da32, v>."""
        return float((self.true[k] * v).sum()) - self.claim(point, k, v)

    def allowed(self, point: Point, k: int, expected: Array) -> Array | float:
        """The rounding of each entry."""
        return self._allowed[k]

    def matches(self, point: Point, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether they differ by no more than rounding."""
        off = abs(float((dy * slopes).sum()) - self.claim(point, k, v))
        return off <= float((self._allowed[k] * np.abs(v)).sum())

    def promise(self, point: Point, k: int) -> Promise:
        """Up to DOUBTFUL tolerances nothing fails."""
        largest = float(np.abs(self.true[k]).max(initial=0.0))
        floor = (DOUBTFUL + 1) * float(self._allowed[k].max(initial=0.0)) / (largest or 1.0)
        hidden = bool(largest) and floor > _COARSEST
        text = f"rounding in {point.layer.dtype} hides this gradient, which is right in float64: check it there"
        return Promise(floor, text if hidden else "")

    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """None: it takes both dtypes to see it."""
        return iter(())


def widened(layer: LayerUnderTest) -> LayerUnderTest | None:
    """The layer at its arrays in float64; None if y or a gradient does not follow."""
    arrays = [a.astype(np.float64) if is_floating(a) and a.dtype.kind == "f" else a for a in layer.arrays]
    wide = layer.at(arrays, layer.wrt)
    try:
        y, cache = wide.value_and_cache(wide.arrays)
        wide.pull_back(wide.arrays, np.ones_like(y), cache)
    except ContractError:
        return None
    return wide if y.dtype == np.float64 else None


def cancels(case: Disagreement[Widened]) -> str | None:
    """In float64 rounding moves the wrong entry by as much, for its eps: terms cancel of which no gradient shows."""
    point, k, wide, worst = case.point, case.k, case.reference.wide, case.worst
    moved = moved_by_ulps(wide, point.dy.astype(np.float64), case.reference.true, case.rng, _MANY_DRAWS)[k][worst.index]
    rounded = float(moved) * float(np.finfo(point.layer.dtype).eps) / float(np.finfo(np.float64).eps)
    error = abs(worst.analytic - worst.numeric)
    if error > MOST_AMPLIFIED * rounded:
        return None
    return f"off by {error:.2g}, where terms cancel that {point.layer.dtype} rounds: check it in float64"
