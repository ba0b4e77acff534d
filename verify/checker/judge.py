"""The judge: it compares what backward claims with what a reference says. Nothing else says PASS or FAIL.

A reference gives an interval for <dy, J v>. A claim inside it is right. A claim outside it is wrong, unless one of the
reference's objections says why this cannot be decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS, ArgumentResult
from verify.checker.directions import index_of
from verify.checker.layer import LayerUnderTest
from verify.checker.linearity import opinions
from verify.checker.objections import Disagreement
from verify.checker.objections.randomness import UPDATES, agrees_again, is_constant, why_not_repeated
from verify.checker.objections.rounding import is_noise
from verify.checker.point import Point, Worst
from verify.checker.reference import Reference, scaled

# Upstream gradients 2^12 times smaller: a gradient that is finite then was too large for floating point before.
_LESS = 2.0**-12


class Finding(NamedTuple):
    """What is known of one argument's gradient; of a wrong one, the reference and the point that show it.

    `blank` says that it was 0 as a whole wherever it was asked.
    """

    result: ArgumentResult
    reference: Reference | None = None
    point: Point | None = None
    blank: bool = False


def judge(references: Iterable[Reference], layer: LayerUnderTest, rng: np.random.Generator) -> dict[int, Finding]:
    """Compare every argument at every point of every reference; a wrong argument is not asked again."""
    found = {k: Finding(ArgumentResult(k, layer.names[k], layer.arrays[k].shape, PASS), blank=True) for k in layer.wrt}
    for reference in references:
        asked = reference.advisory
        for point in reference.points(layer, rng):
            for k in (k for k in layer.wrt if found[k].result.verdict != FAIL and layer.arrays[k].size):
                found[k] = _worse(found[k], compare(reference, point, k, rng), reference)
            if not asked:
                _ask_linearity(reference, point, found)
                asked = True
            del point  # before the next one is made: a large check then takes less memory
    if not layer.calls["backward"]:  # no argument has entries: the call and the shapes are checked all the same
        y, cache = layer.value_and_cache(layer.arrays)
        layer.pull_back(layer.arrays, np.ones_like(y), cache)
    return found


def compare(reference: Reference, point: Point, k: int, rng: np.random.Generator) -> Finding:
    """The verdict on argument k at one point."""
    result = ArgumentResult(k, point.layer.names[k], point.claimed[k].shape, PASS)
    if not (np.isfinite(point.y).all() and np.isfinite(point.claimed[k]).all()):
        return _not_finite(reference, point, k, result, rng)
    for v in reference.directions(point, k, rng):
        interval = reference.derivative(point, k, v)
        claim = reference.claim(point, k, v)
        if interval.tolerated:
            error, tolerance = abs(float(claim) - float(interval.nearest(claim))), interval.tolerated
            result = result._replace(error=max(result.error, error), tolerance=max(result.tolerance, tolerance))
        if interval.excess(claim) == 0:
            continue
        if not reference.exact and is_noise(point, k, rng) and is_constant(point.layer, k, rng):
            return _zero(result, float(np.abs(point.claimed[k]).max()))
        case = Disagreement(reference, point, k, v, interval, rng)
        for objection in (*reference.objections, agrees_again):
            if reason := objection(case):
                return Finding(_undecided(result, reason)._replace(detection_floor=reference.promise(point, k).floor))
        if point.elsewhere:
            return Finding(_undecided(result, point.elsewhere.format(shown(point, case.worst))))
        return _wrong(reference, point, result, case.worst, reference.where)
    return _right(reference, point, result, rng)


def _right(reference: Reference, point: Point, result: ArgumentResult, rng: np.random.Generator) -> Finding:
    """PASS, or INCONCLUSIVE if the tolerance is so wide that passing says nothing."""
    k = result.position
    floor, useless, note = reference.promise(point, k)
    blank = not point.claimed[k].any()
    if not useless:
        return Finding(result._replace(detection_floor=floor, note=note), blank=blank)
    if not is_constant(point.layer, k, rng):
        return Finding(_undecided(result, useless)._replace(detection_floor=floor))
    within = (floor or 0.0) * (float(np.abs(point.claimed[k]).max()) or 1.0)
    return _zero(result._replace(detection_floor=floor), within)


def _zero(result: ArgumentResult, within: float) -> Finding:
    """PASS for a gradient that is 0 but for rounding, as y is constant in this argument."""
    note = f"0 to within {within:.2g}: y stays as it is wherever {result.name} is moved"
    return Finding(result._replace(note=note))


def shown(point: Point, worst: Worst) -> str:
    """A wrong entry, both its values, and the arrays' entries there."""
    layer, k, index = point.layer, worst.argument, worst.index
    arrays: dict[int, Any] = {j: point.arrays[j] for j in layer.wrt}
    places = [_entry(layer.names[k], arrays[k], index)]
    places += [_entry(layer.names[j], a, (0,) * a.ndim) for j, a in arrays.items() if a.size == 1 and j != k]
    values = f"is {worst.analytic:.6g} and should be {worst.numeric:.6g}"
    return f"d{layer.names[k]}{list(index) or ''} {values} where {' and '.join(places)}"


