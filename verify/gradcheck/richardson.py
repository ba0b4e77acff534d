"""Smooth functions of which nothing else is known: central differences, extrapolated (Ridders 1982).

    D(h) = sum(dy * (f(a + h v) - f(a - h v))) / 2h

over a ladder of halved steps, extrapolated to h = 0 in even powers of h (Richardson). What is
tolerated is ten times the reference's own error: the change between the last two extrapolations,
and the rounding of f divided by the step. If that does not suffice to tell the gradient from one
that is off by a thousandth, the verdict is INCONCLUSIVE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verify.gradcheck.certificate import FAIL, INCONCLUSIVE, PASS, ArgumentResult, Worst
from verify.gradcheck.exact import Results
from verify.gradcheck.exact_numbers import Array
from verify.gradcheck.locate import locate, not_finite
from verify.gradcheck.subject import Subject

_LEVELS = 8
_SAFETY = 10.0
_COARSEST_USEFUL = 1e-3


@dataclass(frozen=True)
class _Point:
    subject: Subject
    y: Array
    dy: Array
    gradients: dict[int, Array]

    def derivative(self, k: int, v: Array) -> tuple[float, float]:
        """The derivative of sum(dy * f) along v in argument k, and an estimate of its error."""
        step = self._longest(k)
        epsilon = float(np.finfo(self.y.dtype).eps)
        noise = epsilon * float((np.abs(self.dy) * np.abs(self.y)).sum())
        best, best_error = np.nan, np.inf
        previous: list[float] = []
        for level in range(_LEVELS):
            h = step / 2**level
            row = [self._central(k, v, h)]
            for order, coarser in enumerate(previous, 1):
                row.append(row[-1] + (row[-1] - coarser) / (4**order - 1))
            rounding = noise / h + epsilon * float(self.y.size) ** 0.5 * abs(row[-1])
            if previous:
                for order in range(1, len(row)):
                    error = max(abs(row[order] - row[order - 1]), abs(row[order] - previous[order - 1])) + rounding
                    if error < best_error:
                        best, best_error = row[order], error
            previous = row
        return best, best_error

    def _central(self, k: int, v: Array, h: float) -> float:
        ahead = self.subject.value(self.subject.moved(self.subject.arrays, k, h * v)).astype(np.float64)
        behind = self.subject.value(self.subject.moved(self.subject.arrays, k, -h * v)).astype(np.float64)
        return float((self.dy * (ahead - behind)).sum()) / (2 * h)

    def one_sided(self, k: int, v: Array) -> tuple[float, float]:
        """The difference quotients to either side, at the shortest step of the ladder."""
        h = self._longest(k) / 2**_LEVELS
        ahead, behind = (
            self.subject.value(self.subject.moved(self.subject.arrays, k, side * h * v)) for side in (1, -1)
        )
        return float((self.dy * (ahead - self.y)).sum()) / h, float((self.dy * (self.y - behind)).sum()) / h

    def _longest(self, k: int) -> float:
        return 2.0**-3 * max(1.0, float(np.abs(self.subject.arrays[k]).max()))

    def residual(self, k: int, v: Array) -> float:
        """What the difference says less what the gradient says."""
        return self.derivative(k, v)[0] - float((self.gradients[k] * v).sum())


def check_smooth(subject: Subject, generator: np.random.Generator) -> Results:
    """A result for each argument, with the error in one entry that is always caught."""
    y, cache = subject.value_and_cache(subject.arrays)
    dy = (generator.choice([-1.0, 1.0], y.shape) * generator.uniform(0.5, 1.0, y.shape)).astype(y.dtype)
    point = _Point(subject, y, dy, subject.pull_back(subject.arrays, dy, cache))
    return {k: _check_argument(point, k, generator) for k in subject.wrt}


def _check_argument(point: _Point, k: int, generator: np.random.Generator) -> ArgumentResult:
    gradient = point.gradients[k]
    result = ArgumentResult(k, point.subject.names[k], gradient.shape, PASS, detection_floor=0.0)
    if not gradient.size:
        return result
    if not np.isfinite(point.y).all():
        return result._replace(verdict=INCONCLUSIVE, note="y is not finite at these arrays")
    v = generator.choice([-1.0, 1.0], gradient.shape) * generator.uniform(0.5, 1.0, gradient.shape)
    numeric, estimate = point.derivative(k, v)
    tolerance = _SAFETY * estimate
    index = not_finite(gradient)
    scale = float((np.abs(gradient) * np.abs(v)).sum()) if index is None else abs(numeric)
    useful = tolerance <= _COARSEST_USEFUL * max(scale, abs(numeric)) or tolerance == 0
    if index is None and not useful:
        note = f"the differences are known to {tolerance:.2g} only, of {max(scale, abs(numeric)):.2g}"
        return result._replace(verdict=INCONCLUSIVE, tolerance=tolerance, note=note)
    error = abs(point.residual(k, v)) if index is None else np.nan
    if index is None and error <= tolerance:
        largest = float(np.abs(gradient).max())
        floor = 4 * tolerance / largest if largest else 4 * tolerance
        return result._replace(error=error, tolerance=tolerance, detection_floor=floor)
    if index is None:
        ahead, behind = point.one_sided(k, v)
        # A smooth function's quotients differ by h f'', far less than this at the shortest step.
        if abs(ahead - behind) > 0.01 * max(abs(ahead), abs(behind)):
            note = f"a kink at these arrays: one-sided derivatives {behind:.6g} and {ahead:.6g}"
            return result._replace(verdict=INCONCLUSIVE, error=error, tolerance=tolerance, note=note)
        index = locate(gradient.shape, lambda d: point.residual(k, d), generator, first=v)
    unit = np.zeros(gradient.shape)
    unit[index] = 1
    value, uncertainty = point.derivative(k, unit)
    worst = Worst(k, index, float(gradient[index]), value, _SAFETY * uncertainty)
    return result._replace(verdict=FAIL, error=error, tolerance=tolerance, worst=worst)
