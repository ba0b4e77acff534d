"""A CNN core in NumPy. Every layer is there as its formula in loops, and as array operations.

Each layer is a module with Implementations of one call. `naive` has the loops. The array operations are `im2col` if a
window slides, `vectorized` otherwise. conv2d and max_pool2d have a tuned version too, `blocked`. `fast` is the
version to use.

    y, cache = conv2d.fast.forward(x, w, b, stride=2, padding=1)
    dx, dw, db = conv2d.fast.backward(dy, cache)
"""

from cnn_core import (
    batch_norm2d,
    conv2d,
    flatten,
    group_norm,
    instance_norm2d,
    layer_norm,
    linear,
    log_softmax,
    max_pool2d,
    mse_loss,
    relu,
    rms_norm,
    softmax,
    softmax_cross_entropy,
)
from cnn_core._arguments import Implementation

__all__ = [
    "Implementation",
    "batch_norm2d",
    "conv2d",
    "flatten",
    "group_norm",
    "instance_norm2d",
    "layer_norm",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "relu",
    "rms_norm",
    "softmax",
    "softmax_cross_entropy",
]
