"""The name of a layer, as its user writes it."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from verify.adapters._pair import Forward

# Of a method of this name the class is the layer.
_METHODS = ("forward", "apply", "__call__")


def layer_name(layer: Any) -> str:
    """Return the name of a layer: its own, that of its forward if it is a pair, or that of its class."""
    is_pair = isinstance(layer, (tuple, list)) and len(layer) == 2 and callable(layer[0])
    if is_pair and not isinstance(getattr(layer, "name", None), str):
        layer = layer[0]
    if isinstance(layer, Forward):
        return layer_name(layer.call if layer.layer is None else layer.layer)
    while isinstance(layer, functools.partial):
        layer = layer.func
    owner = getattr(layer, "__self__", None)
    if getattr(layer, "__name__", None) in _METHODS and owner is not None and not inspect.ismodule(owner):
        return layer_name(owner)
    for each in (layer, type(layer)):
        names = (getattr(each, attribute, None) for attribute in ("name", "__qualname__", "__name__"))
        name = next((name for name in names if isinstance(name, str) and name), None)
        if name is not None:
            return _short(name)
    return type(layer).__name__


def _short(name: str) -> str:
    """Return the name without the function in which it was defined, and without the method of a class."""
    owner, _, last = name.rpartition("<locals>.")[2].rpartition(".")
    return (owner if owner and last in _METHODS else f"{owner}.{last}" if owner else last).strip("<>")
