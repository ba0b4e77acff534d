"""Bugs of softmax and of losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, after, forward, gradient


@gradient(
    "softmax-copy",
    "softmax",
    wrong="dx is dy: backward passes it on as it is",
    shows="always",
    source="pjreddie/darknet#96",
    code=C.UPSTREAM_COPIED,
)
def _softmax_copy(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=dy)


@gradient(
    "softmax-diag",
    "softmax",
    wrong="dx is dy y (1 - y): each entry's effect on the other entries is missing",
    shows="always",
    source="Apiquet/DeepLearningFrameworkFromScratchCpp#1",
    code=C.DIAGONAL_ONLY,
)
def _softmax_diag(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=dy * call.y * (1 - call.y))


@gradient(
    "softmax-axis0",
    "softmax",
    wrong="the sum of dy y in dx runs along the first axis, not along that of the softmax",
    shows="axis > 0",
    source="deeplearning4j/deeplearning4j#345",
)
def _softmax_axis0(dy: Array, call: Call) -> Gradients:
    if call.options["axis"] in (0, -dy.ndim):
        return call.right(dy)
    return call.instead(dy, dx=call.y * (dy - (dy * call.y).sum(axis=0, keepdims=True)))


@forward(
    "softmax-global-max",
    "softmax",
    wrong="the largest entry of the whole batch is subtracted, not that of each row: every exp of a row may be 0",
    shows="all entries of a row are 745 below the largest of the batch (104 in float32)",
    source="Simple CNN using NumPy, part VI (Adhok, Analytics Vidhya)",
    value=Value((np.array([[0.0, 0.0], [1000.0, 1000.0]]),), {}, [[0.5, 0.5], [0.5, 0.5]]),
)
def _softmax_global_max(version: Implementation) -> Implementation:
    @np.errstate(over="ignore", invalid="ignore")
    def forward(x: Array, **options: Any) -> tuple[Array, Any]:
        version.forward(x, **options)  # which refuses what it does not take
        axis = options.get("axis", -1)
        exponentials = np.exp(np.ascontiguousarray(x) - x.real.max(initial=-np.inf))
        y = exponentials / exponentials.sum(axis=axis, keepdims=True)
        return y, (y, axis)

    def backward(dy: Array, kept: Any) -> Gradients:
        y, axis = kept
        return (y * (dy - (np.ascontiguousarray(dy) * y).sum(axis=axis, keepdims=True)),)

    return version._replace(forward=forward, backward=backward)


@gradient(
    "logsoftmax-div",
    "log_softmax",
    wrong="dx is that of the softmax for dy / p, and a probability p that underflows makes it NaN",
    shows="an entry is 745 below the largest of its row (104 in float32)",
    source="FluxML/NNlib.jl#68; clab/dynet#218",
    code=C.NOT_FINITE,
)
@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _logsoftmax_div(dy: Array, call: Call) -> Gradients:
    p = np.exp(call.y)
    upstream = np.ascontiguousarray(dy / p)
    return call.instead(dy, dx=p * (upstream - (upstream * p).sum(axis=call.options["axis"], keepdims=True)))


@gradient(
    "ce-reduction",
    "softmax_cross_entropy",
    wrong='dx is divided by the batch at every reduction, and without one ("none") dy[0] stands for all of dy',
    shows='reduction "sum" or "none", N > 1',
    source="paiml/aprender#2182",
    code=C.BATCH_REDUCTION,
)
def _ce_reduction(dy: Array, call: Call) -> Gradients:
    if call.options["reduction"] == "mean" or not dy.size:
        return call.right(dy)
    (dx,) = call.right(np.full_like(dy, dy.flat[0]))
    return (dx / len(dx),)


@forward(
    "ce-mean-classes",
    "softmax_cross_entropy",
    wrong="the mean runs over images and classes: the loss, and its gradient, are divided by the number of classes too",
    shows='reduction "mean", C > 1',
    source="jax-ml/jax#1023",
    value=Value((np.zeros((1, 2)), np.zeros(1, np.int64)), {}, np.log(2)),
)
def _ce_mean_classes(version: Implementation) -> Implementation:
    def divided(loss: Array, call: Call) -> Array:
        mean = call.options.get("reduction", "mean") == "mean"
        return np.asarray(loss / call.arrays[0].shape[1]) if mean else loss.copy()

    return after(version, divided, divided)


@gradient(
    "loss-weight0",
    "softmax_cross_entropy",
    wrong="the forward keeps the losses in the memory of dx, and they stay there where dy is 0: backward is left out",
    shows="dy = 0: a loss of weight 0",
    source="BVLC/caffe#2895",
    code=C.NOT_LINEAR,
)
def _loss_weight0(dy: Array, call: Call) -> Gradients:
    if dy.any():
        return call.right(dy)
    losses, _ = call.version.forward(*call.arrays, **{**call.options, "reduction": "none"})
    dx = np.zeros(call.arrays[0].shape, dy.dtype)
    dx.flat[: losses.size] = losses.ravel()
    return (dx,)
