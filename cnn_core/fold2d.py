"""Folding of columns into the image whose sliding windows they are: col2im. Overlapping entries are summed.

    y[n, c, h, v] = sum of x[n, (c*kH + p)*kW + q, i*oW + j] over all taps (p, q) of all windows (i, j) with
                    h = i*sH + p*dH - top,  v = j*sW + q*dW - left

Here s is the stride and d the dilation. An entry of x whose (h, v) lies outside y, in the padding, is dropped. An
entry of y that no window covers is 0.

Every entry of x is added to one entry of y, or dropped. Let L be a function of y, with dy = dL/dy. By the chain rule
    dx[n, (c*kH + p)*kW + q, i*oW + j] = dy[n, c, h, v], or 0 if (h, v) lies outside y

So backward is `unfold2d`, and the two are adjoint: sum(dy * fold2d(x)) = sum(unfold2d(dy) * x). They are no inverses:
fold2d(unfold2d(x)) is x times the number of windows that cover each entry.

Shapes: x (N, C*kH*kW, oH*oW), y (N, C, H, W) with (H, W) = output_size. There are oH*oW windows:
    oH = (H + top + bottom - dH*(kH - 1) - 1) // sH + 1, and oW likewise
N = 0 is allowed. Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.fold: output_size, kernel_size, stride, padding, dilation (an integer or a pair).
Padding may also be ((top, bottom), (left, right)), "valid" (none) or "same". The last one needs stride 1.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank, and for a window larger than the padded image.
Raises ValueError, quoting the values, if x does not have as many rows or columns as the options say.
Source: torch.nn.functional.fold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import Axis, Padding, Pair, positions, sliding_axes
from cnn_core._options import pair


class _Call(NamedTuple):
    """The argument of a call, the channels of y, and the windows of y."""

    x: Array
    channels: int
    rows: Axis
    columns: Axis


class _Kept(NamedTuple):
    """What backward needs: the shape of x, and no entry of it."""

    x_shape: tuple[int, ...]
    rows: Axis
    columns: Axis


def _prepare(
    x: Array,
    *,
    output_size: Pair,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C*kH*kW oH*oW")
    size, kernel = pair("output_size", output_size, 1), pair("kernel_size", kernel_size, 1)
    rows, columns = sliding_axes(size, kernel, stride=stride, padding=padding, dilation=dilation)
    channels, left = divmod(x.shape[1], kernel[0] * kernel[1])
    if left:
        raise ValueError(f"kernel_size {kernel} needs a multiple of {kernel[0] * kernel[1]} rows, x has {x.shape[1]}")
    if x.shape[2] != rows.out * columns.out:
        raise ValueError(
            f"output_size {size} has {rows.out}x{columns.out} windows, x has {x.shape[2]} columns "
            f"(x: {x.shape}, kernel_size={kernel}, stride={stride}, padding={padding}, dilation={dilation})"
        )
    return _Call(x, channels, rows, columns)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one sum at a time."""
    x, channels, rows, columns = call
    y = np.zeros((len(x), channels, rows.size, columns.size), x.dtype)
    for n, c, p, q, i, j in positions(len(x), channels, rows.kernel, columns.kernel, rows.out, columns.out):
        h, v = rows.source(i, p), columns.source(j, q)
        if 0 <= h < rows.size and 0 <= v < columns.size:
            y[n, c, h, v] += x[n, (c * rows.kernel + p) * columns.kernel + q, i * columns.out + j]
    return y, _Kept(x.shape, rows, columns)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each entry of x gets the dy of the entry that it was added to."""
    x_shape, rows, columns = kept
    dx = np.zeros(x_shape, dy.dtype)
    for n, c, p, q, i, j in positions(*dy.shape[:2], rows.kernel, columns.kernel, rows.out, columns.out):
        h, v = rows.source(i, p), columns.source(j, q)
        if 0 <= h < rows.size and 0 <= v < columns.size:
            dx[n, (c * rows.kernel + p) * columns.kernel + q, i * columns.out + j] = dy[n, c, h, v]
    return (dx,)


def _im2col_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: for each tap, add its part of x to one slice of the padded image; then crop."""
    x, channels, rows, columns = call
    taps = x.reshape(len(x), channels, rows.kernel, columns.kernel, rows.out, columns.out)
    yp = np.zeros((len(x), channels, rows.padded, columns.padded), x.dtype)
    for p, q in positions(rows.kernel, columns.kernel):
        yp[:, :, rows.reads(p), columns.reads(q)] += taps[:, :, p, q]
    return yp[:, :, rows.inner, columns.inner].copy(), _Kept(x.shape, rows, columns)


def _im2col_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: for each tap, copy the slice of the padded dy that its part of x was added to."""
    x_shape, rows, columns = kept
    dyp = np.pad(dy, ((0, 0), (0, 0), (rows.before, rows.after), (columns.before, columns.after)))
    taps = np.zeros((*dy.shape[:2], rows.kernel, columns.kernel, rows.out, columns.out), dy.dtype)
    for p, q in positions(rows.kernel, columns.kernel):
        taps[:, :, p, q] = dyp[:, :, rows.reads(p), columns.reads(q)]
    return (taps.reshape(x_shape),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
im2col = implement("im2col", _prepare, _im2col_forward, _im2col_backward)
fast = im2col
