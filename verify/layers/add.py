"""The declaration of add."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import add
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


@st.composite
def add_cases(draw: st.DrawFn) -> Case:
    """Valid calls: equal shapes, axes that either array repeats or lacks, scalars and empty arrays."""
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    first, second = (_repeated(draw, shape) for _ in range(2))
    return Case((draw(strategies.integers(first)), draw(strategies.integers(second))), {})


def _repeated(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Draw a shape that broadcasts to this one, half of the time the same."""
    if draw(st.booleans()):
        return shape
    kept = shape[draw(st.integers(0, len(shape))) :]
    return tuple(size if draw(st.booleans()) else 1 for size in kept)


def _bench(
    zoo: str, images: int, channels: int, size: int, *, repeated: bool = False, naive: bool = False
) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shape = (images, channels, size, size)
        shapes = (shape, (channels, 1, 1) if repeated else shape)
        return tuple(generator.integers(-99, 100, each).astype(np.float32) for each in shapes)

    name = f"{channels}x{size}x{size}" + f" + {channels}x1x1" * repeated
    return BenchCase(f"{name}, N = {images}", zoo, images, draw, naive=naive)


ADD = Layer(
    name="add",
    module=add,
    arguments="x: ...; z: ... -> y: ...",
    structure="multilinear",
    cases=add_cases,
    rejects=(
        Reject(
            "shapes",
            (np.zeros((2, 3)), np.zeros((2, 4))),
            {},
            ValueError,
            r"x and z must broadcast, got shapes \(2, 3\) and \(2, 4\)",
        ),
        Reject(
            "integer z",
            (np.zeros(3), np.zeros(3, np.int64)),
            {},
            TypeError,
            "z must be a floating .* array, got dtype int64",
        ),
        Reject("object x", (np.zeros(3, object), np.zeros(3)), {}, TypeError, "x must be a floating .* dtype object"),
        Reject("number", (np.zeros(3), 1.0), {}, TypeError, "z must be a NumPy array, got float"),
        Reject("none", (np.zeros(3), None), {}, TypeError, "z must be a NumPy array, got NoneType"),
        Reject("one array", (np.zeros(3),), {}, TypeError, "add takes x, z by position; z is missing"),
        Reject(
            "mixed dtypes",
            (np.zeros(3), np.zeros(3, np.float32)),
            {},
            TypeError,
            "z has dtype float32, but x has float64",
        ),
    ),
    bench=(
        _bench("small enough for loops", 16, 8, 32, naive=True),
        _bench("ResNet-50", 8, 256, 56),
        _bench("ResNet-50", 8, 256, 56, repeated=True),
    ),
    source="He et al. 2016, arXiv:1512.03385",
    torch=lambda torch, x, z: x + z,
    jax=lambda jax, x, z: x + z,
    onnx=("Add", "Sum"),
)
