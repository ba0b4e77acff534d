"""The declaration of layer_norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import layer_norm
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject
from verify.layers._normalization import drawn, errors, maybe


@st.composite
def layer_norm_cases(draw: st.DrawFn) -> Case:
    """Valid calls over one to three last axes, with no, one or several leading ones, with and without w and b."""
    lead = draw(array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    last = draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    eps, arrays = draw(drawn(math.prod(last)))
    x, w, b = draw(arrays((*lead, *last))), draw(maybe(arrays(last))), draw(maybe(arrays(last)))
    shape = last[0] if len(last) == 1 and draw(st.booleans()) else last
    return Case((x, w, b), {"normalized_shape": shape, "eps": eps})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 4)),
    w: object = None,
    b: object = None,
    normalized_shape: object = (3, 4),
    **options: object,
) -> Reject:
    return Reject(name, (x, w, b), {"normalized_shape": normalized_shape, **options}, error, message)


_REJECTS = (
    _reject(
        "sizes",
        r"the last axes of x must be normalized_shape=\(4, 3\), got shape \(2, 3, 4\)",
        normalized_shape=(4, 3),
    ),
    _reject("size", r"the last axes of x must be normalized_shape=3, got shape \(2, 3, 4\)", normalized_shape=3),
    _reject("too many axes", r"the last axes of x .*, got shape \(4,\)", x=np.zeros(4)),
    _reject("no axis", r"normalized_shape must be .*, at least one, got \(\)", TypeError, normalized_shape=()),
    _reject("a boolean", "normalized_shape must be an integer .* got True", TypeError, normalized_shape=True),
    _reject("weight", r"w must have shape \(3, 4\), one entry a normalized entry, got \(4,\)", w=np.zeros(4)),
    _reject("bias", r"b must have shape \(3, 4\), one entry a normalized entry, got \(12,\)", b=np.zeros(12)),
    _reject("negative eps", "eps must be finite and at least 0, got -1", eps=-1),
    _reject("eps as text", "eps must be a real number, got '1'", TypeError, eps="1"),
    _reject("integer x", "x must be a floating .* got dtype int64", TypeError, x=np.zeros((2, 3, 4), np.int64)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 3, 4), object)),
    _reject("mixed dtypes", "w has dtype float32, but x has float64", TypeError, w=np.zeros((3, 4), np.float32)),
)


def _bench(zoo: str, images: int, shape: tuple[int, ...], last: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, *shape), shape[-last:], shape[-last:])
        return tuple(generator.normal(size=each).astype(np.float32) for each in shapes)

    name = f"{'x'.join(map(str, shape))} over the last {last}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"normalized_shape": shape[-last:]}, naive)


def _jax(jax: Any, x: Any, w: Any, b: Any, *, normalized_shape: Any, eps: float) -> Any:
    axes = _axes(normalized_shape)
    h = jax.nn.standardize(x, axis=axes, epsilon=eps, algorithm="stable")
    return h * (1 if w is None else w) + (0 if b is None else b)


def _axes(normalized_shape: Any) -> tuple[int, ...]:
    return (-1,) if isinstance(normalized_shape, int) else tuple(range(-len(normalized_shape), 0))


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version, derived in `verify.layers._normalization.errors`."""
    x, w, b = arrays
    axes = _axes(options["normalized_shape"])
    lead = tuple(range(x.ndim - len(axes)))
    rows = math.prod(x.shape[: len(lead)])
    weight, bias = 1 if w is None else w, 0 if b is None else b
    each = errors(x, weight, bias, dy, options.get("eps", 1e-5), axes, summed=rows)
    return each.y, each.dx, each.dw.sum(axis=lead), each.db.sum(axis=lead)


def _torch(torch: Any, x: Any, w: Any, b: Any, *, normalized_shape: Any, eps: float) -> Any:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
    return torch.nn.functional.layer_norm(x, shape, w, b, eps)


LAYER_NORM = Layer(
    name="layer_norm",
    module=layer_norm,
    arguments="x: ... K; w: K; b: K -> y: ... K",
    structure="analytic",
    cases=layer_norm_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, (8, 16, 16), 3, naive=True),
        _bench("ConvNeXt", 8, (56, 56, 96), 1),
        _bench("ViT-B/16", 8, (197, 768), 1),
    ),
    source="Ba, Kiros & Hinton 2016, arXiv:1607.06450",
    torch=_torch,
    jax=_jax,
    onnx=("LayerNormalization",),
    tolerance=_tolerance,
)
