"""Root-mean-square normalization over the last axes: layer normalization without a mean and a bias.

    h[..., k] = x[..., k] * r            r = ((1/n) sum_k x[..., k]^2 + eps)^(-1/2)
    y[..., k] = w[k] * h[..., k]         k runs over the n entries of the last axes

There is one r for each index of the leading axes. Backward, with sums over k unless said otherwise:

    dw[k] = sum over the leading axes of dy[..., k] h[..., k]
    1. y = w h:                            dh = w dy
    2. h = x r:                            dx = r dh, and through r:    dr = sum dh x = (1/r) sum dh h
    3. r = s^(-1/2), s = mean square + eps:   ds = -1/2 r^3 dr = -1/2 r^2 sum dh h
    4. s = (1/n) sum x^2 + eps:            dx = r dh + (2/n) x ds,  where x = h / r

    dx[..., k] = r (dh[..., k] - (1/n) h[..., k] sum dh h)

Shapes: x and y any, with x.shape ending in normalized_shape; w of normalized_shape, or None (ones).
Dtypes: float32, float64, complex64 or complex128, one for all arrays. For complex arrays backward is the
holomorphic derivative (nothing is conjugated, and the square is x x).

Options, as in torch.nn.functional.rms_norm: normalized_shape (an integer or a tuple of integers) and eps. The
default eps=None is the machine epsilon of the dtype: 2^-23 in float32, 2^-52 in float64.
Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for shapes that do not fit and a negative eps.

Source: Zhang & Sennrich 2019, "Root mean square layer normalization", arXiv:1910.07467;
torch.nn.functional.rms_norm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_parameters, implement, real_number
from cnn_core._geometry import positions
from cnn_core._options import last_axes


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too. `lead` and `last` are the two parts of x.shape."""

    x: Array
    w: Array | None
    lead: tuple[int, ...]
    last: tuple[int, ...]
    eps: float


def _prepare(
    x: Array, w: Array | None = None, *, normalized_shape: int | tuple[int, ...], eps: float | None = None
) -> _Call:
    check_arrays("w", x=x, w=w)
    lead, last = last_axes(x.shape, normalized_shape)
    check_parameters(last, "a normalized entry", w=w)
    return _Call(x, w, lead, last, float(np.finfo(x.dtype).eps) if eps is None else real_number("eps", eps, 0))


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w), one mean square after the other."""
    x, w, lead, last, _ = call
    y = np.zeros(x.shape, x.dtype)
    for row in positions(*lead):
        r = _naive_factor(row, call)
        for k in positions(*last):
            h = x[(*row, *k)] * r
            y[(*row, *k)] = h if w is None else w[k] * h
    return y, call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw) from dy, one mean square after the other."""
    x, w, lead, last, _ = call
    n = math.prod(last)
    dx, dw = np.zeros(x.shape, x.dtype), np.zeros(last, x.dtype)
    for row in positions(*lead):
        r = _naive_factor(row, call)
        h = {k: x[(*row, *k)] * r for k in positions(*last)}
        dh = {k: dy[(*row, *k)] if w is None else w[k] * dy[(*row, *k)] for k in h}
        sum_dh_h = sum(dh[k] * h[k] for k in h)
        for k in h:
            dw[k] += dy[(*row, *k)] * h[k]
            dx[(*row, *k)] = r * (dh[k] - h[k] * (sum_dh_h / n))
    return dx, None if w is None else dw


def _naive_factor(row: tuple[int, ...], call: _Call) -> np.inexact:
    """Return r of one row."""
    squares = (call.x[(*row, *k)] * call.x[(*row, *k)] for k in positions(*call.last))
    factor: np.inexact = 1 / np.sqrt(sum(squares, call.x.dtype.type(0)) / math.prod(call.last) + call.eps)
    return factor


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w), all rows at once."""
    rows, r = _rows(call.x, call), _vectorized_factor(call)
    y = rows * r if call.w is None else rows * r * call.w.reshape(-1)
    return y.reshape(call.x.shape), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw) from dy, all rows at once."""
    x, w, _, last, _ = call
    r, upstream, n = _vectorized_factor(call), _rows(dy, call), math.prod(last)
    h = _rows(x, call) * r
    dh = upstream if w is None else upstream * w.reshape(n)
    dx = (dh - h * (np.einsum("rk,rk->r", dh, h)[:, None] / n)) * r
    return dx.reshape(x.shape), None if w is None else np.einsum("rk,rk->k", upstream, h).reshape(last)


def _vectorized_factor(call: _Call) -> Array:
    """Return r for each row, (R, 1)."""
    rows = _rows(call.x, call)
    r: Array = 1 / np.sqrt(np.einsum("rk,rk->r", rows, rows)[:, None] / rows.shape[1] + call.eps)
    return r


def _rows(array: Array, call: _Call) -> Array:
    """Return the array as (R, n), one row for each index of the leading axes. Sums of rows then have one order."""
    return np.ascontiguousarray(array).reshape(math.prod(call.lead), math.prod(call.last))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
