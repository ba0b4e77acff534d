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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.adapters import plain
from verify.adapters._layer_names import layer_name
from verify.adapters._methods import has_both, likely, methods, renamed
from verify.adapters._pair import Forward, Input, Pair, UnknownArgument, check, check_bound, positional, refuse_tensors
from verify.checker.arguments import shown
from verify.checker.certificate import Certificate
from verify.entry import SECOND

__all__ = [
    "Forward",
    "Input",
    "Pair",
    "Prepared",
    "UnknownArgument",
    "adapt",
    "check_bound",
    "framework_of",
    "gradcheck",
    "has_both",
    "layer_name",
    "likely",
    "plain",
    "positional",
    "prepared",
    "renamed",
]

_FRAMEWORKS = {"torch": "torch", "jax": "jax", "jaxlib": "jax"}
_NAMES = {"torch": "PyTorch", "jax": "JAX"}


def __getattr__(name: str) -> types.ModuleType:
    if name in _NAMES:
        if importlib.util.find_spec(name) is None:
            text = f"verify.adapters.{name} needs {_NAMES[name]}, which is not installed: python -m pip install {name}"
            raise ModuleNotFoundError(text, name=name)
        return importlib.import_module(f"{__name__}.{name}")
    if name == "gradgradcheck":
        raise AttributeError(f"there is no {name}: for second derivatives {SECOND}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def adapt(target: Any, *, forward: str | None = None, backward: str | None = None, **own: Any) -> Pair:
    """Return the pair (forward, backward) of a layer. These kinds are known:

    - Two functions in a tuple, or an object with pure functions `forward` and `backward`. Examples are a Python
      module, an `Implementation` and a class with static methods. They are used as they are.
    - An instance whose `backward(dy)` takes no cache goes to `plain`.
    - A torch.nn.Module, a torch.autograd.Function or its `apply`, and a function of a module that uses PyTorch go
      to `torch`.
    - A jax.custom_vjp, a function made by JAX, and a function of a module that uses JAX go to `jax`.

    A class replaces its instance if it can be made without arguments. `forward` and `backward` name methods that are
    called otherwise. The other options are those of `plain.pair`: `parameters`, `fixed`, `reset` and
    `backward_options`. Raises TypeError for anything else, and says what to write.
    """
    if isinstance(target, Pair) and not own:
        return target
    target = _renamed(target, forward, backward)
    framework = framework_of(target)
    if framework is not None:
        _refuse_own(own, target, f"a layer in {_NAMES[framework]}")
        pair: Pair = __getattr__(framework).pair(target)
        return pair
    if isinstance(target, tuple) and len(target) == 2 and all(map(callable, target)):
        _refuse_own(own, target, "two functions")
        return Pair(*target)
    if has_both(target):
        return plain.pair(target, **own)
    raise TypeError(f"{shown(target)} is no layer: {_hint(target)}")


def gradcheck(
    target: Any,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    forward: str | None = None,
    backward: str | None = None,
    **settings: Any,
) -> Certificate:
    """Check a layer of any kind that `adapt` knows, with the `gradcheck` of its adapter and with its settings."""
    __tracebackhide__ = True
    target, framework = _unwrapped(_renamed(target, forward, backward))
    own = {name: settings.pop(name) for name in _OF_PLAIN if settings.get(name, ()) not in (None, ())}
    if framework is not None:
        if "nondiff_argnums" in settings and framework != "jax":
            raise TypeError(
                f"nondiff_argnums is for functions in JAX; {layer_name(target)} is one of {_NAMES[framework]}"
            )
        adapter = __getattr__(framework)
        taken = inspect.signature(adapter.gradcheck).parameters
        _refuse_own(
            {name: value for name, value in own.items() if name not in taken}, target, f"a layer in {_NAMES[framework]}"
        )
        certificate: Certificate = adapter.gradcheck(target, inputs, options, **own, **settings)
        return certificate
    pair = adapt(target, **own)
    refuse_tensors(pair, inputs)
    settings = {name: value for name, value in settings.items() if name not in _OF_PLAIN}
    return check(pair, inputs, options, **settings)


def prepared(target: Any, inputs: Sequence[Any], options: Mapping[str, Any] | None = None, **settings: Any) -> Prepared:
    """Return what `gradcheck` would hand to `verify.gradcheck` for this call, and check nothing."""

    def keep(forward: Any, backward: Any, arrays: Any, options: Any, *, wrt: Any = None, **rest: Any) -> Certificate:
        raise _Kept(Prepared(forward, backward, tuple(arrays), options, wrt))

    try:
        gradcheck(target, inputs, options, run=keep, **settings)
    except _Kept as kept:
        return kept.call
    raise AssertionError("unreachable: an adapter ends in the call that is kept")


class Prepared(NamedTuple):
    """The arguments of a call of `verify.gradcheck`."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arrays: tuple[Any, ...]
    options: Mapping[str, Any] | None
    wrt: Sequence[int] | None


class _Kept(Exception):
    def __init__(self, call: Prepared) -> None:
        super().__init__()
        self.call = call


def _unwrapped(target: Any) -> tuple[Any, str | None]:
    """Return a layer and its framework. Of a pair that an adapter made of a layer alone, it is that layer."""
    if isinstance(target, Pair):
        made = target.forward.made if isinstance(target.forward, Forward) else ""
        name = next((name for name in _NAMES if made == f"adapters.{name}.pair(layer)"), None)
        return (target, None) if name is None else (target.forward.layer, name)  # type: ignore[attr-defined]
    return target, framework_of(target)


def _renamed(target: Any, forward: str | None, backward: str | None) -> Any:
    return target if forward is None and backward is None else renamed(target, forward, backward)


def _refuse_own(own: Mapping[str, Any], target: Any, kind: str) -> None:
    """Raise TypeError if options of a layer that keeps arrays in itself are given for another kind."""
    if own:
        text = (
            f"{' and '.join(own)} {'is' if len(own) == 1 else 'are'} for a layer in NumPy that keeps arrays in itself"
        )
        raise TypeError(f"{text}, and {layer_name(target)} is {kind}")


_OF_PLAIN = ("parameters", "fixed", "reset", "backward_options")
_WANTED = (
    "give a pair (forward, backward), an object with both, a torch.nn.Module or torch.autograd.Function, or a function "
    "in PyTorch or JAX"
)


def _hint(target: Any) -> str:
    """Return what to write instead of a target that is no layer."""
    if isinstance(target, (tuple, list)) and any(hasattr(each, "shape") for each in target):
        return f"{_WANTED}. The layer comes first, and then its inputs in a tuple: gradcheck(layer, (x,))"
    if isinstance(target, (tuple, list)):
        return f"give a pair of two functions, (forward, backward), got {', '.join(map(shown, target[:3]))}"
    if isinstance(target, (str, int, float)) or hasattr(target, "__array__"):
        return f"{_WANTED}. The layer comes first, and then its inputs in a tuple: gradcheck(layer, (x,))"
    if inspect.isroutine(target) or isinstance(target, np.ufunc):
        name = getattr(target, "__name__", "function").strip("<>")
        framework = f"as in verify.adapters.torch.gradcheck({name}, (x,))"
        return f"give a pair (forward, backward), or name the framework of the function, {framework}"
    if inspect.ismodule(target):
        return f"{_WANTED}; name a layer in it"
    forward, backward = likely(target)
    if forward and backward:
        renaming = [f'{role}="{name}"' for role, name in (("forward", forward), ("backward", backward)) if name != role]
        return f"its methods are not called forward and backward: name them, as in {', '.join(renaming)}"
    if forward or backward:
        missing, kind = "backward" if forward else "forward", target if inspect.isclass(target) else type(target)
        return f"{kind.__name__} has no {missing}: its methods are {', '.join(methods(target))}"
    return _WANTED


def framework_of(target: Any) -> str | None:
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
