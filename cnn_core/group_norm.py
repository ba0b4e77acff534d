"""Group normalization: one mean and variance for each image and each group of channels.

    mean[n, g] = (1/m) sum_{c in g, k} x[n, c, k]                 m = C/num_groups * (entries k of a channel)
    variance[n, g] = (1/m) sum_{c in g, k} (x[n, c, k] - mean[n, g])^2
    h[n, c, k] = (x[n, c, k] - mean[n, g]) * r[n, g]              r[n, g] = (variance[n, g] + eps)^(-1/2)
    y[n, c, k] = w[c] * h[n, c, k] + b[c]                         g = c // (C/num_groups), the group of channel c

Backward, with sums over the m entries of one image and group unless said otherwise:

    db[c] = sum_{n,k} dy[n, c, k]             dw[c] = sum_{n,k} dy[n, c, k] h[n, c, k]
    1. y = w h + b:                           dh = w dy
    2. h = z r with z = x - mean:             dz = r dh              dr = sum dh z
    3. r = (variance + eps)^(-1/2):           dvariance = -1/2 r^3 dr = -1/2 r^2 sum dh h,  because z = h / r
    4. variance = (1/m) sum z^2:              dz = r dh + (2/m) z dvariance = r (dh - (1/m) h sum dh h)
    5. z = x - mean, mean = (1/m) sum x:      dx = dz - (1/m) sum dz,  where sum dz = r sum dh because sum h = 0

    dx = r (dh - (1/m) sum dh - (1/m) h sum dh h)

The weights differ within a group, so the sums of dh are not those of dy times a weight (as in a batch norm).
With one group this is a layer normalization of whole images; with C groups it is an instance normalization.

Shapes: x and y (N, C, ...), w and b (C,) or None (ones and zeros). N = 0 is allowed.
Dtypes: float32, float64, complex64 or complex128, one for all arrays. For complex arrays backward is the
holomorphic derivative (nothing is conjugated). A group of one entry has variance 0, h = 0 and dx = 0. PyTorch
computes that for two images, and refuses it for one.

Options, as in torch.nn.functional.group_norm: num_groups, a divisor of C, and eps.
Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for shapes and groups that do not fit, and a negative eps.

Source: Wu & He 2018, "Group normalization", arXiv:1803.08494; torch.nn.functional.group_norm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_parameters, implement, real_number
from cnn_core._chunks import chunks
from cnn_core._geometry import positions
from cnn_core._options import whole_number


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too. `grouped` is the shape (N, num_groups, C/num_groups, K)."""

    x: Array
    w: Array | None
    b: Array | None
    grouped: tuple[int, int, int, int]
    eps: float


