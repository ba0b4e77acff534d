"""Writes headings, tables and blocks of code in reStructuredText."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, classes: str = "") -> str:
    """Return a table, whose cells are reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1"] + ([f"   :class: {classes}"] if classes else []) + [""]
    for cells in (headings, *rows):
        for position, cell in enumerate(cells):
            first, *others = cell.splitlines() or [""]
            lines.append(f"   {'*' if position == 0 else ' '} - {first}".rstrip())
            lines += [f"       {line}" for line in others]
    return "\n".join(lines) + "\n"


def titled(title: str, sign: str = "-") -> str:
    """Return a heading."""
    return f"{title}\n{sign * len(title)}\n"


def code(language: str, text: str) -> str:
    """Return a block of code."""
    return f".. code-block:: {language}\n\n{textwrap.indent(text, '   ')}\n"
