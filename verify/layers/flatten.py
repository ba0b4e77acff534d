"""The declaration of flatten."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import flatten
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


def flatten_cases() -> st.SearchStrategy[Case]:
    """Valid calls with one to five axes, some of unequal sizes and some empty."""
    shapes = array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)
    return shapes.flatmap(strategies.integers).map(lambda x: Case((x,), {}))


def _bench(zoo: str, images: int, channels: int, size: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, size, size)).astype(np.float32),)

    return BenchCase(f"{channels}x{size}x{size}, N = {images}", zoo, images, draw, naive=naive)


FLATTEN = Layer(
    name="flatten",
    module=flatten,
    arguments="x: N ... -> y: N K",
    structure="multilinear",
    cases=flatten_cases,
    rejects=(
        Reject("scalar", (np.zeros(()),), {}, ValueError, r"x must have a batch axis \(N ...\), got shape \(\)"),
        Reject("integer x", (np.zeros((2, 3), np.int8),), {}, TypeError, "x must be a floating .* got dtype int8"),
        Reject("object x", (np.zeros((2, 3), object),), {}, TypeError, "x must be a floating .* got dtype object"),
    ),
    bench=(_bench("small enough for loops", 16, 8, 32, naive=True), _bench("tutorial", 128, 2, 12)),
    source="torch.nn.Flatten",
    # PyTorch wants an axis to flatten. A single one is a batch of single features.
    torch=lambda torch, x: torch.flatten(x if x.ndim > 1 else x[:, None], 1),
    jax=lambda jax, x: x.reshape(x.shape[0], math.prod(x.shape[1:])),
    onnx=("Flatten",),
)
