"""Piecewise-linear functions at the arrays as they were given, ties and zeros included.

At a kink there is no derivative, but there is a rule. For a direction v the one-sided derivatives
of every output are exact, too, when the step is a power of two so short that no other kink lies
within it. Then, output by output, the claimed derivative must lie between them (Clarke 1983):

    sum(min(dy * D-, dy * D+)) <= sum(da * v) <= sum(max(dy * D-, dy * D+))

which is equality away from kinks, and at ties along directions in which equal entries move together.
Where the forward takes complex numbers and branches on their real parts, Im f(a + iv) is the
derivative of the branch it takes, exactly, and the claim must equal that: the forward's own rule for
ties (the first maximum; relu'(0) = 0) is the backward's.

One-sided derivatives bound what may be claimed where every output is regular (Clarke 1983, section 2.3), as a
maximum is, and minus one. A median is not, nor is a relu less another: beside the tie are slopes that lie not between
them. Where such are found nobody is convicted for what is claimed at the tie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from verify.checker.certificate import FAIL, PASS, StructureError, Worst
from verify.checker.exact import MOST_BITS, Differences, plan
from verify.checker.exact_numbers import Array, draw_integers, exact_dot, mantissa_bits, set_size
from verify.checker.layer import Arrays
from verify.checker.locate import locate, not_finite, restricted
from verify.checker.point import Findings, not_but_rounded
from verify.checker.references.differences import check_smooth
from verify.checker.same_function import check_feels_steps, is_one_branch

# Points beside the arrays, and directions there: at a median of three equal numbers more than half of the pairs tell.
_BESIDE = 8
# Entries at ties that are asked alone: each takes two forwards.
_ALONE = 64


@dataclass(frozen=True)
class AtKinks(Differences):
    """Differentiates to one side, by steps so short that no other kink lies within them."""

    def interval(self, k: int, v: Array) -> tuple[Fraction, Fraction]:
        """The least and the largest value that the derivative along v may claim."""
        ahead, behind = self.slopes(k, v), -self.slopes(k, -v)
        low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
        rising = self.dy >= 0
        return exact_dot(self.dy, np.where(rising, low, high)), exact_dot(self.dy, np.where(rising, high, low))

    def outside(self, k: int, v: Array) -> Fraction:
        """How far the claim lies outside its interval."""
        lower, upper = self.interval(k, v)
        claimed = exact_dot(self.gradients[k], v)
        return max(lower - claimed, claimed - upper, Fraction(0))

    def branch(self, k: int, v: Array) -> Fraction | None:
        """The derivative along v of the branch the forward takes.

        None where complex arrays are refused, or do not tell: where Re f(a + iv) is not f(a), or where Im f is
        not odd in v (NumPy's maximum orders complex numbers by both parts).
        """
        try:
            ahead, behind = (self.subject.complex_value(self.arrays, k, side) for side in (v, -v))
        except ValueError:  # a StructureError is one
            return None
        if not (np.array_equal(ahead.real, self.y) and np.array_equal(ahead, behind.conj())):
            return None
        return exact_dot(self.dy, ahead.imag)

    def branch_between(self, k: int, v: Array, lower: Fraction, upper: Fraction) -> Fraction | None:
        """The same; None, too, where no one-sided derivative fits."""
        slope = self.branch(k, v)
        return slope if slope is not None and lower <= slope <= upper else None

    def is_one_branch(self, k: int, generator: np.random.Generator) -> bool:
        """Whether the forward takes one branch here, the same for all directions."""

        def slopes(v: Array) -> Array:
            return self.subject.complex_value(self.arrays, k, v).imag

        return is_one_branch(slopes, self.gradients[k].shape, generator)

    def jumps(self, k: int, v: Array) -> bool:
        """Whether f does not go half as far with half the step: it is not continuous here."""
        half = replace(self, step=self.step / 2)
        return any(not np.array_equal(self.slopes(k, side), half.slopes(k, side)) for side in (v, -v))

    def is_regular(self, k: int, bits: int, generator: np.random.Generator) -> bool:
        """Whether no entry of y has beside the arrays a slope that is not between its one-sided derivatives."""
        shape, dtype = self.gradients[k].shape, self.gradients[k].dtype
        seen = self.dy != 0
        near = [draw_integers(generator, shape, bits, dtype) for _ in range(_BESIDE)]
        # Beside the arrays, and there by steps as much shorter again: of a few bits each, all is exact.
        beside = [self.subject.moved(self.arrays, k, self.step * u) for u in near]
        values = [self.subject.value(arrays) for arrays in beside]
        short = self.step / 8
        for _ in range(_BESIDE):
            v = draw_integers(generator, shape, 2, dtype)
            ahead, behind = self.slopes(k, v), -self.slopes(k, -v)
            low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
            for arrays, y in zip(beside, values, strict=True):
                there, back = (
                    (self.subject.value(self.subject.moved(arrays, k, side * short * v)) - y) / (side * short)
                    for side in (1, -1)
                )
                if (seen & (there == back) & ((there < low) | (there > high))).any():
                    return False
        return True

    def worst(self, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry: of the branch where there is one, else the nearest end of the interval."""
        unit = self.unit(k, index)
        lower, upper = self.interval(k, unit)
        analytic = float(self.gradients[k][index])
        branch = self.branch_between(k, unit, lower, upper)
        if branch is None and math.isfinite(analytic):
            numeric = min(max(lower, Fraction(analytic)), upper)
        else:
            numeric = upper if branch is None else branch
        not_but_rounded(self.subject.names[k], index, analytic, numeric, self.dy, self.slopes(k, unit))
        return Worst(k, index, analytic, float(numeric), 0.0)


def check_at_kinks(findings: Findings, generator: np.random.Generator, miss_probability: float) -> float:
    """Fill in the findings at the arrays given, rounded to a grid that keeps ties, zeros and signs.

    Returns a bound on the probability that a gradient that is wrong there passed. Raises StructureError where the
    function leaves the exact numbers there.
    """
    subject = findings.subject
    # Of the mantissa, a third for sums, slopes, and what exact fractions must leave over; the rest is shared
    # by the grids of all arrays, of which a product may take an entry each, the directions, and two bits between.
    bits = min(MOST_BITS, (mantissa_bits(subject.dtype) * 2 // 3 - 2) // (len(subject.wrt) + 1))
    largest = max((float(np.abs(subject.arrays[k]).max(initial=0.0)) for k in subject.wrt), default=0.0)
    cell = 2.0 ** max(math.frexp(largest)[1] - bits, -500 if largest else 0)
    arrays: Arrays = subject.arrays
    for k in subject.wrt:
        arrays = subject.with_array(arrays, k, _rounded(subject.arrays[k], cell))
    if not all(_on_one_branch(findings, k, arrays) for k in subject.wrt):
        _check_where_given(findings, generator)
    # |step * v| is at most a quarter of a cell; dy is of fractions, since a relu's gradient of integers is of
    # integers, and one that is cut to whole numbers would pass.
    step = cell / 2 ** (bits + 2)
    # What dy shows, and one direction: an error survives either with this probability.
    rate, trials = plan(2, set_size(bits), miss_probability, subject.dtype)
    for trial in range(trials):
        point = AtKinks.draw(subject, arrays, bits, generator, step, below=0, wide=True)
        for k in (k for k in findings.results if arrays[k].size and findings.results[k].verdict == PASS):  # type: ignore[union-attr]
            asked, tied = _alone(point, k, bits, generator) if trial == 0 else ([], 0)
            for v in (*_directions(arrays[k], bits, generator), *asked):
                _check_along(point, k, v, bits, generator, findings)
                if findings.results[k].verdict != PASS:  # or left open: any other direction would be
                    break
            else:
                if tied > len(asked) > 0:
                    findings.note(k, f"of {tied} entries at ties or 0, {len(asked)} were asked alone")
    return rate**trials


def _rounded(array: Array, cell: float) -> Array:
    """To multiples of a cell, to nearest; but what is not 0 does not become 0."""
    cells = np.rint(array / cell)
    cells = np.where((cells == 0) & (array != 0), np.sign(array), cells)
    return np.asarray(cells * cell).astype(array.dtype)


def _on_one_branch(findings: Findings, k: int, rounded: Arrays) -> bool:
    """Whether f is affine from the rounded argument k to the one that was given.

    Half way it is the mean of both ends, up to the rounding of a sum of so many products (Higham 2002, section 3.1).
    """
    subject = findings.subject
    given: Any = subject.arrays[k]
    there: Any = rounded[k]
    if np.array_equal(given, there):
        return True
    middle = np.asarray(there + (given - there) / 2).astype(given.dtype)
    ends = [subject.value(subject.with_array(rounded, k, end)).astype(np.float64) for end in (given, there)]
    between = subject.value(subject.with_array(rounded, k, middle)).astype(np.float64)
    largest = max(float(np.abs(end).max(initial=0.0)) for end in ends)
    rounding = 4 * max(int(subject.arrays[j].size) for j in subject.wrt) * float(np.finfo(given.dtype).eps) * largest
    return bool((np.abs(between - (ends[0] + ends[1]) / 2) <= rounding).all())


def _check_where_given(findings: Findings, generator: np.random.Generator) -> None:
    """Where a kink lies between an entry and its rounding, extrapolated differences may convict on the side given."""
    beside = Findings(findings.subject)
    check_smooth(beside, generator)
    for k, result in beside.results.items():
        if result.verdict == FAIL:
            findings.points[k], findings.results[k] = beside.points[k], result


def _directions(array: Array | None, bits: int, generator: np.random.Generator) -> list[Array]:
    """A direction of independent entries, and one along which equal entries move together.

    The second breaks no tie: the interval shrinks to a point there, and rewarding every tie shows.
    """
    assert array is not None
    distinct, place = np.unique(array, return_inverse=True)
    together = draw_integers(generator, distinct.shape, bits, array.dtype)[place].reshape(array.shape)
    return [draw_integers(generator, array.shape, bits, array.dtype), together]


def _alone(point: AtKinks, k: int, bits: int, generator: np.random.Generator) -> tuple[list[Array], int]:
    """Each alone, some of the entries that are 0 or have an equal, and how many those are: none if a branch is told.

    Of many ties the interval is wide: one that claims too much is made up for by others that claim less than they
    might, or too little.
    """
    array: Any = point.arrays[k]
    _, place, count = np.unique(array, return_inverse=True, return_counts=True)
    tied = np.flatnonzero((count[place].reshape(array.shape) > 1) | (array == 0))
    if not len(tied) or point.branch(k, draw_integers(generator, array.shape, bits, array.dtype)) is not None:
        return [], 0
    entries = generator.permutation(tied)[:_ALONE]
    return [
        restricted(np.full(array.shape, 2.0**bits, array.dtype), entries[i : i + 1]) for i in range(len(entries))
    ], len(tied)


def _check_along(
    point: AtKinks, k: int, v: Array, bits: int, generator: np.random.Generator, findings: Findings
) -> None:
    gradient = point.gradients[k]
    index = not_finite(gradient)
    if index is None:
        lower, upper = point.interval(k, v)
        claimed = exact_dot(gradient, v)
        branch = point.branch_between(k, v, lower, upper)
        if branch not in (None, claimed) and not point.is_one_branch(k, generator):
            branch = None
        excess = max(lower - claimed, claimed - upper) if branch is None else abs(branch - claimed)
        if excess > 0:
            index = _locate(point, k, v, generator, has_branch=branch is not None)
            _check_not_rounded(point, k, v, excess, index)
            why = _undecidable(point, k, v, bits, generator) if branch is None else None
            if why is not None:
                if point.branch(k, v) != claimed:
                    findings.leave_open(k, why)
                return
            check_feels_steps(point, k, generator)
    if index is not None:
        findings.fail(point, k, index, note="at the arrays given")
        worst = findings.results[k].worst
        if worst is not None and worst.analytic == worst.numeric:
            note = "at the arrays given: alone each of the entries tied may claim so much, together they may not"
            findings.results[k] = findings.results[k]._replace(note=note)


def _undecidable(point: AtKinks, k: int, v: Array, bits: int, generator: np.random.Generator) -> str | None:
    """Why one-sided derivatives do not tell what may be claimed here; None if they do."""
    name = point.subject.names[k]
    if point.jumps(k, v):
        return f"y jumps at the arrays given: move {name} off the jump"
    if not point.is_regular(k, bits, generator):
        return (
            f"at the arrays given one-sided derivatives in {name} do not tell what may be claimed at its kinks, as at "
            "a median of equal numbers: break the ties, or let the forward take complex numbers"
        )
    return None


def _check_not_rounded(point: AtKinks, k: int, v: Array, excess: Fraction, index: tuple[int, ...]) -> None:
    """Raise StructureError where a claim is off by no more than the roundings of the entries that make it.

    Of all of them together, and of the entry that is off by most: n of the largest's (Higham 2002, section 3.1).
    """
    gradient = point.gradients[k]
    unit = point.dy.size * float(np.finfo(gradient.dtype).eps)
    together = unit * float(np.abs(gradient * v).sum())
    if excess > together or np.array_equal(gradient, np.rint(gradient)):
        return
    worst = point.worst(k, index)
    if abs(worst.analytic - worst.numeric) <= unit * float(np.abs(gradient).max()):
        raise StructureError(f"the backward rounds: d{point.subject.names[k]} is off by {float(excess):.3g} in all")


def _locate(point: AtKinks, k: int, v: Array, generator: np.random.Generator, *, has_branch: bool) -> tuple[int, ...]:
    """A wrong entry: by the branch where there is one (it is linear in v), else by the interval alone."""
    gradient = point.gradients[k]

    def by_branch(direction: Array) -> Fraction:
        return exact_dot(point.dy, point.subject.complex_value(point.arrays, k, direction).imag) - exact_dot(
            gradient, direction
        )

    if has_branch and by_branch(v) != 0:
        return locate(gradient.shape, by_branch, generator, first=v)
    coordinates = np.flatnonzero(v)
    while len(coordinates) > 1:
        halves = np.array_split(coordinates, 2)
        outside = [point.outside(k, restricted(v, half)) for half in halves]
        if not any(outside):
            break  # only together do these entries claim too much, as when every tie is rewarded
        coordinates = halves[outside.index(max(outside))]
    return tuple(int(i) for i in np.unravel_index(coordinates[0], gradient.shape))
