"""Where a gradient is wrong: an array of what is known of each entry, and its drawing in text.

What is known comes from the true gradient that the causes are compared with. Where a gradient is right off ties and
kinks, the entries at ties are asked here: each alone, then those that only together claim too much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from verify.checker.directions import index_of, restricted, unit
from verify.checker.judge import Finding
from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import Reference
from verify.diagnosis.causes.evidence import Evidence

# A choice: a map of more entries, or of more lines, is not read. A long axis is summed into 16 counts.
_MOST_DRAWN, _MOST_LINES, _MOST_COUNTS = 400, 24, 16
# Maps of the last two axes stand side by side up to this width.
_WIDTH = 100
_RIGHT, _WRONG, _UNKNOWN = "·", "#", "?"
# A choice: each takes two to four forwards. A check at ties that passes has some eighty.
_MOST_ASKED = 64
# A window has no more ties that a reader would look at.
_MOST_TOGETHER = 8


def wrong_entries(finding: Finding, everywhere: Sequence[Evidence]) -> Array | None:
    """True where the gradient is wrong, masked where nothing is known; None where no entry alone is known to be."""
    point, reference, result = finding.point, finding.reference, finding.result
    if point is None or reference is None or result.worst is None:
        return None
    claimed = point.claimed[result.position]
    if not np.isfinite(claimed).all():
        return ~np.isfinite(claimed)
    told = [evidence for evidence in everywhere if evidence.wrong]
    if told:
        wrong = told[0].wrong_entries
        for evidence in told[1:]:  # what is flat on one side of a kink shows on another
            wrong = _either(wrong, evidence.wrong_entries)
    elif reference.one_sided:
        alone, known = result.worst.analytic != result.worst.numeric, bool(everywhere) and everywhere[0].whole
        try:
            wrong = _at_ties(reference, point, result.position, alone=alone, known=known)
        except StructureError:
            return None
    else:
        wrong = np.ma.masked_all(claimed.shape, bool)  # type: ignore[no-untyped-call]
    if result.worst.analytic != result.worst.numeric and not _is_within(result.worst):
        wrong[result.worst.index] = True
    return _plain(wrong)


def _is_within(worst: Any) -> bool:
    return bool(abs(worst.analytic - worst.numeric) <= worst.tolerance)


def _either(one: Any, other: Any) -> Any:
    """Wrong where one of two says so; known where both, or a wrong one, do."""
    wrong = np.ma.filled(one, False) | np.ma.filled(other, False)
    unknown = np.ma.getmaskarray(one) & np.ma.getmaskarray(other)
    return np.ma.array(wrong, mask=unknown & ~wrong)


def _plain(wrong: Any) -> Array | None:
    """The array without a mask where everything is known; None where no entry is known to be wrong."""
    mask = np.ma.getmaskarray(wrong)
    if not np.ma.filled(wrong, False).any():
        return None
    return wrong if mask.any() else np.asarray(wrong.data)


def _at_ties(reference: Reference, point: Point, k: int, *, alone: bool, known: bool) -> Any:
    """The entries at ties and zeros that claim what they may not: each alone, or with those that share an output."""
    array: Any = point.arrays[k]
    _, place, count = np.unique(array, return_inverse=True, return_counts=True)
    tied = np.flatnonzero((count[place].reshape(array.shape) > 1) | (array == 0))
    wrong = np.ma.masked_all(array.shape, bool)  # type: ignore[no-untyped-call]
    if known:  # right off ties
        wrong[...] = False
        wrong.reshape(-1)[tied] = np.ma.masked
    asked = tied[:_MOST_ASKED]
    units = {int(each): unit(point, k, index_of(int(each), array.shape)) for each in asked}
    if alone:
        for flat, v in units.items():
            interval, claim = reference.derivative(point, k, v), reference.claim(point, k, v)
            wrong.reshape(-1)[flat] = interval.excess(claim) != 0
        return wrong
    wrong.reshape(-1)[asked] = False
    kinks = [reference.slopes(point, k, v) + reference.slopes(point, k, -v) != 0 for v in units.values()]
    outputs = np.reshape(kinks, (len(kinks), -1)).T
    for output in np.unique(outputs[outputs.sum(axis=1) > 1], axis=0):
        group = asked[output]
        if is_outside(reference, point, k, restricted(np.ones_like(point.claimed[k]), group)):
            wrong.reshape(-1)[group] = True
    return wrong


def is_outside(reference: Reference, point: Point, k: int, v: Array) -> bool:
    """Whether what backward claims along v lies outside both one-sided derivatives of each entry of y."""
    ahead, behind = reference.slopes(point, k, v), -reference.slopes(point, k, -v)
    ends = np.sort([(point.dy * side).ravel() for side in (ahead, behind)], axis=0).sum(axis=1)
    return not ends[0] <= reference.claim(point, k, v) <= ends[1]


def together(reference: Reference, point: Point, k: int, among: Array) -> tuple[tuple[int, ...], ...]:
    """A smallest set of entries that claims what none of it may claim without the others; empty where there is none.

    All of them are moved by as much, which breaks no tie. The shortest run of coordinates that is outside ends in
    one that is needed. That one is kept, and the search begins again before it.
    """
    ones = np.ones_like(point.claimed[k])
    kept: list[int] = []
    rest = [int(each) for each in among]

    def outside(count: int) -> bool:
        return is_outside(reference, point, k, restricted(ones, np.array([*kept, *rest[:count]], dtype=int)))

    if not rest or not outside(len(rest)):
        return ()
    while len(kept) < _MOST_TOGETHER and rest:
        low, high = 0, len(rest)  # outside with all of them, not with none
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if outside(middle) else (middle, high)
        kept.append(rest[high - 1])
        rest = rest[: high - 1]
        if outside(0):
            return tuple(index_of(each, ones.shape) for each in sorted(kept))
    return ()


def drawing(name: str, wrong: Array) -> list[str]:
    """A map of the entries by the last two axes; of many entries, or of none, counts along each axis."""
    values, mask = np.ma.getdata(wrong), np.ma.getmaskarray(wrong)
    signs = np.where(mask, _UNKNOWN, np.where(values, _WRONG, _RIGHT))
    if signs.ndim and 1 < signs.size <= _MOST_DRAWN and (signs != _UNKNOWN).sum() > 1:
        lines = _map(name, signs)
        if len(lines) <= _MOST_LINES:
            legend = [
                f"{sign} {what}"
                for sign, what in ((_RIGHT, "right"), (_WRONG, "wrong"), (_UNKNOWN, "not looked at"))
                if sign in signs
            ]
            return [f"{name}: {', '.join(legend)}", *(f"  {line}" for line in lines)]
    if signs.size <= 1 or (signs != _UNKNOWN).sum() <= 1:
        return []
    return [*_counts(name, signs)]


def _map(name: str, signs: Array) -> list[str]:
    """The blocks of the last two axes side by side, each under its index."""
    planes = signs.reshape(-1, *signs.shape[-2:]) if signs.ndim > 1 else signs.reshape(1, 1, -1)
    blocks = []
    for plane, index in zip(planes, np.ndindex(*signs.shape[:-2]), strict=True):
        head = f"[{', '.join(map(str, index))}]" if index else ""
        blocks.append([*([head] if index else []), *("".join(row) for row in plane)])
    width = max(len(line) for block in blocks for line in block)
    columns = max(1, _WIDTH // (width + 2))
    lines = []
    for first in range(0, len(blocks), columns):
        for row in zip(*blocks[first : first + columns], strict=True):
            lines.append("  ".join(part.ljust(width) for part in row).rstrip())
    return lines


def _counts(name: str, signs: Array) -> Iterator[str]:
    """How many entries are wrong at each place along each axis."""
    wrong, looked_at = signs == _WRONG, signs != _UNKNOWN
    of = f"{signs.size} entries" if looked_at.all() else f"{looked_at.sum()} entries looked at of {signs.size}"
    yield f"{name}: {wrong.sum()} wrong of {of}"
    if wrong.all():
        return
    for axis in range(signs.ndim):
        others = tuple(other for other in range(signs.ndim) if other != axis)
        counts = wrong.sum(axis=others)
        places = np.flatnonzero(counts)
        if len(counts) == 1:
            continue
        if len(places) <= _MOST_COUNTS:
            text = ", ".join(f"{counts[place]} at {place}" for place in places)
        else:
            text = f"at {len(places)} places from {places[0]} to {places[-1]}"
        yield f"  axis {axis} (of {len(counts)}): {text}"
