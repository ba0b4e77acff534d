"""The declaration of flatten."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import flatten
from verify import strategies
from verify.layers._layer import BenchCase, Case, Layer, Reject


def flatten_cases() -> st.SearchStrategy[Case]:
    """Valid calls of one to five axes, unequal and empty ones included."""
    shapes = array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)
    return shapes.flatmap(strategies.integers).map(lambda x: Case((x,), {}))


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
    bench=(
        BenchCase("16x8x32x32", lambda generator: (generator.integers(-99, 100, (16, 8, 32, 32)).astype(np.float32),)),
    ),
    source="torch.nn.Flatten",
)
