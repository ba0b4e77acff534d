"""Lists, tuples, dicts and dataclasses of arrays: their leaves, each with the name that leads to it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from verify.adapters._pair import UnknownArgument


def mapped(value: Any, name: str, visit: Callable[[str, Any], Any]) -> Any:
    """Return `value` with each leaf replaced by visit(name, leaf). A container of unchanged leaves is not copied.

    Of params["w"][0] that is the name. Fields of named tuples and of dataclasses are named by a dot.
    """
    items = list(_items(value, name))
    if not items:
        return visit(name, value)
    changed = [(key, mapped(each, path, visit)) for key, path, each in items]
    if all(new is old for (_, new), (_, _, old) in zip(changed, items, strict=True)):
        return value
    return _rebuilt(value, changed)


def leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    """Return the leaves with their names, in order."""
    found: list[tuple[str, Any]] = []

    def visit(path: str, leaf: Any) -> Any:
        found.append((path, leaf))
        return leaf

    mapped(value, name, visit)
    return found


def positions(
    wrt: Sequence[int | str], names: Sequence[str], owners: Sequence[int], arguments: Sequence[str]
) -> list[int]:
    """Return the positions in `names` that `wrt` chooses: by a name, or by that or the position of their argument.

    `owners` holds the position of the argument that each leaf belongs to.
    """
    if isinstance(wrt, (str, int)):
        raise TypeError(f"wrt must be a sequence of names or positions, as in [{wrt!r}], got {wrt!r}")
    found: list[int] = []
    for each in wrt:
        chosen = [k for k, name in enumerate(names) if name == each] if isinstance(each, str) else []
        if not chosen:
            owner = list(arguments).index(each) if isinstance(each, str) and each in arguments else each
            chosen = [k for k, of in enumerate(owners) if of == owner and not isinstance(owner, bool)]
        if not chosen:
            raise UnknownArgument(f"wrt holds {each!r}, which is none of the arrays: {', '.join(names)}")
        found += chosen[:1] if isinstance(each, str) and names.count(each) > 1 else chosen
    return found


def is_container(value: Any) -> bool:
    """Whether the value holds others by position, by key or by field."""
    return isinstance(value, (tuple, list, Mapping)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def _items(value: Any, name: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield key, name and value of what a container holds. What is no container holds nothing."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            quoted = f'"{key}"' if isinstance(key, str) and '"' not in key else repr(key)
            yield key, f"{name}[{quoted}]", each
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for k, (key, each) in enumerate(zip(value._fields, value, strict=True)):
            yield k, f"{name}.{key}", each
    elif isinstance(value, (tuple, list)):
        for k, each in enumerate(value):
            yield k, f"{name}[{k}]", each
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                yield field.name, f"{name}.{field.name}", getattr(value, field.name)


def _rebuilt(value: Any, changed: list[tuple[Any, Any]]) -> Any:
    """Return a copy of a container with new values."""
    if isinstance(value, tuple):
        values = [each for _, each in changed]
        return value._make(values) if hasattr(value, "_make") else type(value)(values)
    if isinstance(value, Mapping) and not hasattr(value, "__setitem__"):
        return dict(changed)
    other = copy.copy(value)
    for key, each in changed:
        if isinstance(value, (list, Mapping)):
            other[key] = each
        else:
            object.__setattr__(other, key, each)
    return other
