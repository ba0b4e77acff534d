"""The declaration of conv_transpose2d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import conv_transpose2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def conv_transpose2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every padding form, output_padding, groups up to depthwise, with and without bias, and N = 0."""
    window = draw(strategies.transposed_windows())
    groups, channels, filters = (draw(st.integers(1, most)) for most in (3, 2, 2))
    x = draw(strategies.integers((draw(st.integers(0, 2)), groups * channels, *window.size)))
    w = draw(strategies.integers((groups * channels, filters, *window.kernel)))
    b = draw(st.none() | strategies.integers((groups * filters,)))
    return Case((x, w, b), {**window.options, "groups": groups})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 4, 5, 6)),
    w: object = np.zeros((4, 3, 3, 3)),
    b: object = None,
    **options: object,
) -> Reject:
    return Reject(name, (x, w, b), options, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(4, 5, 6\)", x=np.zeros((4, 5, 6))),
    _reject("rank of w", r"w must have 4 axes .*, got shape \(4, 3\)", w=np.zeros((4, 3))),
    _reject("channels", r"x has 3 channels, w expects 4 \(x: \(2, 3, 5, 6\)", x=np.zeros((2, 3, 5, 6))),
    _reject("groups and channels", "groups=3 must divide the 4 channels of x", groups=3),
    _reject("groups below 1", "groups must be at least 1, got 0", groups=0),
    _reject("groups of two", r"groups must be an integer, got \(1, 2\)", TypeError, groups=(1, 2)),
    _reject("bias", r"b must have shape \(3,\), one entry a filter, got \(4,\)", b=np.zeros(4)),
    _reject("bias of groups", r"b must have shape \(6,\), one entry a filter, got \(3,\)", b=np.zeros(3), groups=2),
    _reject("kernel 0", r"kernel of w must be at least 1x1, got 0x3", w=np.zeros((4, 3, 0, 3))),
    _reject(
        "all cropped",
        r"the height of x and y must be at least 1, got 5 and -1 \(kernel=3, stride=1, padding=\(4, 4\)",
        padding=(4, 0),
    ),
    _reject("no row", "the height of x and y must be at least 1, got 0 and 2", x=np.zeros((2, 4, 0, 6))),
    _reject("no column", "the width of x and y must be at least 1, got 0 and 2", x=np.zeros((2, 4, 5, 0))),
    _reject(
        "output_padding",
        "output_padding 2 along the width must be less than stride 2 or dilation 1",
        output_padding=(1, 2),
        stride=2,
    ),
    _reject("output_padding of stride 1", "output_padding 1 along the height must be .* stride 1", output_padding=1),
    _reject("negative output_padding", "output_padding must be at least 0, got -1", output_padding=-1),
    _reject("stride 0", r"stride must be at least 1, got \(1, 0\)", stride=(1, 0)),
    _reject("dilation 0", "dilation must be at least 1, got 0", dilation=0),
    _reject("negative padding", r"padding must be at least 0, got \(-1, 0\)", padding=((-1, 0), (0, 0))),
    _reject("fractional stride", r"stride must be an integer or a pair of integers, got 1\.5", TypeError, stride=1.5),
    _reject("boolean stride", "stride must be an integer or a pair of integers, got True", TypeError, stride=True),
    _reject("unknown padding", "padding must be .*, got 'full'", padding="full"),
    _reject("same and stride", r'padding="same" needs stride 1, got stride=\(2, 2\)', padding="same", stride=2),
    _reject("integer x", "x must be a floating .* got dtype int64", TypeError, x=np.zeros((2, 4, 5, 6), np.int64)),
    _reject("object w", "w must be a floating .* got dtype object", TypeError, w=np.zeros((4, 3, 3, 3), object)),
    _reject("no x", "x must be a NumPy array, got NoneType", TypeError, x=None),
    _reject("mixed dtypes", "w has dtype float32, but x has float64", TypeError, w=np.zeros((4, 3, 3, 3), np.float32)),
)


