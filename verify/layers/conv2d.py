"""The declaration of conv2d."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import conv2d
from cnn_core._blocked.conv2d import by_group
from cnn_core._blocked.plan import choose, in_one_row
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def conv2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every padding form, groups up to depthwise, with and without bias, and with N = 0."""
    window = draw(strategies.windows())
    groups, channels, filters = (draw(st.integers(1, most)) for most in (3, 2, 2))
    images = draw(st.integers(0, 3))
    x = draw(strategies.integers((images, groups * channels, *window.size)))
    w = draw(strategies.integers((groups * filters, channels, *window.kernel)))
    b = draw(st.none() | strategies.integers((groups * filters,)))
    return Case((x, w, b), {**window.options, "groups": groups})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 4, 5, 6)),
    w: object = np.zeros((6, 4, 3, 3)),
    b: object = None,
    **options: object,
) -> Reject:
    return Reject(name, (x, w, b), options, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(4, 5, 6\)", x=np.zeros((4, 5, 6))),
    _reject("rank of w", r"w must have 4 axes .*, got shape \(6, 4\)", w=np.zeros((6, 4))),
    _reject("channels", r"x has 3 channels, w expects 4 .*\(2, 3, 5, 6\)", x=np.zeros((2, 3, 5, 6))),
    _reject("groups and channels", r"groups=3 must divide both the 4 channels of x and the 6 filters", groups=3),
    _reject("groups and filters", r"groups=4 must divide both the 4 channels of x and the 6 filters", groups=4),
    _reject("groups below 1", "groups must be at least 1, got 0", groups=0),
    _reject("groups of two", r"groups must be an integer, got \(1, 2\)", TypeError, groups=(1, 2)),
    _reject("bias", r"b must have shape \(6,\), one entry a filter, got \(5,\)", b=np.zeros(5)),
    _reject("kernel 0", r"kernel of w must be at least 1x1, got 0x3", w=np.zeros((6, 4, 0, 3))),
    _reject(
        "window too high",
        r"window 5 exceeds padded height 3 \(H=1, padding=\(1, 1\)",
        x=np.zeros((2, 4, 1, 6)),
        padding=1,
        dilation=2,
    ),
    _reject("window too wide", r"window 3 exceeds padded width 2 \(W=2", x=np.zeros((2, 4, 5, 2))),
    _reject("stride 0", r"stride must be at least 1, got \(1, 0\)", stride=(1, 0)),
    _reject("dilation 0", "dilation must be at least 1, got 0", dilation=0),
    _reject("negative padding", r"padding must be at least 0, got \(-1, 0\)", padding=((-1, 0), (0, 0))),
    _reject("fractional stride", r"stride must be an integer or a pair of integers, got 1\.5", TypeError, stride=1.5),
    _reject("boolean stride", "stride must be an integer or a pair of integers, got True", TypeError, stride=True),
    _reject(
        "three strides",
        r"stride must be an integer or a pair of integers, got \(1, 1, 1\)",
        TypeError,
        stride=(1, 1, 1),
    ),
    _reject(
        "mixed padding",
        r"padding must be \(\(top, bottom\), \(left, right\)\), got \(1, \(0, 1\)\)",
        TypeError,
        padding=(1, (0, 1)),
    ),
    _reject("unknown padding", "padding must be .*, got 'full'", padding="full"),
    _reject("same and stride", r'padding="same" needs stride 1, got stride=\(2, 2\)', padding="same", stride=2),
    _reject(
        "integer x",
        "x must be a floating or complex array, got dtype int64",
        TypeError,
        x=np.zeros((2, 4, 5, 6), np.int64),
    ),
    _reject(
        "object w",
        "w must be a floating or complex array, got dtype object",
        TypeError,
        w=np.zeros((6, 4, 3, 3), object),
    ),
    _reject("no x", "x must be a NumPy array, got NoneType", TypeError, x=None),
    _reject("list", "x must be a NumPy array, got list", TypeError, x=[[[[1.0]]]]),
    _reject("mixed dtypes", "w has dtype float32, but x has float64", TypeError, w=np.zeros((6, 4, 3, 3), np.float32)),
)


def _bench(
    zoo: str,
    images: int,
    channels: int,
    filters: int,
    kernel: int,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
    naive: bool = False,
) -> BenchCase:
    """Return the benchmark of a square kernel on square images."""
    w = (filters, channels // groups, kernel, kernel)

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, channels, size, size), w, (filters,))
        return tuple(generator.integers(-4, 5, shape).astype(np.float32) for shape in shapes[: 3 if bias else 2])

    name = f"{channels}->{filters} {kernel}x{kernel}" + f"/{stride}" * (stride > 1) + f" g{groups}" * (groups > 1)
    options = {"stride": stride, "padding": padding, "groups": groups}
    return BenchCase(f"{name} on {size}x{size}, N = {images}", zoo, images, draw, options, naive)


# Every distinct convolution of ResNet-50: (channels, filters, kernel, stride, size), stage by stage. None has a bias.
# Source: He et al. 2016, arXiv:1512.03385, table 1. The stride is in the 3x3, as in torchvision ("v1.5").
_RESNET50 = (
    (3, 64, 7, 2, 224),
    *((64, 64, 1, 1, 56), (64, 64, 3, 1, 56), (64, 256, 1, 1, 56), (256, 64, 1, 1, 56)),
    *((256, 128, 1, 1, 56), (128, 128, 3, 2, 56), (256, 512, 1, 2, 56)),
    *((128, 512, 1, 1, 28), (512, 128, 1, 1, 28), (128, 128, 3, 1, 28)),
    *((512, 256, 1, 1, 28), (256, 256, 3, 2, 28), (512, 1024, 1, 2, 28)),
    *((256, 1024, 1, 1, 14), (1024, 256, 1, 1, 14), (256, 256, 3, 1, 14)),
    *((1024, 512, 1, 1, 14), (512, 512, 3, 2, 14), (1024, 2048, 1, 2, 14)),
    *((512, 2048, 1, 1, 7), (2048, 512, 1, 1, 7), (512, 512, 3, 1, 7)),
)


