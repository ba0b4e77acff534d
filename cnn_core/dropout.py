"""Dropout, with the mask as an argument.

    y = x * mask * scale      with    scale = 1 / (1 - p),  or 0 for p = 1
    dx = dy * mask * scale

p is the probability that an entry is dropped. `scale` keeps the mean: an entry of a mask is True with probability
1 - p, so the mean of mask * scale is 1. For p = 1 everything is dropped, and y = 0, as in PyTorch. The layer is
linear in x, and each entry of y depends on its own x alone. So dx is dy times the slope mask * scale.

The mask is an argument because a layer is a pure function. It is boolean: True keeps an entry, False drops it. A
boolean array cannot be taken for weights or for one with a gradient, and has an eighth of float64's bytes. To make one:

    mask = np.random.default_rng(seed).random(x.shape) >= p

To drop whole channels, broadcast a mask of shape (N, C, 1, 1) by np.broadcast_to. In evaluation, leave the layer out.
As in PyTorch a dropped NaN or infinity gives NaN, which is 0 times it.

Shapes: x, mask, y, dx of any one shape. Dtypes: x float32, float64, complex64 or complex128, mask bool.
Options: p, a number in [0, 1], 0.5 by default.

Raises TypeError for an x of integers or objects, and for a mask that is not boolean.
Raises TypeError for a p that is no number, and for a cache of another implementation.
Raises ValueError, quoting the values, for a mask of another shape than x and for a p outside [0, 1].

Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, section
10 (the scaling in training); torch.nn.functional.dropout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_number, implement
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The arguments and the option of a call. Backward needs the mask and p."""

    x: Array
    mask: Array
    p: float


def _prepare(x: Array, mask: Array, *, p: float = 0.5) -> _Call:
    check_arrays(x=x)
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"mask must be a NumPy array, got {type(mask).__name__}")
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must be a boolean array, got dtype {mask.dtype}")
    if mask.shape != x.shape:
        raise ValueError(f"mask must have the shape of x, {x.shape}, got {mask.shape}")
    if not 0 <= check_number("p", p) <= 1:
        raise ValueError(f"p must lie in [0, 1], got {p!r}")
    return _Call(x, mask, float(p))


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, mask), entry by entry."""
    x, mask, p = call
    scale = 1 / (1 - p) if p < 1 else 0.0
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        y[index] = x[index] * mask[index] * scale
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    x, mask, p = call
    scale = 1 / (1 - p) if p < 1 else 0.0
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        dx[index] = dy[index] * mask[index] * scale
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, mask), all entries at once."""
    return np.asarray(call.x * _slopes(call)), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (np.asarray(dy * _slopes(call)),)


def _slopes(call: _Call) -> Array:
    """Return the slopes of y in x: 0 or the scale."""
    scale = 1 / (1 - call.p) if call.p < 1 else 0.0
    return np.asarray(call.mask * call.x.dtype.type(scale))


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
