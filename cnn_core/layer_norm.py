"""Layer normalization over the last axes.

    mean = (1/n) sum_k x[..., k]                       k runs over the n entries of the last axes
    variance = (1/n) sum_k (x[..., k] - mean)^2
    h[..., k] = (x[..., k] - mean) * r                 r = (variance + eps)^(-1/2)
    y[..., k] = w[k] * h[..., k] + b[k]

There is one mean and one variance for each index of the leading axes. Backward, with sums over k unless said otherwise:

    db[k] = sum over the leading axes of dy[..., k]         dw[k] = that of dy[..., k] h[..., k]
    1. y = w h + b:                           dh = w dy
    2. h = z r with z = x - mean:             dz = r dh              dr = sum dh z
    3. r = (variance + eps)^(-1/2):           dvariance = -1/2 r^3 dr = -1/2 r^2 sum dh h,  because z = h / r
    4. variance = (1/n) sum z^2:              dz = r dh + (2/n) z dvariance = r (dh - (1/n) h sum dh h)
    5. z = x - mean, mean = (1/n) sum x:      dx = dz - (1/n) sum dz,  where sum dz = r sum dh because sum h = 0

    dx[..., k] = r (dh[..., k] - (1/n) sum dh - (1/n) h[..., k] sum dh h)

Shapes: x and y any, with x.shape ending in normalized_shape; w and b of normalized_shape, or None (ones and zeros).
Dtypes: float32, float64, complex64 or complex128, one for all arrays. For complex arrays backward is the
holomorphic derivative (nothing is conjugated). A single normalized entry has variance 0, h = 0 and dx = 0.

Options, as in torch.nn.functional.layer_norm: normalized_shape (an integer or a tuple of integers) and eps.
Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for shapes that do not fit and a negative eps.

Source: Ba, Kiros & Hinton 2016, "Layer normalization", arXiv:1607.06450; torch.nn.functional.layer_norm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_parameters, implement, real_number
from cnn_core._chunks import chunks
from cnn_core._geometry import positions
from cnn_core._options import last_axes


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too. `lead` and `last` are the two parts of x.shape."""

    x: Array
    w: Array | None
    b: Array | None
    lead: tuple[int, ...]
    last: tuple[int, ...]
    eps: float


def _prepare(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    normalized_shape: int | tuple[int, ...],
    eps: float = 1e-5,
) -> _Call:
    check_arrays("w b", x=x, w=w, b=b)
    lead, last = last_axes(x.shape, normalized_shape)
    check_parameters(last, "a normalized entry", w=w, b=b)
    return _Call(x, w, b, lead, last, real_number("eps", eps, 0))


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), one mean and variance after the other."""
    x, w, b, lead, last, _ = call
    y = np.zeros(x.shape, x.dtype)
    for row in positions(*lead):
        h, _ = _naive_normalized(row, call)
        for k in positions(*last):
            scaled = h[k] if w is None else w[k] * h[k]
            y[(*row, *k)] = scaled if b is None else scaled + b[k]
    return y, call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, one mean and variance after the other."""
    x, w, b, lead, last, _ = call
    n = math.prod(last)
    dx, dw, db = np.zeros(x.shape, x.dtype), np.zeros(last, x.dtype), np.zeros(last, x.dtype)
    for row in positions(*lead):
        h, r = _naive_normalized(row, call)
        dh = {k: dy[(*row, *k)] if w is None else w[k] * dy[(*row, *k)] for k in h}
        sum_dh, sum_dh_h = sum(dh.values()), sum(dh[k] * h[k] for k in h)
        for k in positions(*last):
            db[k] += dy[(*row, *k)]
            dw[k] += dy[(*row, *k)] * h[k]
            dx[(*row, *k)] = r * (dh[k] - sum_dh / n - h[k] * (sum_dh_h / n))
    return dx, None if w is None else dw, None if b is None else db


def _naive_normalized(row: tuple[int, ...], call: _Call) -> tuple[dict[tuple[int, ...], np.inexact], np.inexact]:
    """Return h[row, k] for every k, and r."""
    n, zero = math.prod(call.last), call.x.dtype.type(0)
    entries = {k: call.x[(*row, *k)] for k in positions(*call.last)}
    mean = sum(entries.values(), zero) / n
    variance = sum(((entry - mean) * (entry - mean) for entry in entries.values()), zero) / n
    r = 1 / np.sqrt(variance + call.eps)
    return {k: (entry - mean) * r for k, entry in entries.items()}, r


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), many rows at once."""
    x, w, b, _, _, eps = call
    rows = _rows(x, call)
    y = np.empty_like(rows)
    for here in chunks(rows):
        h, _ = _vectorized_normalized(rows[here], eps)
        if w is not None:
            h *= w.reshape(-1)
        y[here] = h if b is None else h + b.reshape(-1)
    return y.reshape(x.shape), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, many rows at once."""
    x, w, b, _, last, eps = call
    rows, upstream, n = _rows(x, call), _rows(dy, call), math.prod(last)
    dx, dw, db = np.empty_like(rows), np.zeros(n, x.dtype), np.zeros(n, x.dtype)
    for here in chunks(rows):
        h, r = _vectorized_normalized(rows[here], eps)
        dh = upstream[here] if w is None else upstream[here] * w.reshape(n)
        sum_dh, sum_dh_h = dh.sum(axis=1)[:, None], np.einsum("rk,rk->r", dh, h)[:, None]
        dw += np.einsum("rk,rk->k", upstream[here], h)
        db += upstream[here].sum(axis=0)
        dx[here] = (dh - sum_dh / n - h * (sum_dh_h / n)) * r
    return dx.reshape(x.shape), None if w is None else dw.reshape(last), None if b is None else db.reshape(last)


def _vectorized_normalized(rows: Array, eps: float) -> tuple[Array, Array]:
    """Return h and r of some rows (R, n): (R, n) and (R, 1)."""
    n = rows.shape[1]
    z = rows - rows.sum(axis=1)[:, None] / n
    r = 1 / np.sqrt(np.einsum("rk,rk->r", z, z)[:, None] / n + eps)
    z *= r
    return z, r


def _rows(array: Array, call: _Call) -> Array:
    """Return the array as (R, n), one row for each index of the leading axes. Sums of rows then have one order."""
    return np.ascontiguousarray(array).reshape(math.prod(call.lead), math.prod(call.last))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
