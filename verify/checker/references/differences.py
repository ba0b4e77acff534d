"""The verdict on a smooth function of which nothing else is known, by extrapolated differences (richardson.py).

A gradient is called wrong if it is off by more than ten times what the differences may be off by, along
two directions, and nothing else explains it:

- where entries of y stay as they are at short steps, the function is flat there, or does not feel them:
  the gradient must be wrong by the longer steps, too, or with nothing upstream of those entries;
- where one-sided derivatives differ there is a kink, and the claim may lie anywhere between them (Clarke
  1983): the entries at kinks are found by halving and held to their own intervals, all others are
  checked without them;
- where only the shortest step is as steep as the claim, or backward itself rounds by as much as it is off, it stays
  undecided.

If an error of a thousandth of an entry could pass, the verdict is INCONCLUSIVE, and says what would help; but a
gradient is 0 where y stays as it is wherever the array is moved.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from verify.checker.certificate import FAIL
from verify.checker.conditioning import why_in_doubt
from verify.checker.exact_numbers import Array, draw_upstream, signed
from verify.checker.extrapolation import SAFETY, Estimate, Extrapolated, Ladder
from verify.checker.linearity import check_linear
from verify.checker.locate import not_finite
from verify.checker.point import OVERFLOWS, Findings
from verify.checker.same_function import is_constant
from verify.checker.second_look import MOST_KINKS, SecondLook

COARSEST_USEFUL = 1e-3
# Among more entries halving may end at another one, at which to look again would show no more.
_MANY = 1 << 12
# So often entries of y that are flat are left out, and others found to be so.
_LOOKS = 4


def check_smooth(findings: Findings, generator: np.random.Generator) -> None:
    """Fill in the findings, with the error in one entry that is always caught."""
    subject = findings.subject
    y, cache = subject.value_and_cache(subject.arrays)
    dy = draw_upstream(generator, y.shape, y.dtype)
    gradients = subject.pull_back(subject.arrays, dy, cache)
    again = [subject.value(subject.arrays) for _ in range(3)]
    with np.errstate(invalid="ignore"):
        repeated = max((float((np.abs(dy) * np.abs(each - y)).sum()) for each in again), default=0.0)
    point = Extrapolated(subject, subject.arrays, y, dy, gradients, repeated)
    for k in findings.results:
        findings.results[k] = findings.results[k]._replace(detection_floor=0.0)
    for k in findings.undecided():
        _check_argument(point, k, findings, generator)
    check_linear(findings, point)


def _check_argument(point: Extrapolated, k: int, findings: Findings, generator: np.random.Generator) -> None:
    index = not_finite(point.gradients[k])
    if not np.isfinite(point.y).all():
        findings.leave_open(k, "y is not finite at these arrays: take arrays at which it is")
    elif index is not None and point.only_overflows(k):
        findings.leave_open(k, OVERFLOWS)
    elif index is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            findings.fail(point, k, index)
    else:
        _compare(point, k, findings, generator)


def _compare(
    point: Extrapolated, k: int, findings: Findings, generator: np.random.Generator, *, looks: int = _LOOKS
) -> None:
    gradient, result = point.gradients[k], findings.results[k]
    # Two directions: what f is uncertain by shows better in two, and no chance of one convicts.
    ladders = [Ladder(point, k, signed(generator, gradient.shape)) for _ in range(2)]
    found = _Found.of(point, ladders, [point.estimate(each) for each in ladders])
    if not np.isfinite(found.tolerance):
        findings.leave_open(k, "f is finite at no five steps in a row: too close to where it overflows or ends")
        return
    if found.wrong and any(each.blind is not None for each in ladders):
        found = _Found.of(point, ladders, [point.coarse_estimate(each) for each in ladders])
        if not np.isfinite(found.tolerance) or not found.sharp:
            felt = _felt(point, k, ladders) if looks else None
            if felt is not None:
                _compare(felt, k, findings, generator, looks=looks - 1)
            if findings.results[k].verdict != FAIL:
                h = max(each.steps[each.blind] for each in ladders if each.blind is not None)
                told = f"y is flat at steps of {h:.2g}, or blind to them"
                findings.leave_open(k, f"{told}: move the arrays, or compute in float64 throughout", *found[:2])
            return
    if found.right == found.wrong:
        findings.leave_open(
            k, "the differences contradict each other: right along one direction, wrong along another", *found[:2]
        )
        return
    if found.wrong:
        v = _look_again(point, k, findings, generator, ladders, found)
        if v is None:
            return
        result, ladders = findings.results[k], [Ladder(point, k, v)]
        found = _Found.of(point, ladders, [point.estimate(each) for each in ladders])
    if not found.sharp:
        if found.right and is_constant(point.subject, k, generator):
            findings.results[k] = result._replace(
                error=found.error, tolerance=found.tolerance, detection_floor=found.floor
            )
            findings.note_zero(k, found.floor * (found.largest or 1.0))
            return
        findings.leave_open(k, _remedy(point, ladders[0], found), *found[:2])
        return
    slope = ladders[0].taylor_slope(point.claimed(k, ladders[0].v), found.estimates[0].noise)
    findings.results[k] = result._replace(
        error=found.error,
        tolerance=found.tolerance,
        # Of entries at kinks the note tells.
        detection_floor=found.floor if ladders[0].v.any() else None,
        second_opinions=() if slope is None else (f"Taylor's remainder falls with slope {slope:.2f}",),
    )


def _look_again(
    point: Extrapolated,
    k: int,
    findings: Findings,
    generator: np.random.Generator,
    ladders: list[Ladder],
    found: _Found,
) -> Array | None:
    """At a gradient that is wrong along two directions: one of them without what is at kinks; None if all is said."""
    gradient, result = point.gradients[k], findings.results[k]
    look = SecondLook(point, k, ladders[0].v, ladders[1].v, found.estimates[0])
    kinked = look.kinked()
    if kinked is None:
        told = f"more than {MOST_KINKS} entries are at kinks: take arrays with fewer"
        findings.leave_open(k, told, *found[:2])
        return None
    wrong, unsure = look.wrong_at(kinked)
    if wrong is not None and not look.is_regular(kinked, generator):
        told = f"one-sided derivatives in {point.subject.names[k]} do not tell what may be claimed at its kinks"
        findings.leave_open(k, f"{told}, as at a median of equal numbers: take arrays off them", *found[:2])
        return None
    if wrong is not None:
        findings.fail(replace(point, seen=found.estimates[0]), k, wrong)
        if _within_tolerance(findings, k) and gradient.size <= _MANY:  # a few steps are not enough to show it
            findings.fail(point, k, wrong)
        doubt = why_in_doubt(point, k, findings.results[k], found.error, generator)
        if doubt is not None:
            del findings.points[k]
            findings.results[k] = result
            findings.leave_open(k, doubt, *found[:2])
        elif _within_tolerance(findings, k):
            told = f"off by {found.error:.2g} along a random direction, where {found.tolerance:.2g} is tolerated"
            findings.note(k, f"no entry alone is off by more than its tolerance, but all together are: {told}")
        return None
    told = f"{len(kinked)} of {gradient.size} entries at kinks, each between its one-sided derivatives"
    off = unsure / (max(found.largest, found.slope) or 1.0)
    if off > COARSEST_USEFUL:
        findings.leave_open(k, f"{told}, which are known to {off:.1g} of the largest only", *found[:2])
        return None
    findings.note(k, f"{told}, to {off:.1g} of the largest entry" if kinked else told)
    return look.without(kinked)


def _within_tolerance(findings: Findings, k: int) -> bool:
    return findings.results[k].error <= findings.results[k].tolerance


def _felt(point: Extrapolated, k: int, ladders: list[Ladder]) -> Extrapolated | None:
    """The point with nothing upstream of what is flat at short steps; None where that leaves nothing."""
    dy = np.where(np.any([each.flat for each in ladders], axis=0), 0, point.dy).astype(point.dy.dtype)
    _, cache = point.subject.value_and_cache(point.arrays)
    gradients = point.subject.pull_back(point.arrays, dy, cache)
    return replace(point, dy=dy, gradients=gradients) if dy.any() and not_finite(gradients[k]) is None else None


class _Found(NamedTuple):
    """Along one direction or two: by how much the gradient is off at most, and what is tolerated."""

    error: float
    tolerance: float
    right: bool
    wrong: bool
    largest: float
    slope: float
    estimates: list[Estimate]

    @classmethod
    def of(cls, point: Extrapolated, ladders: list[Ladder], estimates: list[Estimate]) -> _Found:
        """Compare each ladder's estimate with what the gradient claims; the worse tolerance serves both."""
        k = ladders[0].k
        errors = [abs(found.value - point.claimed(k, each.v)) for each, found in zip(ladders, estimates, strict=True)]
        tolerance = SAFETY * max(found.error for found in estimates)
        right = [error <= tolerance for error in errors]
        largest = float(np.abs(point.gradients[k]).max())
        slope = max(abs(found.value) for found in estimates) / point.gradients[k].size
        return cls(max(errors), tolerance, all(right), not any(right), largest, slope, estimates)

    @property
    def floor(self) -> float:
        """An error in one entry that is caught: |v| >= 1/2, and the right gradient may be off by the tolerance."""
        return 4 * self.tolerance / self.largest if self.largest else 4 * self.tolerance

    @property
    def sharp(self) -> bool:
        """Whether an error of a thousandth would have been caught."""
        scale = max(self.largest, self.slope)
        return 4 * self.tolerance <= COARSEST_USEFUL * scale or scale == 0


def _remedy(point: Extrapolated, ladder: Ladder, found: _Found) -> str:
    k, noise = ladder.k, max(each.noise for each in found.estimates)
    name, rounding = point.subject.names[k], point.rounding(k)
    note = f"the differences in {name} are known to {found.tolerance:.2g} only, of {found.slope:.2g} an entry"
    if point.repeated:
        return f"{note}: two calls of the forward with the same arrays differ; fix its randomness"
    # At the two shortest steps y is another by as much: noise would differ, and what a slope adds halves.
    for one, two in (ladder.ahead[-2:], ladder.behind[-2:]):
        if abs(one) > 100 * rounding and abs(one - two) <= abs(one) / 100:
            return f"{note}: y jumps at the arrays given: move {name} off the jump"
    if noise > 100 * rounding:
        return f"{note}: f is uncertain by {noise:.2g}; let the forward compute in float64 throughout"
    if point.arrays[k].dtype != np.float64 or point.y.dtype != np.float64:  # type: ignore[union-attr]
        return f"{note}: float32 is too coarse for differences, check in float64"
    return f"{note}: take arrays of moderate size, away from kinks and poles"
