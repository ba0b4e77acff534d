"""Two-dimensional convolution (cross-correlation, as in every deep-learning library).

    y[n, f, i, j] = b[f] + sum_{c, p, q} w[f, c, p, q] * xp[n, g*C/groups + c, i*sH + p*dH, j*sW + q*dW]

Here xp is x padded with zeros, g = f // (F/groups) is the group of filter f, s the stride and d the
dilation. The upstream gradient dy has the shape of y. The three gradients are
    dx[n, g*C/groups + c, h, w] = sum of w[f, c, p, q] * dy[n, f, i, j] over all (f, p, q, i, j) that read it
    dw[f, c, p, q] = sum_{n, i, j} dy[n, f, i, j] * xp[n, g*C/groups + c, i*sH + p*dH, j*sW + q*dW]
    db[f] = sum_{n, i, j} dy[n, f, i, j]

Shapes: x (N, C, H, W), w (F, C/groups, kH, kW), b (F,) or None. The result y has shape (N, F, oH, oW) with
oH = (H + top + bottom - dH*(kH - 1) - 1) // sH + 1, and oW likewise. N = 0 is allowed.
One dtype for all arrays: float32, float64, complex64 or complex128. For complex arrays backward is
the holomorphic derivative (nothing is conjugated).

Options, as in torch.nn.functional.conv2d: stride, padding, dilation (an integer or a pair), groups.
Padding may also be ((top, bottom), (left, right)), "valid" (none) or "same". The last one needs stride 1,
and puts the larger half of an odd total behind.

Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for ranks, channels, groups and sizes that do not fit.
Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnn_core import _conv2d_fast
from cnn_core._arguments import (
    Array,
    Gradients,
    Implementation,
    check_arrays,
    check_cache,
    check_rank,
    check_upstream,
)
from cnn_core._geometry import Axis, Padding, Pair, positions, sliding_axes, whole_number


class _Cache(NamedTuple):
    x: Array
    w: Array
    b: Array | None
    rows: Axis
    columns: Axis
    groups: int


class _NaiveCache(_Cache):
    """The values that the naive forward keeps for its backward."""


class _Im2colCache(_Cache):
    """The values that the im2col forward keeps for its backward."""


def _naive_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, _NaiveCache]:
    """Compute (y, cache) from (x, w, b), one product at a time."""
    rows, columns, groups = _geometry(x, w, b, stride, padding, dilation, groups)
    cache = _NaiveCache(x, w, b, rows, columns, groups)
    xp = _padded(x, rows, columns)
    y = np.zeros((len(x), len(w), rows.out, columns.out), x.dtype)
    for (n, f, c, p, q, i, j), channel, h, v in _products(cache):
        y[n, f, i, j] += w[f, c, p, q] * xp[n, channel, h, v]
    if b is not None:
        for n, f, i, j in positions(*y.shape):
            y[n, f, i, j] += b[f]
    return y, cache


def _naive_backward(dy: Array, cache: _NaiveCache) -> Gradients:
    """Compute (dx, dw, db) from dy, one product at a time."""
    x, w, b, rows, columns, _ = check_cache(cache, _NaiveCache)
    dy = check_upstream(dy, (len(x), len(w), rows.out, columns.out), x.dtype)
    xp = _padded(x, rows, columns)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for (n, f, c, p, q, i, j), channel, h, v in _products(cache):
        dxp[n, channel, h, v] += w[f, c, p, q] * dy[n, f, i, j]
        dw[f, c, p, q] += xp[n, channel, h, v] * dy[n, f, i, j]
    dx = dxp[:, :, rows.before : rows.before + rows.size, columns.before : columns.before + columns.size].copy()
    if b is None:
        return dx, dw, None
    db = np.zeros_like(b)
    for n, f, i, j in positions(*dy.shape):
        db[f] += dy[n, f, i, j]
    return dx, dw, db


def _padded(x: Array, rows: Axis, columns: Axis) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (rows.before, rows.after), (columns.before, columns.after)))


def _products(cache: _NaiveCache) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """Yield the indices (n, f, c, p, q, i, j) of every product of the formula, and its position in xp."""
    x, w, _, rows, columns, groups = cache
    filters, channels = len(w), w.shape[1]
    for n, f, c, p, q, i, j in positions(len(x), *w.shape, rows.out, columns.out):
        channel = f // (filters // groups) * channels + c
        h, v = i * rows.stride + p * rows.dilation, j * columns.stride + q * columns.dilation
        yield (n, f, c, p, q, i, j), channel, h, v


def _im2col_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, _Im2colCache]:
    """Compute (y, cache) from (x, w, b) as matrix products, block by block."""
    rows, columns, groups = _geometry(x, w, b, stride, padding, dilation, groups)
    cache = _Im2colCache(x, w, b, rows, columns, groups)
    return _conv2d_fast.correlate(x, w, b, rows, columns, groups), cache


def _im2col_backward(dy: Array, cache: _Im2colCache, *, need_dx: bool = True) -> Gradients:
    """Compute (dx, dw, db) from dy as matrix products.

    Columns are unfolded again, because storing them would cost more. Without `need_dx` dx is None.
    """
    x, w, b, rows, columns, groups = check_cache(cache, _Im2colCache)
    dy = check_upstream(dy, (len(x), len(w), rows.out, columns.out), x.dtype)
    dx = _conv2d_fast.input_gradient(dy, w, x.shape, rows, columns, groups) if need_dx else None
    dw = _conv2d_fast.filter_gradient(x, w, dy, rows, columns, groups)
    return dx, dw, None if b is None else dy.sum(axis=(0, 2, 3))


def _geometry(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> tuple[Axis, Axis, int]:
    check_arrays("b", x=x, w=w, b=b)
    check_rank("x", x, "N C H W")
    check_rank("w", w, "F C/groups kH kW")
    groups = whole_number("groups", groups, 1)
    channels, (filters, per_group, height, width) = x.shape[1], w.shape
    if min(height, width) < 1:
        raise ValueError(f"the kernel of w must be at least 1x1, got {height}x{width} (w: {w.shape})")
    if channels % groups or filters % groups:
        raise ValueError(
            f"groups={groups} must divide both the {channels} channels of x and the {filters} filters of w"
        )
    if per_group * groups != channels:
        raise ValueError(
            f"x has {channels} channels, w expects {per_group * groups} "
            f"({per_group} a group, groups={groups}; x: {x.shape}, w: {w.shape})"
        )
    if b is not None and b.shape != (filters,):
        raise ValueError(f"b must have shape ({filters},), one entry a filter, got {b.shape}")
    size = (x.shape[2], x.shape[3])
    return *sliding_axes(size, (height, width), stride=stride, padding=padding, dilation=dilation), groups


naive = Implementation("naive", _naive_forward, _naive_backward)
im2col = Implementation("im2col", _im2col_forward, _im2col_backward)
