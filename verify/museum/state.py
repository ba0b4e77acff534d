"""Bugs that come from what a layer remembers, or from the type of an argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient, state


@state(
    "stale-cache",
    "linear",
    wrong="the layer keeps one cache: backward reads that of the latest forward, not that of its own",
    shows="forward A, forward B, backward A",
    source="torch/nn#1015; bshillingford/autobw.torch#3",
    code=C.STALE_CACHE,
)
def _stale_cache(version: Implementation) -> Implementation:
    latest: list[Any] = []

    def forward(*arrays: Any, **options: Any) -> tuple[Array, None]:
        y, cache = version.forward(*arrays, **options)
        latest[:] = [cache]
        return y, None

    return version._replace(forward=forward, backward=lambda dy, cache: version.backward(dy, latest[0]))


@gradient(
    "int-zeros-like",
    "linear",
    wrong="dx is put into zeros_like(x), and an x of integers cuts it to whole numbers; here: any x, "
    "because integers are refused",
    shows="dx is no whole number",
    source="a pattern of NumPy; numpy/numpy#16578",
    code=C.TRUNCATED,
)
def _int_zeros_like(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=np.trunc)
