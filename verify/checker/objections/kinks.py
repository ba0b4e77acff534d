"""Is there a kink at these arrays at which the reference does not know what may be claimed?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.exact_numbers import draw_integers
from verify.checker.objections import Disagreement
from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import Reference

if TYPE_CHECKING:
    from verify.checker.references.at_ties import AtTies

# Points beside the arrays, and directions there: at a median of three equal numbers more than half of the pairs tell.
_BESIDE = 8
# The directions of those have few bits, so that all stays exact at steps 8 times shorter.
_FEW_BITS = 2
# The median of three equal numbers seems linear along 23 in 100 pairs of directions: along 12 in 2 of 10^8 draws.
_PAIRS, _PAIR_BITS = 12, 8
# Slopes that differ by more than this share of the largest differ by no rounding.
_NO_ROUNDING = 2.0**-9


def irregular_at_ties(case: Disagreement[AtTies]) -> str | None:
    """Where y is not regular, one-sided derivatives do not bound what may be claimed (Clarke 1983, section 2.3).

    A maximum is regular, and so is minus one. A median is not, nor is a relu less another.
    """
    if _by_branch(case) or is_regular(case.reference, case.point, case.k, case.rng):
        return None
    return (
        f"{case.name} lies at a kink where one-sided slopes do not bound the gradient, as at a median of equal "
        "numbers: break the ties, or let the forward take complex numbers"
    )


def _by_branch(case: Disagreement[AtTies]) -> bool:
    """Whether the claim was compared with the branch that the forward takes, where complex arrays show it."""
    if case.interval.low != case.interval.high:
        return False
    same = case.reference.branch(case.point, case.k, case.v) == case.interval.low
    return same and case.reference.takes_one_branch(case.point, case.k)


def many_branches(case: Disagreement[Any]) -> None:
    """Raise StructureError where the complex step takes another branch for another direction."""
    if not is_linear(lambda v: case.reference.slopes(case.point, case.k, v), case.v.shape, case.rng):
        raise StructureError(f"a tie at these arrays: the complex step in {case.name} is not linear")


def jumps(reference: Reference, point: Point, k: int, v: Array) -> bool:
    """Whether f does not go half as far with half the step: it is not continuous here."""
    half = replace(point, step=point.step / 2)
    sides = (v, -v)
    return any(not np.array_equal(reference.slopes(point, k, s), reference.slopes(half, k, s)) for s in sides)


def is_regular(reference: Reference, point: Point, k: int, rng: np.random.Generator) -> bool:
    """Whether every slope of y beside the arrays lies between the one-sided derivatives at them."""
    layer, shape, dtype = point.layer, point.claimed[k].shape, point.claimed[k].dtype
    seen = point.dy != 0
    near = [draw_integers(rng, shape, reference.bits, dtype) for _ in range(_BESIDE)]
    beside = [layer.moved(point.arrays, k, point.step * u) for u in near]
    values = [layer.value(arrays) for arrays in beside]
    short = point.step / 8
    for _ in range(_BESIDE):
        v = draw_integers(rng, shape, _FEW_BITS, dtype)
        ahead, behind = reference.slopes(point, k, v), -reference.slopes(point, k, -v)
        low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
        for arrays, y in zip(beside, values, strict=True):
            there, back = ((layer.value(layer.moved(arrays, k, s * v)) - y) / s for s in (short, -short))
            if (seen & (there == back) & ((there < low) | (there > high))).any():
                return False
    return True


def is_linear(slopes: Callable[[Array], Array], shape: tuple[int, ...], rng: np.random.Generator) -> bool:
    """Whether slopes add up, except for rounding. NumPy's sort orders equal numbers by their imaginary parts.

    Where twice the way is not twice as far, the slope is no number (that of a square root at 0), and shows no branch.
    """
    off = largest = 0.0
    for _ in range(_PAIRS):
        one, other = (draw_integers(rng, shape, _PAIR_BITS, np.dtype(float)) for _ in range(2))
        part, rest, whole, twice = (slopes(v) for v in (one, other, one + other, 2 * one))
        even = np.abs(twice - 2 * part) <= _NO_ROUNDING * np.abs(part).max(initial=0.0)
        off = max(off, float(np.abs(whole - part - rest)[even].max(initial=0.0)))
        largest = max(largest, *(float(np.abs(each[even]).max(initial=0.0)) for each in (part, rest, whole)))
    return off <= _NO_ROUNDING * largest
