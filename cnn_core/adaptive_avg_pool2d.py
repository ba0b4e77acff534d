"""Two-dimensional average pooling to an output of any given size.

    y[n, c, i, j] = sum over (h, v) in bin (i, j) of x[n, c, h, v] / (its rows * its columns)

Bin (i, j) holds the rows from floor(i*H/oH) up to, and without, ceil((i + 1)*H/oH), and the columns likewise. Bins
are of one size and touch if oH divides H. Otherwise neighbours may share a row.

y is linear in x. Each entry of x adds its share to each bin that holds it, so
    dx[n, c, h, v] = sum of dy[n, c, i, j] / (rows * columns of the bin) over all bins (i, j) that hold (h, v)

Shapes: x (N, C, H, W), y (N, C, oH, oW). Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.adaptive_avg_pool2d: output_size, an integer or a pair (oH, oW). None in a pair
stands for the size that x has along that axis.

Raises TypeError for integer or object dtypes, for an output size that is no integer, and for a cache of another
implementation. Raises ValueError, quoting the values, for a wrong rank, a negative output size, and H or W of 0.

Source: torch.nn.functional.adaptive_avg_pool2d; Lin, Chen & Yan 2014, arXiv:1312.4400 (global average pooling).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import positions
from cnn_core._resizing import bins


class _Call(NamedTuple):
    """The argument of a call, and the rows and columns of each bin."""

    x: Array
    rows: list[range]
    columns: list[range]


class _Kept(NamedTuple):
    """What backward needs: the bins, and no entry of x."""

    x_shape: tuple[int, ...]
    rows: list[range]
    columns: list[range]


def _prepare(x: Array, *, output_size: int | tuple[int | None, int | None]) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    return _Call(x, *bins(output_size, (x.shape[2], x.shape[3])))


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one entry at a time."""
    x, rows, columns = call
    y = np.zeros((*x.shape[:2], len(rows), len(columns)), x.dtype)
    for n, c, i, j in positions(*y.shape):
        for h in rows[i]:
            for v in columns[j]:
                y[n, c, i, j] += x[n, c, h, v]
        y[n, c, i, j] /= len(rows[i]) * len(columns[j])
    return y, _Kept(x.shape, rows, columns)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, one entry at a time."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    for n, c, i, j in positions(*dy.shape):
        for h in kept.rows[i]:
            for v in kept.columns[j]:
                dx[n, c, h, v] += dy[n, c, i, j] / (len(kept.rows[i]) * len(kept.columns[j]))
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: add the rows of each bin, then its columns."""
    x, rows, columns = call
    y = _turned(_summed(_turned(_summed(x, rows)), columns))
    y /= _counts(rows, columns).astype(x.real.dtype)
    return y, _Kept(x.shape, rows, columns)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: divide, add to the columns of each bin, then to its rows."""
    x_shape, rows, columns = kept
    shares = _turned(dy / _counts(rows, columns).astype(dy.real.dtype))
    return (_spread(_turned(_spread(shares, columns, x_shape[3])), rows, x_shape[2]),)


def _summed(x: Array, rows: list[range]) -> Array:
    """Return the sum of the rows of each bin."""
    sums = np.zeros((*x.shape[:2], len(rows), x.shape[3]), x.dtype)
    for i, each in enumerate(rows):
        for h in each:
            sums[:, :, i] += x[:, :, h]
    return sums


def _spread(dy: Array, rows: list[range], size: int) -> Array:
    """Return the adjoint of `_summed`: each row of dy is added to the rows of its bin."""
    dx = np.zeros((*dy.shape[:2], size, dy.shape[3]), dy.dtype)
    for i, each in enumerate(rows):
        dx[:, :, each.start : each.stop] += dy[:, :, i : i + 1]
    return dx


def _turned(array: Array) -> Array:
    """Return a copy with rows and columns exchanged. Whole rows are fast, and single columns are not."""
    return np.ascontiguousarray(array.swapaxes(2, 3))


def _counts(rows: list[range], columns: list[range]) -> Array:
    """Return the number of entries of each bin, (oH, oW)."""
    return np.multiply.outer([len(each) for each in rows], [len(each) for each in columns])


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
