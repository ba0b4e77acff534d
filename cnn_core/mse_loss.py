"""Squared error of two arrays.

    loss_i = (x_i - target_i)^2
    y = loss ("none"), sum_i loss_i ("sum"), or sum_i loss_i / n ("mean", over all n entries; NaN for n = 0)
    dx_i = 2 u_i (x_i - target_i),    dtarget_i = -dx_i

Here u_i is the upstream gradient of loss_i: dy_i, dy, or dy / n. The derivative of the square is 2 (x_i - target_i),
and that of the difference is 1 in x_i and -1 in target_i.

Shapes: x and target of any one shape, y of that shape or (). Nothing is broadcast.
Dtypes: float32, float64, complex64 or complex128, one for both. For complex arrays (the complex step) the loss is the
holomorphic square, and not |x - target|^2.

Option: reduction, as in torch.nn.functional.mse_loss.
Raises TypeError for integer, object or mixed dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for unequal shapes and an unknown reduction.

Source: torch.nn.functional.mse_loss; Goodfellow, Bengio & Courville 2016, section 5.1.4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments of a call, which backward needs too."""

    x: Array
    target: Array
    reduction: str


def _prepare(x: Array, target: Array, *, reduction: str = "mean") -> _Call:
    check_arrays(x=x, target=target)
    if x.shape != target.shape:
        raise ValueError(f"target must have the shape of x, {x.shape}, got {target.shape}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    return _Call(x, target, reduction)


@np.errstate(over="ignore", invalid="ignore")
def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, target), entry by entry."""
    x, target, reduction = call
    y = np.zeros(x.shape if reduction == "none" else (), x.dtype)
    for i in positions(*x.shape):
        y[i if reduction == "none" else ()] += (x[i] - target[i]) * (x[i] - target[i])
    return np.asarray(y / x.size) if reduction == "mean" else y, call


@np.errstate(over="ignore", invalid="ignore")
def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dtarget) from dy, entry by entry."""
    x, target, reduction = call
    dx, dtarget = np.zeros(x.shape, x.dtype), np.zeros(x.shape, x.dtype)
    for i in positions(*x.shape):
        upstream = dy[i] if reduction == "none" else dy / x.size if reduction == "mean" else dy
        dx[i] = 2 * upstream * (x[i] - target[i])
        dtarget[i] = -2 * upstream * (x[i] - target[i])
    return dx, dtarget


@np.errstate(over="ignore", invalid="ignore")
def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, target), all entries at once."""
    x, target, reduction = call
    loss = np.square(x - target)
    if reduction == "none":
        return np.asarray(loss), call
    return np.asarray(loss.sum() / x.size if reduction == "mean" else loss.sum()), call


@np.errstate(over="ignore", invalid="ignore")
def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dtarget) from dy, all entries at once."""
    x, target, reduction = call
    upstream = dy / x.size if reduction == "mean" and x.size else dy
    dx = np.asarray(2 * upstream * (x - target))
    return dx, np.asarray(-dx)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
