"""Pixel shuffle: r*r channels become one channel of r times the height and width.

    y[n, c, h*r + p, v*r + q] = x[n, c*r*r + p*r + q, h, v]    for p, q in range(r)

y holds every entry of x once, so each gradient goes back to the place its entry came from:
    dx[n, c*r*r + p*r + q, h, v] = dy[n, c, h*r + p, v*r + q]

Shapes: x (N, C*r*r, H, W), y (N, C, H*r, W*r). Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.pixel_shuffle: upscale_factor, the integer r.

Raises TypeError for integer or object dtypes, a factor that is no integer, and a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank, a factor below 1, and channels that r*r does not divide.

Source: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient sub-pixel
convolutional neural network", arXiv:1609.05158, equation 4. The order of channels is that of
torch.nn.functional.pixel_shuffle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import positions
from cnn_core._options import whole_number


class _Call(NamedTuple):
    """The arguments of a call."""

    x: Array
    factor: int


class _Kept(NamedTuple):
    """What backward needs: the sizes, and no entry of x."""

    x_shape: tuple[int, ...]
    factor: int


def _prepare(x: Array, *, upscale_factor: int) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    factor = whole_number("upscale_factor", upscale_factor, 1)
    if x.shape[1] % factor**2:
        raise ValueError(
            f"the {x.shape[1]} channels of x must be a multiple of upscale_factor squared, {factor**2} "
            f"(x: {x.shape}, upscale_factor={factor})"
        )
    return _Call(x, factor)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, entry by entry."""
    x, r = call
    y = np.zeros((len(x), x.shape[1] // r**2, x.shape[2] * r, x.shape[3] * r), x.dtype)
    for n, c, h, v in positions(len(x), y.shape[1], *x.shape[2:]):
        for p, q in positions(r, r):
            y[n, c, h * r + p, v * r + q] = x[n, c * r * r + p * r + q, h, v]
    return y, _Kept(x.shape, r)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x_shape, r = kept
    dx = np.zeros(x_shape, dy.dtype)
    for n, c, h, v in positions(*dy.shape[:2], *x_shape[2:]):
        for p, q in positions(r, r):
            dx[n, c * r * r + p * r + q, h, v] = dy[n, c, h * r + p, v * r + q]
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x: the axes (C, r, r, H, W) become (C, H, r, W, r)."""
    x, r = call
    images, channels, height, width = x.shape
    split = x.reshape(images, channels // r**2, r, r, height, width).transpose(0, 1, 4, 2, 5, 3)
    return split.copy().reshape(images, channels // r**2, height * r, width * r), _Kept(x.shape, r)


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: the axes (C, H, r, W, r) become (C, r, r, H, W)."""
    (images, channels, height, width), r = kept
    split = dy.reshape(images, channels // r**2, height, r, width, r).transpose(0, 1, 3, 5, 2, 4)
    return (split.copy().reshape(kept.x_shape),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
