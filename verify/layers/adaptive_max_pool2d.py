"""The declaration of adaptive_max_pool2d."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from cnn_core import adaptive_max_pool2d
from verify import strategies
from verify.layers._layer import Case, Layer
from verify.layers._resizing import ADAPTIVE_REJECTS, adaptive_cases, adaptive_scope, bench


def adaptive_max_pool2d_cases() -> st.SearchStrategy[Case]:
    """Valid calls on small integers, which tie: bins that divide the image, overlap, or repeat entries, and None."""
    return adaptive_cases(strategies.integers)


def _torch(torch: Any, x: Any, *, output_size: Any) -> Any:
    return torch.nn.functional.adaptive_max_pool2d(x, output_size)


def _jax(jax: Any, x: Any, *, output_size: Any) -> Any:
    """JAX has pools of one window. They are these if the output size divides the size of x."""
    given = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    outs = [size if out is None else out for size, out in zip(x.shape[2:], given, strict=True)]
    if x.shape[2] % outs[0] or x.shape[3] % outs[1]:
        return None
    window = (1, 1, x.shape[2] // outs[0], x.shape[3] // outs[1])
    return jax.lax.reduce_window(x, -math.inf, jax.lax.max, window, window, "VALID")


ADAPTIVE_MAX_POOL2D = Layer(
    name="adaptive_max_pool2d",
    module=adaptive_max_pool2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="piecewise-linear",
    cases=adaptive_max_pool2d_cases,
    rejects=ADAPTIVE_REJECTS,
    bench=(
        bench("small enough for loops", 16, 8, 32, naive=True, output_size=5),
        bench("VGG on CIFAR", 32, 64, 32, output_size=7),
        bench("ResNet-50", 8, 2048, 7, output_size=1),
    ),
    source="torch.nn.functional.adaptive_max_pool2d; He et al. 2014, arXiv:1406.4729",
    torch=_torch,
    jax=_jax,
    onnx=("GlobalMaxPool",),
    scope=adaptive_scope,
)
