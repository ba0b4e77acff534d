"""The declaration of max_pool2d."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import max_pool2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def max_pool2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls on small integers, which tie. Windows overlap, touch or leave gaps, some with ceil_mode."""
    window = draw(strategies.windows(pooling=True))
    x = draw(strategies.integers((draw(st.integers(0, 3)), draw(st.integers(1, 2)), *window.size)))
    options = {**window.options, "kernel_size": window.kernel}
    if window.kernel[0] == window.kernel[1] and draw(st.booleans()):
        options["kernel_size"] = window.kernel[0]
    if options["stride"] == options["kernel_size"] and draw(st.booleans()):
        options["stride"] = None  # the default: kernel_size
    return Case((x,), options)


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 5, 6)),
    kernel_size: object = 2,
    **options: object,
) -> Reject:
    return Reject(name, (x,), {"kernel_size": kernel_size, **options}, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(5, 6\)", x=np.zeros((5, 6))),
    _reject("kernel 0", r"kernel_size must be at least 1, got \(2, 0\)", kernel_size=(2, 0)),
    _reject("window too high", r"window 6 exceeds padded height 5 \(H=5", kernel_size=(6, 2)),
    _reject("empty image", r"window 1 exceeds padded width 0 \(W=0", x=np.zeros((2, 3, 5, 0)), kernel_size=1),
    _reject("stride 0", "stride must be at least 1, got 0", stride=0),
    _reject("dilation 0", r"dilation must be at least 1, got \(0, 1\)", dilation=(0, 1)),
    _reject("negative padding", "padding must be at least 0, got -1", padding=-1),
    _reject(
        "padding beyond half",
        r"padding \(2, 2\) is more than half the window 3 along the height",
        kernel_size=3,
        padding=2,
    ),
    _reject(
        "padding beyond half behind",
        r"padding \(0, 2\) is more than half the window 2 along the width",
        padding=((0, 0), (0, 2)),
    ),
    _reject(
        "empty window",
        r"window 0 along the height holds no entry of x \(H=2, kernel=2, padding=\(1, 1\), dilation=3\)",
        x=np.zeros((1, 1, 2, 9)),
        padding=(1, 0),
        dilation=(3, 1),
    ),
    _reject(
        "fractional kernel",
        r"kernel_size must be an integer or a pair of integers, got 2\.0",
        TypeError,
        kernel_size=2.0,
    ),
    _reject(
        "integer x",
        "x must be a floating or complex array, got dtype int32",
        TypeError,
        x=np.zeros((2, 3, 5, 6), np.int32),
    ),
    _reject(
        "object x",
        "x must be a floating or complex array, got dtype object",
        TypeError,
        x=np.zeros((2, 3, 5, 6), object),
    ),
)


def _bench(
    zoo: str, images: int, channels: int, size: int, kernel_size: int, *, naive: bool = False, **options: int
) -> BenchCase:
    """Return the benchmark of square windows at stride 2."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, size, size)).astype(np.float32),)

    name = f"{kernel_size}x{kernel_size}/2 on {channels}x{size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"kernel_size": kernel_size, "stride": 2, **options}, naive)


def _torch(torch: Any, x: Any, **options: Any) -> Any:
    """PyTorch pads both sides alike, by half of kernel_size at most. Of other paddings the image is padded before.

    With ceil_mode a window counts if it starts in the image or before it. PyTorch takes the rim behind for image here,
    so windows that start there are dropped.
    """
    kernel = strategies.both(options["kernel_size"])
    strides = strategies.both(options.get("stride") or kernel)
    pads = strategies.sides(options["padding"], kernel, strategies.both(options["dilation"]))
    if all(before == after and 2 * before <= k for (before, after), k in zip(pads, kernel, strict=True)):
        return torch.nn.functional.max_pool2d(x, **{**options, "padding": (pads[0][0], pads[1][0])})
    (top, bottom), (left, right) = pads
    rim = torch.nn.functional.pad(x, (left, right, top, bottom), value=-math.inf)
    y = torch.nn.functional.max_pool2d(rim, **{**options, "padding": 0})
    if options.get("ceil_mode"):
        rows, columns = (-(-(x.shape[axis] + pads[axis - 2][0]) // strides[axis - 2]) for axis in (2, 3))
        y = y[:, :, :rows, :columns]
    return y


def _jax(
    jax: Any, x: Any, *, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False
) -> Any:
    """JAX cannot differentiate dilated windows, and has no ceil_mode."""
    kernel = strategies.both(kernel_size)
    if strategies.both(dilation) != (1, 1) or ceil_mode:
        return None
    window, strides = ((1, 1, *each) for each in (kernel, strategies.both(stride or kernel)))
    pads = ((0, 0), (0, 0), *strategies.sides(padding, kernel))
    return jax.lax.reduce_window(x, -math.inf, jax.lax.max, window, strides, pads)


def _configuration(
    rows: _scopes.Sliding, columns: _scopes.Sliding, images: int = 1, channels: int = 1, *, ceil_mode: bool = False
) -> Configuration:
    options = {"kernel_size": (rows.kernel, columns.kernel), **_scopes.window(rows, columns), "ceil_mode": ceil_mode}
    return Configuration(((images, channels, rows.size, columns.size),), options)


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes with the same padding on both sides, with and without ceil_mode, for one image and channel.

    Every padding of one axis stands beside one other axis. Pairs of axes up to 2 come with all numbers of images and
    channels. Paddings "same" and "valid", and the default of stride, come without ceil_mode.
    """

    def several(rows: _scopes.Sliding, columns: _scopes.Sliding) -> Iterator[Configuration]:
        return (_configuration(rows, columns, *each) for each in _scopes.batches(bound))

    parts = _scopes.pools(bound, _configuration)
    for ceil_mode in (False, True):
        make = functools.partial(_configuration, ceil_mode=ceil_mode)
        parts += _scopes.paired(bound, _scopes.pool_axes(bound, ceil_mode=ceil_mode), make)
    small = _scopes.small(_scopes.pool_axes(bound))
    return [*parts, *_scopes.crossed(small, small, several)]


MAX_POOL2D = Layer(
    name="max_pool2d",
    module=max_pool2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="piecewise-linear",
    cases=max_pool2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, 8, 32, 2, naive=True),
        _bench("small enough for loops", 16, 8, 32, 3, naive=True),
        _bench("tutorial", 128, 2, 24, 2),
        _bench("VGG on CIFAR", 32, 64, 32, 2),
        _bench("VGG on CIFAR", 32, 64, 32, 3),
        _bench("ResNet-50", 8, 64, 112, 3, padding=1),
    ),
    source="torch.nn.functional.max_pool2d; Ranzato et al. 2007, CVPR",
    torch=_torch,
    jax=_jax,
    onnx=("MaxPool",),
    scope=_scope,
)
