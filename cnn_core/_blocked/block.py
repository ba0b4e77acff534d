"""A block of a convolution: some images, some rows of outputs, and the layout of its arrays in memory.

The axes of a block's arrays are, whatever their order in memory,

    G C H W n    group, channel of the group, row, column, image of the block

A layout (`layouts`) decides this order, and how the windows of a block become factors of matrix products.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from cnn_core._arguments import Array
from cnn_core._geometry import Axis


class Scratch:
    """Named buffers that every block uses again: fresh memory costs more than the copy into it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._buffers = dtype, dict[str, Array]()

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return the contiguous buffer of this name and shape. Its values are left over from the last use."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, self._dtype)
        return buffer[:size].reshape(shape)

    def take_rows(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a buffer whose rows, along its last axis, are never a multiple of 2 KiB apart.

        Rows so far apart share a few lines of the cache.
        """
        *lead, length = shape
        spare = 16 if length * self._dtype.itemsize % 2048 == 0 else 0
        return self.take(name, (*lead, length + spare))[..., :length]


class Layout(ABC):
    """How the arrays of a block lie in memory, and how its windows and the filters become matrices.

    A convolution is a sum of `products(rows)` products: filters (F/G, K) times columns (K, P). Each has R parts
    with P outputs, for every group.
    """

    batch_innermost: ClassVar[bool]  # n is the last axis in memory, so x must be transposed before it is unfolded

    @abstractmethod
    def products(self, rows: Axis) -> int:
        """Return how many products are added up."""

    @abstractmethod
    def stored_rows(self, rows: Axis) -> int:
        """Return how many rows of its window are stored for each row of outputs."""

    @abstractmethod
    def arrange(self, scratch: Scratch, name: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return a buffer as (G, R, ..., P), and as the view (G, ..., H, W, n) of the given shape."""

    @abstractmethod
    def unfold(self, xp: dict[int, Array], block: Block, rows: Axis, columns: Axis, scratch: Scratch) -> list[Array]:
        """Return the columns (G, R, K, P) of a padded block (`windows.padded`), one array for each product."""

    @abstractmethod
    def filters(self, w: Array) -> Array:
        """Return w (G, F/G, C/G, kH, kW) as matrices (products, G, 1, F/G, K) that match the columns."""

    @abstractmethod
    def as_filters(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """Return matrices (products, G, F/G, K) as an array (G, F/G, C/G, kH, kW): the inverse of `filters`."""

    def in_place(self, array: Array) -> Array | None:
        """Return a block (G, C, H, W, n) as the view (G, R, C, P), or None if it lies in another order."""
        groups, channels, height, width, images = array.shape
        if images != 1 or array.strides[2:4] != (width * array.itemsize, array.itemsize):
            return None
        return array.reshape(groups, 1, channels, height * width)


class Block(NamedTuple):
    """A slice of the images and a slice of the rows of outputs, in a layout."""

    images: slice
    outputs: slice
    layout: Layout

    @property
    def rows(self) -> int:
        """The number of rows of outputs."""
        return int(self.outputs.stop - self.outputs.start)
