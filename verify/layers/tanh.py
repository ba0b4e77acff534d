"""The declaration of tanh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from cnn_core import tanh
from verify.layers import _activations
from verify.layers._activations import E
from verify.layers._layer import Array, Case, Layer


def tanh_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, with zeros of both signs."""
    return _activations.cases(_activations.with_zeros())


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    - m = expm1(-2|x|) lies in [-1, 0] and has a relative error of E u. So 2 + m is at least 1, and has (E + 1)u. Their
      quotient y has (2E + 2)u. A library's tanh has E u.
    - 1 - y^2, as in PyTorch, has an absolute error of 2 (2E + 2)u + 2u. 4 e / (1 + e)^2 has a relative error of
      (3E + 4)u, and is at most 1. With the product by dy this is at most (4E + 7)u |dy|.
    """
    return _activations.twice(2 * E + 2, y), _activations.twice(4 * E + 7, dy)


TANH = Layer(
    name="tanh",
    module=tanh,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=tanh_cases,
    rejects=_activations.rejects(),
    bench=_activations.bench(),
    source="LeCun, Bottou, Orr & Müller 1998, section 4.4",
    torch=lambda torch, x: torch.nn.functional.tanh(x),
    jax=lambda jax, x: jax.nn.tanh(x),
    onnx=("Tanh",),
    tolerance=_tolerance,
)
