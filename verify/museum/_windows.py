"""The geometry of the windows of a call, from its public options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from verify import strategies
from verify.checker.point import Array
from verify.layers._scopes import Sliding
from verify.museum._exhibit import Call

Places = tuple[Any, ...]


def axes(call: Call) -> tuple[Sliding, Sliding]:
    """Return the windows of a convolution or a pool along the rows and the columns of x.

    In an average pool they have dilation 1.
    """
    options = call.options
    kernel = strategies.both(options["kernel_size"]) if "kernel_size" in options else call.arrays[1].shape[2:]
    strides = strategies.both(options.get("stride") or kernel)
    dilations = strategies.both(options.get("dilation", 1))
    pads = strategies.sides(options.get("padding", 0), kernel, dilations)
    numbers = zip(call.arrays[0].shape[2:], kernel, strides, dilations, strict=True)
    rows, columns = (Sliding(*each, *sides) for each, sides in zip(numbers, pads, strict=True))
    return rows, columns


def reads(axis: Sliding, tap: int, out: int) -> Array:
    """Return the entry that this tap of each of `out` windows reads. It may lie in the padding or beyond it."""
    return np.arange(out) * axis.stride + tap * axis.dilation - axis.before


def taps(rows: Sliding, columns: Sliding, out: tuple[int, ...]) -> Iterator[tuple[Places, Places]]:
    """Yield, for each tap, the outputs for which it reads an entry of x, and these entries.

    Both index an array of the axes N C H W. One tap reads each entry at most once.
    """
    for tap in np.ndindex(rows.kernel, columns.kernel):
        read = [reads(axis, *each) for axis, *each in zip((rows, columns), tap, out, strict=True)]
        inside = [np.flatnonzero((at >= 0) & (at < axis.size)) for at, axis in zip(read, (rows, columns), strict=True)]
        entries = (at[which] for at, which in zip(read, inside, strict=True))
        yield (..., *np.ix_(*inside)), (..., *np.ix_(*entries))
