"""Whole gradients, entry by entry: what backward claims beside what is right. They are computed when somebody asks.

After a FAIL the arrays and dy are those of the lines that reproduce it, so that small numbers stand in every entry. The
right value is a difference of y, or a complex step, by the way those lines take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from verify.checker.directions import index_of, unit
from verify.checker.judge import Finding
from verify.checker.layer import ContractError, LayerUnderTest
from verify.checker.line import Line
from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import BY_COMPLEX
from verify.checker.references.differences import CENTRAL
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.reproduction import Lines, point_of
from verify.diagnosis.shown import Reproduced, at_the_arrays_given, central_at, one_sided_at, own_arrays, with_small

# A choice: more entries are not seen one by one, and these take a second at most where a forward takes 50 microseconds.
_MOST_ASKED = 4096
# A choice: entries of arrays and of y that all forwards together may read. It ends large layers after a second or so.
_MOST_WORK = 1 << 27
# A choice: seconds for one gradient of a slow layer. A notebook shows a certificate by itself.
_MOST_SECONDS = 2.0
# Each takes up to six forwards.
_FORWARDS = 6
# Where y has a kink within a step, shorter ones, relative to the array's scale.
_SHORTER = 2.0**-10, 2.0**-20


class Compared(NamedTuple):
    """One gradient: what backward claims, what is right, which entries are wrong, and at which arrays.

    `expected` and `wrong` are masked arrays: an entry that was not looked at is masked. At a kink, where several values
    are right, `expected` is the one nearest to the claim. Where both agree to rounding it is the claim.
    """

    claimed: Array
    expected: Any
    wrong: Any
    where: str


Compare = Callable[[], Mapping[str, Compared]]


def after_a_pass(layer: LayerUnderTest) -> Compare:
    """A function that returns every gradient that was found right, at the arrays given and a small dy."""
    where = own_arrays()

    def compare() -> dict[str, Compared]:
        own = at_the_arrays_given(layer)
        small = None if own is None else with_small(own, 0)
        return {} if small is None else {layer.names[k]: _right(a, where) for k, a in small.claimed.items()}

    return compare


def after_a_fail(
    found: Mapping[int, Finding],
    evidence: Mapping[int, list[Evidence]],
    lines: Mapping[int, Reproduced],
    wrong: Mapping[str, Array | None],
) -> Compare:
    """A function that returns every gradient that could be compared, at the arrays of `lines` where there are some."""

    # The evidence is large, and not kept: where there are no lines, its numbers are put together now.
    others = {
        k: _by_evidence(each, next(iter(evidence.get(k, [])), None))
        for k, each in found.items()
        if each.result.worst is not None and each.point is not None and k not in lines
    }

    def compare() -> dict[str, Compared]:
        points = {k: point for k, each in lines.items() if (point := point_of(each.lines)) is not None}
        main, where = next(((points[k], lines[k].shown.where) for k in points), (None, ""))
        compared: dict[str, Compared] = {}
        for k, finding in found.items():
            name = finding.result.name
            if k in points:
                case = lines[k]._replace(lines=lines[k].lines._replace(point=points[k]))
                compared[name] = _by_lines(finding, case, wrong)
            elif k in others:
                compared[name] = others[k]
            elif finding.result.verdict == "PASS" and main is not None and k in main.claimed:
                compared[name] = _right(main.claimed[k], where)
        return compared

    return compare


def _right(claimed: Array, where: str) -> Compared:
    return Compared(claimed, np.ma.array(claimed), np.ma.zeros(claimed.shape, bool), where)


def _by_evidence(finding: Finding, evidence: Evidence | None) -> Compared:
    """At the arrays that the check drew: the entries that the causes were compared with, or the worst one alone."""
    worst, k = finding.result.worst, finding.result.position
    claimed = evidence.claimed if evidence else finding.point.claimed[k]  # type: ignore[union-attr]
    expected = _unknown(claimed.shape, claimed.dtype)
    wrong = _unknown(claimed.shape, bool)
    if evidence is not None:
        expected.flat[evidence.known] = evidence.true.flat[evidence.known]
        wrong = evidence.wrong_entries
    elif worst is not None:
        expected[worst.index], wrong[worst.index] = worst.numeric, True
    return Compared(claimed, expected, wrong, "at arrays that the check drew")


def _by_lines(finding: Finding, case: Reproduced, known: Mapping[str, Array | None]) -> Compared:
    """Each entry as the lines compute the one that they print."""
    lines, shown = case.lines, case.shown
    point, k = lines.point, lines.k
    claimed = point.claimed[k]
    expected, wrong = _unknown(claimed.shape, claimed.dtype), _unknown(claimed.shape, bool)
    marked = known.get(finding.result.name)
    started = time.perf_counter()
    for flat in _order(point, k, shown.indices, marked):
        if time.perf_counter() - started > _MOST_SECONDS:
            break
        index = index_of(flat, claimed.shape)
        try:
            low, high, tolerated = _known(finding, lines, index)
        except (StructureError, ContractError, ArithmeticError):  # beyond the domain, or beyond exact numbers
            continue
        claim = float(claimed[index])
        if not np.isfinite(low + high + tolerated):
            continue
        right = low - tolerated <= claim <= high + tolerated
        expected[index] = claim if right else min(max(claim, low), high) if np.isfinite(claim) else high
        wrong[index] = not right
    if len(shown.indices) > 1:  # each alone may claim so much
        for index in shown.indices:
            wrong[index] = True
    return Compared(claimed, expected, wrong, shown.where)


def _order(point: Point, k: int, first: tuple[tuple[int, ...], ...], marked: Array | None) -> list[int]:
    """The flat indices to ask for: those that the lines print, those known to be wrong, and others evenly spaced."""
    shape, size = point.claimed[k].shape, point.claimed[k].size
    most = max(1, min(_MOST_ASKED, _MOST_WORK // (_FORWARDS * max(1, size + point.y.size))))
    if size <= most:
        return list(range(size))
    known = np.array([np.ravel_multi_index(index, shape) for index in first], int)
    wrong = np.array([], int) if marked is None else np.flatnonzero(np.ma.filled(marked, False))
    spaced = np.linspace(0, size - 1, most).astype(int)
    chosen = dict.fromkeys(np.concatenate([known, wrong[: most // 2], spaced]).tolist())
    return list(chosen)[:most]


def _known(finding: Finding, lines: Lines, index: tuple[int, ...]) -> tuple[float, float, float]:
    """Between which two numbers an entry lies, and by how much they may be off."""
    point, k, way = lines.point, lines.k, lines.way
    v = unit(point, k, index)
    if way.moved == BY_COMPLEX.moved:
        low, high, tolerated = finding.reference.derivative(point, k, v)  # type: ignore[union-attr]
        return float(low) + tolerated, float(high) - tolerated, tolerated
    found = (float("nan"),) * 3
    for h in _steps(lines):
        line = Line(point, k, v)
        low, high, tolerated = central_at(line, h) if way.moved == CENTRAL.moved else one_sided_at(line, h)
        found = float(low), float(high), tolerated
        if high - low <= tolerated:
            break
    return found


def _steps(lines: Lines) -> Iterator[float]:
    yield lines.way.h
    array: Any = lines.point.arrays[lines.k]
    scale = max(1.0, float(np.abs(array).max(initial=0.0)))
    yield from (share * scale for share in _SHORTER if share * scale < lines.way.h)


def _unknown(shape: tuple[int, ...], dtype: Any) -> Any:
    """A masked array of which no entry is known."""
    return np.ma.masked_all(shape, dtype)  # type: ignore[no-untyped-call]
