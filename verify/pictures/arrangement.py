"""An array of any number of axes as cells in a plane: tiles of the last two axes, side by side.

The axis before those two runs along the columns of tiles, all others along the rows. Where that were much wider than
high, or higher than wide, the tiles are wrapped, and each has its own label. Of a large array each cell is a block.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.gradients import Compared

# A choice: a map of some 48 x 48 cells still shows each, and three of them take 250 kB at worst.
MOST_CELLS = 2304
# A choice: a longer side of a tile would be wider than the page.
_LONGEST_SIDE = 64
# A choice: a longer row of one axis is broken, like text.
_LONGEST_ROW = 48
# A choice: tiles in their natural order may be so much wider than high, or higher than wide.
_MOST_SLENDER = 3.0
# A choice: labels above more tiles than these would take more room than the tiles.
_MOST_LABELS = 48
# Wrapped tiles are a little wider than high, like a page on a screen.
_WRAPPED = 1.3


class Label(NamedTuple):
    """A text at a tile: above it (`side` "top") or before it ("left")."""

    side: str
    row: int
    column: int
    text: str


class Plane(NamedTuple):
    """Where each cell lies, and which entry it shows.

    `tiles` is the number of rows and columns of tiles, `size` that of cells in each. `places` has a row for each cell:
    tile row, tile column, row, column. `entries` are flat indices in the array. `wrong` is true where any entry of the
    cell's block is wrong. `blocks` is how many entries of each axis a cell stands for.
    """

    tiles: tuple[int, int]
    size: tuple[int, int]
    places: Array
    entries: Array
    wrong: Array
    labels: tuple[Label, ...]
    blocks: tuple[int, ...]

    @property
    def thinned(self) -> bool:
        """Whether a cell stands for several entries."""
        return any(block > 1 for block in self.blocks)


def plane_of(compared: Compared, most: int = MOST_CELLS) -> Plane:
    """The cells of one gradient: at most `most`."""
    shape = _without_ones(compared.claimed.shape)
    wrong = np.ma.filled(compared.wrong, False).reshape(shape)
    chosen, wrong = _thinned(_importance(compared).reshape(shape), wrong, most)
    blocks = tuple(itertools.starmap(_block, zip(shape, chosen.shape, strict=True)))
    if chosen.ndim < 2:
        flat = np.arange(chosen.size)
        zero = np.zeros_like(flat)
        places = np.stack([zero, zero, flat // _LONGEST_ROW, flat % _LONGEST_ROW], axis=1)
        size = math.ceil(chosen.size / _LONGEST_ROW), min(chosen.size, _LONGEST_ROW)
        return Plane((1, 1), size, places, chosen.ravel(), wrong.ravel(), (), blocks)
    *lead, height, width = chosen.shape
    count = math.prod(lead)
    columns, natural = _columns(lead, height, width)
    tile, row, column = np.unravel_index(np.arange(chosen.size), (count, height, width))
    places = np.stack([tile // columns, tile % columns, row, column], axis=1)
    names = [_ranges(n, block) for n, block in zip(shape, blocks, strict=True)]
    labels = _labels(tuple(lead), names, columns, natural)
    tiles = math.ceil(count / columns) if columns else 0, columns
    return Plane(tiles, (height, width), places, chosen.ravel(), wrong.ravel(), labels, blocks)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without its last two axes while both have one entry: w of a 1 x 1 convolution is a matrix."""
    while len(shape) > 2 and shape[-2:] == (1, 1):
        shape = shape[:-2]
    return shape


def _importance(compared: Compared) -> Array:
    """Of a block the entry with the largest number is shown: a wrong one, or one that was looked at, or a large one."""
    claimed = np.nan_to_num(np.abs(compared.claimed).astype(np.float32), nan=np.inf, posinf=np.inf)
    off = np.abs(np.ma.filled(compared.claimed - compared.expected, 0.0)).astype(np.float32)
    looked_at = ~np.ma.getmaskarray(compared.expected)
    importance = _share(claimed) + looked_at
    return np.asarray(importance + np.ma.filled(compared.wrong, False) * (2 + _share(off)))


