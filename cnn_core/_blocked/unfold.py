"""im2col and col2im: unfold the windows of a block of images into columns, and fold columns back.

The two are adjoint: `<unfold(x), c> = <x, fold(c)>`. Both copy one tap of the window at a time.
The values that a tap reads are a strided view of the padded block.

A block is a slice of the images and a slice of the rows of outputs. Its columns stay in cache, and memory
does not grow with the batch. The axes of its arrays are

    G C H W n    group, channel of the group, row, column, image of the block

In memory the order is G C H n W. There are two other orders:

- `batch_inner` stores G C H W n. The cost of a copy depends more on the number of its contiguous runs than
  on its bytes. A run is n times longer in this order, which pays if images are small. In return the block
  must be transposed on its way in and on its way out.
- `rows_first` stores G H C W n. Once the width is unfolded, all rows of a window lie together, and the next
  window begins one stride further on. The columns of a row of outputs are therefore a view.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cnn_core._arguments import Array
from cnn_core._geometry import Axis, positions


class Block(NamedTuple):
    """A slice of the images, a slice of the rows of outputs, and the order of axes in memory."""

    images: slice
    outputs: slice
    batch_inner: bool
    rows_first: bool  # only with batch_inner

    @property
    def rows(self) -> int:
        """The number of rows of outputs."""
        return int(self.outputs.stop - self.outputs.start)


class Scratch:
    """Named buffers that every block uses again: fresh memory costs more than the copy into it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._buffers = dtype, dict[str, Array]()

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return the contiguous buffer of this name and shape. Its values are left over from the last use."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, self._dtype)
        return buffer[:size].reshape(shape)

    def take_block(self, name: str, shape: tuple[int, ...], block: Block) -> tuple[Array, Array]:
        """Return a buffer in the order of memory, and a view of it with the axes (G, ..., H, W, n).

        The order of memory is (G, R, ..., P). With `rows_first` R = H and P = W n, otherwise R = 1 and P = H W n.
        The distance between rows of P entries is never a multiple of 2 KiB, because such rows share a few
        lines of the cache.
        """
        groups, *lead, height, width, images = shape
        parts = height if block.rows_first else 1
        length = height * width * images // max(1, parts)
        spare = 16 if length * self._dtype.itemsize % 2048 == 0 else 0
        raw = self.take(name, (groups, parts, *lead, length + spare))[..., :length]
        if block.rows_first:
            return raw, np.moveaxis(raw.reshape(groups, height, *lead, width, images), 1, -3)
        if block.batch_inner:
            return raw, raw.reshape(groups, *lead, height, width, images)
        return raw, raw.reshape(groups, *lead, height, images, width).swapaxes(-1, -2)


