"""Sigmoid, the logistic function.

    y = 1 / (1 + exp(-x))
    dx = dy * y * (1 - y)

Each entry of y depends on its own x alone, so dx = dy * y'(x), and

    y' = exp(-x) / (1 + exp(-x))^2 = y * exp(-x) / (1 + exp(-x)) = y * (1 - y)

exp(-x) overflows for large negative x, and 1 - y cancels to 0 for large x, where y' is not 0 yet. Both versions
therefore use exp(-|x|), in these equalities:

    y = 1 / (1 + exp(-x)) where x >= 0,    exp(x) / (1 + exp(x)) where x < 0
    1 - y = y(-x)                                        (the naive version)
    y' = e / (1 + e)^2  with  e = exp(-|x|)              (the vectorized version; y' is even)

So y' is right to a few roundings everywhere. PyTorch's is 0 from about x = 37 on. NaN passes through, forward and
backward. For a complex x (the complex step) |x| is x or -x, by the sign of its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.

Raises TypeError for integer or object dtypes and for a cache of another implementation.

Source: Goodfellow, Bengio & Courville 2016, section 3.10; torch.nn.functional.sigmoid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._chunks import in_chunks
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The argument of a call, which backward needs too."""

    x: Array


def _prepare(x: Array) -> _Call:
    check_arrays(x=x)
    return _Call(x)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, entry by entry."""
    (x,) = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        y[index] = _sigmoid(x[index])
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    (x,) = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        dx[index] = dy[index] * _sigmoid(x[index]) * _sigmoid(-x[index])
    return (dx,)


def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), without overflow."""
    if x.real >= 0:
        return 1 / (1 + np.exp(-x))
    return np.exp(x) / (1 + np.exp(x))


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return in_chunks(_s, call.x), call


def _s(x: Array) -> Array:
    """Return y of a chunk. exp(min(x, 0)) is the numerator of both its forms."""
    return np.asarray(np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, -x))))


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (in_chunks(_times_slope, dy, call.x),)


def _times_slope(dy: Array, x: Array) -> Array:
    """Return dx of a chunk."""
    e = np.exp(np.minimum(x, -x))  # exp(-|x|)
    return np.asarray(e * dy / (1 + e) ** 2)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
