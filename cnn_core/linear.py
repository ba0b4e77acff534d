"""Linear (fully connected) layer over the last axis.

    y[..., o] = b[o] + sum_i x[..., i] * w[o, i]
    dx[..., i] = sum_o dy[..., o] * w[o, i]
    dw[o, i] = sum over the leading axes of dy[..., o] * x[..., i]
    db[o] = sum over the leading axes of dy[..., o]

Shapes: x (..., I) with any number of leading axes, w (O, I), b (O,) or None, y (..., O).
One dtype for all arrays: float32, float64, complex64 or complex128. For complex arrays backward is
the holomorphic derivative (nothing is conjugated).

Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the shapes, if they do not fit.

Source: torch.nn.functional.linear.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import (
    Array,
    Gradients,
    Implementation,
    check_arrays,
    check_cache,
    check_rank,
    check_upstream,
)
from cnn_core._geometry import positions


class _Cache(NamedTuple):
    x: Array
    w: Array
    b: Array | None

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (*self.x.shape[:-1], len(self.w))


class _NaiveCache(_Cache):
    """The values that the naive forward keeps for its backward."""


class _VectorizedCache(_Cache):
    """The values that the vectorized forward keeps for its backward."""


def _naive_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, _NaiveCache]:
    """Compute (y, cache) from (x, w, b), one product at a time."""
    _check(x, w, b)
    cache = _NaiveCache(x, w, b)
    y = np.zeros(cache.y_shape, x.dtype)
    for *lead, o, i in positions(*x.shape[:-1], *w.shape):
        y[(*lead, o)] += x[(*lead, i)] * w[o, i]
    if b is not None:
        for *lead, o in positions(*y.shape):
            y[(*lead, o)] += b[o]
    return y, cache


def _naive_backward(dy: Array, cache: _NaiveCache) -> Gradients:
    """Compute (dx, dw, db) from dy, one product at a time."""
    cache = check_cache(cache, _NaiveCache)
    x, w, b = cache
    dy = check_upstream(dy, cache.y_shape, x.dtype)
    dx, dw = np.zeros(x.shape, x.dtype), np.zeros(w.shape, x.dtype)
    for *lead, o, i in positions(*x.shape[:-1], *w.shape):
        dx[(*lead, i)] += dy[(*lead, o)] * w[o, i]
        dw[o, i] += dy[(*lead, o)] * x[(*lead, i)]
    if b is None:
        return dx, dw, None
    db = np.zeros(b.shape, x.dtype)
    for *lead, o in positions(*dy.shape):
        db[o] += dy[(*lead, o)]
    return dx, dw, db


def _vectorized_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, _VectorizedCache]:
    """Compute (y, cache) from (x, w, b) as one matrix product."""
    _check(x, w, b)
    cache = _VectorizedCache(x, w, b)
    y = (_rows(x) @ w.T).reshape(cache.y_shape)
    if b is not None:
        y += b
    return y, cache


def _vectorized_backward(dy: Array, cache: _VectorizedCache) -> Gradients:
    """Compute (dx, dw, db) from dy as matrix products."""
    cache = check_cache(cache, _VectorizedCache)
    x, w, b = cache
    dy = check_upstream(dy, cache.y_shape, x.dtype)
    upstream = _rows(dy)
    dx = (upstream @ w).reshape(x.shape)
    db = None if b is None else upstream.sum(axis=0)
    return dx, upstream.T @ _rows(x), db


def _rows(array: Array) -> Array:
    """Return the array with its leading axes as one: (..., K) -> (M, K)."""
    return array.reshape(int(np.prod(array.shape[:-1])), array.shape[-1])


def _check(x: Array, w: Array, b: Array | None) -> None:
    check_arrays("b", x=x, w=w, b=b)
    check_rank("w", w, "O I")
    if x.ndim < 1:
        raise ValueError(f"x must have at least one axis (... I), got shape {x.shape}")
    if x.shape[-1] != w.shape[1]:
        raise ValueError(
            f"the last axis of x has {x.shape[-1]} entries, w expects {w.shape[1]} (x: {x.shape}, w: {w.shape})"
        )
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"b must have shape {w.shape[:1]}, one entry a row of w, got {b.shape}")


naive = Implementation("naive", _naive_forward, _naive_backward)
vectorized = Implementation("vectorized", _vectorized_forward, _vectorized_backward)
