"""im2col and col2im: unfold the windows of an image into columns, and fold columns back.

The two are adjoint, `<im2col(x), c> = <x, col2im(c)>`, and both move along one tap of the window
at a time: the values that tap reads form a strided view of the padded image, no copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnn_core._arguments import Array
from cnn_core._geometry import Axis, positions


def pad(x: Array, rows: Axis, columns: Axis) -> Array:
    """Copy x: (..., H, W) into zeros of the padded size; x itself where there is nothing to pad."""
    if (rows.padded, columns.padded) == (rows.size, columns.size):
        return x
    padded = np.zeros((*x.shape[:-2], rows.padded, columns.padded), x.dtype)
    crop(padded, rows, columns)[...] = x
    return padded


def crop(padded: Array, rows: Axis, columns: Axis) -> Array:
    """The view of a padded array that holds the unpadded one: what `pad` wrote."""
    return padded[..., rows.before : rows.before + rows.size, columns.before : columns.before + columns.size]


def taps(padded: Array, rows: Axis, columns: Axis) -> Iterator[tuple[int, int, Array]]:
    """For each tap (p, q) the view (..., oH, oW) of what it reads in every window."""
    for p, q in positions(rows.kernel, columns.kernel):
        top, left = p * rows.dilation, q * columns.dilation
        bottom = top + (rows.out - 1) * rows.stride + 1
        right = left + (columns.out - 1) * columns.stride + 1
        yield p, q, padded[..., top : bottom : rows.stride, left : right : columns.stride]


def im2col(padded: Array, rows: Axis, columns: Axis) -> Array:
    """Unfold (N, C, H, W), padded, into (N, C, kH, kW, oH, oW)."""
    unfolded = np.empty((*padded.shape[:-2], rows.kernel, columns.kernel, rows.out, columns.out), padded.dtype)
    for p, q, view in taps(padded, rows, columns):
        unfolded[..., p, q, :, :] = view
    return unfolded


def col2im(unfolded: Array, rows: Axis, columns: Axis) -> Array:
    """Fold (N, C, kH, kW, oH, oW) into (N, C, H, W), padded, adding where windows overlap."""
    padded = np.zeros((*unfolded.shape[:-4], rows.padded, columns.padded), unfolded.dtype)
    for p, q, view in taps(padded, rows, columns):
        view += unfolded[..., p, q, :, :]
    return padded
