"""The numeric constants of the checker and the diagnosis, each with its reason.

`python -m benchmarks.structure --constants` prints docs/constants.md from what this module finds.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import verify.checker
import verify.diagnosis

_OPENING = """\
# Constants

The fixed numbers of `verify/checker` and `verify/diagnosis`: one row for each name at the top level of a module.
A reason is the comment beside the constant or directly above it, or the docstring that names it. A reason that begins
with "with" is the comment above an earlier constant of the same block. A test fails for a constant without a reason.

| constant | value | module | reason |
| --- | --- | --- | --- |
"""
_CLOSING = """
This page is printed by `python -m benchmarks.structure --constants`, and a test compares.
"""
# Comments for tools say nothing about a value.
_FOR_TOOLS = re.compile(r"(noqa|type:|fmt:|pragma|mypy:|ruff:)")
_PARTS = (
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.UnaryOp,
    ast.unaryop,
    ast.BinOp,
    ast.operator,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Attribute,
    ast.expr_context,
)


class Constant(NamedTuple):
    """A number at the top level of a module. `reason` is empty if the source gives none."""

    name: str
    value: str
    module: str
    reason: str
    inherited: bool = False


class _Comments(NamedTuple):
    """The comments of a file by line: those that stand alone, and those beside code."""

    alone: dict[int, str]
    beside: dict[int, str]

    @classmethod
    def of(cls, source: str) -> _Comments:
        found = cls({}, {})
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            text = token.string.lstrip("# ")
            if token.type == tokenize.COMMENT and not _FOR_TOOLS.match(text):
                found[bool(token.line[: token.start[1]].strip())][token.start[0]] = text
        return found

    def above(self, line: int) -> str:
        """The comment that ends on the line before this one."""
        first = line
        while first - 1 in self.alone:
            first -= 1
        return " ".join(self.alone[each] for each in range(first, line))


def of_the_checker() -> list[Constant]:
    """The constants of the checker and the diagnosis."""
    packages = {"verify.checker": verify.checker, "verify.diagnosis": verify.diagnosis}
    folders = {name: Path(package.__file__ or "").parent for name, package in packages.items()}
    return [each for name, folder in folders.items() for each in constants(folder, name)]


def constants(root: Path, package: str) -> list[Constant]:
    """Every numeric constant at the top level of a module in the folder `root`, in the order of the source."""
    found: list[Constant] = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join((package, *(part for part in parts if part != "__init__")))
        found += _of_module(path.read_text(encoding="utf-8"), module)
    return found


def page(found: list[Constant]) -> str:
    """The page docs/constants.md."""
    # A bar would end the cell of its table, even in code.
    found = [each._replace(value=_cell(each.value), reason=_cell(each.reason)) for each in found]
    rows = [f"| `{each.name}` | `{each.value}` | `{each.module}` | {each.reason} |" for each in found]
    return _OPENING + "\n".join(rows) + "\n" + _CLOSING


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _of_module(source: str, module: str) -> Iterator[Constant]:
    tree, comments = ast.parse(source), _Comments.of(source)
    shared, owner, ended = "", "", 0
    for node in tree.body:
        pairs = [pair for pair in _assigned(node) if _is_numeric(pair[1])]
        if not pairs:
            continue
        above, last = comments.above(node.lineno), node.end_lineno or node.lineno
        if above or ended != node.lineno - 1:
            shared, owner = above, pairs[0][0]
        ended = last
        beside = (comments.beside[line] for line in range(node.lineno, last + 1) if line in comments.beside)
        own = " ".join(filter(None, (above, *beside)))
        for name, value in pairs:
            reason = own or _docstring(tree, name)
            inherited = f"with `{owner}`: {shared}" if shared and not reason else ""
            yield Constant(name, _text(value, source), module, reason or inherited, bool(inherited))


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement assigns, each with its expression."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return
    value = node.value
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Name):
            yield target.id, value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, part in zip(target.elts, value.elts, strict=True):
                yield ast.unparse(each), part


def _is_numeric(value: ast.expr) -> bool:
    """Whether an expression has a number in it, and computes nothing but arithmetic and calls."""
    parts = list(ast.walk(value))
    return all(isinstance(part, _PARTS) for part in parts) and any(
        isinstance(part, ast.Constant) and type(part.value) in (int, float, complex) for part in parts
    )


def _text(value: ast.expr, source: str) -> str:
    """An expression as it is written. Of a call, the arguments that hold a number."""
    segment = ast.get_source_segment(source, value) or ""
    if not isinstance(value, ast.Call):
        return ast.unparse(value) if value.lineno != value.end_lineno else segment
    arguments = [_text(each, source) for each in value.args if _is_numeric(each)]
    arguments += [f"{each.arg}={_text(each.value, source)}" for each in value.keywords if _is_numeric(each.value)]
    return f"{ast.unparse(value.func)}({', '.join(arguments)})"


def _docstring(tree: ast.Module, name: str) -> str:
    """Which docstring of a module names a constant; empty if none does."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", ast.get_docstring(node) or ""):
            return "the docstring of " + ("the module" if isinstance(node, ast.Module) else f"`{node.name}`")
    return ""
