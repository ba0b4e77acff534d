"""The declaration of avg_pool2d."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import avg_pool2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def avg_pool2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls on real numbers. Windows overlap, touch or leave gaps, with each of the four divisors."""
    window = draw(strategies.windows(pooling=True, dilated=False))
    x = draw(strategies.reals((draw(st.integers(0, 3)), draw(st.integers(1, 2)), *window.size)))
    options = {**window.options, "kernel_size": window.kernel}
    if window.kernel[0] == window.kernel[1] and draw(st.booleans()):
        options["kernel_size"] = window.kernel[0]
    if options["stride"] == options["kernel_size"] and draw(st.booleans()):
        options["stride"] = None  # the default: kernel_size
    options["count_include_pad"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        options["divisor_override"] = draw(st.sampled_from([1, 3, 7, -2]))
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
    _reject("no row", r"window 0 along the height holds no entry of x \(H=0", x=np.zeros((1, 1, 0, 2)), padding=1),
    _reject("stride 0", "stride must be at least 1, got 0", stride=0),
    _reject("negative padding", "padding must be at least 0, got -1", padding=-1),
    _reject(
        "padding beyond half",
        r"padding \(2, 2\) is more than half the window 3 along the height",
        kernel_size=3,
        padding=2,
    ),
    _reject("unknown padding", "padding must be .*, got 'full'", padding="full"),
    _reject("divisor 0", "^divisor_override must not be 0, got 0$", divisor_override=0),
    _reject("fractional divisor", r"divisor_override must be an integer, got 2\.5", TypeError, divisor_override=2.5),
    _reject("boolean divisor", "divisor_override must be an integer, got True", TypeError, divisor_override=True),
    _reject("ceil_mode in words", "ceil_mode must be True or False, got 'no'", TypeError, ceil_mode="no"),
    _reject(
        "count_include_pad as a number",
        "count_include_pad must be True or False, got 1",
        TypeError,
        count_include_pad=1,
    ),
    _reject(
        "fractional kernel",
        r"kernel_size must be an integer or a pair of integers, got 2\.0",
        TypeError,
        kernel_size=2.0,
    ),
    _reject(
        "integer x", "x must be a floating or complex array, got dtype int64", TypeError, x=np.zeros((1, 1, 2, 2), int)
    ),
    _reject("object x", "x must be a floating .* array, got dtype object", TypeError, x=np.zeros((1, 1, 2, 2), object)),
)


def _bench(
    zoo: str, images: int, channels: int, size: int, kernel_size: int, *, naive: bool = False, **options: Any
) -> BenchCase:
    """Return the benchmark of square windows at stride 2."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, size, size)).astype(np.float32),)

    name = f"{kernel_size}x{kernel_size}/2 on {channels}x{size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"kernel_size": kernel_size, "stride": 2, **options}, naive)


def _geometry(x: Any, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return kernel, strides and padding, each for the height and the width."""
    kernel = strategies.both(options["kernel_size"])
    return kernel, strategies.both(options.get("stride") or kernel), strategies.sides(options["padding"], kernel)


