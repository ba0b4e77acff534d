"""The type of a layer, how its versions are made, and the checks of its arguments."""

from __future__ import annotations

import inspect
import numbers
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Gradients = tuple[Array | None, ...]
_Call = TypeVar("_Call")
_Cache = TypeVar("_Cache")


class Implementation(NamedTuple):
    """One version of a layer: a pair of pure functions.

    `forward(*arrays, **options) -> (y, cache)` and `backward(dy, cache) -> gradients`.
    The gradients are a tuple with one entry for each differentiable array, in order.
    The entry of an array that was not given is `None`.
    """

    name: str
    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Gradients]


class Cache(NamedTuple):
    """What a forward keeps for its own backward: whose it is, what y was, and values, which are attributes too."""

    owner: str
    y_shape: tuple[int, ...]
    y_dtype: np.dtype[Any]
    kept: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.kept, name)


def implement(
    name: str,
    prepare: Callable[..., _Call],
    forward: Callable[[_Call], tuple[Array, Any]],
    backward: Callable[..., Gradients],
) -> Implementation:
    """Return a version of the layer in whose module `prepare` stands.

    `prepare(*arrays, **options)` checks a call, and returns what the versions need of it. `forward(call)` computes y
    and what backward needs. `backward(dy, kept)` computes the gradients of a dy that has the shape and dtype of y.
    """
    layer = prepare.__module__.rpartition(".")[2]
    owner, signature = f"{layer}.{name}", inspect.signature(prepare)

    def checked_forward(*arrays: Any, **options: Any) -> tuple[Array, Cache]:
        try:
            call = prepare(*arrays, **options)
        except TypeError:
            if misfit := _misfit(layer, signature, arrays, options):
                raise TypeError(misfit) from None
            raise
        y, kept = forward(call)
        return y, Cache(owner, y.shape, y.dtype, kept)

    def checked_backward(dy: Array, cache: Cache, **options: Any) -> Gradients:
        if not isinstance(cache, Cache) or cache.owner != owner:
            whose = cache.owner if isinstance(cache, Cache) else f"no layer's, but a {type(cache).__name__}"
            raise TypeError(f"cache is {whose}, and this backward needs that of {owner}.forward")
        return backward(check_upstream(dy, cache.y_shape, cache.y_dtype), cache.kept, **options)

    by_name = [each for each in inspect.signature(backward).parameters.values() if each.kind is each.KEYWORD_ONLY]
    given = list(inspect.signature(checked_backward).parameters.values())[:2]
    for which, function, inner, parameters in (
        ("forward", checked_forward, forward, list(signature.parameters.values())),
        ("backward", checked_backward, backward, [*given, *by_name]),
    ):
        function.__name__, function.__qualname__, function.__doc__ = which, f"{name}.{which}", inner.__doc__
        function.__module__ = prepare.__module__
        vars(function)["__signature__"] = inspect.signature(function).replace(parameters=parameters)
    return Implementation(name, checked_forward, checked_backward)


def _misfit(layer: str, signature: inspect.Signature, arrays: tuple[Any, ...], options: dict[str, Any]) -> str:
    """Return how a call does not fit the arguments of a layer; empty if it does."""
    try:
        signature.bind(*arrays, **options)
    except TypeError:
        by_name = {name for name, each in signature.parameters.items() if each.kind is each.KEYWORD_ONLY}
        several = {name for name, each in signature.parameters.items() if each.kind is each.VAR_POSITIONAL}
        names = [name for name in signature.parameters if name not in by_name]
        unknown = [name for name in options if name not in signature.parameters or name in several]
        takes = f"{layer} takes {', '.join('*' * (name in several) + name for name in names)} by position"
        takes += f" and, by name, {', '.join(n for n in signature.parameters if n in by_name)}" if by_name else ""
        if unknown:
            return f"{takes}; it has no {', '.join(f'{name}={_short(options[name])}' for name in unknown)}"
        if len(arrays) > len(names) and not several:
            return f"{takes}; got {len(arrays)} by position, the last {_short(arrays[-1])}"
        needed = [n for n, each in signature.parameters.items() if each.default is each.empty and n not in several]
        missing = [name for name in needed if name not in {*names[: len(arrays)], *options}]
        return f"{takes}; {', '.join(missing)} is missing" if missing else f"{takes}; an array is given twice"
    return ""


