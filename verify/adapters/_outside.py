"""Arrays outside a layer that its functions name: globals of their module, and attributes of the class."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Any

from verify.adapters._places import is_floating


def outside(target: Any) -> dict[str, Any]:
    """Return the floating arrays that a layer may read without holding them, by name."""
    found: dict[str, Any] = {}
    for function in _functions(target):
        for name in function.__code__.co_names:
            found.update(_arrays(name, function.__globals__.get(name)))
    for kind in type(target).__mro__[:-1]:
        for name, value in vars(kind).items():
            found.update(_arrays(f"{kind.__name__}.{name}", value))
    return found


def _functions(target: Any) -> Iterator[types.FunctionType]:
    own = [getattr(target, name, None) for name in ("forward", "backward")]
    kinds = [] if isinstance(target, types.ModuleType) else type(target).__mro__
    for value in (*own, *(value for kind in kinds for value in vars(kind).values())):
        function = getattr(value, "__func__", value)
        function = inspect.unwrap(function) if callable(function) else None
        if isinstance(function, types.FunctionType):
            yield function


def _arrays(name: str, value: Any) -> dict[str, Any]:
    if is_floating(value):
        return {name: value}
    if isinstance(value, dict):
        return {f"{name}[{key!r}]": each for key, each in value.items() if is_floating(each)}
    if isinstance(value, (list, tuple)):
        return {f"{name}[{k}]": each for k, each in enumerate(value) if is_floating(each)}
    return {}
