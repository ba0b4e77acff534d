"""Draws grids of cells, as SVG that takes its colours from the page. A picture is a row of grids that may wrap."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

# Three digits fit a cell, and ten cells a screen of 400 pixels.
_CELL = 32


class Cell(NamedTuple):
    """A cell of a grid: its text, and its mark: "", "rim", "read", "read rim", "won" or "lost"."""

    text: str = ""
    mark: str = ""


class Grid(NamedTuple):
    """A grid with the name of its array, a sentence about it, and what a reader hears who does not see it."""

    name: str
    caption: str
    heard: str
    cells: Sequence[Sequence[Cell]]


def picture(grids: Sequence[Grid]) -> str:
    """Return the grids side by side, as HTML."""
    return f'<div class="grids">\n{"".join(map(_figure, grids))}</div>\n'


def _figure(grid: Grid) -> str:
    height, width = len(grid.cells), len(grid.cells[0])
    box = f"0 0 {width * _CELL + 2} {height * _CELL + 2}"
    size = f'width="{width * _CELL + 2}" height="{height * _CELL + 2}"'
    cells = "".join(_cell(i, j, cell) for i, row in enumerate(grid.cells) for j, cell in enumerate(row))
    image = f'<svg viewBox="{box}" {size} role="img" aria-label="{escape(grid.heard)}">{cells}</svg>'
    caption = f"<figcaption><code>{escape(grid.name)}</code> {escape(grid.caption)}</figcaption>"
    return f"<figure>{image}{caption}</figure>\n"


def _cell(i: int, j: int, cell: Cell) -> str:
    x, y, half = j * _CELL + 1, i * _CELL + 1, _CELL / 2
    square = f'<rect class="{f"cell {cell.mark}".strip()}" x="{x}" y="{y}" width="{_CELL}" height="{_CELL}"/>'
    if not cell.text:
        return square
    return f'{square}<text x="{x + half:g}" y="{y + half:g}">{escape(cell.text)}</text>'
