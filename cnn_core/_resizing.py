"""Integer geometry of adaptive pools and of up-sampling: which entries of x belong to an output.

The versions of a layer share this file. It computes with integers and exact fractions, never with data.
"""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from cnn_core._geometry import Pair
from cnn_core._options import is_integer, pair

Scale = float | tuple[float, float]

# A scale factor is taken for the nearest fraction up to this denominator: 0.1 is 1/10, and 1/3 is a third. Two such
# fractions are 2^-40 apart or more. A float below 2^10, or one over it, is off by less than half of that.
_DENOMINATOR = 1 << 20


class Scaled(NamedTuple):
    """An axis of `size` entries that is sampled at `out` places, `step` entries apart."""

    size: int
    out: int
    step: Fraction

    def nearest(self) -> list[int]:
        """Return the entry that each output copies: floor(o * step). It grows with the output, or stays."""
        return [min(int(o * self.step), self.size - 1) for o in range(self.out)]

    def between(self, *, align_corners: bool) -> list[tuple[int, int, Fraction]]:
        """Return, for each output, the two entries it lies between, and how far from the first, in [0, 1).

        Both entries are the last one if the output lies at it or beyond. At a step of 1 they are one entry as well.
        """
        step = self.step
        if align_corners:
            step = Fraction(self.size - 1, self.out - 1) if self.out > 1 else Fraction(0)
        found = []
        for o in range(self.out):
            at = o * step if align_corners else max(Fraction(0), (o + Fraction(1, 2)) * step - Fraction(1, 2))
            first = int(at)
            found.append((first, first if step == 1 else min(first + 1, self.size - 1), at - first))
        return found


def bins(output_size: Any, shape: tuple[int, int]) -> tuple[list[range], list[range]]:
    """Return the rows of each bin and the columns of each bin, of an adaptive pool over `shape` = (H, W).

    Bin `o` of `out` holds floor(o * size / out) up to, and without, ceil((o + 1) * size / out). Neighbours share an
    entry if `out` does not divide `size`. `output_size` is a size for both axes or a pair. None in a pair stands
    for the size of the axis.

    Raises TypeError for other values, ValueError for a negative size and for an array without rows or columns.
    """
    if min(shape) < 1:
        raise ValueError(f"x must have at least one row and one column, got H={shape[0]}, W={shape[1]}")
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if output_size is None or len(given) != 2 or not all(out is None or is_integer(out) for out in given):
        raise TypeError(f"output_size must be an integer, or a pair of integers or None, got {output_size!r}")
    outs = [size if out is None else operator.index(out) for out, size in zip(given, shape, strict=True)]
    if min(outs) < 0:
        raise ValueError(f"output_size must be at least 0, got {output_size!r}")
    rows, columns = (
        [range(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]
        for out, size in zip(outs, shape, strict=True)
    )
    return rows, columns


def scaled_axes(shape: tuple[int, int], *, size: Pair | None, scale_factor: Scale | None) -> tuple[Scaled, Scaled]:
    """Return the axes of an array of `shape` = (H, W) at another size.

    The output size is `size`, and the step H / oH. Or it is floor(H * scale_factor), and the step 1 / scale_factor.
    This is the rule of torch.nn.functional.interpolate.

    Raises TypeError for what is no number, ValueError unless one of both is given and all sizes are at least 1.
    """
    if min(shape) < 1:
        raise ValueError(f"x must have at least one row and one column, got H={shape[0]}, W={shape[1]}")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"give either size or scale_factor, got size={size!r} and scale_factor={scale_factor!r}")
    if size is not None:
        outs = pair("size", size, 1)
        rows, columns = (Scaled(given, out, Fraction(given, out)) for given, out in zip(shape, outs, strict=True))
        return rows, columns
    factors = _factors(scale_factor)
    outs = math.floor(shape[0] * factors[0]), math.floor(shape[1] * factors[1])
    if min(outs) < 1:
        raise ValueError(f"scale_factor={scale_factor!r} leaves nothing of H={shape[0]}, W={shape[1]}: {outs}")
    rows, columns = (Scaled(given, out, _step(factor)) for given, out, factor in zip(shape, outs, factors, strict=True))
    return rows, columns


def _step(factor: float) -> Fraction:
    """Return one over the factor."""
    if factor < 1:
        return Fraction(1 / factor).limit_denominator(_DENOMINATOR)
    return 1 / Fraction(factor).limit_denominator(_DENOMINATOR)


def _factors(value: Any) -> tuple[float, float]:
    """Read the option scale_factor, a number for both axes or a pair."""
    entries = value if isinstance(value, (tuple, list)) else (value, value)
    numbers = (int, float, np.integer, np.floating)
    if len(entries) != 2 or not all(isinstance(each, numbers) and not isinstance(each, bool) for each in entries):
        raise TypeError(f"scale_factor must be a number or a pair of numbers, got {value!r}")
    height, width = map(float, entries)
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"scale_factor must be positive and finite, got {value!r}")
    return height, width
