"""The declaration of unfold2d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import unfold2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def unfold2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every padding form, windows that overlap, touch or leave gaps, and N = 0."""
    window = draw(strategies.windows())
    x = draw(strategies.integers((draw(st.integers(0, 2)), draw(st.integers(1, 3)), *window.size)))
    kernel: Any = window.kernel
    if kernel[0] == kernel[1] and draw(st.booleans()):
        kernel = kernel[0]
    return Case((x,), {"kernel_size": kernel, **window.options})


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
    _reject("window too wide", r"window 9 exceeds padded width 8 \(W=6, padding=\(1, 1\)", padding=1, dilation=(1, 8)),
    _reject("stride 0", "stride must be at least 1, got 0", stride=0),
    _reject("dilation 0", r"dilation must be at least 1, got \(0, 1\)", dilation=(0, 1)),
    _reject("negative padding", "padding must be at least 0, got -1", padding=-1),
    _reject("unknown padding", "padding must be .*, got 'full'", padding="full"),
    _reject("same and stride", r'padding="same" needs stride 1, got stride=\(2, 2\)', padding="same", stride=2),
    _reject(
        "boolean kernel",
        "kernel_size must be an integer or a pair of integers, got True",
        TypeError,
        kernel_size=True,
    ),
    _reject("integer x", "x must be a floating .* got dtype int32", TypeError, x=np.zeros((2, 3, 5, 6), np.int32)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 3, 5, 6), object)),
    _reject("no x", "x must be a NumPy array, got NoneType", TypeError, x=None),
)


def _bench(
    zoo: str, images: int, channels: int, size: int, kernel_size: int, *, naive: bool = False, **options: int
) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, size, size)).astype(np.float32),)

    name = f"{kernel_size}x{kernel_size} on {channels}x{size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"kernel_size": kernel_size, **options}, naive)


def _torch(torch: Any, x: Any, *, padding: Any, **options: Any) -> Any:
    """PyTorch pads both sides alike. Of other paddings the image is padded before."""
    kernel, dilation = (strategies.both(options[name]) for name in ("kernel_size", "dilation"))
    (top, bottom), (left, right) = strategies.sides(padding, kernel, dilation)
    if (top, left) == (bottom, right):
        return torch.nn.functional.unfold(x, padding=(top, left), **options)
    return torch.nn.functional.unfold(torch.nn.functional.pad(x, (left, right, top, bottom)), **options)


def _jax(jax: Any, x: Any, *, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    kernel, steps, spread = (strategies.both(each) for each in (kernel_size, stride, dilation))
    pads = strategies.sides(padding, kernel, spread)
    y = jax.lax.conv_general_dilated_patches(x, kernel, steps, pads, rhs_dilation=spread)
    return y.reshape(*y.shape[:2], y.shape[2] * y.shape[3])


def _configuration(
    rows: _scopes.Sliding, columns: _scopes.Sliding, images: int = 1, channels: int = 1
) -> Configuration:
    options = {"kernel_size": (rows.kernel, columns.kernel), **_scopes.window(rows, columns)}
    return Configuration(((images, channels, rows.size, columns.size),), options)


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes with the same padding on both sides, and with "same" and "valid", for one image and channel.

    Every padding of one axis stands beside one other axis. Pairs of axes up to 2 come with all numbers of images and
    channels.
    """

    def several(rows: _scopes.Sliding, columns: _scopes.Sliding) -> Iterator[Configuration]:
        return (_configuration(rows, columns, *each) for each in _scopes.batches(bound))

    small = _scopes.small(_scopes.sliding_axes(bound))
    return [*_scopes.sliding(bound, _configuration), *_scopes.crossed(small, small, several)]


UNFOLD2D = Layer(
    name="unfold2d",
    module=unfold2d,
    arguments="x: N C H W -> y: N C*kH*kW oH*oW",
    structure="multilinear",
    cases=unfold2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 4, 3, 16, 3, padding=1, naive=True),
        _bench("LeNet", 128, 6, 14, 5),
        _bench("VGG on CIFAR", 32, 64, 32, 3, padding=1),
        _bench("ResNet-50", 8, 3, 224, 7, padding=3, stride=2),
    ),
    source="torch.nn.functional.unfold",
    torch=_torch,
    jax=_jax,
    scope=_scope,
)
