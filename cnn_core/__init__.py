"""A CNN core in NumPy. Every layer has a naive version, its formula in loops, and a fast version.

Each layer is a module with two Implementations of one call. `naive` is in every module. The fast one is
`im2col` if a window slides, `vectorized` otherwise.

    y, cache = conv2d.im2col.forward(x, w, b, stride=2, padding=1)
    dx, dw, db = conv2d.im2col.backward(dy, cache)
"""

from cnn_core import conv2d, flatten, linear, max_pool2d, relu, softmax_cross_entropy
from cnn_core._arguments import Implementation

__all__ = [
    "Implementation",
    "conv2d",
    "flatten",
    "linear",
    "max_pool2d",
    "relu",
    "softmax_cross_entropy",
]
