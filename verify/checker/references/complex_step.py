"""The complex step, for analytic functions: no subtraction, no truncation.

With h = 2^-200, Im f(a + i h v) / h is the derivative of f along v up to rounding (Squire & Trapp 1998). The forward
must accept complex128 arrays. Where it branches (a maximum subtracted, a relu) it branches on the real part.

What is tolerated is the rounding of both sides:

    |sum(dy * Jv) - sum(da * v)| <= gamma_k * (sum|dy||Jv| + sum|da||v| + sum|da(u)||v|) + c * sum|delta||v|

with gamma_k and k as in conditioning.py.

The third term is the floor. Where a function saturates (a confident softmax) its derivative vanishes, but the roundings
inside do not. Nor do they where it vanishes by symmetry, as of a softmax of equal logits. The gradient at u, arrays
without symmetry and with entries of at most 1, stands for them. The last term is the
conditioning: delta is measured, as how far the gradient moves when the arrays move by an ulp. A batch norm of two
images has little left after it subtracts. Where that is not enough, the complex step's own rounding is measured, as of
a solution with a matrix that the forward keeps to itself. Slopes along 3/4 v, 5/8 v and 7/8 v are rescaled. They
differ from that along v by rounding alone. c times their spread is added to the tolerance and to the detection floor.

A wrong gradient can widen these only by claiming to be large or to jump. Then the detection floor says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.complex_consistency import check_consistent
from verify.checker.conditioning import DOUBTFUL, FACTORS, MOST_AMPLIFIED, gamma, moved_by_ulps, unsaturated
from verify.checker.directions import draw_upstream, signed
from verify.checker.point import Array, Point, StructureError, Worst
from verify.checker.reference import BY_COMPLEX, Interval, Promise, Reference, Way, point_at

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections import Disagreement, Objection

# h^2 = 2^-400 leaves no truncation, and h times a slope above 2^-800 is a normal number.
_STEP = 2.0**-200
_TRUNCATION = 2.0**-300  # of order step^2 = 2^-400, with room for third derivatives up to 2^100
# What differs by more, between multiples of one direction, is no rounding: at 0 a square root has no slope at all.
_NO_SLOPE = 2.0**-9
# A wrong entry weighs between half and all of itself in v, errors that cancel along one direction show in another.
_DIRECTIONS = 2
# Four draws of signs show how one ulp is amplified typically.
_CONDITION_DRAWS = 4
# Above it a gradient could not be distinguished from zero.
_COARSEST = 0.5
_HIDDEN = "rounding hides this gradient: it could not be told from zero; take arrays at which y changes more"


class ComplexStep(Reference):
    """The complex step, with the rounding to expect."""

    def __init__(self, objections: tuple[Objection, ...] = ()) -> None:
        self.objections = objections
        self._rng = np.random.default_rng(0)
        self._consistent: set[int] = set()
        self._tolerance: dict[int, float] = {}

    def points(self, layer: LayerUnderTest, rng: np.random.Generator) -> Iterator[Point]:
        """The arrays given."""
        self._rng = rng
        point = point_at(layer, layer.arrays, lambda y: draw_upstream(rng, y.shape, y.dtype))
        self._unsaturated = unsaturated(layer, point.dy, rng)
        self._conditioning = moved_by_ulps(layer, point.dy, point.claimed, rng, _CONDITION_DRAWS)
        self._gamma, self._size = gamma(layer, point.y), float(np.abs(point.dy).max(initial=0.0))
        yield point

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        """Two, none of whose entries is small."""
        for _ in range(_DIRECTIONS):
            yield signed(rng, point.claimed[k].shape)

    def slopes(self, point: Point, k: int, v: Array) -> Array:
        """Im f(a + i h v) / h."""
        step = np.multiply(_STEP, v, dtype=np.float64)  # too short for a float32
        return np.asarray(point.layer.complex_value(point.arrays, k, step).imag / _STEP)

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        """The value, give or take rounding; what the complex step itself rounds by counts if the claim lies outside."""
        slopes = self.slopes(point, k, v)
        if k not in self._consistent:
            self._check_odd(point, k, v, slopes)
            check_consistent(point.layer, k, v, _STEP, self._rng)
            self._consistent.add(k)
        interval = Interval.around(float((point.dy * slopes).sum()), self._rounding(point, k, v, point.dy, slopes))
        if interval.excess(self.claim(point, k, v)) > 0:
            spread = float((np.abs(point.dy) * self._slopes_round_by(point, k, v, slopes)).sum())
            interval = Interval.around(float((point.dy * slopes).sum()), interval.tolerated + spread)
        self._tolerance[k] = max(self._tolerance.get(k, 0.0), interval.tolerated)
        return interval

    def claim(self, point: Point, k: int, v: Array) -> float:
        """<da, v>."""
        return float((point.claimed[k] * v).sum(dtype=np.float64))

    def offset(self, point: Point, k: int, v: Array) -> float:
        """<dy, J v> - <da, v>."""
        return float((point.dy * self.slopes(point, k, v)).sum()) - self.claim(point, k, v)

    def promise(self, point: Point, k: int) -> Promise:
        """|v| >= 1/2, the right gradient may be off by the tolerance, and up to DOUBTFUL tolerances nothing fails."""
        largest = float(np.abs(point.claimed[k]).max())
        floor = 2 * (DOUBTFUL + 1) / (largest or 1.0) * self._tolerance.get(k, 0.0)
        hidden = bool(largest) and floor > _COARSEST
        return Promise(floor, _HIDDEN if hidden else "")

    def allowed(self, point: Point, k: int, expected: Array) -> Array:
        """The rounding of each entry, at the scale of the largest."""
        scale = np.abs(expected).max(initial=0.0) + self._share(point) * np.abs(self._unsaturated[k]).max(initial=0.0)
        return np.asarray(
            self._gamma * scale + MOST_AMPLIFIED * self._share(point) * self._conditioning[k] + _TRUNCATION
        )

    def matches(self, point: Point, k: int, v: Array, dy: Array, slopes: Array) -> bool:
        """Whether they differ by no more than rounding."""
        return abs(float((dy * slopes).sum()) - self.claim(point, k, v)) <= self._rounding(point, k, v, dy, slopes)

    def ways(self, point: Point, worst: Worst) -> Iterator[Way]:
        """A complex step, at normal numbers or at the arrays themselves."""
        scale = max(abs(worst.analytic), abs(worst.numeric))
        step = BY_COMPLEX._replace(h=1e-60)
        yield step._replace(drawn="rng.normal(size={shape})", enough=1e-4)
        yield step._replace(enough=worst.tolerance / scale if scale else 0.0)

    def _share(self, point: Point) -> float:
        """How large dy is beside that of the point at which rounding was measured."""
        return float(np.abs(point.dy).max(initial=0.0)) / (self._size or 1.0)

    def _rounding(self, point: Point, k: int, v: Array, dy: Array, slopes: Array) -> float:
        """The right-hand side of the inequality at the head of this module."""
        share = self._share(point)
        both = (np.abs(point.claimed[k]) + share * np.abs(self._unsaturated[k])) * np.abs(v)
        rounding = self._gamma * ((np.abs(dy) * np.abs(slopes)).sum() + both.sum(dtype=np.float64))
        amplified = MOST_AMPLIFIED * share * (self._conditioning[k] * np.abs(v)).sum(dtype=np.float64)
        return float(rounding + amplified) + _TRUNCATION

    def _slopes_round_by(self, point: Point, k: int, v: Array, slopes: Array) -> Array:
        """By how much slopes along v round: all products round otherwise along 3/4 v."""
        others = [self.slopes(point, k, factor * v) / factor for factor in FACTORS]
        off = np.max([np.abs(other - slopes) for other in others], axis=0)
        return np.where(off <= _NO_SLOPE * np.abs(slopes), MOST_AMPLIFIED * off, 0.0)

    def _check_odd(self, point: Point, k: int, v: Array, slopes: Array) -> None:
        """Raise StructureError where the step depends on its sign: NumPy's maximum orders by both parts at a tie."""
        # Two roundings of one number.
        if not np.allclose(slopes, -self.slopes(point, k, -v), rtol=self._gamma, atol=self._gamma):
            name = point.layer.names[k]
            raise StructureError(f"a kink at these arrays: in {name} the complex step depends on the direction's sign")


def too_long(case: Disagreement[ComplexStep]) -> None:
    """Raise StructureError where entries are as small as the step: h^2 / a^2 is above eps, and slopes show it."""
    array: Any = case.point.arrays[case.k]
    sizes = np.abs(array)[array != 0]
    least = float(sizes.min(initial=np.inf))
    if least >= _STEP / np.sqrt(np.finfo(float).eps):
        return
    one, other = (case.reference.slopes(case.point, case.k, f * case.v) / f for f in (1.0, FACTORS[0]))
    if (np.abs(other - one) > _NO_SLOPE * np.abs(one)).any():
        raise StructureError(f"an entry of {case.name} is {least:.2g}, too small for a complex step of {_STEP:.2g}")
