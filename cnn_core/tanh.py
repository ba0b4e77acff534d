"""Hyperbolic tangent.

    y = tanh x = (exp(x) - exp(-x)) / (exp(x) + exp(-x))
    dx = dy * (1 - y^2)

Each entry of y depends on its own x alone, so dx = dy * y'(x). With s = sinh x and c = cosh x, s' = c and c' = s:

    y' = (s / c)' = (c c - s s) / c^2 = 1 - y^2 = 1 / c^2 = 4 / (exp(x) + exp(-x))^2

1 - y^2 cancels to 0 for large |x|, where y' is not 0 yet, and cosh overflows. Both versions use exp(-2|x|), which
does neither. Multiplied by exp(-2|x|), above and below the fraction bar:

    y' = 4 e / (1 + e)^2    with    e = exp(-2|x|)

The naive y is -m / (2 + m) for x >= 0, where m = exp(-2x) - 1. That is the formula, multiplied by exp(-x) above and
below. expm1 computes m without cancellation at small x. For x < 0 y(x) = -y(-x).

An overflow of 2x is right: exp(-2|x|) is 0 there. NaN passes through, forward and backward. For a complex x (the
complex step) |x| is x or -x, by the sign of its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.

Raises TypeError for integer or object dtypes and for a cache of another implementation.

Source: LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", section 4.4; torch.nn.functional.tanh.
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


@np.errstate(over="ignore")  # of 2x
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, entry by entry."""
    (x,) = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        m = np.expm1(-2 * _magnitude(x[index]))
        y[index] = m / (2 + m) if x[index].real < 0 else -m / (2 + m)
    return y, call


@np.errstate(over="ignore")  # of 2x
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    (x,) = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        e = np.exp(-2 * _magnitude(x[index]))
        dx[index] = dy[index] * 4 * e / (1 + e) ** 2
    return (dx,)


def _magnitude(x: Any) -> Any:
    return -x if x.real < 0 else x


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return np.asarray(np.tanh(call.x)), call


@np.errstate(over="ignore")  # of 2x
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (in_chunks(_times_slope, dy, call.x),)


def _times_slope(dy: Array, x: Array) -> Array:
    """Return dx of a chunk."""
    e = np.exp(2 * np.minimum(x, -x))  # exp(-2|x|)
    return np.asarray(4 * e * dy / (1 + e) ** 2)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
