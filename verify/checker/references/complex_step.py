"""The complex step, for analytic functions: no subtraction, no truncation.

With h = 2^-200, Im f(a + i h v) / h is the derivative of f along v up to rounding (Squire & Trapp
1998). The forward must accept complex128 arrays, and where it branches (a maximum subtracted, a
relu) it branches on the real part.

What is tolerated is the rounding of both sides and nothing else:

    |sum(dy * Jv) - sum(da * v)| <= gamma_k * (sum|dy||Jv| + sum|da||v| + sum|da(u)||v|) + c * sum|delta||v|

with gamma_k = k eps / (1 - k eps) (Higham 2002, section 3.1). k is the longest sum there can be, the
entries of the largest array; and 32, for a handful of elementary functions of a few roundings each;
and 4 max|a|, since an exponential turns a rounding of its argument, relative eps |a|, into one of its
value. The third term is the floor: where a function saturates (a confident softmax) its derivative
vanishes but the roundings inside do not, so the gradient at u, the arrays scaled to entries of at
most 1, stands for them. The last term is the conditioning, measured: delta is how far the gradient
moves when the arrays move by an ulp (a batch norm of two images has little left after it subtracts).
Where that is not enough, so is what the complex step itself rounds by, as at a matrix that the forward keeps to
itself: slopes along 3/4 v, 5/8 v and 7/8 v, over that, show it, c times as much is tolerated, and the floor grows.
A wrong gradient can widen these only by claiming to be large or to jump, and then the detection
floor that is printed says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from verify.checker.certificate import INCONCLUSIVE, StructureError, Worst
from verify.checker.conditioning import FACTORS, MOST_AMPLIFIED, finite, moved_by_ulps
from verify.checker.exact_numbers import Array, draw_upstream, signed
from verify.checker.layer import Arrays, LayerUnderTest
from verify.checker.linearity import check_linear
from verify.checker.locate import locate, not_finite
from verify.checker.point import OVERFLOWS, Findings, Point
from verify.checker.same_function import (
    check_not_contradicted,
    check_one_branch,
    check_same_function,
    is_constant,
)

_STEP = 2.0**-200
_TRUNCATION = 2.0**-300  # of order step^2 = 2^-400, with room for third derivatives up to 2^100
_ELEMENTARY = 32
# What differs by more, between multiples of one direction, is no rounding: at 0 a square root has no slope at all.
_NO_SLOPE = 2.0**-9
_TRIALS = 2
# Four draws of signs show how one ulp is amplified typically.
_CONDITION_DRAWS = 4
# Before anything is called wrong, more: two signs of three or four numbers are alike in all of them once in 2^16.
_CLOSE_DRAWS = 16
# A disagreement up to so many tolerances neither passes nor convicts: the conditioning is an estimate.
_DOUBTFUL = 8.0


@dataclass(frozen=True)
class ComplexStep(Point):
    """Differentiates by a complex step, with the rounding to expect."""

    unsaturated: dict[int, Array]
    conditioning: dict[int, Array]
    gamma: float

    def slopes(self, k: int, v: Array) -> Array:
        """Im f(a + i h v) / h."""
        step = np.multiply(_STEP, v, dtype=np.float64)  # too short for a float32
        return np.asarray(self.subject.complex_value(self.arrays, k, step).imag / _STEP)

    def residual(self, k: int, v: Array, slopes: Array | None = None) -> float:
        """What the complex step says less what the gradient says."""
        slopes = self.slopes(k, v) if slopes is None else slopes
        return float((self.dy * slopes).sum() - (self.gradients[k] * v).sum(dtype=np.float64))

    def tolerance(self, k: int, v: Array, slopes: Array) -> float:
        """The right-hand side of the inequality at the head of this module."""
        both = (np.abs(self.gradients[k]) + np.abs(self.unsaturated[k])) * np.abs(v)
        rounding = self.gamma * ((np.abs(self.dy) * np.abs(slopes)).sum() + both.sum(dtype=np.float64))
        amplified = MOST_AMPLIFIED * (self.conditioning[k] * np.abs(v)).sum(dtype=np.float64)
        return float(rounding + amplified) + _TRUNCATION

    def slopes_round_by(self, k: int, v: Array, slopes: Array) -> Array:
        """By how much slopes along v round, seen by those along 3/4 v, over 3/4: all products round otherwise there."""
        others = [self.slopes(k, factor * v) / factor for factor in FACTORS]
        off = np.max([np.abs(other - slopes) for other in others], axis=0)
        return np.where(off <= _NO_SLOPE * np.abs(slopes), MOST_AMPLIFIED * off, 0.0)

    def worst(self, k: int, index: tuple[int, ...]) -> Worst:
        """Both values of one entry, and what is tolerated between them."""
        unit = self.unit(k, index)
        slopes = self.slopes(k, unit)
        numeric = float((self.dy * slopes).sum())
        return Worst(k, index, float(self.gradients[k][index]), numeric, self.tolerance(k, unit, slopes))

    def allowed(self, k: int, expected: Array) -> Array:
        """Their rounding: of each entry, at the scale of the largest, as in `tolerance`."""
        scale = np.abs(expected).max(initial=0.0) + np.abs(self.unsaturated[k]).max(initial=0.0)
        return np.asarray(self.gamma * scale + MOST_AMPLIFIED * self.conditioning[k] + _TRUNCATION)

    def looked_at_closely(self, generator: np.random.Generator) -> Self:
        """The same, its conditioning from more draws: of few one may miss the ulp by which a branch is another.

        Complex numbers, of float64 and summed in another order, may take a branch that the arrays do not. And arrays
        that are held are moved, too: the solution for one right-hand side is known as its matrix is.
        """
        found = [self.conditioning]
        for held in (None, self.subject.held):
            found.append(moved_by_ulps(self.subject, self.dy, self.gradients, generator, _CLOSE_DRAWS, held))
        return replace(self, conditioning={k: np.max([each[k] for each in found], axis=0) for k in self.conditioning})

    def scaled(self, factor: float) -> Self:
        """The same with dy times a power of two; so is what rounding may do."""
        size = abs(factor)
        unsaturated, conditioning = (
            {k: size * each for k, each in of.items()} for of in (self.unsaturated, self.conditioning)
        )
        return replace(super().scaled(factor), unsaturated=unsaturated, conditioning=conditioning)

    def matches(self, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether they differ by no more than `tolerance`."""
        other = replace(self, dy=dy)
        return abs(other.residual(k, v, slopes)) <= other.tolerance(k, v, slopes)


