"""The declaration of relu."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import relu
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


def relu_cases() -> st.SearchStrategy[Case]:
    """Valid calls on small integers with zeros, of any shape, also empty arrays and scalars."""
    shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    return shapes.flatmap(strategies.integers).map(lambda x: Case((x,), {}))


def _bench(zoo: str, images: int, channels: int, size: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, size, size)).astype(np.float32),)

    return BenchCase(f"{channels}x{size}x{size}, N = {images}", zoo, images, draw, naive=naive)


RELU = Layer(
    name="relu",
    module=relu,
    arguments="x: ... -> y: ...",
    structure="piecewise-linear",
    cases=relu_cases,
    rejects=(
        Reject("integer x", (np.zeros(3, np.int64),), {}, TypeError, "x must be a floating .* array, got dtype int64"),
        Reject("object x", (np.zeros(3, object),), {}, TypeError, "x must be a floating .* array, got dtype object"),
        Reject("number", (1.0,), {}, TypeError, "x must be a NumPy array, got float"),
    ),
    bench=(
        _bench("small enough for loops", 16, 8, 32, naive=True),
        _bench("tutorial", 128, 2, 24),
        _bench("VGG on CIFAR", 32, 64, 32),
        _bench("ResNet-50", 8, 64, 112),
    ),
    source="Nair & Hinton 2010, ICML",
    torch=lambda torch, x: torch.nn.functional.relu(x),
    jax=lambda jax, x: jax.nn.relu(x),
    onnx=("Relu",),
)
