"""Two-dimensional max pooling to an output of any given size, with the index of every winner.

    y[n, c, i, j] = max over (h, v) in bin (i, j) of x[n, c, h, v]
    indices[n, c, i, j] = h*W + v of the entry that won

Bin (i, j) holds the rows from floor(i*H/oH) up to, and without, ceil((i + 1)*H/oH), and the columns likewise.
Neighbouring bins may share a row, and one entry may win several bins.

y copies the winners. Where the winner is unique, a small change of x moves y by the change of the winner, so
    dx[n, c, h, v] = sum of dy[n, c, i, j] over all bins (i, j) that (h, v) won

Among equal maxima the first in row-major order wins, and gets all of dy. NaN beats every number, and the last of
several NaN wins, as in PyTorch. Complex arrays (the complex step) are compared by their real parts.

Shapes: x (N, C, H, W), y and cache.indices (N, C, oH, oW). Dtypes: float32, float64, complex64, complex128. Indices
are int64 and flat in the H x W plane.

Options, as in torch.nn.functional.adaptive_max_pool2d: output_size, an integer or a pair (oH, oW). None in a pair
stands for the size that x has along that axis.

Raises TypeError for integer or object dtypes, for an output size that is no integer, and for a cache of another
implementation. Raises ValueError, quoting the values, for a wrong rank, a negative output size, and H or W of 0.

Source: torch.nn.functional.adaptive_max_pool2d; He et al. 2014, arXiv:1406.4729 (bins of a given number).
"""

from __future__ import annotations

import math
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
    """What backward needs: the winners, and no entry of x."""

    indices: Array
    x_shape: tuple[int, ...]


def _prepare(x: Array, *, output_size: int | tuple[int | None, int | None]) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    return _Call(x, *bins(output_size, (x.shape[2], x.shape[3])))


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one comparison at a time."""
    x, rows, columns = call
    shape = (*x.shape[:2], len(rows), len(columns))
    y, indices = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for n, c, i, j in positions(*shape):
        won_h, won_v = rows[i][0], columns[j][0]
        for h in rows[i]:
            for v in columns[j]:
                value = x[n, c, h, v].real
                if value > x[n, c, won_h, won_v].real or math.isnan(value):
                    won_h, won_v = h, v
        y[n, c, i, j] = x[n, c, won_h, won_v]
        indices[n, c, i, j] = won_h * x.shape[3] + won_v
    return y, _Kept(indices, x.shape)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each dy is added at the winner of its bin, one at a time."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    for n, c, i, j in positions(*dy.shape):
        h, v = divmod(kept.indices[n, c, i, j], dx.shape[3])
        dx[n, c, h, v] += dy[n, c, i, j]
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: the winner of one bin of all planes at a time."""
    x, rows, columns = call
    images, channels, height, width = x.shape
    indices = np.zeros((images, channels, len(rows), len(columns)), np.int64)
    for i, j in positions(len(rows), len(columns)):
        wide, size = len(columns[j]), len(rows[i]) * len(columns[j])
        inside = x.real[:, :, rows[i].start : rows[i].stop, columns[j].start : columns[j].stop]
        values = inside.reshape(images, channels, size)
        winner, nan = values.argmax(axis=2), np.isnan(values)
        if nan.any():  # argmax is the first NaN, and the last one wins
            winner = np.where(nan.any(axis=2), size - 1 - nan[..., ::-1].argmax(axis=2), winner)
        indices[:, :, i, j] = (rows[i].start + winner // wide) * width + columns[j].start + winner % wide
    planes = x.reshape(images, channels, height * width)
    y = np.take_along_axis(planes, indices.reshape(images, channels, len(rows) * len(columns)), axis=2)
    return y.reshape(indices.shape), _Kept(indices, x.shape)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each dy is added at the winner of its bin, all at once."""
    images, channels, height, width = kept.x_shape
    dx = np.zeros(images * channels * height * width, dy.dtype)
    planes = np.arange(images * channels).reshape(images, channels, 1, 1)
    np.add.at(dx, (planes * (height * width) + kept.indices).reshape(-1), dy.reshape(-1))
    return (dx.reshape(kept.x_shape),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
