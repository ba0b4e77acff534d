"""Gaussian error linear unit, in its tanh form.

    y = x/2 * (1 + tanh u)    with    u = r (x + k x^3),  r = sqrt(2 / pi),  k = 0.044715
    dx = dy * ((1 + tanh u) / 2  +  x/2 * (1 - tanh^2 u) * u')    with    u' = r (1 + 3 k x^2)

The exact form is y = x * Phi(x) = x/2 * (1 + erf(x / sqrt(2))), where Phi is the distribution function of a normal
number. The tanh form is within 5e-4 of it. It is approximate="tanh" of torch.nn.functional.gelu.

Each entry of y depends on its own x alone, so dx = dy * y'(x). The product rule gives y' its two terms, and
tanh' = 1 - tanh^2. The naive version computes these formulae. The vectorized version computes the gate
g = (1 + tanh u) / 2 without the cancellation at negative x. With e = exp(-2|u|):

    (1 + tanh u) / 2 = exp(u) / (exp(u) + exp(-u)) = 1 / (1 + e) where u >= 0,  e / (1 + e) where u < 0
    (1 - tanh^2 u) / 2 = 2 / (exp(u) + exp(-u))^2 = 2 e / (1 + e)^2
    y = x g    and    dx = dy * (g + x * 2 e / (1 + e)^2 * u')

Beyond |x| = 22 the tanh is 1 or -1 in every dtype: 2|u| is above 794, and exp(-746) is 0 in float64. u is computed at
22 there, because x^3 may overflow. So y' is 1 or 0 for x = 1e308, where PyTorch has NaN. As in PyTorch y(-inf) is
-inf * 0 = NaN, and the gradient at -inf or inf is NaN.

A complex x (the complex step) is compared by its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.

Raises TypeError for integer or object dtypes and for a cache of another implementation.

Source: Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2; torch.nn.functional.gelu.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._chunks import in_chunks
from cnn_core._geometry import positions

_R, _K = math.sqrt(2 / math.pi), 0.044715
_SATURATED = 22


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
        near = _near(x[index])
        t = np.tanh(_R * (near + _K * near**3))
        y[index] = x[index] / 2 * (1 + t)
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    (x,) = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        near = _near(x[index])
        t = np.tanh(_R * (near + _K * near**3))
        slope_of_u = _R * (1 + 3 * _K * near**2)
        dx[index] = dy[index] * ((1 + t) / 2 + x[index] / 2 * (1 - t * t) * slope_of_u)
    return (dx,)


def _near(x: Any) -> Any:
    """Return x, or where tanh u is 1 or -1 a number whose cube is finite."""
    return np.copysign(_SATURATED, x.real) if abs(x.real) > _SATURATED else x


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return in_chunks(_times_gate, call.x), call


def _times_gate(x: Array) -> Array:
    """Return y of a chunk. exp(min(2u, 0)) is the numerator of both forms of the gate."""
    v, _ = _v_and_square(x)
    return np.asarray(np.exp(np.minimum(v, 0)) * x / (1 + np.exp(np.minimum(v, -v))))


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (in_chunks(_times_slope, dy, call.x),)


def _times_slope(dy: Array, x: Array) -> Array:
    """Return dx of a chunk, where the slope of the gate is e / (1 + e)^2 times that of 2u."""
    v, square = _v_and_square(x)
    e = np.exp(np.minimum(v, -v))
    total = 1 + e
    slope = 2 * _R + 6 * _R * _K * square
    return np.asarray((np.exp(np.minimum(v, 0)) + e * x / total * slope) / total * dy)


def _v_and_square(x: Array) -> tuple[Array, Array]:
    """Return 2u of a chunk, and the square of x that its slope needs."""
    near = np.clip(x, -_SATURATED, _SATURATED)
    square = near * near
    return (2 * _R + 2 * _R * _K * square) * near, square


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
