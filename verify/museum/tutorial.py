"""More mistakes of the tutorial that this project grew from."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, after, forward, gradient, leading
from verify.strategies import both, sides

_SOURCE = "Simple CNN using NumPy, parts V and VI (Adhok, Analytics Vidhya)"


@gradient(
    "pool-lost-window",
    "max_pool2d",
    wrong="the routine that finds the winners stops a stride before the border, not a window before it: the last "
    "windows are lost",
    shows="the last window begins less than a stride before the border: stride > kernel, or ceil_mode",
    source=_SOURCE,
    code=C.REMAINDER_LOST,
)
def _pool_lost_window(dy: Array, call: Call) -> Gradients:
    kernel, dilation = both(call.options["kernel_size"]), both(call.options["dilation"])
    strides = both(call.options["stride"] or kernel)
    pads = sides(call.options["padding"], kernel, dilation)
    found = dy.copy()
    for axis, (pad, stride) in enumerate(zip(pads, strides, strict=True), 2):
        padded = call.arrays[0].shape[axis] + sum(pad)
        found.swapaxes(2, axis)[:, :, padded // stride :] = 0
    return call.right(found)


@forward(
    "pool-stride-2",
    "max_pool2d",
    wrong="windows are taken at stride 2, whatever the stride that is given",
    shows="stride is not 2",
    source=_SOURCE,
    value=Value((np.array([[[[1.0, 2.0, 3.0]]]]),), {"kernel_size": 1, "stride": 1}, [[[[1, 2, 3]]]]),
)
def _pool_stride_2(version: Implementation) -> Implementation:
    def forward(x: Array, **options: Any) -> tuple[Array, Any]:
        right = version.forward(x, **options)
        return right if options.get("padding") == "same" else version.forward(x, **{**options, "stride": 2})

    return version._replace(forward=forward)


@forward(
    "im2col-padding-twice",
    "unfold2d",
    wrong="the padding is added twice for the number of columns: y ends with columns of zeros",
    shows="padding > 0",
    source=_SOURCE,
    value=Value((np.ones((1, 1, 1, 1)),), {"kernel_size": 1, "padding": ((1, 0), (0, 0))}, [[[0, 1]]]),
)
def _im2col_padding_twice(version: Implementation) -> Implementation:
    def widened(y: Array, call: Call) -> Array:
        kernel, dilation = both(call.options["kernel_size"]), both(call.options.get("dilation", 1))
        twice = tuple((2 * a, 2 * b) for a, b in sides(call.options.get("padding", 0), kernel, dilation))
        wide, _ = version.forward(*call.arrays, **{**call.options, "padding": twice})
        return leading(y, wide.shape)

    return after(version, widened, lambda dy, call: np.array(dy[..., : call.y.shape[-1]]))


@forward(
    "relu-minus-infinity",
    "relu",
    wrong="y is x times the mask: minus infinity times 0 is NaN",
    shows="x = -inf",
    source=_SOURCE,
    value=Value((np.array([-np.inf, 2.0]),), {}, [0, 2]),
)
def _relu_minus_infinity(version: Implementation) -> Implementation:
    @np.errstate(invalid="ignore")
    def masked(y: Array, call: Call) -> Array:
        (x,) = call.arrays
        return np.asarray(x * (x.real > 0))

    return after(version, masked, lambda dy, call: dy)


@gradient(
    "pool-float64",
    "max_pool2d",
    wrong="dx is put into an array of zeros of the default type, float64",
    shows="float32",
    source=_SOURCE,
    code=C.WRONG_DTYPE,
)
def _pool_float64(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=lambda dx: dx.astype(np.float64))
