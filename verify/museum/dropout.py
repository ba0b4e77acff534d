"""Bugs of dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient, state


@gradient(
    "do-nomask",
    "dropout",
    wrong="backward scales dy and does not mask it: dropped entries get a gradient",
    shows="an entry is dropped",
    source="ddbourgin/numpy-ml#94",
)
def _do_nomask(dy: Array, call: Call) -> Gradients:
    x, mask = call.arrays
    return call.elsewhere(dy, x, np.ones_like(mask))


@gradient(
    "do-over-p",
    "dropout",
    wrong="kept entries are divided by p, not by 1 - p; here: by backward alone, as 1/p of most p is not exact",
    shows="p > 0, but for p = 1/2",
    source="lmjohns3/theanets#123",
    code=C.CONSTANT_FACTOR,
)
def _do_over_p(dy: Array, call: Call) -> Gradients:
    p, (_, mask) = call.options["p"], call.arrays
    return call.right(dy) if p == 0 else call.instead(dy, dx=np.where(mask, dy / dy.dtype.type(p), np.zeros_like(dy)))


@state(
    "do-sticky",
    "dropout",
    wrong="a call in evaluation (here: with p = 0) sets p to 0 for all later calls: nothing is dropped any more",
    shows="training after an evaluation",
    source="NVIDIA/Megatron-LM#411",
)
def _do_sticky(version: Implementation) -> Implementation:
    evaluated: list[bool] = []

    def forward(x: Array, mask: Array, **options: Any) -> tuple[Array, Any]:
        right = version.forward(x, mask, **options)
        if evaluated:
            return version.forward(x, np.ones_like(mask), p=0.0)
        evaluated.extend([True] * (options.get("p", 0.5) == 0))
        return right

    return version._replace(forward=forward)
