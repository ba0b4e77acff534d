"""Two-dimensional up-sampling by the nearest entry in front.

    y[n, c, i, j] = x[n, c, floor(i * tH), floor(j * tW)]

Here t is the step from one output to the next, in entries of x: H/oH if the size is given, or one over the scale
factor. A step above 1 leaves entries out.

Each output is one entry of x, so an entry collects the gradients of its outputs:
    dx[n, c, h, v] = sum of dy[n, c, i, j] over all (i, j) with floor(i * tH) = h and floor(j * tW) = v

The places are computed in integers. PyTorch computes them in float32. Of 26 rows at size 22 it takes row 12 for
output 11, where 11 * 26/22 = 13. A scale factor may leave the size as it is, or double it by rounding down. Then
PyTorch copies each entry once or twice, whatever the factor. Of 2 rows at a factor of 1.25 its output 1 is row 1,
where floor(1 / 1.25) = 0.

Shapes: x (N, C, H, W), y (N, C, oH, oW). Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.interpolate, of which one is given:

- size is an integer or a pair (oH, oW).
- scale_factor is a number or a pair, for oH = floor(H * scale_factor). It is read as a fraction: 0.1 is 1/10.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank, sizes below 1, and unless one of both options is given.

Source: torch.nn.functional.interpolate, mode="nearest".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import Pair, positions
from cnn_core._resizing import Scale, scaled_axes


class _Call(NamedTuple):
    """The argument of a call, and the row and the column of x that each output copies."""

    x: Array
    rows: list[int]
    columns: list[int]


class _Kept(NamedTuple):
    """What backward needs, and no entry of x."""

    x_shape: tuple[int, ...]
    rows: list[int]
    columns: list[int]


def _prepare(x: Array, *, size: Pair | None = None, scale_factor: Scale | None = None) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    rows, columns = scaled_axes((x.shape[2], x.shape[3]), size=size, scale_factor=scale_factor)
    return _Call(x, rows.nearest(), columns.nearest())


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, entry by entry."""
    x, rows, columns = call
    y = np.zeros((*x.shape[:2], len(rows), len(columns)), x.dtype)
    for n, c, i, j in positions(*y.shape):
        y[n, c, i, j] = x[n, c, rows[i], columns[j]]
    return y, _Kept(x.shape, rows, columns)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    for n, c, i, j in positions(*dy.shape):
        dx[n, c, kept.rows[i], kept.columns[j]] += dy[n, c, i, j]
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, all entries at once."""
    x, rows, columns = call
    return x.take(columns, axis=3).take(rows, axis=2), _Kept(x.shape, rows, columns)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: back to the rows, then back to the columns. Whole rows are fast."""
    x_shape, rows, columns = kept
    in_rows = _spread(dy, rows, x_shape[2])
    turned = np.ascontiguousarray(in_rows.swapaxes(2, 3))
    return (np.ascontiguousarray(_spread(turned, columns, x_shape[3]).swapaxes(2, 3)),)


def _spread(dy: Array, rows: list[int], size: int) -> Array:
    """Return dy with each row added to the one that it was copied from."""
    dx = np.zeros((*dy.shape[:2], size, dy.shape[3]), dy.dtype)
    for i, h in enumerate(rows):
        dx[:, :, h] += dy[:, :, i]
    return dx


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
