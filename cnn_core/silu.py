"""Sigmoid linear unit, or swish.

    y = x * s    with    s = 1 / (1 + exp(-x))
    dx = dy * (s + x * s * (1 - s))

Each entry of y depends on its own x alone, so dx = dy * y'(x). By the product rule y' = s + x s', and s' = s (1 - s):

    s' = exp(-x) / (1 + exp(-x))^2 = s * exp(-x) / (1 + exp(-x)) = s * (1 - s)

exp(-x) overflows for large negative x, and the difference 1 - s cancels for large x. Both versions use these forms:

    s = 1 / (1 + exp(-x)) where x >= 0,    exp(x) / (1 + exp(x)) where x < 0
    1 - s = s(-x)                                        (the naive version)
    s (1 - s) = e / (1 + e)^2  with  e = exp(-|x|)       (the vectorized version; s (1 - s) is even)

As in PyTorch y(-inf) is -inf * 0 = NaN, and the gradient at -inf or inf is NaN. NaN passes through. A complex x (the
complex step) is compared by its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.

Raises TypeError for integer or object dtypes and for a cache of another implementation.

Source: Elfwing, Uchibe & Doya 2018, arXiv:1702.03118; Ramachandran, Zoph & Le 2017, arXiv:1710.05941;
torch.nn.functional.silu.
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
        y[index] = x[index] * _sigmoid(x[index])
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    (x,) = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        s, rest = _sigmoid(x[index]), _sigmoid(-x[index])
        dx[index] = dy[index] * (s + x[index] * s * rest)
    return (dx,)


def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), without overflow."""
    if x.real >= 0:
        return 1 / (1 + np.exp(-x))
    return np.exp(x) / (1 + np.exp(x))


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return in_chunks(_times_s, call.x), call


def _times_s(x: Array) -> Array:
    """Return y of a chunk. exp(min(x, 0)) is the numerator of both forms of s."""
    return np.asarray(np.exp(np.minimum(x, 0)) * x / (1 + np.exp(np.minimum(x, -x))))


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (in_chunks(_times_slope, dy, call.x),)


def _times_slope(dy: Array, x: Array) -> Array:
    """Return dx of a chunk."""
    e = np.exp(np.minimum(x, -x))  # exp(-|x|)
    total = 1 + e
    return np.asarray((np.exp(np.minimum(x, 0)) + e * x / total) / total * dy)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
