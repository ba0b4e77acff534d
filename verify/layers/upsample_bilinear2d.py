"""The declaration of upsample_bilinear2d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import upsample_bilinear2d
from verify import strategies
from verify.layers._layer import Array, Case, Layer, Reject
from verify.layers._resizing import SCALED_REJECTS, bench, scaled_cases, scaled_scope, steps


@st.composite
def upsample_bilinear2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls on real numbers, by size or by factor, with and without align_corners."""
    arrays, options = draw(scaled_cases(strategies.reals))
    return Case(arrays, {**options, "align_corners": draw(st.booleans())})


def _torch(torch: Any, x: Any, **options: Any) -> Any:
    """PyTorch ignores a factor that leaves the size as it is by rounding down."""
    if not options["align_corners"] and any(out == size and step != 1 for size, out, step in steps(x, options)):
        return None
    return torch.nn.functional.interpolate(x, **options, mode="bilinear")


def _jax(jax: Any, x: Any, *, align_corners: bool, **options: Any) -> Any:
    """JAX reads output i at (i + 1/2 - translation) / scale - 1/2."""
    axes = steps(x, options)
    scales, shifts = [], []
    for size, out, step in axes:
        corners = float(out - 1) / (size - 1) if min(size, out) > 1 else 1.0 if out == 1 else float(out)
        scales.append(corners if align_corners else 1 / float(step))
        shifts.append(0.5 - 0.5 * corners if align_corners and size > 1 else 0.0)
    shape = (*x.shape[:2], axes[0][1], axes[1][1])
    both = (jax.numpy.array(each) for each in (scales, shifts))
    return jax.image.scale_and_translate(x, shape, (2, 3), *both, "linear", antialias=False)


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version that computes the places in the dtype of x, as PyTorch does.

    Let u = eps/2. A place is at most H, and comes of at most 6 roundings. The weights a and 1 - a are off by
    6 u (H + 1) and one more rounding. Hence the products of two weights are off by at most 7 u (H + W + 2) together.

    - y adds four products, which is 4 + 3 roundings, after the product of the weights and their sum, which JAX
      divides by: 16 in all. Its error is at most gamma_k max |x| with k = 4 * 7 (H + W + 2) + 16.
    - An entry of x lies beside the outputs less than 1 away from it. Their places are (H - 1)/(oH + 1) apart, or more.
      So there are at most T = (2 (oH + 1)/(H - 1) + 2)(2 (oW + 1)/(W - 1) + 2). dx adds 4 T products at most, so its
      error is at most gamma_{k + 4 T} 4 T max |dy|.
    """
    sizes, outs = arrays[0].shape[2:], y.shape[2:]
    beside = [2 * (out + 1) / max(1, size - 1) + 2 for size, out in zip(sizes, outs, strict=True)]
    terms = 4 * beside[0] * beside[1]
    ku = (28 * (sum(sizes) + 2) + 16 + terms) * float(np.finfo(y.dtype).eps) / 2
    gamma = ku / (1 - ku)
    return 2 * gamma * np.abs(arrays[0]).max(initial=0.0), 2 * gamma * terms * np.abs(dy).max(initial=0.0)


UPSAMPLE_BILINEAR2D = Layer(
    name="upsample_bilinear2d",
    module=upsample_bilinear2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="analytic",
    cases=upsample_bilinear2d_cases,
    rejects=(
        *SCALED_REJECTS,
        Reject(
            "align_corners in words",
            (np.zeros((1, 1, 2, 2)),),
            {"size": 3, "align_corners": "no"},
            TypeError,
            "align_corners must be True or False, got 'no'",
        ),
    ),
    bench=(
        bench("small enough for loops", 4, 8, 16, naive=True, scale_factor=2),
        bench("U-Net", 8, 64, 56, scale_factor=2),
        bench("U-Net", 8, 64, 56, size=84, align_corners=True),
    ),
    source="torch.nn.functional.interpolate",
    torch=_torch,
    jax=_jax,
    onnx=("Resize",),
    tolerance=_tolerance,
    scope=lambda bound: scaled_scope(bound, align_corners=(False, True)),
)
