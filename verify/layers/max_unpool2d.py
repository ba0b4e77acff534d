"""The declaration of max_unpool2d."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from cnn_core import max_unpool2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def max_unpool2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls on small integers. Indices are a plane's in any order, none twice, or they repeat.

    The output is as large as kernel_size, stride and padding make it, or up to a stride larger or smaller, or its
    size is given alone.
    """
    axes = [_axis(draw) for _ in range(2)]
    sizes, outs, *window = zip(*axes, strict=True)
    images, channels, entries = draw(st.integers(0, 2)), draw(st.integers(1, 2)), sizes[0] * sizes[1]
    x = draw(strategies.integers((images, channels, *sizes)))
    places = outs[0] * outs[1]
    if places >= entries and draw(st.integers(0, 2)):
        planes = [draw(st.permutations(range(places)))[:entries] for _ in range(images * channels)]
    else:
        plane = st.lists(st.integers(0, places - 1), min_size=entries, max_size=entries)
        planes = [draw(plane) for _ in range(images * channels)]
    indices = np.array(planes, draw(st.sampled_from([np.int64, np.int32]))).reshape(x.shape)
    form = draw(st.sampled_from(["window", "window and size", "size"]))
    options: dict[str, Any] = {} if form == "window" and outs == _by_window(sizes, window) else {"output_size": outs}
    if form != "size":
        names = ("kernel_size", "stride", "padding")
        options.update(zip(names, (_spelled(draw, value) for value in window), strict=True))
        if options["stride"] == options["kernel_size"] and draw(st.booleans()):
            options["stride"] = None  # the default: kernel_size
    return Case((x, indices), options)


