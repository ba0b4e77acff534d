"""Flatten all axes after the first: one row of features for each image.

    y[n, k] = x[n, i_1, ..., i_r]    with k = (i_1*d_2 + i_2)*d_3 + ... (row-major)
    dx[n, i_1, ..., i_r] = dy[n, k]

Shapes: x (N, d_1, ..., d_r) with r >= 0, y (N, d_1 * ... * d_r). Dtypes: float32, float64, complex64,
complex128. y and dx are copies. Neither shares memory with an argument.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError for an array without a batch axis.

Source: torch.nn.Flatten at its defaults.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._geometry import positions


class _Kept(NamedTuple):
    """What backward needs: a shape, and no entry of x."""

    x_shape: tuple[int, ...]


def _prepare(x: Array) -> Array:
    check_arrays(x=x)
    if x.ndim < 1:
        raise ValueError(f"x must have a batch axis (N ...), got shape {x.shape}")
    return x


def _naive_forward(x: Array) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, entry by entry."""
    y = np.zeros((len(x), math.prod(x.shape[1:])), x.dtype)
    for n in range(len(x)):
        for k, index in enumerate(positions(*x.shape[1:])):
            y[n, k] = x[(n, *index)]
    return y, _Kept(x.shape)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    dx = np.zeros(kept.x_shape, dy.dtype)
    for n in range(len(dx)):
        for k, index in enumerate(positions(*dx.shape[1:])):
            dx[(n, *index)] = dy[n, k]
    return (dx,)


def _vectorized_forward(x: Array) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x as one copy."""
    return np.array(x.reshape(len(x), math.prod(x.shape[1:]))), _Kept(x.shape)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy as one copy."""
    return (np.array(dy.reshape(kept.x_shape)),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
