"""Layers whose methods are not called forward and backward."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

# Parts of the names that people give to the two methods; the first match in this order is suggested first.
_BACKWARD = ("backward", "backprop", "bprop", "back", "bwd", "vjp", "pullback", "grad", "deriv")
# Methods with these beginnings have "grad" in their names and compute none.
_OTHERS = ("zero", "reset", "clear", "clip", "update", "get", "set", "apply_grad", "check")
_FORWARD = ("forward", "fprop", "fwd", "__call__", "call", "propagate", "feed", "apply", "predict", "compute", "run")


def has_both(target: Any) -> bool:
    """Return whether the target has functions forward and backward."""
    return callable(getattr(target, "forward", None)) and callable(getattr(target, "backward", None))


def renamed(target: Any, forward: str | None, backward: str | None) -> Any:
    """Return the layer with the methods of these names as its forward and backward.

    A class becomes a subclass, and an instance becomes an instance of it. Raises ValueError if a method is missing.
    """
    if inspect.ismodule(target):
        return tuple(getattr(target, name or role) for role, name in (("forward", forward), ("backward", backward)))
    kind = target if inspect.isclass(target) else type(target)
    own: dict[str, Any] = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    for role, name in (("forward", forward), ("backward", backward)):
        if name is None or name == role:
            continue
        if not callable(getattr(target, name, None)):
            known = ", ".join(methods(target)) or "none"
            raise ValueError(f"{kind.__name__} has no method {name}, named as {role}; its methods are {known}")
        own[role] = inspect.getattr_static(kind, name)
    if len(own) == 3:  # nothing is renamed
        return target
    made = type(kind.__name__, (kind,), own)
    if inspect.isclass(target):
        return made
    instance = copy.copy(target)  # the caller's own keeps its class
    instance.__class__ = made
    return instance


def methods(target: Any) -> list[str]:
    """Return the names of the methods of a class or an instance, and __call__ if the class defines it."""
    kind = target if inspect.isclass(target) else type(target)
    names = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name, None))]
    return names + ["__call__"] * any("__call__" in vars(each) for each in kind.__mro__[:-1])


def likely(target: Any) -> tuple[str | None, str | None]:
    """Return the names of the methods that are likely its forward and its backward, or None for one without."""
    if inspect.ismodule(target) or not hasattr(type(target), "__mro__"):
        return None, None
    known = [name for name in methods(target) if not name.startswith(_OTHERS)]
    backward = "backward" if "backward" in known else _first(known, _BACKWARD, lambda name: True)
    back = [name for name in known if any(part in name.lower() for part in _BACKWARD)]
    forward = "forward" if "forward" in known else _first(known, _FORWARD, lambda name: name not in back)
    return forward, backward


def _first(names: list[str], parts: tuple[str, ...], allowed: Callable[[str], bool]) -> str | None:
    found = (name for part in parts for name in names if part in name.lower() and allowed(name))
    return next(found, None)
