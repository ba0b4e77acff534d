"""Unfolding of an image into the columns of its sliding windows: im2col.

    y[n, (c*kH + p)*kW + q, i*oW + j] = x[n, c, h, v],  h = i*sH + p*dH - top,  v = j*sW + q*dW - left

An entry whose (h, v) lies outside x, in the padding, is 0. Here s is the stride and d the dilation. Column i*oW + j
holds window (i, j), channel by channel, each in row-major order.

Every entry of y is a copy of one entry of x, or 0. Let L be a function of y, with dy = dL/dy. By the chain rule
dL/dx[n, c, h, v] is the sum of dy over the copies of x[n, c, h, v]:
    dx[n, c, h, v] = sum of dy[n, (c*kH + p)*kW + q, i*oW + j] over all (p, q, i, j) with that (h, v)

So backward is `fold2d`, and the two are adjoint: sum(dy * unfold2d(x)) = sum(fold2d(dy) * x).

Shapes: x (N, C, H, W), y (N, C*kH*kW, oH*oW) with oH = (H + top + bottom - dH*(kH - 1) - 1) // sH + 1, and oW
likewise. N = 0 is allowed. Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.unfold: kernel_size, stride, padding, dilation (an integer or a pair). Padding may
also be ((top, bottom), (left, right)), "valid" (none) or "same". The last one needs stride 1.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank and a window larger than the padded image.
Source: torch.nn.functional.unfold; Chellapilla et al. 2006, "High performance convolutional neural networks for
document processing" (the unfolding).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import Axis, Padding, Pair, positions, sliding_axes
from cnn_core._options import pair


class _Call(NamedTuple):
    """The argument of a call, and its windows."""

    x: Array
    rows: Axis
    columns: Axis


class _Kept(NamedTuple):
    """What backward needs: the shape of x, and no entry of it."""

    x_shape: tuple[int, ...]
    rows: Axis
    columns: Axis


def _prepare(x: Array, *, kernel_size: Pair, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    kernel = pair("kernel_size", kernel_size, 1)
    size = (x.shape[2], x.shape[3])
    return _Call(x, *sliding_axes(size, kernel, stride=stride, padding=padding, dilation=dilation))


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one copied entry at a time."""
    x, rows, columns = call
    taps, windows = rows.kernel * columns.kernel, rows.out * columns.out
    y = np.zeros((len(x), x.shape[1] * taps, windows), x.dtype)
    for n, c, p, q, i, j in positions(*x.shape[:2], rows.kernel, columns.kernel, rows.out, columns.out):
        h, v = rows.source(i, p), columns.source(j, q)
        if 0 <= h < rows.size and 0 <= v < columns.size:
            y[n, (c * rows.kernel + p) * columns.kernel + q, i * columns.out + j] = x[n, c, h, v]
    return y, _Kept(x.shape, rows, columns)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each dy is added where its entry was copied from."""
    x_shape, rows, columns = kept
    dx = np.zeros(x_shape, dy.dtype)
    for n, c, p, q, i, j in positions(*x_shape[:2], rows.kernel, columns.kernel, rows.out, columns.out):
        h, v = rows.source(i, p), columns.source(j, q)
        if 0 <= h < rows.size and 0 <= v < columns.size:
            dx[n, c, h, v] += dy[n, (c * rows.kernel + p) * columns.kernel + q, i * columns.out + j]
    return (dx,)


def _im2col_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: for each tap, all entries that it reads, as one slice of the padded image."""
    x, rows, columns = call
    xp = np.pad(x, ((0, 0), (0, 0), (rows.before, rows.after), (columns.before, columns.after)))
    taps = np.zeros((*x.shape[:2], rows.kernel, columns.kernel, rows.out, columns.out), x.dtype)
    for p, q in positions(rows.kernel, columns.kernel):
        taps[:, :, p, q] = xp[:, :, rows.reads(p), columns.reads(q)]
    y = taps.reshape(len(x), x.shape[1] * rows.kernel * columns.kernel, rows.out * columns.out)
    return y, _Kept(x.shape, rows, columns)


def _im2col_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: for each tap, add its part of dy to the slice that it read; then crop the padding."""
    x_shape, rows, columns = kept
    taps = dy.reshape(*x_shape[:2], rows.kernel, columns.kernel, rows.out, columns.out)
    dxp = np.zeros((*x_shape[:2], rows.padded, columns.padded), dy.dtype)
    for p, q in positions(rows.kernel, columns.kernel):
        dxp[:, :, rows.reads(p), columns.reads(q)] += taps[:, :, p, q]
    return (dxp[:, :, rows.inner, columns.inner].copy(),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
im2col = implement("im2col", _prepare, _im2col_forward, _im2col_backward)
fast = im2col
