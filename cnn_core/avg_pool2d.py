"""Two-dimensional average pooling.

    y[n, c, i, j] = sum over taps (p, q) of xp[n, c, i*sH + p, j*sW + q] / d[i, j]

Here xp is x padded with zeros, and d[i, j] the divisor of window (i, j):
    divisor_override, if it is given,
    else the number of taps that lie in xp, if count_include_pad,
    else the number of taps that lie in x.
With ceil_mode a window may reach beyond xp. Taps there add nothing, and are never counted.

y is linear in x. Each entry of x adds x[h, v] / d[i, j] to each window that holds it, so
    dx[n, c, h, v] = sum of dy[n, c, i, j] / d[i, j] over all windows (i, j) that hold (h, v)

Shapes: x (N, C, H, W), y (N, C, oH, oW). Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.avg_pool2d: kernel_size, stride (default: kernel_size), padding,
ceil_mode, count_include_pad, divisor_override (an integer, not 0). Padding may also be
((top, bottom), (left, right)), "valid", or "same" (stride 1). It may be up to half the window.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank and sizes that do not fit. It also refuses padding
of more than half the window, windows without an entry of x, and a divisor of 0.

Source: torch.nn.functional.avg_pool2d; LeCun et al. 1998, Proc. IEEE 86 (sub-sampling layers).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import Axis, Padding, Pair, pooling_axes, positions
from cnn_core._options import flag, pair, whole_number


class _Windows(NamedTuple):
    """The windows and their divisors."""

    rows: Axis
    columns: Axis
    count_include_pad: bool
    divisor_override: int | None


class _Call(NamedTuple):
    """The argument of a call, and the windows."""

    x: Array
    windows: _Windows


class _Kept(NamedTuple):
    """What backward needs: the windows, and no entry of x."""

    x_shape: tuple[int, ...]
    windows: _Windows


def _prepare(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    kernel = pair("kernel_size", kernel_size, 1)
    size, stride = (x.shape[2], x.shape[3]), kernel if stride is None else stride
    axes = pooling_axes(size, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
    if divisor_override is not None and whole_number("divisor_override", divisor_override) == 0:
        raise ValueError("divisor_override must not be 0, got 0")
    return _Call(x, _Windows(*axes, flag("count_include_pad", count_include_pad), divisor_override))


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one entry at a time."""
    x, windows = call
    y = np.zeros((*x.shape[:2], windows.rows.out, windows.columns.out), x.dtype)
    for n, c, i, j in positions(*y.shape):
        window, divisor = _window(i, j, windows)
        for h, v in window:
            y[n, c, i, j] += x[n, c, h, v]
        y[n, c, i, j] /= divisor
    return y, _Kept(x.shape, windows)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, one entry at a time."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    for n, c, i, j in positions(*dy.shape):
        window, divisor = _window(i, j, kept.windows)
        for h, v in window:
            dx[n, c, h, v] += dy[n, c, i, j] / divisor
    return (dx,)


def _window(i: int, j: int, windows: _Windows) -> tuple[list[tuple[int, int]], int]:
    """Return the entries (h, v) of x in window (i, j), and the divisor."""
    rows, columns, count_include_pad, divisor_override = windows
    taps = [(rows.source(i, p), columns.source(j, q)) for p, q in positions(rows.kernel, columns.kernel)]
    padded = [(h, v) for h, v in taps if h < rows.size + rows.after and v < columns.size + columns.after]
    inside = [(h, v) for h, v in padded if 0 <= h < rows.size and 0 <= v < columns.size]
    if divisor_override is not None:
        return inside, divisor_override
    return inside, len(padded if count_include_pad else inside)


def _im2col_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: add the rows of all windows, tap by tap, then their columns, and divide."""
    x, windows = call
    (top, bottom), (left, right) = (_pads(axis) for axis in windows[:2])
    xp = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    in_rows = np.zeros((*x.shape[:2], windows.rows.out, xp.shape[3]), x.dtype)
    for p in range(windows.rows.kernel):
        in_rows += xp[:, :, _tap(windows.rows, p)]
    y = np.zeros((*x.shape[:2], windows.rows.out, windows.columns.out), x.dtype)
    for q in range(windows.columns.kernel):
        y += in_rows[..., _tap(windows.columns, q)]
    return y / _divisors(windows).astype(x.real.dtype), _Kept(x.shape, windows)


def _im2col_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: divide, and fold back, tap by tap, to the columns and then to the rows of all windows."""
    (images, channels, height, width), windows = kept
    (top, bottom), (left, right) = (_pads(axis) for axis in windows[:2])
    shares = dy / _divisors(windows).astype(dy.real.dtype)
    in_rows = np.zeros((images, channels, windows.rows.out, left + width + right), dy.dtype)
    for q in range(windows.columns.kernel):
        in_rows[..., _tap(windows.columns, q)] += shares
    dxp = np.zeros((images, channels, top + height + bottom, left + width + right), dy.dtype)
    for p in range(windows.rows.kernel):
        dxp[:, :, _tap(windows.rows, p)] += in_rows
    return (dxp[:, :, top : top + height, left : left + width].copy(),)


def _divisors(windows: _Windows) -> Array:
    """Return the divisor of each window, (oH, oW): along each axis, the end of its taps less their start."""
    rows, columns, count_include_pad, divisor_override = windows
    if divisor_override is not None:
        return np.full((rows.out, columns.out), divisor_override)
    counts = []
    for axis in (rows, columns):
        starts = np.arange(axis.out) * axis.stride - axis.before
        first, last = (-axis.before, axis.size + axis.after) if count_include_pad else (0, axis.size)
        counts.append(np.minimum(starts + axis.kernel, last) - np.maximum(starts, first))
    divisors: Array = np.multiply.outer(*counts)
    return divisors


def _pads(axis: Axis) -> tuple[int, int]:
    """Return the zeros before and behind an axis, with those that a window of ceil_mode reaches."""
    return axis.before, max(axis.after, axis.source(axis.out - 1, axis.kernel - 1) + 1 - axis.size)


def _tap(axis: Axis, tap: int) -> slice:
    """Return the entries of a padded axis that this tap of all windows reads."""
    return slice(tap, tap + (axis.out - 1) * axis.stride + 1, axis.stride)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
im2col = implement("im2col", _prepare, _im2col_forward, _im2col_backward)
fast = im2col
