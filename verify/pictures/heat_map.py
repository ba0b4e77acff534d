"""A heat map as SVG: blue above zero, orange below, nothing at zero, wrong entries outlined.

The colours are variables of the style sheet around it, so that one picture suits light and dark pages. All coordinates
are rounded to tenths, and nothing depends on a font or on the time: the same gradient gives the same text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, NamedTuple

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.gradients import Compared
from verify.pictures.arrangement import Plane, values_at

# Ink on the strongest of either colour has a contrast of 4.5 and more, in both schemes.
LIGHT = "--paper: #fdfcfa; --ink: #22262b; --soft: #5b6169; --zero: #efece6; --plus: #4f9fdc; --minus: #ee8a3c"
DARK = "--paper: #15181b; --ink: #eceae6; --soft: #a9adb3; --zero: #262b30; --plus: #1d69a6; --minus: #a44f18"
# The colours of what is drawn, by its class.
STYLE = """
.map { overflow: visible } .map text { fill: var(--ink); font-size: 12px } .map .soft { fill: var(--soft) }
.map .title { font-weight: 600; font-size: 13px } .map .number { font-size: 10.5px; text-anchor: middle }
.map .zero { fill: var(--zero) } .map .plus { fill: var(--plus) } .map .minus { fill: var(--minus) }
.map .unknown { stroke: var(--soft); stroke-width: .8; fill: none }
.map .broken { stroke: var(--ink); stroke-width: 1.6; fill: none }
.map .wrong { stroke: var(--ink); stroke-width: 1.7; fill: none; stroke-linecap: square }
"""
# A choice: steps of each colour. The eye does not separate more.
_LEVELS = 8
# Pixels. A map is as large as fits, its cells between the smallest that is seen and the largest that is not clumsy.
_WIDTH, _HEIGHT, _SMALLEST, _LARGEST, _GAP = 290, 290, 3.5, 34.0, 6.0
# Of more tiles in a row or column the gaps would take the room of the cells.
_FEW_TILES, _NARROW_GAP = 12, 2.0
# Pixels: a digit of a number in a cell, and what is left free beside the number.
_DIGIT, _MARGIN = 6.2, 3.0
_TOP, _LABEL, _ALONG, _FOOT, _CHARACTER = 22.0, 17.0, 8.0, 28.0, 6.6
# The scale of colours below a map, with both its numbers and the sign for wrong entries.
_NARROWEST, _STEP = 215.0, 5.0


class Map(NamedTuple):
    """A drawn map: its elements, and its size in pixels."""

    elements: str
    width: float
    height: float


def maps(compared: Compared, plane: Plane) -> list[tuple[str, Map]]:
    """The maps of one gradient, with their titles: claimed, expected, difference. Of one found right, claimed alone."""
    claimed, expected = values_at(compared.claimed, plane), values_at(compared.expected, plane)
    wrong = plane.wrong
    scale = max(_largest(claimed), _largest(expected))
    if not wrong.any() and not np.ma.getmaskarray(expected).any():
        title = "claimed, and found right"
        return [(title, draw(plane, claimed, scale, title, None, _digits(plane, claimed)))]
    with np.errstate(invalid="ignore"):
        difference = claimed - expected
    digits = _digits(plane, claimed, expected, difference)
    return [
        ("claimed", draw(plane, claimed, scale, "claimed", wrong, digits)),
        ("expected", draw(plane, expected, scale, "expected", None, digits)),
        ("difference", draw(plane, difference, _largest(difference), "difference", wrong, digits)),
    ]


def _largest(values: Any) -> float:
    known = np.ma.compressed(values)
    return float(np.abs(known[np.isfinite(known)]).max(initial=0.0))


def _gap(plane: Plane) -> float:
    """The space between tiles."""
    return _GAP if max(plane.tiles) <= _FEW_TILES else _NARROW_GAP


def _side(plane: Plane) -> float:
    """The side of a cell."""
    rows, columns = plane.tiles[0] * plane.size[0], plane.tiles[1] * plane.size[1]
    gaps = _gap(plane) * max(0, plane.tiles[1] - 1), _gap(plane) * max(0, plane.tiles[0] - 1)
    each = min((_WIDTH - gaps[0]) / max(columns, 1), (_HEIGHT - gaps[1]) / max(rows, 1), _LARGEST)
    return math.floor(2 * max(each, _SMALLEST)) / 2


def draw(plane: Plane, values: Any, largest: float, title: str, wrong: Array | None, digits: int) -> Map:
    """One map. `largest` is the value of the strongest colour. Numbers in cells have `digits` digits; 0 means none."""
    cell = _side(plane)
    gap, above = _gap(plane), any(label.side == "top" for label in plane.labels)
    wrapped = above and any(label.row for label in plane.labels if label.side == "top")
    left = max((len(label.text) for label in plane.labels if label.side == "left"), default=0)
    margin = left * _CHARACTER + (_ALONG if left else 0)
    pitch = plane.size[1] * cell + gap, plane.size[0] * cell + (_LABEL if wrapped else gap)
    top = _TOP + (_LABEL if above else 0)

    places = plane.places.tolist()
    corners = [(margin + c * pitch[0] + k * cell, top + r * pitch[1] + i * cell) for r, c, i, k in places]
    width = margin + plane.tiles[1] * pitch[0] - gap
    height = top + plane.tiles[0] * pitch[1] - (_LABEL if wrapped else gap)
    parts = [f'<text class="title" y="13">{escape(title)}</text>']
    parts += _label_texts(plane, margin, top, pitch, cell)
    parts += _fills(values, largest, corners, cell)
    if wrong is not None:
        parts += _outline(plane, wrong, corners, cell)
    parts += _numbers(values, digits, corners, cell)
    finite = bool(np.isfinite(np.ma.compressed(values)).all())
    foot = _scale(largest, max(height, top) + 12, marked=wrong is not None, finite=finite)
    return Map("".join(parts) + foot, max(width, _NARROWEST), max(height, top) + _FOOT)


def _label_texts(plane: Plane, margin: float, top: float, pitch: tuple[float, float], cell: float) -> Iterator[str]:
    """The labels that have room: every one, or every second, and so on."""
    longest = max((len(label.text) for label in plane.labels if label.side == "top"), default=0)
    every = max(1, math.ceil((longest * _CHARACTER + 4) / pitch[0]))
    rows = max(1, math.ceil(13 / pitch[1]))
    for side, row, column, text in plane.labels:
        x, y = margin + column * pitch[0], top + row * pitch[1]
        if side == "top" and not column % every:
            yield f'<text class="soft" x="{_n(x)}" y="{_n(y - 5)}">{escape(text)}</text>'
        elif side == "left" and not row % rows:
            y += min(plane.size[0] * cell / 2, 60) + 4
            yield f'<text class="soft" x="{_n(margin - _ALONG)}" y="{_n(y)}" text-anchor="end">{escape(text)}</text>'


def _fills(values: Any, largest: float, corners: list[tuple[float, float]], cell: float) -> Iterator[str]:
    """The cells, those of one colour in one path; neighbours of a row in one rectangle."""
    unknown, numbers = np.ma.getmaskarray(values), np.ma.getdata(values)
    kinds = [_kind(number, largest, hidden) for number, hidden in zip(numbers.tolist(), unknown.tolist(), strict=True)]
    runs: dict[tuple[str, int], list[list[float]]] = {}
    before: tuple[str, int] | None = None
    for kind, (x, y) in zip(kinds, corners, strict=True):
        mine = runs.setdefault(kind, [])
        if kind == before and mine and mine[-1][1] == y and abs(mine[-1][0] + mine[-1][2] - x) < 1e-6:
            mine[-1][2] += cell
        else:
            mine.append([x, y, cell])
        before = kind
    for (name, level), found in sorted(runs.items()):
        ground = "".join(f"M{_n(x)} {_n(y)}h{_n(run)}v{_n(cell)}h-{_n(run)}z" for x, y, run in found)
        if name in ("unknown", "broken"):
            yield f'<path class="zero" d="{ground}"/><path class="{name}" d="{_strokes(name, found, cell)}"/>'
        else:
            opacity = f' fill-opacity="{level / _LEVELS:g}"' if level not in (0, _LEVELS) else ""
            yield f'<path class="{name}"{opacity} d="{ground}"/>'


def _strokes(name: str, runs: list[list[float]], cell: float) -> str:
    """A diagonal through each cell that was not looked at, a cross through each that is not finite."""
    found = []
    for x, y, run in runs:
        for step in range(round(run / cell)):
            found.append(f"M{_n(x + step * cell)} {_n(y + cell)}l{_n(cell)} -{_n(cell)}")
            if name == "broken":
                found.append(f"m0 {_n(cell)}l-{_n(cell)} -{_n(cell)}")
    return "".join(found)


def _kind(value: float, largest: float, unknown: bool) -> tuple[str, int]:
    if unknown:
        return "unknown", 0
    if not math.isfinite(value):
        return "broken", 0
    if value == 0 or not largest:
        return "zero", 0
    level = max(1, math.ceil(_LEVELS * abs(value) / largest))
    return ("plus" if value > 0 else "minus"), level


def _outline(plane: Plane, wrong: Array, corners: list[tuple[float, float]], cell: float) -> Iterator[str]:
    """The border between wrong cells and others."""
    cells = zip(plane.places.tolist(), corners, wrong.tolist(), strict=True)
    marked = {tuple(place): corner for place, corner, bad in cells if bad}
    lines = []
    for (tile_row, tile_column, row, column), (x, y) in marked.items():
        for down, right, start, stroke in (
            (-1, 0, (x, y), f"h{_n(cell)}"),
            (1, 0, (x, y + cell), f"h{_n(cell)}"),
            (0, -1, (x, y), f"v{_n(cell)}"),
            (0, 1, (x + cell, y), f"v{_n(cell)}"),
        ):
            if (tile_row, tile_column, row + down, column + right) not in marked:
                lines.append(f"M{_n(start[0])} {_n(start[1])}{stroke}")
    if lines:
        yield f'<path class="wrong" d="{"".join(lines)}"/>'


def _digits(plane: Plane, *maps: Any) -> int:
    """How many digits, from four to two, let all numbers of these maps fit into their cells; 0 if none does."""
    fits = int((_side(plane) - _MARGIN) // _DIGIT)
    for digits in (4, 3, 2):
        if all(len(text) <= fits for values in maps for text in _texts(values, digits)):
            return digits
    return 0


def _texts(values: Any, digits: int) -> list[str]:
    """The numbers with this many digits; nothing where none is known."""
    pairs = zip(np.ma.getdata(values).tolist(), np.ma.getmaskarray(values).tolist(), strict=True)
    return ["" if hidden or not math.isfinite(value) else _text(value, digits) for value, hidden in pairs]


def _text(value: float, digits: int) -> str:
    return f"{value + 0.0:.{digits}g}".replace("-", "−")


def _numbers(values: Any, digits: int, corners: list[tuple[float, float]], cell: float) -> Iterator[str]:
    """The numbers themselves, each in its cell."""
    for text, (x, y) in zip(_texts(values, digits) if digits else [], corners, strict=False):
        if text:
            yield f'<text class="number" x="{_n(x + cell / 2)}" y="{_n(y + cell / 2 + 3.8)}">{text}</text>'


def _scale(largest: float, y: float, *, marked: bool, finite: bool) -> str:
    """The colours from the least to the largest value, both numbers, and the sign for a wrong entry."""
    low, high = f"−{largest:.3g}", f"{largest:.3g}"
    if not largest:
        low, high = "all are 0" if finite else "others are 0", ""
    x, parts = len(low) * 7.5 + 6, [f'<text class="soft" y="{_n(y + 10)}">{low}</text>']
    for level in range(-_LEVELS, _LEVELS + 1) if largest else ():
        name = "plus" if level > 0 else "minus" if level else "zero"
        opacity = f' fill-opacity="{abs(level) / _LEVELS:g}"' if 0 < abs(level) < _LEVELS else ""
        parts.append(f'<path class="{name}"{opacity} d="M{_n(x)} {_n(y)}h{_n(_STEP)}v12h-{_n(_STEP)}z"/>')
        x += _STEP
    if largest:
        parts.append(f'<text class="soft" x="{_n(x + 6)}" y="{_n(y + 10)}">{high}</text>')
    if marked:
        x += len(high) * 7.5 + 20
        parts.append(f'<path class="wrong" d="M{_n(x)} {_n(y + 1)}h10v10h-10z"/>')
        parts.append(f'<text class="soft" x="{_n(x + 16)}" y="{_n(y + 10)}">wrong</text>')
    return "".join(parts)


def _n(value: float) -> str:
    """A coordinate in tenths of a pixel."""
    return f"{round(value, 1):g}"


def named_parts(name: str, compared: Compared) -> Iterable[tuple[str, Compared]]:
    """The gradient by its name; a complex one as its real and its imaginary part."""
    if not np.iscomplexobj(compared.claimed) and not np.iscomplexobj(compared.expected):
        return [(f"d{name}", compared)]
    halves = (("real", np.real), ("imaginary", np.imag))
    return [
        (f"d{name}, {part} part", compared._replace(claimed=of(compared.claimed), expected=_of(compared.expected, of)))
        for part, of in halves
    ]


def _of(expected: Any, part: Any) -> Any:
    return np.ma.array(part(np.ma.getdata(expected)), mask=np.ma.getmaskarray(expected))
