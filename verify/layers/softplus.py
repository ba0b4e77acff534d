"""The declaration of softplus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import softplus
from verify.layers import _activations
from verify.layers._activations import E
from verify.layers._layer import Array, Case, Layer, Reject


def softplus_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, on both sides of the threshold, never at it: beta and thresholds of either sign.

    A larger threshold makes exp overflow in PyTorch.
    """
    betas, thresholds = st.sampled_from((1.0, 0.1, 0.5, 2.0, -1.0)), st.sampled_from((20.0, 2.5, 1.0, 0.0, -1.5))
    return _activations.cases(_activations.off_halves(), beta=betas, threshold=thresholds)


def _jax(jax: Any, x: Any, *, beta: float, threshold: float) -> Any:
    """JAX has neither option: this is what they mean."""
    return jax.numpy.where(beta * x > threshold, x, jax.nn.softplus(beta * x) / beta)


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    Let L(z) = log(1 + exp(z)), and s = L'(z) = 1 / (1 + exp(-z)). log(1 + t) >= t / (1 + t), so that L >= s.

    - z = beta x has a relative error of 2u, which changes L by 2u |z| s <= 2u |z| L.
    - The exponential changes L by E u s <= E u L. log1p changes it by E u L, and the sum by u L.
    - y = L / beta has two roundings more: a relative error of (2|z| + 2E + 3)u.
    - z changes s by a relative 2u |z| (1 - s) <= 2u |z|. The exponential, 1 plus it and the quotient add (2E + 2)u.
      JAX's exp(z - L) has E u, and (|z| + 2E + 3)u of z - L.
    - With the product by dy this is at most (2|z| + 3E + 4)u of dx.
    """
    (x,), (dx,) = arrays, gradients
    assert dx is not None
    z = np.abs(options["beta"] * x)
    return _activations.twice(2 * z + 2 * E + 3, y), _activations.twice(2 * z + 3 * E + 4, dx)


SOFTPLUS = Layer(
    name="softplus",
    module=softplus,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=softplus_cases,
    rejects=(
        *_activations.rejects("beta", "threshold"),
        Reject("beta 0", (np.zeros(3),), {"beta": 0}, ValueError, r"beta must not be 0, .*, got 0\.0"),
    ),
    bench=_activations.bench(),
    source="Dugas et al. 2001, NIPS",
    torch=lambda torch, x, **options: torch.nn.functional.softplus(x, **options),
    jax=_jax,
    onnx=("Softplus",),
    tolerance=_tolerance,
)
