"""What the declarations of softmax and log_softmax share: their cases, and the error of an exponential."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Reject

# The errors of exp and log are at most 4 ulp, or 8u: NumPy's and PyTorch's vectorized ones.
ELEMENTARY = 8


@st.composite
def rows_cases(draw: st.DrawFn) -> Case:
    """Valid calls along each axis, counted from the front or from behind, also of one class, and of empty arrays.

    Entries are in [-4, 4]. Differences cannot distinguish a gradient that underflows from zero, so saturated rows are
    tested by values instead.
    """
    shape = draw(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return Case((draw(strategies.reals(shape)),), {"axis": axis})


def exponential_errors(x: Array, axis: int) -> tuple[Array, float]:
    """The relative error of exp(x - M) / S, as one version computes it, and u = eps/2 of the dtype.

    Let d = M - x >= 0 and E = ELEMENTARY. An exponential has a relative error of (d + E)u: d rounds by u of itself.
    S sums C of them. It has a relative error of (E + 2C)u, because d exp(-d) < 1 and S >= 1. With the quotient that
    is (d + 2E + 2C + 1)u. Terms of second order are below 1u as long as this is below 1/sqrt(u). Where exp underflows
    to 0, so does its share of the error.
    """
    unit = float(np.finfo(x.dtype).eps) / 2
    d = (x.max(axis=axis, keepdims=True, initial=-np.inf) - x).astype(np.float64)
    return np.asarray((d + 2 * ELEMENTARY + 2 * x.shape[axis] + 2) * unit), unit


REJECTS = (
    Reject("scalar x", (np.zeros(()),), {}, ValueError, r"x must have at least one axis, got shape \(\)"),
    Reject("axis too large", (np.zeros((2, 3)),), {"axis": 2}, ValueError, r"axis must lie in \[-2, 2\), got 2"),
    Reject("axis too small", (np.zeros((2, 3)),), {"axis": -3}, ValueError, r"axis must lie in \[-2, 2\), got -3"),
    Reject("two axes", (np.zeros((2, 3)),), {"axis": (0, 1)}, TypeError, r"axis must be an integer, got \(0, 1\)"),
    Reject("a boolean", (np.zeros((2, 3)),), {"axis": True}, TypeError, "axis must be an integer, got True"),
    Reject("integer x", (np.zeros(3, np.int64),), {}, TypeError, "x must be a floating .* array, got dtype int64"),
    Reject("object x", (np.zeros(3, object),), {}, TypeError, "x must be a floating .* array, got dtype object"),
    Reject("dim", (np.zeros(3),), {"dim": 0}, TypeError, "takes x by position and, by name, axis; it has no dim=0"),
)


def bench(zoo: str, images: int, shape: tuple[int, ...], axis: int, naive: bool = False) -> BenchCase:
    """A size to time."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.normal(size=(images, *shape)).astype(np.float32),)

    name = f"{'x'.join(map(str, shape))} along axis {axis}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"axis": axis}, naive)
