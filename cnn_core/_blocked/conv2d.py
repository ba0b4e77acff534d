"""The fast convolution: the formula of `conv2d` as matrix products, block by block.

    y = w @ columns of x        dw = dy @ (columns of x)'        dx = fold of w' @ dy

BLAS multiplies near the speed of the machine, so this file saves copies:

- A block of columns stays in cache. The next block reuses its buffers.
- A window is unfolded only as far as the products need, in one of four layouts (`layouts`). A 1x1 convolution is
  not unfolded at all.
- For dw neither dy nor the columns are copied to transpose them. BLAS reads the narrower one transposed.
- Filters of many channels are larger than all arrays of small images. The filters and dw are then not copied.
- dx is a convolution of dy with the rotated kernel, wherever that copies less than folding.
  With a stride there is one such convolution for each remainder, with the taps that reach this remainder.

`plan` chooses the blocks of a convolution and their layout from its sizes.

What takes time beside the products is copying, and NumPy copies in one thread. In one thread both passes take 1.34
times as long as their bare products: geometric mean over the convolutions timed, float32, CPU time, OpenBLAS's kernel
Haswell. With n threads only the products are faster, so two threads give 1.66 by this sum. Two ways of copying less
were tried and left out:

- Blocks of one image, wherever it has at least 768 outputs, so that y and dy are used in place: no measurable change.
- dx and dw from one unfolding, that of dy, with dw = x @ (columns of dy)'. Backward took 0.93 to 0.98 of its time for
  3x3 windows with stride 1, 0.83 to 0.88 in 32 groups. With a stride or many filters it took up to 5 times as long.
  Each zero of the padding would also turn an infinite x into NaN.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from cnn_core._arguments import Array
from cnn_core._blocked.block import Block, Scratch
from cnn_core._blocked.layouts import SlidingRows, for_blas
from cnn_core._blocked.plan import Plan, choose, filters_outweigh, in_one_row
from cnn_core._blocked.windows import fold, padded, planes, turned_axes
from cnn_core._geometry import Axis


def by_group(w: Array, groups: int) -> Array:
    """Return w as the view (G, F/G, C/G, kH, kW)."""
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def correlate(
    x: Array, w: Array, b: Array | None, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """Compute y from (x, w, b), block by block."""
    y = np.empty((len(x), len(w), rows.out, columns.out), x.dtype)
    _correlate(x, by_group(w, groups), b, y, rows, columns, plan)
    return y


def _correlate(x: Array, w: Array, b: Array | None, y: Array, rows: Axis, columns: Axis, plan: Plan | None) -> None:
    groups, filters_each = w.shape[:2]
    rows, columns = in_one_row(rows, columns, x, y)
    plan = plan or choose(len(x), w.shape, rows, columns, x.itemsize)
    x_planes = planes(x, groups, rows.size, columns.size)
    y_planes = planes(y, groups, rows.out, columns.out)
    layout, filters, scratch = plan.layout, plan.layout.filters(w), Scratch(x.dtype)
    for block in plan.blocks(len(x), rows):
        xp = padded(x_planes, block, rows, columns, scratch)
        unfolded = layout.unfold(xp, block, rows, columns, scratch)
        target = y_planes[:, :, block.outputs, :, block.images]
        total, result = layout.in_place(target), target
        if total is None:
            total, result = layout.arrange(scratch, "results", target.shape)
        _product(filters[0], unfolded[0], total, plan.tile)
        for matrices, operand in zip(filters[1:], unfolded[1:], strict=True):
            total += _product(matrices, operand, scratch.take("products", total.shape), plan.tile)
        if b is not None:
            total += b.reshape(groups, 1, filters_each, 1)
        if result is not target:
            target[...] = result


def filter_gradient(
    x: Array, w: Array, dy: Array, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """Compute dw from (x, dy), block by block: each block adds dy times the columns of x."""
    shape = by_group(w, groups).shape
    rows, columns = in_one_row(rows, columns, x, dy)
    plan = plan or choose(len(x), shape, rows, columns, x.itemsize)
    x_planes = planes(x, groups, rows.size, columns.size)
    dy_planes = planes(dy, groups, rows.out, columns.out)
    layout, filters = plan.layout, shape[1]
    products, taps = layout.products(rows), math.prod(shape[2:]) // layout.products(rows)
    # BLAS takes its right factor transposed. This costs nothing if it is the narrower one. If it is the wider one it
    # costs up to a quarter, and with 16 filters three quarters. Measured with OpenBLAS, with and without AVX-512.
    # dw is then transposed, and copied at the end. A dw larger than all other arrays is computed in its own order.
    narrow = filters <= taps and not (products == 1 and filters_outweigh(filters, len(x), rows, columns))
    # The sums are transposed at the end, so their rows get 16 spare entries: see Scratch.take_rows.
    sums = (products, groups, taps, filters + 16) if narrow else (products, groups, filters, taps)
    total = np.zeros(sums, x.dtype)[..., : filters if narrow else taps]
    scratch = Scratch(x.dtype)
    for block in plan.blocks(len(x), rows):
        xp = padded(x_planes, block, rows, columns, scratch)
        unfolded = layout.unfold(xp, block, rows, columns, scratch)
        upstream = _upstream(dy_planes, block, scratch)
        for dfilters, operand in zip(total, unfolded, strict=True):
            factors = (operand, upstream) if narrow else (upstream, operand)
            dfilters += _contraction(*factors, scratch, plan.tile)
    return layout.as_filters(total.swapaxes(2, 3) if narrow else total, shape).reshape(w.shape)


def input_gradient(dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int) -> Array:
    """Compute dx from (dy, w) in the cheaper way: unfold dy, or fold columns of dx."""
    copied = rows.kernel * columns.kernel > 1
    outweighed = copied and filters_outweigh(len(w) // groups, len(dy), rows, columns)
    # A rotated kernel needs dy padded with zeros. Zero times an infinite w is NaN.
    cheaper = not copied or _turning_is_cheaper(len(dy), w, rows, columns, groups, dy.itemsize)
    if cheaper and not outweighed and np.isfinite(w).all():
        return turned(dy, w, x_shape, rows, columns, groups)
    return folded(dy, w, x_shape, rows, columns, groups)


def _turning_is_cheaper(images: int, w: Array, rows: Axis, columns: Axis, groups: int, itemsize: int) -> bool:
    """Return whether unfolding dy costs less than folding.

    The unit is one copied entry for each tap. 16 multiplications count as one entry, measured with LeNet's
    second layer. There both ways take the same time, and a plane of dx is twice as large as one of dy.
    """
    (_, of_rows, sub_rows), (_, of_columns, sub_columns) = turned_axes(rows)[0], turned_axes(columns)[0]
    turned_w = by_group(w, groups).swapaxes(1, 2)[..., of_rows, of_columns]
    slides = isinstance(choose(images, turned_w.shape, sub_rows, sub_columns, itemsize).layout, SlidingRows)
    entries, filters, channels = rows.size * columns.size // (rows.stride * columns.stride), len(w), w.shape[1]
    products = filters * channels / 16
    unfolding = entries * (filters / (rows.kernel if slides else 1) + products)
    return bool(unfolding <= rows.out * columns.out * (2 * groups * channels + products))


def turned(
    dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """Compute dx: dy correlated with the rotated kernel.

    With a stride, each remainder is a correlation of its own, with the taps that reach this remainder.
    """
    turned_w = by_group(w, groups).swapaxes(1, 2)
    along_rows, along_columns = turned_axes(rows), turned_axes(columns)
    reached = len(along_rows) * len(along_columns) == rows.stride * columns.stride
    dx = (np.empty if reached else np.zeros)(x_shape, dy.dtype)
    for (down, of_rows, sub_rows), (right, of_columns, sub_columns) in itertools.product(along_rows, along_columns):
        _correlate(dy, turned_w[..., of_rows, of_columns], None, dx[:, :, down, right], sub_rows, sub_columns, plan)
    return dx


def folded(
    dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """Compute dx at any stride: w' times a block of dy gives columns of dx, which are folded."""
    w = by_group(w, groups)
    plan = plan or choose(len(dy), w.shape, rows, columns, dy.itemsize, whole=True)
    dx = np.zeros(x_shape, dy.dtype)
    dx_planes = planes(dx, groups, rows.size, columns.size)
    dy_planes = planes(dy, groups, rows.out, columns.out)
    filters = for_blas(w.reshape(*w.shape[:2], math.prod(w.shape[2:])).swapaxes(1, 2)[:, None])
    window = groups, w.shape[2], rows.kernel, columns.kernel

    scratch = Scratch(dy.dtype)
    for block in plan.blocks(len(dy), rows):
        operand = _upstream(dy_planes, block, scratch)
        images = len(range(*block.images.indices(len(dy))))
        raw, unfolded = plan.layout.arrange(scratch, "columns", (*window, block.rows, columns.out, images))
        _product(filters, operand, raw.reshape(groups, operand.shape[1], filters.shape[2], operand.shape[3]), plan.tile)
        fold(unfolded, dx_planes, block, rows, columns, scratch)
    return dx


