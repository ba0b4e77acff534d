"""Everything that can be reached from a layer: where it lies, how to read it and write it, and a copy of it all.

A path is a tuple of steps from the layer: attributes, items of dicts and lists, cells of closures.
"""

from __future__ import annotations

import collections
import copy
import re
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

# Objects of these packages are values of the layer, not parts of it.
_FOREIGN = {"builtins", "numpy", "torch", "jax", "jaxlib", "threading", "logging", "_io", "random"}
# A choice: a layer that reaches more values than this is connected to something larger, such as a data set.
_MOST_VALUES = 100_000


class Step(NamedTuple):
    """One step of a path: `kind` is "attribute", "item" or "cell". Of a "sum" the key holds the paths that add up."""

    kind: str
    key: Any


Path = tuple[Step, ...]


class Missing:
    """What a path that leads nowhere reads."""


MISSING = Missing()


def is_floating(value: Any) -> bool:
    """Return whether it is an array of floating or complex numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc"


def children(value: Any) -> Iterator[tuple[Step, Any]]:
    """Yield the parts of a container or an object."""
    if isinstance(value, dict):
        yield from ((Step("item", key), each) for key, each in list(value.items()))
    elif isinstance(value, (list, tuple, collections.deque)) or _holds_objects(value):
        yield from ((Step("item", k), each) for k, each in enumerate(value))
    elif isinstance(value, types.MethodType):
        yield Step("attribute", "__self__"), value.__self__
    elif isinstance(value, types.FunctionType):
        for k, cell in enumerate(value.__closure__ or ()):
            try:
                yield Step("cell", k), cell.cell_contents
            except ValueError:  # the cell is empty
                continue
    elif not isinstance(value, (type, types.ModuleType)) and type(value).__module__.partition(".")[0] not in _FOREIGN:
        yield from ((Step("attribute", name), each) for name, each in list(getattr(value, "__dict__", {}).items()))
        for name in _slots(type(value)):
            if hasattr(value, name):
                yield Step("attribute", name), getattr(value, name)


def _holds_objects(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1


def _slots(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        names = vars(each).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                yield f"_{each.__name__.lstrip('_')}{name}" if private else name


def walk(root: Any) -> Iterator[tuple[Path, Any]]:
    """Yield all that can be reached with its path, nearest first. A container is entered once, by its first path."""
    waiting: collections.deque[tuple[Path, Any]] = collections.deque([((), root)])
    entered = {id(root)}
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        path, value = waiting.popleft()
        for step, each in children(value):
            yield (*path, step), each
            leaf = isinstance(each, (np.ndarray, np.generic, str, int, float)) and not _holds_objects(each)
            if id(each) not in entered and not leaf:
                entered.add(id(each))
                waiting.append(((*path, step), each))


def read(root: Any, path: Path) -> Any:
    """Return what lies at the path, or MISSING."""
    value = root
    for kind, key in path:
        try:
            if kind == "attribute":
                value = getattr(value, key)
            elif kind == "sum":
                parts = [read(value, path) for path in key]
                value = MISSING if any(part is MISSING or part is None for part in parts) else sum(parts)
            else:
                value = value.__closure__[key].cell_contents if kind == "cell" else value[key]
        except (AttributeError, LookupError, TypeError, ValueError):
            return MISSING
    return value


def write(root: Any, path: Path, new: Any) -> None:
    """Put a value at the path. A tuple on the way is replaced by another."""
    parent, (kind, key) = read(root, path[:-1]), path[-1]
    if kind == "cell":
        parent.__closure__[key].cell_contents = new
    elif kind == "attribute":
        if key in getattr(parent, "__dict__", {}):
            parent.__dict__[key] = new
        else:
            object.__setattr__(parent, key, new)
    elif isinstance(parent, tuple):
        items = (*parent[:key], new, *parent[key + 1 :])
        write(root, path[:-1], type(parent)(*items) if hasattr(parent, "_fields") else items)
    else:
        parent[key] = new


def delete(root: Any, path: Path) -> None:
    """Remove what lies at the path, if it can be removed."""
    parent, (kind, key) = read(root, path[:-1]), path[-1]
    if kind == "attribute" and key in getattr(parent, "__dict__", {}):
        del parent.__dict__[key]
    elif kind == "attribute" and hasattr(parent, key):
        object.__delattr__(parent, key)
    elif isinstance(parent, dict):
        parent.pop(key, None)


def text(path: Path) -> str:
    """Return the path as Python writes it: layers[0].W, params["W"]."""
    written = ""
    for kind, key in path:
        if kind == "sum":
            return " + ".join(map(text, key))
        if kind == "item":
            written += f'["{key}"]' if isinstance(key, str) else f"[{key!r}]"
        else:
            written += f".{key}" if written else str(key)
    return written


def parsed(name: str) -> Path:
    """Return the path that a text names: layers[0].W, params["W"], or the sum of several: a.dW + b.dW."""
    if "+" in name:
        return (Step("sum", tuple(parsed(each.strip()) for each in name.split("+"))),)
    found = re.findall(r"""\.?([^.\[\]]+)|\[(-?\d+)\]|\[["']([^"']*)["']\]""", name)
    steps = (
        Step("attribute", attribute) if attribute else Step("item", int(index) if index else key)
        for attribute, index, key in found
    )
    return tuple(steps)


def duplicate(layer: Any) -> Any:
    """Return a deep copy of a layer. What cannot be copied is shared. Arrays of its class become its own."""
    memo: dict[int, Any] = {}
    try:
        made = copy.deepcopy(layer, memo)
    except Exception:
        memo = {}
        made = _by_attributes(layer, memo)
    if made is layer:
        return made
    for kind in type(made).__mro__[:-1]:
        for name, value in vars(kind).items():
            if name not in getattr(made, "__dict__", {name: None}) and _holds_arrays(value):
                made.__dict__[name] = copy.deepcopy(value)
    cells: dict[int, Any] = {}
    for path, value in list(walk(made)):
        if isinstance(value, types.FunctionType) and value.__closure__ and path[-1].kind != "cell":
            write(made, path, _with_own_cells(value, memo, cells))
    return made


def _holds_arrays(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
    return any(is_floating(each) for each in parts)


def _by_attributes(value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy that shares the parts of which there is no copy: a lock, an open file."""
    if id(value) in memo:
        return memo[id(value)]
    before = dict(memo)
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        memo.clear()
        memo.update(before)
    if isinstance(value, (list, tuple)):
        made: Any = [_by_attributes(each, memo) for each in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, dict):
        return {key: _by_attributes(each, memo) for key, each in value.items()}
    if not hasattr(value, "__dict__") or isinstance(value, (type, types.ModuleType)):
        return value
    try:
        made = object.__new__(type(value))
    except TypeError:
        return value
    memo[id(value)] = made
    for step, each in children(value):
        object.__setattr__(made, step.key, _by_attributes(each, memo))
    return made


def _with_own_cells(function: types.FunctionType, memo: dict[int, Any], cells: dict[int, Any]) -> types.FunctionType:
    """Return a function whose closure has copies of what the given one closes over."""
    closure = []
    for cell in function.__closure__ or ():
        if id(cell) not in cells:
            cells[id(cell)] = made = types.CellType()
            try:
                contents = cell.cell_contents
                if isinstance(contents, types.FunctionType):
                    made.cell_contents = _with_own_cells(contents, memo, cells)
                else:
                    made.cell_contents = _by_attributes(contents, memo)
            except ValueError:  # the cell is empty
                pass
        closure.append(cells[id(cell)])
    made_of = (function.__code__, function.__globals__, function.__name__, function.__defaults__, tuple(closure))
    other = types.FunctionType(*made_of)
    other.__kwdefaults__ = function.__kwdefaults__
    other.__dict__.update(function.__dict__)
    return other
