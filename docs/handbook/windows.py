"""The pictures of the windowed layers: what a window reads, what im2col lays out, where a gradient goes.

Every number in them is computed, by the geometry of the layer or by its naive version on small integers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from cnn_core._geometry import Axis, sliding_axes, transposed_axes
from handbook.svg import Cell, Grid
from verify.layers import LAYERS

# A size at which all is seen: unequal sides, a stride above 1 that leaves a column over, a window in the padding.
_SIZE, _KERNEL, _STRIDE, _PADDING = (5, 6), 3, 2, 1
# The window that is marked. It reads the padding above.
_AT = (0, 1)
# At this seed two entries win more than one window, in both layers that have winners.
_SEED = 0


def pictures(layer: str) -> list[list[Grid]]:
    """Return the grids of each picture of a layer. A layer without windows has none."""
    return [draw() for draw in _DRAWN.get(layer, ())]


def axes() -> tuple[Axis, Axis]:
    """Return the rows and columns of the windows in the pictures."""
    return sliding_axes(_SIZE, (_KERNEL, _KERNEL), stride=_STRIDE, padding=_PADDING, dilation=1)


def reads(output: tuple[int, int]) -> set[tuple[int, int]]:
    """Return the entries of the padded x that a window reads."""
    rows, columns = axes()
    taps = [(p, q) for p in range(rows.kernel) for q in range(columns.kernel)]
    return {(output[0] * _STRIDE + p * rows.dilation, output[1] * _STRIDE + q * columns.dilation) for p, q in taps}


def _sliding() -> list[Grid]:
    return [_window(), _output(), _unfolded()]


def _window() -> Grid:
    rows, columns = axes()
    read = reads(_AT)

    def cell(h: int, v: int) -> Cell:
        inside = h - rows.before in range(rows.size) and v - columns.before in range(columns.size)
        text = str((h - rows.before) * columns.size + v - columns.before) if inside else ""
        return Cell(text, " ".join(["read"] * ((h, v) in read) + ["rim"] * (not inside)))

    size = f"{rows.size} by {columns.size}"
    return Grid(
        "x",
        f"{size}, its entries numbered, in a rim of padding. Marked: what the window of y[{_AT[0]}, {_AT[1]}] reads.",
        f"The padded array x, {size}. The window of y[0, 1] covers rows 0 to 2 and columns 2 to 4 of it.",
        [[cell(h, v) for v in range(columns.padded)] for h in range(rows.padded)],
    )


def _output() -> Grid:
    rows, columns = axes()
    cells = [[Cell(f"{i},{j}", "read" * ((i, j) == _AT)) for j in range(columns.out)] for i in range(rows.out)]
    text = f"kernel {_KERNEL}, stride {_STRIDE}, padding {_PADDING}: {rows.out} by {columns.out} windows."
    return Grid("y", text, f"The array y, {rows.out} by {columns.out}, with the entry [0, 1] marked.", cells)


def _numbered(height: int, width: int) -> np.ndarray[Any, Any]:
    """Return entries numbered from 1, so that 0 is the padding."""
    return np.arange(1.0, height * width + 1).reshape(1, 1, height, width)


def _unfolded(name: str = "im2col(x)") -> Grid:
    """Return the matrix of columns, as unfold2d makes it of the numbers of the entries."""
    options = {"kernel_size": _KERNEL, "stride": _STRIDE, "padding": _PADDING}
    matrix = LAYERS["unfold2d"].reference.forward(_numbered(*_SIZE), **options)[0][0]
    marked = _AT[0] * axes()[1].out + _AT[1]

    def cell(value: float, column: int) -> Cell:
        mark = " ".join(["read"] * (column == marked) + ["rim"] * (not value))
        return Cell(str(int(value) - 1) if value else "", mark)

    return Grid(
        name,
        f"a column for each window, a row for each tap. Column {marked} is the marked window.",
        f"A matrix of {len(matrix)} rows and {matrix.shape[1]} columns: each column holds the entries of one window.",
        [[cell(value, column) for column, value in enumerate(row)] for row in matrix],
    )


def winners(layer: str) -> tuple[np.ndarray[Any, Any], ...]:
    """Return x, y, dy, dx and the flat indices of the winners of a max pooling, each of one plane."""
    x = np.random.default_rng(_SEED).permutation(np.arange(10.0, 40.0)).reshape(1, 1, *_SIZE)
    options = {"kernel_size": _KERNEL, "stride": _STRIDE, "padding": _PADDING}
    version = LAYERS[layer].reference
    y, cache = version.forward(x, **({"output_size": (3, 4)} if layer.startswith("adaptive") else options))
    dy = np.arange(1.0, y.size + 1).reshape(y.shape)
    dx = np.asarray(version.backward(dy, cache)[0])
    return x[0, 0], y[0, 0], dy[0, 0], dx[0, 0], cache.indices[0, 0]


def _winners(layer: str) -> list[Grid]:
    x, y, dy, dx, indices = winners(layer)
    won, several = set(indices.ravel().tolist()), {k for k in indices.ravel() if (indices == k).sum() > 1}

    def cells(array: np.ndarray[Any, Any], mark: Callable[[int], str]) -> list[list[Cell]]:
        width = array.shape[1]
        return [[Cell(_number(v), mark(i * width + j)) for j, v in enumerate(row)] for i, row in enumerate(array)]

    def marked(k: int) -> str:
        return "read" if k in several else "won" if k in won else ""

    def of_several(window: int) -> str:
        return "read" if indices.ravel()[window] in several else ""

    total = f"{len(won)} of {x.size} entries of x won a window, {len(several)} of them more than one."
    return [
        Grid(
            "x",
            "marked: what won a window, and in orange what won several.",
            f"The array x. {total}",
            cells(x, marked),
        ),
        Grid("y", "the largest entry of each window.", "The array y: the winners.", cells(y, of_several)),
        Grid("dy", "an upstream gradient.", "The array dy: 1, 2, 3 and so on.", cells(dy, of_several)),
        Grid("dx", "each dy is added at its winner.", f"The array dx. {total} The others get 0.", cells(dx, marked)),
    ]


def _number(value: float) -> str:
    fraction = Fraction(value).limit_denominator(99)
    return str(fraction)


def _laid() -> list[Grid]:
    """Return what an entry of x lays on y in a transposed convolution, and how many products each entry gets."""
    rows, columns = transposed_axes(
        (3, 4), (_KERNEL, _KERNEL), stride=_STRIDE, padding=_PADDING, output_padding=0, dilation=1
    )
    counts = np.zeros((rows.padded, columns.padded), int)
    for i in range(rows.out):
        for j in range(columns.out):
            counts[i * _STRIDE : i * _STRIDE + _KERNEL, j * _STRIDE : j * _STRIDE + _KERNEL] += 1
    top, left = _AT[0] * _STRIDE, _AT[1] * _STRIDE

    def cell(h: int, v: int) -> Cell:
        inside = h - rows.before in range(rows.size) and v - columns.before in range(columns.size)
        here = h - top in range(_KERNEL) and v - left in range(_KERNEL)
        return Cell(str(counts[h, v]), " ".join(["read"] * here + ["rim"] * (not inside)))

    x = [[Cell(f"{i},{j}", "read" * ((i, j) == _AT)) for j in range(columns.out)] for i in range(rows.out)]
    return [
        Grid("x", "one entry is marked.", f"The array x, {rows.out} by {columns.out}, the entry [0, 1] marked.", x),
        Grid(
            "yp",
            "marked: where this entry lays the kernel. The numbers count the products that an entry gets. "
            "The broken rim is cropped.",
            f"The array yp, {rows.padded} by {columns.padded}. Kernels overlap in every second row and column.",
            [[cell(h, v) for v in range(columns.padded)] for h in range(rows.padded)],
        ),
    ]


def _folded() -> list[Grid]:
    """Return the columns, and the image with the number of columns that each entry is the sum of."""
    options = {"kernel_size": _KERNEL, "stride": _STRIDE, "padding": _PADDING}
    rows, columns = axes()
    ones = np.ones((1, _KERNEL**2, rows.out * columns.out))
    counts = LAYERS["fold2d"].reference.forward(ones, output_size=_SIZE, **options)[0][0, 0]
    read = {(h - rows.before, v - columns.before) for h, v in reads(_AT)}
    cells = [[Cell(_number(v), "read" * ((i, j) in read)) for j, v in enumerate(row)] for i, row in enumerate(counts)]
    columns_of = _unfolded("x")
    caption = "columns. Each number is the entry of y to which the value is added. Values of the padding are dropped."
    image = Grid(
        "y",
        "how many values each entry is the sum of. Marked: where the marked column goes.",
        f"The array y, {_SIZE[0]} by {_SIZE[1]}, with the number of windows over each entry, from 1 to 4.",
        cells,
    )
    return [columns_of._replace(caption=caption), image]


# Calls that copy numbered entries of x: the layer's options, and the size of x.
COPIES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "pad2d": ((1, 1, 3, 4), {"pad": ((2, 1), (1, 2)), "mode": "reflect"}),
    "pixel_shuffle": ((1, 4, 2, 3), {"upscale_factor": 2}),
    "upsample_nearest2d": ((1, 1, 2, 3), {"size": (5, 7)}),
    "max_unpool2d": ((1, 1, 2, 3), {"output_size": (4, 6)}),
}


def _copies(layer: str) -> list[Grid]:
    """Return x with its entries numbered, and y, whose entries are copies of them."""
    shape, options = COPIES[layer]
    x = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    arrays: tuple[Any, ...] = (x,)
    if layer == "max_unpool2d":
        arrays = (x, np.array([0, 8, 4, 13, 15, 23]).reshape(shape))
    y, _ = LAYERS[layer].reference.forward(*arrays, **options)
    called = ", ".join(f"{name}={value!r}" for name, value in options.items())
    marked = float(x.ravel()[1])

    def cells(plane: np.ndarray[Any, Any]) -> list[list[Cell]]:
        return [[Cell(_number(v) if v else "0", "read" * bool(v == marked)) for v in row] for row in plane]

    name = "x" if shape[1] == 1 else "x[0, {}]"
    planes = [
        Grid(
            name.format(c), "numbered." if c == 0 else "", f"The array x, channel {c}, its entries numbered.", cells(p)
        )
        for c, p in enumerate(x[0])
    ]
    count = int((y == marked).sum())
    heard = f"The array y, {y.shape[2]} by {y.shape[3]}. It holds the marked entry {count} times."
    return [*planes, Grid("y", f"{called}. The same mark: the same entry.", heard, cells(y[0, 0]))]


# Calls whose y has weights: the size of x, the options, and the entry of y that is marked.
WEIGHTS: dict[str, tuple[tuple[int, int], dict[str, Any], tuple[int, int]]] = {
    "adaptive_avg_pool2d": ((5, 6), {"output_size": (3, 4)}, (1, 1)),
    "upsample_bilinear2d": ((3, 4), {"size": (6, 8)}, (1, 2)),
}


def _weights(layer: str) -> list[Grid]:
    """Return the weights of x in one entry of y: the gradient for a dy that is 1 there."""
    size, options, at = WEIGHTS[layer]
    version = LAYERS[layer].reference
    y, cache = version.forward(np.zeros((1, 1, *size)), **options)
    dy = np.zeros_like(y)
    dy[0, 0, at[0], at[1]] = 1
    dx = np.asarray(version.backward(dy, cache)[0])
    called = ", ".join(f"{name}={value!r}" for name, value in options.items())
    outputs = [[Cell(f"{i},{j}", "read" * ((i, j) == at)) for j in range(y.shape[3])] for i in range(y.shape[2])]
    weights = [[Cell(_number(v) if v else "", "read" * bool(v)) for v in row] for row in dx[0, 0]]
    count, where = int((dx != 0).sum()), f"y[{at[0]}, {at[1]}]"
    return [
        Grid("x", f"the weights of its entries in {where}.", f"{count} entries of x have a weight.", weights),
        Grid("y", f"{called}.", f"The array y, {y.shape[2]} by {y.shape[3]}, with {where} marked.", outputs),
    ]


_DRAWN: dict[str, tuple[Callable[[], list[Grid]], ...]] = {
    "conv2d": (_sliding,),
    "avg_pool2d": (_sliding,),
    "unfold2d": (lambda: [_window(), _unfolded("y")],),
    "fold2d": (_folded,),
    "conv_transpose2d": (_laid,),
    "max_pool2d": (_sliding, functools.partial(_winners, "max_pool2d")),
    "adaptive_max_pool2d": (functools.partial(_winners, "adaptive_max_pool2d"),),
    **{layer: (functools.partial(_copies, layer),) for layer in COPIES},
    **{layer: (functools.partial(_weights, layer),) for layer in WEIGHTS},
}
