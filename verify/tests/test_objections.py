"""Every objection has its row: a right gradient that needs it, and a wrong one that it must not excuse."""

from __future__ import annotations

import test_objections_kinks
import test_objections_rounding
import test_objections_steps
import test_objections_structure

from objection_rows import objections_of_all_candidates

_TABLES = [
    each.ROWS
    for each in (test_objections_structure, test_objections_kinks, test_objections_rounding, test_objections_steps)
]
# No right gradient FAILs without it, but some are undecided.
_UNDECIDED_WITHOUT_IT = {"structure.not_piecewise_linear", "steps.contradictory"}


def test_every_objection_has_a_wrong_gradient_that_it_must_not_excuse() -> None:
    assert {name for table in _TABLES for name, _ in table} == objections_of_all_candidates()


def test_every_objection_has_a_right_gradient_that_needs_it() -> None:
    shown = {name for table in _TABLES for (name, _), row in table.items() if row.right is not None}
    assert objections_of_all_candidates() - shown == _UNDECIDED_WITHOUT_IT
