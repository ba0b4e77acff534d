"""The declaration of upsample_nearest2d."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cnn_core import upsample_nearest2d
from verify import strategies
from verify.layers._layer import Case, Layer
from verify.layers._resizing import SCALED_REJECTS, bench, scaled_cases, scaled_scope, steps


def upsample_nearest2d_cases() -> st.SearchStrategy[Case]:
    """Valid calls on small integers, by size or by factor: larger, smaller, by whole numbers or not."""
    return scaled_cases(strategies.integers)


def _torch(torch: Any, x: Any, **options: Any) -> Any:
    """PyTorch ignores a factor that leaves the size as it is, or doubles it, by rounding down."""
    for size, out, step in steps(x, options):
        if out in (size, 2 * size) and step != size / out:
            return None
    return torch.nn.functional.interpolate(x, **options, mode="nearest")


def _jax(jax: Any, x: Any, **options: Any) -> Any:
    """JAX takes the entry nearest to the middle of an output. It is this one for whole factors."""
    axes = steps(x, options)
    if any(out % size or step != size / out for size, out, step in axes):
        return None
    return jax.image.resize(x, (*x.shape[:2], axes[0][1], axes[1][1]), "nearest")


UPSAMPLE_NEAREST2D = Layer(
    name="upsample_nearest2d",
    module=upsample_nearest2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="multilinear",
    cases=upsample_nearest2d_cases,
    rejects=SCALED_REJECTS,
    bench=(
        bench("small enough for loops", 4, 8, 16, naive=True, scale_factor=2),
        bench("U-Net", 8, 64, 56, scale_factor=2),
        bench("U-Net", 8, 64, 56, size=84),
    ),
    source="torch.nn.functional.interpolate",
    torch=_torch,
    jax=_jax,
    onnx=("Resize", "Upsample"),
    scope=scaled_scope,
)
