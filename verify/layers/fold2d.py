"""The declaration of fold2d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import fold2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def fold2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every padding form, windows that overlap, touch or leave gaps, and N = 0."""
    window = draw(strategies.windows())
    images, channels = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    rows, columns = _windows(window)
    x = draw(strategies.integers((images, channels * window.kernel[0] * window.kernel[1], rows * columns)))
    size, kernel = (
        each[0] if each[0] == each[1] and draw(st.booleans()) else each for each in (window.size, window.kernel)
    )
    return Case((x,), {"output_size": size, "kernel_size": kernel, **window.options})


def _windows(window: strategies.Window) -> list[int]:
    """Return how many windows there are along the height and the width."""
    stride, dilation = (strategies.both(window.options[name]) for name in ("stride", "dilation"))
    pads = strategies.sides(window.options["padding"], window.kernel, dilation)
    each = zip(window.size, window.kernel, stride, dilation, pads, strict=True)
    return [(size + sum(pad) - d * (kernel - 1) - 1) // step + 1 for size, kernel, step, d, pad in each]


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 12, 20)),
    output_size: object = (5, 6),
    kernel_size: object = 2,
    **options: object,
) -> Reject:
    options = {"output_size": output_size, "kernel_size": kernel_size, **options}
    return Reject(name, (x,), options, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 3 axes \(N C\*kH\*kW oH\*oW\), got shape \(5, 6\)", x=np.zeros((5, 6))),
    _reject("rows of x", r"kernel_size \(3, 3\) needs a multiple of 9 rows, x has 12", kernel_size=3),
    _reject(
        "columns of x",
        r"output_size \(4, 6\) has 3x5 windows, x has 20 columns \(x: \(2, 12, 20\), kernel_size=\(2, 2\), stride=1",
        output_size=(4, 6),
    ),
    _reject("columns and stride", r"output_size \(5, 6\) has 2x3 windows, x has 20 columns", stride=2),
    _reject("output 0", r"output_size must be at least 1, got \(0, 6\)", output_size=(0, 6)),
    _reject("kernel 0", r"kernel_size must be at least 1, got \(2, 0\)", kernel_size=(2, 0)),
    _reject("window too high", r"window 6 exceeds padded height 5 \(H=5", kernel_size=(6, 2)),
    _reject("stride 0", "stride must be at least 1, got 0", stride=0),
    _reject("dilation 0", r"dilation must be at least 1, got \(0, 1\)", dilation=(0, 1)),
    _reject("negative padding", "padding must be at least 0, got -1", padding=-1),
    _reject("same and stride", r'padding="same" needs stride 1, got stride=\(2, 2\)', padding="same", stride=2),
    _reject(
        "boolean size", "output_size must be an integer or a pair of integers, got True", TypeError, output_size=True
    ),
    _reject("integer x", "x must be a floating .* got dtype int32", TypeError, x=np.zeros((2, 12, 20), np.int32)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 12, 20), object)),
    _reject("no x", "x must be a NumPy array, got NoneType", TypeError, x=None),
)


def _bench(
    zoo: str, images: int, channels: int, size: int, kernel_size: int, *, naive: bool = False, **options: int
) -> BenchCase:
    """Return the benchmark of square windows at the padding that leaves as many windows as entries, by the stride."""
    padding, stride = options.get("padding", 0), options.get("stride", 1)
    out = (size + 2 * padding - kernel_size) // stride + 1

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels * kernel_size**2, out**2)).astype(np.float32),)

    name = f"{kernel_size}x{kernel_size} to {channels}x{size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"output_size": size, "kernel_size": kernel_size, **options}, naive)


def _torch(torch: Any, x: Any, *, output_size: Any, padding: Any, **options: Any) -> Any:
    """PyTorch pads both sides alike. With other paddings the padded image is folded, and cropped."""
    kernel, dilation = (strategies.both(options[name]) for name in ("kernel_size", "dilation"))
    (top, bottom), (left, right) = strategies.sides(padding, kernel, dilation)
    height, width = strategies.both(output_size)
    if (top, left) == (bottom, right):
        return torch.nn.functional.fold(x, (height, width), padding=(top, left), **options)
    padded = torch.nn.functional.fold(x, (height + top + bottom, width + left + right), **options)
    return padded[:, :, top : top + height, left : left + width]


def _jax(jax: Any, x: Any, *, output_size: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """JAX has the unfolding, and transposes it."""
    kernel, steps, spread = (strategies.both(each) for each in (kernel_size, stride, dilation))
    pads = strategies.sides(padding, kernel, spread)
    channels = x.shape[1] // (kernel[0] * kernel[1])

    def unfold(image: Any) -> Any:
        y = jax.lax.conv_general_dilated_patches(image, kernel, steps, pads, rhs_dilation=spread)
        return y.reshape(x.shape)

    image = jax.ShapeDtypeStruct((x.shape[0], channels, *strategies.both(output_size)), x.dtype)
    return jax.linear_transpose(unfold, image)(x)[0]


def _configuration(
    rows: _scopes.Sliding, columns: _scopes.Sliding, images: int = 1, channels: int = 1
) -> Configuration:
    kernel, size = (rows.kernel, columns.kernel), (rows.size, columns.size)
    x = images, channels * rows.kernel * columns.kernel, rows.out() * columns.out()
    return Configuration((x,), {"output_size": size, "kernel_size": kernel, **_scopes.window(rows, columns)})


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes with the same padding on both sides, and with "same" and "valid", for one image and channel.

    Every padding of one axis stands beside one other axis. Pairs of axes up to 2 come with all numbers of images and
    channels.
    """

    def several(rows: _scopes.Sliding, columns: _scopes.Sliding) -> Iterator[Configuration]:
        return (_configuration(rows, columns, *each) for each in _scopes.batches(bound))

    small = _scopes.small(_scopes.sliding_axes(bound))
    return [*_scopes.sliding(bound, _configuration), *_scopes.crossed(small, small, several)]


FOLD2D = Layer(
    name="fold2d",
    module=fold2d,
    arguments="x: N C*kH*kW oH*oW -> y: N C H W",
    structure="multilinear",
    cases=fold2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 4, 3, 16, 3, padding=1, naive=True),
        _bench("LeNet", 128, 6, 14, 5),
        _bench("VGG on CIFAR", 32, 64, 32, 3, padding=1),
        _bench("ResNet-50", 8, 3, 224, 7, padding=3, stride=2),
    ),
    source="torch.nn.functional.fold",
    torch=_torch,
    jax=_jax,
    onnx=("Col2Im",),
    scope=_scope,
)