def _entry(name: str, array: Any, index: tuple[int, ...]) -> str:
    return f"{name}{list(index) or ''} is {float(array[index]):.6g}"


def _undecided(result: ArgumentResult, reason: str) -> ArgumentResult:
    return result._replace(verdict=INCONCLUSIVE, detection_floor=None, note=reason)


def _wrong(reference: Reference, point: Point, result: ArgumentResult, worst: Worst, note: str) -> Finding:
    if worst.analytic == worst.numeric:
        note = f"{note}: each entry alone may claim so much, all together may not".removeprefix(": ")
    elif abs(worst.analytic - worst.numeric) <= worst.tolerance:
        note = f"off by {result.error:.2g} along a random direction, where {result.tolerance:.2g} is tolerated"
    return _fail(reference, point, result, worst, note)


def _fail(reference: Reference, point: Point, result: ArgumentResult, worst: Worst, note: str) -> Finding:
    error = abs(worst.analytic - worst.numeric)
    failed = result._replace(verdict=FAIL, error=error, tolerance=worst.tolerance, worst=worst, note=note)
    return Finding(failed, reference, point)


def _not_finite(
    reference: Reference, point: Point, k: int, result: ArgumentResult, rng: np.random.Generator
) -> Finding:
    """The verdict where y or the gradient holds NaN or infinities."""
    if not np.isfinite(point.y).all():
        return Finding(_undecided(result, "y is not finite at these arrays: take arrays at which it is"))
    if reference.exact:  # is it the function it is taken for?
        reference.derivative(point, k, next(reference.directions(point, k, rng)))
    with np.errstate(over="ignore", invalid="ignore"):
        if not reference.exact and np.isfinite(scaled(point, _LESS).claimed[k]).all():
            reason = "the gradient overflows with 8 to 16 upstream, as it should or not: take arrays of moderate size"
            return Finding(_undecided(result, reason))
        index = index_of(int(np.isfinite(point.claimed[k]).argmin()), point.claimed[k].shape)
        return _wrong(reference, point, result, reference.worst(point, k, index), reference.where)


def _ask_linearity(reference: Reference, point: Point, found: dict[int, Finding]) -> None:
    """Ask whether backward is linear in dy, for each argument that passed at the reference's first point."""
    passed = {k: each.result.detection_floor or 0.0 for k, each in found.items() if each.result.verdict == PASS}
    floors = {k: floor for k, floor in passed.items() if point.claimed[k].size}
    for k, opinion in opinions(point, floors).items():
        result = found[k].result
        why = "" if opinion.repeated else why_not_repeated(point.layer)
        if why == UPDATES or (opinion.worst is not None and (why or point.layer.is_random())):
            found[k] = Finding(_undecided(result, why or why_not_repeated(point.layer)))
        elif opinion.worst is not None and opinion.point is not None:
            found[k] = _fail(reference, opinion.point, result, opinion.worst, opinion.note)
        elif opinion.off or not reference.exact:
            how = f"up to {opinion.off:.1e} of its largest entry" if opinion.off else "to the last bit"
            text = (f"backward is linear in dy {how}",)
            found[k] = found[k]._replace(result=result._replace(second_opinions=text))


def _worse(before: Finding, now: Finding, reference: Reference) -> Finding:
    """What two comparisons say together: wrong before undecided before right."""
    order = (PASS, INCONCLUSIVE, FAIL)
    if order.index(now.result.verdict) > order.index(before.result.verdict):
        return now if now.result.verdict == FAIL or not reference.advisory else before
    if before.result.verdict != PASS or reference.advisory:
        return before
    opinions = before.result.second_opinions
    result = now.result._replace(note=now.result.note or before.result.note, second_opinions=opinions)
    return Finding(result, blank=now.blank and before.blank)
