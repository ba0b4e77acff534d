"""The declaration of batch_norm2d."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import batch_norm2d
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject
from verify.layers._normalization import drawn, eighths, errors, maybe


@st.composite
def batch_norm2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls in training and evaluation, with and without w and b, also of no image and of one entry a channel.

    The running statistics are multiples of 1/8, which are exact in every dtype, and a variance may be 0.
    """
    images, channels, height, width = (draw(st.integers(low, high)) for low, high in ((0, 3), (1, 3), (1, 3), (1, 3)))
    eps, arrays = draw(drawn(images * height * width))
    x = draw(arrays((images, channels, height, width)))
    w, b = draw(maybe(arrays((channels,)))), draw(maybe(arrays((channels,))))
    options: dict[str, Any] = {"eps": eps}
    if draw(st.booleans()):
        options["running_mean"] = draw(eighths((channels,)))
        options["running_variance"] = np.abs(draw(eighths((channels,))))
    return Case((x, w, b), options)


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


_MEAN, _VARIANCE = np.zeros(3), np.ones(3)
_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(2, 3\)", x=np.zeros((2, 3))),
    _reject("weight", r"w must have shape \(3,\), one entry a channel, got \(4,\)", w=np.zeros(4)),
    _reject("bias", r"b must have shape \(3,\), one entry a channel, got \(3, 1\)", b=np.zeros((3, 1))),
    _reject("negative eps", "eps must be finite and at least 0, got -0.1", eps=-0.1),
    _reject("infinite eps", "eps must be finite and at least 0, got inf", eps=math.inf),
    _reject("eps as text", "eps must be a real number, got '1'", TypeError, eps="1"),
    _reject("eps as a boolean", "eps must be a real number, got True", TypeError, eps=True),
    _reject("mean alone", "running_variance is missing: evaluation needs both", running_mean=_MEAN),
    _reject("variance alone", "running_mean is missing: evaluation needs both", running_variance=_VARIANCE),
    _reject(
        "shape of the mean",
        r"running_mean must have shape \(3,\), got \(1, 3\)",
        running_mean=_MEAN[None],
        running_variance=_VARIANCE,
    ),
    _reject(
        "negative variance",
        r"running_variance must be at least 0, got -1.0 at channel 0",
        running_mean=_MEAN,
        running_variance=-_VARIANCE,
    ),
    _reject(
        "integer variance",
        "running_variance must be a real floating array, got dtype int64",
        TypeError,
        running_mean=_MEAN,
        running_variance=np.ones(3, np.int64),
    ),
    _reject(
        "list of means",
        "running_mean must be a real floating array, got list",
        TypeError,
        running_mean=[0.0, 0.0, 0.0],
        running_variance=_VARIANCE,
    ),
    _reject("integer x", "x must be a floating .* got dtype int64", TypeError, x=np.zeros((2, 3, 4, 5), np.int64)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 3, 4, 5), object)),
    _reject("mixed dtypes", "b has dtype float32, but x has float64", TypeError, b=np.zeros(3, np.float32)),
    _reject("momentum", "batch_norm2d takes x, w, b by position .* it has no momentum=0.1", TypeError, momentum=0.1),
)


def _bench(zoo: str, images: int, channels: int, size: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, channels, size, size), (channels,), (channels,))
        return tuple(generator.normal(size=shape).astype(np.float32) for shape in shapes)

    return BenchCase(f"{channels}x{size}x{size}, N = {images}", zoo, images, draw, naive=naive)


def _torch(torch: Any, x: Any, w: Any, b: Any, *, eps: float, **running: Any) -> Any:
    """PyTorch refuses one entry a channel in training."""
    mean, variance = (None if a is None else torch.tensor(a, dtype=x.dtype) for a in _statistics(running))
    if mean is None and x.numel() == x.shape[1]:
        return None
    return torch.nn.functional.batch_norm(x, mean, variance, w, b, training=mean is None, eps=eps)


def _jax(jax: Any, x: Any, w: Any, b: Any, *, eps: float, **running: Any) -> Any:
    mean, variance = _statistics(running)
    if not x.shape[0]:
        return None  # JAX's mean over no image is NaN, and so are its gradients
    if mean is None:
        mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    mean, variance = mean[:, None, None], variance[:, None, None]
    return jax.nn.standardize(x, axis=(), mean=mean, variance=variance, epsilon=eps) * (
        1 if w is None else w[:, None, None]
    ) + (0 if b is None else b[:, None, None])


def _statistics(options: Mapping[str, Any]) -> tuple[Any, Any]:
    return options.get("running_mean"), options.get("running_variance")


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version, derived in `verify.layers._normalization.errors`."""
    x, w, b = arrays
    given = _statistics(options)
    each = errors(
        x,
        1 if w is None else w[:, None, None],
        0 if b is None else b[:, None, None],
        dy,
        options.get("eps", 1e-5),
        (0, 2, 3),
        fixed=None if given[0] is None else (given[0][:, None, None], given[1][:, None, None]),
        summed=x.size // max(1, x.shape[1]),
    )
    return each.y, each.dx, each.dw.sum(axis=(0, 2, 3)), each.db.sum(axis=(0, 2, 3))


BATCH_NORM2D = Layer(
    name="batch_norm2d",
    module=batch_norm2d,
    arguments="x: N C H W; w: C; b: C -> y: N C H W",
    structure="analytic",
    cases=batch_norm2d_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, 8, 16, naive=True),
        _bench("VGG on CIFAR", 32, 64, 32),
        _bench("ResNet-50", 8, 64, 112),
        _bench("ResNet-50", 8, 512, 14),
    ),
    source="Ioffe & Szegedy 2015, arXiv:1502.03167",
    torch=_torch,
    jax=_jax,
    onnx=("BatchNormalization", "MeanVarianceNormalization"),
    tolerance=_tolerance,
)
