"""Bugs of convolutions, in the gradient of w."""

from __future__ import annotations

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient


@gradient(
    "conv-groups-dw",
    "conv2d",
    wrong="the blocks of dw, one for each group of filters, are in the opposite order",
    shows="groups > 1",
    source="pytorch/pytorch#51430",
    code=C.GROUPS_PERMUTED,
)
def _conv_groups_dw(dy: Array, call: Call) -> Gradients:
    def turned(dw: Array) -> Array:
        return dw.reshape(call.options["groups"], -1, *dw.shape[1:])[::-1].reshape(dw.shape) if dw.size else dw

    return call.instead(dy, dw=turned)


@gradient(
    "conv-nonsquare-dw",
    "conv2d",
    wrong="tap (p, q) of dw is stored at p * kH + q of its filter, not at p * kW + q",
    shows="kH != kW, and kH > 1",
    source="Maratyszcza/NNPACK#15",
    code=C.HEIGHT_WIDTH,
)
def _conv_nonsquare_dw(dy: Array, call: Call) -> Gradients:
    def misplaced(dw: Array) -> Array:
        *filters, height, width = dw.shape
        starts = np.arange(np.prod(filters, dtype=int)).reshape(*filters, 1, 1) * (height * width)
        places = starts + np.arange(height)[:, None] * height + np.arange(width)
        inside, wrong = places < dw.size, np.zeros(dw.size, dw.dtype)
        wrong[places[inside]] = dw[inside]
        return wrong.reshape(dw.shape)

    return call.instead(dy, dw=misplaced)


@gradient(
    "conv-dw-order",
    "conv2d",
    wrong="dw has the channels first and then the filters, in the shape of w",
    shows="more than one filter, and more than one channel",
    source="nntrainer/nntrainer#705 (in its test recorder)",
    code=C.TRANSPOSED,
)
def _conv_dw_order(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dw=lambda dw: dw.swapaxes(0, 1).reshape(dw.shape))


@gradient(
    "conv-batch-assign",
    "conv2d",
    wrong="dw is assigned in the loop over images, not added: the last image alone counts",
    shows="N > 1",
    source="a pattern of loops over a batch",
    code=C.ONE_IMAGE_ONLY,
)
def _conv_batch_assign(dy: Array, call: Call) -> Gradients:
    last = np.zeros_like(dy)
    last[-1:] = dy[-1:]
    _, dw, _ = call.right(last)
    return call.instead(dy, dw=dw)


@gradient(
    "conv-dw-mean",
    "conv2d",
    wrong="dw is also divided by N * oH * oW",
    shows="N * oH * oW > 1",
    source="sebgao/cTensor#3",
    code=C.CONSTANT_FACTOR,
)
def _conv_dw_mean(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dw=lambda dw: dw / max(1, dy.size // dy.shape[1]))


@gradient(
    "conv-empty-dw",
    "conv2d",
    wrong="without an image the loop that fills dw never runs, and dw is what was in its memory (here: w)",
    shows="N = 0",
    source="FluxML/NNlib.jl#763",
)
def _conv_empty_dw(dy: Array, call: Call) -> Gradients:
    return call.right(dy) if len(dy) else call.instead(dy, dw=call.arrays[1])