def _prepare(x: Array, w: Array | None = None, b: Array | None = None, *, num_groups: int, eps: float = 1e-5) -> _Call:
    check_arrays("w b", x=x, w=w, b=b)
    if x.ndim < 2:
        raise ValueError(f"x must have at least 2 axes (N C ...), got shape {x.shape}")
    images, channels, *rest = x.shape
    groups = whole_number("num_groups", num_groups, 1)
    if channels % groups:
        raise ValueError(f"num_groups={groups} must divide the {channels} channels of x (x: {x.shape})")
    check_parameters((channels,), "a channel", w=w, b=b)
    return _Call(x, w, b, (images, groups, channels // groups, math.prod(rest)), real_number("eps", eps, 0))


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), group by group."""
    x, w, b, (images, groups, channels, entries), _ = call
    y = np.zeros((images, groups * channels, entries), x.dtype)
    for n, g in positions(images, groups):
        h, _ = _naive_normalized(n, g, call)
        for c, k in h:
            scaled = h[c, k] if w is None else w[c] * h[c, k]
            y[n, c, k] = scaled if b is None else scaled + b[c]
    return y.reshape(x.shape), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, group by group."""
    x, w, b, (images, groups, channels, entries), _ = call
    m, upstream = channels * entries, dy.reshape(images, groups * channels, entries)
    dx, dw, db = np.zeros(upstream.shape, x.dtype), *np.zeros((2, groups * channels), x.dtype)
    for n, g in positions(images, groups):
        h, r = _naive_normalized(n, g, call)
        dh = {(c, k): upstream[n, c, k] if w is None else w[c] * upstream[n, c, k] for c, k in h}
        sum_dh, sum_dh_h = sum(dh.values()), sum(dh[place] * h[place] for place in h)
        for c, k in h:
            db[c] += upstream[n, c, k]
            dw[c] += upstream[n, c, k] * h[c, k]
            dx[n, c, k] = r * (dh[c, k] - sum_dh / m - h[c, k] * (sum_dh_h / m))
    return dx.reshape(x.shape), None if w is None else dw, None if b is None else db


def _naive_normalized(n: int, g: int, call: _Call) -> tuple[dict[tuple[int, int], np.inexact], np.inexact]:
    """Return h[n, c, k] for every channel c of group g and every k, and r[n, g]."""
    x, _, _, (images, groups, channels, entries), eps = call
    m, zero, flat = channels * entries, x.dtype.type(0), x.reshape(images, groups * channels, entries)
    values = {(g * channels + c, k): flat[n, g * channels + c, k] for c, k in positions(channels, entries)}
    mean = sum(values.values(), zero) / m
    variance = sum(((value - mean) * (value - mean) for value in values.values()), zero) / m
    r = 1 / np.sqrt(variance + eps)
    return {place: (value - mean) * r for place, value in values.items()}, r


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), many groups at once."""
    x, w, b, _, eps = call
    groups, weight, bias = _groups(x, call), _by_group(w, call), _by_group(b, call)
    y = np.empty_like(groups)
    for here in chunks(groups):
        h, _ = _vectorized_normalized(groups[here], eps)
        if weight is not None:
            h *= weight[here]
        y[here] = h if bias is None else h + bias[here]
    return y.reshape(x.shape), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, many groups at once."""
    x, w, b, grouped, eps = call
    groups, upstream, weight = _groups(x, call), _groups(dy, call), _by_group(w, call)
    dx, m = np.empty_like(groups), grouped[2] * grouped[3]
    dw, db = np.zeros((2, *groups.shape[:2]), x.dtype)  # of each image
    for here in chunks(groups):
        h, r = _vectorized_normalized(groups[here], eps)
        dh = upstream[here] if weight is None else upstream[here] * weight[here]
        sum_dh, sum_dh_h = dh.sum(axis=(1, 2)), np.einsum("gck,gck->g", dh, h)
        dw[here], db[here] = np.einsum("gck,gck->gc", upstream[here], h), upstream[here].sum(axis=2)
        dx[here] = (dh - sum_dh[:, None, None] / m - h * (sum_dh_h[:, None, None] / m)) * r
    dw, db = (each.reshape(grouped[0], grouped[1] * grouped[2]).sum(axis=0) for each in (dw, db))
    return dx.reshape(x.shape), None if w is None else dw, None if b is None else db


def _vectorized_normalized(groups: Array, eps: float) -> tuple[Array, Array]:
    """Return h and r of some groups (R, C/num_groups, K): that shape and (R, 1, 1)."""
    m = groups.shape[1] * groups.shape[2]
    z = groups - groups.sum(axis=(1, 2))[:, None, None] / m
    r = 1 / np.sqrt(np.einsum("gck,gck->g", z, z)[:, None, None] / m + eps)
    z *= r
    return z, r


def _groups(array: Array, call: _Call) -> Array:
    """Return the array as (N * num_groups, C/num_groups, K). Sums of groups then have one order."""
    images, groups, channels, entries = call.grouped
    return np.ascontiguousarray(array).reshape(images * groups, channels, entries)


def _by_group(parameter: Array | None, call: _Call) -> Array | None:
    """Return w or b for all groups of all images, (N * num_groups, C/num_groups, 1)."""
    images, groups, channels, _ = call.grouped
    return None if parameter is None else np.tile(parameter.reshape(groups, channels, 1), (images, 1, 1))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
