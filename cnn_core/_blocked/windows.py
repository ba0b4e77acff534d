"""The windows of a block of images: what they read of x, and folding columns back into x.

Unfolding (`layouts`) and folding are adjoint: `<unfold(x), c> = <x, fold(c)>`. Both copy one tap of the window at
a time. The values that a tap reads are a strided view of the padded block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cnn_core._arguments import Array
from cnn_core._blocked.block import Block, Scratch
from cnn_core._geometry import Axis, positions


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
    if source.shape[2:4] == (height, width) and not block.layout.batch_innermost:
        return {remainder: source[:, :, :, remainder::stride] for remainder in reached}
    apart = (*x.shape[:2], len(reached), height, -(-width // stride), source.shape[-1])
    _, result = block.layout.arrange(scratch, "padded", apart)
    if source.shape[2:4] != (height, width):
        result.fill(0)
    for k, remainder in enumerate(reached):
        there, of = every(inside[1], here[1], remainder, stride, apart[4])
        result[:, :, k, here[0], of] = x[:, :, inside[0], there, block.images]
    return {remainder: result[:, :, k] for k, remainder in enumerate(reached)}


def fold(unfolded: Array, x: Array, block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> None:
    """Add columns (G, C, kH, kW, oH, oW, n) to the entries of x (G, C, H, W, N) that they were unfolded from.

    With a stride, all taps of one remainder read the same entries of x. Their columns are first added up in a
    contiguous buffer.
    """
    _, inside, here = _extent(x, block, rows, columns)
    for (down, of_rows), (right, of_columns) in itertools.product(by_remainder(rows), by_remainder(columns)):
        height, width = (last // axis.stride for last, axis in ((of_rows[-1], rows), (of_columns[-1], columns)))
        shape = (*x.shape[:2], height + block.rows, width + columns.out, unfolded.shape[-1])
        _, sums = block.layout.arrange(scratch, "padded", shape)
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
        nearest, furthest = starts[0] // axis.stride, starts[-1] // axis.stride
        m = (first + axis.before) // axis.stride
        out = len(range(first, axis.size, axis.stride))
        after = m + out - nearest - axis.out
        apart = Axis(axis.out, len(taps), 1, step * axis.dilation // axis.stride, furthest - m, after, out)
        found.append((slice(first, None, axis.stride), slice(taps[-1], None, -step), apart))
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
        yield (
            p,
            q,
            read_by_column(xp, q, columns)[:, :, start : start + (block.rows - 1) * rows.stride + 1 : rows.stride],
        )


def read_by_column(xp: dict[int, Array], q: int, columns: Axis) -> Array:
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
