"""The declaration of silu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import silu
from verify.layers import _activations
from verify.layers._activations import E
from verify.layers._layer import Array, Case, Layer


def silu_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, with zeros, where the stable form changes branch."""
    return _activations.cases(_activations.with_zeros())


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    - s has a relative error of (2E + 2)u: E u of the exponential, (E + 1)u of 1 plus it, and a division.
    - y = x s has one product more: (2E + 3)u |y|.
    - 1 - s has an absolute error of at most (2E + 3)u. So y (1 - s) has at most (4E + 7)u |y|, and s at most (2E + 2)u.
    - The sum and the product by dy add 2u (1 + |y|). Together that is at most (4E + 9)u (1 + |y|) |dy|.
    """
    return _activations.twice(2 * E + 3, y), _activations.twice(4 * E + 9, dy * (1 + np.abs(y)))


SILU = Layer(
    name="silu",
    module=silu,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=silu_cases,
    rejects=_activations.rejects(),
    bench=_activations.bench(),
    source="Elfwing, Uchibe & Doya 2018, arXiv:1702.03118",
    torch=lambda torch, x: torch.nn.functional.silu(x),
    jax=lambda jax, x: jax.nn.silu(x),
    onnx=("Swish",),
    tolerance=_tolerance,
)
