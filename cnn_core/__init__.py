"""A CNN core in NumPy. Every layer is there as its formula in loops, and as array operations.

Each layer is a module with Implementations of one call. `naive` has the loops. The array operations are `im2col` if a
window slides, `vectorized` otherwise. conv2d and max_pool2d have a tuned version too, `blocked`. `fast` is the
version to use.

    y, cache = conv2d.fast.forward(x, w, b, stride=2, padding=1)
    dx, dw, db = conv2d.fast.backward(dy, cache)
"""

from cnn_core import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    add,
    avg_pool2d,
    concat,
    conv2d,
    conv_transpose2d,
    dropout,
    elu,
    flatten,
    fold2d,
    gelu,
    hardsigmoid,
    leaky_relu,
    linear,
    max_pool2d,
    max_unpool2d,
    pad2d,
    pixel_shuffle,
    prelu,
    relu,
    sigmoid,
    silu,
    softmax_cross_entropy,
    softplus,
    tanh,
    unfold2d,
    upsample_bilinear2d,
    upsample_nearest2d,
)
from cnn_core._arguments import Implementation

__all__ = [
    "Implementation",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "avg_pool2d",
    "concat",
    "conv2d",
    "conv_transpose2d",
    "dropout",
    "elu",
    "flatten",
    "fold2d",
    "gelu",
    "hardsigmoid",
    "leaky_relu",
    "linear",
    "max_pool2d",
    "max_unpool2d",
    "pad2d",
    "pixel_shuffle",
    "prelu",
    "relu",
    "sigmoid",
    "silu",
    "softmax_cross_entropy",
    "softplus",
    "tanh",
    "unfold2d",
    "upsample_bilinear2d",
    "upsample_nearest2d",
]
