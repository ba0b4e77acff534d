"""Which references check which structure, and the objections that each must ask before it calls a claim wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from verify.checker.layer import LayerUnderTest
from verify.checker.objections import kinks, rounding, steps, structure
from verify.checker.point import Arrays
from verify.checker.reference import Reference
from verify.checker.references import at_ties, complex_step, multilinear
from verify.checker.references.complex_step import ComplexStep
from verify.checker.references.differences import Differences
from verify.checker.references.exact_complex_step import ExactComplexStep
from verify.checker.references.multilinear import Multilinear
from verify.checker.references.piecewise_linear import PiecewiseLinear

# Structure -> the name of what checks it, strongest first: the order in which "auto" tries them.
ORACLES = {
    "multilinear": "exact integers",
    "piecewise-linear": "exact gapped integers",
    "piecewise-multilinear": "exact complex integers",
    "analytic": "complex step",
    "smooth": "extrapolated differences",
}


class Candidate(NamedTuple):
    """A structure, and the references that check it. Each lists its objections in the order in which they are asked."""

    structure: str
    references: Callable[[float], tuple[Reference, ...]]


def rounding_crosses_a_kink(layer: LayerUnderTest) -> bool:
    """Whether a kink lies between some entry and its rounding: then another reference must look at the arrays given."""
    arrays, _ = at_ties.on_grid(layer, at_ties.grid_bits(layer))
    return not all(_lies_on_one_piece(layer, k, arrays) for k in layer.wrt)


def _lies_on_one_piece(layer: LayerUnderTest, k: int, rounded: Arrays) -> bool:
    """Whether f is affine from the rounded argument k to the one given.

    Half way it is the mean of both ends, up to the rounding of the longest sum of products (Higham 2002, section 3.1).
    """
    given: Any = layer.arrays[k]
    there: Any = rounded[k]
    if np.array_equal(given, there):
        return True
    middle = np.asarray(there + (given - there) / 2).astype(given.dtype)
    ends = [layer.value(layer.with_array(rounded, k, end)).astype(np.float64) for end in (given, there)]
    between = layer.value(layer.with_array(rounded, k, middle)).astype(np.float64)
    largest = max(float(np.abs(end).max(initial=0.0)) for end in ends)
    rounding = 4 * max(int(layer.arrays[j].size) for j in layer.wrt) * float(np.finfo(given.dtype).eps) * largest
    return bool((np.abs(between - (ends[0] + ends[1]) / 2) <= rounding).all())


_SMOOTH = (
    steps.plateaus,
    steps.long_steps_agree,
    steps.short_steps_agree,
    steps.too_many,
    steps.irregular,
    steps.too_steep,
    rounding.products_round,
    rounding.ulps_at_entry,
)
CANDIDATES = (
    Candidate(
        "multilinear",
        lambda miss: (
            Multilinear(miss, (multilinear.range_not_proved, structure.not_multilinear, rounding.backward_rounds)),
        ),
    ),
    Candidate(
        "multilinear",
        lambda miss: (Multilinear(miss, (structure.not_multilinear, rounding.backward_rounds), proved=True),),
    ),
    Candidate(
        "piecewise-linear",
        lambda miss: (
            # First at the arrays given: a function of another structure shows there, before it is believed elsewhere.
            at_ties.AtTies(
                miss,
                (
                    rounding.lost_in_y,
                    rounding.backward_rounds,
                    kinks.irregular_at_ties,
                    steps.insensitive,
                    structure.not_piecewise_linear,
                ),
            ),
            PiecewiseLinear(miss, (rounding.lost_in_y, structure.not_piecewise_linear, rounding.backward_rounds)),
            Differences(_SMOOTH, steps.remedy, only_where=rounding_crosses_a_kink),
        ),
    ),
    Candidate(
        "piecewise-multilinear",
        lambda miss: (ExactComplexStep(miss, (steps.insensitive, kinks.many_branches, rounding.backward_rounds)),),
    ),
    Candidate(
        "analytic",
        lambda miss: (
            ComplexStep((complex_step.too_long, steps.differences_agree, kinks.many_branches, rounding.ulps_along)),
        ),
    ),
    Candidate("smooth", lambda miss: (Differences(_SMOOTH, steps.remedy),)),
)
