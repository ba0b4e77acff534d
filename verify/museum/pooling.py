"""Bugs of max pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, after, forward, gradient, packed, state
from verify.museum._windows import axes, reads, taps

# Half precision counts to 65,504. A tie of 65,520 needs a window of as many entries. Here 3 are too many.
_MOST_TIED = 2


@gradient(
    "maxpool-assign",
    "max_pool2d",
    wrong="each window's gradient is assigned at its winner, not added: of several windows only the last counts",
    shows="one entry wins several windows: stride < kernel",
    source="Simple CNN using NumPy, part V; FluxML/NNlib.jl#205; jmschrei/tangermeme#95",
    code=C.OVERLAP_ASSIGNED,
)
def _maxpool_assign(dy: Array, call: Call) -> Gradients:
    (dx,) = call.right(dy)
    wrong = np.zeros((*dx.shape[:2], math.prod(dx.shape[2:])), dx.dtype)
    windows = (*dy.shape[:2], math.prod(dy.shape[2:]))
    np.put_along_axis(wrong, call.cache.indices.reshape(windows), dy.reshape(windows), axis=2)
    return (wrong.reshape(dx.shape),)


@gradient(
    "maxpool-ties-all",
    "max_pool2d",
    wrong="each entry that equals the maximum of its window gets all of its dy",
    shows="several entries of a window are its maximum",
    source="apache/mxnet#18563; tensorflow/tensorflow#4886; chelsea0x3b/dfdx#111 (two of them: disputed conventions)",
    code=C.ALL_TIES_REWARDED,
)
def _maxpool_ties_all(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    wrong = np.zeros_like(x)
    for outputs, entries in taps(*axes(call), dy.shape[2:]):
        wrong[entries] += np.where(x[entries] == call.y[outputs], dy[outputs], 0)
    return (wrong,)


@gradient(
    "max-tie-fp16",
    "max_pool2d",
    wrong="ties are counted in half precision, where 65,520 is infinite, and dy / infinity is 0 "
    "(here: 3 ties are too many, and of fewer the first gets dy)",
    shows="at least as many entries of a window are its maximum",
    source="tinygrad/tinygrad#12296",
    code=C.WRONG_TIE_WINNER,
)
def _max_tie_fp16(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    tied = np.zeros(dy.shape, int)
    for outputs, entries in taps(*axes(call), dy.shape[2:]):
        tied[outputs] += x[entries] == call.y[outputs]
    return call.right(np.where(tied > _MOST_TIED, 0, dy))


@gradient(
    "maxpool-early-return",
    "max_pool2d",
    wrong="the return stands in the loop over windows: only the first window of each image counts",
    shows="y has more than one row or column",
    source="riccardoandreoni0/CNN-from-scratch#1",
    code=C.ONE_POSITION_ONLY,
)
def _maxpool_early_return(dy: Array, call: Call) -> Gradients:
    first = np.zeros_like(dy)
    first[:, :, :1, :1] = dy[:, :, :1, :1]
    return call.right(first)


@gradient(
    "maxpool-pad-coord",
    "max_pool2d",
    wrong="the winner's row and column are those of the padded plane, and are used in the plane without padding",
    shows="padding > 0",
    source="FluxML/NNlib.jl#133; deeplearning4j/libnd4j#755",
    code=C.WINNER_IN_PADDING,
)
def _maxpool_pad_coord(dy: Array, call: Call) -> Gradients:
    wrong, (rows, columns) = np.zeros_like(call.arrays[0]), axes(call)
    h, v = np.divmod(call.cache.indices, columns.size)
    h, v = h + rows.before, v + columns.before
    inside = (h < rows.size) & (v < columns.size)
    images, channels, *_ = np.nonzero(inside)
    np.add.at(wrong, (images, channels, h[inside], v[inside]), dy[inside])
    return (wrong,)


@forward(
    "pool-zero-pad",
    "max_pool2d",
    wrong="the padding takes part as zeros, which beat negative entries: max(y, 0)",
    shows="padding > 0, and all entries of a window are negative",
    source="FluxML/NNlib.jl#238; distdl/distdl#195",
    value=Value(
        (np.array([[[[-1.0, -2.0], [-3.0, -4.0]]]]),),
        {"kernel_size": 2, "stride": 2, "padding": 1},
        [[[[-1, -2], [-3, -4]]]],
    ),
)
def _pool_zero_pad(version: Implementation) -> Implementation:
    def won(call: Call) -> Array:
        """Return the windows of which the padding is the maximum."""
        padded = []
        for axis, out in zip(axes(call), call.y.shape[2:], strict=True):
            read = np.array([reads(axis, tap, out) for tap in range(axis.kernel)])
            in_padding = (read < 0) | ((read >= axis.size) & (read < axis.size + axis.after))
            padded.append(in_padding.any(axis=0))
        won: Array = np.logical_or.outer(*padded) & (call.y.real < 0)
        return won

    return after(
        version,
        lambda y, call: np.where(won(call), 0, y),
        lambda dy, call: np.where(won(call), 0, dy),
    )


@gradient(
    "maxpool-hw-args",
    "max_pool2d",
    wrong="oH and oW are given in the other order, and the loops over windows end too early along the longer axis",
    shows="oH != oW",
    source="pytorch/pytorch#36820",
    code=C.HEIGHT_WIDTH,
)
def _maxpool_hw_args(dy: Array, call: Call) -> Gradients:
    least = min(dy.shape[2:])
    reached = np.zeros_like(dy)
    reached[:, :, :least, :least] = dy[:, :, :least, :least]
    return call.right(reached)


@state(
    "maxpool-dout-strides",
    "max_pool2d",
    wrong="the memory of dy is read as if dy were packed, whatever its strides",
    shows="dy is a view with gaps, or not in C order",
    source="torch/cunn#68, #199",
    code=C.DY_LAYOUT,
)
def _maxpool_dout_strides(version: Implementation) -> Implementation:
    return version._replace(backward=lambda dy, cache: version.backward(packed(dy), cache))


@state(
    "pool-dirty-buffer",
    "max_pool2d",
    wrong="dy is added to an array that is used again and never set to zero",
    shows="a second backward for an x of the same shape",
    source="pytorch/executorch#21687",
    code=C.ACCUMULATES,
)
def _pool_dirty_buffer(version: Implementation) -> Implementation:
    used: dict[Any, Array] = {}

    def backward(dy: Array, cache: Any) -> Gradients:
        dx: Any = version.backward(dy, cache)[0]
        array = used.setdefault((dx.shape, dx.dtype), np.zeros_like(dx))
        array += dx
        return (array.copy(),)

    return version._replace(backward=backward)


@gradient(
    "pool-int32",
    "max_pool2d",
    wrong="the place of an entry in all of dx wraps around at 2^31 (here: at 2^15), to negative numbers",
    shows="x has more entries than that",
    source="intel/torch-xpu-ops#3940, #4734",
)
def _pool_int32(dy: Array, call: Call) -> Gradients:
    (dx,) = call.right(dy)
    wrong = np.zeros(dx.size, dx.dtype)
    planes = np.arange(math.prod(dx.shape[:2])).reshape(*dx.shape[:2], 1, 1)
    places = planes * math.prod(dx.shape[2:]) + call.cache.indices
    np.add.at(wrong, places.astype(np.int16), dy)
    return (wrong.reshape(dx.shape),)


@forward(
    "pool-fwd-axes",
    "max_pool2d",
    wrong="y is reshaped along the wrong axes: right numbers in wrong places, and a shape that is right",
    shows="always",
    source="HIPS/autograd#245",
    value=Value((np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),), {"kernel_size": 1}, [[[[1, 2], [3, 4]]]]),
)
def _pool_fwd_axes(version: Implementation) -> Implementation:
    return after(
        version,
        lambda y, call: y.swapaxes(2, 3).reshape(y.shape).copy(),
        lambda dy, call: dy.reshape(*dy.shape[:2], dy.shape[3], dy.shape[2]).swapaxes(2, 3).copy(),
    )
