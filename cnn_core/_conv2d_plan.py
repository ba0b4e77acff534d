"""How a fast convolution is cut up: one plan for its sizes, and why.

A plan changes the order of sums and nothing else: any plan is right for any sizes. What is weighed is

- memory: a block of images, or of rows of one, is worked on at a time, whatever the batch;
- copies: the columns of one row of a window are as many times fewer as it has rows, but their products are added
  up; and a copy costs by its contiguous runs, which are long with the batch innermost. There the rows of a window
  may slide instead: one product for each row of outputs, good while the filters are few;
- products: BLAS spends less on reading filters the more outputs it makes at once, and leaves small products to
  one thread, which is faster where the filters are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cnn_core._arguments import Array
from cnn_core._geometry import Axis
from cnn_core._im2col import Block

# Bytes of a block, half of them where products are small. Measured with 1 MiB of level-2 and 32 MiB of level-3
# cache: smaller blocks make more calls, larger ones leave the cache, and fresh memory costs more than a copy.
_BLOCK = 8 << 20
# Outputs that a product for many threads should have at least; below, reading the filters dominates.
_POSITIONS = 3072
# With so many outputs an image is multiplied where it lies, if no window slides, rather than copied to others.
_UNCOPIED = 128
# Images up to this size are taken as one row where they may be; larger ones are cut into bands of rows.
_ROW = 1 << 12
# OpenBLAS takes one thread for up to 2^18 multiplications, and a kernel that need not pack its operands.
_TILE = 1 << 18
# Filter matrices so small that such tiles are long; then threads cost more than they bring.
_SMALL = 3 << 10


class Plan(NamedTuple):
    """How a convolution is cut up; any plan gives the right result for any sizes."""

    images: int  # of a block
    outputs: int  # rows of them, of a block
    batch_inner: bool  # the batch is the innermost axis of a block
    stacked: bool  # one product with all rows of the window, not one for each of them, or for each row of outputs
    tile: int  # outputs that are multiplied at a time

    @property
    def rows_first(self) -> bool:
        """Whether the rows of a window slide: one product for each row of outputs, with columns that are a view."""
        return self.batch_inner and not self.stacked

    def blocks(self, images: int, rows: Axis) -> Iterator[Block]:
        """The blocks, in order."""
        for n in range(0, images, self.images):
            for i in range(0, rows.out, self.outputs):
                block = slice(n, min(n + self.images, images)), slice(i, min(i + self.outputs, rows.out))
                yield Block(*block, self.batch_inner, self.rows_first)


def choose(
    images: int, w_shape: tuple[int, ...], rows: Axis, columns: Axis, itemsize: int, *, whole: bool = False
) -> Plan:
    """The plan for so many images; `whole` where every row of the window must be unfolded."""
    groups, filters, channels = w_shape[:3]
    width, plane = columns.kernel * channels, max(1, rows.out * columns.out)
    # In entries for each output: what a block reads and makes, and what it unfolds, stacked or along the width alone.
    read, made = groups * channels * rows.size * columns.size / plane, groups * filters
    unfolded = {True: groups * width * rows.kernel, False: groups * width * min(rows.kernel, rows.stride)}
    # The columns of one row of the window save copies but add up products: worth it where they outnumber the results.
    # Stacked, filters are multiplied as they lie, which also pays where they are more than the outputs.
    outweighed = filters_outweigh(filters, images, rows, columns)
    stacked = whole or rows.kernel == 1 or width < 2 * filters or outweighed
    # A run costs as much as 16 entries, and a transposition 2 more than a copy. Of many filters, a product and a sum
    # for each row of outputs would cost more than rows that slide save; dilated rows are copied.
    few = filters * width * rows.kernel <= _SMALL
    slides = few and not whole and rows.kernel > 1 == rows.dilation
    outside = unfolded[stacked] * (1 + 16 / max(1, columns.out)) + (0 if stacked else (rows.kernel - 1) * made)
    inside = unfolded[not slides] + 2 * (read + made)
    # What reads all filters, or adds to all of dw, should do so but once or twice.
    room = _BLOCK // 2 if few else 2 * _BLOCK if outweighed else _BLOCK
    image = {each: max(1, int(itemsize * plane * (read + unfolded[each] + made))) for each in unfolded}
    batch_inner = min(images, room // image[not slides]) >= 4 and inside < outside
    if batch_inner:
        stacked = not slides
    most = max(1, room // image[stacked])
    if batch_inner or few:
        count = most
    elif rows.kernel == columns.kernel == rows.stride == columns.stride == 1 and plane >= _UNCOPIED:
        count = 1
    else:
        count = min(most, -(-_POSITIONS // plane))
    bands = 1 if count > 1 else -(-image[stacked] // (2 * _BLOCK))
    entries = max(1, filters * width * (rows.kernel if stacked else 1))
    tile = _TILE // entries if few and not (batch_inner and slides) else _TILE
    return Plan(max(1, min(count, images)), max(1, -(-rows.out // bands)), batch_inner, stacked, tile)


def filters_outweigh(filters: int, images: int, rows: Axis, columns: Axis) -> bool:
    """Whether to copy the filters in another order moves more than to unfold every window."""
    return filters > images * rows.out * columns.out


def in_one_row(rows: Axis, columns: Axis, *arrays: Array) -> tuple[Axis, Axis]:
    """The axes, or, where no window looks beyond its entry, those of the image as one row: copies are longer then."""
    size = rows.size * columns.size
    alone = all((axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in (rows, columns))
    if not alone or size > _ROW or not all(array.flags.c_contiguous for array in arrays):
        return rows, columns
    return Axis(1, 1, 1, 1, 0, 0, 1), Axis(size, 1, 1, 1, 0, 0, size)
