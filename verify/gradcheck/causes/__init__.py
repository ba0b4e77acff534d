"""Why a gradient is wrong: which transformation of the true gradient equals the claimed one.

A cause is named only if what it predicts equals what the backward claims, as exactly as the oracle can
tell, and if more than one entry speaks for it. It is a guess, and printed as one; "unknown" is an answer.

`codes` lists the causes; `evidence` is what a prediction is held against; the others make predictions:
`values` and `rearranged` of the true gradient, `upstream` of dy, `elsewhere` and `padding` of the function at
other options and arrays, `ties` at kinks, `reruns` of what a call leaves behind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from verify.gradcheck.causes.codes import CauseCode, cause_page, cause_table
from verify.gradcheck.causes.elsewhere import elsewhere
from verify.gradcheck.causes.evidence import FEWEST_WRONG, Evidence
from verify.gradcheck.causes.options import guarded, option_values
from verify.gradcheck.causes.rearranged import rearranged
from verify.gradcheck.causes.reruns import ignores_upstream, stateful
from verify.gradcheck.causes.ties import at_ties, off_ties
from verify.gradcheck.causes.upstream import of_rearranged_upstream, of_some_upstream
from verify.gradcheck.causes.values import partial, plain, reduced, rounded
from verify.gradcheck.certificate import ArgumentResult, Cause
from verify.gradcheck.kinks import AtKinks
from verify.gradcheck.point import Findings, Point

__all__ = ["CauseCode", "cause_page", "cause_table", "find_causes"]

Found = Iterator[tuple[CauseCode, str]]

_MOST_GUESSES = 3


def find_causes(findings: Findings) -> list[Cause]:
    """The causes of what failed, likeliest first for each argument; "unknown" where nothing fits."""
    causes = []
    for k, result in findings.results.items():
        if result.worst is None:
            continue
        if not math.isfinite(result.worst.analytic):
            text = f"d{result.name}: the gradient is not finite"
            causes.append(Cause(CauseCode.NOT_FINITE.code, result.name, text))
            continue
        with np.errstate(all="ignore"):
            guesses = _guesses(findings.points[k], k, result)
        text = f"d{result.name}: the gradient disagrees with the differences"
        causes += guesses or [Cause(CauseCode.UNKNOWN.code, result.name, text)]
    return causes


def _guesses(point: Point, k: int, result: ArgumentResult) -> list[Cause]:
    """The causes of one argument that fit, and what speaks for them."""
    if point.gradients[k].size < FEWEST_WRONG or not np.isfinite(point.gradients[k]).all() or result.worst is None:
        return []
    seen = ""
    found: Found = iter(())
    for evidence in guarded(_evidence(point, k, result.worst.index)):
        if isinstance(point, AtKinks) and evidence.wrong == 0:
            found = guarded(at_ties(point, k))
        elif evidence.wrong >= FEWEST_WRONG:
            found, seen = _predicted(evidence), f" ({evidence.seen})"
    named: dict[CauseCode, str] = {}
    for code, why in found:
        named.setdefault(code, why)
        if len(named) == _MOST_GUESSES:
            break
    return [Cause(code.code, result.name, f"d{result.name} {why}{seen}") for code, why in named.items()]


def _evidence(point: Point, k: int, index: tuple[int, ...]) -> Iterator[Evidence]:
    """What is known of the gradient, one or none: of a function with kinks, off them."""
    evidence = Evidence.gather(off_ties(point) if isinstance(point, AtKinks) else point, k, index)
    if evidence is not None:
        yield evidence


def _predicted(evidence: Evidence) -> Found:
    """The causes whose prediction is what the backward claims, likeliest first."""
    groups = option_values(evidence.point).get("groups")
    families = (
        stateful(evidence),
        plain(evidence),
        of_some_upstream(evidence),
        elsewhere(evidence),
        reduced(evidence),
        partial(evidence),
        rearranged(evidence, groups if isinstance(groups, int) else 1),
        of_rearranged_upstream(evidence),
        rounded(evidence),
        ignores_upstream(evidence),
    )
    return itertools.chain.from_iterable(map(guarded, families))
