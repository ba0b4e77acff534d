"""The type of a layer, and the checks of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Gradients = tuple[Array | None, ...]
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


def check_arrays(optional: str = "", **arrays: object) -> None:
    """Raise TypeError unless all arrays are floating or complex and of one dtype.

    The array named `optional` may be None. Nothing is promoted, because promotion would silently truncate
    an integer array or change its dtype.
    """
    first: tuple[str, np.dtype[Any]] | None = None
    for name, array in arrays.items():
        if array is None and name == optional:
            continue
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
        if not np.issubdtype(array.dtype, np.inexact):
            raise TypeError(f"{name} must be a floating or complex array, got dtype {array.dtype}")
        check_byte_order(name, array)
        first = first or (name, array.dtype)
        if array.dtype != first[1]:
            raise TypeError(f"{name} has dtype {array.dtype}, but {first[0]} has {first[1]}: cast one of them")


def check_byte_order(name: str, array: Array) -> None:
    """Raise TypeError for an array of foreign byte order: NumPy would return results in native order."""
    if not array.dtype.isnative:
        native = array.dtype.newbyteorder("=")
        raise TypeError(f"{name} has dtype {array.dtype.str}, of another byte order: cast it to {native}")


def check_rank(name: str, array: Array, axes: str) -> None:
    """Raise ValueError unless the array has one axis for each name in `axes`, such as "N C H W"."""
    rank = len(axes.split())
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} axes ({axes}), got shape {array.shape}")


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
