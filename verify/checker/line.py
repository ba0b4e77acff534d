"""A forward along one line through a point, at steps of either sign."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from verify.checker.point import Array, Point


class Line(NamedTuple):
    """a + h v in argument k. `repeated` is by how much sum(dy * f) differs when f is called again."""

    point: Point
    k: int
    v: Array
    repeated: float = 0.0

    def step(self, level: int) -> float:
        """The step of a level: from a quarter of the array's scale down, halved each time."""
        array: Any = self.point.arrays[self.k]
        return float(2.0 ** (-2 - level) * max(1.0, float(np.abs(array).max())))

    def changes(self, h: float) -> tuple[Array, Array]:
        """f(a + h v) - f(a) and f(a - h v) - f(a)."""
        return self._change(h * self.v), self._change(-h * self.v)

    def _change(self, step: Array) -> Array:
        point = self.point
        with np.errstate(all="ignore"):
            try:
                moved = point.layer.value(point.layer.moved(point.arrays, self.k, step))
                return np.asarray(moved.astype(np.float64) - point.y)
            except (ArithmeticError, ValueError):  # beyond the function's domain
                return np.full(point.y.shape, np.nan)

    def weigh(self, change: Array) -> float:
        """sum(dy * change); NaN where that is not finite."""
        total = float((self.point.dy * change).sum())
        return total if np.isfinite(total) else np.nan

    def central(self, h: float) -> float:
        """sum(dy * (f(a + h v) - f(a - h v))) / 2h."""
        ahead, behind = self.changes(h)
        return self.weigh(ahead - behind) / (2 * h)

    def rounding(self) -> float:
        """What sum(dy * f) may be off by, by rounding alone: of f itself, and of the array that is moved.

        In float64 all roundings together. Of a coarser y the root of the sum of their squares, since the signs of dy
        are random: ten times that is exceeded once in 10^21 (Hoeffding 1963).
        """
        point = self.point
        array: Any = point.arrays[self.k]
        gradient = np.nan_to_num(point.claimed.get(self.k, np.zeros_like(array)))
        own, moved = np.abs(point.dy, dtype=np.float64) * np.abs(point.y), np.abs(gradient * array, dtype=np.float64)
        total = np.sum if point.y.dtype == np.float64 else np.linalg.norm
        rounding = float(np.finfo(point.y.dtype).eps) * float(total(own.ravel()))
        rounding += float(np.finfo(array.dtype).eps) * float(total(moved.ravel()))
        return rounding + self.repeated + float(np.finfo(np.float64).tiny)

    def claimed(self) -> float:
        """<da, v>."""
        return float((self.point.claimed[self.k] * self.v).sum(dtype=np.float64))
