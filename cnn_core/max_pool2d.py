"""Two-dimensional max pooling, with the index of every winner.

    y[n, c, i, j] = max over taps (p, q) of x[n, c, h, v],  h = i*sH + p*dH - top,  v = j*sW + q*dW - left
    indices[n, c, i, j] = h*W + v of the tap that won
    dx[n, c, h, v] = sum of dy[n, c, i, j] over all windows (i, j) that (h, v) won

Taps in the padding never win. Among equal maxima the first in row-major order wins, and gets all of dy.
NaN beats every number, and the last of several NaN wins, as in PyTorch. Complex arrays (the complex
step) are compared by their real parts.

Shapes: x (N, C, H, W), y and cache.indices (N, C, oH, oW). One dtype: float32, float64, complex64 or
complex128. Indices are int64 and flat in the unpadded H x W plane.

Options, as in torch.nn.functional.max_pool2d: kernel_size, stride (default: kernel_size), padding,
dilation, ceil_mode. Padding may also be ((top, bottom), (left, right)), "valid", or "same" (stride 1).
It may be up to half the dilated window, which "same" needs. PyTorch allows half of kernel_size.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank and sizes that do not fit. It also refuses padding
of more than half the window, and windows without an entry of x.

Source: torch.nn.functional.max_pool2d (semantics); Ranzato et al. 2007, CVPR (max pooling).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._blocked import max_pool2d as blocks
from cnn_core._geometry import Axis, Padding, Pair, pooling_axes, positions
from cnn_core._options import pair


class _Call(NamedTuple):
    """The argument of a call, and the windows."""

    x: Array
    rows: Axis
    columns: Axis


class _Kept(NamedTuple):
    """What backward needs: the winners, and no entry of x. The axes say which windows they won."""

    indices: Array
    x_shape: tuple[int, ...]
    rows: Axis
    columns: Axis


def _prepare(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    kernel = pair("kernel_size", kernel_size, 1)
    axes = pooling_axes(
        (x.shape[2], x.shape[3]),
        kernel,
        stride=kernel if stride is None else stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    return _Call(x, *axes)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one comparison at a time."""
    x, rows, columns = call
    shape = (*x.shape[:2], rows.out, columns.out)
    y, indices = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for n, c, i, j in positions(*shape):
        window = _window(i, j, rows, columns)
        won_h, won_v = window[0]
        for h, v in window:
            value = x[n, c, h, v].real
            if value > x[n, c, won_h, won_v].real or math.isnan(value):
                won_h, won_v = h, v
        y[n, c, i, j] = x[n, c, won_h, won_v]
        indices[n, c, i, j] = won_h * columns.size + won_v
    return y, _Kept(indices, x.shape, rows, columns)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each dy is added at the winner of its window, one at a time."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    for n, c, i, j in positions(*dy.shape):
        h, v = divmod(kept.indices[n, c, i, j], dx.shape[3])
        dx[n, c, h, v] += dy[n, c, i, j]
    return (dx,)


def _window(i: int, j: int, rows: Axis, columns: Axis) -> list[tuple[int, int]]:
    """Return the entries (h, v) of x in window (i, j), in row-major order, without the padding."""
    taps = ((rows.source(i, p), columns.source(j, q)) for p, q in positions(rows.kernel, columns.kernel))
    return [(h, v) for h, v in taps if 0 <= h < rows.size and 0 <= v < columns.size]


def _im2col_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: unfold every window, and take the largest of its entries.

    The taps (oH, oW, K) hold the index of each entry in its plane. Those in the padding count as -inf.
    """
    x, rows, columns = call
    h, v = (np.array([[axis.source(o, t) for t in range(axis.kernel)] for o in range(axis.out)]) for axis in call[1:])
    inside = np.logical_and.outer((h >= 0) & (h < rows.size), (v >= 0) & (v < columns.size))
    flat = np.where(inside, np.add.outer(h * columns.size, v), 0)
    shape = (rows.out, columns.out, rows.kernel * columns.kernel)
    inside, flat = (each.swapaxes(1, 2).reshape(shape) for each in (inside, flat))
    planes = x.reshape(*x.shape[:2], rows.size * columns.size)
    unfolded = np.where(inside, planes.real[:, :, flat], -np.inf)
    last_nan = shape[2] - 1 - np.isnan(unfolded)[..., ::-1].argmax(axis=-1)
    winner = np.where(np.isnan(unfolded).any(axis=-1), last_nan, unfolded.argmax(axis=-1))
    winner = np.maximum(winner, inside.argmax(axis=-1))  # of a window of -inf, the first that is no padding
    indices = np.take_along_axis(np.broadcast_to(flat, unfolded.shape), winner[..., None], axis=-1)[..., 0]
    y = np.take_along_axis(planes, indices.reshape(*x.shape[:2], shape[0] * shape[1]), axis=-1).reshape(indices.shape)
    return y, _Kept(indices, x.shape, rows, columns)


def _im2col_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: fold back, each dy is added at the winner of its window, all at once."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    images, channels = (np.arange(size)[..., None] for size in dx.shape[:2])
    flat = dx.reshape(*dx.shape[:2], dx.shape[2] * dx.shape[3])
    place = images[..., None], channels, kept.indices.reshape(*dx.shape[:2], dy.shape[2] * dy.shape[3])
    np.add.at(flat, place, dy.reshape(place[2].shape))
    return (dx,)


def _blocked_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, many planes at once: tuned, see `cnn_core._blocked`."""
    x, rows, columns = call
    y, indices = blocks.forward(x.real, rows, columns)
    if np.iscomplexobj(x):
        flat = x.reshape(*x.shape[:2], rows.size * columns.size)
        y = np.take_along_axis(flat, indices.reshape(*x.shape[:2], rows.out * columns.out), axis=2).reshape(y.shape)
    return y, _Kept(indices, x.shape, rows, columns)


def _blocked_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each dy is added at the winner of its window, many planes at once."""
    return (blocks.backward(dy, kept.indices, kept.x_shape),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
im2col = implement("im2col", _prepare, _im2col_forward, _im2col_backward)
blocked = implement("blocked", _prepare, _blocked_forward, _blocked_backward)
fast = blocked
