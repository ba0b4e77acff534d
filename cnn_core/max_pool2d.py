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

from cnn_core import _max_pool2d_fast
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


class _Cache(NamedTuple):
    indices: Array
    x_shape: tuple[int, ...]
    dtype: np.dtype[np.inexact]
    rows: Axis
    columns: Axis


class _NaiveCache(_Cache):
    """The values that the naive forward keeps for its backward."""


class _Im2colCache(_Cache):
    """The values that the im2col forward keeps for its backward."""


def _naive_forward(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, _NaiveCache]:
    """Compute (y, cache) from x, one comparison at a time."""
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
    """Compute (dx,) from dy: each dy is added at the winner of its window, one at a time."""
    indices, x_shape, dtype, _, columns = check_cache(cache, _NaiveCache)
    dy = check_upstream(dy, indices.shape, dtype)
    dx = np.zeros(x_shape, dtype)
    for n, c, i, j in positions(*dy.shape):
        h, v = divmod(indices[n, c, i, j], columns.size)
        dx[n, c, h, v] += dy[n, c, i, j]
    return (dx,)


def _window(i: int, j: int, rows: Axis, columns: Axis) -> list[tuple[int, int]]:
    """Return the entries (h, v) of x in window (i, j), in row-major order, without the padding."""
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
    """Compute (y, cache) from x, many planes at once."""
    rows, columns = _geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    y, indices = _max_pool2d_fast.forward(x.real, rows, columns)
    if np.iscomplexobj(x):
        flat = x.reshape(*x.shape[:2], rows.size * columns.size)
        y = np.take_along_axis(flat, indices.reshape(*x.shape[:2], rows.out * columns.out), axis=2).reshape(y.shape)
    return y, _Im2colCache(indices, x.shape, x.dtype, rows, columns)


def _im2col_backward(dy: Array, cache: _Im2colCache) -> Gradients:
    """Compute (dx,) from dy: each dy is added at the winner of its window, many planes at once."""
    indices, x_shape, dtype, _, _ = check_cache(cache, _Im2colCache)
    dy = check_upstream(dy, indices.shape, dtype)
    return (_max_pool2d_fast.backward(dy, indices, x_shape),)


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
