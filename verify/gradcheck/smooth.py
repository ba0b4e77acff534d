"""The verdict on a smooth function of which nothing else is known, by extrapolated differences (richardson.py).

A gradient is called wrong if it is off by more than ten times what the differences may be off by, along
two directions, and nothing else explains it:

- where entries of y stay as they are at short steps, the function is flat there, or does not feel them:
  the gradient must be wrong by the longer steps, too, or with nothing upstream of those entries;
- where one-sided derivatives differ there is a kink, and the claim may lie anywhere between them (Clarke
  1983): the entries at kinks are found by halving and held to their own intervals, all others are
  checked without them.

- where only the shortest step is as steep as the claim, or backward itself rounds by as much as it is off, it stays
  undecided.

If an error of a thousandth of an entry could pass, the verdict is INCONCLUSIVE, and says what would help; but a
gradient is 0 where y stays as it is wherever the array is moved.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from verify.gradcheck.certificate import FAIL
from verify.gradcheck.exact_numbers import Array, draw_upstream, signed
from verify.gradcheck.linearity import check_linear
from verify.gradcheck.locate import descend, not_finite, restricted
from verify.gradcheck.point import OVERFLOWS, Findings
from verify.gradcheck.richardson import SAFETY, Estimate, Extrapolated, Ladder, to_zero
from verify.gradcheck.same_function import is_constant, why_in_doubt

COARSEST_USEFUL = 1e-3
_MOST_KINKS = 64
_BESIDE = 8
# Where slopes change at 0 central differences like short steps, and one-sided ones need not.
_COARSER = 12
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
        look = _SecondLook(point, k, ladders[0].v, ladders[1].v, found.estimates[0])
        kinked = look.kinked()
        if kinked is None:
            told = f"more than {_MOST_KINKS} entries are at kinks: take arrays with fewer"
            findings.leave_open(k, told, *found[:2])
            return
        wrong, unsure = look.wrong_at(kinked)
        if wrong is not None and not look.is_regular(kinked, generator):
            told = f"one-sided derivatives in {point.subject.names[k]} do not tell what may be claimed at its kinks"
            findings.leave_open(k, f"{told}, as at a median of equal numbers: take arrays off them", *found[:2])
            return
        if wrong is not None:
            findings.fail(replace(point, seen=found.estimates[0]), k, wrong)
            if _within_tolerance(findings, k) and gradient.size <= _MANY:  # a few steps are not enough to show it
                findings.fail(point, k, wrong)
            doubt = why_in_doubt(point, k, findings.results[k])
            if doubt is not None:
                del findings.points[k]
                findings.results[k] = result
                findings.leave_open(k, doubt, *found[:2])
            elif _within_tolerance(findings, k):
                told = f"off by {found.error:.2g} along a random direction, where {found.tolerance:.2g} is tolerated"
                findings.note(k, f"no entry alone is off by more than its tolerance, but all together are: {told}")
            return
        told = f"{len(kinked)} of {gradient.size} entries at kinks, each between its one-sided derivatives"
        off = unsure / (max(found.largest, found.slope) or 1.0)
        result = result._replace(note=f"{told}, to {off:.1g} of the largest entry" if kinked else told)
        if off > COARSEST_USEFUL:
            findings.leave_open(k, f"{told}, which are known to {off:.1g} of the largest only", *found[:2])
            return
        ladders = [Ladder(point, k, look.without(kinked))]
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


class _SecondLook(NamedTuple):
    """At a gradient that disagrees along v: kinks, or a wrong entry?"""

    point: Extrapolated
    k: int
    v: Array
    other: Array
    found: Estimate

    def kinked(self) -> list[int] | None:
        """The coordinates of v, in flat order, along which one-sided derivatives differ; None if there are too many."""
        kinked: list[int] = []
        groups = [np.flatnonzero(self.v)]
        while groups:
            group = groups.pop()
            if not any(self._interval(restricted(each, group))[2] for each in (self.v, self.other)[: len(group)]):
                continue
            if len(group) > 1:
                groups += np.array_split(group, 2)
            else:
                kinked.append(int(group[0]))
                if len(kinked) > _MOST_KINKS:
                    return None
        return kinked

    def wrong_at(self, kinked: list[int]) -> tuple[tuple[int, ...] | None, float]:
        """The index of a wrong entry: outside its interval, or, where there is no kink, off.

        And what the ends of these intervals may be off by, in one entry.
        """
        widest = 0.0
        for coordinate in kinked:
            part = restricted(self.v, np.array([coordinate]))
            low, high, _, doubt = self._interval(part)
            widest = max(widest, doubt / abs(float(self.v.flat[coordinate])))
            if not low <= self.point.claimed(self.k, part) <= high:
                return self._index(coordinate), widest
        v = self.without(kinked)
        found = self.point.estimate(Ladder(self.point, self.k, v))
        whole = found.value - self.point.claimed(self.k, v)
        if abs(whole) <= SAFETY * found.error:
            return None, widest
        return descend(v, self._residual, whole)[0], widest

    def is_regular(self, kinked: list[int], generator: np.random.Generator) -> bool:
        """Whether beside the arrays, too, each entry of y has slopes between its one-sided derivatives (Clarke 1983).

        At a kink it is off by as much at any distance; what a slope that varies smoothly is off by falls with it.
        """
        point, k, shape = self.point, self.k, self.v.shape
        h = point.step(k, self.found.level + 2)
        off_kinks = [self.v] if not kinked else []
        for v in [restricted(signed(generator, shape), np.array([c])) for c in kinked[:_BESIDE]] + off_kinks:
            ahead, behind, error = self._one_sided(v)
            low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
            for _ in range(_BESIDE):
                u = generator.normal(size=shape)
                off = np.array([self._off(u, v, h / shorter, low, high, error) for shorter in (1, 4, 16)])
                if ((off > 0) & (off > np.roll(off, 1, axis=0) / 2)).all(axis=0).any():
                    return False
        return True

    def _off(self, u: Array, v: Array, distance: float, low: Array, high: Array, error: Array) -> Array:
        """How far the slope along v of each entry of y, so far along u, is from what lies between; NaN at a kink."""
        point, step = self.point, distance / 16
        beside = replace(point, arrays=point.subject.moved(point.arrays, self.k, distance * u))
        beside = replace(beside, y=point.subject.value(beside.arrays))
        ahead, behind = beside.differences(self.k, v, step)
        # The noise is that of sum(dy * f).
        rounding = float(np.finfo(point.y.dtype).eps) * np.abs(point.y)
        # Of an entry with nothing upstream nothing is known.
        unknown = np.full(point.dy.shape, np.inf)
        uncertain = rounding + np.divide(self.found.noise, np.abs(point.dy), out=unknown, where=point.dy != 0)
        kink = np.abs(ahead + behind) > 0.01 * np.abs(ahead - behind) + SAFETY * uncertain
        there = np.where(kink, np.nan, (ahead - behind) / (2 * step))
        return np.asarray(np.maximum(low - there, there - high) - SAFETY * (error + uncertain / step))

    def without(self, kinked: list[int]) -> Array:
        """v with these coordinates at rest."""
        return restricted(self.v, np.setdiff1d(np.arange(self.v.size), kinked))

    def _one_sided(self, v: Array) -> tuple[Array, Array, Array]:
        """By the window that tells them best: they bear less noise, and so longer steps, than central differences."""
        levels = range(max(0, self.found.level - _COARSER), self.found.level + 1)
        return self.point.one_sided(self.k, v, levels, self.found.noise)

    def _interval(self, v: Array) -> tuple[float, float, bool, float]:
        """The least and the largest that may be claimed along v, whether any entry of y has a kink, and the doubt."""
        ahead, behind, error = self._one_sided(v)
        doubt = SAFETY * float((np.abs(self.point.dy) * error).sum())
        ends = np.sort([(self.point.dy * side).ravel() for side in (ahead, behind)], axis=0).sum(axis=1)
        # The error bounds what roundings, and noise as large as any seen, may do to both.
        kinked = bool((np.abs(ahead - behind) > error).any())
        return float(ends[0]) - doubt, float(ends[1]) + doubt, kinked, doubt

    def _residual(self, v: Array) -> float:
        """By two steps only, four forwards: enough to tell which half is wrong."""
        steps = [self.point.step(self.k, each) for each in (self.found.level, self.found.level + 1)]
        changes = [self.point.differences(self.k, v, h) for h in steps]
        rows = [self.point.weigh(one - two) / (2 * h) for (one, two), h in zip(changes, steps, strict=True)]
        return float(to_zero(np.array(rows), even=True)) - self.point.claimed(self.k, v)

    def _index(self, coordinate: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(coordinate, self.v.shape))


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
