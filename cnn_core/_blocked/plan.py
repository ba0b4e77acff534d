"""The plan of a fast convolution: how its sizes decide into which blocks it is cut, and in which layout.

A plan changes only the order of sums, so any plan is right for any sizes. `choose` weighs three costs:

- Memory. One block is computed at a time, so memory does not grow with the batch. A block is several
  images or some rows of one image.
- Copies. A copy costs by its entries and by the number of its contiguous runs. `layouts` says what each layout
  copies.
- Products. BLAS reads the filters less often if one product computes more outputs. It computes small products
  in one thread, which is faster if there are few filters.

The constants below were fitted in float32 with two threads of OpenBLAS 0.3.31, to the zoo of convolutions in
`verify/layers/conv2d.py`. The machine had two cores, 1 MiB of level-2 and 32 MiB of level-3 cache. Its kernel was
not recorded. On an Intel Xeon with 2 MiB of level-2 cache some were varied later, in one thread, by CPU time. The
figures are changes of the geometric mean over the zoo, with the kernels with AVX-512 (SkylakeX) and without (Haswell):

- `_POSITIONS` from 384 to 3,072: at most 2 % with either kernel.
- `_UNCOPIED` of 32: 1 to 3 % slower with both. Of 512: below 1 % with both.
- `_BLOCK` halved or doubled: below 1 % with SkylakeX. Not measured with Haswell.

To fit them again:

1. Run `pytest benchmarks/bench_layers.py -k "conv2d and both" --benchmark-json=before.json` on an idle machine.
   Run it again with OPENBLAS_CORETYPE=Haswell in the environment. That kernel runs on every machine with AVX2.
2. Halve or double one constant, and run the same two commands.
3. Divide each time of "fast" by the time of "matmul" in its own run, since a machine's speed drifts. Keep the
   constant if the geometric mean of these ratios falls with both kernels.
4. `pytest verify/tests/test_plans.py` holds the limit of memory, and that every layout is still chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cnn_core._arguments import Array
from cnn_core._blocked.block import Block, Layout
from cnn_core._blocked.layouts import BatchInnermost, RowByRow, SlidingRows, WholeWindow
from cnn_core._geometry import Axis

# Bytes of a block. Few filters get half.
# Smaller blocks need more calls. Larger blocks leave the cache, and fresh memory costs more than a copy.
_BLOCK = 8 << 20
# The fewest outputs of a product in several threads. With fewer, reading the filters dominates: 192 are 2 % slower
# in the geometric mean, 256 channels on 14x14 up to 25 %. From 384 to 3,072 the mean changes by 2 % at most.
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
    layout: Layout
    tile: int  # outputs in one call of BLAS

    def blocks(self, images: int, rows: Axis) -> Iterator[Block]:
        """Yield the blocks in order."""
        for n in range(0, images, self.images):
            for i in range(0, rows.out, self.outputs):
                block = slice(n, min(n + self.images, images)), slice(i, min(i + self.outputs, rows.out))
                yield Block(*block, self.layout)


def choose(
    images: int, w_shape: tuple[int, ...], rows: Axis, columns: Axis, itemsize: int, *, whole: bool = False
) -> Plan:
    """Return the plan for `images` images. If `whole`, every row of the window must be unfolded."""
    groups, filters, channels = w_shape[:3]
    width, plane = columns.kernel * channels, max(1, rows.out * columns.out)
    few = filters * width * rows.kernel <= _SMALL
    outweighed = filters_outweigh(filters, images, rows, columns)
    outside, inside = _outside(filters, width, rows, whole=whole or outweighed), _inside(rows, whole=whole or not few)

    # Entries for each output: those that a block reads, those it unfolds, and those it computes.
    read, made = groups * channels * rows.size * columns.size / plane, groups * filters
    unfolded = {layout: groups * width * layout.stored_rows(rows) for layout in (outside, inside)}
    image = {layout: max(1, int(itemsize * plane * (read + unfolded[layout] + made))) for layout in unfolded}
    # Each block reads all filters and adds to all of dw. Large filters should need only one or two blocks.
    room = _BLOCK // 2 if few else 2 * _BLOCK if outweighed else _BLOCK
    # A run costs as much as 16 entries. Transposing an entry costs 2 entries more than copying it.
    cost = unfolded[outside] * (1 + 16 / max(1, columns.out)) + (outside.products(rows) - 1) * made
    transposed = unfolded[inside] + 2 * (read + made)
    innermost = min(images, room // image[inside]) >= 4 and transposed < cost

    layout = inside if innermost else outside
    most = max(1, room // image[layout])
    if innermost or few:
        count = most
    elif rows.kernel == columns.kernel == rows.stride == columns.stride == 1 and plane >= _UNCOPIED:
        count = 1
    else:
        count = min(most, -(-_POSITIONS // plane))
    bands = 1 if count > 1 else -(-image[layout] // (2 * _BLOCK))
    entries = max(1, filters * width * rows.kernel // layout.products(rows))
    tile = _TILE // entries if few and not isinstance(layout, SlidingRows) else _TILE
    return Plan(max(1, min(count, images)), max(1, -(-rows.out // bands)), layout, tile)


def _outside(filters: int, width: int, rows: Axis, *, whole: bool) -> Layout:
    """Return the better layout whose batch is not innermost.

    Unfolding along the width alone saves copies but adds products. It pays if the columns outnumber the results.
    The whole window needs no copy of the filters. That pays if there are more filters than outputs.
    """
    return WholeWindow() if whole or rows.kernel == 1 or width < 2 * filters else RowByRow()


def _inside(rows: Axis, *, whole: bool) -> Layout:
    """Return the better layout whose batch is innermost.

    Sliding rows need a part and a sum for each row of outputs, which costs too much if there are many filters.
    Dilated rows cannot slide without a copy.
    """
    return SlidingRows() if not whole and rows.kernel > 1 == rows.dilation else BatchInnermost()


def filters_outweigh(filters: int, images: int, rows: Axis, columns: Axis) -> bool:
    """Return whether a reordered copy of the filters moves more entries than unfolding every window."""
    return filters > images * rows.out * columns.out


def in_one_row(rows: Axis, columns: Axis, *arrays: Array) -> tuple[Axis, Axis]:
    """Return the axes, or those of the image as one row if every window is one entry, and every entry a window.

    One long row has longer contiguous runs, so it is copied faster.
    """
    size = rows.size * columns.size
    alone = all(axis == Axis(axis.size, 1, 1, axis.dilation, 0, 0, axis.size) for axis in (rows, columns))
    if not alone or size > _ROW or not all(array.flags.c_contiguous for array in arrays):
        return rows, columns
    return Axis(1, 1, 1, 1, 0, 0, 1), Axis(size, 1, 1, 1, 0, 0, size)
