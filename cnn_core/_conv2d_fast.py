"""The fast convolution: the formula of `conv2d` as matrix products, planned by sizes.

    y = w @ columns of x        dw = dy @ (columns of x)'        dx = fold of w' @ dy

Why it is fast, in the order of what it gains:

- The work is a matrix product, which BLAS does near the speed of the machine.
- It goes a block at a time. The columns of a block stay in cache, and its buffers are used for the next one.
- A window is unfolded no further than it must be: a 1x1 convolution not at all, a large one along its
  width only, as many shifted products as it has rows being added up.
- Small images are taken many at once with the batch innermost: few long copies, not many short ones.
- At stride 1 dx is itself a convolution, of dy with the kernel turned round, where that moves less than folding does.
- Products by small filters are cut into tiles that BLAS leaves to one thread: waking others takes longer.

`choose` makes all these choices. The plan changes the order of sums and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array
from cnn_core._geometry import Axis
from cnn_core._im2col import Block, Scratch, fold, padded, planes, unfold

# Bytes of a block. Measured with 1 MiB of level-2 and 32 MiB of level-3 cache: smaller blocks make more calls
# and products that spend their time reading filters, larger ones leave the cache.
_BLOCK = 8 << 20
# Outputs that a product for many threads should have at least; below, reading the filters dominates.
_POSITIONS = 3072
# With so many outputs an image is multiplied where it lies, if no window slides, rather than copied to others.
_UNCOPIED = 128
# OpenBLAS takes one thread for up to 2^18 multiplications, and a kernel that need not pack its operands.
_TILE = 1 << 18
# Filter matrices so small that such tiles are long; then threads cost more than they bring.
_SMALL = 1 << 12


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
    width, plane = columns.kernel * channels, rows.out * columns.out
    # The columns of one row of the window save copies but add up products: worth it where they outnumber the results.
    stacked = whole or rows.kernel == 1 or width < 2 * filters
    entries = max(1, filters * width * (rows.kernel if stacked else 1))
    tile = _TILE // entries if entries <= _SMALL else _TILE
    # In entries for each output: what a block reads, unfolds and makes. A run costs as much as 16 of them, and
    # a transposition 2 more than a copy.
    read = groups * channels * rows.size * columns.size / plane
    unfolded = groups * width * (rows.kernel if stacked else min(rows.kernel, rows.stride))
    image = max(1, int(itemsize * plane * (read + unfolded + groups * filters)))
    most = max(1, _BLOCK // image)
    batch_inner = min(images, most) >= 4 and 16 * unfolded / columns.out > 2 * (read + groups * filters)
    if batch_inner or entries <= _SMALL:
        count = most
    elif rows.kernel == columns.kernel == rows.stride == columns.stride == 1 and plane >= _UNCOPIED:
        count = 1
    else:
        count = min(most, -(-_POSITIONS // plane))
    bands = 1 if count > 1 else -(-image // (2 * _BLOCK))
    return Plan(max(1, min(count, images)), -(-rows.out // bands), batch_inner, stacked, tile)


def by_group(w: Array, groups: int) -> Array:
    """The view (G, F/G, C/G, kH, kW) of w."""
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def correlate(
    x: Array, w: Array, b: Array | None, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """(x, w, b) -> y, block by block."""
    return _correlate(x, by_group(w, groups), b, rows, columns, plan)


def _correlate(x: Array, w: Array, b: Array | None, rows: Axis, columns: Axis, plan: Plan | None) -> Array:
    groups, filters_each = w.shape[:2]
    plan = plan or choose(len(x), w.shape, rows, columns, x.itemsize)
    y = np.empty((len(x), groups * filters_each, rows.out, columns.out), x.dtype)
    x_planes, y_planes = planes(x, groups), planes(y, groups)
    filters = _filters(w, stacked=plan.stacked)
    bias = np.zeros((groups, 1, 1), x.dtype) if b is None else b.reshape(groups, filters_each, 1)

    scratch = Scratch(x.dtype)
    for block in plan.blocks(len(x), rows):
        xp = padded(x_planes, block, rows, columns, scratch)
        unfolded = unfold(xp, block, rows, columns, scratch, stacked=plan.stacked)
        target = y_planes[:, :, block.outputs, :, block.images]
        direct = target.shape[-1] == 1
        raw, result = (target, target) if direct else scratch.take_block("results", target.shape, block)
        total = raw.reshape(groups, target.shape[1], unfolded[0].shape[2])
        _product(filters[0], unfolded[0], total, plan.tile)
        for matrix, operand in zip(filters[1:], unfolded[1:], strict=True):
            total += _product(matrix, operand, scratch.take("products", total.shape), plan.tile)
        if not direct:
            np.add(result, bias[..., None, None], out=target)
        elif b is not None:
            total += bias
    return y


def filter_gradient(
    x: Array, w: Array, dy: Array, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """(x, dy) -> dw, block by block: the products of `correlate` with dy in the place of y."""
    shape = by_group(w, groups).shape
    plan = plan or choose(len(x), shape, rows, columns, x.itemsize)
    x_planes, dy_planes = planes(x, groups), planes(dy, groups)
    _, filters, channels, height, width = shape
    together = height if plan.stacked else 1  # rows of the window in one product
    # A little apart, for the transposition at the end: see Scratch.take_block.
    size = height // together, groups, together * width * channels, filters
    total = np.zeros((*size[:-1], filters + 16), x.dtype)[..., :filters]
    scratch = Scratch(x.dtype)
    for block in plan.blocks(len(x), rows):
        xp = padded(x_planes, block, rows, columns, scratch)
        unfolded = unfold(xp, block, rows, columns, scratch, stacked=plan.stacked)
        upstream = _transposed(dy_planes, block, scratch)
        for dfilters, operand in zip(total, unfolded, strict=True):
            dfilters += _contraction(operand, upstream, scratch, plan.tile)
    dw = np.empty(shape, x.dtype)
    for p, dfilters in enumerate(total):
        ordered = scratch.take("products", (groups, filters, size[2]))
        ordered[...] = dfilters.swapaxes(1, 2)
        split = ordered.reshape(groups, filters, together, width, channels)
        for q in range(width):
            dw[:, :, :, p * together : (p + 1) * together, q] = split[:, :, :, q].swapaxes(2, 3)
    return dw.reshape(w.shape)


def input_gradient(dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int) -> Array:
    """(dy, w) -> dx, by the cheaper of two ways: unfolding dy, or folding columns of x."""
    channels = groups * w.shape[1]
    unfolding, folding = len(w) * rows.size * columns.size, 2 * channels * rows.out * columns.out
    if rows.stride == columns.stride == 1 and unfolding <= folding:
        return turned(dy, w, rows, columns, groups)
    return folded(dy, w, x_shape, rows, columns, groups)


def turned(dy: Array, w: Array, rows: Axis, columns: Axis, groups: int, plan: Plan | None = None) -> Array:
    """dx at stride 1: dy correlated with the kernel turned round, padded to give x's size."""
    turned_w = by_group(w, groups)[..., ::-1, ::-1].swapaxes(1, 2)
    return _correlate(dy, turned_w, None, _turned(rows), _turned(columns), plan)


