"""The declaration of gelu."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import gelu
from verify.layers import _activations
from verify.layers._activations import E
from verify.layers._layer import Array, Case, Layer


def gelu_cases() -> st.SearchStrategy[Case]:
    """Valid calls of any shape, with zeros."""
    return _activations.cases(_activations.with_zeros())


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    Let v = 2u, let g(v) = (1 + tanh u) / 2 = 1 / (1 + exp(-v)), the gate, and let v' be the slope of v in x.

    - v has 8 roundings, all of one sign: r, k, x^2, k x^2, the sum, and 3 products. It has a relative error of 8u.
    - This changes g by 8u |v| g'(v) < 2u, because |v| g'(v) < 0.224. The tanh or exp in g, and what follows, change it
      by (2E + 2)u. So g has an error of (2E + 4)u.
    - y = x g has an error of (2E + 6)u |x|. The tanh form has no smaller one where g is small.
    - g'(v) <= 1/4. It changes by 8u |v g''(v)| < 2u, because |v g''(v)| < 0.2. Its own rounding, of 1 - tanh^2 or of
      e / (1 + e)^2, is (E + 2)u. Its products with v', of 7 roundings, and x add 10u / 4 < 3u. So x g' v' has an error
      of (E + 7)u |x| v'.
    - y' = g + x g' v' lies in [-0.13, 1.13]. The sum, and the products with dy and 1/2, add 4u. In total its error is
      at most (2E + 8)u (1 + |x| v').
    """
    (x,) = arrays
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return _activations.twice(2 * E + 6, x), _activations.twice(2 * E + 8, dy * (1 + np.abs(x) * slope))


GELU = Layer(
    name="gelu",
    module=gelu,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=gelu_cases,
    rejects=_activations.rejects(),
    bench=_activations.bench(),
    source="Hendrycks & Gimpel 2016, arXiv:1606.08415",
    torch=lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
    jax=lambda jax, x: jax.nn.gelu(x, approximate=True),
    onnx=("Gelu",),
    tolerance=_tolerance,
)
