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

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too."""

    x: Array
    w: Array
    b: Array | None


def _prepare(x: Array, w: Array, b: Array | None = None) -> _Call:
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
    return _Call(x, w, b)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), one product at a time."""
    x, w, b = call
    y = np.zeros((*x.shape[:-1], len(w)), x.dtype)
    for *lead, o, i in positions(*x.shape[:-1], *w.shape):
        y[(*lead, o)] += x[(*lead, i)] * w[o, i]
    if b is not None:
        for *lead, o in positions(*y.shape):
            y[(*lead, o)] += b[o]
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, one product at a time."""
    x, w, b = call
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


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b) as one matrix product."""
    x, w, b = call
    y = (_rows(x) @ w.T).reshape(*x.shape[:-1], len(w))
    if b is not None:
        y += b
    return y, call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy as matrix products."""
    x, w, b = call
    upstream = _rows(dy)
    dx = (upstream @ w).reshape(x.shape)
    db = None if b is None else upstream.sum(axis=0)
    return dx, upstream.T @ _rows(x), db


def _rows(array: Array) -> Array:
    """Return the array with its leading axes as one: (..., K) -> (M, K)."""
    return array.reshape(int(np.prod(array.shape[:-1])), array.shape[-1])


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
