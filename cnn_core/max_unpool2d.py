"""Two-dimensional max unpooling: each entry goes to the place that its index names, and the rest is 0.

    y[n, c, h, v] = x[n, c, i, j] of the last (i, j), in row-major order, with indices[n, c, i, j] = h*oW + v
    y[n, c, h, v] = 0 if there is no such (i, j)

Overlapping windows of a pool may have one winner, whose index then stands there twice. Entries of one index do not
add up: the last one is kept. y does not depend on the others, so
    dx[n, c, i, j] = dy[n, c, h, v], (h, v) = divmod(indices[n, c, i, j], oW), if no later entry has this index
    dx[n, c, i, j] = 0 if a later one has

PyTorch's threads race for a repeated index, and any of its entries may be kept. Its gradient is dy at the index for
all of them, also for those that its y does not depend on. Of x = (1, 2) with the indices (1, 1) and dy = (0, 5) it
says dx = (5, 5). Here y = (0, 2) and dx = (0, 5). Without a repeated index both libraries agree.

Shapes: x (N, C, H, W), indices (N, C, H, W) of integers in [0, oH*oW), y (N, C, oH, oW).
Dtypes of x: float32, float64, complex64, complex128. The indices have no gradient.

Options, as in torch.nn.functional.max_unpool2d: kernel_size, stride (default: kernel_size) and padding, an integer
or a pair, of the pool to undo. They make oH = (H - 1)*sH + kH - 2*pH, and oW likewise. output_size (oH, oW), if it
is given, must be less than one stride away from that. Without kernel_size it may be anything.

Raises TypeError for x of integers or objects, indices that are not integers, and a cache of another implementation.
Raises ValueError, quoting the values, for shapes and sizes that do not fit, and indices out of range.

Source: Zeiler & Fergus 2014, arXiv:1311.2901, section 2.1 (unpooling); torch.nn.functional.max_unpool2d.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, check_rank, implement
from cnn_core._geometry import Pair, positions
from cnn_core._options import pair


class _Call(NamedTuple):
    """The arguments of a call, and the output size."""

    x: Array
    indices: Array
    out: tuple[int, int]


class _Kept(NamedTuple):
    """What the naive backward needs: the place of each entry in its plane of y."""

    places: Array


class _Held(NamedTuple):
    """What the vectorized backward needs: the place of each entry in the whole of y, and whether y holds it."""

    places: Array
    held: Array


def _prepare(
    x: Array,
    indices: Array,
    *,
    kernel_size: Pair | None = None,
    stride: Pair | None = None,
    padding: Pair = 0,
    output_size: Pair | None = None,
) -> _Call:
    check_arrays(x=x)
    check_rank("x", x, "N C H W")
    if not isinstance(indices, np.ndarray) or not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"indices must be an integer array, got {getattr(indices, 'dtype', type(indices).__name__)}")
    if indices.shape != x.shape:
        raise ValueError(f"indices must have the shape of x, {x.shape}, got {indices.shape}")
    if min(x.shape[2:]) < 1:
        raise ValueError(f"x must have at least one row and one column, got H={x.shape[2]}, W={x.shape[3]}")
    out = _output_size((x.shape[2], x.shape[3]), kernel_size, stride, padding, output_size)
    outside = np.argwhere((indices < 0) | (indices >= out[0] * out[1]))
    if len(outside):
        position = tuple(map(int, outside[0]))
        raise ValueError(
            f"indices must lie in [0, {out[0] * out[1]}), for an output of {out[0]}x{out[1]}, "
            f"got {indices[position]} at {position}"
        )
    return _Call(x, indices.astype(np.int64), out)


def _output_size(
    shape: tuple[int, int], kernel_size: Pair | None, stride: Pair | None, padding: Pair, output_size: Pair | None
) -> tuple[int, int]:
    """Return (oH, oW): as given, or those of the smallest array that such a pool leaves with `shape`."""
    if kernel_size is None:
        if output_size is None:
            raise ValueError("give kernel_size or output_size, got neither")
        if stride is not None or pair("padding", padding, 0) != (0, 0):
            raise ValueError(f"stride={stride!r} and padding={padding!r} need a kernel_size, got None")
        return pair("output_size", output_size, 1)
    kernels, pads = pair("kernel_size", kernel_size, 1), pair("padding", padding, 0)
    strides = kernels if stride is None else pair("stride", stride, 1)
    height, width = ((n - 1) * s + k - 2 * p for n, s, k, p in zip(shape, strides, kernels, pads, strict=True))
    if output_size is None:
        if min(height, width) < 1:
            raise ValueError(
                f"the output would be {height}x{width} (H={shape[0]}, W={shape[1]}, kernel_size={kernel_size!r}, "
                f"stride={strides}, padding={padding!r})"
            )
        return height, width
    given = pair("output_size", output_size, 1)
    for axis, out, by_default, step in zip(("height", "width"), given, (height, width), strides, strict=True):
        if abs(out - by_default) >= step:
            raise ValueError(
                f"the {axis} of output_size={output_size!r} must be within {by_default - step + 1} and "
                f"{by_default + step - 1}, less than a stride of {step} from {by_default}"
            )
    return given


def _naive_forward(call: _Call) -> tuple[Array, _Kept]:
    """Compute (y, cache) from (x, indices), entry by entry: a later entry replaces an earlier one."""
    x, indices, out = call
    y = np.zeros((*x.shape[:2], *out), x.dtype)
    for n, c, i, j in positions(*x.shape):
        h, v = divmod(indices[n, c, i, j], out[1])
        y[n, c, h, v] = x[n, c, i, j]
    return y, _Kept(indices)


def _naive_backward(dy: Array, kept: _Kept) -> Gradients:
    """Compute (dx,) from dy, entry by entry, the last one first: an entry whose place is taken has no gradient."""
    places, taken = kept.places, np.zeros(dy.shape, bool)
    dx = np.zeros(places.shape, dy.dtype)
    for n, c, i, j in reversed(list(positions(*places.shape))):
        h, v = divmod(places[n, c, i, j], dy.shape[3])
        if not taken[n, c, h, v]:
            dx[n, c, i, j] = dy[n, c, h, v]
        taken[n, c, h, v] = True
    return (dx,)


def _vectorized_forward(call: _Call) -> tuple[Array, _Held]:
    """Compute (y, cache) from (x, indices), all entries at once. NumPy leaves open which of two writes is the last."""
    x, indices, out = call
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1)
    places = (planes * (out[0] * out[1]) + indices).reshape(-1)
    entries = np.arange(x.size)
    last = np.full(planes.size * out[0] * out[1], -1)
    np.maximum.at(last, places, entries)
    held = last[places] == entries
    y = np.zeros(last.size, x.dtype)
    y[places[held]] = x.reshape(-1)[held]
    return y.reshape(*x.shape[:2], *out), _Held(places, held.reshape(x.shape))


def _vectorized_backward(dy: Array, kept: _Held) -> Gradients:
    """Compute (dx,) from dy, all entries at once."""
    read = dy.reshape(-1)[kept.places].reshape(kept.held.shape)
    return (np.where(kept.held, read, np.zeros((), dy.dtype)),)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