def _torch(torch: Any, x: Any, **options: Any) -> Any:
    """PyTorch pads both sides alike. Of other paddings the image is padded before, and the entries are counted.

    With ceil_mode a window counts if it starts in the image or before it. PyTorch takes the rim behind for image here,
    so windows that start there are dropped.
    """
    pool = torch.nn.functional.avg_pool2d
    _, strides, pads = _geometry(x, options)
    if all(before == after for before, after in pads):
        return pool(x, **{**options, "padding": (pads[0][0], pads[1][0])})
    include = options.pop("count_include_pad")
    options["padding"], given = 0, options.pop("divisor_override", None)

    def padded(image: Any) -> Any:
        (top, bottom), (left, right) = pads
        return torch.nn.functional.pad(image, (left, right, top, bottom))

    if include or given:
        y = pool(padded(x), **options, divisor_override=given)
    else:
        y, entries = (pool(padded(each), **options, divisor_override=1) for each in (x, torch.ones_like(x)))
        y = y / entries
    if options.get("ceil_mode"):
        rows, columns = (-(-(x.shape[axis] + pads[axis - 2][0]) // strides[axis - 2]) for axis in (2, 3))
        y = y[:, :, :rows, :columns]
    return y


def _jax(jax: Any, x: Any, *, count_include_pad: bool, divisor_override: int | None = None, **options: Any) -> Any:
    """JAX has no ceil_mode."""
    if options.pop("ceil_mode", False):
        return None
    kernel, strides, pads = _geometry(x, options)

    def sums(image: Any) -> Any:
        around = ((0, 0), (0, 0), *pads)
        return jax.lax.reduce_window(image, 0.0, jax.lax.add, (1, 1, *kernel), (1, 1, *strides), around)

    if divisor_override is not None:
        return sums(x) / divisor_override
    return sums(x) / (kernel[0] * kernel[1] if count_include_pad else sums(jax.numpy.ones_like(x)))


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    A window has K = kH kW taps at most, and an entry of x lies in at most K windows. Let d be the least divisor:
    |divisor_override|, or 1.

    - y is a sum of K terms, divided once. Its error is at most gamma_{K+1} K max |x| / d.
    - dx is a sum of K quotients. Its error is at most gamma_{K+1} K max |dy| / d.

    A complex quotient has two roundings, so K + 2 stands for K + 1.
    """
    kernel = strategies.both(options["kernel_size"])
    terms = kernel[0] * kernel[1]
    ku = (terms + 2) * float(np.finfo(y.dtype).eps) / 2
    each = 2 * ku / (1 - ku) * terms / abs(options.get("divisor_override") or 1)
    return each * np.abs(arrays[0]).max(initial=0.0), each * np.abs(dy).max(initial=0.0)


def _configuration(
    rows: _scopes.Sliding, columns: _scopes.Sliding, images: int = 1, channels: int = 1, **options: Any
) -> Configuration:
    window = {"kernel_size": (rows.kernel, columns.kernel), **_scopes.window(rows, columns)}
    del window["dilation"]
    return Configuration(((images, channels, rows.size, columns.size),), {**window, **options})


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes, with any padding on each side, with both ceil_mode and both count_include_pad.

    Every pair with the same padding on both sides also comes with each divisor_override up to the bound, of either
    sign. Pairs of axes up to 2 come with all numbers of images and channels. Paddings "same" and "valid", and the
    default of stride, come with the defaults of the others.
    """
    flags, divisors = (False, True), [sign * size for size in range(1, bound + 1) for sign in (1, -1)]

    def counted(rows: _scopes.Sliding, columns: _scopes.Sliding, ceil_mode: bool) -> Iterator[Configuration]:
        even = rows.even and columns.even
        for include, divisor in itertools.product(flags, [None, *divisors] if even else [None]):
            options: dict[str, Any] = {"count_include_pad": include, "divisor_override": divisor}
            yield _configuration(rows, columns, ceil_mode=ceil_mode, **options)

    def several(rows: _scopes.Sliding, columns: _scopes.Sliding) -> Iterator[Configuration]:
        return (_configuration(rows, columns, *each) for each in _scopes.batches(bound))

    parts = _scopes.pools(bound, _configuration, dilated=False)
    for ceil_mode in flags:
        axes = _scopes.pool_axes(bound, ceil_mode=ceil_mode, dilated=False)
        parts += _scopes.crossed(axes, axes, functools.partial(counted, ceil_mode=ceil_mode))
    small = _scopes.small(_scopes.pool_axes(bound, dilated=False))
    return [*parts, *_scopes.crossed(small, small, several)]


AVG_POOL2D = Layer(
    name="avg_pool2d",
    module=avg_pool2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="analytic",
    cases=avg_pool2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, 8, 32, 2, naive=True),
        _bench("small enough for loops", 16, 8, 32, 3, naive=True, count_include_pad=False),
        _bench("LeNet", 128, 6, 28, 2),
        _bench("VGG on CIFAR", 32, 64, 32, 2),
        _bench("ResNet-50", 8, 64, 112, 3, padding=1),
    ),
    source="torch.nn.functional.avg_pool2d; LeCun et al. 1998, Proc. IEEE 86",
    torch=_torch,
    jax=_jax,
    onnx=("AveragePool",),
    tolerance=_tolerance,
    scope=_scope,
)
