"""The declaration of softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn_core import softmax
from verify.layers._layer import Array, Layer
from verify.layers._rows import REJECTS, bench, exponential_errors, rows_cases


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version.

    `exponential_errors` derives the error P y of y. Let c = sum_k dy_k y_k, of C terms.

    - c has an error of at most sum |dy| P y + gamma_C sum |dy| y.
    - dy - c has that and u (|dy| + 2 |c|), and the product with y has P y |dy - c| and u of itself.
    """
    axis = options.get("axis", -1)
    relative, unit = exponential_errors(arrays[0], axis)
    y, dy = y.astype(np.float64), dy.astype(np.float64)
    count = arrays[0].shape[axis] + 1
    c = (dy * y).sum(axis=axis, keepdims=True)
    of_c = (np.abs(dy * y) * (relative + count * unit)).sum(axis=axis, keepdims=True)
    of_dx = y * (of_c + 3 * unit * (np.abs(dy) + np.abs(c)) + relative * np.abs(dy - c))
    return 2 * relative * y, 2 * of_dx


SOFTMAX = Layer(
    name="softmax",
    module=softmax,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=rows_cases,
    rejects=REJECTS,
    bench=(
        bench("small enough for loops", 64, (10,), -1, naive=True),
        bench("ResNet-50", 32, (1000,), -1),
        bench("ViT-B/16 attention", 8, (12, 197, 197), -1),
        bench("segmentation", 4, (21, 128, 128), 1),
    ),
    source="Bridle 1990; torch.nn.functional.softmax",
    torch=lambda torch, x, *, axis: torch.nn.functional.softmax(x, dim=axis),
    jax=lambda jax, x, *, axis: jax.nn.softmax(x, axis=axis),
    onnx=("Softmax",),
    tolerance=_tolerance,
)
