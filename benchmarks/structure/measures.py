"""What is measured: the visits of a call, imports, files that decide, isinstance, lengths."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

VERDICTS = {"PASS", "FAIL", "INCONCLUSIVE"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Visits(NamedTuple):
    """The files and functions that a call enters. A function is a path in the package, a qualified name and a line."""

    files: set[str]
    functions: set[tuple[str, str, int]]


def trees(root: Path) -> dict[str, ast.Module]:
    """The syntax trees of the files in a package, by their paths in it."""
    return {
        path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.py"))
    }


def lines(root: Path) -> dict[str, int]:
    """The number of lines of each file in a package."""
    return {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(root.rglob("*.py"))
    }


def visits(call: Callable[[], object], root: Path, package: str) -> Visits:
    """What a call visits of a package. Comprehensions and lambdas belong to the function they stand in."""
    codes: dict[int, CodeType] = {}  # by identity: equal functions of two files have equal code

    def enter(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # neither a module nor a class body
            codes[id(frame.f_code)] = frame.f_code

    _forget(package)
    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        call()
    finally:
        sys.setprofile(before)
    home = root.resolve()
    inside = [(Path(code.co_filename).resolve(), code) for code in codes.values()]
    named = [(path.relative_to(home).as_posix(), code) for path, code in inside if path.is_relative_to(home)]
    functions = {(path, c.co_qualname, c.co_firstlineno) for path, c in named if not c.co_name.startswith("<")}
    return Visits({path for path, _ in named}, functions)


def _forget(package: str) -> None:
    """Empty the caches of the functions in a package, so that a second call visits what the first one did."""
    for name, module in list(sys.modules.items()):
        if name.startswith(package + "."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def imported(tree: ast.Module, package: str, known: Iterable[str]) -> set[str]:
    """The files of a package that a module imports when it runs: whatever does not stand under `if TYPE_CHECKING`."""
    found = set()
    for node in _run(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno} imports relatively: write the package's name")
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        inside = [name.removeprefix(package + ".") for name in names if name.startswith(package + ".")]
        found |= {name.replace(".", "/") + ".py" for name in inside}
    return found & set(known)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes under a node, except those of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _run(other)
        else:
            yield child
            yield from _run(child)


def needed(root: Path, package: str, folder: str = "references") -> dict[str, set[str]]:
    """For each file of a folder, the files of the package that it needs: itself and all that it imports."""
    parsed = {path: tree for path, tree in trees(root).items() if not path.endswith("__init__.py")}
    direct = {path: imported(tree, package, parsed) for path, tree in parsed.items()}
    return {path: _reached(path, direct) for path in parsed if path.startswith(folder + "/")}


def _reached(start: str, direct: Mapping[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = direct[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def deciding(root: Path) -> list[str]:
    """The files of a package that name a verdict in code, except certificate.py, which defines them."""
    return [
        path
        for path, tree in trees(root).items()
        if path != "certificate.py" and any(_names(node) & VERDICTS for node in ast.walk(tree))
    ]


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.alias):
        return {node.name}
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def kinds_asked(root: Path) -> list[str]:
    """Where a package asks by isinstance or issubclass for a kind of point or reference."""
    parsed = trees(root)
    bases = {
        node.name: {name for base in node.bases for part in ast.walk(base) for name in _names(part)}
        for tree in parsed.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    kinds = {"Point", "Reference"}
    while more := {name for name, above in bases.items() if above & kinds} - kinds:
        kinds |= more
    return [
        f"{path}:{node.lineno}"
        for path, tree in parsed.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _names(node.func) & {"isinstance", "issubclass"}
        if any(_names(part) & kinds for part in ast.walk(node.args[1]))
    ]


def not_implemented(root: Path) -> list[str]:
    """Where a package raises NotImplementedError."""
    return [
        f"{path}:{node.lineno}"
        for path, tree in trees(root).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.exc and "NotImplementedError" in ast.unparse(node.exc)
    ]


def long_functions(root: Path, most: int) -> list[str]:
    """The functions of a package with more than `most` lines, docstrings and signatures included."""
    return [
        f"{path}: {node.name}() {length}"
        for path, tree in trees(root).items()
        for node in ast.walk(tree)
        if isinstance(node, _Function)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > most
    ]


def long_files(root: Path, most: int) -> list[str]:
    """The files of a package with more than `most` lines."""
    return [f"{path} {count}" for path, count in lines(root).items() if count > most]