def _share(values: Array) -> Array:
    """The values from 0 to 1: NaN and infinities are 1."""
    finite = np.isfinite(values)
    largest = values[finite].max(initial=0.0)
    return np.where(finite, values / (largest or 1.0), 1.0).astype(np.float32)


def _thinned(importance: Array, wrong: Array, most: int) -> tuple[Array, Array]:
    """Flat indices of the entries shown, and whether any entry of their blocks is wrong: the longest axis is halved.

    So is an axis of a tile that is too long to be drawn.
    """
    entries = np.arange(importance.size).reshape(importance.shape)
    while entries.size > most or (entries.ndim > 1 and max(entries.shape[-2:]) > _LONGEST_SIDE):
        long = entries.ndim > 1 and entries.size <= most
        axis = int(np.argmax(entries.shape[-2:])) + entries.ndim - 2 if long else int(np.argmax(entries.shape))
        (first, second), (weight, other) = (_every_second(array, axis) for array in (entries, importance))
        later = other > weight
        entries, importance = np.where(later, second, first), np.where(later, other, weight)
        a, b = _every_second(wrong, axis)
        wrong = a | b
    return entries, wrong


def _every_second(array: Array, axis: int) -> tuple[Array, Array]:
    """The entries at even and at odd places of an axis; the last stands in for its missing neighbour."""
    if array.shape[axis] % 2:
        last = array.take([-1], axis=axis)
        array = np.concatenate([array, last], axis=axis)
    places = [slice(None)] * array.ndim
    even, odd = list(places), list(places)
    even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
    return array[tuple(even)], array[tuple(odd)]


def _block(entries: int, cells: int) -> int:
    """How many entries of an axis a cell stands for: a power of two."""
    block = 1
    while math.ceil(entries / block) > cells:
        block *= 2
    return block


def _ranges(entries: int, block: int) -> list[str]:
    """What the places along an axis are called: "3", or "6–7" of a block."""
    starts = range(0, entries, block)
    return [str(i) if block == 1 else f"{i}–{min(entries, i + block) - 1}" for i in starts]


def _columns(lead: list[int], height: int, width: int) -> tuple[int, bool]:
    """How many tiles stand side by side, and whether these are the last axis before those of the tiles."""
    count = math.prod(lead)
    if count == 0:
        return 0, True

    def aspect(columns: int) -> float:
        return columns * (width + 1) / (math.ceil(count / columns) * (height + 1))

    natural = lead[-1] if lead else 1
    if count == 1 or 1 / _MOST_SLENDER <= aspect(natural) <= _MOST_SLENDER:
        return natural, True
    return min(range(1, count + 1), key=lambda columns: abs(math.log(aspect(columns) / _WRAPPED))), False


def _labels(lead: tuple[int, ...], names: list[list[str]], columns: int, natural: bool) -> tuple[Label, ...]:
    """The index of each tile: along both sides if the order is natural, else above each."""
    if not lead or not columns:
        return ()
    if not natural and math.prod(lead) > _MOST_LABELS:
        return ()
    if not natural or math.prod(lead) == 1:
        found = enumerate(np.ndindex(*lead))
        return tuple(Label("top", i // columns, i % columns, _index(index, names)) for i, index in found)
    rest = [":"] * (len(lead) - 1)
    top = [Label("top", 0, j, f"[{', '.join([*rest, names[len(lead) - 1][j]])}]") for j in range(columns)]
    left = [Label("left", i, 0, _index(index, names, ":")) for i, index in enumerate(np.ndindex(*lead[:-1]))]
    return (*top, *(left if len(lead) > 1 else []))


def _index(index: tuple[int, ...], names: list[list[str]], *after: str) -> str:
    return f"[{', '.join([*(names[axis][i] for axis, i in enumerate(index)), *after])}]"


def values_at(array: Any, plane: Plane) -> Any:
    """The entries that the cells show, as float64; masked where nothing is known."""
    return np.ma.array(array).reshape(-1)[plane.entries].astype(np.float64)
