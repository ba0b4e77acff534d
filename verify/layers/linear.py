"""The declaration of linear."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import linear
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


@st.composite
def linear_cases(draw: st.DrawFn) -> Case:
    """Valid calls: none, one or several leading axes, some of them empty, with and without bias."""
    lead = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    x = draw(strategies.integers((*lead, inputs)))
    w = draw(strategies.integers((outputs, inputs)))
    return Case((x, w, draw(st.none() | strategies.integers((outputs,)))), {})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 4)),
    w: object = np.zeros((3, 4)),
    b: object = None,
) -> Reject:
    return Reject(name, (x, w, b), {}, error, message)


_REJECTS = (
    _reject("scalar x", r"x must have at least one axis \(... I\), got shape \(\)", x=np.zeros(())),
    _reject("rank of w", r"w must have 2 axes \(O I\), got shape \(3,\)", w=np.zeros(3)),
    _reject(
        "features",
        r"the last axis of x has 5 entries, w expects 4 \(x: \(2, 4, 5\), w: \(3, 4\)\)",
        x=np.zeros((2, 4, 5)),
    ),
    _reject("bias", r"b must have shape \(3,\), one entry a row of w, got \(4,\)", b=np.zeros(4)),
    _reject("integer b", "b must be a floating or complex array, got dtype int64", TypeError, b=np.zeros(3, np.int64)),
    _reject(
        "object x", "x must be a floating or complex array, got dtype object", TypeError, x=np.zeros((2, 4), object)
    ),
    _reject("no w", "w must be a NumPy array, got NoneType", TypeError, w=None),
    _reject("mixed dtypes", "b has dtype float32, but x has float64", TypeError, b=np.zeros(3, np.float32)),
)


def _bench(zoo: str, images: int, features: int, outputs: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = ((images, features), (outputs, features), (outputs,))
        return tuple(generator.integers(-4, 5, shape).astype(np.float32) for shape in shapes)

    return BenchCase(f"{features}->{outputs}, N = {images}", zoo, images, draw, naive=naive)


LINEAR = Layer(
    name="linear",
    module=linear,
    arguments="x: ... I; w: O I; b: O -> y: ... O",
    structure="multilinear",
    cases=linear_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 32, 288, 60, naive=True),
        _bench("tutorial", 128, 288, 60),
        _bench("LeNet", 128, 400, 120),
        _bench("ResNet-50", 32, 2048, 1000),
    ),
    source="torch.nn.functional.linear",
    torch=lambda torch, x, w, b: torch.nn.functional.linear(x, w, b),
    jax=lambda jax, x, w, b: x @ w.T if b is None else x @ w.T + b,
    onnx=("Gemm", "MatMul"),
    products=lambda arrays, options, y: y.size * arrays[1].shape[1],
)
