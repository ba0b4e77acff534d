"""Softmax and cross-entropy in one, with integer labels.

    loss[n] = log sum_c exp(x[n, c]) - x[n, labels[n]]
    y = loss ("none"), sum_n loss[n] ("sum"), or sum_n loss[n] / N ("mean"; NaN for N = 0, as in PyTorch)
    dx[n, c] = u[n] * p[n, c]  for c != labels[n],    dx[n, labels[n]] = -u[n] * sum of the other p[n, c]

Here p = softmax(x[n]), and u[n] is the upstream gradient of loss[n]: dy[n], dy, or dy / N. The gradient
at the label is the sum of the other probabilities, not p - 1, which cancels to 0 for a confident
prediction. The largest logit of each row is subtracted first, so no exp overflows.

Shapes: logits x (N, C), labels (N,) with integers in [0, C), y (N,) or (), dx (N, C).
Dtypes: float32, float64, complex64, complex128. For complex logits (the complex step) the largest is found
by real part.

Raises TypeError for logits that are integers or objects and for labels that are not integers.
Raises TypeError for a cache of another implementation.
Raises ValueError, quoting the values, for shapes that do not fit, labels out of range, no classes, and an
unknown reduction.

Source: torch.nn.functional.cross_entropy; Goodfellow, Bengio & Courville 2016, section 6.2.2.3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too."""

    x: Array
    labels: Array
    reduction: str


def _prepare(x: Array, labels: Array, *, reduction: str = "mean") -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C")
    images, classes = x.shape
    if classes < 1:
        raise ValueError(f"x must have at least one class, got shape {x.shape}")
    if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be an integer array, got {getattr(labels, 'dtype', type(labels).__name__)}")
    if labels.shape != (images,):
        raise ValueError(f"labels must have shape ({images},), one for each row of x {x.shape}, got {labels.shape}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        raise ValueError(f"labels must lie in [0, {classes}), got {labels[outside[0]]} at position {outside[0]}")
    return _Call(x, labels, reduction)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, labels), image by image."""
    x, labels, reduction = call
    loss = np.zeros(len(x), x.dtype)
    for n, row in enumerate(x):
        loss[n] = np.log(sum(_exponentials(row))) + (_largest(row) - row[labels[n]])
    if reduction == "none":
        return loss, call
    total = np.zeros((), x.dtype)
    for n in range(len(loss)):
        total += loss[n]
    if reduction == "mean":
        total = total / len(loss) if len(loss) else total * np.nan
    return np.asarray(total, x.dtype), call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x, labels, reduction = call
    dx = np.zeros(x.shape, x.dtype)
    for n, row in enumerate(x):
        upstream = dy[n] if reduction == "none" else dy / len(x) if reduction == "mean" else dy
        exponentials = _exponentials(row)
        total = sum(exponentials)
        for (c,) in positions(len(row)):
            if c != labels[n]:
                p = exponentials[c] / total
                dx[n, c] += upstream * p
                dx[n, labels[n]] -= upstream * p
    return (dx,)


def _exponentials(row: Array) -> list[np.inexact]:
    """Return exp(x_c - m) for every class, where m is the largest logit."""
    largest = _largest(row)
    return [np.exp(value - largest) for value in row]


def _largest(row: Array) -> np.floating:
    return max(value.real for value in row)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, labels), all images at once."""
    x, labels, reduction = call
    largest = x.real.max(axis=1)
    total = np.exp(x - largest[:, None]).sum(axis=1)
    loss = np.log(total) + (largest - x[np.arange(len(x)), labels])
    if reduction == "sum":
        loss = loss.sum()
    elif reduction == "mean":
        loss = loss.sum() / len(x) if len(x) else np.nan
    return np.asarray(loss, x.dtype), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    x, labels, reduction = call
    upstream = dy / len(x) if reduction == "mean" and len(x) else dy
    images = np.arange(len(x))
    dx = np.exp(x - x.real.max(axis=1, keepdims=True))
    total = dx.sum(axis=1)
    dx[images, labels] = 0
    dx[images, labels] = -dx.sum(axis=1)
    dx *= (upstream / total)[:, None]
    return (dx,)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
