"""Extrapolated differences, for a smooth function of which nothing else is known.

A gradient is wrong if it is off by more than ten times the error of the differences, along two directions. At a kink
the claim may lie anywhere between the one-sided derivatives (Clarke 1983): there each entry is compared alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from verify.checker.directions import draw_upstream, index_of, restricted, signed, unit
from verify.checker.extrapolation import SAFETY, Ladder, short_estimate, slopes_at, to_zero
from verify.checker.kink_search import Seen, coarsest
from verify.checker.line import Line
from verify.checker.locate import descend
from verify.checker.point import Array, Point, Worst
from verify.checker.reference import Interval, Promise, Reference, Way, point_at, with_upstream

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Objection

Remedy = Callable[[Line, Seen], str]
# Two gradients that differ by less, relatively, are taken for one, when a cause is sought.
_ALIKE = 1e-6
_MANY = 1 << 12  # among more entries halving may end at another one, at which more steps would show no more
# Of a random forward the largest of three differences is taken for its noise.
_REPEATS = 3
# Known to less than a ten-thousandth: truncation is of order h^2, rounding of order eps / h.
CENTRAL = Way(
    "({as_array}(a + step * {h}), {as_array}(a - step * {h})) if i == {k} else (a, a)",
    "(forward(*(a for a, _ in moved), **options)[0] - forward(*(b for _, b in moved), **options)[0]) / (2 * {h})",
    h=1e-5,
    enough=1e-4,
)


class Differences(Reference):
    """Central differences, extrapolated, with an estimate of their own error."""

    forwards = 50

    def __init__(
        self, objections: tuple[Objection, ...], remedy: Remedy, *, only_where: Callable[..., bool] | None = None
    ) -> None:
        self.objections, self._remedy = objections, remedy
        self._only_where, self.advisory = only_where, only_where is not None
        self.seen: dict[int, Seen] = {}
        self._repeated = 0.0
        self._located: tuple[Point, Worst] | None = None

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """The arrays given; none where `only_where` says so."""
        if self._only_where is not None and not self._only_where(layer):
            return
        self.advised = self.advisory
        point = point_at(layer, layer.arrays, lambda y: draw_upstream(rng, y.shape, y.dtype))
        again = [layer.value(layer.arrays) for _ in range(_REPEATS)]
        with np.errstate(invalid="ignore"):
            off = [float((np.abs(point.dy) * np.abs(each - point.y)).sum()) for each in again]
        self._repeated = max(off, default=0.0)
        yield point

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """Two random ones. If both disagree and there are kinks: each entry at a kink alone, then all others."""
        seen = self.seen[k] = self._look(point, k, rng)
        if not seen.kinked:
            yield from list(seen.directions)
            return
        v = seen.directions[0]
        for coordinate in seen.kinked:
            yield restricted(v, np.array([coordinate]))
        rest = restricted(v, np.setdiff1d(np.arange(v.size), seen.kinked))
        seen.directions, seen.estimates = [rest], [Ladder(self.line(point, k, rest)).estimate()]
        yield rest

    def _look(self, point: Point, k: int, rng: np.random.Generator) -> Seen:
        """Compare along two directions; where both disagree look for insensitive entries of y, then for kinks."""
        gradient = point.claimed[k]
        directions = [signed(rng, gradient.shape) for _ in range(2)]
        ladders = [Ladder(self.line(point, k, v)) for v in directions]
        estimates = [ladder.estimate() for ladder in ladders]
        seen = Seen(directions, estimates, float(np.abs(gradient).max()), gradient.size, [])
        seen.coarsest = coarsest(point.y)
        self._compare(seen, ladders)
        steps = [ladder.steps[ladder.insensitive] for ladder in ladders if ladder.insensitive is not None]
        if not any(seen.right) and steps:
            coarse = replace(seen, estimates=[ladder.coarse_estimate() for ladder in ladders])
            self._compare(coarse, ladders)
            flat = np.any([ladder.flat for ladder in ladders], axis=0)
            if coarse.is_sharp and not (any(coarse.right) and self._is_wrong_off(flat, point, k, directions)):
                seen = coarse
            else:
                seen.insensitive_step, seen.flat = max(steps), flat
        if not any(seen.right) and seen.insensitive_step is None:
            seen.kinked = seen.search(point, k).kinked((directions[0], directions[1]))
        return seen

    def _is_wrong_off(self, flat: Array, point: Point, k: int, directions: list[Array]) -> bool:
        """Whether short steps call the gradient wrong where they move y: finer than long ones, which say it is right.

        Only if all of these entries are sensitive to short steps, and have no kinks.
        """
        other = with_upstream(point, np.where(flat, 0, point.dy).astype(point.dy.dtype))
        gradient = other.claimed[k]
        if not other.dy.any() or not np.isfinite(gradient).all():
            return False
        ladders = [Ladder(self.line(other, k, v)) for v in directions]
        estimates = [ladder.estimate() for ladder in ladders]
        seen = Seen(directions, estimates, float(np.abs(gradient).max()), gradient.size, [])
        seen.coarsest = coarsest(point.y)
        self._compare(seen, ladders)
        if any(seen.right) or not seen.is_sharp or any(ladder.insensitive is not None for ladder in ladders):
            return False
        return seen.search(other, k).kinked((directions[0], directions[1])) == []

    def _compare(self, seen: Seen, ladders: list[Ladder]) -> None:
        pairs = zip(seen.estimates, ladders, strict=True)
        seen.right = [abs(found.value - each.line.claimed()) <= seen.tolerance for found, each in pairs]
        if not np.isfinite(seen.tolerance):
            seen.right = [True, True]  # nothing is known: `useless` says so

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """The extrapolated value, give or take ten times its error; at a kink, what lies between both sides."""
        seen = self.seen.get(k)
        if seen is None:
            found = Ladder(self.line(point, k, v)).estimate()
            return Interval.around(found.value, SAFETY * found.error)
        for known, found in zip(seen.directions, seen.estimates, strict=True):
            if known is v:
                if not np.isfinite(seen.tolerance):
                    return Interval(-np.inf, np.inf, np.inf)
                return Interval.around(found.value, seen.tolerance)
        sides = seen.search(point, k).one_sided(v)
        seen.unsure = max(seen.unsure, sides.doubt / float(np.abs(v).max()))
        return Interval(sides.low - sides.doubt, sides.high + sides.doubt, sides.doubt)

    def slopes(self, point: Point, k: int, v: Array) -> Array:
        """The derivative along v of each entry of y, by the window that suits all of them together."""
        line = self.line(point, k, v)
        return slopes_at(line, Ladder(line).estimate().level)

    def claim(self, point: Point, k: int, v: Array) -> float:
        """<da, v>."""
        return self.line(point, k, v).claimed()

    def offset(self, point: Point, k: int, v: Array) -> float:
        """<dy, J v> - <da, v>: by two steps of a known window, which four forwards give, or by a ladder."""
        line, seen = self.line(point, k, v), self.seen.get(k)
        if seen is None:
            return _by_ladder(line)
        level = seen.estimates[0].level
        rows = [line.central(line.step(each)) for each in (level, level + 1)]
        return float(to_zero(np.array(rows), even=True)) - line.claimed()

    def locate(self, point: Point, k: int, v: Array, rng: np.random.Generator) -> tuple[int, ...]:
        """The entry itself, or that at which halving ends: by two steps, or by ladders if the error is too small."""
        coordinates = np.flatnonzero(v)
        if len(coordinates) == 1:
            return index_of(int(coordinates[0]), v.shape)
        whole = self.seen[k].estimates[0].value - self.claim(point, k, v)
        index = descend(v, lambda part: self.offset(point, k, part), whole)[0]
        _, _, analytic, numeric, tolerance = self.worst(point, k, index)
        if abs(analytic - numeric) > tolerance or v.size > _MANY:
            return index
        return descend(v, lambda part: _by_ladder(self.line(point, k, part)), whole)[0]

    def worst(self, point: Point, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry: by a few steps, or by all if these do not show it."""
        if self._located is not None and self._located[0] is point and self._located[1][:2] == (k, index):
            return self._located[1]
        line, seen = self.line(point, k, unit(point, k, index)), self.seen.get(k)
        analytic = float(point.claimed[k][index])
        found = short_estimate(line, seen.estimates[0]) if seen else Ladder(line).estimate()
        if abs(found.value - analytic) <= SAFETY * found.error and point.claimed[k].size <= _MANY:
            found = Ladder(line).estimate()
        self._located = point, Worst(k, index, analytic, found.value, SAFETY * found.error)
        return self._located[1]

    def promise(self, point: Point, k: int) -> Promise:
        """|v| >= 1/2, and the right gradient may be off by the tolerance. Of entries at kinks the note says it."""
        seen = self.seen[k]
        if not np.isfinite(seen.tolerance):
            where = f"move {point.layer.names[k]} away from where it overflows or ends"
            return Promise(np.inf, f"f is finite at no five steps in a row: {where}")
        floor = 4 * seen.tolerance / (seen.largest or 1.0) if seen.directions[-1].any() else None
        note = ""
        if seen.kinked:
            off = seen.unsure / (max(seen.largest, seen.slope) or 1.0)
            note = f"{len(seen.kinked)} of {seen.entries} entries at kinks, each between its one-sided derivatives"
            if off > seen.coarsest:
                return Promise(
                    floor, f"{note}, which are known to {off:.1g} of the largest only: take arrays off kinks"
                )
            note = f"{note}, to {off:.1g} of the largest entry"
        return Promise(
            floor, "" if seen.is_sharp else self._remedy(self.line(point, k, seen.directions[0]), seen), note
        )

    def allowed(self, point: Point, k: int, expected: Array) -> float:
        """A millionth of the largest: less could hardly be seen."""
        rounding = self.line(point, k, expected).rounding()
        return _ALIKE * float(np.abs(expected).max(initial=0.0)) + rounding

    def matches(self, point: Point, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether they differ by less than a millionth of what they sum."""
        line = self.line(point, k, v)
        scale = np.abs(point.claimed[k] * v).sum() + np.abs(dy * slopes).sum()
        return abs(float((dy * slopes).sum()) - line.claimed()) <= _ALIKE * float(scale) + line.rounding()

    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """A central difference, at normal numbers or at the arrays themselves."""
        yield CENTRAL._replace(drawn="rng.normal(size={shape})")
        yield CENTRAL

    def line(self, point: Point, k: int, v: Array) -> Line:
        """f along v through a point."""
        return Line(point, k, v, self._repeated)


def _by_ladder(line: Line) -> float:
    return Ladder(line).estimate().value - line.claimed()
