"""The plan of a fast convolution: how its sizes decide into which blocks it is cut.

A plan changes only the order of sums, so any plan is right for any sizes. `choose` weighs three costs:

- Memory. One block is computed at a time, so memory does not grow with the batch. A block is several
  images or some rows of one image.
- Copies. Unfolding along the width alone copies kH times fewer entries, but then kH products must be added.
  A copy costs by the number of its contiguous runs. With the batch innermost, runs are long.
  The rows of a window can then slide: one product for each row of outputs. This pays if there are few filters.
- Products. BLAS reads the filters less often if one product computes more outputs. It computes small products
  in one thread, which is faster if there are few filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cnn_core._arguments import Array
from cnn_core._blocked.unfold import Block
from cnn_core._geometry import Axis

# Bytes of a block; few filters get half. Measured with 1 MiB of level-2 and 32 MiB of level-3 cache.
# Smaller blocks need more calls. Larger blocks leave the cache, and fresh memory costs more than a copy.
_BLOCK = 8 << 20
# The fewest outputs of a product in several threads. With fewer, reading the filters dominates.
_POSITIONS = 3072
# An image of a 1x1 convolution with at least 128 outputs is multiplied in place. Smaller ones are copied together.
_UNCOPIED = 128
# Images of at most 4,096 entries are treated as one row if no window needs neighbours. Larger ones are cut into bands.
_ROW = 1 << 12
# Up to 2^18 multiplications OpenBLAS uses one thread, and a kernel that does not pack its operands.
_TILE = 1 << 18
# Filter matrices of at most 3,072 entries. Such tiles are then long, and threads cost more than they save.
_SMALL = 3 << 10


class Plan(NamedTuple):
    """How a convolution is cut into blocks. Any plan gives the right result for any sizes."""

    images: int  # images in a block
    outputs: int  # rows of outputs in a block
    batch_inner: bool  # the batch is the innermost axis of a block
    stacked: bool  # one product for the whole window; otherwise one for each of its rows or each row of outputs
    tile: int  # outputs in one call of BLAS

    @property
    def rows_first(self) -> bool:
        """Whether the rows of a window slide: each row of outputs is one product with a view of the columns."""
        return self.batch_inner and not self.stacked

    def blocks(self, images: int, rows: Axis) -> Iterator[Block]:
        """Yield the blocks in order."""
        for n in range(0, images, self.images):
            for i in range(0, rows.out, self.outputs):
                block = slice(n, min(n + self.images, images)), slice(i, min(i + self.outputs, rows.out))
                yield Block(*block, self.batch_inner, self.rows_first)


def choose(
    images: int, w_shape: tuple[int, ...], rows: Axis, columns: Axis, itemsize: int, *, whole: bool = False
) -> Plan:
    """Return the plan for `images` images. If `whole`, every row of the window must be unfolded."""
    groups, filters, channels = w_shape[:3]
    width, plane = columns.kernel * channels, max(1, rows.out * columns.out)
    # Entries for each output: those that a block reads, those it computes, and those it unfolds (stacked or not).
    read, made = groups * channels * rows.size * columns.size / plane, groups * filters
    unfolded = {True: groups * width * rows.kernel, False: groups * width * min(rows.kernel, rows.stride)}
    # Unfolding along the width alone saves copies but adds products. It pays if the columns outnumber the results.
    # Stacked products need no copy of the filters. That pays if there are more filters than outputs.
    outweighed = filters_outweigh(filters, images, rows, columns)
    stacked = whole or rows.kernel == 1 or width < 2 * filters or outweighed
    # A run costs as much as 16 entries. Transposing an entry costs 2 entries more than copying it.
    # Sliding rows need a product and a sum for each row of outputs, which costs too much if there are many filters.
    # Dilated rows cannot slide without a copy.
    few = filters * width * rows.kernel <= _SMALL
    slides = few and not whole and rows.kernel > 1 == rows.dilation
    outside = unfolded[stacked] * (1 + 16 / max(1, columns.out)) + (0 if stacked else (rows.kernel - 1) * made)
    inside = unfolded[not slides] + 2 * (read + made)
    # Each block reads all filters and adds to all of dw. Large filters should need only one or two blocks.
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
    """Return whether a reordered copy of the filters moves more entries than unfolding every window."""
    return filters > images * rows.out * columns.out


def in_one_row(rows: Axis, columns: Axis, *arrays: Array) -> tuple[Axis, Axis]:
    """Return the axes, or those of the image as one row if every window is one entry.

    One long row has longer contiguous runs, so it is copied faster.
    """
    size = rows.size * columns.size
    alone = all((axis.kernel, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in (rows, columns))
    if not alone or size > _ROW or not all(array.flags.c_contiguous for array in arrays):
        return rows, columns
    return Axis(1, 1, 1, 1, 0, 0, 1), Axis(size, 1, 1, 1, 0, 0, size)
