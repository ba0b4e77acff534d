"""Integer geometry of sliding windows: pairs, padding forms, output sizes, and their errors.

The naive and the fast version of a layer share this file. It computes with integers, never with data.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | Literal["same", "valid"]


class Axis(NamedTuple):
    """A window that slides along one axis of an array.

    Tap `t` of output `o` reads position `o * stride + t * dilation` of the padded axis, which is
    position `o * stride + t * dilation - before` of the axis itself.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int

    @property
    def starts(self) -> list[int]:
        """The offset of each tap from the start of its window."""
        return [tap * self.dilation for tap in range(self.kernel)]

    def source(self, output: int, tap: int) -> int:
        """Return the position in the unpadded axis. A position outside `range(size)` lies in the padding."""
        return output * self.stride + tap * self.dilation - self.before


def positions(*sizes: int) -> Iterator[tuple[int, ...]]:
    """Yield every index of an array of these sizes, in row-major order."""
    return itertools.product(*map(range, sizes))


def pair(name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Read an option that is one integer for both axes or `(height, width)`.

    Raises TypeError if it is neither, ValueError if an entry is below `minimum`.
    """
    entries = value if isinstance(value, (tuple, list)) else (value, value)
    if len(entries) != 2 or not all(_is_integer(entry) for entry in entries):
        raise TypeError(f"{name} must be an integer or a pair of integers, got {value!r}")
    height, width = (operator.index(entry) for entry in entries)
    if min(height, width) < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return height, width


def whole_number(name: str, value: Any, minimum: int) -> int:
    """Read an option that is one integer.

    Raises TypeError if it is none, ValueError if it is below `minimum`.
    """
    if not _is_integer(value):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return number


def last_axes(shape: tuple[int, ...], normalized_shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split a shape into its leading axes and the last ones, which must be `normalized_shape`.

    Raises TypeError if that is neither an integer nor a sequence of integers, ValueError if the shape does not end so.
    """
    given = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not given or not all(_is_integer(size) for size in given):
        raise TypeError(
            f"normalized_shape must be an integer or a tuple of integers, at least one, got {normalized_shape!r}"
        )
    last = tuple(operator.index(size) for size in given)
    if len(last) > len(shape) or shape[len(shape) - len(last) :] != last:
        raise ValueError(f"the last axes of x must be normalized_shape={normalized_shape!r}, got shape {shape}")
    return shape[: len(shape) - len(last)], last


def axis_of(ndim: int, axis: Any) -> int:
    """Return the index of one of `ndim` axes, counted from the front. A negative axis is counted from behind.

    Raises TypeError if it is no integer, ValueError if there is no such axis.
    """
    if not _is_integer(axis):
        raise TypeError(f"axis must be an integer, got {axis!r}")
    if not -ndim <= operator.index(axis) < ndim:
        raise ValueError(f"axis must lie in [{-ndim}, {ndim}), got {axis!r}")
    return operator.index(axis) % ndim


def sliding_axes(
    shape: tuple[int, int],
    kernel_size: tuple[int, int],
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    ceil_mode: bool = False,
) -> tuple[Axis, Axis]:
    """Return the two axes of a window of `kernel_size` that slides over `shape` = (H, W).

    `out = floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1`.
    With `ceil_mode` the division is rounded up. If the last window would then start past the input and its
    leading padding, `out` is one less. This is the rule of torch.nn.functional.max_pool2d, whose padding is
    at most half the window.

    Raises TypeError or ValueError, quoting the values, for impossible sizes.
    """
    strides = pair("stride", stride, 1)
    dilations = pair("dilation", dilation, 1)
    pads = _pads(padding, kernel_size, strides, dilations)
    rows, columns = (
        _axis(*each, ceil_mode=ceil_mode)
        for each in zip(("height", "width"), shape, kernel_size, strides, dilations, pads, strict=True)
    )
    return rows, columns


def _axis(
    name: str,
    size: int,
    kernel: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    *,
    ceil_mode: bool,
) -> Axis:
    before, after = pads
    window = dilation * (kernel - 1) + 1
    slack = before + size + after - window
    out = (slack + stride - 1 if ceil_mode else slack) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + before:
        out -= 1
    if out < 1:
        raise ValueError(
            f"window {window} exceeds padded {name} {before + size + after} "
            f"({name[0].upper()}={size}, padding={pads}, kernel={kernel}, dilation={dilation})"
        )
    return Axis(size, kernel, stride, dilation, before, after, out)


def _pads(
    padding: object,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise ValueError(f'padding must be "same", "valid" or integers, got {padding!r}')
        if stride != (1, 1):
            raise ValueError(f'padding="same" needs stride 1, got stride={stride}')
        # An odd total puts the larger half behind, as in torch.nn.functional.conv2d.
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        height, width = ((total // 2, total - total // 2) for total in totals)
        return height, width
    if isinstance(padding, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in padding):
        if len(padding) != 2 or not all(isinstance(side, (tuple, list)) for side in padding):
            raise TypeError(f"padding must be ((top, bottom), (left, right)), got {padding!r}")
        return pair("padding", padding[0], 0), pair("padding", padding[1], 0)
    height_pad, width_pad = pair("padding", padding, 0)
    return (height_pad, height_pad), (width_pad, width_pad)


def _is_integer(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True
