"""Which right gradient needs an objection, and which wrong one it must not excuse: what the tables' rows are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from helpers import certificate_of
from verify import StructureError
from verify.checker import attempts
from verify.checker.candidates import CANDIDATES, Candidate
from verify.checker.objections import Objection
from verify.checker.reference import Reference


class Layer(NamedTuple):
    """A forward, a backward, and the arrays to check them at."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arrays: Sequence[Any]


class Row(NamedTuple):
    """A right layer that fails without the objection, and a wrong one that fails with it.

    `right` is None where no right gradient is known that fails without the objection. Of the right layer one seed must
    show it, since a draw may miss a kink. Of the wrong layer every seed must.
    """

    right: Layer | None
    wrong: Layer
    seeds: Sequence[int] = range(6)
    wrt: Sequence[int] | None = None


# (objection, structure that is named) -> row.
Table = Mapping[tuple[str, str], Row]


def times(factor: float, backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the backward with every gradient times a factor."""
    return lambda dy, cache: tuple((factor * gradient).astype(dy.dtype) for gradient in backward(dy, cache))


def name_of(objection: Objection) -> str:
    """Return the module and the name of an objection, as in "kinks.many_branches"."""
    return f"{objection.__module__.rpartition('.')[2]}.{objection.__name__}"


def objections_of_all_candidates() -> set[str]:
    """Return the names of all objections that some candidate asks."""
    references = [each for candidate in CANDIDATES for each in candidate.references(1e-9)]
    return {name_of(objection) for reference in references for objection in reference.objections}


@contextmanager
def replaced(name: str, objection: Objection | None) -> Iterator[None]:
    """Replace an objection by another in every candidate, or remove it."""

    def changed(reference: Reference) -> Reference:
        asked = [objection if name_of(each) == name else each for each in reference.objections]
        reference.objections = tuple(each for each in asked if each is not None)
        return reference

    def changed_candidate(candidate: Candidate) -> Candidate:
        return candidate._replace(references=lambda miss: tuple(map(changed, candidate.references(miss))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "CANDIDATES", tuple(map(changed_candidate, CANDIDATES)))
        yield


def verdict(layer: Layer, structure: str, seed: int, wrt: Sequence[int] | None = None) -> str:
    """Return the verdict, or "StructureError"."""
    try:
        return certificate_of(*layer, structure=structure, seed=seed, wrt=wrt).verdict
    except StructureError:
        return "StructureError"


def _verdicts(layer: Layer, structure: str, row: Row) -> list[str]:
    return [verdict(layer, structure, seed, row.wrt) for seed in row.seeds]


def check_necessary(name: str, structure: str, row: Row) -> None:
    """Assert that the right layer never fails, and fails for some seed once the objection is removed."""
    assert row.right is not None
    assert "FAIL" not in _verdicts(row.right, structure, row)
    with replaced(name, None):
        assert "FAIL" in _verdicts(row.right, structure, row)


def check_excuses_no_error(name: str, structure: str, row: Row) -> None:
    """Assert that the wrong layer fails for every seed, and for none if the objection always gives a reason."""
    assert set(_verdicts(row.wrong, structure, row)) == {"FAIL"}
    with replaced(name, lambda case: "always"):
        assert "FAIL" not in _verdicts(row.wrong, structure, row)


def rows_with_a_right_layer(table: Table) -> Iterable[Any]:
    """Return the parameters (name, structure, row) of `check_necessary`."""
    return [pytest.param(*key, row, id="-".join(key)) for key, row in table.items() if row.right is not None]


def all_rows(table: Table) -> Iterable[Any]:
    """Return the parameters (name, structure, row) of `check_excuses_no_error`."""
    return [pytest.param(*key, row, id="-".join(key)) for key, row in table.items()]
