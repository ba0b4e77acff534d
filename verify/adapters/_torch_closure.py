"""What a function of tensors uses besides its arguments: modules and tensors that it closes over.

They are found in closure cells, globals, default values, the arguments of a functools.partial, and the attributes
of the object whose method or call it is.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

import torch

from verify.adapters._tree import is_container, leaves

# A choice: a function that calls a function that calls one. What lies deeper is still found by the graph, nameless.
_DEEPEST = 4
_INSTALLED = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")})


def modules(target: Any) -> dict[str, Any]:
    """Return the modules that a function uses, by name, each once."""
    found: dict[str, Any] = {}
    for name, value in _reached(target):
        if isinstance(value, torch.nn.Module) and all(value is not each for each in found.values()):
            found.setdefault(name, value)
    return found


def tensor_names(target: Any) -> dict[int, str]:
    """Return the names of the tensors that a function or a module uses, by the identity of the tensor."""
    found: dict[int, str] = {}
    for name, value in _reached(target):
        if isinstance(value, torch.nn.Module):
            for path, parameter in value.named_parameters():
                found.setdefault(id(parameter), f"{name}.{path}")
        elif isinstance(value, torch.Tensor):
            found.setdefault(id(value), name)
    return found


def _reached(target: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values that the target leads to, each value once."""
    seen: set[int] = set()
    open_: list[tuple[str, Any, int]] = [(name, value, 0) for name, value in _held(target)]
    while open_:
        name, value, depth = open_.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (torch.nn.Module, torch.Tensor)):
            yield name, value
        if isinstance(value, torch.nn.Module):  # a plain attribute is no parameter
            open_ += [(f"{name}.{key}", each, depth + 1) for key, each in vars(value).items() if key[:1] != "_"]
        elif isinstance(value, torch.Tensor) or depth == _DEEPEST:
            continue
        elif is_container(value):
            open_ += [(path, each, depth + 1) for path, each in leaves(value, name) if not is_container(each)]
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)) and not _installed(value):
            open_ += [(path, each, depth + 1) for path, each in _held(value)]


def _installed(function: Any) -> bool:
    """Whether it is a function of a library, which holds nothing of the user's."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and code.co_filename.startswith(_INSTALLED)


def _held(target: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values that a callable holds itself."""
    if isinstance(target, functools.partial):
        yield from ((f"argument {k} of functools.partial", each) for k, each in enumerate(target.args))
        yield from target.keywords.items()
        yield from _held(target.func)
    elif isinstance(target, types.MethodType):
        yield from _attributes(target.__self__)
        yield from _held(target.__func__)
    elif isinstance(target, types.FunctionType):
        yield from _held_by_function(target)
    elif isinstance(target, torch.nn.Module):
        yield from ((f"self.{key}", each) for key, each in vars(target).items() if key[:1] != "_")
        yield from _held(type(target).forward)
    elif inspect.isclass(target) and issubclass(target, torch.autograd.Function):
        function: Any = target
        yield from _held(function.forward)
    elif callable(target) and not inspect.isclass(target) and hasattr(type(target).__call__, "__code__"):
        yield from _attributes(target)
        yield from _held(type(target).__call__)


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object, and the object itself if it is a module."""
    if isinstance(owner, torch.nn.Module):
        yield "self", owner
    elif not inspect.isclass(owner):
        names = [*getattr(owner, "__dict__", {}), *getattr(type(owner), "__slots__", ())]
        yield from ((f"self.{name}", getattr(owner, name)) for name in names if hasattr(owner, name))


def _held_by_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    if hasattr(function, "__wrapped__"):
        yield from _held(function.__wrapped__)


def _global_names(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:  # functions and comprehensions inside
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)
