"""Why a gradient is wrong: which transformation of the true gradient equals the claimed one.

A cause is named only if what it predicts equals what the backward claims, as exactly as the oracle can
tell, and if more than one entry speaks for it. It is a guess, and printed as one; "unknown" is an answer.

`codes` lists the causes. `evidence` is what a prediction is compared with. The others make predictions:

- `values` and `rearranged` of the true gradient, `upstream` of dy;
- `elsewhere` and `padding` of the function at other options and arrays;
- `ties` at kinks, `reruns` of what a call leaves behind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from verify.checker.certificate import ArgumentResult, Cause
from verify.checker.judge import Finding
from verify.checker.point import Point
from verify.checker.reference import Reference
from verify.diagnosis.causes.codes import CauseCode, cause_page, cause_table
from verify.diagnosis.causes.elsewhere import elsewhere
from verify.diagnosis.causes.evidence import FEWEST_WRONG, Evidence
from verify.diagnosis.causes.options import guarded, option_values
from verify.diagnosis.causes.rearranged import rearranged
from verify.diagnosis.causes.reruns import ignores_upstream, not_linear, stateful, with_large_dy
from verify.diagnosis.causes.ties import SIDES, at_ties, off_ties
from verify.diagnosis.causes.upstream import of_rearranged_upstream, of_some_upstream
from verify.diagnosis.causes.values import partial, plain, reduced, rounded, scaled

__all__ = ["CauseCode", "cause_page", "cause_table", "find_causes"]

Found = Iterator[tuple[CauseCode, str]]

# A choice: of more guesses none is likely.
_MOST_GUESSES = 3


def find_causes(
    found: Mapping[int, Finding], *, kinks: bool = False, evidence: dict[int, list[Evidence]] | None = None
) -> list[Cause]:
    """The causes of what failed, likeliest first for each argument; "unknown" where nothing fits.

    `kinks` says that the function is piecewise linear: it is then looked at on several sides of its kinks. `evidence`
    is filled with what was found of each argument.
    """
    causes = []
    for k, finding in found.items():
        result = finding.result
        if result.worst is None or finding.reference is None or finding.point is None:
            continue
        if not math.isfinite(result.worst.analytic):
            text = f"d{result.name}: the gradient is not finite"
            causes.append(Cause(CauseCode.NOT_FINITE.code, result.name, text))
            continue
        with np.errstate(all="ignore"):
            guesses, seen = _guesses(finding.reference, finding.point, k, result, kinks, evidence)
        text = "disagrees with the differences in no way that has a name"
        guesses = guesses or {CauseCode.UNKNOWN: text}
        causes += [Cause(code.code, result.name, f"d{result.name} {why}{seen}") for code, why in guesses.items()]
    return causes


def _guesses(
    reference: Reference,
    point: Point,
    k: int,
    result: ArgumentResult,
    kinks: bool,
    found: dict[int, list[Evidence]] | None,
) -> tuple[dict[CauseCode, str], str]:
    """The causes of one argument that fit, and what speaks for them."""
    if point.claimed[k].size < FEWEST_WRONG or not np.isfinite(point.claimed[k]).all() or result.worst is None:
        return {}, ""
    index = result.worst.index
    points: Iterable[Point] = (point,)
    if kinks and reference.exact:  # what is flat here may show on other sides of the kinks
        points = (off_ties(point, side) for side in SIDES)
    everywhere = list(
        itertools.chain.from_iterable(guarded(_evidence(reference, each, k, index)) for each in guarded(points))
    )
    if found is not None:
        found[k] = everywhere
    told = [evidence for evidence in everywhere if evidence.wrong >= FEWEST_WRONG]
    silent = bool(everywhere) and not any(evidence.wrong for evidence in everywhere)
    seen = " (no entry is off by enough to say how)" if silent else ""
    named: dict[CauseCode, str] = {}
    if told:
        named = _named(_predicted(told[0]))
        for evidence in told[1:]:
            others = _named(_predicted(evidence)) if named else {}
            named = {code: why for code, why in named.items() if code in others}
    elif reference.one_sided and silent:
        named, seen = _named(guarded(at_ties(reference, point, k))), " (right off ties and kinks)"
    return named, seen


def _named(found: Found) -> dict[CauseCode, str]:
    """The first few, each code once."""
    named: dict[CauseCode, str] = {}
    for code, why in found:
        named.setdefault(code, why)
        if len(named) == _MOST_GUESSES:
            break
    return named


def _evidence(reference: Reference, point: Point, k: int, index: tuple[int, ...]) -> Iterator[Evidence]:
    for each in (with_large_dy(point), point):  # that which is right for a large dy is wrong for this one
        evidence = Evidence.gather(reference, each, k, index)
        if evidence is not None and (evidence.wrong or each is point):
            yield evidence
            return


def _predicted(evidence: Evidence) -> Found:
    """The causes whose prediction is what the backward claims, likeliest first."""
    groups = option_values(evidence.point).get("groups")
    families = (
        stateful(evidence),
        not_linear(evidence),
        plain(evidence),
        of_some_upstream(evidence),
        scaled(evidence),
        elsewhere(evidence),
        reduced(evidence),
        partial(evidence),
        rearranged(evidence, groups if isinstance(groups, int) else 1),
        of_rearranged_upstream(evidence),
        rounded(evidence),
        ignores_upstream(evidence),
    )
    return itertools.chain.from_iterable(map(guarded, families))
