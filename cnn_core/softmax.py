"""Softmax along one axis.

    y_c = exp(x_c - M) / S          S = sum_k exp(x_k - M),    M = max_k x_k    (k, c along the axis)

M changes nothing, as exp(-M) divides out, but no exp overflows. Backward, from the quotient rule with e_c = exp(x_c):

    1. y_c = e_c / S:                 dy_c/dx_k = (e_c [c = k]) / S - e_c e_k / S^2 = y_c ([c = k] - y_k)
    2. dx_k = sum_c dy_c y_c ([c = k] - y_k):
    dx_k = y_k (dy_k - sum_c dy_c y_c)

The entries of dx sum to 0. A constant dy gives 0 up to rounding, because the entries of y always sum to 1.

Shapes: x, y, dx of any one shape with at least one axis, also an empty one.
Dtypes: float32, float64, complex64, complex128. For complex x (the complex step) M is found by real part.
An entry of -inf (a mask) gets y = 0 and dx = 0. If all entries are -inf, or one is +inf or NaN, y is NaN along that
axis, as in PyTorch.

Option: axis, an integer (dim of torch.nn.functional.softmax), -1 by default. A negative one counts from the end.
Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for an axis that x does not have.

Source: Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs";
torch.nn.functional.softmax.
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
        for c, probability in enumerate(_naive_probabilities(rows[row])):
            y[(*row, c)] = probability
    return np.moveaxis(y, -1, call.axis), call


@np.errstate(over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, one row along the axis after the other."""
    rows, upstream = np.moveaxis(call.x, call.axis, -1), np.moveaxis(dy, call.axis, -1)
    dx = np.zeros(rows.shape, rows.dtype)
    for row in positions(*rows.shape[:-1]):
        y = _naive_probabilities(rows[row])
        total = sum(upstream[(*row, c)] * y[c] for c in range(len(y)))
        for k in range(len(y)):
            dx[(*row, k)] = y[k] * (upstream[(*row, k)] - total)
    return (np.moveaxis(dx, -1, call.axis),)


def _naive_probabilities(row: Array) -> list[np.inexact]:
    """Return y for one row of x."""
    largest = max((value.real for value in row), default=0)
    exponentials = [np.exp(value - largest) for value in row]
    total = sum(exponentials)
    return [exponential / total for exponential in exponentials]


@np.errstate(over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, many rows at once."""
    x = _rows(*call)
    y = np.empty_like(x)
    for here in chunks(x):
        y[here] = _vectorized_probabilities(x[here])
    return y.reshape(call.x.shape), call


@np.errstate(over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, many rows at once."""
    x, upstream = _rows(*call), _rows(dy, call.axis)
    dx = np.empty_like(x)
    for here in chunks(x):
        y = _vectorized_probabilities(x[here])
        y *= upstream[here] - (upstream[here] * y).sum(axis=1, keepdims=True)
        dx[here] = y
    return (dx.reshape(dy.shape),)


def _vectorized_probabilities(x: Array) -> Array:
    """Return y of some rows, along axis 1."""
    exponentials: Array = x - x.real.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(exponentials, out=exponentials)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def _rows(array: Array, axis: int) -> Array:
    """Return the array with the axis in the middle of three. Sums along it then have one order."""
    shape = array.shape
    return np.ascontiguousarray(array).reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
