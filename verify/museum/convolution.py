"""Bugs of convolutions."""

from __future__ import annotations

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient


@gradient(
    "conv-dx-nostride",
    "conv2d",
    wrong="dx is added at the windows of stride 1: at h, not at h * stride",
    shows="stride > 1",
    source="enggen/Deep-Learning-Coursera#7; Kulbear/deep-learning-coursera#34",
    code=C.STRIDE_IGNORED,
)
def _conv_dx_nostride(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=call.elsewhere(dy, stride=1)[0])


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
