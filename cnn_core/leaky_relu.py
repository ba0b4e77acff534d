"""Leaky rectified linear unit.

    y = x   where x > 0,    else negative_slope * x
    dx = dy where x > 0,    else negative_slope * dy

Each entry of y depends on its own x alone, so dx = dy * y'(x). The slope y' is 1 on the one branch and negative_slope
on the other. At x = 0 it is negative_slope, as in PyTorch. NaN takes the second branch: y is NaN there, and
dx = negative_slope * dy. A complex x (the complex step) is compared by its real part.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.
Options: negative_slope, any finite number, 0.01 by default.

Raises TypeError for integer or object dtypes, for a negative_slope that is no number and for a cache of another
implementation. Raises ValueError for a negative_slope that is not finite.

Source: Maas, Hannun & Ng 2013, "Rectifier nonlinearities improve neural network acoustic models", ICML;
torch.nn.functional.leaky_relu (the derivative at 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_number, implement
from cnn_core._chunks import in_chunks, where
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The argument and the option of a call, which backward needs too."""

    x: Array
    negative_slope: float


def _prepare(x: Array, *, negative_slope: float = 0.01) -> _Call:
    check_arrays(x=x)
    return _Call(x, check_number("negative_slope", negative_slope))


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, entry by entry."""
    x, negative_slope = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        y[index] = x[index] if x[index].real > 0 else negative_slope * x[index]
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x, negative_slope = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        dx[index] = dy[index] if x[index].real > 0 else negative_slope * dy[index]
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return _times_slope(call.x, call), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (_times_slope(dy, call),)


def _times_slope(values: Array, call: _Call) -> Array:
    """Return values where x > 0, else negative_slope times them."""

    def branches(values: Array, x: Array) -> Array:
        return where(x.real > 0, values, call.negative_slope * values)

    return in_chunks(branches, values, call.x)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
