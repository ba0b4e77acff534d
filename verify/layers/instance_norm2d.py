"""The declaration of instance_norm2d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import instance_norm2d
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject
from verify.layers._normalization import drawn, errors, maybe


@st.composite
def instance_norm2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls with and without w and b, also of no image, and of planes of one entry."""
    images, channels, height, width = (draw(st.integers(low, high)) for low, high in ((0, 3), (1, 3), (1, 3), (1, 3)))
    eps, arrays = draw(drawn(height * width))
    x = draw(arrays((images, channels, height, width)))
    return Case((x, draw(maybe(arrays((channels,)))), draw(maybe(arrays((channels,))))), {"eps": eps})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 4, 5)),
    w: object = None,
    b: object = None,
    **options: object,
) -> Reject:
    return Reject(name, (x, w, b), options, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(2, 3\)", x=np.zeros((2, 3))),
    _reject("weight", r"w must have shape \(3,\), one entry a channel, got \(4,\)", w=np.zeros(4)),
    _reject("bias", r"b must have shape \(3,\), one entry a channel, got \(2, 3\)", b=np.zeros((2, 3))),
    _reject("negative eps", "eps must be finite and at least 0, got -1", eps=-1),
    _reject("eps as text", "eps must be a real number, got '1'", TypeError, eps="1"),
    _reject("integer x", "x must be a floating .* got dtype int64", TypeError, x=np.zeros((2, 3, 4, 5), np.int64)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 3, 4, 5), object)),
    _reject("mixed dtypes", "b has dtype float32, but x has float64", TypeError, b=np.zeros(3, np.float32)),
)


def _bench(zoo: str, images: int, channels: int, size: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, channels, size, size), (channels,), (channels,))
        return tuple(generator.normal(size=shape).astype(np.float32) for shape in shapes)

    return BenchCase(f"{channels}x{size}x{size}, N = {images}", zoo, images, draw, naive=naive)


def _torch(torch: Any, x: Any, w: Any, b: Any, *, eps: float) -> Any:
    """PyTorch refuses planes of one entry, and no image."""
    if not x.shape[0] or x.shape[2:].numel() == 1:
        return None
    return torch.nn.functional.instance_norm(x, None, None, w, b, eps=eps)


def _jax(jax: Any, x: Any, w: Any, b: Any, *, eps: float) -> Any:
    h = jax.nn.standardize(x, axis=(2, 3), epsilon=eps, algorithm="stable")
    return h * (1 if w is None else w[:, None, None]) + (0 if b is None else b[:, None, None])


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version, derived in `verify.layers._normalization.errors`."""
    x, w, b = arrays
    weight, bias = 1 if w is None else w[:, None, None], 0 if b is None else b[:, None, None]
    summed = len(x) * x.shape[2] * x.shape[3]
    each = errors(x, weight, bias, dy, options.get("eps", 1e-5), (2, 3), summed=summed)
    return each.y, each.dx, each.dw.sum(axis=(0, 2, 3)), each.db.sum(axis=(0, 2, 3))


INSTANCE_NORM2D = Layer(
    name="instance_norm2d",
    module=instance_norm2d,
    arguments="x: N C H W; w: C; b: C -> y: N C H W",
    structure="analytic",
    cases=instance_norm2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, 8, 16, naive=True),
        _bench("VGG on CIFAR", 32, 64, 32),
        _bench("style transfer", 4, 32, 256),
    ),
    source="Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022",
    torch=_torch,
    jax=_jax,
    onnx=("InstanceNormalization",),
    tolerance=_tolerance,
)
