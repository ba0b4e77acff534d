"""Two-dimensional max pooling, with the index of every winner.

    y[n, c, i, j] = max over taps (p, q) of x[n, c, h, v],  h = i*sH + p*dH - top,  v = j*sW + q*dW - left
    indices[n, c, i, j] = h*W + v of the tap that won
    dx[n, c, h, v] = sum of dy[n, c, i, j] over all windows (i, j) that (h, v) won

Taps in the padding never win. Among equal maxima the first in row-major order takes all. NaN beats
every number, and of several NaN the last wins, as in PyTorch. Complex arrays (the complex step)
are compared by their real parts.

Shapes: x (N, C, H, W); y and cache.indices (N, C, oH, oW). One dtype: float32, float64, complex64 or
complex128; indices are int64, flat in the unpadded H x W plane.

Options, as in torch.nn.functional.max_pool2d: kernel_size, stride (default: kernel_size), padding,
dilation, ceil_mode. Padding besides: ((top, bottom), (left, right)), "valid", or "same" (stride 1).
Padding may be half the dilated window, which "same" needs; PyTorch stops at half of kernel_size.

Raises TypeError for integer or object dtypes and for a cache of another implementation; ValueError,
quoting the values, for a wrong rank, sizes that do not fit, padding of more than half the window,
and windows that would hold no entry of x.

Source: torch.nn.functional.max_pool2d (semantics); Ranzato et al. 2007, CVPR (max pooling).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import (
    Array,
    Gradients,
    Implementation,
    check_arrays,
    check_cache,
    check_rank,
    check_upstream,
)
from cnn_core._geometry import Axis, Padding, Pair, pair, positions, sliding_axes
from cnn_core._im2col import strided


class _Cache(NamedTuple):
    indices: Array
    x_shape: tuple[int, ...]
    dtype: np.dtype[np.inexact]
    rows: Axis
    columns: Axis


class _NaiveCache(_Cache):
    """What the naive forward leaves for its backward."""


class _Im2colCache(_Cache):
    """What the im2col forward leaves for its backward."""


def _naive_forward(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, _NaiveCache]:
    """The formula at the head of this module, one comparison at a time: x -> (y, cache)."""
    rows, columns = _geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
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
    return y, _NaiveCache(indices, x.shape, x.dtype, rows, columns)


def _naive_backward(dy: Array, cache: _NaiveCache) -> Gradients:
    """Each dy is added at its window's winner, one at a time: dy -> (dx,)."""
    indices, x_shape, dtype, _, columns = check_cache(cache, _NaiveCache)
    dy = check_upstream(dy, indices.shape, dtype)
    dx = np.zeros(x_shape, dtype)
    for n, c, i, j in positions(*dy.shape):
        h, v = divmod(indices[n, c, i, j], columns.size)
        dx[n, c, h, v] += dy[n, c, i, j]
    return (dx,)


def _window(i: int, j: int, rows: Axis, columns: Axis) -> list[tuple[int, int]]:
    """The entries (h, v) of x in window (i, j), in row-major order; the padding is left out."""
    taps = ((rows.source(i, p), columns.source(j, q)) for p, q in positions(rows.kernel, columns.kernel))
    return [(h, v) for h, v in taps if 0 <= h < rows.size and 0 <= v < columns.size]


def _im2col_forward(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, _Im2colCache]:
    """The formula at the head of this module, all windows at once, tap by tap: x -> (y, cache)."""
    rows, columns = _geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    y, winners = _winners(x.real, rows, columns, nan=False)
    if np.isnan(y).any():
        y, winners = _winners(x.real, rows, columns, nan=True)
    offsets = [
        p * rows.dilation * columns.size + q * columns.dilation for p, q in positions(rows.kernel, columns.kernel)
    ]
    h, v = (np.arange(axis.out) * axis.stride - axis.before for axis in (rows, columns))
    indices = np.take(offsets, winners)
    indices += h[:, None] * columns.size + v
    if np.iscomplexobj(x):
        flat = x.reshape(*x.shape[:2], rows.size * columns.size)
        y = np.take_along_axis(flat, indices.reshape(*x.shape[:2], rows.out * columns.out), axis=2).reshape(y.shape)
    return y, _Im2colCache(indices, x.shape, x.dtype, rows, columns)


