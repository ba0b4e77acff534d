"""Instance normalization: one mean and variance for each image and each channel.

    mean[n, c] = (1/m) sum_{i,j} x[n, c, i, j]                             m = H*W
    variance[n, c] = (1/m) sum_{i,j} (x[n, c, i, j] - mean[n, c])^2
    h[n, c, i, j] = (x[n, c, i, j] - mean[n, c]) * r[n, c]                 r[n, c] = (variance[n, c] + eps)^(-1/2)
    y[n, c, i, j] = w[c] * h[n, c, i, j] + b[c]

Backward, with sums over the m entries i, j of one plane unless said otherwise:

    db[c] = sum_{n,i,j} dy[n, c, i, j]        dw[c] = sum_{n,i,j} dy[n, c, i, j] h[n, c, i, j]
    1. y = w h + b:                           dh = w dy
    2. h = z r with z = x - mean:             dz = r dh              dr = sum dh z
    3. r = (variance + eps)^(-1/2):           dvariance = -1/2 r^3 dr = -1/2 r^2 sum dh h,  because z = h / r
    4. variance = (1/m) sum z^2:              dz = r dh + (2/m) z dvariance = r (dh - (1/m) h sum dh h)
    5. z = x - mean, mean = (1/m) sum x:      dx = dz - (1/m) sum dz,  where sum dz = r sum dh because sum h = 0

    dx = r (dh - (1/m) sum dh - (1/m) h sum dh h) = r w (dy - (1/m) sum dy - (1/m) h sum dy h)

Shapes: x and y (N, C, H, W), w and b (C,) or None (ones and zeros). N = 0 is allowed.
Dtypes: float32, float64, complex64 or complex128, one for all arrays. For complex arrays backward is the
holomorphic derivative (nothing is conjugated). A plane of one entry has variance 0, h = 0 and dx = 0. PyTorch
refuses that, and N = 0.

Option: eps, as in torch.nn.functional.instance_norm.
Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for shapes that do not fit and a negative eps.

Source: Ulyanov, Vedaldi & Lempitsky 2016, "Instance normalization", arXiv:1607.08022;
torch.nn.functional.instance_norm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_parameters, check_rank, implement, real_number
from cnn_core._chunks import chunks
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too."""

    x: Array
    w: Array | None
    b: Array | None
    eps: float


def _prepare(x: Array, w: Array | None = None, b: Array | None = None, *, eps: float = 1e-5) -> _Call:
    check_arrays("w b", x=x, w=w, b=b)
    check_rank("x", x, "N C H W")
    check_parameters(x.shape[1:2], "a channel", w=w, b=b)
    return _Call(x, w, b, real_number("eps", eps, 0))


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), plane by plane."""
    x, w, b, eps = call
    images, channels, height, width = x.shape
    y = np.zeros(x.shape, x.dtype)
    for n, c in positions(images, channels):
        mean, r = _naive_statistics(x[n, c], eps)
        for i, j in positions(height, width):
            h = (x[n, c, i, j] - mean) * r
            scaled = h if w is None else w[c] * h
            y[n, c, i, j] = scaled if b is None else scaled + b[c]
    return y, call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, plane by plane."""
    x, w, b, eps = call
    images, channels, height, width = x.shape
    m = height * width
    dx, dw, db = np.zeros(x.shape, x.dtype), np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    for n, c in positions(images, channels):
        mean, r = _naive_statistics(x[n, c], eps)
        sum_dh = sum_dh_h = x.dtype.type(0)
        for i, j in positions(height, width):
            h = (x[n, c, i, j] - mean) * r
            db[c] += dy[n, c, i, j]
            dw[c] += dy[n, c, i, j] * h
            dh = dy[n, c, i, j] if w is None else dy[n, c, i, j] * w[c]
            sum_dh += dh
            sum_dh_h += dh * h
        for i, j in positions(height, width):
            h = (x[n, c, i, j] - mean) * r
            dh = dy[n, c, i, j] if w is None else dy[n, c, i, j] * w[c]
            dx[n, c, i, j] = r * (dh - sum_dh / m - h * (sum_dh_h / m))
    return dx, None if w is None else dw, None if b is None else db


def _naive_statistics(plane: Array, eps: float) -> tuple[np.inexact, np.inexact]:
    """Return the mean and r of one plane."""
    zero = plane.dtype.type(0)
    entries = [plane[index] for index in positions(*plane.shape)]
    mean = sum(entries, zero) / len(entries)
    variance = sum(((entry - mean) * (entry - mean) for entry in entries), zero) / len(entries)
    return mean, 1 / np.sqrt(variance + eps)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), many planes at once."""
    x, w, b, eps = call
    planes, weight, bias = _planes(x), _by_plane(w, x), _by_plane(b, x)
    y = np.empty_like(planes)
    for here in chunks(planes):
        h, _ = _vectorized_normalized(planes[here], eps)
        if weight is not None:
            h *= weight[here]
        y[here] = h if bias is None else h + bias[here]
    return y.reshape(x.shape), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, many planes at once. The weight is the same for a whole plane."""
    x, w, b, eps = call
    planes, upstream, weight = _planes(x), _planes(dy), _by_plane(w, x)
    dx, m = np.empty_like(planes), planes.shape[1]
    sum_dy, sum_dy_h = np.zeros((2, len(planes), 1), x.dtype)
    for here in chunks(planes):
        h, r = _vectorized_normalized(planes[here], eps)
        sum_dy[here, 0], sum_dy_h[here, 0] = upstream[here].sum(axis=1), np.einsum("pk,pk->p", upstream[here], h)
        h *= sum_dy_h[here] / m
        dx[here] = (upstream[here] - sum_dy[here] / m - h) * (r if weight is None else r * weight[here])
    dw, db = (each.reshape(x.shape[:2]).sum(axis=0) for each in (sum_dy_h, sum_dy))
    return dx.reshape(x.shape), None if w is None else dw, None if b is None else db


def _vectorized_normalized(planes: Array, eps: float) -> tuple[Array, Array]:
    """Return h and r of some planes (P, K): (P, K) and (P, 1)."""
    m = planes.shape[1]
    z = planes - planes.sum(axis=1)[:, None] / m
    r = 1 / np.sqrt(np.einsum("pk,pk->p", z, z)[:, None] / m + eps)
    z *= r
    return z, r


def _planes(array: Array) -> Array:
    """Return the array as (N * C, H * W). Sums of planes then have one order."""
    images, channels, height, width = array.shape
    return np.ascontiguousarray(array).reshape(images * channels, height * width)


def _by_plane(parameter: Array | None, x: Array) -> Array | None:
    """Return w or b for all planes of x, (N * C, 1)."""
    return None if parameter is None else np.tile(parameter, len(x))[:, None]


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
