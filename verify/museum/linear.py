"""Bugs of linear layers, reshapes, sums and means."""

from __future__ import annotations

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient, state


@gradient(
    "flatten-noT",
    "flatten",
    wrong="the gradient, (features, N), is reshaped to the images' shape without a transpose: it mixes images",
    shows="N > 1",
    source="Simple CNN using NumPy, parts V and VI (Adhok, Analytics Vidhya)",
    code=C.FEATURES_BATCH_SWAPPED,
)
def _flatten_no_t(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=lambda dx: dy.T.reshape(dx.shape))


@gradient(
    "linear-updated-W",
    "linear",
    wrong="dx is computed with the weights that the step has already changed: w - dw / 8",
    shows="always",
    source="VikParuchuri/zero_to_gpt#12; itskonrad/miniMNIST-c#7",
    code=C.NOT_LINEAR,
)
def _linear_updated_w(dy: Array, call: Call) -> Gradients:
    x, w, b = call.arrays
    return call.instead(dy, dx=call.elsewhere(dy, x, w - call.right(dy)[1] / 8, b)[0])


@gradient(
    "linear-preact",
    "layer_norm",
    wrong="dw is computed with what comes before the activation; here: with x, although w multiplies the normalized x",
    shows="two layers or more; here: always",
    source="maziarraissi/backprop#1",
)
def _linear_preact(dy: Array, call: Call) -> Gradients:
    products = dy * call.arrays[0]
    return call.instead(dy, dw=lambda dw: products.sum(axis=tuple(range(dy.ndim - dw.ndim))))


@gradient(
    "broadcast-unreduced",
    "add",
    wrong="dy is not summed over the axes along which an array was repeated: its gradient has the shape of y",
    shows="shapes that are broadcast",
    source="deeplearning4j/nd4j#2424; tracel-ai/burn#181",
    code=C.WRONG_SHAPE,
)
def _broadcast_unreduced(dy: Array, call: Call) -> Gradients:
    return dy.copy(), dy.copy()


@gradient(
    "mean-axis",
    "adaptive_avg_pool2d",
    wrong="backward takes the mean for one of all entries: dy, which should be one number, is tiled by the shape of x",
    shows="y has more than one entry",
    source="facebookresearch/shumai#74",
    code=C.WRONG_SHAPE,
)
def _mean_axis(dy: Array, call: Call) -> Gradients:
    if dy.size == 1:
        return call.right(dy)
    shape = call.arrays[0].shape
    return (np.tile(dy * (dy.size / max(1, np.prod(shape, dtype=int))), shape).astype(dy.dtype),)


@state(
    "mean-strides",
    "adaptive_avg_pool2d",
    wrong="dy is read as if it lay contiguously in memory; here: beyond its end it begins again",
    shows="dy was broadcast or transposed, as another mean does",
    source="torch/nn#345",
    code=C.DY_LAYOUT,
)
def _mean_strides(version: Implementation) -> Implementation:
    def backward(dy: Array, cache: object) -> Gradients:
        stored = dy[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in dy.strides)]
        return version.backward(np.resize(stored.ravel(order="K"), dy.shape), cache)

    return version._replace(backward=backward)
