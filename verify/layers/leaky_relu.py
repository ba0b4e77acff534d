"""The declaration of leaky_relu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from cnn_core import leaky_relu
from verify.layers import _activations
from verify.layers._layer import Array, Case, Layer


def leaky_relu_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, with zeros: slopes below 1, of 0, 1 and 2, and negative."""
    return _activations.cases(
        _activations.with_zeros(), negative_slope=st.sampled_from((0.01, 0.2, 0.0, 1.0, 2.0, -0.3))
    )


def _jax(jax: Any, x: Any, *, negative_slope: float) -> Any:
    """JAX's slope at 0 is 1. PyTorch's and ours is negative_slope. A compiled function cannot ask for zeros."""
    if not isinstance(x, jax.core.Tracer) and (x == 0).any():
        return None
    return jax.nn.leaky_relu(x, negative_slope)


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version: the slope is rounded once, and its product once."""
    (dx,) = gradients
    assert dx is not None
    return _activations.twice(2, y), _activations.twice(2, dx)


LEAKY_RELU = Layer(
    name="leaky_relu",
    module=leaky_relu,
    arguments="x: ... -> y: ...",
    structure="analytic",  # a slope of 0.01 rounds
    cases=leaky_relu_cases,
    rejects=_activations.rejects("negative_slope"),
    bench=_activations.bench(),
    source="Maas, Hannun & Ng 2013, ICML",
    torch=lambda torch, x, **options: torch.nn.functional.leaky_relu(x, **options),
    jax=_jax,
    onnx=("LeakyRelu",),
    tolerance=_tolerance,
)
