"""Hard sigmoid, made of three lines.

    y = 0 where x <= -3,    1 where x >= 3,    else (x + 3) / 6
    dx = dy / 6 where -3 < x < 3,    else 0

Each entry of y depends on its own x alone, so dx = dy * y'(x). The slope y' is 1/6 between the kinks and 0 outside. At
the kinks x = -3 and x = 3 it is 0, as in PyTorch. The y of NaN is NaN and its dx is 0, also as in PyTorch. A complex x
(the complex step) is compared by its real part.

PyTorch multiplies dy by the float32 number nearest to 1/6, in float64 too. Its dx is off by 3e-8 of itself there. Here
dy is divided by 6.

Shapes: x, y, dx of any one shape. Dtypes: float32, float64, complex64, complex128.

Raises TypeError for integer or object dtypes and for a cache of another implementation.

Source: Howard et al. 2019, arXiv:1905.02244, section 5.2; torch.nn.functional.hardsigmoid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement
from cnn_core._chunks import in_chunks, keep, where
from cnn_core._geometry import positions


class _Call(NamedTuple):
    """The argument of a call, which backward needs too."""

    x: Array


def _prepare(x: Array) -> _Call:
    check_arrays(x=x)
    return _Call(x)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, entry by entry."""
    (x,) = call
    y = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        if x[index].real <= -3:
            y[index] = 0
        elif x[index].real >= 3:
            y[index] = 1
        else:
            y[index] = (x[index] + 3) / 6
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, entry by entry."""
    (x,) = call
    dx = np.zeros(x.shape, x.dtype)
    for index in positions(*x.shape):
        if -3 < x[index].real < 3:
            dx[index] = dy[index] / 6
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from x, all entries at once."""
    return in_chunks(_three_lines, call.x), call


def _three_lines(x: Array) -> Array:
    """Return y of a chunk of x. The line, where x is above -3, and at most 1."""
    line = keep(~(x.real <= -3), (x + 3) / 6)
    return where(x.real >= 3, np.ones_like(x), line)


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    return (in_chunks(lambda dy, x: keep(np.abs(x.real) < 3, dy / 6), dy, call.x),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
