"""Batch normalization of images, in training and in evaluation.

    mean[c] = (1/m) sum_{n,i,j} x[n, c, i, j]                      m = N*H*W
    variance[c] = (1/m) sum_{n,i,j} (x[n, c, i, j] - mean[c])^2
    h[n, c, i, j] = (x[n, c, i, j] - mean[c]) * r[c]               r[c] = (variance[c] + eps)^(-1/2)
    y[n, c, i, j] = w[c] * h[n, c, i, j] + b[c]

In evaluation `running_mean` and `running_variance` replace mean and variance, and are constants.

Backward goes through these lines from the last to the first. All sums are over n, i, j. They belong to one
channel, so that indices can be left out. Of y = w h + b:

    db = sum dy        dw = sum dy h        dh = dy w

In evaluation h = (x - mean) r is affine in x, and dx = r dh. In training mean and r depend on x too:

    1. z = x - mean, h = z r:                 dz = r dh              dr = sum dh z
    2. r = (variance + eps)^(-1/2):           dvariance = -1/2 r^3 dr = -1/2 r^2 sum dh h,  because z = h / r
    3. variance = (1/m) sum z^2:              dz = r dh + (2/m) z dvariance = r (dh - (1/m) h sum dh h)
    4. z = x - mean:                          dmean = -sum dz = -r sum dh,  because sum h = 0
    5. mean = (1/m) sum x, z = x - mean:      dx = dz + (1/m) dmean

    dx = r (dh - (1/m) sum dh - (1/m) h sum dh h)

So dx is dh less its mean and less its component along h, times r: it is orthogonal to 1 and to h (for eps = 0).

Shapes: x and y (N, C, H, W), w and b (C,) or None (ones and zeros), the running statistics (C,). N = 0 is allowed.
Dtypes: float32, float64, complex64 or complex128, one for x, w and b. The running statistics are real, and are
rounded to that dtype. For complex arrays backward is the holomorphic derivative (nothing is conjugated).

Options: eps, as in torch.nn.functional.batch_norm, may also be 0. The running statistics are given in evaluation and
not in training. The cache has the statistics of the batch: `cache.mean` and `cache.variance`, (C,) each. They are NaN
for N = 0. PyTorch's running variance takes m / (m - 1) times this variance.
A channel of one entry has variance 0, h = 0 and dx = 0. PyTorch refuses that in training.

Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for shapes that do not fit, a negative eps or variance, and one running
statistic without the other.

Source: Ioffe & Szegedy 2015, "Batch normalization", arXiv:1502.03167; torch.nn.functional.batch_norm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import (
    Array,
    Gradients,
    check_arrays,
    check_parameters,
    check_rank,
    constant_array,
    implement,
    real_number,
)
from cnn_core._chunks import chunks
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call. In training the running statistics are None."""

    x: Array
    w: Array | None
    b: Array | None
    running: tuple[Array, Array] | None
    eps: float


class _Kept(NamedTuple):
    """The arguments that backward needs, and the statistics by which x was normalized."""

    x: Array
    w: Array | None
    b: Array | None
    mean: Array
    variance: Array
    eps: float
    training: bool


