"""Bugs of average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, forward, gradient
from verify.museum._windows import axes, taps


@gradient(
    "avg-ceil-div",
    "avg_pool2d",
    wrong="a window that hangs over the padding is divided by kH * kW, where the forward divides by what is inside",
    shows="ceil_mode, and a window hangs over",
    source="pytorch/pytorch#198119; tracel-ai/burn#5604",
)
def _avg_ceil_div(dy: Array, call: Call) -> Gradients:
    if not call.options["count_include_pad"] or call.options["divisor_override"] is not None:
        return call.right(dy)
    rows, columns = axes(call)
    return call.elsewhere(dy, divisor_override=rows.kernel * columns.kernel)


@gradient(
    "avg-nhwc-offset",
    "avg_pool2d",
    wrong="entry (h, v) of dx gets the windows over (h, v) of the padded plane (there: with channels last alone)",
    shows="padding > 0",
    source="pytorch/pytorch#188345",
    code=C.PADDING_CROPPED,
)
def _avg_nhwc_offset(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    sums, means = (call.version.forward(ones, **{**call.options, **own})[0] for own in ({"divisor_override": 1}, {}))
    shares = dy / np.rint(sums / means)
    wrong, (rows, columns) = np.zeros_like(x), (axis._replace(before=0) for axis in axes(call))
    for outputs, entries in taps(rows, columns, dy.shape[2:]):
        wrong[entries] += shares[outputs]
    return (wrong,)


def _outs(x: Array, output_size: Any) -> list[int]:
    given = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    return [size if out is None else out for size, out in zip(x.shape[2:], given, strict=True)]


@gradient(
    "adaptive-div",
    "adaptive_avg_pool2d",
    wrong="each bin is divided by ceil(H / oH) * ceil(W / oW), whatever its own size",
    shows="oH does not divide H, or oW not W",
    source="PaddlePaddle/Paddle#74077",
)
def _adaptive_div(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    relative = []
    for size, out in zip(x.shape[2:], dy.shape[2:], strict=True):
        bins = np.array([-(-(o + 1) * size // out) - o * size // out for o in range(out)])
        relative.append(bins / -(-size // max(1, out)))
    return call.right((dy * np.multiply.outer(*relative)).astype(dy.dtype))


@forward(
    "adaptive-floor-end",
    "adaptive_avg_pool2d",
    wrong="a bin ends at floor((o + 1) * H / oH), not at the ceiling of it (a bin of no entry is one entry long)",
    shows="oH does not divide H, or oW not W",
    source="flagos-ai/FlagGems#4915",
    value=Value((np.array([[[[1.0, 2.0, 3.0]]]]),), {"output_size": (1, 2)}, [[[[1.5, 2.5]]]]),
)
def _adaptive_floor_end(version: Implementation) -> Implementation:
    def bins(size: int, out: int) -> list[slice]:
        starts = [o * size // out for o in range(out + 1)]
        return [slice(starts[o], max(starts[o + 1], starts[o] + 1)) for o in range(out)]

    def wrong_forward(x: Array, *, output_size: Any) -> tuple[Array, Any]:
        rows, columns = (bins(*each) for each in zip(x.shape[2:], _outs(x, output_size), strict=True))
        y = np.zeros((*x.shape[:2], len(rows), len(columns)), x.dtype)
        kept = []
        for i, j in np.ndindex(y.shape[2:]):
            place = (..., rows[i], columns[j])
            mean, cache = version.forward(x[place], output_size=1)
            y[..., i : i + 1, j : j + 1] = mean
            kept.append((place, (..., slice(i, i + 1), slice(j, j + 1)), cache))
        return y, (x.shape, kept)

    def wrong_backward(dy: Array, cache: Any) -> Gradients:
        x_shape, kept = cache
        dx = np.zeros(x_shape, dy.dtype)
        for place, output, inner in kept:
            dx[place] += version.backward(dy[output], inner)[0]
        return (dx,)

    return version._replace(forward=wrong_forward, backward=wrong_backward)