def _upstream(dy: Array, block: Block, scratch: Scratch) -> Array:
    """Return a block of dy (G, F/G, oH, oW, N) as (G, R, F/G, P), which matches the columns of x."""
    upstream = dy[:, :, block.outputs, :, block.images]
    raw = block.layout.in_place(upstream)
    if raw is None:
        raw, copied = block.layout.arrange(scratch, "upstream", upstream.shape)
        copied[...] = upstream
    return raw


def _product(a: Array, b: Array, out: Array, tile: int) -> Array:
    """Write a @ b into out, for a (G, 1, M, K) and b (G, R, K, P), `tile` outputs at a time."""
    if a.shape[3] == 1:
        return np.multiply(a, b, out=out)
    tile = max(1, min(tile, b.shape[3]))
    whole = b.shape[3] // tile * tile
    count = whole // tile
    tiles = [array[..., :whole].reshape(*array.shape[:3], count, tile).swapaxes(2, 3) for array in (b, out)]
    np.matmul(a[:, :, None], tiles[0], out=tiles[1])
    if whole < b.shape[3]:
        np.matmul(a, b[..., whole:], out=out[..., whole:])
    return out


def _contraction(a: Array, b: Array, scratch: Scratch, tile: int) -> Array:
    """Return the sum over R of a @ b', for a (G, R, M, P) and b (G, R, K, P), `tile` outputs at a time."""
    groups, parts, _, length = a.shape
    tile = min(tile, length)
    whole = length // tile * tile
    count = whole // tile
    left, right = (
        array[..., :whole].reshape(*array.shape[:3], count, tile).transpose(0, 1, 3, 2, 4) for array in (a, b)
    )
    products = scratch.take("products", (groups, parts, count, a.shape[2], b.shape[2]))
    np.matmul(left, right.swapaxes(3, 4), out=products)
    total = products[:, 0, 0] if parts == count == 1 else products.sum(axis=(1, 2))
    if whole < length:
        total += (a[..., whole:] @ b[..., whole:].swapaxes(2, 3)).sum(axis=1)
    return total
