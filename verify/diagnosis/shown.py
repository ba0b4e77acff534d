"""Which numbers show a wrong gradient: at the caller's arrays where the fault shows there, else at small drawn ones.

dy is of small whole numbers from a seeded generator. A number by which a gradient is convicted here must differ by more
than rounding and truncation can: both are measured at these very arrays. At kinks it must lie outside both one-sided
derivatives of each entry of y.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from verify.checker.certificate import Shown
from verify.checker.directions import unit
from verify.checker.exact import AHEAD, BEHIND, BY_ONE
from verify.checker.extrapolation import SAFETY
from verify.checker.judge import Finding
from verify.checker.layer import LayerUnderTest
from verify.checker.line import Line
from verify.checker.point import Array, Point, Worst
from verify.checker.reference import BY_COMPLEX, Interval, Reference, Way, with_upstream
from verify.checker.references.differences import CENTRAL
from verify.diagnosis.reproduction import MOST_LITERALS, YOURS, Lines, at_hand, run, stands_as_numbers, text_of
from verify.diagnosis.wrong_entries import is_outside, together

# A choice: an entry that a draw does not show, as where a relu is off, gets seven more. Each takes three calls.
_SEEDS = range(8)
# A choice: other wrong entries, asked where the worst one does not show at the caller's arrays.
_OTHERS = 3
# Steps at the caller's arrays, times the largest entry. Of an affine function, whose first is 1: as far as its pieces
# may reach. Of another: where truncation and rounding are of one size, in float64 and in float32.
_AFFINE_STEPS, _SMOOTH_STEPS = (2.0**-10, 2.0**-20), (1e-5, 1e-3, 1e-2)
# Slopes ahead and behind approach each other by a half where the step is halved, unless there is a kink.
_NEARER = 0.75
# One-sided differences are known to this, relative to both values.
_PLAIN = 1e-4
# A complex step is believed if a central difference of this step agrees to a thousandth. That is far above the
# difference's own truncation, of order 1e-10, and rounding, 1e-11 of y.
_PLAIN_STEP, _AGREES = 1e-5, 1e-3

DRAWN = "at small numbers"


class Reproduced(NamedTuple):
    """The lines, the numbers that they print, and what the lines are made of."""

    text: str
    shown: Shown
    lines: Lines


def reproduce(finding: Finding, worst: Worst | None, wrong: Array | None) -> Reproduced | None:
    """The lines that show the worst entry, or another wrong one of that gradient; None where none so short do."""
    reference, point = finding.reference, finding.point
    if worst is None or reference is None or point is None:
        return None
    with np.errstate(all="ignore"):
        for case in _cases(reference, point, worst, wrong):
            text = text_of(case.lines)
            values = run(text, case.lines.point)
            if values is None or not math.isfinite(values[1]) or not _differ(*values, case.lines.way.enough):
                continue
            if case.interval is None and not _confirmed(reference, worst, case.lines, values):
                continue
            if case.interval is not None and not _is_outside(case.interval, values[0]):
                continue  # of what a call leaves behind, lines that begin anew show nothing
            low, high = (values[1], values[1]) if case.interval is None else map(float, case.interval[:2])
            room = 0.0 if case.interval is None else float(case.interval.tolerated)
            if case.interval is not None and low - room <= values[0] <= high + room:
                continue  # the lines make the layer anew, and then its first gradient is right
            if high - low <= _PLAIN * abs(values[1] - values[0]):
                low = high = values[1]  # no kink: what the lines print
            if low == high and abs(low) <= room:
                low = high = 0.0  # it is 0 but for rounding
            where = case.where
            if f"arrays = {YOURS}" in text or f"arrays = options = {YOURS}" in text:
                where = f"{where} [{', '.join(point.layer.names)}]"
            shown = Shown(worst.argument, finding.result.name, case.lines.indices, values[0], low, high, where)
            text = f"{text}  # {values[0]!r}, where differences say {values[1]!r}"
            return Reproduced(text, shown, case.lines)
    return None


class _Case(NamedTuple):
    """Lines to try; `interval` is what the entries may be, if that is known."""

    lines: Lines
    where: str
    interval: Interval | None = None


def _cases(reference: Reference, point: Point, worst: Worst, wrong: Array | None) -> Iterator[_Case]:
    k = worst.argument
    if reference.one_sided and worst.analytic == worst.numeric:
        yield from _ties(reference, point, k, wrong)
        return
    first = at_hand() or stands_as_numbers(point)
    if first:
        yield from _at_your_arrays(reference, point, worst, wrong)
    ways = list(reference.ways(point, worst))
    for way in (each for each in ways if each.drawn):
        for seed in _SEEDS:
            yield _Case(Lines(point, k, (worst.index,), way, seed), DRAWN)
    if not first:
        yield from _at_your_arrays(reference, point, worst, wrong)
    if sum(np.size(a) for a in point.arrays if a is not None) + point.dy.size <= MOST_LITERALS:
        for way in (each for each in ways if not each.drawn):
            yield _Case(Lines(point, k, (worst.index,), way, None), _where(point, rounded=reference.one_sided))


def own_arrays() -> str:
    """What the arrays given are called."""
    return f"at {'your' if at_hand() else 'these'} arrays"


def _where(point: Point, *, rounded: bool = True) -> str:
    alike = (np.array_equal(one, other) for one, other in zip(point.arrays, point.layer.arrays, strict=True))  # type: ignore[arg-type]
    own = own_arrays()
    return own if all(alike) else f"{own}, rounded" if rounded else "at drawn arrays"


def _ties(reference: Reference, point: Point, k: int, wrong: Array | None) -> Iterator[_Case]:
    """Entries that together claim what they may not, for a small dy: at the very arrays, or as they were rounded."""
    among = np.arange(point.claimed[k].size) if wrong is None else np.flatnonzero(np.ma.filled(wrong, False))
    group = together(reference, point, k, among)
    if not group:
        return
    v: Any = sum(unit(point, k, index) for index in group)
    given = at_the_arrays_given(point.layer)
    for own in (given, point) if given is not None and given.y.shape == point.y.shape else (point,):
        for seed in _SEEDS if point.y.ndim else _SEEDS[:1]:
            small = with_small(own, seed)
            upstream = seed if point.y.ndim else None
            if small is None:
                continue
            if own is point and is_outside(reference, small, k, v):
                way, interval = AHEAD._replace(h=point.step), reference.derivative(small, k, v)
                yield _Case(Lines(small, k, group, way, None, upstream), _where(point), interval)
            elif own is not point and (found := _by_difference(small, k, v, affine=True)) is not None:
                yield _Case(Lines(small, k, group, found[0], None, upstream), _where(own), found[1])


def with_small(point: Point, seed: int) -> Point | None:
    """The point with a dy of small whole numbers; None where the layer refuses it."""
    shape = point.y.shape
    drawn = np.random.default_rng(seed).integers(-4, 5, shape) if shape else np.array(3 + seed)
    try:
        return with_upstream(point, np.asarray(drawn).astype(point.y.dtype))
    except Exception:  # it was made for the arrays, and not for this dy
        return None


def at_the_arrays_given(layer: LayerUnderTest) -> Point | None:
    """The point at the caller's arrays, where backward is not asked yet; None where y is not finite there."""
    try:
        y = layer.value(layer.arrays)
    except Exception:  # it is random, say
        return None
    return Point(layer, layer.arrays, y, np.zeros_like(y), {}) if np.isfinite(y).all() else None