def check_analytic(findings: Findings, generator: np.random.Generator) -> None:
    """Fill in the findings, with the error in one entry that is always caught.

    Raises StructureError where the forward refuses complex arrays or is not analytic.
    """
    subject = findings.subject
    y = subject.value(subject.arrays)
    point = analytic_point(subject, draw_upstream(generator, y.shape, y.dtype), generator)
    for k in findings.undecided():
        findings.results[k] = findings.results[k]._replace(detection_floor=0.0)
    for k in findings.undecided():
        _check_argument(point, k, findings, generator)
    check_linear(findings, point)


def analytic_point(subject: LayerUnderTest, dy: Array, generator: np.random.Generator) -> ComplexStep:
    """The point at the subject's arrays, with what rounding may do to its gradients."""
    y, cache = subject.value_and_cache(subject.arrays)
    gradients = subject.pull_back(subject.arrays, dy, cache)
    unit = _unit_scale(subject)
    unsaturated = finite(subject.pull_back(unit, dy, subject.value_and_cache(unit)[1]))
    conditioning = moved_by_ulps(subject, dy, gradients, generator, _CONDITION_DRAWS)
    return ComplexStep(subject, subject.arrays, y, dy, gradients, unsaturated, conditioning, _gamma(subject, y))


def _check_argument(point: ComplexStep, k: int, findings: Findings, generator: np.random.Generator) -> None:
    gradient, result = point.gradients[k], findings.results[k]
    if not np.isfinite(point.y).all():
        findings.leave_open(k, "y is not finite at these arrays")
        return
    index = not_finite(gradient)
    if index is not None and point.only_overflows(k):
        findings.leave_open(k, OVERFLOWS)
        return
    if index is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            findings.fail(point, k, index)
        return
    error = tolerance = 0.0
    largest = float(np.abs(gradient).max())
    # |v| >= 1/2 everywhere, the right gradient may itself be off by the tolerance, and what convicts is _DOUBTFUL.
    unit = 2 * (_DOUBTFUL + 1) / (largest or 1.0)
    for trial in range(_TRIALS):
        v = signed(generator, gradient.shape)
        if trial == 0:
            _check_odd(point, k, v)
            check_same_function(point.subject, k, v, _STEP, generator)
        slopes = point.slopes(k, v)
        residual, allowed = abs(point.residual(k, v, slopes)), point.tolerance(k, v, slopes)
        if residual > allowed:
            allowed += float((np.abs(point.dy) * point.slopes_round_by(k, v, slopes)).sum())
        if allowed < residual <= _DOUBTFUL * allowed:
            note = f"too close to tell: off by {residual:.2g}, rounding is expected up to {allowed:.2g}"
            findings.leave_open(k, note, residual, allowed)
            findings.results[k] = findings.results[k]._replace(detection_floor=unit * allowed)
            return
        if not residual <= allowed:
            check_not_contradicted(point, k, generator)
            check_one_branch(point, k, generator)
            closer = point.looked_at_closely(generator).tolerance(k, v, slopes)
            if residual <= _DOUBTFUL * closer:
                told = f"off by {residual:.2g}, an ulp in the arrays moves the gradient by {closer:.2g}"
                findings.leave_open(k, f"too close to tell: {told}", residual, closer)
                return
            findings.fail(point, k, locate(gradient.shape, lambda d: point.residual(k, d), generator, first=v))
            return
        error, tolerance = max(error, residual), max(tolerance, allowed)
    floor = unit * tolerance
    result = result._replace(error=error, tolerance=tolerance, detection_floor=floor)
    if largest and floor > 0.5:
        off = _not_repeated(point, k)
        if off.any():
            index = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
            findings.fail(point, k, index, note="called again, backward gives another gradient")
            return
        if is_constant(point.subject, k, generator):
            findings.results[k] = result
            findings.note_zero(k, floor * largest)
            return
        result = result._replace(
            verdict=INCONCLUSIVE, note="rounding hides this gradient: it could not be told from zero"
        )
    findings.results[k] = result


