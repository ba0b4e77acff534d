"""What a caller may hand to a check. What cannot be is refused in one sentence that quotes the values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.checker.layer import LayerUnderTest, is_floating, kinds
from verify.checker.point import Array

# The most characters of a value in a message, so that it stays one line.
_WIDTH = 60


def layer_under_test(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Sequence[Array | None]],
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None,
    wrt: Sequence[int] | None,
) -> LayerUnderTest:
    """The layer of a valid call; TypeError or ValueError, quoting the values, for any other."""
    signature = check_call(forward, backward, arrays, options)
    # The caller's own arrays: what a layer writes to them is undone.
    own = tuple(np.asarray(a) if isinstance(a, (float, np.generic)) else a for a in arrays)
    names = argument_names(forward, len(own), signature)
    return LayerUnderTest(forward, backward, own, options or {}, names, _positions(wrt, own, names))


def _positions(wrt: Sequence[int] | None, arrays: tuple[Any, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """The positions to check: those of `wrt`, or of all floating arrays."""
    floating = tuple(k for k, array in enumerate(arrays) if is_floating(array))
    if wrt is not None:
        check_wrt(wrt, len(arrays))
    for position in floating if wrt is None else wrt:
        array, name = arrays[position], names[position]
        if not is_floating(array):
            what = "None" if array is None else f"dtype {getattr(array, 'dtype', type(array).__name__)}"
            raise TypeError(f"wrt={wrt!r}: {name} is no floating array, but {what}")
        if array.dtype.kind == "c":
            parts = "give its real and imaginary parts as two arrays, and write x = re + 1j * im in forward"
            where = "docs/recipes/complex.md"
            raise TypeError(f"{name} is complex; gradients are checked at real arrays: {parts} ({where})")
        if array.dtype.itemsize > 8:
            raise TypeError(f"{name} has dtype {array.dtype}: at most float64 is checked")
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])  # of a scalar, the one index is ()
            hint = "; `wrt` leaves out fixed arrays, such as a mask of -inf" if wrt is None else ""
            where = f"{name}[{', '.join(map(str, index))}]"
            raise ValueError(f"{where} is {array[index]}: arrays must be finite{hint}")
    chosen = floating if wrt is None else tuple(int(k) for k in wrt)
    if not chosen:
        given = f" ({kinds(names, arrays)})" if arrays else ""
        why = "wrt is empty" if wrt is not None else f"no floating array was given{given}"
        raise ValueError(f"nothing to check: {why}")
    return chosen


def check_call(forward: Any, backward: Any, arrays: Any, options: Any) -> inspect.Signature | None:
    """Raise TypeError unless these are two callables, a tuple of arrays, and options, that go together.

    Returns the forward's signature, where it has one.
    """
    for what, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            instead = "; a layer that is one object: verify.adapters.gradcheck(layer, inputs)"
            raise TypeError(f"{what} must be callable, got {shown(function)}{instead}")
    if isinstance(arrays, np.ndarray):
        raise TypeError(f"arrays must be a tuple of arrays, got one array of shape {arrays.shape}")
    if not isinstance(arrays, (tuple, list)):
        raise TypeError(f"arrays must be a tuple of arrays, got {type(arrays).__name__}")
    for array in arrays:
        if hasattr(array, "__array__") and not isinstance(array, (np.ndarray, np.generic)):
            text = "give its values as one, or check a layer of tensors by verify.adapters"
            raise TypeError(f"arrays must be NumPy arrays, got {type(array).__name__}: {text}")
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(name, str) for name in options)):
        raise TypeError(f"options must map names to values, got {shown(options)}")
    signature = _signature(forward)
    if signature is None:  # the call itself will show
        return None
    try:
        signature.bind(*arrays, **(options or {}))
    except TypeError as error:
        given = f"{len(arrays)} arrays and options {shown(dict(options or {}))}"
        takes = ", ".join(signature.parameters) or "nothing"
        raise TypeError(f"forward takes {takes}; it cannot be called with {given}: {error}") from None
    return signature


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a function of C, say
        return None


def check_wrt(wrt: Any, count: int) -> None:
    """Raise TypeError or ValueError unless these are positions in `count` arrays, each named once."""
    if not isinstance(wrt, (tuple, list, range)):
        raise TypeError(f"wrt must be a sequence of positions, got {wrt!r}")
    for position in wrt:
        if not isinstance(position, (int, np.integer)) or isinstance(position, bool) or not 0 <= position < count:
            raise ValueError(f"wrt must hold positions in the {count} arrays, got {wrt!r}")
        if list(wrt).count(position) > 1:
            raise ValueError(f"wrt must hold each position once, got {wrt!r}")


def argument_names(
    forward: Callable[..., Any], count: int, signature: inspect.Signature | None = None
) -> tuple[str, ...]:
    """The forward's own names for its arrays, where its signature has them; otherwise arg0, arg1, ...

    A forward that has a method `argument_names(count)` is asked for them: a signature holds no "conv.weight".
    """
    if hasattr(forward, "argument_names"):
        return tuple(forward.argument_names(count))
    signature = signature or _signature(forward)
    parameters = signature.parameters.values() if signature else ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(names[k] if k < len(names) else f"arg{k}" for k in range(count))


def shown(value: Any) -> str:
    """Return a value for a message: short values as they are, arrays by their shape, other objects by their kind."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) or hasattr(value, "__array__"):
        return f"{_kind(type(value))} of shape {tuple(shape or ())}"
    if isinstance(value, (tuple, list)) and any(hasattr(each, "shape") for each in value):
        return (
            f"a {type(value).__name__} of {len(value)}: {', '.join(map(shown, value[:2]))}{', ...' * (len(value) > 2)}"
        )
    name, owner = getattr(value, "__name__", None), getattr(value, "__self__", None)
    if isinstance(name, str) and inspect.isclass(owner):
        return f"{owner.__name__}.{name}"
    if isinstance(name, str):
        return f"the {_sort(value)} {name.strip('<>')}"
    text = repr(value)
    if text.startswith("<") or "\n" in text:
        return f"an instance of {type(value).__name__}"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 4]} ..."


def _kind(kind: type) -> str:
    return {"ndarray": "an array", "Tensor": "a tensor", "ArrayImpl": "a JAX array"}.get(
        kind.__name__, f"a {kind.__name__}"
    )


def _sort(value: Any) -> str:
    return "class" if inspect.isclass(value) else "module" if inspect.ismodule(value) else "function"
