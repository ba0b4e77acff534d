"""May rounding explain the disagreement: in the backward, in the reference, or in the layer itself?"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from verify.checker.conditioning import DOUBTFUL, FACTORS, MOST_AMPLIFIED, moved_by_ulps
from verify.checker.directions import unit
from verify.checker.extrapolation import SAFETY
from verify.checker.layer import NoResult
from verify.checker.objections import Disagreement
from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import scaled

# Terms that cancel may leave 2^24 roundings; fewer than 2^10 are the last bits. One of float32 is 2^29 of float64.
_ROUNDED, _LAST_BITS = 2.0**24, 2.0**10
# Of the mantissa's bits the last quarter: everything rounds otherwise, and a gradient moves by a billionth of itself.
_SHORT = 0.75
# Before anything is called wrong: two signs of three or four numbers are alike in all of 16 draws once in 2^16.
_MANY_DRAWS, _DRAWS = 16, 8


def backward_rounds(case: Disagreement[Any]) -> None:
    """Raise StructureError where the wrong entry had to be rounded, and is off by no more than that.

    It had to be where it is no integer, or where the exact one does not fit its dtype. The rounding is at most that of
    the sum of these products, each rounded (Higham 2002, section 3.1). Of 0 nothing rounds, but what cancels to 0 may.
    """
    point, dtype = case.point, case.point.dy.dtype
    analytic = case.worst.analytic
    basis = unit(point, case.k, case.index)
    numeric = Fraction(case.reference.derivative(point, case.k, basis).nearest(Fraction(analytic)))
    slopes = case.reference.slopes(point, case.k, basis)
    products = point.dy * slopes
    rounding = np.count_nonzero(products) * float(np.finfo(dtype).eps) * float(np.abs(products).sum())
    fits = Fraction(float(dtype.type(float(numeric)))) == numeric
    exact = fits and (analytic.is_integer() or Fraction(analytic) == numeric)
    explained = abs(analytic - float(numeric)) <= rounding or _products_round_by(case) is not None
    explained = explained or _sums_of_dy_round(case, slopes)
    if not exact and (explained or (not products.any() and is_noise(case.point, case.k, case.rng))):
        raise StructureError(
            f"the backward rounds: d{case.name}[{', '.join(map(str, case.index))}] is {analytic!r}, "
            f"where {float(numeric)!r} is exact"
        )


def _sums_of_dy_round(case: Disagreement[Any], slopes: Array) -> bool:
    """Whether the wrong entry rounds by as much as it is off, where backward sums all of dy, as to subtract its mean.

    For 3/4 dy it is another entry then. A wrong gradient that rounds nothing is not, nor is one that is random excused.
    """
    point, worst = case.point, case.worst
    error, eps = abs(worst.analytic - worst.numeric), float(np.finfo(point.dy.dtype).eps)
    most = point.dy.size * eps * float(np.abs(point.dy).sum()) * float(np.abs(slopes).max(initial=0.0))
    if error > SAFETY * most:
        return False
    again, *entries = (scaled(point, f).claimed[case.k][worst.index] / f for f in (1.0, *FACTORS))
    rounded = max(abs(float(entry) - worst.analytic) for entry in entries)
    return float(again) == worst.analytic and error <= SAFETY * rounded <= SAFETY * most


def lost_in_y(case: Disagreement[Any]) -> None:
    """Raise StructureError where the wrong entry is off by so little that y shows none of it.

    A move as long as the largest entry would change dy y by less than its rounding: 1 - tanh(40)^2 is 10^-34, and
    tanh(40) is 1 exactly.
    """
    point, array = case.point, case.point.arrays[case.k]
    rounding = float(np.finfo(point.y.dtype).eps) * _largest(point.dy) * _largest(point.y)
    error = abs(case.worst.analytic - case.worst.numeric)
    if 0 < error * _largest(array) < rounding:
        raise StructureError(f"d{case.name} is off by {error:.2g}, which y rounds away")


def too_close(case: Disagreement[Any]) -> str | None:
    """Off by little more than is tolerated: the conditioning, which is part of it, is an estimate."""
    residual, allowed = float(case.excess) + case.interval.tolerated, case.interval.tolerated
    if residual > DOUBTFUL * allowed:
        return None
    return f"{_close(residual)}, and rounding alone may make {allowed:.2g}: take other arrays, or fewer entries"


def ulps_along(case: Disagreement[Any]) -> str | None:
    """An ulp in the arrays, fixed ones included, moves the gradient by as much as it is off along v.

    Complex numbers, of float64 and summed in another order, may take a branch that the arrays do not.
    """
    point, layer = case.point, case.point.layer
    found = [
        moved_by_ulps(layer, point.dy, point.claimed, case.rng, _MANY_DRAWS, fixed)[case.k]
        for fixed in (None, layer.fixed)
    ]
    moved = float((np.max(found, axis=0) * np.abs(case.v)).sum(dtype=np.float64))
    residual, tolerated = float(case.excess) + case.interval.tolerated, case.interval.tolerated
    if residual > DOUBTFUL * max(tolerated, MOST_AMPLIFIED * moved):
        return None
    if MOST_AMPLIFIED * moved < tolerated:
        return too_close(case)
    return f"{_close(residual)}, {_ill_conditioned(moved)}"


def products_round(case: Disagreement[Any]) -> str | None:
    """Backward rounds by as much as it is off, where large terms cancel."""
    rounded, error = _products_round_by(case), abs(case.worst.analytic - case.worst.numeric)
    if rounded is None:
        return None
    return (
        f"off by {error:.2g}, and backward rounds by {rounded:.2g}, as large terms cancel: take arrays of moderate size"
    )


def _largest(array: Any) -> float:
    """The largest magnitude: 0 where there is no y."""
    return float(np.abs(array).max(initial=0.0))


def _products_round_by(case: Disagreement[Any]) -> float | None:
    """By how much the wrong entry rounds, if that may explain its error.

    The gradient of 3/4 dy over 3/4, of which all products round otherwise, then has another entry there, by more than
    the last bits. Beside dy y / a such rounding must be small: a backward that computes in float32 is wrong.
    """
    point, worst, array = case.point, case.worst, case.point.arrays[case.k]
    assert array is not None
    scale = _largest(point.dy) * _largest(point.y) / (_largest(array) or 1.0)
    eps = float(np.finfo(array.dtype).eps)
    error = abs(worst.analytic - worst.numeric)
    least, most = max(error / SAFETY, _LAST_BITS * eps * abs(worst.analytic)), _ROUNDED * eps * scale
    if not least <= most:
        return None
    entries = [float(scaled(point, factor).claimed[case.k][worst.index]) / factor for factor in FACTORS]
    rounded = max(abs(entry - worst.analytic) for entry in entries)
    return rounded if least <= rounded <= most else None


def ulps_at_entry(case: Disagreement[Any]) -> str | None:
    """An ulp in the arrays moves the wrong entry, and the gradient along v, by as much as they are off.

    A backward that gives another entry when it is called again is random, and not excused.
    """
    point, worst, k = case.point, case.worst, case.k
    try:
        moved = moved_by_ulps(point.layer, point.dy, point.claimed, case.rng, _DRAWS, point.layer.fixed)[k]
    except NoResult:  # at the edge of the domain
        return None
    error, along = abs(worst.analytic - worst.numeric), float(case.excess) + case.interval.tolerated
    if along > MOST_AMPLIFIED * float(moved.sum()) or error > MOST_AMPLIFIED * float(moved[worst.index]):
        return None
    if scaled(point, 1.0).claimed[k][worst.index] != point.claimed[k][worst.index]:
        return None
    return f"off by {error:.2g} at the worst entry, {_ill_conditioned(float(moved[worst.index]))}"


def is_noise(point: Point, k: int, rng: np.random.Generator) -> bool:
    """Whether a gradient that should be 0 is what rounding leaves of terms that cancel.

    As dy - mean(dy) of a single entry. It is small beside dy and the arrays, and is another when these are moved by a
    little: so a wrong gradient does not behave.
    """
    layer, dy, eps = point.layer, point.dy, float(np.finfo(point.layer.dtype).eps)
    largest = max(float(np.abs(each).max(initial=0.0)) for each in (*(point.arrays[j] for j in layer.wrt), point.y))  # type: ignore[arg-type]
    claimed = float(np.abs(point.claimed[k]).max(initial=0.0))
    if not claimed <= _ROUNDED * eps * float(np.abs(dy).max(initial=0.0)) * largest:
        return False

    def moved(array: Any) -> Any:
        return np.asarray(array * (1 + eps**_SHORT * rng.uniform(-1, 1, array.shape))).astype(array.dtype)

    try:
        for _ in range(_DRAWS):
            arrays = [moved(array) if j in layer.wrt else array for j, array in enumerate(point.arrays)]
            gradient = layer.pull_back(arrays, moved(dy), layer.value_and_cache(arrays)[1])[k]
            if claimed <= SAFETY * float(np.abs(gradient - point.claimed[k]).max()):
                return True
    except NoResult:
        pass
    return False


def _close(residual: float) -> str:
    return f"too close to tell: off by {residual:.2g} along a random direction"


def _ill_conditioned(moved: float) -> str:
    """What an ulp does, as measured, and what to do."""
    return (
        f"where an ulp in the arrays moves the gradient by {moved:.2g} and rounding inside may move it up to "
        f"{MOST_AMPLIFIED:g} times as far: take arrays at which it is better conditioned"
    )
