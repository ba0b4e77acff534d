"""The fast max pooling: the formula of `max_pool2d`, along the width first, then along the height.

The maximum of each row of a window is taken first, then the maximum of these rows. This needs fewer
comparisons than going tap by tap, because neighbouring windows share rows. Memory and short loops cost the time:

- A block of planes stays in cache. The next block reuses its buffers.
- With a stride, a tap reads one entry in `stride`. All entries that taps of one remainder read are stored
  side by side. A tap then reads this flat array from its own offset on, in one loop through a whole block.
  Past the end of a row or a plane the loop compares entries of different windows. Nothing reads those results.
- The number of the winning tap is updated without a branch, which would be mispredicted half of the time.
  Taps are compared in order of their numbers, so a new winner has the largest number so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from cnn_core._arguments import Array
from cnn_core._blocked.windows import by_remainder, every
from cnn_core._geometry import Axis, positions

# Bytes of x or of indices in a block: the private cache of one core of the measured machine. Half or twice is as fast.
_BLOCK_BYTES = 1 << 20


def forward(x: Array, rows: Axis, columns: Axis) -> tuple[Array, Array]:
    """Compute (y, indices of the winners) from a real x (N, C, H, W)."""
    shape = (x.shape[0] * x.shape[1], rows.out, columns.out)
    planes = x.reshape(len(x) * x.shape[1], rows.size, columns.size)
    y, indices = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    taps = positions(rows.kernel, columns.kernel)
    offsets = np.array([p * rows.dilation * columns.size + q * columns.dilation for p, q in taps])
    h, v = (np.arange(axis.out) * axis.stride - axis.before for axis in (rows, columns))
    corners = h[:, None] * columns.size + v
    windows = _Windows(len(planes), rows, columns, x.dtype)
    for start in range(0, len(planes), windows.planes):
        block = slice(start, start + windows.planes)
        y[block], winners = windows.largest(planes[block])
        np.take(offsets, winners, out=indices[block], mode="clip")  # all are in range; "raise" buffers `out`
        indices[block] += corners
    return y.reshape(*x.shape[:2], *shape[1:]), indices.reshape(*x.shape[:2], *shape[1:])


def backward(dy: Array, indices: Array, x_shape: tuple[int, ...]) -> Array:
    """Compute dx: each dy is added at the winner of its window."""
    dx = np.zeros(x_shape, dy.dtype)
    planes, plane, windows = x_shape[0] * x_shape[1], x_shape[2] * x_shape[3], dy.shape[2] * dy.shape[3]
    flat, upstream, won = dx.reshape(-1), dy.reshape(planes, windows), indices.reshape(planes, windows)
    together = max(1, _BLOCK_BYTES // won[:1].nbytes) if planes else 1
    for start in range(0, planes, together):
        here = won[start : start + together]
        places = here + plane * np.arange(len(here))[:, None]
        np.add.at(flat[start * plane :], places.reshape(-1), upstream[start : start + together].reshape(-1))
    return dx


class _Windows:
    """The windows of a block of planes: buffers in which a tap is an offset into a flat array."""

    def __init__(self, planes: int, rows: Axis, columns: Axis, dtype: np.dtype[np.inexact]) -> None:
        self._rows, self._columns = rows, columns
        last_row, last_column = ((axis.kernel - 1) * axis.dilation // axis.stride for axis in (rows, columns))
        self._height, self._width = rows.out + last_row, columns.out + last_column
        plane = self._height * self._width
        down, right = ([remainder for remainder, _ in by_remainder(axis)] for axis in (rows, columns))
        self.planes = max(1, min(planes, _BLOCK_BYTES // (len(down) * len(right) * plane * dtype.itemsize)))
        size = self.planes * plane
        # The entries of x by remainder, surrounded by -inf. Then the maximum of each row of a window, for all columns.
        self._entries = {d: {r: np.full(size + last_column, -np.inf, dtype) for r in right} for d in down}
        kind = np.min_scalar_type(rows.kernel * columns.kernel)
        length = size + last_row * self._width
        self._of_rows = {d: (np.zeros(length, dtype), np.zeros(length, kind)) for d in down}
        self._y, self._winners = np.empty(size, dtype), np.empty(size, kind)
        self._better, self._number = np.empty(size, bool), np.empty(size, kind)
        # The first tap of each window that lies in x. It wins if no entry is larger than the surrounding -inf.
        h, v = (
            np.maximum(0, -((np.arange(length) * axis.stride - axis.before) // axis.dilation)).astype(kind)
            for axis, length in ((rows, self._height), (columns, self._width))
        )
        first = h[:, None] * kind.type(columns.kernel) + v
        self._first = np.broadcast_to(first, (self.planes, *first.shape)).reshape(-1)

    def largest(self, x: Array) -> tuple[Array, Array]:
        """Return the largest entry of each window and the number p*kW + q of its tap. x has at most `planes` planes."""
        shape = (len(x), self._height, self._width)
        y, winners = self._largest(x, shape, nan=False)
        if np.isnan(y.max(initial=-np.inf)):
            y, winners = self._largest(x, shape, nan=True)
        window = np.s_[:, : self._rows.out, : self._columns.out]
        return y.reshape(shape)[window], winners.reshape(shape)[window]

    def _largest(self, x: Array, shape: tuple[int, ...], *, nan: bool) -> tuple[Array, Array]:
        rows, columns, size = self._rows, self._columns, math.prod(shape)
        for down, (values, taps) in self._of_rows.items():
            entries = self._entries[down]
            for right, side_by_side in entries.items():
                self._read(x, down, right, side_by_side[:size].reshape(shape))
            taps[:size] = 0
            read = (entries[start % columns.stride][start // columns.stride :][:size] for start in columns.starts)
            numbered = ((each, taps.dtype.type(q)) for q, each in enumerate(read))
            self._compare(numbered, values[:size], taps[:size], nan=nan)
        y, winners = self._y[:size], self._winners[:size]
        row_maxima = [self._of_rows[start % rows.stride] for start in rows.starts]
        places = [slice(start // rows.stride * self._width, None) for start in rows.starts]
        np.maximum(self._first[:size], row_maxima[0][1][:size], out=winners)
        numbered = (
            (values[place][:size], np.add(taps[place][:size], p * columns.kernel, out=self._number[:size]))
            for p, ((values, taps), place) in enumerate(zip(row_maxima, places, strict=True))
        )
        self._compare(numbered, y, winners, nan=nan)
        return y, winners

    def _read(self, x: Array, down: int, right: int, target: Array) -> None:
        """Copy into target, side by side, the entries of x that taps of these remainders read."""
        from_rows, to_rows = _of_remainder(self._rows, down, self._height)
        from_columns, to_columns = _of_remainder(self._columns, right, self._width)
        target[:, to_rows, to_columns] = x[:, from_rows, from_columns]

    def _compare(self, read: Iterable[tuple[Array, Any]], y: Array, winners: Array, *, nan: bool) -> None:
        """Fill y with the maximum of the arrays in `read`, and winners with the number of the winning tap.

        On entry `winners` has the numbers of the first array.
        """
        better, number = self._better[: len(y)], self._number[: len(y)]
        numbered = iter(read)
        largest, _ = next(numbered)
        for values, tap in numbered:
            np.greater(values, largest, out=better)
            if nan:
                better |= np.isnan(values)
            np.maximum(largest, values, out=y)
            np.multiply(better.view(np.uint8), tap, out=number)
            np.maximum(winners, number, out=winners)
            largest = y
        if largest is not y:
            y[:] = largest


def _of_remainder(axis: Axis, remainder: int, length: int) -> tuple[slice, slice]:
    """Return the positions in x of the entries of one remainder, and their numbers among `length` such entries."""
    return every(slice(0, axis.size), slice(axis.before, axis.before + axis.size), remainder, axis.stride, length)
