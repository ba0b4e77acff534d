"""Piecewise-linear functions at the arrays as they were given, ties and zeros included.

At a kink there is no derivative, but there is a rule. For a direction v the one-sided derivatives
of every output are exact, too, when the step is a power of two so short that no other kink lies
within it. Then, output by output, the claimed derivative must lie between them (Clarke 1983):

    sum(min(dy * D-, dy * D+)) <= sum(da * v) <= sum(max(dy * D-, dy * D+))

which is equality away from kinks, and at ties along directions in which equal entries move together.
Where the forward takes complex numbers and branches on their real parts, Im f(a + iv) is the
derivative of the branch it takes, exactly, and the claim must equal that: the forward's own rule for
ties (the first maximum; relu'(0) = 0) is the backward's.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from verify.gradcheck.certificate import FAIL, PASS, ArgumentResult, StructureError, Worst
from verify.gradcheck.exact import MOST_BITS, Point, Results, not_but_rounded
from verify.gradcheck.exact_numbers import Array, draw_integers, exact_dot, mantissa_bits
from verify.gradcheck.locate import locate, not_finite
from verify.gradcheck.subject import Arrays, Subject


def check_at_kinks(subject: Subject, generator: np.random.Generator) -> Results:
    """A result for each argument at the arrays given, rounded to a grid that keeps ties and zeros.

    Raises StructureError where the function leaves the exact numbers there.
    """
    results = {k: ArgumentResult(k, subject.names[k], subject.arrays[k].shape, PASS) for k in subject.wrt}
    # Of the mantissa, a third for sums, slopes, and what exact fractions must leave over; the rest is shared
    # by the grids of all arrays, of which a product may take an entry each, the directions, and two bits between.
    bits = min(MOST_BITS, (mantissa_bits(subject.dtype) * 2 // 3 - 2) // (len(subject.wrt) + 1))
    largest = max((float(np.abs(subject.arrays[k]).max(initial=0.0)) for k in subject.wrt), default=0.0)
    cell = 2.0 ** max(math.frexp(largest)[1] - bits, -500 if largest else 0)
    arrays: Arrays = subject.arrays
    for k in subject.wrt:
        rounded = np.asarray(np.rint(subject.arrays[k] / cell) * cell).astype(subject.arrays[k].dtype)
        arrays = subject.with_array(arrays, k, rounded)
    point = Point.draw(subject, arrays, bits, generator)
    step = cell / 2 ** (bits + 2)  # |step * v| is at most a quarter of a cell
    for k in subject.wrt:
        for v in _directions(arrays[k], bits, generator):
            if results[k].verdict != FAIL and point.gradients[k].size:
                _check_along(point, k, v, step, generator, results)
    return results


def _directions(array: Array | None, bits: int, generator: np.random.Generator) -> list[Array]:
    """A direction of independent entries, and one along which equal entries move together.

    The second breaks no tie: the interval shrinks to a point there, and rewarding every tie shows.
    """
    assert array is not None
    distinct, place = np.unique(array, return_inverse=True)
    together = draw_integers(generator, distinct.shape, bits, array.dtype)[place].reshape(array.shape)
    return [draw_integers(generator, array.shape, bits, array.dtype), together]


def _check_along(point: Point, k: int, v: Array, step: float, generator: np.random.Generator, results: Results) -> None:
    gradient = point.gradients[k]
    index = not_finite(gradient)
    if index is None:
        lower, upper = _interval(point, k, v, step)
        claimed = exact_dot(gradient, v)
        branch = _branch(point, k, v, lower, upper)
        excess = max(lower - claimed, claimed - upper) if branch is None else abs(branch - claimed)
        if excess > 0:
            _check_not_rounded(point, k, v, excess)
            index = _locate(point, k, v, step, generator, has_branch=branch is not None)
    if index is not None:
        worst = _entry(point, k, index, step)
        results[k] = results[k]._replace(
            verdict=FAIL, error=abs(worst.analytic - worst.numeric), worst=worst, note="at the arrays given"
        )


def _check_not_rounded(point: Point, k: int, v: Array, excess: Fraction) -> None:
    """Raise StructureError where a claim is off by no more than the roundings of the entries that make it."""
    gradient = point.gradients[k]
    rounding = point.dy.size * float(np.finfo(gradient.dtype).eps) * float(np.abs(gradient * v).sum())
    if excess <= rounding and not np.array_equal(gradient, np.rint(gradient)):
        raise StructureError(f"the backward rounds: d{point.subject.names[k]} is off by {float(excess):.3g} in all")


def _interval(point: Point, k: int, v: Array, step: float) -> tuple[Fraction, Fraction]:
    """The least and the largest value that the derivative along v may claim."""
    ahead = point.change(k, step * v) / step
    behind = -point.change(k, -step * v) / step
    low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
    rising = point.dy >= 0
    return exact_dot(point.dy, np.where(rising, low, high)), exact_dot(point.dy, np.where(rising, high, low))


def _branch(point: Point, k: int, v: Array, lower: Fraction, upper: Fraction) -> Fraction | None:
    """The derivative along v of the branch the forward takes.

    None where complex arrays are refused, or do not tell: where Re f(a + iv) is not f(a), where Im f is
    not odd in v (NumPy's maximum orders complex numbers by both parts), or no one-sided derivative fits.
    """
    try:
        ahead, behind = (
            point.subject.complex_value(point.arrays, k, v),
            point.subject.complex_value(point.arrays, k, -v),
        )
    except ValueError:  # a StructureError is one
        return None
    if not (np.array_equal(ahead.real, point.y) and np.array_equal(ahead, behind.conj())):
        return None
    slope = exact_dot(point.dy, ahead.imag)
    return slope if lower <= slope <= upper else None


def _locate(
    point: Point, k: int, v: Array, step: float, generator: np.random.Generator, *, has_branch: bool
) -> tuple[int, ...]:
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
        outside = [_outside(point, k, _restricted(v, half), step) for half in halves]
        if not any(outside):
            break  # only together do these entries claim too much, as when every tie is rewarded
        coordinates = halves[outside.index(max(outside))]
    return tuple(int(i) for i in np.unravel_index(coordinates[0], gradient.shape))


def _restricted(v: Array, coordinates: Array) -> Array:
    part = np.zeros_like(v).ravel()
    part[coordinates] = v.ravel()[coordinates]
    return part.reshape(v.shape)


def _outside(point: Point, k: int, v: Array, step: float) -> Fraction:
    """How far the claim lies outside its interval."""
    lower, upper = _interval(point, k, v, step)
    claimed = exact_dot(point.gradients[k], v)
    return max(lower - claimed, claimed - upper, Fraction(0))


def _entry(point: Point, k: int, index: tuple[int, ...], step: float) -> Worst:
    """Both values of one entry: of the branch where there is one, else the nearest end of the interval."""
    gradient = point.gradients[k]
    unit = np.zeros_like(gradient)
    unit[index] = 1
    lower, upper = _interval(point, k, unit, step)
    analytic = float(gradient[index])
    branch = _branch(point, k, unit, lower, upper)
    if branch is None and math.isfinite(analytic):
        numeric = min(max(lower, Fraction(analytic)), upper)
    else:
        numeric = upper if branch is None else branch
    slopes = point.change(k, step * unit) / step
    not_but_rounded(point.subject.names[k], index, analytic, numeric, point.dy, slopes)
    return Worst(k, index, analytic, float(numeric), 0.0)
