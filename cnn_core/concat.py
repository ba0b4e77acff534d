"""Concatenation of two or more arrays along an axis, as where a U-Net joins its two paths.

    y[..., k, ...] = a[..., k - start of a, ...] for the array a with start of a <= k < start of a + size of a

Index k is that of `axis`. The arrays are x, z and the others, in this order. Their sizes along the axis may differ, and
the start of each is the sum of the sizes before it.

Every entry of an array is copied to one entry of y, so each gradient is that part of dy:
    da[..., k, ...] = dy[..., start of a + k, ...]

Shapes: all arrays of one shape but for their sizes along the axis. y has the sum of these sizes there. Any of them may
be 0. One dtype for all arrays: float32, float64, complex64 or complex128.

Option: axis, as in numpy.concatenate (torch.cat calls it dim). A negative one counts from the end. There is no
default. torch.cat skips an array of shape (0,) beside arrays of other ranks. Here such shapes are refused.

Raises TypeError for integer, object or mixed dtypes, fewer than two arrays, and a cache of another implementation.
Raises ValueError, quoting the values, for an axis that is not there and shapes that do not fit.
Source: Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image segmentation", arXiv:1505.04597;
numpy.concatenate; torch.cat.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._geometry import positions
from cnn_core._options import whole_number


class _Call(NamedTuple):
    """The arguments of a call, and the axis, counted from the front."""

    arrays: tuple[Array, ...]
    axis: int


class _Kept(NamedTuple):
    """What backward needs: shapes and the axis."""

    shapes: tuple[tuple[int, ...], ...]
    axis: int


def _prepare(x: Array, z: Array, *others: Array, axis: int) -> _Call:
    named = {"x": x, "z": z, **{f"others[{k}]": each for k, each in enumerate(others)}}
    check_arrays("", **named)
    if not x.ndim:
        raise ValueError(f"x must have at least one axis, got shape {x.shape}")
    place = whole_number("axis", axis, -x.ndim)
    if place >= x.ndim:
        raise ValueError(f"axis must be below the {x.ndim} axes of x, got {axis} (x: {x.shape})")
    place %= x.ndim
    for name, array in named.items():
        if array.ndim != x.ndim or any(
            own != wanted for k, (own, wanted) in enumerate(zip(array.shape, x.shape, strict=True)) if k != place
        ):
            raise ValueError(f"{name} has shape {array.shape}, x has {x.shape}: they may differ in axis {place} alone")
    return _Call((x, z, *others), place)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from the arrays, entry by entry."""
    arrays, axis = call
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    y, start = np.zeros(shape, arrays[0].dtype), 0
    for array in arrays:
        for index in positions(*array.shape):
            y[(*index[:axis], start + index[axis], *index[axis + 1 :])] = array[index]
        start += array.shape[axis]
    return y, _Kept(tuple(array.shape for array in arrays), axis)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute the gradients of all arrays from dy, entry by entry."""
    shapes, axis = kept
    gradients, start = [], 0
    for shape in shapes:
        gradient = np.zeros(shape, dy.dtype)
        for index in positions(*shape):
            gradient[index] = dy[(*index[:axis], start + index[axis], *index[axis + 1 :])]
        gradients.append(gradient)
        start += shape[axis]
    return tuple(gradients)


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from the arrays, all entries at once."""
    return np.concatenate(call.arrays, call.axis), _Kept(tuple(array.shape for array in call.arrays), call.axis)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute the gradients of all arrays from dy: its parts, copied."""
    starts = list(accumulate(shape[kept.axis] for shape in kept.shapes[:-1]))
    return tuple(part.copy() for part in np.split(dy, starts, kept.axis))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