def _resnet50(channels: int, filters: int, kernel: int, stride: int, size: int) -> BenchCase:
    return _bench("ResNet-50", 8, channels, filters, kernel, size, bias=False, padding=kernel // 2, stride=stride)


_BENCH = (
    _bench("small enough for loops", 4, 3, 8, 3, 32, padding=1, naive=True),
    _bench("small enough for loops", 8, 1, 2, 5, 28, naive=True),
    _bench("tutorial", 128, 1, 2, 5, 28, bias=False),
    _bench("LeNet", 128, 1, 6, 5, 28, padding=2),
    _bench("LeNet", 128, 6, 16, 5, 14),
    _bench("VGG on CIFAR", 32, 3, 64, 3, 32, padding=1),
    _bench("VGG on CIFAR", 32, 64, 64, 3, 32, padding=1),
    *(_resnet50(*shape) for shape in _RESNET50),
    # Depthwise as in MobileNet, arXiv:1704.04861; in 32 groups as in ResNeXt-50, arXiv:1611.05431.
    _bench("depthwise and grouped", 8, 32, 32, 3, 112, bias=False, padding=1, groups=32),
    _bench("depthwise and grouped", 8, 128, 128, 3, 56, bias=False, padding=1, stride=2, groups=128),
    _bench("depthwise and grouped", 8, 128, 128, 3, 56, bias=False, padding=1, groups=32),
    _bench("depthwise and grouped", 8, 512, 512, 3, 14, bias=False, padding=1, groups=32),
    *(_bench("by batch", images, 64, 64, 3, 56, padding=1) for images in (8, 16, 32, 64, 128, 256)),
    *(_bench("by channels", 8, channels, channels, 3, 28, padding=1) for channels in (8, 16, 32, 64, 128, 256)),
    *(_bench("by image size", 8, 32, 32, 3, size, padding=1) for size in (14, 28, 56, 112, 224)),
)


def _torch(torch: Any, x: Any, w: Any, b: Any, **options: Any) -> Any:
    """PyTorch pads both sides alike. Of other paddings the image is padded before."""
    if not isinstance(options["padding"], str):
        (top, bottom), (left, right) = strategies.sides(options["padding"])
        x, options["padding"] = torch.nn.functional.pad(x, (left, right, top, bottom)), 0
    return torch.nn.functional.conv2d(x, w, b, **options)


def _jax(jax: Any, x: Any, w: Any, b: Any, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    both = [(each, each) if isinstance(each, int) else each for each in (stride, dilation)]
    pads = strategies.sides(padding, w.shape[2:], both[1])
    y = jax.lax.conv_general_dilated(x, w, both[0], pads, rhs_dilation=both[1], feature_group_count=groups)
    return y if b is None else y + b[:, None, None]


def _plan(arrays: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """The layout of the blocks of y, and whether they are several images or rows."""
    x, w = arrays[:2]
    y, cache = conv2d.blocked.forward(*arrays, **options)
    rows, columns = in_one_row(cache.rows, cache.columns, x, y)
    plan = choose(len(x), by_group(w, options["groups"]).shape, rows, columns, x.itemsize)
    blocks = "one-block" if len(list(plan.blocks(len(x), rows))) < 2 else "blocks"
    return f"{type(plan.layout).__name__}-{blocks}"


def _products(arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array) -> int:
    return int(y.size * arrays[1][0].size)


def _configuration(
    rows: _scopes.Sliding,
    columns: _scopes.Sliding,
    images: int = 1,
    groups: int = 1,
    channels: int = 1,
    filters: int = 1,
    bias: bool = True,
) -> Configuration:
    x = images, groups * channels, rows.size, columns.size
    w = groups * filters, channels, rows.kernel, columns.kernel
    return Configuration((x, w, w[:1] if bias else None), {**_scopes.window(rows, columns), "groups": groups})


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes with the same padding on both sides, and with "same" and "valid", for one channel and filter.

    Every padding of one axis stands beside one other axis. All numbers of images, groups, channels and filters, with
    and without b, stand beside all pairs of axes up to 2.
    """
    small, counts = _scopes.small(_scopes.sliding_axes(bound)), list(_scopes.groupings(bound))

    def grouped(rows: _scopes.Sliding, columns: _scopes.Sliding) -> Iterator[Configuration]:
        return (_configuration(rows, columns, *each) for each in counts)

    return [*_scopes.sliding(bound, _configuration), *_scopes.crossed(small, small, grouped)]


CONV2D = Layer(
    name="conv2d",
    module=conv2d,
    arguments="x: N C H W; w: F C/groups kH kW; b: F -> y: N F oH oW",
    structure="multilinear",
    cases=conv2d_cases,
    rejects=_REJECTS,
    bench=_BENCH,
    source="Dumoulin & Visin 2016, arXiv:1603.07285",
    torch=_torch,
    jax=_jax,
    onnx=("Conv", "CausalConvWithState"),
    products=_products,
    scope=_scope,
    plan=_plan,
)