def _bench(
    zoo: str,
    images: int,
    channels: int,
    filters: int,
    kernel: int,
    size: int,
    *,
    naive: bool = False,
    **options: int,
) -> BenchCase:
    """Return the benchmark of a square kernel on square images."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, channels, size, size), (channels, filters, kernel, kernel), (filters,))
        return tuple(generator.integers(-4, 5, shape).astype(np.float32) for shape in shapes)

    name = f"{channels}->{filters} {kernel}x{kernel}/{options['stride']} on {size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, options, naive)


def _torch(torch: Any, x: Any, w: Any, b: Any, *, padding: Any, **options: Any) -> Any:
    """PyTorch crops both sides alike. With other paddings y is cropped afterwards."""
    (top, bottom), (left, right) = strategies.sides(padding, w.shape[2:], strategies.both(options["dilation"]))
    if (top, left) == (bottom, right):
        return torch.nn.functional.conv_transpose2d(x, w, b, padding=(top, left), **options)
    y = torch.nn.functional.conv_transpose2d(x, w, b, **options)
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def _jax(
    jax: Any,
    x: Any,
    w: Any,
    b: Any,
    *,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
) -> Any:
    """A convolution of x, with zeros between its entries, and the kernel turned around."""
    steps, extra, spread = (strategies.both(each) for each in (stride, output_padding, dilation))
    cut = strategies.sides(padding, w.shape[2:], spread)
    reach = [d * (k - 1) for d, k in zip(spread, w.shape[2:], strict=True)]
    pads = [(far - before, far - after + e) for far, (before, after), e in zip(reach, cut, extra, strict=True)]
    channels, filters, height, width = w.shape
    turned = w[:, :, ::-1, ::-1].reshape(groups, channels // groups, filters, height, width).swapaxes(1, 2)
    y = jax.lax.conv_general_dilated(
        x,
        turned.reshape(groups * filters, channels // groups, height, width),
        (1, 1),
        pads,
        lhs_dilation=steps,
        rhs_dilation=spread,
        feature_group_count=groups,
    )
    return y if b is None else y + b[:, None, None]


# Two axes that others stand beside: a plain one, and one with a stride, a dilation, uneven padding and output_padding.
_EVEN = _scopes.Transposed(2, 2, 1, 1, 0, 0, 0)
_UNEVEN = _scopes.Transposed(2, 2, 2, 2, 1, 0, 1)


def _configuration(
    rows: _scopes.Transposed,
    columns: _scopes.Transposed,
    images: int = 1,
    groups: int = 1,
    channels: int = 1,
    filters: int = 1,
    bias: bool = True,
) -> Configuration:
    x = images, groups * channels, rows.size, columns.size
    w = groups * channels, filters, rows.kernel, columns.kernel
    output_padding = rows.extra, columns.extra
    options = {**_scopes.window(rows, columns), "output_padding": output_padding, "groups": groups}
    return Configuration((x, w, (groups * filters,) if bias else None), options)


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes with the same padding on both sides, no output_padding, and no idle stride or dilation.

    These are for one channel and filter. An idle one moves nothing: there is one entry, or one tap. Every other axis
    stands beside two axes, and, if no number is above 2, beside all those. Padding "same" comes with every
    output_padding, "valid" with none. All numbers of images, groups, channels and filters, with and without b, stand
    beside all pairs of axes up to 2.
    """
    axes, counts = _scopes.transposed_axes(bound), list(_scopes.groupings(bound))
    plain, few = [axis for axis in axes if axis.plain], [axis for axis in axes if max(axis) <= 2]
    paired = dict.fromkeys(axis for axis in plain if not axis.idle)
    others = [axis for axis in axes if axis not in paired and max(axis) > 2]

    def pair(rows: _scopes.Transposed, columns: _scopes.Transposed) -> list[Configuration]:
        return [_configuration(rows, columns)]

    def extra(rows: _scopes.Transposed, columns: _scopes.Transposed) -> list[Configuration]:
        return [] if rows in paired and columns in paired else pair(rows, columns)

    def grouped(rows: _scopes.Transposed, columns: _scopes.Transposed) -> Iterator[Configuration]:
        return (_configuration(rows, columns, *each) for each in counts)

    small = [axis for axis in few if axis.plain or axis == _UNEVEN]
    parts = [*_scopes.crossed(paired, list(paired), pair), *_scopes.crossed(few, few, extra)]
    for one in (_EVEN, _UNEVEN) if others else ():
        parts += _scopes.beside(one, others, pair)
    same = [_scopes.Transposed(*axis, e) for axis in _scopes.same_axes(bound) for e in range(axis.dilation)]
    return [*parts, *_scopes.named(same, plain, _configuration), *_scopes.crossed(small, small, grouped)]


CONV_TRANSPOSE2D = Layer(
    name="conv_transpose2d",
    module=conv_transpose2d,
    arguments="x: N C H W; w: C F/groups kH kW; b: F -> y: N F oH oW",
    structure="multilinear",
    cases=conv_transpose2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 4, 4, 3, 3, 8, stride=2, padding=1, output_padding=1, naive=True),
        # Up-sampling in a U-Net, arXiv:1505.04597, and the generator of DCGAN, arXiv:1511.06434.
        _bench("U-Net", 8, 128, 64, 2, 28, stride=2),
        _bench("DCGAN", 32, 256, 128, 4, 8, stride=2, padding=1),
        _bench("DCGAN", 32, 128, 3, 4, 32, stride=2, padding=1),
    ),
    source="torch.nn.functional.conv_transpose2d; Dumoulin & Visin 2016, arXiv:1603.07285",
    torch=_torch,
    jax=_jax,
    onnx=("ConvTranspose",),
    products=lambda arrays, options, y: arrays[0].size * arrays[1][0].size,
    scope=_scope,
)
