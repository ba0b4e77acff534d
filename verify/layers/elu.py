"""The declaration of elu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import elu
from verify.layers import _activations
from verify.layers._activations import E
from verify.layers._layer import Array, Case, Layer


def elu_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, with zeros: alpha of 1, where 0 is no kink, and others, also 0 and negative."""
    return _activations.cases(_activations.with_zeros(), alpha=st.sampled_from((1.0, -1.5, 0.3, -0.5, 2.0, 0.0)))


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    y is alpha, rounded once, times expm1: (E + 2)u of itself. dx is dy times alpha, rounded once, times exp. Its error
    is at most (E + 3)u of dy alpha, because exp is at most 1. JAX has 1 + expm1 in place of exp, so it is no smaller.
    """
    scale = np.asarray(np.where(arrays[0] > 0, dy, options["alpha"] * dy))
    return _activations.twice(E + 2, y), _activations.twice(E + 3, scale)


ELU = Layer(
    name="elu",
    module=elu,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=elu_cases,
    rejects=_activations.rejects("alpha"),
    bench=_activations.bench(),
    source="Clevert, Unterthiner & Hochreiter 2016, arXiv:1511.07289",
    torch=lambda torch, x, **options: torch.nn.functional.elu(x, **options),
    jax=lambda jax, x, **options: jax.nn.elu(x, **options),
    onnx=("Elu",),
    tolerance=_tolerance,
)
