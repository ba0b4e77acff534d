"""Parametric rectified linear unit: its slope for negative entries is learned, one for all or one a channel.

    y[n,c,...] = x[n,c,...]    where x[n,c,...] > 0,    else w[c] * x[n,c,...]
    dx[n,c,...] = dy[n,c,...]  where x[n,c,...] > 0,    else w[c] * dy[n,c,...]
    dw[c] = sum over n and ... of dy[n,c,...] * x[n,c,...], where x[n,c,...] is not > 0

Each entry of y depends on its own x and on w[c]. Its slope in x is 1 or w[c]. Its slope in w[c] is 0 where x > 0, and x
elsewhere. Every entry of channel c reads w[c], so dw[c] is the sum of their dy times these slopes. If w has one entry,
all channels share it, and dw is the sum over all entries of x.

At x = 0 the slope in x is w[c], as in PyTorch. NaN takes the second branch: y and dw[c] are NaN, and dx = w[c] * dy.
A complex x (the complex step) is compared by its real part.

Shapes: w (1,) with x, y, dx of any one shape, or w (C,) with x, y, dx (N, C, ...). dw as w.
One dtype for both arrays: float32, float64, complex64 or complex128.

Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the shapes, if they do not fit.

Source: He et al. 2015, arXiv:1502.01852, section 2.1; torch.nn.functional.prelu (the derivative at 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._chunks import in_chunks, keep, where
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too."""

    x: Array
    w: Array


def _prepare(x: Array, w: Array) -> _Call:
    check_arrays(x=x, w=w)
    check_rank("w", w, "C")
    if w.shape != (1,) and (x.ndim < 2 or x.shape[1] != len(w)):
        raise ValueError(f"w must have one entry, or one a channel of x (N C ...), got w: {w.shape}, x: {x.shape}")
    return _Call(x, w)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w), entry by entry."""
    x, w = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        c = 0 if len(w) == 1 else index[1]
        y[index] = x[index] if x[index].real > 0 else w[c] * x[index]
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw) from dy, entry by entry."""
    x, w = call
    dx, dw = np.zeros(x.shape, x.dtype), np.zeros(w.shape, x.dtype)
    for index in positions(*x.shape):
        c = 0 if len(w) == 1 else index[1]
        if x[index].real > 0:
            dx[index] = dy[index]
        else:
            dx[index] = w[c] * dy[index]
            dw[c] += dy[index] * x[index]
    return dx, dw


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w), all entries at once."""
    return _times_slope(call.x, call), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw) from dy, all entries at once."""
    x, w = call
    products = in_chunks(_products, dy, x)
    others = tuple(axis for axis in range(x.ndim) if axis != 1 or len(w) == 1)
    return _times_slope(dy, call), products.sum(axis=others).reshape(w.shape)


def _products(dy: Array, x: Array) -> Array:
    """Return dy times the slope of y in w."""
    return np.asarray(keep(~(x.real > 0), dy) * keep(~(x.real > 0), x))


def _times_slope(values: Array, call: _Call) -> Array:
    """Return values where x > 0, else w times them."""
    x, w = call
    by_channel = w if len(w) == 1 else w.reshape(-1, *(1,) * (x.ndim - 2))
    below = (by_channel * values).reshape(x.shape)
    return in_chunks(lambda x, values, below: where(x.real > 0, values, below), x, values, below)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
