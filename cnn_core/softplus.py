"""Softplus, a smooth rectifier.

    y = x   where z > threshold,    else log(1 + exp(z)) / beta    with    z = beta * x
    dx = dy where z > threshold,    else dy * 1 / (1 + exp(-z))

Each entry of y depends on its own x alone, so dx = dy * y'(x). By the chain rule, with z' = beta:

    y' = exp(z) / (1 + exp(z)) * beta / beta = 1 / (1 + exp(-z))

exp(z) overflows for large z, which only a large threshold lets through. Both versions use these forms:

    log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|))
    1 / (1 + exp(-z)) = exp(z) / (1 + exp(z)) where z <= 0

log1p keeps a small exp(-|z|). An overflow of z itself is right: y is x there, or exp(z) is 0. NaN passes through,
forward and backward. A complex z (the complex step) is compared by its real part. NumPy's log1p of complex numbers
rounds at the scale of 1, so the real part of a complex y is right to eps, not to eps * y.

At the threshold y jumps, by log(1 + exp(-threshold)) / beta, which is 2e-9 by default. The derivative does not see it.
A threshold above 88 (float32) or 709 (float64) makes PyTorch overflow: y is infinite there. Here it is right.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.
Options: beta, any finite number except 0, 1 by default. threshold, any finite number, 20 by default.

Raises TypeError for integer or object dtypes, for options that are no numbers and for a cache of another
implementation. Raises ValueError for options that are not finite and for beta = 0.

Source: Dugas et al. 2001, "Incorporating second-order functional knowledge for better option pricing", NIPS;
torch.nn.functional.softplus.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_number, implement
from cnn_core._chunks import in_chunks
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The argument and the options of a call, which backward needs too."""

    x: Array
    beta: float
    threshold: float


def _prepare(x: Array, *, beta: float = 1.0, threshold: float = 20.0) -> _Call:
    check_arrays(x=x)
    beta, threshold = check_number("beta", beta), check_number("threshold", threshold)
    if beta == 0:
        raise ValueError(f"beta must not be 0, which y is divided by, got {beta!r}")
    return _Call(x, beta, threshold)


@np.errstate(over="ignore")  # of z
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, entry by entry."""
    x, beta, threshold = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        z = beta * x[index]
        if z.real > threshold:
            y[index] = x[index]
        elif z.real > 0:
            y[index] = (z + np.log1p(np.exp(-z))) / beta
        else:
            y[index] = np.log1p(np.exp(z)) / beta
    return y, call


@np.errstate(over="ignore")  # of z
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x, beta, threshold = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        z = beta * x[index]
        if z.real > threshold:
            dx[index] = dy[index]
        elif z.real > 0:
            dx[index] = dy[index] / (1 + np.exp(-z))
        else:
            dx[index] = dy[index] * np.exp(z) / (1 + np.exp(z))
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""

    def softplus(x: Array) -> Array:
        z, e = _z_and_exponential(x, call.beta)
        y = np.asarray((np.maximum(z, 0) + np.log1p(e)) / call.beta)
        np.copyto(y, x, where=z.real > call.threshold)
        return y

    return in_chunks(softplus, call.x), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""

    def times_slope(dy: Array, x: Array) -> Array:
        z, e = _z_and_exponential(x, call.beta)
        dx = np.asarray(np.exp(np.minimum(z, 0)) * dy / (1 + e))
        np.copyto(dx, dy, where=z.real > call.threshold)
        return dx

    return (in_chunks(times_slope, dy, call.x),)


@np.errstate(over="ignore")  # of z
def _z_and_exponential(x: Array, beta: float) -> tuple[Array, Array]:
    """Return z = beta x and exp(-|z|) of a chunk."""
    z = beta * x
    return z, np.exp(np.minimum(z, -z))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
