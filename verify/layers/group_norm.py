"""The declaration of group_norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import group_norm
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject
from verify.layers._normalization import drawn, errors, maybe


@st.composite
def group_norm_cases(draw: st.DrawFn) -> Case:
    """Valid calls with one group, several, or one for each channel, with and without w and b, with any further axes."""
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rest = draw(array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3))
    channels = groups * per_group
    eps, arrays = draw(drawn(per_group * math.prod(rest)))
    x = draw(arrays((draw(st.integers(0, 3)), channels, *rest)))
    w, b = draw(maybe(arrays((channels,)))), draw(maybe(arrays((channels,))))
    return Case((x, w, b), {"num_groups": groups, "eps": eps})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 6, 4, 5)),
    w: object = None,
    b: object = None,
    num_groups: object = 3,
    **options: object,
) -> Reject:
    return Reject(name, (x, w, b), {"num_groups": num_groups, **options}, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have at least 2 axes \(N C ...\), got shape \(6,\)", x=np.zeros(6)),
    _reject("no divisor", r"num_groups=4 must divide the 6 channels of x \(x: \(2, 6, 4, 5\)\)", num_groups=4),
    _reject("no group", "num_groups must be at least 1, got 0", num_groups=0),
    _reject("half a group", "num_groups must be an integer, got 1.5", TypeError, num_groups=1.5),
    _reject("a boolean", "num_groups must be an integer, got True", TypeError, num_groups=True),
    _reject("weight", r"w must have shape \(6,\), one entry a channel, got \(3,\)", w=np.zeros(3)),
    _reject("bias", r"b must have shape \(6,\), one entry a channel, got \(3,\)", b=np.zeros(3)),
    _reject("negative eps", "eps must be finite and at least 0, got -1", eps=-1),
    _reject("eps as text", "eps must be a real number, got '1'", TypeError, eps="1"),
    _reject("integer x", "x must be a floating .* got dtype int64", TypeError, x=np.zeros((2, 6), np.int64)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 6), object)),
    _reject("mixed dtypes", "w has dtype float32, but x has float64", TypeError, w=np.zeros(6, np.float32)),
)


def _bench(zoo: str, images: int, channels: int, size: int, groups: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, channels, size, size), (channels,), (channels,))
        return tuple(generator.normal(size=shape).astype(np.float32) for shape in shapes)

    name = f"{channels}x{size}x{size}, {groups} groups, N = {images}"
    return BenchCase(name, zoo, images, draw, {"num_groups": groups}, naive)


def _torch(torch: Any, x: Any, w: Any, b: Any, *, num_groups: int, eps: float) -> Any:
    """PyTorch refuses one image whose groups have one entry. With b it needs w, and has no gradients otherwise."""
    if x.numel() == num_groups:
        return None
    if w is None and b is not None:
        w = torch.ones_like(b)
    return torch.nn.functional.group_norm(x, num_groups, w, b, eps)


def _jax(jax: Any, x: Any, w: Any, b: Any, *, num_groups: int, eps: float) -> Any:
    images, channels, *rest = x.shape
    grouped = x.reshape(images, num_groups, channels // num_groups * math.prod(rest))
    h = jax.nn.standardize(grouped, axis=2, epsilon=eps, algorithm="stable").reshape(x.shape)
    shape = (channels, *(1 for _ in rest))
    return h * (1 if w is None else w.reshape(shape)) + (0 if b is None else b.reshape(shape))


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version, derived in `verify.layers._normalization.errors`."""
    x, w, b = arrays
    images, channels, *rest = x.shape
    groups, entries = options["num_groups"], math.prod(rest)
    shape = (images, groups, channels // groups, entries)
    weight, bias = ((np.full(channels, k) if a is None else a).reshape(*shape[1:3], 1) for a, k in ((w, 1.0), (b, 0.0)))
    eps = options.get("eps", 1e-5)
    each = errors(x.reshape(shape), weight, bias, dy.reshape(shape), eps, (2, 3), summed=images * entries)
    sums = (a.sum(axis=(0, 3)).reshape(channels) for a in (each.dw, each.db))
    return each.y.reshape(x.shape), each.dx.reshape(x.shape), *sums


GROUP_NORM = Layer(
    name="group_norm",
    module=group_norm,
    arguments="x: N C ...; w: C; b: C -> y: N C ...",
    structure="analytic",
    cases=group_norm_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, 8, 16, 4, naive=True),
        _bench("VGG on CIFAR", 32, 64, 32, 32),
        _bench("ResNet-50", 8, 64, 112, 32),
    ),
    source="Wu & He 2018, arXiv:1803.08494",
    torch=_torch,
    jax=_jax,
    onnx=("GroupNormalization",),
    tolerance=_tolerance,
)
