"""Takes the source of each version of a layer out of its module: what forward and backward use, in the file's order."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

# The tuned versions stand in files of their own.
_TUNED = "cnn_core._blocked"


def versions(module: ModuleType) -> dict[str, str]:
    """Return the source of each version by its name, and under "arguments" what all of them begin with."""
    source = inspect.getsource(module)
    tree = ast.parse(source)
    defined = {name: node for node in tree.body for name in _names(node)}
    calls = {
        node.targets[0].id: [part.id for part in node.value.args if isinstance(part, ast.Name)]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_version(node.value)
        if isinstance(node.value, ast.Call)
    }
    shared = set[str]().union(*(_used(functions[:1], defined) for functions in calls.values()))
    found = {
        name: _source(_used(functions[1:], defined) - shared, defined, source) for name, functions in calls.items()
    }
    return {**found, "arguments": _source(shared, defined, source)}


def tuned(module: ModuleType) -> dict[str, str]:
    """Return the files of tuned code that a module imports, by their path in the project."""
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and node.module == _TUNED
        for alias in node.names
    }
    files = {name: Path(str(importlib.import_module(name).__file__)) for name in sorted(imported)}
    return {f"{name.replace('.', '/')}.py": path.read_text(encoding="utf-8") for name, path in files.items()}


def _is_version(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "implement"


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _used(names: list[str], defined: dict[str, ast.stmt]) -> set[str]:
    """Return these names and all that their definitions use, of those that the module defines."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            used = {node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
            waiting += sorted(used & set(defined))
    return found


def _source(names: set[str], defined: dict[str, ast.stmt], source: str) -> str:
    nodes = sorted({defined[name] for name in names}, key=lambda node: node.lineno)
    return "\n\n\n".join(_lines(node, source) for node in nodes)


def _lines(node: ast.stmt, source: str) -> str:
    """Return the lines of a definition, with its decorators and the comment directly above it."""
    lines = source.splitlines()
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
    while lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])
