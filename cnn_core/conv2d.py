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

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._blocked import conv2d as blocks
from cnn_core._geometry import Axis, Padding, Pair, positions, sliding_axes
from cnn_core._options import whole_number


class _Call(NamedTuple):
    """The arguments of a call, checked. Backward needs them too."""

    x: Array
    w: Array
    b: Array | None
    rows: Axis
    columns: Axis
    groups: int


def _prepare(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> _Call:
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
    axes = sliding_axes(size, (height, width), stride=stride, padding=padding, dilation=dilation)
    return _Call(x, w, b, *axes, groups)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), one product at a time."""
    x, w, b, rows, columns, _ = call
    xp = _padded(x, rows, columns)
    y = np.zeros((len(x), len(w), rows.out, columns.out), x.dtype)
    for (n, f, c, p, q, i, j), channel, h, v in _products(call):
        y[n, f, i, j] += w[f, c, p, q] * xp[n, channel, h, v]
    if b is not None:
        for n, f, i, j in positions(*y.shape):
            y[n, f, i, j] += b[f]
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, one product at a time."""
    x, w, b, rows, columns, _ = call
    xp = _padded(x, rows, columns)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for (n, f, c, p, q, i, j), channel, h, v in _products(call):
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
    size = rows.before + rows.size + rows.after, columns.before + columns.size + columns.after
    xp = np.zeros((*x.shape[:2], *size), x.dtype)
    xp[:, :, rows.before : rows.before + rows.size, columns.before : columns.before + columns.size] = x
    return xp


def _products(call: _Call) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """Yield the indices (n, f, c, p, q, i, j) of every product of the formula, and its position in xp."""
    x, w, _, rows, columns, groups = call
    filters, channels = len(w), w.shape[1]
    for n, f, c, p, q, i, j in positions(len(x), *w.shape, rows.out, columns.out):
        channel = f // (filters // groups) * channels + c
        h, v = i * rows.stride + p * rows.dilation, j * columns.stride + q * columns.dilation
        yield (n, f, c, p, q, i, j), channel, h, v


def _im2col_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b): unfold every window into a column, and multiply by the filters."""
    x, w, b, rows, columns, groups = call
    filters, unfolded = w.reshape(groups, len(w) // groups, math.prod(w.shape[1:])), _unfolded(call)
    y = (filters @ unfolded).reshape(len(x), len(w), rows.out, columns.out)
    return y if b is None else y + b[:, None, None], call


def _im2col_backward(dy: Array, call: _Call, *, need_dx: bool = True) -> Gradients:
    """Compute (dx, dw, db) from dy: multiply by the columns, and fold the columns' gradients back.

    Without `need_dx` dx is None.
    """
    x, w, b, rows, columns, groups = call
    filters = w.reshape(groups, len(w) // groups, math.prod(w.shape[1:]))
    upstream = dy.reshape(len(x), *filters.shape[:2], rows.out * columns.out)
    dw = (upstream @ _unfolded(call).swapaxes(2, 3)).sum(axis=0).reshape(w.shape)
    dx = _folded(filters.swapaxes(1, 2) @ upstream, call) if need_dx else None
    return dx, dw, None if b is None else dy.sum(axis=(0, 2, 3))


def _unfolded(call: _Call) -> Array:
    """im2col: x as (N, groups, K, oH * oW), a column of K = C/groups * kH * kW entries for each window."""
    x, w, _, rows, columns, groups = call
    xp, inside = _rim(call)
    xp[inside] = x
    taps = np.zeros((*x.shape[:2], rows.kernel, columns.kernel, rows.out, columns.out), x.dtype)
    for p, q in positions(rows.kernel, columns.kernel):
        taps[:, :, p, q] = xp[:, :, _tap(rows, p), _tap(columns, q)]
    return taps.reshape(len(x), groups, math.prod(w.shape[1:]), rows.out * columns.out)


def _folded(unfolded: Array, call: _Call) -> Array:
    """col2im, the adjoint of im2col: every entry of x gets the sum of the entries that were copied from it."""
    x, _, _, rows, columns, _ = call
    taps = unfolded.reshape(*x.shape[:2], rows.kernel, columns.kernel, rows.out, columns.out)
    xp, inside = _rim(call)
    for p, q in positions(rows.kernel, columns.kernel):
        xp[:, :, _tap(rows, p), _tap(columns, q)] += taps[:, :, p, q]
    return xp[inside].copy()


def _rim(call: _Call) -> tuple[Array, tuple[slice, ...]]:
    """Zeros of the size of padded x, and the place of x in it."""
    x, _, _, *axes, _ = call
    size = [axis.before + axis.size + axis.after for axis in axes]
    inside = [slice(axis.before, axis.before + axis.size) for axis in axes]
    return np.zeros((*x.shape[:2], *size), x.dtype), (slice(None), slice(None), *inside)


def _tap(axis: Axis, tap: int) -> slice:
    """The entries of a padded axis that this tap of all windows reads."""
    first = tap * axis.dilation
    return slice(first, first + (axis.out - 1) * axis.stride + 1, axis.stride)


def _blocked_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b) as matrix products, block by block: tuned, see `cnn_core._blocked`."""
    return blocks.correlate(*call), call


def _blocked_backward(dy: Array, call: _Call, *, need_dx: bool = True) -> Gradients:
    """Compute (dx, dw, db) from dy as matrix products, block by block. Without `need_dx` dx is None."""
    x, w, b, rows, columns, groups = call
    dx = blocks.input_gradient(dy, w, x.shape, rows, columns, groups) if need_dx else None
    dw = blocks.filter_gradient(x, w, dy, rows, columns, groups)
    return dx, dw, None if b is None else dy.sum(axis=(0, 2, 3))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
im2col = implement("im2col", _prepare, _im2col_forward, _im2col_backward)
blocked = implement("blocked", _prepare, _blocked_forward, _blocked_backward)
fast = blocked
