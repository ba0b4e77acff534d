"""im2col and col2im: unfold the windows of a block of images into columns, and fold columns back.

The two are adjoint, `<unfold(x), c> = <x, fold(c)>`, and both move along one tap of the window at a
time: the values that tap reads form a strided view of the padded block, no copy.

A block is what is worked on at once: some images, and of each some rows of outputs, so that its
columns stay in cache and memory does not grow with the batch. Its arrays have the axes

    G C H W n    group, channel of the group, row, column, image of the block

and in memory the image stands before the column, or, with `batch_inner`, last of all. A copy costs
by the number of its contiguous runs more than by its bytes, and a run is then n times as long; what
it costs is a transposition of the block on its way in and out. That pays where images are small.
With `rows_first`, G H C W n, all rows of a window lie together once the width is unfolded, and those of
the window below begin further on: the columns of a row of outputs are a view.
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
    """Which images, which rows of their outputs, and how it lies in memory: the batch innermost, the rows first."""

    images: slice
    outputs: slice
    batch_inner: bool
    rows_first: bool  # only with batch_inner

    @property
    def rows(self) -> int:
        """The number of rows of outputs."""
        return int(self.outputs.stop - self.outputs.start)


class Scratch:
    """Named buffers that are used again for every block: fresh memory costs more than the copy into it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._buffers = dtype, dict[str, Array]()

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The buffer of this name, contiguous, of this shape; what it holds is left over."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, self._dtype)
        return buffer[:size].reshape(shape)

    def take_block(self, name: str, shape: tuple[int, ...], block: Block) -> tuple[Array, Array]:
        """A buffer for axes (G, ..., H, W, n), as it lies in memory and as a view with its axes in that order.

        It lies as (G, R, ..., P): R rows of P = W n entries each, or, unless `rows_first`, R = 1 and P = H W n.
        These P lie apart by no multiple of 2 KiB: such entries share a few lines of the cache.
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
    """An array (N, G*C, ...), each channel of whose images is a plane of this size, as the view (G, C, H, W, N)."""
    images, channels = array.shape[:2]
    return array.reshape(images, groups, channels // groups, height, width).transpose(1, 2, 3, 4, 0)


def padded(x: Array, block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> dict[int, Array]:
    """What the windows of a block read of x: (G, C, H, W, N), with zeros around it; views where none are needed.

    Of each remainder of the stride along the width that taps reach, the columns: what a tap reads then is a run.
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
    """Columns (G, R, K, P) of a padded block, P outputs of each of R parts; one array, or one for each row p.

    Stacked, R = 1, and K runs over (c, p, q) as in w. Otherwise it is unfolded along the width alone, and the rows of
    a window share that: what row p reads is what row 0 reads so many rows further up. Of a block with its rows first,
    the parts are rows of outputs, and K runs over (p, q, c); else R = 1, and K runs over (q, c), for each p.
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
    # With a stride, the rows that row p reads are every so many: those of one remainder lie together.
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
    """Rows (G, H, K, P) as what each row of outputs reads, (G, R, kH * K, P): a view, unless rows are dilated."""
    groups, _, taps, outputs = unfolded.shape
    windows = sliding_window_view(unfolded, rows.starts[-1] + 1, axis=1)
    read = windows[:, :: rows.stride, ..., :: rows.dilation][:, : block.rows]
    return read.transpose(0, 1, 4, 2, 3).reshape(groups, block.rows, rows.kernel * taps, outputs)


def fold(unfolded: Array, x: Array, block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> None:
    """Add columns (G, C, kH, kW, oH, oW, n) to x: (G, C, H, W, N) at what they were unfolded from.

    With a stride, taps of one remainder read the same entries, every so many: they are added up side by side first.
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
    """Where the taps of a window start, by what is left of it after whole strides."""
    return [
        (remainder, [start for start in axis.starts if start % axis.stride == remainder])
        for remainder in sorted({start % axis.stride for start in axis.starts})
    ]


def turned_axes(axis: Axis) -> list[tuple[slice, slice, Axis]]:
    """For each remainder of the stride that taps reach: its entries of x, its taps turned round, and dy's axis.

    Tap t of output o reads entry o * stride + t * dilation of padded x: with t * dilation = e * stride + r, the
    entry m * stride + r is read of output m - e.
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
    """Of a padded axis the entries of one remainder that lie in x: where in x, and which of them."""
    first = max(0, -(-(here.start - remainder) // stride))
    last = max(first, min(length, -(-(here.stop - remainder) // stride)))
    start = inside.start + first * stride + remainder - here.start
    return slice(start, start + (last - first) * stride, stride), slice(first, last)


def taps(xp: dict[int, Array], block: Block, rows: Axis, columns: Axis) -> Iterator[tuple[int, int, Array]]:
    """For each tap (p, q) the view (G, C, oH, oW, n) of what it reads in every window of a padded block."""
    for p, q in positions(rows.kernel, columns.kernel):
        start = p * rows.dilation
        yield p, q, _read(xp, q, columns)[:, :, start : start + (block.rows - 1) * rows.stride + 1 : rows.stride]


def _read(xp: dict[int, Array], q: int, columns: Axis) -> Array:
    """The view (G, C, H, oW, n) of what column q of the windows reads of a padded block."""
    start, remainder = divmod(q * columns.dilation, columns.stride)
    return xp[remainder][:, :, :, start : start + columns.out]


def _extent(
    x: Array, block: Block, rows: Axis, columns: Axis
) -> tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]:
    """The size (H, W) of a padded block, which part of x lies in it, and where in it.

    Rows are made up to whole strides, so that those of every remainder are equally many.
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
