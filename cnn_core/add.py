"""Sum of two arrays, as at the end of a residual block. Shapes are broadcast by NumPy's rules.

    y[k] = x[k mod shape of x] + z[k mod shape of z]

Index k runs over the entries of y. In an axis where x has size 1, its index is 0 instead of k's, and an axis that x
does not have is skipped. The axes are aligned at the end. z is read likewise.

An entry of x is added to as many entries of y as read it. Let L be a function of y, with dy = dL/dy. Each of these
entries has the derivative 1 by that entry of x. By the chain rule
    dx = sum of dy over the axes along which x was repeated;    dz likewise

The sums are 0 if y is empty.

Shapes: x, z of any shapes that broadcast, y of their common shape. One dtype for both arrays: float32, float64,
complex64 or complex128.

Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the shapes, if they do not broadcast.
Source: He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385; numpy.add (broadcasting).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call, and the shape of y."""

    x: Array
    z: Array
    shape: tuple[int, ...]


class _Kept(NamedTuple):
    """What backward needs: shapes alone."""

    x_shape: tuple[int, ...]
    z_shape: tuple[int, ...]


def _prepare(x: Array, z: Array) -> _Call:
    check_arrays(x=x, z=z)
    try:
        shape = np.broadcast_shapes(x.shape, z.shape)
    except ValueError:
        raise ValueError(f"x and z must broadcast, got shapes {x.shape} and {z.shape}") from None
    return _Call(x, z, shape)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from (x, z), one sum at a time."""
    x, z, shape = call
    y = np.zeros(shape, x.dtype)
    for index in positions(*shape):
        y[index] = x[_read(index, x.shape)] + z[_read(index, z.shape)]
    return y, _Kept(x.shape, z.shape)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx, dz) from dy, one sum at a time."""
    dx, dz = np.zeros(kept.x_shape, dy.dtype), np.zeros(kept.z_shape, dy.dtype)
    for index in positions(*dy.shape):
        dx[_read(index, dx.shape)] += dy[index]
        dz[_read(index, dz.shape)] += dy[index]
    return dx, dz


def _read(index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index in an array of this shape that is read for this index of y."""
    last = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else k for k, size in zip(last, shape, strict=True))


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from (x, z), all entries at once."""
    return np.asarray(call.x + call.z), _Kept(call.x.shape, call.z.shape)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx, dz) from dy, all entries at once."""
    return _summed(dy, kept.x_shape), _summed(dy, kept.z_shape)


def _summed(dy: Array, shape: tuple[int, ...]) -> Array:
    """Return the sum of dy over the axes along which an array of this shape was repeated."""
    new = dy.ndim - len(shape)
    repeated = [new + axis for axis, size in enumerate(shape) if size == 1 != dy.shape[new + axis]]
    if not new and not repeated:
        return dy.copy()
    return np.asarray(dy.sum(axis=(*range(new), *repeated), keepdims=True)).reshape(shape)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
