"""Piecewise-linear functions at the very arrays given, ties and zeros included.

At a kink there is no derivative, but there is a rule. Let the step be a power of two so short that no other kink lies
within it. Then the one-sided derivatives of every output along v are exact. Output by output, the claimed derivative
must lie between them (Clarke 1983):

    sum(min(dy * D-, dy * D+)) <= sum(da * v) <= sum(max(dy * D-, dy * D+))

Away from kinks this is equality. Where the forward takes complex numbers and branches on their real parts,
Im f(a + iv) is the derivative of the branch it takes, exactly. Then the claim must equal that: the forward's own rule
for ties (the first maximum; relu'(0) = 0) is the backward's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.directions import index_of, restricted
from verify.checker.exact import AHEAD, BEHIND, ExactDifference, check_exact, plan, upstream_bits
from verify.checker.exact_numbers import MOST_BITS, WIDE_BITS, draw_integers, exact_dot, mantissa_bits
from verify.checker.locate import descend
from verify.checker.objections.kinks import is_linear, is_regular, jumps
from verify.checker.point import Array, Point, StructureError, Worst
from verify.checker.reference import BY_COMPLEX, Interval, Promise, Way, point_at

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Objection
    from verify.checker.point import Arrays

# Entries at ties that are asked alone: each takes two forwards.
_ALONE = 64
# The smallest cell, if the arrays are not all zeros: a step of a millionth of it is still a normal float64.
_LEAST_EXPONENT = -500


class AtTies(ExactDifference):
    """Exact differences to one side."""

    where = "at the arrays given"
    one_sided = True

    def __init__(self, miss_probability: float, objections: tuple[Objection, ...] = ()) -> None:
        self.objections, self._miss_probability = objections, miss_probability
        self._notes: dict[int, str] = {}
        self._one_branch: dict[int, bool] = {}
        self._continuous: dict[int, bool] = {}
        self._rng = np.random.default_rng(0)

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """The arrays given, rounded to a grid that keeps ties, zeros and signs."""
        self._rng, self.bits = rng, grid_bits(layer)
        bits = self.bits
        arrays, cell = on_grid(layer, bits)
        rate, trials = plan(2, bits, self._miss_probability)  # dy and v enter once each

        def upstream(y: Array) -> Array:
            check_exact(y)
            wide = upstream_bits(layer, y, bits * (len(layer.wrt) - 1))
            return draw_integers(rng, y.shape, max(bits, min(WIDE_BITS, wide)), y.dtype)

        for _ in range(trials):  # |step * v| is at most a quarter of a cell
            yield point_at(layer, arrays, upstream, cell / 2 ** (bits + 2))
        self.missed = rate**trials

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """One of independent entries, one along which equal entries move together, and entries at ties, each alone.

        The second breaks no tie: a backward that rewards every tie shows. The interval of many ties is wide: there a
        claim that is too large shows only alone.
        """
        array: Any = point.arrays[k]
        distinct, place, count = np.unique(array, return_inverse=True, return_counts=True)
        yield draw_integers(rng, array.shape, self.bits, array.dtype)
        yield draw_integers(rng, distinct.shape, self.bits, array.dtype)[place].reshape(array.shape)
        if k in self._notes:  # asked at the first point
            return
        self._notes[k] = ""
        tied = np.flatnonzero((count[place].reshape(array.shape) > 1) | (array == 0))
        if not len(tied) or self.branch(point, k, draw_integers(rng, array.shape, self.bits, array.dtype)) is not None:
            return
        full = np.full(array.shape, 2.0**self.bits, array.dtype)
        for entry in rng.permutation(tied)[:_ALONE]:
            yield restricted(full, entry)
        if len(tied) > _ALONE:
            self._notes[k] = f"of {len(tied)} entries at ties or 0, {_ALONE} were asked alone"

    def promise(self, point: Point, k: int) -> Promise:
        """How many entries at ties were not asked alone."""
        return Promise(note=self._notes.get(k, ""))

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """From the least to the largest of the one-sided derivatives; or that of the branch which the forward takes."""
        between = self._between(point, k, v)
        if not np.isfinite(point.claimed[k]).all():
            return between
        claim = self.claim(point, k, v)
        if between.low == between.high == claim:
            return between
        branch = self.branch(point, k, v)
        if branch is not None:
            if between.low == branch == between.high or (branch == claim and not between.excess(claim)):
                return between
            if between.excess(branch) == 0 and self.takes_one_branch(point, k):
                return Interval(branch, branch)
            if branch == claim and (jumps(self, point, k, v) or not is_regular(self, point, k, self._rng)):
                return Interval(branch, branch)
        if k not in self._continuous:  # asked once
            self._continuous[k] = not jumps(self, point, k, v)
        if not self._continuous[k]:
            raise StructureError(f"y jumps at the arrays given, where {point.layer.names[k]} is moved: it has no slope")
        return between

    def _between(self, point: Point, k: int, v: Array) -> Interval:
        """What lies between the one-sided derivatives, output by output."""
        ahead, behind = self.slopes(point, k, v), -self.slopes(point, k, -v)
        low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
        rising = point.dy >= 0
        return Interval(
            exact_dot(point.dy, np.where(rising, low, high)), exact_dot(point.dy, np.where(rising, high, low))
        )

    def branch(self, point: Point, k: int, v: Array) -> Fraction | None:
        """The derivative along v of the branch that the forward takes.

        None where complex arrays are refused, where Re f(a + iv) is not f(a), or where Im f is not odd in v: NumPy's
        maximum orders complex numbers by both parts.
        """
        try:
            ahead, behind = (point.layer.complex_value(point.arrays, k, side) for side in (v, -v))
        except ValueError:  # a StructureError is one
            return None
        if not (np.array_equal(ahead.real, point.y) and np.array_equal(ahead, behind.conj())):
            return None
        return exact_dot(point.dy, ahead.imag)

    def takes_one_branch(self, point: Point, k: int) -> bool:
        """Whether the forward takes one branch at the arrays given, the same for all directions; asked once."""

        def slopes(v: Array) -> Array:
            return point.layer.complex_value(point.arrays, k, v).imag

        if k not in self._one_branch:
            self._one_branch[k] = is_linear(slopes, point.claimed[k].shape, self._rng)
        return self._one_branch[k]

    def locate(self, point: Point, k: int, v: Array, rng: np.random.Generator) -> tuple[int, ...]:
        """A wrong entry: by the branch if the forward takes one, since it is linear in v; otherwise by the interval."""

        def by_branch(part: Array) -> Fraction:
            slopes = point.layer.complex_value(point.arrays, k, part).imag
            return exact_dot(point.dy, slopes) - self.claim(point, k, part)

        if self._one_branch.get(k) and (whole := by_branch(v)) != 0:
            return descend(v, by_branch, whole)[0]
        coordinates = np.flatnonzero(v)
        while len(coordinates) > 1:
            halves = np.array_split(coordinates, 2)
            outside = [self._excess(point, k, restricted(v, half)) for half in halves]
            if not any(outside):
                break  # only together do these entries claim too much, as when every tie is rewarded
            coordinates = halves[outside.index(max(outside))]
        return index_of(int(coordinates[0]), v.shape)

    def _excess(self, point: Point, k: int, v: Array) -> Any:
        return self._between(point, k, v).excess(self.claim(point, k, v))

    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """At integers without ties; then at the arrays themselves, by the branch or to one side."""
        size = "rng.permutation({size}).reshape({shape})"
        gapped = "(rng.choice([-1, 1]) * (4 * " + size + " - {middle}))"
        yield AHEAD._replace(drawn=gapped)
        yield from (BY_COMPLEX, AHEAD._replace(h=point.step), BEHIND._replace(h=point.step))


def grid_bits(layer: LayerUnderTest) -> int:
    """How many bits the arrays, directions and dy may have.

    A third of the mantissa is for sums, slopes, and what fractions leave free. The arrays, of which a product takes an
    entry each, share the rest with the direction, and with two bits between.
    """
    return min(MOST_BITS, (mantissa_bits(layer.dtype) * 2 // 3 - 2) // (len(layer.wrt) + 1))


def on_grid(layer: LayerUnderTest, bits: int) -> tuple[Arrays, float]:
    """The arrays, rounded to multiples of a cell, and the cell."""
    largest = max((float(np.abs(layer.arrays[k]).max(initial=0.0)) for k in layer.wrt), default=0.0)
    cell = 2.0 ** max(math.frexp(largest)[1] - bits, _LEAST_EXPONENT if largest else 0)
    arrays: Arrays = layer.arrays
    for k in layer.wrt:
        arrays = layer.with_array(arrays, k, _rounded(layer.arrays[k], cell))
    return arrays, cell


def _rounded(array: Array, cell: float) -> Array:
    """To the nearest multiples of a cell; but what is not 0 does not become 0."""
    cells = np.rint(array / cell)
    cells = np.where((cells == 0) & (array != 0), np.sign(array), cells)
    return np.asarray(cells * cell).astype(array.dtype)