def planes(array: Array, groups: int, height: int, width: int) -> Array:
    """Return an array (N, G*C, ...), whose channels are planes of this size, as the view (G, C, H, W, N)."""
    images, channels = array.shape[:2]
    return array.reshape(images, groups, channels // groups, height, width).transpose(1, 2, 3, 4, 0)


def padded(x: Array, block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> dict[int, Array]:
    """Return the part of x (G, C, H, W, N) that the windows of a block read, padded with zeros.

    The result has one array for each remainder of column / stride that a tap reaches. The columns that a tap
    reads are then contiguous. The arrays are views of x if no padding is needed and the batch is not innermost.
    """
    (height, width), inside, here = _extent(x, block, rows, columns)
    source, stride = x[(..., *inside, block.images)], columns.stride
    reached = [remainder for remainder, _ in by_remainder(columns)]
    if source.shape[2:4] == (height, width) and not block.batch_inner:
        return {remainder: source[:, :, :, remainder::stride] for remainder in reached}
    apart = (*x.shape[:2], len(reached), height, -(-width // stride), source.shape[-1])
    _, result = scratch.take_block("padded", apart, block)
    if source.shape[2:4] != (height, width):
        result.fill(0)
    for k, remainder in enumerate(reached):
        there, of = every(inside[1], here[1], remainder, stride, apart[4])
        result[:, :, k, here[0], of] = x[:, :, inside[0], there, block.images]
    return {remainder: result[:, :, k] for k, remainder in enumerate(reached)}


def unfold(
    xp: dict[int, Array], block: Block, rows: Axis, columns: Axis, scratch: Scratch, *, stacked: bool
) -> list[Array]:
    """Return the columns (G, R, K, P) of a padded block: K values for each of P outputs in each of R parts.

    - If stacked, there is one array, R = 1, and K runs over (c, p, q) as in w.
    - With `rows_first` there is one array, a part is a row of outputs, and K runs over (p, q, c).
    - Otherwise there is one array for each row p of the window, R = 1, and K runs over (q, c).

    In the last two cases only the width is unfolded, once for all rows of the window. Row p then reads the
    unfolded rows of row 0, offset by p * dilation.
    """
    groups, channels, height, _, images = xp[0].shape
    shape: tuple[int, ...]
    if block.rows_first:
        if columns.kernel == columns.stride == 1:
            raw = np.moveaxis(xp[0], 2, 1)  # as `padded` left it
        else:
            shape = (groups, columns.kernel, channels, height, columns.out, images)
            raw, unfolded = scratch.take_block("columns", shape, block)
            for q in range(columns.kernel):
                unfolded[:, q] = _read(xp, q, columns)
        return [_slid(raw.reshape(groups, height, columns.kernel * channels, columns.out * images), block, rows)]
    if (rows.kernel, columns.kernel, rows.stride, columns.stride, images) == (1, 1, 1, 1, 1):
        return [xp[0].reshape(groups, 1, channels, block.rows * columns.out)]  # no window, no copy
    outputs = block.rows * columns.out * images
    if stacked:
        shape = (groups, channels, rows.kernel, columns.kernel, block.rows, columns.out, images)
        raw, unfolded = scratch.take_block("columns", shape, block)
        for p, q, view in taps(xp, block, rows, columns):
            unfolded[:, :, p, q] = view
        return [raw.reshape(groups, 1, channels * rows.kernel * columns.kernel, outputs)]
    # Row p of the window reads one row of x in `stride`. Rows of x with one remainder are stored together.
    starts = [divmod(start, rows.stride) for start in rows.starts]
    remainders = sorted({remainder for _, remainder in starts})
    height = starts[-1][0] + block.rows
    shape = (groups, columns.kernel, channels, len(remainders), height, columns.out, images)
    raw, unfolded = scratch.take_block("columns", shape, block)
    for q in range(columns.kernel):
        view = _read(xp, q, columns)
        for k, remainder in enumerate(remainders):
            unfolded[:, q, :, k] = view[:, :, remainder :: rows.stride][:, :, :height]
    read = raw.reshape(groups, 1, columns.kernel * channels, len(remainders), height * columns.out * images)
    row = columns.out * images
    return [read[:, :, :, remainders.index(k), start * row : start * row + outputs] for start, k in starts]


def _slid(unfolded: Array, block: Block, rows: Axis) -> Array:
    """Return rows (G, H, K, P) as the columns (G, R, kH * K, P) of each row of outputs.

    The result is a view, unless rows are dilated.
    """
    groups, _, taps, outputs = unfolded.shape
    windows = sliding_window_view(unfolded, rows.starts[-1] + 1, axis=1)
    read = windows[:, :: rows.stride, ..., :: rows.dilation][:, : block.rows]
    return read.transpose(0, 1, 4, 2, 3).reshape(groups, block.rows, rows.kernel * taps, outputs)


def fold(unfolded: Array, x: Array, block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> None:
    """Add columns (G, C, kH, kW, oH, oW, n) to the entries of x (G, C, H, W, N) that they were unfolded from.

    With a stride, all taps of one remainder read the same entries of x. Their columns are first added up in a
    contiguous buffer.
    """
    _, inside, here = _extent(x, block, rows, columns)
    for (down, of_rows), (right, of_columns) in itertools.product(by_remainder(rows), by_remainder(columns)):
        height, width = (last // axis.stride for last, axis in ((of_rows[-1], rows), (of_columns[-1], columns)))
        shape = (*x.shape[:2], height + block.rows, width + columns.out, unfolded.shape[-1])
        _, sums = scratch.take_block("padded", shape, block)
        sums.fill(0)
        for tap_down, tap_right in itertools.product(of_rows, of_columns):
            p, q = tap_down // rows.dilation, tap_right // columns.dilation
            top, left = tap_down // rows.stride, tap_right // columns.stride
            sums[:, :, top : top + block.rows, left : left + columns.out] += unfolded[:, :, p, q]
        to_rows, from_rows = every(inside[0], here[0], down, rows.stride, shape[2])
        to_columns, from_columns = every(inside[1], here[1], right, columns.stride, shape[3])
        target = x[:, :, to_rows, to_columns, block.images]
        target += sums[:, :, from_rows, from_columns]


def by_remainder(axis: Axis) -> list[tuple[int, list[int]]]:
    """Return the offsets of the taps in a window, grouped by offset % stride."""
    return [
        (remainder, [start for start in axis.starts if start % axis.stride == remainder])
        for remainder in sorted({start % axis.stride for start in axis.starts})
    ]


def turned_axes(axis: Axis) -> list[tuple[slice, slice, Axis]]:
    """Return, for each remainder that a tap reaches: its entries of x, its taps reversed, and the axis of dy.

    Tap t of output o reads entry o * stride + t * dilation of padded x. Let t * dilation = e * stride + r.
    Then output m - e reads entry m * stride + r.
    """
    found = []
    for remainder, starts in by_remainder(axis):
        first = (remainder - axis.before) % axis.stride
        taps = [start // axis.dilation for start in starts]
        step = taps[1] - taps[0] if len(taps) > 1 else axis.stride
        last = taps[0] - 1 if taps[0] else None
        nearest, furthest = starts[0] // axis.stride, starts[-1] // axis.stride
        m = (first + axis.before) // axis.stride
        out = len(range(first, axis.size, axis.stride))
        after = m + out - nearest - axis.out
        apart = Axis(axis.out, len(taps), 1, step * axis.dilation // axis.stride, furthest - m, after, out)
        found.append((slice(first, None, axis.stride), slice(taps[-1], last, -step), apart))
    return found


def every(inside: slice, here: slice, remainder: int, stride: int, length: int) -> tuple[slice, slice]:
    """Return the entries of a padded axis that have one remainder and lie in x.

    The first slice is their position in x, the second their number among the entries of this remainder.
    """
    first = max(0, -(-(here.start - remainder) // stride))
    last = max(first, min(length, -(-(here.stop - remainder) // stride)))
    start = inside.start + first * stride + remainder - here.start
    return slice(start, start + (last - first) * stride, stride), slice(first, last)


def taps(xp: dict[int, Array], block: Block, rows: Axis, columns: Axis) -> Iterator[tuple[int, int, Array]]:
    """Yield p, q and the view (G, C, oH, oW, n) of the entries that tap (p, q) reads in each window."""
    for p, q in positions(rows.kernel, columns.kernel):
        start = p * rows.dilation
        yield p, q, _read(xp, q, columns)[:, :, start : start + (block.rows - 1) * rows.stride + 1 : rows.stride]


def _read(xp: dict[int, Array], q: int, columns: Axis) -> Array:
    """Return the view (G, C, H, oW, n) of the entries that column q of the windows reads."""
    start, remainder = divmod(q * columns.dilation, columns.stride)
    return xp[remainder][:, :, :, start : start + columns.out]


def _extent(
    x: Array, block: Block, rows: Axis, columns: Axis
) -> tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]:
    """Return the size (H, W) of a padded block, the part of x inside it, and the position of that part.

    H is rounded up to whole strides, so that every remainder has the same number of rows.
    """
    height = ((rows.kernel - 1) * rows.dilation // rows.stride + block.rows) * rows.stride
    width = (columns.kernel - 1) * columns.dilation + (columns.out - 1) * columns.stride + 1
    inside, here = [], []
    for start, length, size in (
        (block.outputs.start * rows.stride - rows.before, height, x.shape[2]),
        (-columns.before, width, x.shape[3]),
    ):
        low = min(max(start, 0), size)
        high = max(low, min(start + length, size))
        inside.append(slice(low, high))
        here.append(slice(low - start, high - start))
    return (height, width), (inside[0], inside[1]), (here[0], here[1])
