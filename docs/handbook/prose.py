"""Reads docstrings, which are plain text, and writes them as reStructuredText."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from handbook.formula import columns, kept_as_text, latex, names_in

# The first words of the paragraphs that get a heading of their own, and the heading.
_HEADED = {"Shapes": "Shapes", "Dtypes": "Shapes", "Option": "Options", "Raises": "Errors", "Source": "Source"}
_OPENING = re.compile(r"(Shapes|Dtypes|Source)(?=:)|(Option)(?=s?[:,])|(Raises)(?= )")
# A number or a word in front of a formula. Such lines have a table of their own.
_LABEL = re.compile(r"\d+\. |[a-z]+: ")
# What reStructuredText takes for markup outside of code.
_MARKUP = re.compile(r"([\\*_|])")
_CODE = re.compile(r"(`[^`]+`)")
_PAPER = re.compile(r"\barXiv:(\d{4}\.\d{4,5})")


class Block(NamedTuple):
    """A part of a docstring: its kind (`text`, `list`, `formula`, `session`) and its lines, without their indent."""

    kind: str
    lines: tuple[str, ...]


def blocks(docstring: str) -> list[Block]:
    """Split a docstring, without its own indent, into blocks. Indented lines are formulas, dashes make a list."""
    found: list[Block] = []
    kind, lines = "", list[str]()

    def close() -> None:
        if lines:
            found.append(Block(kind, tuple(lines)))
        lines.clear()

    for line in docstring.strip().splitlines():
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            close()
            kind = ""
            continue
        now = _kind(line, indent, kind)
        if now != kind:
            close()
            kind = now
        lines.append(line if now in ("list", "session") else line[4:] if now == "formula" else line)
    close()
    return found


def _kind(line: str, indent: int, before: str) -> str:
    if line.lstrip().startswith(">>> ") or (before == "session"):
        return "session"
    if line.startswith("- ") or (before == "list" and indent):
        return "list"
    return "formula" if indent >= 4 else "text"


def sections(docstring: str) -> dict[str, list[Block]]:
    """Return the blocks of a layer's docstring below their headings. The first heading is "Formula"."""
    found: dict[str, list[Block]] = {"Formula": []}
    heading = "Formula"
    for block in blocks(docstring):
        for part in _by_opening(block) if block.kind == "text" else [block]:
            heading = _heading(part) or heading
            found.setdefault(heading, []).append(part)
    return found


def _by_opening(block: Block) -> Iterator[Block]:
    """Split a paragraph before each line that opens another section."""
    lines: list[str] = []
    for line in block.lines:
        if lines and _heading(Block("text", (line,))):
            yield Block("text", tuple(lines))
            lines = []
        lines.append(line)
    yield Block("text", tuple(lines))


def _heading(block: Block) -> str:
    opening = _OPENING.match(block.lines[0]) if block.kind == "text" else None
    return _HEADED[opening[0]] if opening else ""


def rst(found: Iterable[Block], known: Iterable[str] = (), *, formulas: bool = True) -> str:
    """Return blocks as reStructuredText. `known` are names that a formula may have: of arrays and of options.

    Unless they are `formulas`, indented lines are shown as they are: Python, if they can be read so.
    """
    listed = [block if formulas or block.kind != "formula" else block._replace(kind="code") for block in found]
    names = names_in((line for block in listed if block.kind == "formula" for line in block.lines), known)
    return "\n\n".join(_rendered(block, names) for block in listed) + "\n"


def _rendered(block: Block, names: frozenset[str]) -> str:
    if block.kind == "session":
        return "\n".join(line.strip() for line in block.lines)
    if block.kind == "formula":
        return _formula(block.lines, names)
    if block.kind == "code":
        text = "\n".join(block.lines)
        return f".. code-block:: {'python' if _is_python(text) else 'text'}\n\n{textwrap.indent(text, '   ')}"
    return "\n".join(escaped(line) for line in block.lines)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _formula(lines: tuple[str, ...], names: frozenset[str]) -> str:
    """Return the lines as one table of formulas, and those that are words or Python as they are."""
    parts: list[str] = []
    rows: list[str] = []
    was_labelled = False

    def close() -> None:
        if rows:
            most = max(row.count("&") for row in rows) + 1
            body = " \\\\\n".join(rows)
            formula = f"\\begin{{array}}{{{'l' * most}}}\n{body}\n\\end{{array}}"
            parts.append(".. math::\n\n" + textwrap.indent(formula, "   "))
            rows.clear()

    for line in lines:
        if kept_as_text(line) and not (rows and line.startswith(" ")):
            close()
            code = "np." in line
            parts.append(f".. code-block:: python\n\n   {line.strip()}" if code else f"| {escaped(line.strip())}")
        else:
            labelled = bool(_LABEL.match(line))
            if labelled != was_labelled:
                close()
            rows.append(row(line, names))
            was_labelled = labelled or (was_labelled and line.startswith(" "))
    close()
    merged = "\n\n".join(parts)
    return re.sub(r"^(\| .*)\n\n(?=\| )", r"\1\n", merged, flags=re.MULTILINE)


def row(line: str, names: frozenset[str]) -> str:
    """Return a line of formulas as a row of an array. A line that goes on with the one before is moved in."""
    if line.startswith(" "):
        return r"\qquad " + latex(re.sub(r" +", " ", line.strip()), names)
    return " & ".join(latex(column, names) for column in columns(line))


def escaped(text: str) -> str:
    """Return a line of prose as reStructuredText: code stays code, and nothing else is markup. Papers are links."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if part.startswith("`") and len(part) > 2 else _plain(part) for part in parts)


def _plain(text: str) -> str:
    plain = _MARKUP.sub(r"\\\1", text)
    return _PAPER.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", plain)