def _prepare(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    *,
    running_mean: Array | None = None,
    running_variance: Array | None = None,
    eps: float = 1e-5,
) -> _Call:
    check_arrays("w b", x=x, w=w, b=b)
    check_rank("x", x, "N C H W")
    check_parameters(x.shape[1:2], "a channel", w=w, b=b)
    eps = real_number("eps", eps, 0)
    if running_mean is None and running_variance is None:
        return _Call(x, w, b, None, eps)
    if running_mean is None or running_variance is None:
        missing = "running_mean" if running_mean is None else "running_variance"
        raise ValueError(f"{missing} is missing: evaluation needs both running statistics, training neither")
    mean = constant_array("running_mean", running_mean, x.shape[1:2], x.dtype)
    variance = constant_array("running_variance", running_variance, x.shape[1:2], x.dtype)
    for channel in np.flatnonzero(running_variance < 0):
        raise ValueError(f"running_variance must be at least 0, got {running_variance[channel]} at channel {channel}")
    return _Call(x, w, b, (mean, variance), eps)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from (x, w, b), channel by channel."""
    x, w, b, running, eps = call
    images, channels, height, width = x.shape
    m, zero = images * height * width, x.dtype.type(0)
    mean, variance = running or (np.zeros(channels, x.dtype), np.zeros(channels, x.dtype))
    y = np.zeros(x.shape, x.dtype)
    for c in range(channels):
        if running is None:
            entries = [x[n, c, i, j] for n, i, j in positions(images, height, width)]
            mean[c] = sum(entries, zero) / m
            variance[c] = sum(((entry - mean[c]) * (entry - mean[c]) for entry in entries), zero) / m
        r = 1 / np.sqrt(variance[c] + eps)
        for n, i, j in positions(images, height, width):
            h = (x[n, c, i, j] - mean[c]) * r
            y[n, c, i, j] = (h if w is None else w[c] * h) + (zero if b is None else b[c])
    return y, _Kept(x, w, b, mean, variance, eps, running is None)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx, dw, db) from dy, channel by channel."""
    x, w, b, mean, variance, eps, training = kept
    images, channels, height, width = x.shape
    m = images * height * width
    dx, dw, db = np.zeros(x.shape, x.dtype), np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    for c in range(channels):
        r = 1 / np.sqrt(variance[c] + eps)
        sum_dh = sum_dh_h = x.dtype.type(0)
        for n, i, j in positions(images, height, width):
            h = (x[n, c, i, j] - mean[c]) * r
            db[c] += dy[n, c, i, j]
            dw[c] += dy[n, c, i, j] * h
            dh = dy[n, c, i, j] if w is None else dy[n, c, i, j] * w[c]
            sum_dh += dh
            sum_dh_h += dh * h
        for n, i, j in positions(images, height, width):
            h = (x[n, c, i, j] - mean[c]) * r
            dh = dy[n, c, i, j] if w is None else dy[n, c, i, j] * w[c]
            dx[n, c, i, j] = r * (dh - sum_dh / m - h * (sum_dh_h / m)) if training else r * dh
    return dx, None if w is None else dw, None if b is None else db


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from (x, w, b), some channels at once."""
    x, w, b, running, eps = call
    planes, m = _by_channel(x), len(x) * x.shape[2] * x.shape[3]
    mean, variance = running or np.zeros((2, len(planes)), x.dtype)
    y = np.empty(x.shape, x.dtype)
    y_planes = _by_channel(y)
    for here in chunks(planes):
        if running is None:
            mean[here] = planes[here].sum(axis=(1, 2)) / m
        z = planes[here] - mean[here, None, None]
        if running is None:
            variance[here] = np.einsum("cnk,cnk->c", z, z) / m
        r = 1 / np.sqrt(variance[here] + eps)
        z *= (r if w is None else r * w[here])[:, None, None]
        y_planes[here] = z if b is None else z + b[here, None, None]
    return y, _Kept(x, w, b, mean, variance, eps, running is None)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx, dw, db) from dy, some channels at once. The sums of dh = dy w are w db and w dw."""
    x, w, b, mean, variance, eps, training = kept
    planes, upstream, m = _by_channel(x), _by_channel(dy), len(x) * x.shape[2] * x.shape[3]
    dx, dw, db = np.empty(x.shape, x.dtype), *np.zeros((2, len(planes)), x.dtype)
    dx_planes = _by_channel(dx)
    for here in chunks(planes):
        r = 1 / np.sqrt(variance[here] + eps)
        h = (planes[here] - mean[here, None, None]) * r[:, None, None]
        dw[here], db[here] = np.einsum("cnk,cnk->c", upstream[here], h), upstream[here].sum(axis=(1, 2))
        h *= dw[here, None, None] / m
        centred = upstream[here] - db[here, None, None] / m - h if training else upstream[here]
        dx_planes[here] = centred * (r if w is None else r * w[here])[:, None, None]
    return dx, None if w is None else dw, None if b is None else db


def _by_channel(array: Array) -> Array:
    """Return the array as (C, N, H * W), a view if it is contiguous. Sums of channels then have one order."""
    images, channels, height, width = array.shape
    return np.ascontiguousarray(array).reshape(images, channels, height * width).swapaxes(0, 1)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
