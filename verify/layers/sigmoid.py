"""The declaration of sigmoid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from cnn_core import sigmoid
from verify.layers import _activations
from verify.layers._activations import E
from verify.layers._layer import Array, Case, Layer


def sigmoid_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, with zeros, where the stable form changes branch."""
    return _activations.cases(_activations.with_zeros())


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version. Let e be the exponential.

    - Relative errors: e has E u, 1 + e has (E + 1)u, and y, a quotient of both, has (2E + 2)u.
    - y(-x) has this relative error too, and 1 - y in PyTorch an absolute error of (2E + 3)u. As 1 - y <= 1, both
      make an absolute error of at most (4E + 5)u y in y (1 - y), and two products make it (4E + 7)u y.
    - e / (1 + e)^2 has a relative error of (3E + 4)u, and is at most y.
    """
    return _activations.twice(2 * E + 2, y), _activations.twice(4 * E + 7, dy * y)


SIGMOID = Layer(
    name="sigmoid",
    module=sigmoid,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=sigmoid_cases,
    rejects=_activations.rejects(),
    bench=_activations.bench(),
    source="Goodfellow, Bengio & Courville 2016, section 3.10",
    torch=lambda torch, x: torch.nn.functional.sigmoid(x),
    jax=lambda jax, x: jax.nn.sigmoid(x),
    onnx=("Sigmoid",),
    tolerance=_tolerance,
)
