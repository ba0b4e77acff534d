"""Softmax and cross-entropy in one, with integer labels.

    p_c = exp(x_c) / sum_k exp(x_k)            k, c run over the classes of one image or position
    q_c = weight_c ((1 - label_smoothing) [c = label] + label_smoothing / C)
    loss = -sum_c q_c log p_c,    and 0 where label = ignore_index
    y = loss ("none"), sum loss ("sum"), or sum loss / W ("mean"; W is the sum of weight_label where not ignored)

Without weights all are 1, and W counts the losses that are not ignored. Backward, for one image or position:

    1. log p_k = x_k - log sum_j exp(x_j):    d log p_k / dx_c = [c = k] - p_c
    2. dx_c = -u sum_k q_k ([c = k] - p_c) = u (p_c sum_k q_k - q_c), and 0 where label = ignore_index
    3. with sum_k p_k = 1:                    dx_c = u sum_{k != c} (q_k p_c - q_c p_k)

Here u is the upstream gradient of that loss: its dy, dy, or dy / W. Line 2 cancels to 0 for a confident prediction,
and line 3 does not. Let q be 0 except at the label. Then line 3 is u q_label p_c at the other classes. At the label it
is -u q_label times the sum of the other p. The largest x_c is subtracted first, so no exp overflows.

Shapes: logits x (N, C, ...), with further axes for segmentation, say (N, C, H, W). Labels (N, ...), integers in [0, C)
or ignore_index. y (N, ...) or (), dx as x.
Dtypes: float32, float64, complex64, complex128. For complex logits (the complex step) the largest is found by real
part.

Options, as in torch.nn.functional.cross_entropy:

- reduction: "mean", "sum" or "none". The mean is NaN if W = 0: no image, or all ignored.
- weight: one real number for each class, rounded to the dtype of x. It is a constant without a gradient.
- ignore_index and label_smoothing.

Raises TypeError for logits that are integers or objects and for labels that are not integers.
Raises TypeError for a cache of another implementation.
Raises ValueError, quoting the values, for shapes that do not fit, labels out of range, no classes, an
unknown reduction, and a label_smoothing outside [0, 1].

Source: torch.nn.functional.cross_entropy; Goodfellow, Bengio & Courville 2016, section 6.2.2.3;
Szegedy et al. 2016, arXiv:1512.00567 (label smoothing).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, constant_array, implement, real_number
from cnn_core._geometry import positions
from cnn_core._options import whole_number


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too. Ignored labels are 0 here, and `counted` is False."""

    x: Array
    labels: Array
    counted: Array
    weight: Array
    smoothing: float
    reduction: str