def _at_your_arrays(reference: Reference, point: Point, worst: Worst, wrong: Array | None) -> Iterator[_Case]:
    """The worst entry, and a few others, at the very arrays given."""
    k, own = worst.argument, at_the_arrays_given(point.layer)
    if own is None or own.y.shape != point.y.shape:
        return
    entries = [worst.index]
    if wrong is not None:
        others = np.argwhere(np.ma.filled(wrong, False))
        entries += [tuple(map(int, index)) for index in others[:: max(1, len(others) // _OTHERS)][:_OTHERS]]
    by_complex = [way for way in reference.ways(point, worst) if way.moved == BY_COMPLEX.moved and not way.drawn]
    for seed in _SEEDS if own.y.ndim else _SEEDS[:1]:
        small = with_small(own, seed)
        if small is None or k not in small.claimed:
            return
        upstream = seed if own.y.ndim else None
        for index in entries if seed == _SEEDS[0] else entries[:1]:
            if by_complex and not reference.one_sided:
                interval = _by_complex(reference, small, k, index)
                if interval is not None:
                    lines = Lines(small, k, (index,), by_complex[0]._replace(enough=0.0), None, upstream)
                    yield _Case(lines, _where(own))
            found = _by_difference(small, k, unit(small, k, index), affine=reference.exact)
            if found is not None:
                way, interval = found
                yield _Case(Lines(small, k, (index,), way, None, upstream), _where(own), interval)


def _by_complex(reference: Reference, point: Point, k: int, index: tuple[int, ...]) -> Interval | None:
    """What the entry may be, by the reference itself, whose arrays these are; None where it claims just that."""
    v = unit(point, k, index)
    try:
        interval = reference.derivative(point, k, v)
        outside = interval.excess(reference.claim(point, k, v)) != 0
    except Exception:  # the exact arithmetic ends
        return None
    return interval if outside else None


def _by_difference(point: Point, k: int, v: Array, *, affine: bool) -> tuple[Way, Interval] | None:
    """How plain differences show that the claim along v is wrong, and what it may be; None where they do not."""
    line = Line(point, k, v)
    claimed = float(point.claimed[k][v != 0].sum())
    array: Any = point.arrays[k]
    scale = 2.0 ** math.frexp(max(1.0, float(np.abs(array).max(initial=0.0))))[1] / 2
    found = None
    for h in (1.0, *(share * scale for share in _AFFINE_STEPS)) if affine else (s * scale for s in _SMOOTH_STEPS):
        low, high, tolerated = interval = one_sided_at(line, h) if affine else central_at(line, h)
        if not math.isfinite(float(low) + float(high)) or not _is_outside(interval, claimed):
            continue
        way = CENTRAL if not affine else BY_ONE if h == 1 else AHEAD
        found = found or (way._replace(h=h, drawn="", enough=0.0), interval)
        if high - low <= tolerated:  # no kink within the step
            return way._replace(h=h, drawn="", enough=0.0), interval
    return found


def _is_outside(interval: Interval, claimed: float) -> bool:
    """Whether a claim lies outside both ends by more than is tolerated."""
    low, high, tolerated = interval
    return not low - tolerated <= claimed <= high + tolerated


def one_sided_at(line: Line, h: float) -> Interval:
    """The one-sided derivatives at a step, and by how much both may be off by rounding alone."""
    ahead, behind = (side / h for side in line.changes(h))
    return _between(line, ahead, -behind, SAFETY * _rounding(line, h, ahead))


def central_at(line: Line, h: float) -> Interval:
    """A central difference, known to what it changes by at twice the step; at a kink, both one-sided ones."""
    (ahead, behind), (far, back), (near, rear) = (line.changes(each) for each in (h, 2 * h, h / 2))
    rounding = _rounding(line, h, ahead / h)
    size = np.abs(line.point.dy)
    bent, less = (float((size * np.abs(one + other)).sum()) for one, other in ((ahead, behind), (near, rear)))
    central, double = line.weigh(ahead - behind) / (2 * h), line.weigh(far - back) / (4 * h)
    if less / (h / 2) > _NEARER * bent / h + 2 * rounding:
        return _between(line, ahead / h, -behind / h, SAFETY * (abs(central - double) + rounding))
    return Interval(central, central, SAFETY * (abs(central - double) + rounding))


def _between(line: Line, ahead: Array, behind: Array, tolerated: float) -> Interval:
    dy = line.point.dy
    ends = np.sort([(dy * side).ravel() for side in (ahead, behind)], axis=0).sum(axis=1)
    return Interval(float(ends[0]), float(ends[1]), tolerated)


def _rounding(line: Line, h: float, slopes: Array) -> float:
    """Rounding of y, as of a sum of as many products as the largest array has entries (Higham 2002, section 3.1)."""
    point = line.point
    terms = max([point.y.size, *(np.size(a) for a in point.arrays if a is not None)])
    eps = max(float(np.finfo(each.dtype).eps) for each in (point.y, point.claimed[line.k]))
    moved = np.abs(point.y) + h * np.abs(slopes)
    both = float((np.abs(point.dy) * moved).sum()) / h + float((np.abs(point.dy) * np.abs(slopes)).sum())
    return terms * eps * both + float(np.finfo(np.float64).tiny)


def _differ(claimed: float, true: float, enough: float) -> bool:
    return not abs(claimed - true) <= enough * max(abs(claimed), abs(true))


def _confirmed(reference: Reference, worst: Worst, lines: Lines, values: tuple[float, float]) -> bool:
    """Whether plain differences at the same arrays say so as well: a complex step through an abs is no proof.

    The claim must lie outside both one-sided differences, by more than they are known to. At kinks it must not be that
    of the branch which the forward was found to take. With a complex step a central difference must agree to a
    thousandth.
    """

    def by(way: Way, h: float) -> float:
        found = run(text_of(lines._replace(way=way._replace(h=h, drawn=lines.way.drawn))), lines.point)
        return math.nan if found is None else found[1]

    claimed, true = values
    by_complex = lines.way.moved == BY_COMPLEX.moved
    if reference.one_sided and by_complex:
        return true == worst.numeric
    if by_complex:
        central = by(CENTRAL, _PLAIN_STEP)
        return abs(central - true) <= _AGREES * abs(true) or abs(central - true) <= _AGREES * abs(claimed - true)
    if lines.way.moved == CENTRAL.moved:
        return True
    ends = sorted(by(way, 1.0 if lines.way.drawn else lines.point.step) for way in (BEHIND, AHEAD))
    room = _PLAIN * max(map(abs, ends))
    apart = not ends[0] - room <= claimed <= ends[1] + room
    # Drawn arrays must lie at no kink: there every right backward says the same.
    return all(map(math.isfinite, ends)) and (ends[1] - ends[0] <= room if lines.way.drawn else apart)
