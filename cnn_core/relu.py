"""Rectified linear unit.

    y = x where x > 0, else 0;    dx = dy where x > 0, else 0

At x = 0 the derivative is 0. NaN passes through, forward and backward, as in PyTorch. A complex x
(the complex step) is compared by its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.

Raises TypeError for integer or object dtypes and for a cache of another implementation.

Source: Nair & Hinton 2010, "Rectified linear units improve restricted Boltzmann machines", ICML;
torch.nn.functional.relu (the derivative at 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._chunks import in_chunks, keep
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
        if not x[index].real <= 0:  # NaN is not <= 0
            y[index] = x[index]
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    (x,) = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        if not x[index].real <= 0:
            dx[index] = dy[index]
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return in_chunks(_where_positive, call.x, call.x), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (in_chunks(_where_positive, dy, call.x),)


def _where_positive(values: Array, x: Array) -> Array:
    """Return values where x > 0 or x is NaN, else 0."""
    return keep(~(x.real <= 0), values)  # NaN is not <= 0


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
