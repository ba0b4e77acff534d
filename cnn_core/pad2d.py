"""Padding of the height and width of images: by a constant, by reflection, by the edge, or cyclically.

    y[n, c, i, j] = x[n, c, h, v],  h = source of i - top along the height,  v = source of j - left along the width

The source of t along an axis of size S is
    constant:   t if 0 <= t < S; otherwise there is none, and y = value
    replicate:  0 if t < 0, S - 1 if t >= S, else t
    reflect:    -t if t < 0, 2*(S - 1) - t if t >= S, else t
    circular:   first + (t - first) mod size, of the entries [first, first + size) that are not cropped

A negative pad crops that side. reflect and replicate read entries that are cropped. circular repeats what is left.
PyTorch does both.

Every entry of y is a copy of one entry of x, or the constant. Let L be a function of y, with dy = dL/dy. By the chain
rule dL/dx[n, c, h, v] is the sum of dy over the copies of x[n, c, h, v]:
    dx[n, c, h, v] = sum of dy[n, c, i, j] over all (i, j) whose sources are (h, v)

Shapes: x (N, C, H, W), y (N, C, H + top + bottom, W + left + right). Dtypes: float32, float64, complex64, complex128.

Options, as in torch.nn.functional.pad:

- pad is an integer for all sides, (height, width), or ((top, bottom), (left, right)). PyTorch's order is
  (left, right, top, bottom).
- mode is "constant", "reflect", "replicate" or "circular".
- value is that of "constant".

A constant side may crop more than the whole image, which PyTorch refuses.

Raises TypeError for integer or object dtypes and for a cache of another implementation.
Raises ValueError, quoting the values, for a wrong rank, an unknown mode, and a y of negative size along an axis.
Raises ValueError for a value of another mode than "constant" or beyond the dtype, and for a pad the mode cannot do:

- "reflect" pads less than the size.
- "circular" pads no more than what is left.
- "replicate" needs an entry.
Source: torch.nn.functional.pad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import positions
from cnn_core._options import sides

# The modes, and their names in numpy.pad.
_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class _Side(NamedTuple):
    """An axis of x, and how many entries are put before and after it. A negative number crops."""

    size: int
    before: int
    after: int

    @property
    def out(self) -> int:
        """The size of y."""
        return self.size + self.before + self.after

    @property
    def left(self) -> int:
        """How many entries of x are not cropped."""
        return self.size + min(self.before, 0) + min(self.after, 0)


class _Call(NamedTuple):
    """The argument of a call, and how it is padded."""

    x: Array
    rows: _Side
    columns: _Side
    mode: str
    value: float


class _Kept(NamedTuple):
    """What backward needs, and no entry of x."""

    rows: _Side
    columns: _Side
    mode: str


def _prepare(x: Array, *, pad: Any, mode: str = "constant", value: float = 0.0) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    if mode not in tuple(_MODES):
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"value must be a real number, got {value!r}")
    if mode != "constant" and value != 0:
        raise ValueError(f"value is for mode constant, got mode={mode!r} and value={value!r}")
    if math.inf > abs(value) > float(np.finfo(x.dtype).max):
        raise ValueError(f"value {value!r} is beyond dtype {x.dtype}")
    rows, columns = (_Side(size, *pads) for size, pads in zip(x.shape[2:], sides("pad", pad, None), strict=True))
    for name, side in (("height", rows), ("width", columns)):
        pads = (side.before, side.after)
        if side.out < 0:
            raise ValueError(
                f"pad {pads} crops more than there is: the {name} of y would be {side.size} - {-sum(pads)}"
            )
        endless = math.inf if mode == "constant" or side.size else 0
        most = {"reflect": max(side.size - 1, 0), "circular": side.left}.get(mode, endless)
        if max(*pads, 0) > most:
            raise ValueError(
                f"mode {mode!r} pads {name} {side.size} by {most} a side at most, got pad {pads}"
                + f" ({side.left} are not cropped)" * (side.left != side.size)
            )
    return _Call(x, rows, columns, mode, value)


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, one entry at a time."""
    x, rows, columns, mode, value = call
    y = np.zeros((*x.shape[:2], rows.out, columns.out), x.dtype)
    for n, c, i, j in positions(*y.shape):
        h, v = _source(rows, mode, i), _source(columns, mode, j)
        y[n, c, i, j] = value if h is None or v is None else x[n, c, h, v]
    return y, _Kept(rows, columns, mode)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: each dy is added where its entry was copied from."""
    rows, columns, mode = kept
    dx = np.zeros((*dy.shape[:2], rows.size, columns.size), dy.dtype)
    for n, c, i, j in positions(*dy.shape):
        h, v = _source(rows, mode, i), _source(columns, mode, j)
        if h is not None and v is not None:
            dx[n, c, h, v] += dy[n, c, i, j]
    return (dx,)


def _source(side: _Side, mode: str, position: int) -> int | None:
    """Return the position in x of an entry of y; None for the constant."""
    t, size = position - side.before, side.size
    if mode == "circular":
        first = max(-side.before, 0)
        return first + (t - first) % side.left
    if 0 <= t < size:
        return t
    if mode == "constant":
        return None
    if mode == "replicate":
        return 0 if t < 0 else size - 1
    return -t if t < 0 else 2 * (size - 1) - t


def _vectorized_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from x, all entries at once."""
    x, rows, columns, mode, value = call
    return np.ascontiguousarray(_padded(x, (rows, columns), mode, value)), _Kept(rows, columns, mode)


def _padded(array: Array, axes: Sequence[_Side], mode: str, value: float) -> Array:
    """Return a new array, padded and cropped along its last axes. What is circular is cropped first."""
    pads = [(0, 0)] * (array.ndim - len(axes)) + [(max(side.before, 0), max(side.after, 0)) for side in axes]
    crop = (..., *(slice(max(-side.before, 0), min(side.after, 0) or None) for side in axes))
    constant = {"constant_values": value} if mode == "constant" else {}
    first = array[crop] if mode == "circular" else array
    padded: Array = np.pad(first, pads, _MODES[mode], **constant)  # type: ignore[call-overload]
    return padded if mode == "circular" else padded[crop]


def _vectorized_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy: fold the rows that were put around x back, then the columns."""
    rows, columns, mode = kept
    folded = _folded(dy, rows, mode)
    return (_folded(folded.swapaxes(2, 3), columns, mode).swapaxes(2, 3).copy(),)


def _folded(dy: Array, side: _Side, mode: str) -> Array:
    """Return dy with every row added to the row of x that it was copied from. Most are still in their order."""
    sources = _padded(np.arange(side.size), [side], mode, -1)
    first = min(max(side.before, 0), side.out)
    stop = max(first, min(side.before + side.size, side.out))
    around = [row for row in (*range(first), *range(stop, side.out)) if sources[row] >= 0]
    if not around and stop - first == side.size:
        return dy[:, :, first:stop]
    dx = np.zeros_like(dy, shape=(*dy.shape[:2], side.size, dy.shape[3]))  # in the order of dy: its axes may be swapped
    dx[:, :, first - side.before : stop - side.before] = dy[:, :, first:stop]
    for row in around:
        dx[:, :, sources[row]] += dy[:, :, row]
    return dx


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
