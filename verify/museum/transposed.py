"""Bugs of transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import Implementation, conv2d
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, forward, gradient, leading
from verify.museum._windows import axes
from verify.strategies import both


@gradient(
    "convT-outpad-dx",
    "conv_transpose2d",
    wrong="dx is a convolution of all of dy, the rows of output_padding too, and is too long",
    shows="output_padding >= stride",
    source="tracel-ai/burn#4916",
    code=C.WRONG_SHAPE,
    silent=False,
)
def _conv_t_outpad_dx(dy: Array, call: Call) -> Gradients:
    pads = tuple((axis.before, axis.after) for axis in axes(call))
    options = {name: call.options[name] for name in ("stride", "dilation", "groups")}
    dx, _ = conv2d.fast.forward(dy, call.arrays[1], padding=pads, **options)
    return call.instead(dy, dx=dx)


@forward(
    "convT-outpad-zero",
    "conv_transpose2d",
    wrong="the rows and columns of output_padding are filled with zeros, and the bias, where they should be computed",
    shows="output_padding > 0, and padding behind crops what a kernel laid there",
    source="llvm/torch-mlir#2026; apache/tvm#5758",
    value=Value(
        (np.array([[[[2.0]]]]), np.array([[[[1.0, 3.0]]]])),
        {"stride": 2, "padding": ((0, 0), (0, 1)), "output_padding": (0, 1)},
        [[[[2, 6]]]],
    ),
)
def _conv_t_outpad_zero(version: Implementation) -> Implementation:
    def computed(array: Array, extra: Any) -> Array:
        """Return the array with zeros in the rows and columns of output_padding."""
        height, width = (max(0, size - more) for size, more in zip(array.shape[2:], both(extra), strict=True))
        return leading(array[:, :, :height, :width], array.shape)

    def wrong_forward(x: Array, w: Array, b: Any = None, **options: Any) -> tuple[Array, Any]:
        y, cache = version.forward(x, w, None, **options)
        extra = options.get("output_padding", 0)
        y = computed(y, extra)
        return y if b is None else y + b[:, None, None], (cache, extra, b is not None)

    def wrong_backward(dy: Array, kept: Any) -> Gradients:
        cache, extra, biased = kept
        dx, dw, _ = version.backward(computed(dy, extra), cache)
        return dx, dw, dy.sum(axis=(0, 2, 3)) if biased else None

    return version._replace(forward=wrong_forward, backward=wrong_backward)