def _short(value: object) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)


def check_arrays(optional: str = "", **arrays: object) -> None:
    """Raise TypeError unless all arrays are of one dtype: float32, float64, complex64 or complex128.

    The arrays named in `optional`, "w b", may be None. Nothing is promoted, because promotion would silently truncate
    an integer array or change its dtype.
    """
    first: tuple[str, np.dtype[Any]] | None = None
    for name, array in arrays.items():
        if array is None and name in optional.split():
            continue
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
        if array.dtype.kind not in "fc":
            raise TypeError(f"{name} must be a floating or complex array, got dtype {array.dtype}")
        if array.dtype.char not in "fdFD":
            raise TypeError(f"{name} has dtype {array.dtype}: take float32, float64, complex64 or complex128")
        check_byte_order(name, array)
        first = first or (name, array.dtype)
        if array.dtype != first[1]:
            raise TypeError(f"{name} has dtype {array.dtype}, but {first[0]} has {first[1]}: cast one of them")


def check_byte_order(name: str, array: Array) -> None:
    """Raise TypeError for an array of foreign byte order: NumPy would return results in native order."""
    if not array.dtype.isnative:
        native = array.dtype.newbyteorder("=")
        raise TypeError(f"{name} has dtype {array.dtype.str}, of another byte order: cast it to {native}")


def check_number(name: str, value: Any) -> float:
    """Return an option that is one real number, as a float.

    Raises TypeError if it is none, ValueError if it is not finite.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not -sys.float_info.max <= value <= sys.float_info.max:  # NaN is not <=
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def check_rank(name: str, array: Array, axes: str) -> None:
    """Raise ValueError unless the array has one axis for each name in `axes`, such as "N C H W"."""
    rank = len(axes.split())
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} axes ({axes}), got shape {array.shape}")


def check_parameters(shape: tuple[int, ...], what: str, **arrays: Array | None) -> None:
    """Raise ValueError unless each array that is given has one entry for each `what`."""
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, one entry {what}, got {array.shape}")


def constant_array(name: str, array: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array without a gradient, which is an option, in the dtype of the others.

    Raises TypeError unless it is a real floating array, ValueError unless it has this shape.
    """
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} must be a real floating array, got {_kind(array)}")
    check_byte_order(name, array)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array.astype(dtype)


def real_number(name: str, value: Any, minimum: float, maximum: float = np.inf) -> float:
    """Read an option that is one finite real number.

    Raises TypeError if it is none, ValueError if it is not within these bounds.
    """
    if isinstance(value, (bool, np.bool)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    if not (np.isfinite(value) and minimum <= value <= maximum):
        bounds = f"finite and at least {minimum}" if maximum == np.inf else f"in [{minimum}, {maximum}]"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    return float(value)


def _kind(value: object) -> str:
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def check_upstream(dy: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return the upstream gradient as an array.

    Raises TypeError if its dtype is not that of y, ValueError if its shape is not that of y.
    """
    if not isinstance(dy, (np.ndarray, np.generic)):
        raise TypeError(f"dy must be a NumPy array of dtype {dtype}, got {type(dy).__name__}")
    if dy.dtype != dtype:
        raise TypeError(f"dy must have the dtype of y, {dtype}, got {dy.dtype}")
    if dy.shape != shape:
        raise ValueError(f"dy must have the shape of y, {shape}, got {dy.shape}")
    return np.asarray(dy)


def check_cache(cache: object, kind: type[_Cache]) -> _Cache:
    """Return the cache, or raise TypeError if another implementation made it."""
    if not isinstance(cache, kind):
        raise TypeError(
            f"cache is a {type(cache).__module__}.{type(cache).__name__}, "
            f"this backward needs the {kind.__module__}.{kind.__name__} of its own forward"
        )
    return cache
