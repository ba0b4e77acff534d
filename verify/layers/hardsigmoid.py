"""The declaration of hardsigmoid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from cnn_core import hardsigmoid
from verify.layers import _activations
from verify.layers._layer import Array, Case, Layer


def hardsigmoid_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, on all three lines, never at a kink."""
    return _activations.cases(_activations.off_halves())


def _torch(torch: Any, x: Any) -> Any:
    """PyTorch's hardsigmoid has a slope of float32's 1/6 in float64 too. Its relu6 has the slope 1."""
    return torch.nn.functional.relu6(x + 3) / 6


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version: a sum and a quotient for y, a quotient for dx."""
    (dx,) = gradients
    assert dx is not None
    return _activations.twice(2, y), _activations.twice(1, dx)


HARDSIGMOID = Layer(
    name="hardsigmoid",
    module=hardsigmoid,
    arguments="x: ... -> y: ...",
    structure="analytic",  # a sixth rounds
    cases=hardsigmoid_cases,
    rejects=_activations.rejects(),
    bench=_activations.bench(),
    source="Howard et al. 2019, arXiv:1905.02244",
    torch=_torch,
    jax=lambda jax, x: jax.nn.hard_sigmoid(x),
    onnx=("HardSigmoid", "HardSwish"),
    tolerance=_tolerance,
)