def _not_repeated(point: ComplexStep, k: int) -> Array:
    """How far the gradient is from that of another call at the same arrays; nothing where y differs, too."""
    y, cache = point.subject.value_and_cache(point.arrays)
    again = point.subject.pull_back(point.arrays, point.dy, cache)[k]
    return np.abs(again - point.gradients[k]) if np.array_equal(y, point.y) else np.zeros(again.shape)


def _check_odd(point: ComplexStep, k: int, v: Array) -> None:
    """Raise StructureError where the step depends on its sign: NumPy's maximum orders by both parts at a tie."""
    # Two roundings of one number.
    if not np.allclose(point.slopes(k, v), -point.slopes(k, -v), rtol=point.gamma, atol=point.gamma):
        name = point.subject.names[k]
        raise StructureError(f"a kink at these arrays: in {name} the complex step depends on the direction's sign")


def _gamma(subject: LayerUnderTest, y: Array) -> float:
    arrays = [subject.arrays[k] for k in subject.wrt]
    largest = max(float(np.abs(array).max(initial=0.0)) for array in arrays)
    k = max([y.size, *(array.size for array in arrays)]) + _ELEMENTARY + 4 * largest
    unit = k * float(np.finfo(subject.dtype).eps)
    if unit >= 0.5:
        raise StructureError(f"{subject.dtype} is too coarse for sums of {k:.3g} roundings")
    return float(unit / (1 - unit))


def _unit_scale(subject: LayerUnderTest) -> Arrays:
    return [
        np.asarray(array / max(1.0, float(np.abs(array).max(initial=0.0)))) if k in subject.wrt else array
        for k, array in enumerate(subject.arrays)
    ]
