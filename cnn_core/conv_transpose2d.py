"""Two-dimensional transposed convolution: the adjoint of conv2d in its input, with a bias.

    yp[n, g*F/groups + f, i*sH + p*dH, j*sW + q*dW] = sum of w[c, f, p, q] * x[n, c, i, j]
        over all that land there
    y[n, f, h, v] = b[f] + yp[n, f, top + h, left + v]

Every entry x[n, c, i, j] lays the kernels w[c, f], multiplied by itself, on yp, and overlaps are summed. Here
g = c // (C/groups) is the group of channel c, s the stride and d the dilation. The result y is yp without its rim:
padding crops. With output_padding there are further rows and columns behind: only the bias.

Each product w[c, f, p, q] * x[n, c, i, j] is added to one entry of yp. Let L be a function of y, with dy = dL/dy, and
let dyp be dy padded with zeros where yp was cropped. Then dL/dyp = dyp, and the chain rule gives
    dx[n, c, i, j] = sum_{f, p, q} w[c, f, p, q] * dyp[n, g*F/groups + f, i*sH + p*dH, j*sW + q*dW]
    dw[c, f, p, q] = sum_{n, i, j} x[n, c, i, j] * dyp[n, g*F/groups + f, i*sH + p*dH, j*sW + q*dW]
    db[f] = sum_{n, h, v} dy[n, f, h, v]

So dx is conv2d of dy with these kernels, and y without its bias is the dx of a conv2d with the upstream gradient x.
An infinite entry of w or x times a zero around dy is NaN. PyTorch agrees in float64. Its float32 may skip the zeros.

Shapes: x (N, C, H, W), w (C, F/groups, kH, kW), b (F,) or None. The result y has shape (N, F, oH, oW) with
    oH = (H - 1)*sH + dH*(kH - 1) + 1 - top - bottom + output_padding, and oW likewise
N = 0 is allowed. One dtype for all arrays: float32, float64, complex64 or complex128. For complex arrays backward is
the holomorphic derivative (nothing is conjugated).

Options, as in torch.nn.functional.conv_transpose2d:

- stride, padding, output_padding and dilation, each an integer or a pair.
- groups.

The output_padding must be less than the stride or the dilation. Padding may also be ((top, bottom), (left, right)),
"valid" (none) or "same". The last one is what conv2d pads with it, and needs stride 1.

Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for ranks, channels, groups and sizes that do not fit.
Source: torch.nn.functional.conv_transpose2d; Dumoulin & Visin 2016, arXiv:1603.07285, chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._blocked import conv2d as blocks
from cnn_core._geometry import Axis, Padding, Pair, positions, transposed_axes
from cnn_core._options import whole_number


class _Call(NamedTuple):
    """The arguments of a call, checked. Backward needs them too. The axes are those of y."""

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
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> _Call:
    check_arrays("b", x=x, w=w, b=b)
    check_rank("x", x, "N C H W")
    check_rank("w", w, "C F/groups kH kW")
    groups = whole_number("groups", groups, 1)
    channels, filters, kernel = x.shape[1], groups * w.shape[1], (w.shape[2], w.shape[3])
    if min(kernel) < 1:
        raise ValueError(f"the kernel of w must be at least 1x1, got {kernel[0]}x{kernel[1]} (w: {w.shape})")
    if len(w) != channels:
        raise ValueError(f"x has {channels} channels, w expects {len(w)} (x: {x.shape}, w: {w.shape})")
    if channels % groups:
        raise ValueError(f"groups={groups} must divide the {channels} channels of x")
    if b is not None and b.shape != (filters,):
        raise ValueError(f"b must have shape ({filters},), one entry a filter, got {b.shape}")
    axes = transposed_axes(
        (x.shape[2], x.shape[3]),
        kernel,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )
    return _Call(x, w, b, *axes, groups)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), one product at a time."""
    x, w, b, rows, columns, groups = call
    yp = np.zeros((len(x), groups * w.shape[1], rows.padded, columns.padded), x.dtype)
    for (n, c, f, p, q, i, j), filter_, h, v in _products(call):
        yp[n, filter_, h, v] += w[c, f, p, q] * x[n, c, i, j]
    y = yp[:, :, rows.inner, columns.inner].copy()
    if b is not None:
        for n, f, h, v in positions(*y.shape):
            y[n, f, h, v] += b[f]
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, one product at a time."""
    x, w, b, rows, columns, _ = call
    dyp = np.zeros((*dy.shape[:2], rows.padded, columns.padded), dy.dtype)
    dyp[:, :, rows.inner, columns.inner] = dy
    dx, dw = np.zeros(x.shape, x.dtype), np.zeros(w.shape, w.dtype)
    for (n, c, f, p, q, i, j), filter_, h, v in _products(call):
        dx[n, c, i, j] += w[c, f, p, q] * dyp[n, filter_, h, v]
        dw[c, f, p, q] += x[n, c, i, j] * dyp[n, filter_, h, v]
    if b is None:
        return dx, dw, None
    db = np.zeros(b.shape, b.dtype)
    for n, f, h, v in positions(*dy.shape):
        db[f] += dy[n, f, h, v]
    return dx, dw, db


def _products(call: _Call) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """Yield the indices (n, c, f, p, q, i, j) of every product of the formula, and its filter and position in yp."""
    x, w, _, rows, columns, groups = call
    for n, c, f, p, q, i, j in positions(len(x), *w.shape, rows.out, columns.out):
        filter_ = c // (len(w) // groups) * w.shape[1] + f
        h, v = i * rows.stride + p * rows.dilation, j * columns.stride + q * columns.dilation
        yield (n, c, f, p, q, i, j), filter_, h, v


def _im2col_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b): multiply into the columns of all windows, and fold these (col2im)."""
    x, w, b, rows, columns, groups = call
    filters = w.reshape(groups, len(w) // groups, math.prod(w.shape[1:]))
    unfolded = filters.swapaxes(1, 2) @ _entries(call)
    taps = unfolded.reshape(len(x), groups * w.shape[1], *w.shape[2:], rows.out, columns.out)
    yp = np.zeros((*taps.shape[:2], rows.padded, columns.padded), x.dtype)
    for p, q in positions(*w.shape[2:]):
        yp[:, :, rows.reads(p), columns.reads(q)] += taps[:, :, p, q]
    y = yp[:, :, rows.inner, columns.inner]
    return y.copy() if b is None else y + b[:, None, None], call


def _im2col_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy: unfold every window (im2col), and multiply by the filters and by x."""
    x, w, b, rows, columns, groups = call
    filters = w.reshape(groups, len(w) // groups, math.prod(w.shape[1:]))
    dyp = np.zeros((*dy.shape[:2], rows.padded, columns.padded), dy.dtype)
    dyp[:, :, rows.inner, columns.inner] = dy
    taps = np.zeros((*dy.shape[:2], *w.shape[2:], rows.out, columns.out), dy.dtype)
    for p, q in positions(*w.shape[2:]):
        taps[:, :, p, q] = dyp[:, :, rows.reads(p), columns.reads(q)]
    unfolded = taps.reshape(len(x), groups, filters.shape[2], rows.out * columns.out)
    dx = (filters @ unfolded).reshape(x.shape)
    dw = (_entries(call) @ unfolded.swapaxes(2, 3)).sum(axis=0).reshape(w.shape)
    return dx, dw, None if b is None else dy.sum(axis=(0, 2, 3))


def _entries(call: _Call) -> Array:
    """Return x as (N, groups, C/groups, H*W): one column for each window of y."""
    x, _, _, rows, columns, groups = call
    return x.reshape(len(x), groups, x.shape[1] // groups, rows.out * columns.out)


def _blocked_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w, b), block by block: y is the dx of a conv2d, see `cnn_core._blocked`."""
    x, w, b, rows, columns, groups = call
    y = blocks.input_gradient(x, w, (len(x), groups * w.shape[1], rows.size, columns.size), rows, columns, groups)
    if b is not None:
        y += b[:, None, None]
    return y, call


def _blocked_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw, db) from dy, block by block: dx is conv2d of dy, whose upstream gradient is x in dw."""
    x, w, b, rows, columns, groups = call
    dx = blocks.correlate(dy, w, None, rows, columns, groups)
    dw = blocks.filter_gradient(dy, w, x, rows, columns, groups)
    return dx, dw, None if b is None else dy.sum(axis=(0, 2, 3))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
im2col = implement("im2col", _prepare, _im2col_forward, _im2col_backward)
blocked = implement("blocked", _prepare, _blocked_forward, _blocked_backward)
fast = blocked
