"""The declaration of prelu."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import prelu
from verify import strategies
from verify.layers._activations import bench_case
from verify.layers._layer import Array, Case, Layer, Reject


@st.composite
def prelu_cases(draw: st.DrawFn) -> Case:
    """Valid calls on small integers with zeros: one slope for any shape, or one for each of 0 to 3 channels."""
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    by_channel = len(shape) > 1 and draw(st.booleans())
    x = draw(strategies.integers(shape))
    return Case((x, draw(strategies.integers((shape[1] if by_channel else 1,)))), {})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 4)),
    w: object = np.zeros(3),
) -> Reject:
    return Reject(name, (x, w), {}, error, message)


_REJECTS = (
    _reject("channels", r"w must have one entry, or one a channel .*, got w: \(4,\), x: \(2, 3, 4\)", w=np.zeros(4)),
    _reject("no channel axis", r"w must have one entry, .*, got w: \(3,\), x: \(3,\)", x=np.zeros(3)),
    _reject("no slope", r"w must have one entry, .*, got w: \(0,\), x: \(2, 3, 4\)", w=np.zeros(0)),
    _reject("rank of w", r"w must have 1 axes \(C\), got shape \(1, 3\)", w=np.zeros((1, 3))),
    _reject("scalar w", r"w must have 1 axes \(C\), got shape \(\)", w=np.zeros(())),
    _reject("no w", "w must be a NumPy array, got NoneType", TypeError, w=None),
    _reject("mixed dtypes", "w has dtype float32, but x has float64", TypeError, w=np.zeros(3, np.float32)),
    _reject("integer x", "x must be a floating .* array, got dtype int64", TypeError, x=np.zeros((2, 3), np.int64)),
    _reject("object w", "w must be a floating .* array, got dtype object", TypeError, w=np.zeros(3, object)),
)


def _slopes(generator: np.random.Generator, x: Array) -> tuple[Array]:
    return (generator.integers(-4, 5, x.shape[1]).astype(x.dtype),)


def _jax(jax: Any, x: Any, w: Any) -> Any:
    """JAX has leaky_relu with any array of slopes. But its slope at 0 is 1, and PyTorch's is w."""
    return jax.numpy.where(x > 0, x, x * (w[0] if len(w) == 1 else w.reshape(-1, *(1,) * (x.ndim - 2))))


PRELU = Layer(
    name="prelu",
    module=prelu,
    arguments="x: ...; w: C or 1 -> y: ...",
    structure="piecewise-linear",
    cases=prelu_cases,
    rejects=_REJECTS,
    bench=(
        bench_case("small enough for loops", 16, 8, 32, more=_slopes, whole=True, naive=True),
        bench_case("tutorial", 128, 2, 24, more=_slopes, whole=True),
        bench_case("VGG on CIFAR", 32, 64, 32, more=_slopes, whole=True),
        bench_case("ResNet-50", 8, 64, 112, more=_slopes, whole=True),
    ),
    source="He et al. 2015, arXiv:1502.01852",
    torch=lambda torch, x, w: torch.nn.functional.prelu(x, w),
    jax=_jax,
    onnx=("PRelu",),
)