def _im2col_backward(dy: Array, cache: _Im2colCache) -> Gradients:
    """Each dy is added at its window's winner, at once in all windows that share no entry: dy -> (dx,)."""
    indices, x_shape, dtype, rows, columns = check_cache(cache, _Im2colCache)
    dy = check_upstream(dy, indices.shape, dtype)
    dx = np.zeros(x_shape, dtype)
    flat = dx.reshape(-1)
    images, channels = x_shape[:2]
    planes = rows.size * columns.size * np.arange(images * channels).reshape(images, channels, 1, 1)
    # Windows as many apart as a window is long in strides do not overlap, and dx[...] += dy adds all of theirs.
    apart = [-(-((axis.kernel - 1) * axis.dilation + 1) // axis.stride) for axis in (rows, columns)]
    for i, j in positions(*apart):
        some = np.s_[:, :, i :: apart[0], j :: apart[1]]
        winners = planes + indices[some]
        flat[winners] = dy[some] if apart == [1, 1] else flat[winners] + dy[some]
    return (dx,)


def _winners(x: Array, rows: Axis, columns: Axis, *, nan: bool) -> tuple[Array, Array]:
    """The largest entry of each window, and the number of the tap that won it; `nan` if there may be NaN among them.

    The number is kept without a branch, which half of all comparisons would mispredict: a tap that is
    larger than all before it has a larger number too.
    """
    taps = list(positions(rows.kernel, columns.kernel))
    padded, winners = _padded(x, rows, columns)
    y = np.full(winners.shape, -np.inf, x.dtype)
    better, number = np.empty(y.shape, bool), np.empty_like(winners)
    for tap, (p, q) in enumerate(taps):
        values = padded[..., strided(p, rows.out, rows), strided(q, columns.out, columns)]
        np.greater(values, y, out=better)
        if nan:
            better |= np.isnan(values)
        np.maximum(y, values, out=y)
        np.multiply(better.view(np.uint8), winners.dtype.type(tap), out=number)
        np.maximum(winners, number, out=winners)
    return y, winners


def _padded(x: Array, rows: Axis, columns: Axis) -> tuple[Array, Array]:
    """x with -inf around it, and the first tap of each window that lies in x: the winner if no entry is larger."""
    kind = np.min_scalar_type(rows.kernel * columns.kernel - 1)
    winners = np.empty((*x.shape[:2], rows.out, columns.out), kind)
    h, v = (
        np.maximum(0, -((np.arange(axis.out) * axis.stride - axis.before) // axis.dilation)) for axis in (rows, columns)
    )
    winners[...] = h[:, None] * columns.kernel + v
    if (rows.padded, columns.padded) == (rows.size, columns.size):
        return x, winners
    padded = np.full((*x.shape[:2], rows.padded, columns.padded), -np.inf, x.dtype)
    padded[..., rows.before : rows.before + rows.size, columns.before : columns.before + columns.size] = x
    return padded, winners


def _geometry(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Padding, dilation: Pair, ceil_mode: bool
) -> tuple[Axis, Axis]:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    kernel = pair("kernel_size", kernel_size, 1)
    axes = sliding_axes(
        (x.shape[2], x.shape[3]),
        kernel,
        stride=kernel if stride is None else stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    for name, axis in zip(("height", "width"), axes, strict=True):
        window = axis.dilation * (axis.kernel - 1) + 1
        if 2 * max(axis.before, axis.after) > window:
            raise ValueError(
                f"padding {(axis.before, axis.after)} is more than half the window {window} along the {name}"
            )
        for output in range(axis.out):
            if not any(0 <= axis.source(output, tap) < axis.size for tap in range(axis.kernel)):
                raise ValueError(
                    f"window {output} along the {name} holds no entry of x ({name[0].upper()}={axis.size}, "
                    f"kernel={axis.kernel}, padding={(axis.before, axis.after)}, dilation={axis.dilation})"
                )
    return axes


naive = Implementation("naive", _naive_forward, _naive_backward)
im2col = Implementation("im2col", _im2col_forward, _im2col_backward)
