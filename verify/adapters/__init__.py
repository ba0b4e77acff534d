"""Adapters: turn a layer of any known kind into the pair (forward, backward) that `gradcheck` takes.

`verify.adapters.torch`, `.jax` and `.plain` each have two functions. `pair(target)` returns the pair.
`gradcheck(target, inputs, options)` checks it in one line. `adapt(target)` and `gradcheck` here choose the adapter.
Only the chosen adapter imports PyTorch or JAX.
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
            text = f"verify.adapters.{name} needs {_NAMES[name]}, which is not installed: python -m pip install {name}"
            raise ModuleNotFoundError(text, name=name)
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def adapt(target: Any) -> Pair:
    """Return the pair (forward, backward) of a layer. These kinds are known:

    - Two functions in a tuple, or an object with pure functions `forward` and `backward`. Examples are a Python
      module, an `Implementation` and a class with static methods. They are used as they are.
    - An instance whose `backward(dy)` takes no cache goes to `plain`.
    - A torch.nn.Module, a torch.autograd.Function or its `apply`, and a function of a module that uses PyTorch go
      to `torch`.
    - A jax.custom_vjp, a function made by JAX, and a function of a module that uses JAX go to `jax`.

    A class replaces its instance if it can be made without arguments. Raises TypeError, quoting the target, for
    anything else.
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
    """Check a layer of any kind that `adapt` knows, with the `gradcheck` of its adapter."""
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
        return f"; or name the framework of the function: verify.adapters.torch.pair({target.__name__})"
    return ""


def _framework(target: Any) -> str | None:
    """Return the framework of the target, "torch" or "jax", or None if it is neither or both.

    A framework that has not been imported is not considered.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        kind = target if inspect.isclass(target) else type(target)
        if issubclass(kind, (torch.nn.Module, torch.autograd.Function)):
            return "torch"
    while isinstance(target, functools.partial):
        target = target.func
    if not callable(target) or inspect.isclass(target) or hasattr(target, "backward"):
        return None
    # The type of the target names the framework that made it. For a plain function, the imports of its module do.
    names = [type(target).__module__, getattr(target, "__module__", None)]
    neighbours = getattr(inspect.unwrap(target), "__globals__", {}).values()
    of_globals = [getattr(each, "__name__" if inspect.ismodule(each) else "__module__", None) for each in neighbours]
    for candidates in (names[:1], names[1:], of_globals):
        found = {_FRAMEWORKS.get(str(name).partition(".")[0]) for name in candidates} - {None}
        if len(found) == 1:
            return found.pop()
    return None
