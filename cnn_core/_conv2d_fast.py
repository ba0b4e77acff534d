"""The fast convolution: the formula of `conv2d` as matrix products, block by block.

    y = w @ columns of x        dw = dy @ (columns of x)'        dx = fold of w' @ dy

BLAS multiplies near the speed of the machine, so what is left to save is copies:

- A block of columns stays in cache, and its buffers are used again for the next one.
- A window is unfolded no further than it must be. Of a 1x1 convolution nothing is. A large window is unfolded
  along its width only; each of its rows is then a product with the same columns, further down.
- For dw the narrower of dy and the columns is transposed, as BLAS multiplies (K, P) by (P, F) fastest.
- Filters of many channels are larger than all else of small images: they and dw are then left as they lie.
- dx is itself a convolution, of dy with the kernel turned round, where that moves less than folding; with a stride
  it is one for each remainder, of the taps that reach it.

`_conv2d_plan` says how a convolution is cut up, by its sizes.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from cnn_core._arguments import Array
from cnn_core._conv2d_plan import Plan, choose, filters_outweigh, in_one_row
from cnn_core._geometry import Axis
from cnn_core._im2col import Block, Scratch, fold, padded, planes, turned_axes, unfold


def by_group(w: Array, groups: int) -> Array:
    """The view (G, F/G, C/G, kH, kW) of w."""
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def correlate(
    x: Array, w: Array, b: Array | None, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """(x, w, b) -> y, block by block."""
    y = np.empty((len(x), len(w), rows.out, columns.out), x.dtype)
    _correlate(x, by_group(w, groups), b, y, rows, columns, plan)
    return y


def _correlate(x: Array, w: Array, b: Array | None, y: Array, rows: Axis, columns: Axis, plan: Plan | None) -> None:
    groups, filters_each = w.shape[:2]
    rows, columns = in_one_row(rows, columns, x, y)
    plan = plan or choose(len(x), w.shape, rows, columns, x.itemsize)
    x_planes = planes(x, groups, rows.size, columns.size)
    y_planes = planes(y, groups, rows.out, columns.out)
    filters = _filters(w, stacked=plan.stacked)

    scratch = Scratch(x.dtype)
    for block in plan.blocks(len(x), rows):
        xp = padded(x_planes, block, rows, columns, scratch)
        unfolded = unfold(xp, block, rows, columns, scratch, stacked=plan.stacked)
        target = y_planes[:, :, block.outputs, :, block.images]
        direct = target.shape[-1] == 1 and y.flags.c_contiguous
        raw, result = (target, target) if direct else scratch.take_block("results", target.shape, block)
        total = raw.reshape(groups, target.shape[1], unfolded[0].shape[2])
        _product(filters[0], unfolded[0], total, plan.tile)
        for matrix, operand in zip(filters[1:], unfolded[1:], strict=True):
            total += _product(matrix, operand, scratch.take("products", total.shape), plan.tile)
        if b is not None:
            total += b.reshape(groups, filters_each, 1)
        if not direct:
            target[...] = result


def filter_gradient(
    x: Array, w: Array, dy: Array, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """(x, dy) -> dw, block by block: the products of `correlate` with dy in the place of y."""
    shape = by_group(w, groups).shape
    rows, columns = in_one_row(rows, columns, x, dy)
    plan = plan or choose(len(x), shape, rows, columns, x.itemsize)
    x_planes = planes(x, groups, rows.size, columns.size)
    dy_planes = planes(dy, groups, rows.out, columns.out)
    together = rows.kernel if plan.stacked else 1  # rows of the window in one product
    products, filters, taps = rows.kernel // together, shape[1], together * columns.kernel * shape[2]
    as_is = products == 1 and filters_outweigh(filters, len(x), rows, columns)
    narrow = filters <= taps and not as_is
    # To be transposed at the end, so a little apart: see Scratch.take_block.
    sums = (products, groups, taps, filters + 16) if narrow else (products, groups, filters, taps)
    total = np.zeros(sums, x.dtype)[..., : filters if narrow else taps]
    scratch = Scratch(x.dtype)
    for block in plan.blocks(len(x), rows):
        xp = padded(x_planes, block, rows, columns, scratch)
        unfolded = unfold(xp, block, rows, columns, scratch, stacked=plan.stacked)
        upstream = (_transposed if narrow else _upstream)(dy_planes, block, scratch)
        for dfilters, operand in zip(total, unfolded, strict=True):
            if narrow:
                dfilters += _contraction(operand, upstream, scratch, plan.tile)
            elif as_is:
                dfilters += _contraction(upstream, operand.swapaxes(1, 2), scratch, plan.tile)
            else:
                turned = scratch.take("turned", (groups, operand.shape[2], taps + 16))[..., :taps]
                turned[...] = operand.swapaxes(1, 2)
                dfilters += _contraction(upstream, turned, scratch, plan.tile)
    return _as_filters(total, shape, stacked=plan.stacked, transposed=narrow).reshape(w.shape)


def _as_filters(total: Array, shape: tuple[int, ...], *, stacked: bool, transposed: bool) -> Array:
    """Sums (products, G, F, K), or transposed (products, G, K, F), K as in `_filters`, in the order of w by group."""
    groups, filters, channels, _, width = shape
    matrices = total.swapaxes(2, 3) if transposed else total
    if stacked:  # in this order already
        return np.ascontiguousarray(matrices[0])
    result = np.empty(shape, total.dtype)
    for p, matrix in enumerate(matrices):
        result[:, :, :, p] = matrix.reshape(groups, filters, width, channels).swapaxes(2, 3)
    return result


def input_gradient(dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int) -> Array:
    """(dy, w) -> dx, by the cheaper of two ways: unfolding dy, or folding columns of x."""
    channels = groups * w.shape[1]
    unfolding = len(w) * rows.size * columns.size // (rows.stride * columns.stride)
    folding = 2 * channels * rows.out * columns.out
    copied = rows.kernel * columns.kernel > 1
    outweighed = copied and filters_outweigh(len(w) // groups, len(dy), rows, columns)
    # To turn the kernel round pads dy with zeros, which times an infinite w are NaN.
    if (unfolding <= folding or not copied) and not outweighed and np.isfinite(w).all():
        return turned(dy, w, x_shape, rows, columns, groups)
    return folded(dy, w, x_shape, rows, columns, groups)


def turned(
    dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """dx: dy correlated with the kernel turned round; for each remainder of a stride, with the taps that reach it."""
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
    """dx at any stride: each block of dy makes columns of dx, which are folded."""
    w = by_group(w, groups)
    plan = plan or choose(len(dy), w.shape, rows, columns, dy.itemsize, whole=True)
    dx = np.zeros(x_shape, dy.dtype)
    dx_planes = planes(dx, groups, rows.size, columns.size)
    dy_planes = planes(dy, groups, rows.out, columns.out)
    filters = _for_blas(_filters(w, stacked=True)[0].swapaxes(1, 2))
    window = groups, w.shape[2], rows.kernel, columns.kernel

    scratch = Scratch(dy.dtype)
    for block in plan.blocks(len(dy), rows):
        operand = _upstream(dy_planes, block, scratch)
        images = len(range(*block.images.indices(len(dy))))
        raw, unfolded = scratch.take_block("columns", (*window, block.rows, columns.out, images), block)
        _product(filters, operand, raw.reshape(groups, filters.shape[1], operand.shape[2]), plan.tile)
        fold(unfolded, dx_planes, block, rows, columns, scratch)
    return dx


def _filters(w: Array, *, stacked: bool) -> Array:
    """w: (G, F/G, C/G, kH, kW) as matrices (products, G, F/G, K) that fit what `unfold` makes."""
    groups, filters, channels, height, width = w.shape
    if stacked:
        matrices = w.reshape(1, groups, filters, channels * height * width)
    else:
        matrices = w.transpose(3, 0, 1, 4, 2).reshape(height, groups, filters, width * channels)
    return _for_blas(matrices)


def _for_blas(matrices: Array) -> Array:
    """The same matrices, copied if neither their rows nor their columns are contiguous."""
    return matrices if matrices.itemsize in matrices.strides[-2:] else np.ascontiguousarray(matrices)


def _upstream(dy: Array, block: Block, scratch: Scratch) -> Array:
    """A block of dy: (G, F/G, oH, oW, N) as (G, F/G, P), P as in its columns; a view of one image, where it can be."""
    upstream = dy[:, :, block.outputs, :, block.images]
    groups, filters, *outputs = upstream.shape
    if outputs[-1] > 1:
        raw, copied = scratch.take_block("upstream", upstream.shape, block)
        copied[...] = upstream
        upstream = raw
    return upstream.reshape(groups, filters, math.prod(outputs))


def _transposed(dy: Array, block: Block, scratch: Scratch) -> Array:
    """A block of dy: (G, F/G, oH, oW, N) as (G, P, F/G), P as in its columns: BLAS multiplies that fastest."""
    upstream = dy[:, :, block.outputs, :, block.images]
    if upstream.strides[1] % 2048 == 0 and not block.batch_inner:  # see Scratch.take_block
        _, apart = scratch.take_block("apart", upstream.shape, block)
        apart[...] = upstream
        upstream = apart
    source = upstream.transpose((0, 2, 3, 4, 1) if block.batch_inner else (0, 2, 4, 3, 1))
    copied = scratch.take("upstream", source.shape)
    copied[...] = source
    return copied.reshape(len(copied), math.prod(copied.shape[1:4]), copied.shape[4])


def _product(a: Array, b: Array, out: Array, tile: int) -> Array:
    """a @ b into out, for a (G, M, K) and b (G, K, P), so many outputs at a time."""
    if a.shape[2] == 1:
        return np.multiply(a, b, out=out)
    tile = max(1, min(tile, b.shape[2]))
    whole = b.shape[2] // tile * tile
    count = whole // tile
    tiles = [array[..., :whole].reshape(*array.shape[:2], count, tile).swapaxes(1, 2) for array in (b, out)]
    np.matmul(a[:, None], tiles[0], out=tiles[1])
    if whole < b.shape[2]:
        np.matmul(a, b[..., whole:], out=out[..., whole:])
    return out


def _contraction(a: Array, b: Array, scratch: Scratch, tile: int) -> Array:
    """a @ b for a (G, M, P) and b (G, P, K), so many outputs at a time, whose products are added up."""
    groups, rows, length = a.shape
    columns = b.shape[2]
    tile = min(tile, length)
    whole = length // tile * tile
    count = whole // tile
    tiles = (
        a[..., :whole].reshape(groups, rows, count, tile).swapaxes(1, 2),
        b[:, :whole].reshape(groups, count, tile, columns),
    )
    products = np.matmul(*tiles, out=scratch.take("products", (groups, count, rows, columns)))
    total = products[:, 0] if whole == tile else products.sum(axis=1)
    if whole < length:
        total += a[..., whole:] @ b[:, whole:]
    return total
