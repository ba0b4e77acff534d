"""The declaration of mse_loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import mse_loss
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


@st.composite
def mse_loss_cases(draw: st.DrawFn) -> Case:
    """Valid calls of any shape with every reduction, also of empty arrays and scalars.

    Entries are multiples of 1/8, so that x and target are equal or differ by more than their rounding.
    """
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    x, target = (np.asarray(draw(strategies.integers(shape, 32)) / 8) for _ in range(2))
    return Case((x, target), {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))})


_X = np.zeros((2, 3))
_REJECTS = (
    Reject("shapes", (_X, np.zeros(3)), {}, ValueError, r"target must have the shape of x, \(2, 3\), got \(3,\)"),
    Reject("reduction", (_X, _X), {"reduction": "average"}, ValueError, "reduction must be .*, got 'average'"),
    Reject("integer x", (np.zeros((2, 3), np.int64), _X), {}, TypeError, "x must be a floating .* got dtype int64"),
    Reject("object x", (np.zeros((2, 3), object), _X), {}, TypeError, "x must be a floating .* got dtype object"),
    Reject("integer target", (_X, np.zeros((2, 3), np.int64)), {}, TypeError, "target must be .* got dtype int64"),
    Reject("no target", (_X, None), {}, TypeError, "target must be a NumPy array, got NoneType"),
    Reject("mixed dtypes", (_X, np.zeros((2, 3), np.float32)), {}, TypeError, "target has dtype float32, but x has"),
)


def _bench(zoo: str, images: int, features: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return tuple(generator.normal(size=(images, features)).astype(np.float32) for _ in range(2))

    return BenchCase(f"{features} outputs, N = {images}", zoo, images, draw, naive=naive)


def _jax(jax: Any, x: Any, target: Any, *, reduction: str) -> Any:
    if not x.size:
        return None  # JAX's mean over nothing is NaN, and so are its gradients
    loss = (x - target) ** 2
    return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[reduction]()


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the rounding error of one version: relative to the result, as no sum cancels.

    A difference rounds once, so a loss has 3 roundings, and a sum of n losses or their mean n more. A gradient has
    4: the difference, dy / n, and two products, of which that by 2 is exact. A product below the least normal number
    loses up to one subnormal. With x, target and dy of 0 or at least that number, no more than n + 4 products do.
    """
    k = arrays[0].size + 4
    limits = np.finfo(y.dtype)
    unit, least = float(limits.eps) / 2, float(limits.smallest_subnormal)
    gamma = k * unit / (1 - k * unit)
    return tuple(2 * (gamma * np.abs(each) + k * least) for each in (y, *gradients) if each is not None)


MSE_LOSS = Layer(
    name="mse_loss",
    module=mse_loss,
    arguments="x: ...; target: ... -> y: ... or scalar",
    structure="analytic",
    cases=mse_loss_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 64, 32, naive=True),
        _bench("tutorial", 128, 10),
        _bench("autoencoder", 32, 3 * 64 * 64),
    ),
    source="torch.nn.functional.mse_loss",
    torch=lambda torch, x, target, *, reduction: torch.nn.functional.mse_loss(x, target, reduction=reduction),
    jax=_jax,
    tolerance=_tolerance,
)
