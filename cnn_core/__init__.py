"""A CNN core in NumPy, every layer twice: once as its formula in loops, once fast.

Each layer is a module with two Implementations of one call: `naive`, and `im2col` where a window
slides or `vectorized` elsewhere.

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
