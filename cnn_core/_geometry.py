"""Integer geometry of sliding windows: padding forms, output sizes, and their errors.

The naive and the fast version of a layer share this file. It computes with integers, never with data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

from cnn_core._options import flag, pair, sides

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

    @property
    def padded(self) -> int:
        """The size of the padded axis."""
        return self.before + self.size + self.after

    @property
    def inner(self) -> slice:
        """The positions of the padded axis that are no padding."""
        return slice(self.before, self.before + self.size)

    def reads(self, tap: int) -> slice:
        """Return the positions of the padded axis that this tap reads, one for each output."""
        first = tap * self.dilation
        return slice(first, first + (self.out - 1) * self.stride + 1, self.stride)


def positions(*sizes: int) -> Iterator[tuple[int, ...]]:
    """Yield every index of an array of these sizes, in row-major order."""
    return itertools.product(*map(range, sizes))


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


def transposed_axes(
    shape: tuple[int, int],
    kernel_size: tuple[int, int],
    *,
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
) -> tuple[Axis, Axis]:
    """Return the two axes of a convolution that has `shape` = (H, W) as its output: those of its transpose.

    Each Axis has `out` = H (or W), and as `size` the output size of the transposed convolution:
    `size = (out - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - before - after`.
    The padded axis ends `output_padding` behind the last window.

    Raises TypeError or ValueError, quoting the values, for impossible sizes.
    """
    strides = pair("stride", stride, 1)
    dilations = pair("dilation", dilation, 1)
    extras = pair("output_padding", output_padding, 0)
    pads = _pads(padding, kernel_size, strides, dilations)
    rows, columns = (
        _transposed_axis(*each)
        for each in zip(("height", "width"), shape, kernel_size, strides, dilations, pads, extras, strict=True)
    )
    return rows, columns


def _transposed_axis(
    name: str, out: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], extra: int
) -> Axis:
    if extra >= max(stride, dilation):
        raise ValueError(
            f"output_padding {extra} along the {name} must be less than stride {stride} or dilation {dilation}"
        )
    before, after = pads
    size = (out - 1) * stride + dilation * (kernel - 1) + 1 + extra - before - after
    if min(out, size) < 1:
        raise ValueError(
            f"the {name} of x and y must be at least 1, got {out} and {size} (kernel={kernel}, stride={stride}, "
            f"padding={pads}, dilation={dilation}, output_padding={extra})"
        )
    return Axis(size, kernel, stride, dilation, before, after, out)


def pooling_axes(
    shape: tuple[int, int],
    kernel_size: tuple[int, int],
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair = 1,
    ceil_mode: bool,
) -> tuple[Axis, Axis]:
    """Return the axes of `sliding_axes`, for a pool: each of its windows holds an entry of the array.

    Raises ValueError, quoting the values, if one holds none, and if the padding is more than half the window.
    """
    axes = sliding_axes(
        shape, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=flag("ceil_mode", ceil_mode)
    )
    for name, axis in zip(("height", "width"), axes, strict=True):
        window = axis.dilation * (axis.kernel - 1) + 1
        if 2 * max(axis.before, axis.after) > window:
            raise ValueError(
                f"padding {(axis.before, axis.after)} is more than half the window {window} along the {name}"
            )
        for output in range(axis.out):
            if not any(0 <= axis.source(output, tap) < axis.size for tap in range(axis.kernel)):
                raise ValueError(
                    f"window {output} along the {name} holds no entry of x ({name[0].upper()}={axis.size}, "
                    f"kernel={axis.kernel}, padding={(axis.before, axis.after)}, dilation={axis.dilation})"
                )
    return axes


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
    return sides("padding", padding, 0)
