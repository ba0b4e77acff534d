"""Logarithm of the softmax along one axis.

    y_c = (x_c - M) - log S         S = sum_k exp(x_k - M),    M = max_k x_k    (k, c along the axis)

M changes nothing, as log S grows by what x_c - M shrinks. With it no exp overflows, and no log is of 0. A probability
that underflows still has a logarithm. Backward, with p = softmax(x):

    1. y_c = x_c - log sum_k exp(x_k):    dy_c/dx_k = [c = k] - exp(x_k) / sum_j exp(x_j) = [c = k] - p_k
    2. dx_k = sum_c dy_c ([c = k] - p_k):
    dx_k = dy_k - p_k sum_c dy_c

The entries of dx sum to 0.

Shapes: x, y, dx of any one shape with at least one axis, also an empty one.
Dtypes: float32, float64, complex64, complex128. For complex x (the complex step) M is found by real part.
An entry of -inf (a mask) gets y = -inf. If all entries are -inf, or one is +inf or NaN, y is NaN along that axis, as
in PyTorch.

Option: axis, an integer (dim of torch.nn.functional.log_softmax), -1 by default. A negative one counts from the end.
Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for an axis that x does not have.

Source: Goodfellow, Bengio & Courville 2016, section 6.2.2.3; torch.nn.functional.log_softmax.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._chunks import chunks
from cnn_core._geometry import positions
from cnn_core._options import axis_of


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too."""

    x: Array
    axis: int


def _prepare(x: Array, *, axis: int = -1) -> _Call:
    check_arrays(x=x)
    if x.ndim < 1:
        raise ValueError(f"x must have at least one axis, got shape {x.shape}")
    return _Call(x, axis_of(x.ndim, axis))


@np.errstate(over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, one row along the axis after the other."""
    rows = np.moveaxis(call.x, call.axis, -1)
    y = np.zeros(rows.shape, rows.dtype)
    for row in positions(*rows.shape[:-1]):
        largest = max((value.real for value in rows[row]), default=0)
        total = sum(np.exp(value - largest) for value in rows[row])
        for c in range(rows.shape[-1]):
            y[(*row, c)] = (rows[(*row, c)] - largest) - np.log(total)
    return np.moveaxis(y, -1, call.axis), call


@np.errstate(over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, one row along the axis after the other."""
    rows, upstream = np.moveaxis(call.x, call.axis, -1), np.moveaxis(dy, call.axis, -1)
    dx = np.zeros(rows.shape, rows.dtype)
    for row in positions(*rows.shape[:-1]):
        largest = max((value.real for value in rows[row]), default=0)
        exponentials = [np.exp(value - largest) for value in rows[row]]
        total, sum_dy = sum(exponentials), sum(upstream[row])
        for k, exponential in enumerate(exponentials):
            dx[(*row, k)] = upstream[(*row, k)] - exponential / total * sum_dy
    return (np.moveaxis(dx, -1, call.axis),)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")  # log 0 of an empty row
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, many rows at once."""
    x = _rows(*call)
    y = np.empty_like(x)
    for here in chunks(x):
        shifted = x[here] - x[here].real.max(axis=1, keepdims=True, initial=-np.inf)
        y[here] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return y.reshape(call.x.shape), call


@np.errstate(over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, many rows at once."""
    x, upstream = _rows(*call), _rows(dy, call.axis)
    dx = np.empty_like(x)
    for here in chunks(x):
        exponentials = np.exp(x[here] - x[here].real.max(axis=1, keepdims=True, initial=-np.inf))
        exponentials *= upstream[here].sum(axis=1, keepdims=True) / exponentials.sum(axis=1, keepdims=True)
        dx[here] = upstream[here] - exponentials
    return (dx.reshape(dy.shape),)


def _rows(array: Array, axis: int) -> Array:
    """Return the array with the axis in the middle of three. Sums along it then have one order."""
    shape = array.shape
    return np.ascontiguousarray(array).reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
