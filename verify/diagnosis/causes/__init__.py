"""Why a gradient is wrong: which transformation of the true gradient equals the claimed one.

A cause is named only if what it predicts equals what the backward claims, as exactly as the oracle knows
it. At least two entries must speak for it. It is a guess, and printed as one. "unknown" is an answer.

`codes` lists the causes, `advice` says what to look for, `page` prints both.
`evidence` is what predictions are compared with. The others predict:

- `values`, `rearranged` and `triangles` of the true gradient, `upstream` and `linear` of dy;
- `elsewhere`, `padding`, `activations` and `statistics` of the function at other options and arrays;
- `ties` at kinks, `repeats` and `reruns` of what a call leaves behind;
- `nearly` of an error that is small everywhere.

`together` says once what several arguments share.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from verify.checker.certificate import Cause
from verify.checker.judge import Finding
from verify.checker.point import Point
from verify.checker.reference import Reference
from verify.diagnosis.causes.activations import exchanged_with_output
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.elsewhere import elsewhere
from verify.diagnosis.causes.evidence import FEWEST_WRONG, Evidence
from verify.diagnosis.causes.linear import ignores_upstream, nonlinear_at_all, not_linear, with_huge_dy, with_large_dy
from verify.diagnosis.causes.nearly import small_constant
from verify.diagnosis.causes.options import guarded, option_values, windowed
from verify.diagnosis.causes.page import cause_page
from verify.diagnosis.causes.rearranged import rearranged
from verify.diagnosis.causes.repeats import RANDOM, Repeats
from verify.diagnosis.causes.reruns import stateful
from verify.diagnosis.causes.statistics import statistics
from verify.diagnosis.causes.ties import SIDES, at_ties, off_ties
from verify.diagnosis.causes.together import Guess, together
from verify.diagnosis.causes.triangles import symmetrised
from verify.diagnosis.causes.upstream import of_rearranged_upstream, of_some_upstream
from verify.diagnosis.causes.values import partial, plain, reduced, rounded, scaled

__all__ = ["CauseCode", "cause_page", "find_causes"]

Found = Iterator[tuple[CauseCode, str]]

_RANDOM = CauseCode.RANDOM, RANDOM
# A choice: of more guesses none is likely.
_MOST_GUESSES = 3
_UNKNOWN = "is not what any mistake known here makes of the true gradient"


def find_causes(
    found: Mapping[int, Finding], *, kinks: bool = False, evidence: dict[int, list[Evidence]] | None = None
) -> list[Cause]:
    """The causes of what failed, likeliest first for each argument; "unknown" where nothing fits.

    `kinks` says that the function is piecewise linear: it is then looked at on several sides of its kinks. A cause that
    several arguments share is one whose `argument` is None. `evidence` is filled with what was found of each argument.
    """
    wrong = {k: each for k, each in found.items() if each.result.worst is not None}
    repeats: dict[int, Repeats] = {}
    guesses: list[Guess] = []
    for k, finding in wrong.items():
        result, reference, point = finding.result, finding.reference, finding.point
        if result.worst is None or reference is None or point is None:
            continue
        if not math.isfinite(result.worst.analytic):
            guesses.append(Guess(CauseCode.NOT_FINITE, result.name, "holds NaN or an infinity"))
            continue
        with np.errstate(all="ignore"):
            for again in guarded([Repeats.of(point)] if id(point) not in repeats else []):
                repeats[id(point)] = again
            case = _Case(reference, point, k, result.worst.index, len(wrong))
            cause = repeats[id(point)].cause(k, exact=reference.exact) if id(point) in repeats else None
            if cause:
                code, why = _confirmed(case, repeats[id(point)], *cause)
                guesses.append(Guess(code, result.name, why))
                continue
            named, seen = _guesses(case, kinks, {} if evidence is None else evidence)
        named = named or {CauseCode.UNKNOWN: _UNKNOWN}
        guesses += [Guess(code, result.name, why, seen) for code, why in named.items()]
    return together(guesses)


class _Case(NamedTuple):
    """A wrong gradient: that of argument k, at an entry, one of as many as are `sharing` the forwards."""

    reference: Reference
    point: Point
    k: int
    entry: tuple[int, ...]
    sharing: int


def _confirmed(case: _Case, repeats: Repeats, code: CauseCode, why: str) -> tuple[CauseCode, str]:
    """What differs, if more calls agree; else it is random."""
    if code is CauseCode.CACHE_OVERWRITTEN:
        for anew in guarded([Repeats.of(case.point)]):
            return (code, why) if anew.repeats(repeats, case.k) else _RANDOM
    if code in (CauseCode.STALE_CACHE, CauseCode.RANDOM):
        # A sum of large gradients does not show small ones.
        for larger in guarded([Repeats.of(with_huge_dy(case.point))]):
            cause = larger.cause(case.k, exact=case.reference.exact)
            if cause and cause[0] is CauseCode.ACCUMULATES:
                return cause
    if code is CauseCode.STALE_CACHE:
        for evidence in guarded(_evidence(case, case.point)):
            for found in guarded(stateful(evidence)):
                return found
        return _RANDOM
    return code, why


def _guesses(case: _Case, kinks: bool, found: dict[int, list[Evidence]]) -> tuple[dict[CauseCode, str], str]:
    """The causes of one argument that fit, and what speaks for them."""
    reference, point, k = case.reference, case.point, case.k
    if not np.isfinite(point.claimed[k]).all():
        return {}, ""
    if point.claimed[k].size < FEWEST_WRONG:
        return _named(guarded(nonlinear_at_all(point, k))), ""
    points: Iterable[Point] = (point,)
    if kinks and reference.exact:  # what is flat here may show on other sides of the kinks
        points = (off_ties(point, side) for side in SIDES)
    everywhere = list(itertools.chain.from_iterable(guarded(_evidence(case, each)) for each in guarded(points)))
    speaking = [evidence for evidence in everywhere if evidence.wrong >= FEWEST_WRONG]
    silent = bool(everywhere) and not any(evidence.wrong for evidence in everywhere)
    seen = "no entry is off by enough to say how" if silent else ""
    found[k] = everywhere
    named: dict[CauseCode, str] = {}
    if speaking:
        named = _named(_predicted(speaking[0]))
        for evidence in speaking[1:]:
            others = _named(_predicted(evidence)) if named else {}
            named = {code: why for code, why in named.items() if code in others}
    elif reference.one_sided and silent:
        named, seen = _named(guarded(at_ties(reference, point, k))), "right off ties and kinks"
    if not named:
        families = [nonlinear_at_all(point, k), *(small_constant(evidence) for evidence in speaking[:1])]
        named = next(filter(None, (_named(guarded(family)) for family in families)), {})
    return named, seen


def _named(found: Found) -> dict[CauseCode, str]:
    """The first few, each code once."""
    named: dict[CauseCode, str] = {}
    for code, why in found:
        named.setdefault(code, why)
        if len(named) == _MOST_GUESSES:
            break
    return named


def _evidence(case: _Case, point: Point) -> Iterator[Evidence]:
    for each in (with_large_dy(point), point):  # that which is right for a large dy is wrong for this one
        evidence = Evidence.gather(case.reference, each, case.k, case.entry, case.sharing)
        if evidence is not None and (evidence.wrong or each is point):
            yield evidence
            return


def _predicted(evidence: Evidence) -> Found:
    """The causes whose prediction is what the backward claims, likeliest first."""
    groups, images = option_values(evidence.point).get("groups"), windowed(evidence.point)
    for found in guarded(stateful(evidence)):  # what is claimed then says nothing of the formula
        yield found
        return
    # Those of other functions take forwards: they are asked only if none before has named anything.
    families: tuple[tuple[bool, Found], ...] = (
        (False, not_linear(evidence)),
        (False, plain(evidence)),
        (False, of_some_upstream(evidence)),
        (False, scaled(evidence)),
        (True, elsewhere(evidence)),
        (False, reduced(evidence)),
        (False, partial(evidence)),
        (False, symmetrised(evidence)),
        (False, rearranged(evidence, groups if isinstance(groups, int) else 1, images=images)),
        (False, of_rearranged_upstream(evidence)),
        (False, rounded(evidence)),
        (True, exchanged_with_output(evidence)),
        (True, statistics(evidence)),
        (False, ignores_upstream(evidence)),
    )
    named = False
    for of_other_functions, family in families:
        if not (of_other_functions and named):
            for found in guarded(family):
                named = True
                yield found
