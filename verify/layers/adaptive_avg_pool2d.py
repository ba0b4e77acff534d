"""The declaration of adaptive_avg_pool2d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import adaptive_avg_pool2d
from verify import strategies
from verify.layers._layer import Array, Case, Layer
from verify.layers._resizing import ADAPTIVE_REJECTS, adaptive_cases, adaptive_scope, bench


def adaptive_avg_pool2d_cases() -> st.SearchStrategy[Case]:
    """Valid calls on real numbers: bins that divide the image, overlap, repeat entries, and None for its size."""
    return adaptive_cases(strategies.reals)


def _jax(jax: Any, x: Any, *, output_size: Any) -> Any:
    """JAX has pools of one window. They are these if the output size divides the size of x."""
    given = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    outs = [size if out is None else out for size, out in zip(x.shape[2:], given, strict=True)]
    if x.shape[2] % outs[0] or x.shape[3] % outs[1]:
        return None
    window = (1, 1, x.shape[2] // outs[0], x.shape[3] // outs[1])
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / (window[2] * window[3])


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    A bin has at most K = (H/oH + 2)(W/oW + 2) entries, and an entry lies in at most B = (oH/H + 2)(oW/W + 2) bins.

    - y is a sum of K terms over one or two divisors, an average of x. Its error is at most gamma_{K+2} max |x|.
    - dx is a sum of B quotients by at least 1. Its error is at most gamma_{B+2} B max |dy|.
    """
    (height, width), outs = arrays[0].shape[2:], [max(1, out) for out in y.shape[2:]]
    entries = (height / outs[0] + 2) * (width / outs[1] + 2)
    in_bins = (outs[0] / height + 2) * (outs[1] / width + 2)
    ku = (entries + in_bins + 2) * float(np.finfo(y.dtype).eps) / 2
    gamma = ku / (1 - ku)
    return 2 * gamma * np.abs(arrays[0]).max(initial=0.0), 2 * gamma * in_bins * np.abs(dy).max(initial=0.0)


ADAPTIVE_AVG_POOL2D = Layer(
    name="adaptive_avg_pool2d",
    module=adaptive_avg_pool2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="analytic",
    cases=adaptive_avg_pool2d_cases,
    rejects=ADAPTIVE_REJECTS,
    bench=(
        bench("small enough for loops", 16, 8, 32, naive=True, output_size=5),
        bench("VGG on CIFAR", 32, 64, 32, output_size=7),
        bench("ResNet-50", 8, 2048, 7, output_size=1),
    ),
    source="torch.nn.functional.adaptive_avg_pool2d; Lin et al. 2014, arXiv:1312.4400",
    torch=lambda torch, x, output_size: torch.nn.functional.adaptive_avg_pool2d(x, output_size),
    jax=_jax,
    onnx=("GlobalAveragePool",),
    tolerance=_tolerance,
    scope=adaptive_scope,
)
