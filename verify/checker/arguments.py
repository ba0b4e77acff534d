"""What a caller may hand to a check: what cannot be is refused in one sentence that quotes the values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np


def check_call(forward: Any, backward: Any, arrays: Any, options: Any) -> inspect.Signature | None:
    """Raise TypeError unless these are two callables, a tuple of arrays, and options, that go together.

    Returns the forward's signature, where it has one.
    """
    for what, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise TypeError(f"{what} must be callable, got {function!r}")
    if isinstance(arrays, np.ndarray):
        raise TypeError(f"arrays must be a tuple of arrays, got one array of shape {arrays.shape}")
    if not isinstance(arrays, (tuple, list)):
        raise TypeError(f"arrays must be a tuple of arrays, got {type(arrays).__name__}")
    for array in arrays:
        if hasattr(array, "__array__") and not isinstance(array, (np.ndarray, np.generic)):
            told = "give its values as one, or check a layer of tensors by verify.adapters"
            raise TypeError(f"arrays must be NumPy arrays, got {type(array).__name__}: {told}")
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(name, str) for name in options)):
        raise TypeError(f"options must map names to values, got {options!r}")
    signature = _signature(forward)
    if signature is None:  # it tells when it is called
        return None
    try:
        signature.bind(*arrays, **(options or {}))
    except TypeError as error:
        given = f"{len(arrays)} arrays and options {dict(options or {})!r}"
        takes = ", ".join(signature.parameters) or "nothing"
        raise TypeError(f"forward takes {takes}; it cannot be called with {given}: {error}") from None
    return signature


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a function of C, say
        return None


def check_wrt(wrt: Any, count: int) -> None:
    """Raise TypeError or ValueError unless these are positions in so many arrays, each named once."""
    if not isinstance(wrt, (tuple, list, range)):
        raise TypeError(f"wrt must be a sequence of positions, got {wrt!r}")
    for position in wrt:
        if not isinstance(position, (int, np.integer)) or isinstance(position, bool) or not 0 <= position < count:
            raise ValueError(f"wrt must hold positions in the {count} arrays, got {wrt!r}")
        if list(wrt).count(position) > 1:
            raise ValueError(f"wrt must hold each position once, got {wrt!r}")


def is_floating(array: Any) -> bool:
    """Whether it is an array of floating or complex numbers: one that has a gradient."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "fc"


def is_complex(array: Any) -> bool:
    """Whether it is an array of complex numbers."""
    return is_floating(array) and array.dtype.kind == "c"


def kind(array: Any) -> str:
    """What an argument is, in a word or two: "float64 (2, 3)", "list"."""
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__


def kinds(names: Iterable[str], arrays: Iterable[Any]) -> str:
    """What all arguments are: "x float64 (2, 3), b NoneType"."""
    return ", ".join(f"{name} {kind(array)}" for name, array in zip(names, arrays, strict=False))


def argument_names(
    forward: Callable[..., Any], count: int, signature: inspect.Signature | None = None
) -> tuple[str, ...]:
    """The forward's own names for its arrays, where its signature tells them; else arg0, arg1, ...

    A forward that has a method `argument_names(count)` is asked for them: a signature holds no "conv.weight".
    """
    if hasattr(forward, "argument_names"):
        return tuple(forward.argument_names(count))
    signature = signature or _signature(forward)
    parameters = signature.parameters.values() if signature else ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(names[k] if k < len(names) else f"arg{k}" for k in range(count))
