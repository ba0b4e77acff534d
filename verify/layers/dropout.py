"""The declaration of dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnn_core import dropout
from verify import strategies
from verify.layers._activations import bench_case
from verify.layers._layer import Array, Case, Layer, Reject


@st.composite
def dropout_cases(draw: st.DrawFn) -> Case:
    """Valid calls on integers of any shape: any mask, and p from 0 to 1.

    1 - p is a power of two, or 0, so that the arithmetic is exact. Other p are tested by values.
    """
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    x = draw(strategies.integers(shape))
    mask = draw(npst.arrays(np.bool_, shape, fill=st.nothing()))
    return Case((x, mask), {"p": draw(st.sampled_from((0.5, 0.0, 0.75, 0.875, 1.0)))})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3)),
    mask: object = np.ones((2, 3), np.bool_),
    **options: object,
) -> Reject:
    return Reject(name, (x, mask), options, error, message)


_REJECTS = (
    _reject("shape", r"mask must have the shape of x, \(2, 3\), got \(3,\)", mask=np.ones(3, np.bool_)),
    _reject("floating mask", "mask must be a boolean array, got dtype float64", TypeError, mask=np.ones((2, 3))),
    _reject("integer mask", "mask must be a boolean array, got dtype int64", TypeError, mask=np.ones((2, 3), np.int64)),
    _reject("no mask", "mask must be a NumPy array, got NoneType", TypeError, mask=None),
    _reject("list as mask", "mask must be a NumPy array, got list", TypeError, mask=[[True]]),
    _reject("p above 1", r"p must lie in \[0, 1\], got 1\.5", p=1.5),
    _reject("p below 0", r"p must lie in \[0, 1\], got -1", p=-1),
    _reject("p NaN", "p must be finite, got nan", p=np.nan),
    _reject("p text", "p must be a number, got '0.5'", TypeError, p="0.5"),
    _reject("p boolean", "p must be a number, got True", TypeError, p=True),
    _reject("integer x", "x must be a floating .* array, got dtype int64", TypeError, x=np.zeros((2, 3), np.int64)),
    _reject("object x", "x must be a floating .* array, got dtype object", TypeError, x=np.zeros((2, 3), object)),
)


def _half(generator: np.random.Generator, x: Array) -> tuple[Array]:
    return (generator.random(x.shape) >= 0.5,)


def _torch(torch: Any, x: Any, mask: Any, *, p: float) -> Any:
    """PyTorch draws its own mask. This is its backward's operator, which takes a mask and a scale."""
    return torch.ops.aten.native_dropout_backward(x, mask, 1 / (1 - p) if p < 1 else 0.0)


DROPOUT = Layer(
    name="dropout",
    module=dropout,
    arguments="x: ...; mask: ... -> y: ...",
    structure="multilinear",
    cases=dropout_cases,
    rejects=_REJECTS,
    bench=(
        bench_case("small enough for loops", 16, 8, 32, more=_half, naive=True),
        bench_case("tutorial", 128, 2, 24, more=_half),
        bench_case("VGG on CIFAR", 32, 64, 32, more=_half),
        bench_case("ResNet-50", 8, 64, 112, more=_half),
    ),
    source="Srivastava et al. 2014, JMLR 15",
    torch=_torch,
    jax=lambda jax, x, mask, *, p: x * mask * (1 / (1 - p) if p < 1 else 0.0),
    onnx=("Dropout",),
    constants=("mask",),
)
