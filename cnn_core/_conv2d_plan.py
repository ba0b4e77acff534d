"""How a fast convolution is cut up: one plan for its sizes, and why.

A plan changes the order of sums and nothing else: any plan is right for any sizes. What is weighed is

- memory: a block of images, or of rows of one, is worked on at a time, whatever the batch;
- copies: the columns of one row of a window are as many times fewer as it has rows, but their products are added
  up; and a copy costs by its contiguous runs, which are long with the batch innermost;
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
    stacked: bool  # one product with all rows of the window, not one for each
    tile: int  # outputs that are multiplied at a time

    def blocks(self, images: int, rows: Axis) -> Iterator[Block]:
        """The blocks, in order."""
        for n in range(0, images, self.images):
            for i in range(0, rows.out, self.outputs):
                block = slice(n, min(n + self.images, images)), slice(i, min(i + self.outputs, rows.out))
                yield Block(*block, self.batch_inner)


def choose(
    images: int, w_shape: tuple[int, ...], rows: Axis, columns: Axis, itemsize: int, *, whole: bool = False
) -> Plan:
    """The plan for so many images; `whole` where every row of the window must be unfolded."""
    groups, filters, channels = w_shape[:3]
    width, plane = columns.kernel * channels, max(1, rows.out * columns.out)
    # The columns of one row of the window save copies but add up products: worth it where they outnumber the results.
    # Stacked, filters are multiplied as they lie, which also pays where they are more than the outputs.
    outweighed = filters_outweigh(filters, images, rows, columns)
    stacked = whole or rows.kernel == 1 or width < 2 * filters or outweighed
    entries = max(1, filters * width * (rows.kernel if stacked else 1))
    tile = _TILE // entries if entries <= _SMALL else _TILE
    # In entries for each output: what a block reads, unfolds and makes. A run costs as much as 16 of them, and
    # a transposition 2 more than a copy.
    read = groups * channels * rows.size * columns.size / plane
    unfolded = groups * width * (rows.kernel if stacked else min(rows.kernel, rows.stride))
    image = max(1, int(itemsize * plane * (read + unfolded + groups * filters)))
    # What reads all filters, or adds to all of dw, should do so but once or twice.
    most = max(1, (_BLOCK // 2 if entries <= _SMALL else 2 * _BLOCK if outweighed else _BLOCK) // image)
    batch_inner = min(images, most) >= 4 and 16 * unfolded / max(1, columns.out) > 2 * (read + groups * filters)
    if batch_inner or entries <= _SMALL:
        count = most
    elif rows.kernel == columns.kernel == rows.stride == columns.stride == 1 and plane >= _UNCOPIED:
        count = 1
    else:
        count = min(most, -(-_POSITIONS // plane))
    bands = 1 if count > 1 else -(-image // (2 * _BLOCK))
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
