"""What a layer is, and what it says to arrays it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Gradients = tuple[Array | None, ...]
_Cache = TypeVar("_Cache")


class Implementation(NamedTuple):
    """One version of a layer: a pure pair of functions.

    `forward(*arrays, **options) -> (y, cache)`, and `backward(dy, cache) -> gradients`, a tuple
    with one gradient for each differentiable array in order, `None` for an array not given.
    """

    name: str
    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Gradients]


def check_arrays(optional: str = "", **arrays: object) -> None:
    """Raise TypeError unless all are floating or complex arrays of one dtype; the optional one may be None.

    Nothing is promoted: an integer array would be truncated or change its dtype in silence.
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
    """Raise TypeError for bytes in another order than this machine's: NumPy's results would be in this machine's."""
    if not array.dtype.isnative:
        native = array.dtype.newbyteorder("=")
        raise TypeError(f"{name} has dtype {array.dtype.str}, of another byte order: cast it to {native}")


def check_rank(name: str, array: Array, axes: str) -> None:
    """Raise ValueError unless the array has as many axes as `axes` names, such as "N C H W"."""
    rank = len(axes.split())
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} axes ({axes}), got shape {array.shape}")


def check_upstream(dy: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The upstream gradient as an array; TypeError or ValueError unless it is shaped and typed as y."""
    if not isinstance(dy, (np.ndarray, np.generic)):
        raise TypeError(f"dy must be a NumPy array of dtype {dtype}, got {type(dy).__name__}")
    if dy.dtype != dtype:
        raise TypeError(f"dy must have the dtype of y, {dtype}, got {dy.dtype}")
    if dy.shape != shape:
        raise ValueError(f"dy must have the shape of y, {shape}, got {dy.shape}")
    return np.asarray(dy)


def check_cache(cache: object, kind: type[_Cache]) -> _Cache:
    """The cache; TypeError if another implementation made it."""
    if not isinstance(cache, kind):
        raise TypeError(
            f"cache is a {type(cache).__module__}.{type(cache).__name__}, "
            f"this backward needs the {kind.__module__}.{kind.__name__} of its own forward"
        )
    return cache
