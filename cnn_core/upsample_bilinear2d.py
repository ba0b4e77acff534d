"""Two-dimensional up-sampling by bilinear interpolation.

    y[n, c, i, j] = (1 - a) * ((1 - b) * x[n, c, h, v] + b * x[n, c, h, w])
                  +    a    * ((1 - b) * x[n, c, g, v] + b * x[n, c, g, w])

Output row i lies at row s of x. Let h = floor(s) and a = s - h, and let g = h + 1 be the next row, or h itself if
there is none. Output column j lies between the columns v and w, at b, in the same way. The place s is
    max(0, (i + 1/2) * tH - 1/2), tH = H/oH, or one over the scale factor
    i * (H - 1)/(oH - 1), or 0 if oH = 1, with align_corners
Pixels are squares in the first, whose outer edges are aligned. They are points in the second, whose corners are.

y is linear in x, with the same four weights for all n and c. Each goes back the way it came:
    dx[n, c, k, l] = sum over (i, j) of p[i, k] * q[j, l] * dy[n, c, i, j]
Here p[i, k] is the weight of row k in output row i. It is 1 - a if k = h, plus a if k = g, else 0. Likewise q is that
of columns.

The places are exact fractions, rounded once. PyTorch computes them in the dtype of x. At a scale factor that leaves
the size as it is it copies x, whatever the factor: of 2 rows at a factor of 1.25 its output 1 is row 1, where
(1 + 1/2)/1.25 - 1/2 = 0.7. An infinite entry of weight 0 makes NaN, as in PyTorch. At a step of 1, g = h.

Shapes: x (N, C, H, W), y (N, C, oH, oW). Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.interpolate, of which one of the first two is given:

- size is an integer or a pair (oH, oW).
- scale_factor is a number or a pair, for oH = floor(H * scale_factor). It is read as a fraction: 0.1 is 1/10.
- align_corners is True or False.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank, sizes below 1, and unless size or scale_factor is given.

Source: torch.nn.functional.interpolate, mode="bilinear".
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import Pair, positions
from cnn_core._options import flag
from cnn_core._resizing import Scale, scaled_axes

# For each output: the entries before and behind it, and how far it is from the first.
_Places = list[tuple[int, int, Fraction]]


class _Call(NamedTuple):
    """The argument of a call, and where the outputs lie."""

    x: Array
    rows: _Places
    columns: _Places


class _Kept(NamedTuple):
    """What backward needs, and no entry of x."""

    x_shape: tuple[int, ...]
    rows: _Places
    columns: _Places


def _prepare(
    x: Array, *, size: Pair | None = None, scale_factor: Scale | None = None, align_corners: bool = False
) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    corners = flag("align_corners", align_corners)
    axes = scaled_axes((x.shape[2], x.shape[3]), size=size, scale_factor=scale_factor)
    rows, columns = (axis.between(align_corners=corners) for axis in axes)
    return _Call(x, rows, columns)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one product at a time."""
    x, rows, columns = call
    y = np.zeros((*x.shape[:2], len(rows), len(columns)), x.dtype)
    real = x.real.dtype.type
    for n, c, i, j in positions(*y.shape):
        (h, g, a), (v, w, b) = rows[i], columns[j]
        y[n, c, i, j] += real((1 - a) * (1 - b)) * x[n, c, h, v]
        y[n, c, i, j] += real((1 - a) * b) * x[n, c, h, w]
        y[n, c, i, j] += real(a * (1 - b)) * x[n, c, g, v]
        y[n, c, i, j] += real(a * b) * x[n, c, g, w]
    return y, _Kept(x.shape, rows, columns)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, one product at a time."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    real = dy.real.dtype.type
    for n, c, i, j in positions(*dy.shape):
        (h, g, a), (v, w, b) = kept.rows[i], kept.columns[j]
        dx[n, c, h, v] += real((1 - a) * (1 - b)) * dy[n, c, i, j]
        dx[n, c, h, w] += real((1 - a) * b) * dy[n, c, i, j]
        dx[n, c, g, v] += real(a * (1 - b)) * dy[n, c, i, j]
        dx[n, c, g, w] += real(a * b) * dy[n, c, i, j]
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: between the columns, then between the rows."""
    x, rows, columns = call
    between_columns = _turned(_interpolated(_turned(x), columns))
    return _interpolated(between_columns, rows), _Kept(x.shape, rows, columns)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: back to the rows, then back to the columns."""
    x_shape, rows, columns = kept
    in_rows = _spread(dy, rows, x_shape[2])
    return (_turned(_spread(_turned(in_rows), columns, x_shape[3])),)


def _interpolated(x: Array, places: _Places) -> Array:
    """Return x between its rows."""
    y, real = np.empty((*x.shape[:2], len(places), x.shape[3]), x.dtype), x.real.dtype.type
    for i, (h, g, a) in enumerate(places):
        np.multiply(x[:, :, h], real(1 - a), out=y[:, :, i])
        y[:, :, i] += x[:, :, g] * real(a)
    return y


def _spread(dy: Array, places: _Places, size: int) -> Array:
    """Return the adjoint of `_interpolated`: each row of dy is added to two of dx."""
    dx, real = np.zeros((*dy.shape[:2], size, dy.shape[3]), dy.dtype), dy.real.dtype.type
    for i, (h, g, a) in enumerate(places):
        dx[:, :, h] += dy[:, :, i] * real(1 - a)
        dx[:, :, g] += dy[:, :, i] * real(a)
    return dx


def _turned(array: Array) -> Array:
    """Return a copy with rows and columns exchanged. Whole rows are fast, and single columns are not."""
    return np.ascontiguousarray(array.swapaxes(2, 3))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
