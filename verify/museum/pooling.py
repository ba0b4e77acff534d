"""Bugs of pooling layers."""

from __future__ import annotations

import math

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, after, forward, gradient


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
