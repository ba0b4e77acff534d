"""What a reference is: one way to differentiate a forward, which knows how far it can be trusted.

A reference says between which two numbers <dy, J v> lies, and the judge compares that with <da, v>, what backward
claims. A reference raises StructureError where it cannot differentiate the function: then the next one is tried.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from verify.checker.directions import unit
from verify.checker.locate import locate
from verify.checker.point import Array, Arrays, Point, Worst

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Objection

Number = Fraction | float


class Interval(NamedTuple):
    """Where <dy, J v> lies: Fractions where arithmetic is exact, floats elsewhere.

    `tolerated` is the part of it, on either side, that stands for rounding and truncation.
    """

    low: Number
    high: Number
    tolerated: float = 0.0

    @classmethod
    def around(cls, value: float, tolerated: float) -> Interval:
        """A value, give or take what is tolerated."""
        return cls(value - tolerated, value + tolerated, tolerated)

    def excess(self, claim: Number) -> Number:
        """By how much a claim lies outside: 0 inside, infinite for NaN."""
        if claim != claim:
            return math.inf
        return max(self.low - claim, claim - self.high, 0)

    def nearest(self, claim: Number) -> Number:
        """What may be claimed, without rounding, that is nearest to this claim; the highest if that is not finite."""
        low, high = self.low, self.high
        if self.tolerated:
            low, high = low + self.tolerated, high - self.tolerated
        return min(max(low, claim), high) if math.isfinite(claim) else high


class Way(NamedTuple):
    """How lines that reproduce an entry differentiate: what moves argument i, and the slope of y that this gives.

    `drawn` makes an array of a shape; where it is empty, the arrays of the point stand there literally. The values
    must differ by more than `enough`, relatively.
    """

    moved: str
    slope: str
    h: float = 1.0
    drawn: str = ""
    enough: float = 0.0


BY_COMPLEX = Way(
    "{as_array}(a + step * {h}j) if i == {k} else a + 0j if i in {floating} else a",
    "forward(*moved, **options)[0].imag / {h}",
)


class Promise(NamedTuple):
    """What passing promises of one argument.

    `floor` is the smallest error in one entry, relative to the largest, that was bound to show. `useless` says why
    passing says nothing, if so much is tolerated. `note` is what a reader must know.
    """

    floor: float | None = None
    useless: str = ""
    note: str = ""


class Reference(ABC):
    """One way to differentiate a forward. One file each."""

    exact = False
    objections: tuple[Objection, ...] = ()
    missed: float | None = None  # bounds the probability that a wrong gradient passed; None where rounding is tolerated
    forwards = 1  # about as many a derivative takes
    where = ""  # said of a gradient that fails
    advisory = False  # whether only its FAIL counts
    advised = False  # whether one of which only FAIL counts was asked
    one_sided = False  # whether it differentiates to one side, at kinks
    bits = 0  # of the integers in a direction, where directions are of integers

    @abstractmethod
    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """Where to compare. Raises StructureError where this reference cannot serve."""

    @abstractmethod
    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """Along which directions of argument k to compare."""

    @abstractmethod
    def slopes(self, point: Point, k: int, v: Array) -> Array:
        """J v, the derivative of y along v in argument k, entry by entry."""

    @abstractmethod
    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """Where <dy, J v> lies. It may be widened where the claim lies outside, at the cost of more calls."""

    @abstractmethod
    def claim(self, point: Point, k: int, v: Array) -> Number:
        """<da, v>, what backward claims along v."""

    @abstractmethod
    def offset(self, point: Point, k: int, v: Array) -> Any:
        """<dy, J v> - <da, v>, linear in v."""

    @abstractmethod
    def allowed(self, point: Point, k: int, expected: Array) -> Array | float:
        """By how much the entries of two equal gradients of argument k may differ."""

    @abstractmethod
    def matches(self, point: Point, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether <da, v> is <dy, slopes>, where both may be those of another function."""

    @abstractmethod
    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """How a few lines can show a wrong entry without the checker, the easiest first."""

    def locate(self, point: Point, k: int, v: Array, rng: np.random.Generator) -> tuple[int, ...]:
        """The index of a wrong entry of a gradient that disagrees along v."""
        return locate(v.shape, lambda part: self.offset(point, k, part), rng, first=v)

    def worst(self, point: Point, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry, and what is tolerated between them."""
        interval = self.derivative(point, k, unit(point, k, index))
        analytic = float(point.claimed[k][index])
        return Worst(k, index, analytic, float(interval.nearest(analytic)), interval.tolerated)

    def promise(self, point: Point, k: int) -> Promise:
        """What a gradient that passed may be said to be. An exact reference has nothing to add to `missed`."""
        return Promise()


def point_at(layer: LayerUnderTest, arrays: Arrays, upstream: Callable[[Array], Array], step: float = 1.0) -> Point:
    """Run forward and backward at these arrays; `upstream(y)` draws dy."""
    y, cache = layer.value_and_cache(arrays)
    dy = upstream(y)
    return Point(layer, arrays, y, dy, layer.pull_back(arrays, dy, cache), step)


def with_upstream(point: Point, dy: Array) -> Point:
    """The point with another dy, and what backward claims for it. The layer may keep its cache in itself."""
    return asked_again(point, dy)[0]


def asked_again(point: Point, dy: Array) -> tuple[Point, bool]:
    """The point with another dy, and whether y is the same again, but for sums in another order, as of threads."""
    y, cache = point.layer.borrowed(point.arrays)
    rounding = y.size * float(np.finfo(y.dtype).eps) * float(np.abs(point.y).max(initial=0.0))
    same = np.array_equal(y, point.y) or bool((np.abs(y - point.y) <= rounding).all())
    del y  # a large check then takes less memory
    return replace(point, dy=dy, claimed=point.layer.pull_back(point.arrays, dy, cache)), same


def scaled(point: Point, factor: float) -> Point:
    """The point with dy times a factor; by a power of two nothing rounds."""
    return with_upstream(point, point.dy * point.dy.dtype.type(factor))