def _prepare(
    x: Array,
    labels: Array,
    *,
    reduction: str = "mean",
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> _Call:
    check_arrays(x=x)
    if x.ndim < 2:
        raise ValueError(f"x must have at least 2 axes (N C ...), got shape {x.shape}")
    classes, places = x.shape[1], (x.shape[0], *x.shape[2:])
    if classes < 1:
        raise ValueError(f"x must have at least one class, got shape {x.shape}")
    if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be an integer array, got {getattr(labels, 'dtype', type(labels).__name__)}")
    if labels.shape != places:
        each = "row" if x.ndim == 2 else "position"
        raise ValueError(f"labels must have shape {places}, one for each {each} of x {x.shape}, got {labels.shape}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    counted = labels != whole_number("ignore_index", ignore_index, -(2**63))
    for place in np.argwhere(counted & ((labels < 0) | (labels >= classes)))[:1]:
        index = tuple(map(int, place))
        where = index[0] if len(index) == 1 else index
        raise ValueError(f"labels must lie in [0, {classes}), got {labels[index]} at position {where}")
    given = np.ones(classes) if weight is None else weight
    of_class = constant_array("weight", given, (classes,), x.dtype)
    smoothing = real_number("label_smoothing", label_smoothing, 0, 1)
    return _Call(x, np.where(counted, labels, 0), counted, of_class, smoothing, reduction)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, labels), one loss after the other."""
    x, labels, counted, weight, smoothing, reduction = call
    rows = np.moveaxis(x, 1, -1)
    loss, total, divisor = np.zeros(labels.shape, x.dtype), np.zeros((), x.dtype), x.dtype.type(0)
    for place in positions(*labels.shape):
        if counted[place]:
            log_sum = np.log(sum(_exponentials(rows[place])))
            for c in range(len(weight)):
                if c == labels[place] or smoothing:  # else q is 0, also where log p is infinite
                    loss[place] += _q(c, labels[place], call) * (log_sum + (_largest(rows[place]) - rows[place][c]))
            total += loss[place]
            divisor += weight[labels[place]]
    if reduction == "none":
        return loss, call
    return np.asarray(total / divisor if reduction == "mean" else total, x.dtype), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x, labels, counted, weight, smoothing, reduction = call
    rows = np.moveaxis(x, 1, -1)
    dx = np.zeros(rows.shape, x.dtype)
    divisor = sum((weight[labels[place]] for place in positions(*labels.shape) if counted[place]), x.dtype.type(0))
    for place in positions(*labels.shape):
        if counted[place]:
            upstream = dy[place] if reduction == "none" else dy / divisor if reduction == "mean" else dy
            exponentials = _exponentials(rows[place])
            total = sum(exponentials)
            for c, k in positions(len(weight), len(weight)):
                if c != k and (smoothing or labels[place] in (c, k)):
                    q_c, q_k = _q(c, labels[place], call), _q(k, labels[place], call)
                    dx[(*place, c)] += upstream * (q_k * exponentials[c] / total - q_c * exponentials[k] / total)
    return (np.moveaxis(dx, -1, 1),)


def _q(c: int, label: int, call: _Call) -> np.inexact:
    """Return q_c for a label."""
    q: np.inexact = call.weight[c] * ((1 - call.smoothing) * (c == label) + call.smoothing / len(call.weight))
    return q


def _exponentials(row: Array) -> list[np.inexact]:
    """Return exp(x_c - m) for every class, where m is the largest logit."""
    largest = _largest(row)
    return [np.exp(value - largest) for value in row]


def _largest(row: Array) -> np.floating:
    return max(value.real for value in row)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, labels), all losses at once."""
    x, _, counted, weight, smoothing, reduction = call
    x, labels = _by_class(call)
    largest = x.real.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(x - largest).sum(axis=1, keepdims=True))
    loss = (1 - smoothing) * weight[labels] * (log_sum + (largest - np.take_along_axis(x, labels, axis=1)))
    if smoothing:
        of_class = (weight * (smoothing / len(weight)))[:, None]
        loss += (of_class * (log_sum + (largest - x))).sum(axis=1, keepdims=True)
    loss = np.where(counted, loss.reshape(counted.shape), 0)
    if reduction == "none":
        return loss, call
    return np.asarray(loss.sum() / _divisor(call) if reduction == "mean" else loss.sum(), x.dtype), call


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    _, _, counted, weight, smoothing, reduction = call
    x, labels = _by_class(call)
    upstream = dy / _divisor(call) if reduction == "mean" else dy
    upstream = np.where(counted, upstream, 0).reshape(labels.shape)
    dx = x - x.real.max(axis=1, keepdims=True)
    np.exp(dx, out=dx)
    total = dx.sum(axis=1, keepdims=True)
    smooth = smoothing / len(weight) * (dx * (weight.sum() / total) - weight[:, None]) if smoothing else None
    np.put_along_axis(dx, labels, 0, axis=1)
    np.put_along_axis(dx, labels, -dx.sum(axis=1, keepdims=True), axis=1)
    dx *= (1 - smoothing) * weight[labels] * upstream / total
    if smooth is not None:
        dx += upstream * smooth
    np.copyto(dx, 0, where=~counted.reshape(labels.shape))
    return (dx.reshape(call.x.shape),)


def _by_class(call: _Call) -> tuple[Array, Array]:
    """Return the logits (N, C, P), where P is the number of positions, and the labels (N, 1, P)."""
    places = len(call.labels), math.prod(call.labels.shape[1:])
    return call.x.reshape(places[0], call.x.shape[1], places[1]), call.labels.reshape(places[0], 1, places[1])


def _divisor(call: _Call) -> np.inexact:
    """Return W, by which a mean divides."""
    divisor: np.inexact = np.where(call.counted, call.weight[call.labels], 0).sum()
    return divisor


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
