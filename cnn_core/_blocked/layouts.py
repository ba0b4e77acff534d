"""The four layouts of a block, each with the columns of its windows and the filters that match them.

    layout            order in memory    products                    K runs over
    WholeWindow       G C H n W          one                         c p q
    RowByRow          G C H n W          one for each window row     q c
    BatchInnermost    G C H W n          one                         c p q
    SlidingRows       G H C W n          one, in a part for each     p q c
                                         row of outputs

The cost of a copy depends more on the number of its contiguous runs than on its bytes. A run is n times longer
with the batch innermost, which pays if images are small. In return a block is transposed on its way in and out.
`plan` weighs these costs. Each class can be read alone.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cnn_core._arguments import Array
from cnn_core._blocked.block import Block, Layout, Scratch
from cnn_core._blocked.windows import read_by_column, taps
from cnn_core._geometry import Axis


class WholeWindow(Layout):
    """Every entry of a window is copied, so that there is one product. The filters are used as they are.

    The window of a 1x1 convolution of one image is the image itself, and nothing is copied.
    """

    batch_innermost = False

    def products(self, rows: Axis) -> int:
        return 1

    def stored_rows(self, rows: Axis) -> int:
        return rows.kernel

    def arrange(self, scratch: Scratch, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
        groups, *lead, height, width, images = shape
        raw = scratch.take_rows(name, (groups, 1, *lead, height * images * width))
        return raw, raw.reshape(groups, *lead, height, images, width).swapaxes(-1, -2)

    def unfold(self, xp: dict[int, Array], block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> list[Array]:
        groups, channels, _, _, images = xp[0].shape
        if (rows.kernel, columns.kernel, rows.stride, columns.stride, images) == (1, 1, 1, 1, 1):
            return [xp[0].reshape(groups, 1, channels, block.rows * columns.out)]
        shape = groups, channels, rows.kernel, columns.kernel, block.rows, columns.out, images
        raw, unfolded = self.arrange(scratch, "columns", shape)
        for p, q, view in taps(xp, block, rows, columns):
            unfolded[:, :, p, q] = view
        return [raw.reshape(groups, 1, channels * rows.kernel * columns.kernel, raw.shape[-1])]

    def filters(self, w: Array) -> Array:
        groups, filters, channels, height, width = w.shape
        return for_blas(w.reshape(1, groups, 1, filters, channels * height * width))

    def as_filters(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        return np.ascontiguousarray(matrices[0].reshape(shape))


class BatchInnermost(WholeWindow):
    """Every entry of a window is copied, from a block that has been transposed: a run is n times longer."""

    batch_innermost = True

    def arrange(self, scratch: Scratch, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
        groups, *lead, height, width, images = shape
        raw = scratch.take_rows(name, (groups, 1, *lead, height * width * images))
        return raw, raw.reshape(shape)


class RowByRow(Layout):
    """Windows are unfolded along their width alone, and every row of the window is a product of its own.

    Row p of the window reads the unfolded rows of row 0, offset by p * dilation. So kH times fewer entries are
    copied, but kH products are added. With a stride, rows of x that one row of the window reads lie together.
    """

    batch_innermost = False

    def products(self, rows: Axis) -> int:
        return rows.kernel

    def stored_rows(self, rows: Axis) -> int:
        return min(rows.kernel, rows.stride)

    def arrange(self, scratch: Scratch, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
        return WholeWindow().arrange(scratch, name, shape)

    def unfold(self, xp: dict[int, Array], block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> list[Array]:
        groups, channels, _, _, images = xp[0].shape
        starts = [divmod(start, rows.stride) for start in rows.starts]
        remainders = sorted({remainder for _, remainder in starts})
        height = starts[-1][0] + block.rows
        shape = groups, columns.kernel, channels, len(remainders), height, columns.out, images
        raw, unfolded = self.arrange(scratch, "columns", shape)
        for q in range(columns.kernel):
            view = read_by_column(xp, q, columns)
            for k, remainder in enumerate(remainders):
                unfolded[:, q, :, k] = view[:, :, remainder :: rows.stride][:, :, :height]
        row = columns.out * images
        read = raw.reshape(groups, 1, columns.kernel * channels, len(remainders), height * row)
        length = block.rows * row
        return [read[:, :, :, remainders.index(k), start * row : start * row + length] for start, k in starts]

    def filters(self, w: Array) -> Array:
        groups, filters, channels, height, width = w.shape
        return for_blas(w.transpose(3, 0, 1, 4, 2).reshape(height, groups, 1, filters, width * channels))

    def as_filters(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        groups, filters, channels, height, width = shape
        by_row = matrices.reshape(height, groups, filters, width, channels)
        return np.ascontiguousarray(by_row.transpose(1, 2, 4, 0, 3))


class SlidingRows(Layout):
    """Windows are unfolded along their width alone, and all rows of a window lie together, with the batch innermost.

    The next window begins one stride further on. So the columns of a row of outputs are a view, and each row of
    outputs is one part of a product. Dilated rows do not lie together: they are copied.
    """

    batch_innermost = True

    def products(self, rows: Axis) -> int:
        return 1

    def stored_rows(self, rows: Axis) -> int:
        return min(rows.kernel, rows.stride)

    def arrange(self, scratch: Scratch, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
        groups, *lead, height, width, images = shape
        raw = scratch.take_rows(name, (groups, height, *lead, width * images))
        return raw, np.moveaxis(raw.reshape(groups, height, *lead, width, images), 1, -3)

    def in_place(self, array: Array) -> Array | None:
        return None  # the rows of y and dy are inside their channels

    def unfold(self, xp: dict[int, Array], block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> list[Array]:
        groups, channels, height, _, images = xp[0].shape
        if columns.kernel == columns.stride == 1:
            raw = np.moveaxis(xp[0], 2, 1)  # as `padded` left it
        else:
            shape = groups, columns.kernel, channels, height, columns.out, images
            raw, unfolded = self.arrange(scratch, "columns", shape)
            for q in range(columns.kernel):
                unfolded[:, q] = read_by_column(xp, q, columns)
        unfolded = raw.reshape(groups, height, columns.kernel * channels, columns.out * images)
        windows = sliding_window_view(unfolded, rows.starts[-1] + 1, axis=1)
        read = windows[:, :: rows.stride, ..., :: rows.dilation][:, : block.rows].transpose(0, 1, 4, 2, 3)
        return [read.reshape(groups, block.rows, rows.kernel * unfolded.shape[2], unfolded.shape[3])]

    def filters(self, w: Array) -> Array:
        groups, filters, channels, height, width = w.shape
        return for_blas(w.transpose(0, 1, 3, 4, 2).reshape(1, groups, 1, filters, height * width * channels))

    def as_filters(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        groups, filters, channels, height, width = shape
        slid = matrices[0].reshape(groups, filters, height, width, channels)
        return np.ascontiguousarray(slid.transpose(0, 1, 4, 2, 3))


def for_blas(matrices: Array) -> Array:
    """Return the matrices, copied if neither their rows nor their columns are contiguous."""
    return matrices if matrices.itemsize in matrices.strides[-2:] else np.ascontiguousarray(matrices)
