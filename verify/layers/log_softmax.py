"""The declaration of log_softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn_core import log_softmax
from verify.layers._layer import Array, Layer
from verify.layers._rows import ELEMENTARY, REJECTS, bench, exponential_errors, rows_cases


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version, in the terms of `exponential_errors`.

    - S >= 1 has a relative error of (E + 2C)u. log S has that as an absolute error, and E u log S.
    - y = -d - log S, both of one sign. So y has an error of at most (E + 2C)u + (E + 2)u |y|.
    - The sum of C entries of dy has an error of at most gamma_C sum |dy|, and a probability p one of P p. The product
      has u of itself, and the difference u |dx|. |dx| is at most |dy| + p sum |dy|.
    """
    axis = options.get("axis", -1)
    relative, unit = exponential_errors(arrays[0], axis)
    classes = arrays[0].shape[axis]
    y, dy = y.astype(np.float64), np.abs(dy.astype(np.float64))
    p = np.exp(y)
    product = p * dy.sum(axis=axis, keepdims=True)
    of_dx = product * (relative + (classes + 3) * unit) + 2 * unit * (dy + product)
    return 2 * unit * ((ELEMENTARY + 2 * classes) + (ELEMENTARY + 3) * np.abs(y)), 2 * of_dx


LOG_SOFTMAX = Layer(
    name="log_softmax",
    module=log_softmax,
    arguments="x: ... -> y: ...",
    structure="analytic",
    cases=rows_cases,
    rejects=REJECTS,
    bench=(
        bench("small enough for loops", 64, (10,), -1, naive=True),
        bench("ResNet-50", 32, (1000,), -1),
        bench("segmentation", 4, (21, 128, 128), 1),
    ),
    source="torch.nn.functional.log_softmax; Goodfellow, Bengio & Courville 2016",
    torch=lambda torch, x, *, axis: torch.nn.functional.log_softmax(x, dim=axis),
    jax=lambda jax, x, *, axis: jax.nn.log_softmax(x, axis=axis),
    onnx=("LogSoftmax",),
    tolerance=_tolerance,
)