def _axis(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Return the size, the output size, kernel, stride and padding of an axis."""
    size, kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = kernel if draw(st.booleans()) else stride
    by_default = (size - 1) * stride + kernel
    padding = draw(st.integers(0, min(kernel // 2, (by_default - 1) // 2)))
    by_default -= 2 * padding
    out = (
        by_default
        if draw(st.booleans())
        else draw(st.integers(max(1, by_default - stride + 1), by_default + stride - 1))
    )
    return size, out, kernel, stride, padding


def _by_window(sizes: Any, window: Any) -> tuple[int, ...]:
    return tuple((n - 1) * s + k - 2 * p for n, k, s, p in zip(sizes, *window, strict=True))


def _spelled(draw: st.DrawFn, value: tuple[int, int]) -> Any:
    return value[0] if value[0] == value[1] and draw(st.booleans()) else value


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 2, 2)),
    indices: object = np.zeros((2, 3, 2, 2), np.int64),
    **options: object,
) -> Reject:
    return Reject(name, (x, indices), options or {"kernel_size": 2}, error, message)


def _one(index: int) -> Array:
    """Indices of which one is this, and the others are 0."""
    indices = np.zeros((2, 3, 2, 2), np.int64)
    indices[1, 2, 0, 1] = index
    return indices


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(5, 6\)", x=np.zeros((5, 6))),
    _reject(
        "no column",
        "x must have at least one row and one column, got H=2, W=0",
        x=np.zeros((1, 1, 2, 0)),
        indices=np.zeros((1, 1, 2, 0), int),
    ),
    _reject(
        "shape of indices",
        r"indices must have the shape of x, \(2, 3, 2, 2\), got \(3, 2\)",
        indices=np.zeros((3, 2), int),
    ),
    _reject(
        "floating indices", "indices must be an integer array, got float64", TypeError, indices=np.zeros((2, 3, 2, 2))
    ),
    _reject("list of indices", "indices must be an integer array, got list", TypeError, indices=[0]),
    _reject(
        "index too large",
        r"indices must lie in \[0, 16\), for an output of 4x4, got 16 at \(1, 2, 0, 1\)",
        indices=_one(16),
    ),
    _reject(
        "negative index",
        r"indices must lie in \[0, 12\), for an output of 3x4, got -1 at \(1, 2, 0, 1\)",
        indices=_one(-1),
        output_size=(3, 4),
    ),
    _reject("no size", "give kernel_size or output_size, got neither", padding=0),
    _reject("stride alone", "stride=2 and padding=0 need a kernel_size, got None", output_size=4, stride=2),
    _reject("padding alone", "stride=None and padding=1 need a kernel_size, got None", output_size=4, padding=1),
    _reject("kernel 0", r"kernel_size must be at least 1, got \(2, 0\)", kernel_size=(2, 0)),
    _reject("stride 0", "stride must be at least 1, got 0", kernel_size=2, stride=0),
    _reject("negative padding", "padding must be at least 0, got -1", kernel_size=2, padding=-1),
    _reject("boolean kernel", "kernel_size must be an integer or a pair .*, got True", TypeError, kernel_size=True),
    _reject(
        "nothing left",
        r"the output would be 4x0 \(H=2, W=2, kernel_size=2, .*, padding=\(0, 2\)\)",
        kernel_size=2,
        padding=(0, 2),
    ),
    _reject(
        "size too large",
        r"the width of output_size=\(4, 6\) must be within 3 and 5, less .* 2 from 4",
        kernel_size=2,
        output_size=(4, 6),
    ),
    _reject(
        "size too small",
        r"the height of output_size=\(2, 4\) must be within 3 and 5",
        kernel_size=2,
        output_size=(2, 4),
    ),
    _reject("size 0", "output_size must be at least 1, got 0", output_size=0),
    _reject(
        "integer x", "x must be a floating or complex array, got dtype int64", TypeError, x=np.zeros((2, 3, 2, 2), int)
    ),
    _reject("object x", "x must be a floating .* array, got dtype object", TypeError, x=np.zeros((2, 3, 2, 2), object)),
)


def _bench(zoo: str, images: int, channels: int, size: int, naive: bool = False) -> BenchCase:
    """Return the benchmark of square images that become twice as large, with one entry in each 2x2."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shape = (images, channels, size, size)
        rows, columns = (2 * np.arange(size) + generator.integers(0, 2, shape) for _ in range(2))
        indices = rows.swapaxes(2, 3) * (2 * size) + columns
        return generator.integers(-99, 100, shape).astype(np.float32), np.ascontiguousarray(indices)

    return BenchCase(f"2x2 on {channels}x{size}x{size}, N = {images}", zoo, images, draw, {"kernel_size": 2}, naive)


def _torch(torch: Any, x: Any, indices: Any, **options: Any) -> Any:
    """PyTorch's gradient is wrong for an index that a plane has twice. Without a kernel its operator is called."""
    planes = indices.reshape(-1, indices.shape[2] * indices.shape[3])
    if any(len(plane.unique()) < len(plane) for plane in planes):
        return None
    if options.get("kernel_size") is None:
        return torch.ops.aten.max_unpool2d(x, indices.long(), options["output_size"])
    return torch.nn.functional.max_unpool2d(x, indices.long(), **options)


class _Indices(NamedTuple):
    """Draws the indices of x into an output of some size: no index twice in a plane, or any."""

    shape: tuple[int, ...]
    places: int
    repeated: bool

    def __call__(self, generator: np.random.Generator) -> Array:
        if self.repeated:
            return generator.integers(0, self.places, self.shape)
        images, channels, height, width = self.shape
        planes = np.tile(np.arange(self.places), (images * channels, 1))
        return generator.permuted(planes, axis=1)[:, : height * width].reshape(self.shape)


class _Unpooled(NamedTuple):
    """One axis: the sizes of x and y, and kernel, stride and padding of the pool to undo, or 0 for all three."""

    size: int
    out: int
    kernel: int
    stride: int
    padding: int


def _axes(bound: int) -> list[_Unpooled]:
    """Return every axis, with the output size that follows from the window: less than 1, if it crops too much."""
    numbers = itertools.product(*[range(1, bound + 1)] * 3, range(bound + 1))
    return [_Unpooled(n, (n - 1) * s + k - 2 * p, k, s, p) for n, k, s, p in numbers]


def _configurations(
    rows: _Unpooled, columns: _Unpooled, images: int = 1, channels: int = 1, **options: Any
) -> Iterator[Configuration]:
    """Indices that repeat, and such as do not, if there are enough."""
    x, places = (images, channels, rows.size, columns.size), rows.out * columns.out
    if rows.kernel:
        window = zip(rows[2:], columns[2:], strict=True)
        options = {**dict(zip(("kernel_size", "stride", "padding"), window, strict=True)), **options}
    for repeated in (True, False) if places >= x[2] * x[3] else (True,):
        yield Configuration((x, _Indices(x, places, repeated)), options)


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes, with any padding, with indices that repeat and such as do not, if there are enough.

    The output size is left out, or given within the bound, with a window or alone. Pairs of axes up to 2 come with
    all numbers of images and channels, and pairs whose stride is the kernel with the default of stride.
    """
    found, numbers = _axes(bound), range(1, bound + 1)
    axes = [axis for axis in found if axis.out >= 1]
    sized = [axis._replace(out=out) for axis in found for out in numbers if abs(out - axis.out) < axis.stride]
    alone = [_Unpooled(size, out, 0, 0, 0) for size, out in itertools.product(numbers, repeat=2)]
    touching, small = [axis for axis in axes if axis.kernel == axis.stride], [axis for axis in axes if max(axis) <= 2]
    default = functools.partial(_configurations, stride=None)

    def given(rows: _Unpooled, columns: _Unpooled) -> Iterator[Configuration]:
        return _configurations(rows, columns, output_size=(rows.out, columns.out))

    def several(rows: _Unpooled, columns: _Unpooled) -> Iterator[Configuration]:
        return itertools.chain(*(_configurations(rows, columns, *each) for each in _scopes.batches(bound)))

    kinds = ((axes, _configurations), (sized, given), (alone, given), (touching, default), (small, several))
    return [part for these, make in kinds for part in _scopes.crossed(these, these, make)]


MAX_UNPOOL2D = Layer(
    name="max_unpool2d",
    module=max_unpool2d,
    arguments="x: N C H W; indices: N C H W -> y: N C oH oW",
    structure="multilinear",
    cases=max_unpool2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, 8, 16, naive=True),
        _bench("SegNet", 8, 64, 56),
    ),
    source="Zeiler & Fergus 2014, arXiv:1311.2901; torch.nn.functional.max_unpool2d",
    torch=_torch,
    onnx=("MaxUnpool",),
    constants=("indices",),
    scope=_scope,
)
