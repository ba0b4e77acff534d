"""Checks that return what they found whatever the verdict is, and functions that several test files check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st

from cnn_core import Implementation
from verify import Certificate, gradcheck
from verify.checker.candidates import ORACLES
from verify.layers import LAYERS, Case, Layer
from verify.profiles import EXAMPLES

Found = TypeVar("Found")


def result_of(check: Callable[..., Found], *arguments: Any, **settings: Any) -> Found:
    """Return the result of a check that would raise if the layer failed."""
    return check(*arguments, raise_on_failure=False, **settings)


def certificate_of(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Certificate:
    """Return the certificate of gradcheck, be it a PASS or not."""
    return result_of(gradcheck, forward, backward, arrays, options, **settings)


# The layers of this project, each in all versions.
BOTH = [
    pytest.param(layer, implementation, id=f"{layer.name}-{implementation.name}")
    for layer in LAYERS.values()
    for implementation in layer.implementations
]
# Those of six layers, one at least of each structure: enough to try the checker on.
SAMPLE = [
    pytest.param(LAYERS[name], implementation, id=f"{name}-{implementation.name}")
    for name in ("conv2d", "flatten", "linear", "max_pool2d", "relu", "softmax_cross_entropy")
    for implementation in LAYERS[name].implementations
]
STRUCTURES = ["auto", *ORACLES]
# Three in the profile `quick`, five in the others.
SEEDS = pytest.mark.parametrize("seed", range(3 if settings().max_examples <= EXAMPLES["quick"] else 5))


def nonempty(data: st.DataObject, layer: Layer) -> tuple[Case, int]:
    """Draw a case, and the position of a gradient that has entries and is not 0 by definition."""
    case = data.draw(layer.cases(), label="case")
    positions = [k for k, a in enumerate(case.arrays) if a is not None and a.dtype == np.float64 and a.size]
    assume(positions and all(a is None or a.size for a in case.arrays))
    y, cache = layer.reference.forward(*case.arrays, **case.options)
    gradients = layer.reference.backward(np.random.default_rng(0).normal(size=y.shape), cache)
    positions = [k for k in positions if gradients[k] is not None and np.any(gradients[k])]  # for one class it is 0
    assume(positions)
    return case, data.draw(st.sampled_from(positions), label="position")


def sabotaged(implementation: Implementation, which: int, change: Callable[[Any], Any]) -> Implementation:
    """Return the implementation with the gradient at position `which` changed."""

    def backward(dy: np.ndarray, cache: Any) -> Any:
        gradients = list(implementation.backward(dy, cache))
        gradients[which] = change(gradients[which])
        return tuple(gradients)

    return implementation._replace(backward=backward)


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Draw normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def conv_arrays() -> tuple[np.ndarray, ...]:
    """Draw x, w and b of a convolution."""
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=shape) for shape in ((2, 3, 5, 4), (4, 3, 3, 2), (4,)))


def refuse_complex(*arrays: np.ndarray) -> None:
    """Raise TypeError for complex numbers, as a layer in C does."""
    if any(np.iscomplexobj(array) for array in arrays):
        raise TypeError("real numbers only")


# Arrays of `product`.
ARRAYS = np.array([[1.0, -2.0, 3.0], [0.5, 2.0, -1.0]]), np.array([[2.0], [1.0], [-3.0]])


def product(x: np.ndarray, w: np.ndarray) -> Any:
    """Return x w: multilinear."""
    return x @ w, (x, w)


def product_back(dy: np.ndarray, cache: Any) -> Any:
    """Return dx and dw of `product`."""
    x, w = cache
    return dy @ w.T, x.T @ dy


def median(x: np.ndarray) -> tuple[Any, Any]:
    """Return the median of an odd number of entries. A sort of complex numbers goes by both parts."""
    index = np.argsort(x, kind="stable")[len(x) // 2]
    return x[index], (index, len(x))


def median_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    """Return dx of `median`: dy at its entry."""
    index, length = cache
    return (dy * (np.arange(length) == index),)


def relu(x: np.ndarray) -> tuple[Any, Any]:
    """Return max(x, 0), of real numbers only."""
    refuse_complex(x)
    return np.maximum(x, 0), x


def relu_back(at_zero: float) -> Callable[..., Any]:
    """Return a backward of `relu` that claims this slope at 0."""
    return lambda dy, x: (dy * np.where(x > 0, 1, np.where(x < 0, 0, at_zero)),)


def elu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 2 (e^x - 1) below 0, and x above: its slopes at 0 are 2 and 1."""
    refuse_complex(x)
    return np.where(x > 0, x, 2 * np.expm1(x)), x


def normalised(x: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return the batch normalisation of x + b. It does not depend on b."""
    z = x + b
    centred = z - z.mean(0)
    scale = 1 / np.sqrt((centred * centred).mean(0))
    return centred * scale, (centred * scale, scale)


def normalised_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return dx and db of `normalised`: db is 0 to rounding."""
    y, scale = cache
    dx = scale * (dy - dy.mean(0) - y * (dy * y).mean(0))
    return dx, dx.sum(0)
