"""PyTorch and JAX as oracles: y and every gradient of every layer that they have, over its declared cases.

On integers the comparison is exact. Elsewhere the declaration derives by how much two right versions may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from verify.layers import LAYERS, Case, Layer

Array = NDArray[Any]
Results = tuple[Array | None, ...]

# JAX compiles for each shape, which takes a hundred times as long as a call. So every shape serves for ten cases.
_REDRAWN = 10
# Of two shapes both may hold nothing but zeros, where a slope of JAX's is another: then nothing is compared.
_FEWEST_SHAPES = 10

# PyTorch says so of every even kernel under padding="same": a remark on speed.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


def of_torch(layer: Layer, case: Case, dy: Callable[[Array], Array]) -> Results | None:
    """PyTorch's y and gradients, for the dy that its y is given; None if it has no such case."""
    import torch

    assert layer.torch is not None
    leaves = [
        None if a is None else torch.tensor(a, requires_grad=k in layer.with_gradient(len(case.arrays)))
        for k, a in enumerate(case.arrays)
    ]
    y = layer.torch(torch, *leaves, **case.options)
    if y is None:
        return None
    found = y.detach().numpy()
    y.backward(torch.tensor(dy(found)))
    wanted = [leaves[k] for k in layer.with_gradient(len(leaves))]
    return (found, *(None if leaf is None else _grad(leaf) for leaf in wanted))


def _grad(leaf: Any) -> Array:
    """A leaf that y does not depend on has no gradient in PyTorch: it is 0."""
    return np.zeros(leaf.shape, leaf.detach().numpy().dtype) if leaf.grad is None else leaf.grad.numpy()


def of_jax(layer: Layer, case: Case, dy: Callable[[Array], Array]) -> Results | None:
    """JAX's y and gradients, as `of_torch`."""
    import jax

    jax.config.update("jax_enable_x64", True)
    assert layer.jax is not None
    differentiable = layer.with_gradient(len(case.arrays))
    floating = [k for k in differentiable if case.arrays[k] is not None]

    def function(*given: Any) -> Any:
        arrays = list(case.arrays)
        for k, array in zip(floating, given, strict=True):
            arrays[k] = array
        return layer.jax(jax, *arrays, **case.options)  # type: ignore[misc]

    given = [jax.numpy.asarray(case.arrays[k]) for k in floating]
    if function(*given) is None:
        return None
    y, pull_back = jax.vjp(function, *given)
    gradients = dict(zip(floating, pull_back(jax.numpy.asarray(dy(np.asarray(y)))), strict=True))
    return (np.asarray(y), *(np.asarray(gradients[k]) if k in gradients else None for k in differentiable))


def typed(case: Case, dtype: type) -> Case:
    """The case with its floating arrays in this dtype."""
    return Case(tuple(a if a is None or a.dtype.kind != "f" else a.astype(dtype) for a in case.arrays), case.options)


def layers(name: str) -> pytest.MarkDecorator:
    """Run a test for each layer that the library has."""
    found = {layer.name: layer for layer in LAYERS.values() if getattr(layer, name) is not None}
    return pytest.mark.parametrize("layer", found.values(), ids=found)


@layers("torch")
def test_y_and_every_gradient_are_those_of_pytorch(layer: Layer) -> None:
    pytest.importorskip("torch")
    compare_all(layer, of_torch, [np.float32, np.float64], settings())


@layers("jax")
def test_y_and_every_gradient_are_those_of_jax(layer: Layer) -> None:
    pytest.importorskip("jax")
    fewer = settings(max_examples=max(_FEWEST_SHAPES, settings().max_examples // (4 * _REDRAWN)))
    compare_all(layer, of_jax, [np.float64], fewer, _REDRAWN)


def compare_all(
    layer: Layer, oracle: Callable[..., Results | None], dtypes: list[type], chosen: settings, draws: int = 1
) -> None:
    """Compare every version with the oracle over the declared cases, of which the library must have some."""
    compared: list[bool] = []

    @chosen
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        compared.append(compare(layer, oracle, data, dtypes, draws))

    each()
    assert any(compared), f"the library has none of {len(compared)} cases"


def compare(
    layer: Layer, oracle: Callable[..., Results | None], data: st.DataObject, dtypes: list[type], draws: int
) -> bool:
    """Compare at a drawn case, and at others of its shapes and options. Whether the library has any of them."""
    case = typed(data.draw(layer.cases(), label="case"), data.draw(st.sampled_from(dtypes), label="dtype"))
    case, seed = layer.complete(*case), data.draw(st.integers(0, 99), label="seed")
    cases = (case if draw == 0 else redrawn(layer, case, seed + draw) for draw in range(draws))
    compared = [_compare_at(layer, oracle, each, seed) for each in cases]
    return any(compared)


def redrawn(layer: Layer, case: Case, seed: int) -> Case:
    """The case with the entries of its differentiable arrays in another order, with other signs."""
    generator = np.random.default_rng(seed)

    def other(k: int, array: Array | None) -> Array | None:
        if array is None or k not in layer.with_gradient(len(case.arrays)):
            return array
        signs = generator.choice([-1.0, 1.0], array.shape).astype(array.dtype)
        return np.asarray(signs * generator.permutation(array.reshape(-1)).reshape(array.shape))

    return Case(tuple(other(k, array) for k, array in enumerate(case.arrays)), case.options)


def _compare_at(layer: Layer, oracle: Callable[..., Results | None], case: Case, seed: int) -> bool:
    def upstream(y: Array) -> Array:
        return np.asarray(np.random.default_rng(seed).integers(-4, 5, y.shape)).astype(y.dtype)

    right = oracle(layer, case, upstream)
    if right is None:
        return False
    for version in layer.implementations:
        y, cache = version.forward(*case.arrays, **case.options)
        dy = upstream(y)
        gradients = version.backward(dy, cache)
        allowed = layer.allowed(case, y, dy, gradients)
        for position, (got, expected, most) in enumerate(zip((y, *gradients), right, allowed, strict=True)):
            what = f"gradient {position - 1} of {version.name}" if position else f"y of {version.name}"
            if got is None or expected is None:
                assert got is expected, what
                continue
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype), what
            both_nan = np.isnan(got) & np.isnan(expected)
            assert (both_nan | (got == expected) | (np.isfinite(most) & (np.abs(got - expected) <= most))).all(), what
    return True
