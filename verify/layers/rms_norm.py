"""The declaration of rms_norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import rms_norm
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject
from verify.layers._normalization import drawn, errors, maybe


@st.composite
def rms_norm_cases(draw: st.DrawFn) -> Case:
    """Valid calls over one to three last axes, with no, one or several leading ones, with and without w.

    The default eps depends on the dtype. A float32 call is checked through float64, so there |x| is at least 4:
    the one eps and the other are then both below the rounding.
    """
    lead = draw(array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    last = draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    eps, arrays = draw(drawn(math.prod(last), (None, 1e-5)))
    x, w = draw(arrays((*lead, *last))), draw(maybe(arrays(last)))
    shape = last[0] if len(last) == 1 and draw(st.booleans()) else last
    return Case((x + np.copysign(4, x) if eps is None else x, w), {"normalized_shape": shape, "eps": eps})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 4)),
    w: object = None,
    normalized_shape: object = (3, 4),
    **options: object,
) -> Reject:
    return Reject(name, (x, w), {"normalized_shape": normalized_shape, **options}, error, message)


_REJECTS = (
    _reject(
        "sizes",
        r"the last axes of x must be normalized_shape=\(4, 3\), got shape \(2, 3, 4\)",
        normalized_shape=(4, 3),
    ),
    _reject("too many axes", r"the last axes of x .*, got shape \(4,\)", x=np.zeros(4)),
    _reject("no axis", r"normalized_shape must be .*, at least one, got \(\)", TypeError, normalized_shape=()),
    _reject("a boolean", "normalized_shape must be an integer .* got True", TypeError, normalized_shape=True),
    _reject("weight", r"w must have shape \(3, 4\), one entry a normalized entry, got \(4,\)", w=np.zeros(4)),
    _reject("negative eps", "eps must be finite and at least 0, got -1", eps=-1),
    _reject("eps as text", "eps must be a real number, got '1'", TypeError, eps="1"),
    _reject("integer x", "x must be a floating .* got dtype int64", TypeError, x=np.zeros((2, 3, 4), np.int64)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 3, 4), object)),
    _reject("mixed dtypes", "w has dtype float32, but x has float64", TypeError, w=np.zeros((3, 4), np.float32)),
)


def _bench(zoo: str, images: int, shape: tuple[int, ...], naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return tuple(generator.normal(size=each).astype(np.float32) for each in ((images, *shape), shape[-1:]))

    name = f"{'x'.join(map(str, shape))} over the last, N = {images}"
    return BenchCase(name, zoo, images, draw, {"normalized_shape": shape[-1]}, naive)


def _axes(normalized_shape: Any) -> tuple[int, ...]:
    return (-1,) if isinstance(normalized_shape, int) else tuple(range(-len(normalized_shape), 0))


def _eps(x: Any, eps: float | None) -> float:
    return float(np.finfo(x.dtype).eps) if eps is None else eps


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version: `verify.layers._normalization.errors` with a mean of 0."""
    x, w = arrays
    axes = _axes(options["normalized_shape"])
    lead = tuple(range(x.ndim - len(axes)))
    rows = math.prod(x.shape[: len(lead)])
    eps = _eps(x, options.get("eps"))
    each = errors(x, 1 if w is None else w, 0, dy, eps, axes, centred=False, summed=rows)
    return each.y, each.dx, each.dw.sum(axis=lead)


def _torch(torch: Any, x: Any, w: Any, *, normalized_shape: Any, eps: float | None) -> Any:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
    return torch.nn.functional.rms_norm(x, shape, w, eps)


def _jax(jax: Any, x: Any, w: Any, *, normalized_shape: Any, eps: float | None) -> Any:
    h = jax.nn.standardize(x, axis=_axes(normalized_shape), mean=0, epsilon=_eps(x, eps), algorithm="stable")
    return h if w is None else h * w


RMS_NORM = Layer(
    name="rms_norm",
    module=rms_norm,
    arguments="x: ... K; w: K -> y: ... K",
    structure="analytic",
    cases=rms_norm_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, (128, 16), naive=True),
        _bench("ConvNeXt", 8, (56, 56, 96)),
        _bench("ViT-B/16", 8, (197, 768)),
    ),
    source="Zhang & Sennrich 2019, arXiv:1910.07467",
    torch=_torch,
    jax=_jax,
    onnx=("RMSNormalization",),
    tolerance=_tolerance,
)
