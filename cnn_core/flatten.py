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

from cnn_core._arguments import Array, Gradients, Implementation, check_arrays, check_cache, check_upstream
from cnn_core._geometry import positions


class _Cache(NamedTuple):
    x_shape: tuple[int, ...]
    dtype: np.dtype[np.inexact]

    @property
    def y_shape(self) -> tuple[int, int]:
        return self.x_shape[0], math.prod(self.x_shape[1:])


class _NaiveCache(_Cache):
    """The values that the naive forward keeps for its backward."""


class _VectorizedCache(_Cache):
    """The values that the vectorized forward keeps for its backward."""


def _naive_forward(x: Array) -> tuple[Array, _NaiveCache]:
    """Compute (y, cache) from x, entry by entry."""
    cache = _NaiveCache(_shape(x), x.dtype)
    y = np.zeros(cache.y_shape, x.dtype)
    for n in range(len(x)):
        for k, index in enumerate(positions(*x.shape[1:])):
            y[n, k] = x[(n, *index)]
    return y, cache


def _naive_backward(dy: Array, cache: _NaiveCache) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    cache = check_cache(cache, _NaiveCache)
    dy = check_upstream(dy, cache.y_shape, cache.dtype)
    dx = np.zeros(cache.x_shape, cache.dtype)
    for n in range(len(dx)):
        for k, index in enumerate(positions(*dx.shape[1:])):
            dx[(n, *index)] = dy[n, k]
    return (dx,)


def _vectorized_forward(x: Array) -> tuple[Array, _VectorizedCache]:
    """Compute (y, cache) from x as one copy."""
    cache = _VectorizedCache(_shape(x), x.dtype)
    return np.array(x.reshape(cache.y_shape)), cache


def _vectorized_backward(dy: Array, cache: _VectorizedCache) -> Gradients:
    """Compute (dx,) from dy as one copy."""
    cache = check_cache(cache, _VectorizedCache)
    dy = check_upstream(dy, cache.y_shape, cache.dtype)
    return (np.array(dy.reshape(cache.x_shape)),)


def _shape(x: Array) -> tuple[int, ...]:
    check_arrays(x=x)
    if x.ndim < 1:
        raise ValueError(f"x must have a batch axis (N ...), got shape {x.shape}")
    return x.shape


naive = Implementation("naive", _naive_forward, _naive_backward)
vectorized = Implementation("vectorized", _vectorized_forward, _vectorized_backward)
