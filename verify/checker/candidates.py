"""Which references check which structure, and the objections that each must ask before it calls a claim wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from verify.checker.objections import kinks, rounding, steps, structure
from verify.checker.reference import Reference
from verify.checker.references import at_ties, multilinear
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


_SMOOTH = (
    steps.plateaus,
    steps.contradictory,
    kinks.too_many,
    kinks.irregular,
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
                    rounding.entries_round,
                    rounding.backward_rounds,
                    kinks.y_jumps,
                    kinks.irregular_at_ties,
                    steps.insensitive,
                    structure.not_piecewise_linear,
                ),
            ),
            PiecewiseLinear(miss, (structure.not_piecewise_linear, rounding.backward_rounds)),
            Differences(_SMOOTH, only_where=at_ties.rounding_crosses_a_kink),
        ),
    ),
    Candidate(
        "piecewise-multilinear",
        lambda miss: (ExactComplexStep(miss, (steps.insensitive, kinks.many_branches, rounding.backward_rounds)),),
    ),
    Candidate(
        "analytic",
        lambda miss: (
            ComplexStep((rounding.too_close, steps.differences_agree, kinks.many_branches, rounding.ulps_along)),
        ),
    ),
    Candidate("smooth", lambda miss: (Differences(_SMOOTH),)),
)
