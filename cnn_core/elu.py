"""Exponential linear unit.

    y = x   where x > 0,    else alpha * (exp(x) - 1)
    dx = dy where x > 0,    else dy * alpha * exp(x)

Each entry of y depends on its own x alone, so dx = dy * y'(x). The derivative of exp(x) - 1 is exp(x). At x = 0 the
slope is alpha, that of the second branch, as in PyTorch. For alpha = 1 the two branches have the same slope there.

exp(x) - 1 is computed by expm1: for a small x the difference would cancel. exp is evaluated only for x <= 0, where it
cannot overflow. NaN passes through, forward and backward. A complex x (the complex step) is compared by its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.
Options: alpha, any finite number, 1 by default.

Raises TypeError for integer or object dtypes, for an alpha that is no number and for a cache of another
implementation. Raises ValueError for an alpha that is not finite.

Source: Clevert, Unterthiner & Hochreiter 2016, arXiv:1511.07289; torch.nn.functional.elu (the derivative at 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_number, implement
from cnn_core._chunks import in_chunks, keep, where
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The argument and the option of a call, which backward needs too."""

    x: Array
    alpha: float


def _prepare(x: Array, *, alpha: float = 1.0) -> _Call:
    check_arrays(x=x)
    return _Call(x, check_number("alpha", alpha))


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, entry by entry."""
    x, alpha = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        y[index] = x[index] if x[index].real > 0 else alpha * np.expm1(x[index])
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x, alpha = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        dx[index] = dy[index] if x[index].real > 0 else dy[index] * alpha * np.exp(x[index])
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""

    def elu(x: Array) -> Array:
        below = keep(~(x.real > 0), x)  # so that no exp overflows
        return where(x.real > 0, x, call.alpha * np.expm1(below))

    return in_chunks(elu, call.x), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""

    def times_slope(dy: Array, x: Array) -> Array:
        below = keep(~(x.real > 0), x)
        return where(x.real > 0, dy, dy * (call.alpha * np.exp(below)))

    return (in_chunks(times_slope, dy, call.x),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