def folded(
    dy: Array, w: Array, x_shape: tuple[int, ...], rows: Axis, columns: Axis, groups: int, plan: Plan | None = None
) -> Array:
    """dx at any stride: each block of dy makes columns of dx, which are folded."""
    w = by_group(w, groups)
    plan = plan or choose(len(dy), w.shape, rows, columns, dy.itemsize, whole=True)
    dx = np.zeros(x_shape, dy.dtype)
    dx_planes, dy_planes = planes(dx, groups), planes(dy, groups)
    filters = np.ascontiguousarray(_filters(w, stacked=True)[0].swapaxes(1, 2))
    window = groups, rows.kernel, columns.kernel, w.shape[2]

    scratch = Scratch(dy.dtype)
    for block in plan.blocks(len(dy), rows):
        upstream = dy_planes[:, :, block.outputs, :, block.images]
        raw, copied = scratch.take_block("upstream", upstream.shape, block)
        copied[...] = upstream
        operand = raw.reshape(groups, raw.shape[1], math.prod(upstream.shape[2:]))
        raw, unfolded = scratch.take_block("columns", (*window, *upstream.shape[2:]), block)
        _product(filters, operand, raw.reshape(groups, filters.shape[1], operand.shape[2]), plan.tile)
        fold(unfolded, dx_planes, block, rows, columns, scratch)
    return dx


def _turned(axis: Axis) -> Axis:
    reach = axis.dilation * (axis.kernel - 1)
    before = reach - axis.before
    return Axis(axis.out, axis.kernel, 1, axis.dilation, before, axis.size - axis.out + axis.before, axis.size)


def _filters(w: Array, *, stacked: bool) -> Array:
    """w: (G, F/G, C/G, kH, kW) as matrices (products, G, F/G, K) that fit what `unfold` makes."""
    groups, filters, channels, height, width = w.shape
    if stacked:
        matrices = w.transpose(0, 1, 3, 4, 2).reshape(1, groups, filters, height * width * channels)
    else:
        matrices = w.transpose(3, 0, 1, 4, 2).reshape(height, groups, filters, width * channels)
    return np.ascontiguousarray(matrices)


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
    return copied.reshape(len(copied), -1, copied.shape[-1])


def _product(a: Array, b: Array, out: Array, tile: int) -> Array:
    """a @ b into out, for a (G, M, K) and b (G, K, P), so many outputs at a time."""
    if a.shape[2] == 1:
        return np.multiply(a, b, out=out)
    tile = min(tile, b.shape[2])
    whole = b.shape[2] // tile * tile
    tiles = [array[..., :whole].reshape(*array.shape[:2], -1, tile).swapaxes(1, 2) for array in (b, out)]
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
    tiles = (
        a[..., :whole].reshape(groups, rows, -1, tile).swapaxes(1, 2),
        b[:, :whole].reshape(groups, -1, tile, columns),
    )
    products = np.matmul(*tiles, out=scratch.take("products", (groups, whole // tile, rows, columns)))
    total = products[:, 0] if whole == tile else products.sum(axis=1)
    if whole < length:
        total += a[..., whole:] @ b[:, whole:]
    return total
