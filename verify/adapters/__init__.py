"""Adapters: somebody's layer as the pair (forward, backward) that `gradcheck` takes.

`verify.adapters.torch`, `.jax` and `.plain` each have `pair(target)`, to check it when and how you like, and
`gradcheck(target, inputs, options)`, which does so in one line. `adapt(target)` and `gradcheck` here choose among them.
PyTorch and JAX are imported by the adapter that is used, and by nothing else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from verify.adapters import plain
from verify.adapters._pair import Forward, Input, Pair, UnknownArgument, check
from verify.checker.certificate import Certificate

__all__ = ["Forward", "Input", "Pair", "UnknownArgument", "adapt", "gradcheck", "plain"]

_FRAMEWORKS = {"torch": "torch", "jax": "jax", "jaxlib": "jax"}
_NAMES = {"torch": "PyTorch", "jax": "JAX"}


def __getattr__(name: str) -> types.ModuleType:
    if name in _NAMES:
        if importlib.util.find_spec(name) is None:
            told = f"verify.adapters.{name} needs {_NAMES[name]}, which is not installed: python -m pip install {name}"
            raise ModuleNotFoundError(told, name=name)
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def adapt(target: Any) -> Pair:
    """The pair (forward, backward) of a layer of any kind known here:

    - a tuple of two functions, or whatever has pure functions `forward` and `backward` (a module of Python, an
      `Implementation`, a class with static methods): as it is;
    - an instance whose `backward(dy)` takes no cache, or its class, if it can be made without arguments: `plain`;
    - a torch.nn.Module, or its class, if it can be made without arguments, a torch.autograd.Function or its
      `apply`, a function of a module that uses PyTorch: `torch`;
    - a jax.custom_vjp, a function that JAX made, a function of a module that uses JAX: `jax`.

    Raises TypeError, quoting the target, for anything else.
    """
    if isinstance(target, Pair):
        return target
    framework = _framework(target)
    if framework is not None:
        pair: Pair = __getattr__(framework).pair(target)
        return pair
    if isinstance(target, tuple) and len(target) == 2 and all(map(callable, target)):
        return Pair(*target)
    if callable(getattr(target, "forward", None)) and callable(getattr(target, "backward", None)):
        return plain.pair(target)
    raise TypeError(f"{target!r} is no layer: {_WANTED}{_hint(target)}")


def gradcheck(
    target: Any, inputs: Sequence[Any], options: Mapping[str, Any] | None = None, **settings: Any
) -> Certificate:
    """Check a layer of any kind that `adapt` knows, by the `gradcheck` of its adapter."""
    framework = None if isinstance(target, Pair) else _framework(target)
    if framework is None:
        return check(adapt(target), inputs, options, **settings)
    certificate: Certificate = __getattr__(framework).gradcheck(target, inputs, options, **settings)
    return certificate


_WANTED = (
    "give a pair (forward, backward), something that has both, a torch.nn.Module, torch.autograd.Function or "
    "jax.custom_vjp, or a function of a module that imports one of PyTorch and JAX"
)


def _hint(target: Any) -> str:
    if isinstance(target, types.FunctionType):
        return f"; where that is not known, say which: verify.adapters.torch.pair({target.__name__})"
    return ""


def _framework(target: Any) -> str | None:
    """Whose the target is, "torch" or "jax", if either has been imported; None for neither, or for both."""
    torch = sys.modules.get("torch")
    if torch is not None:
        kind = target if inspect.isclass(target) else type(target)
        if issubclass(kind, (torch.nn.Module, torch.autograd.Function)):
            return "torch"
    while isinstance(target, functools.partial):
        target = target.func
    if not callable(target) or inspect.isclass(target) or hasattr(target, "backward"):
        return None
    # What JAX and PyTorch made of a function is known by its type; a function, by what its module imports.
    names = [type(target).__module__, getattr(target, "__module__", None)]
    neighbours = getattr(inspect.unwrap(target), "__globals__", {}).values()
    of_globals = [getattr(each, "__name__" if inspect.ismodule(each) else "__module__", None) for each in neighbours]
    for candidates in (names[:1], names[1:], of_globals):
        found = {_FRAMEWORKS.get(str(name).partition(".")[0]) for name in candidates} - {None}
        if len(found) == 1:
            return found.pop()
    return None
