"""The complex step, for analytic functions: no subtraction, no truncation.

With h = 2^-200, Im f(a + i h v) / h is the derivative of f along v up to rounding (Squire & Trapp
1998). The forward must accept complex128 arrays, and where it branches (a maximum subtracted, a
relu) it branches on the real part.

What is tolerated is the rounding of both sides and nothing else:

    |sum(dy * Jv) - sum(da * v)| <= gamma_k * (sum|dy||Jv| + sum|da||v| + sum|dy||J(u)v|)

with gamma_k = k eps / (1 - k eps) (Higham 2002, section 3.1). k is the longest sum there can be, the
entries of the largest array; and 32, for a handful of elementary functions of a few roundings each;
and 4 max|a|, since an exponential turns a rounding of its argument, relative eps |a|, into one of its
value. The third term is the floor: where a function saturates (a confident softmax) its derivative
vanishes but the roundings inside do not, so the derivative at u, the arrays scaled to entries of at
most 1, stands for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from verify.gradcheck.certificate import FAIL, INCONCLUSIVE, PASS, ArgumentResult, StructureError, Worst
from verify.gradcheck.exact import Results
from verify.gradcheck.exact_numbers import Array
from verify.gradcheck.locate import locate, not_finite
from verify.gradcheck.subject import Arrays, Subject

_STEP = 2.0**-200
_ELEMENTARY = 32
_TRIALS = 2
# A plain difference only has to tell whether the complex step differentiates the same function.
_PLAIN_STEP, _PLAIN_TOLERANCE = 2.0**-20, 1e-3


@dataclass(frozen=True)
class _Point:
    subject: Subject
    y: Array
    dy: Array
    gradients: dict[int, Array]
    gamma: float

    def slopes(self, k: int, v: Array, arrays: Arrays | None = None) -> Array:
        """The derivative of y along v in argument k, entry by entry."""
        moved = self.subject.complex_value(self.subject.arrays if arrays is None else arrays, k, _STEP * v)
        return np.asarray(moved.imag / _STEP)

    def residual(self, k: int, v: Array) -> float:
        """What the complex step says less what the gradient says."""
        return float((self.dy * self.slopes(k, v)).sum() - (self.gradients[k] * v).sum(dtype=np.float64))

    def tolerance(self, k: int, v: Array) -> float:
        """The right-hand side of the inequality at the head of this module."""
        weight = np.abs(self.dy)
        scale = (weight * np.abs(self.slopes(k, v))).sum() + (np.abs(self.gradients[k]) * np.abs(v)).sum()
        floor: Array = np.nan_to_num(np.abs(self.slopes(k, v, _unit_scale(self.subject))), nan=0.0, posinf=0.0)
        return float(self.gamma * (scale + (weight * floor).sum()))


def check_analytic(subject: Subject, generator: np.random.Generator) -> Results:
    """A result for each argument, with the error in one entry that is always caught.

    Raises StructureError where the forward refuses complex arrays or is not analytic.
    """
    y, cache = subject.value_and_cache(subject.arrays)
    dy = _signed(generator, y.shape).astype(y.dtype)
    point = _Point(subject, y, dy, subject.pull_back(subject.arrays, dy, cache), _gamma(subject, y))
    return {k: _check_argument(point, k, generator) for k in subject.wrt}


def _check_argument(point: _Point, k: int, generator: np.random.Generator) -> ArgumentResult:
    gradient = point.gradients[k]
    result = ArgumentResult(k, point.subject.names[k], gradient.shape, PASS, detection_floor=0.0)
    if not gradient.size:
        return result
    if not np.isfinite(point.y).all():
        return result._replace(verdict=INCONCLUSIVE, note="y is not finite at these arrays")
    index = not_finite(gradient)
    error = tolerance = 0.0
    for trial in range(_TRIALS):
        v = _signed(generator, gradient.shape)
        if trial == 0:
            _check_analytic(point, k, v)
        if index is None:
            error, tolerance = abs(point.residual(k, v)), point.tolerance(k, v)
            if not error <= tolerance:
                index = locate(gradient.shape, lambda d: point.residual(k, d), generator, first=v)
        if index is not None:
            return result._replace(verdict=FAIL, error=error, tolerance=tolerance, worst=_entry(point, k, index))
        # |v| >= 1/2 everywhere, and the right gradient may itself be off by the tolerance.
        largest = float(np.abs(gradient).max())
        floor = 4 * tolerance / largest if largest else 4 * tolerance
        result = result._replace(
            error=max(result.error, error),
            tolerance=max(result.tolerance, tolerance),
            detection_floor=max(result.detection_floor or 0.0, floor),
        )
    if largest and (result.detection_floor or 0.0) > 0.5:
        return result._replace(
            verdict=INCONCLUSIVE, note="rounding hides this gradient: it could not be told from zero"
        )
    return result


def _check_analytic(point: _Point, k: int, v: Array) -> None:
    """Raise StructureError where plain differences, to one side and to the other, both contradict the complex step.

    At a kink the two sides differ, and the branch taken lies between them.
    """
    array: Any = point.subject.arrays[k]
    step = _PLAIN_STEP * max(1.0, float(np.abs(array).max()))
    if array.dtype == np.float32:
        step *= 2.0**10
    slopes = point.slopes(k, v)
    if not np.allclose(slopes, -point.slopes(k, -v), rtol=point.gamma, atol=point.gamma):  # two roundings of one number
        raise StructureError(
            f"a kink at these arrays: in {point.subject.names[k]} the complex step depends on the direction's sign"
        )
    numeric = float((point.dy * slopes).sum())
    ahead = (point.subject.value(point.subject.moved(point.subject.arrays, k, step * v)) - point.y) / step
    behind = (point.y - point.subject.value(point.subject.moved(point.subject.arrays, k, -step * v))) / step
    low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
    rising = point.dy >= 0
    least = float((point.dy * np.where(rising, low, high)).sum())
    most = float((point.dy * np.where(rising, high, low)).sum())
    scale = float((np.abs(point.dy) * (np.abs(ahead) + np.abs(behind))).sum())
    rounding = 4 * float(np.finfo(point.y.dtype).eps) * float((np.abs(point.dy) * np.abs(point.y)).sum()) / step
    margin = _PLAIN_TOLERANCE * scale + rounding
    if not least - margin <= numeric <= most + margin:
        raise StructureError(
            f"not analytic in {point.subject.names[k]}: the complex step gives {numeric:.6g}, "
            f"plain differences {least:.6g} to {most:.6g}"
        )


def _entry(point: _Point, k: int, index: tuple[int, ...]) -> Worst:
    gradient = point.gradients[k]
    unit = np.zeros(gradient.shape)
    unit[index] = 1
    numeric = float((point.dy * point.slopes(k, unit)).sum())
    tolerance = float(point.gamma * (np.abs(point.dy) * np.abs(point.slopes(k, unit))).sum())
    return Worst(k, index, float(gradient[index]), numeric, tolerance)


def _gamma(subject: Subject, y: Array) -> float:
    arrays = [subject.arrays[k] for k in subject.wrt]
    largest = max(float(np.abs(array).max(initial=0.0)) for array in arrays)
    k = max([y.size, *(array.size for array in arrays)]) + _ELEMENTARY + 4 * largest
    unit = k * float(np.finfo(subject.dtype).eps)
    if unit >= 0.5:
        raise StructureError(f"{subject.dtype} is too coarse for sums of {k:.3g} roundings")
    return float(unit / (1 - unit))


def _unit_scale(subject: Subject) -> Arrays:
    return [
        np.asarray(array / max(1.0, float(np.abs(array).max(initial=0.0)))) if k in subject.wrt else array
        for k, array in enumerate(subject.arrays)
    ]


def _signed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random signs times magnitudes in [1/2, 1)."""
    return np.asarray(generator.choice([-1.0, 1.0], shape) * generator.uniform(0.5, 1.0, shape))
