"""The chain of layers, and the tutorial's network made of it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from cnn_core import conv2d, flatten, linear, max_pool2d, relu, softmax_cross_entropy
from cnn_core._arguments import Array, Implementation
from cnn_core._blocked import conv2d as blocks
from cnn_core.network import PARAMETERS, Step, Version, chain, initial_parameters, tutorial_network

VERSIONS: tuple[Version, ...] = ("naive", "fast")
TWO_LINEAR = [Step(linear.vectorized, 2), Step(relu.vectorized), Step(linear.vectorized, 1)]


def _integers(generator: np.random.Generator, *shape: int, low: int = -3, high: int = 3) -> Array:
    return generator.integers(low, high, shape, endpoint=True).astype(np.float64)


def _network_arrays(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
    """Pixels and parameters that are integers: every sum in the network is below 2^53, so nothing is rounded."""
    x = _integers(generator, images, 1, 28, 28, low=0, high=16)
    return x, *(_integers(generator, *shape) for shape in PARAMETERS.values())


def _small_chain(generator: np.random.Generator) -> tuple[Implementation, tuple[Array, ...]]:
    """Two linear layers, the second without its bias, and arrays of integers for them."""
    arrays = tuple(_integers(generator, *shape) for shape in [(3, 4), (5, 4), (5,), (2, 5)])
    return chain("small", TWO_LINEAR), arrays


def _equal(ours: tuple[Array | None, ...], others: tuple[Array | None, ...]) -> bool:
    """Bit for bit, and of equal length: two compositions of the same functions have no right to differ."""
    return [None if a is None else a.tobytes() for a in ours] == [None if b is None else b.tobytes() for b in others]


@pytest.mark.parametrize("loss", ["mean", "sum"])
def test_chain_does_not_swap_or_drop_what_the_layers_composed_by_hand_give(loss: str) -> None:
    generator = np.random.default_rng(1)
    x, conv_w, *rest = _network_arrays(generator, 3)
    fully = [a / 64 for a in rest]
    labels = np.array([7, 0, 9])
    network = tutorial_network("fast", loss=loss)  # type: ignore[arg-type]
    y, cache = network.forward(x, conv_w, *fully, labels)
    gradients = network.backward(np.float64(1.5), cache)

    z1, c1 = conv2d.blocked.forward(x, conv_w)
    a1, c2 = relu.vectorized.forward(z1)
    p1, c3 = max_pool2d.blocked.forward(a1, kernel_size=2, stride=2)
    f1, c4 = flatten.vectorized.forward(p1)
    z2, c5 = linear.vectorized.forward(f1, fully[0], fully[1])
    a2, c6 = relu.vectorized.forward(z2)
    z3, c7 = linear.vectorized.forward(a2, fully[2], fully[3])
    by_hand, c8 = softmax_cross_entropy.vectorized.forward(z3, labels, reduction=loss)
    shapes = [z1.shape, p1.shape, f1.shape, a2.shape, z3.shape]
    assert shapes == [(3, 2, 24, 24), (3, 2, 12, 12), (3, 288), (3, 60), (3, 10)]

    (d3,) = softmax_cross_entropy.vectorized.backward(np.float64(1.5), c8)
    d2, dw2, db2 = linear.vectorized.backward(d3, c7)
    (d2,) = relu.vectorized.backward(d2, c6)
    d1, dw1, db1 = linear.vectorized.backward(d2, c5)
    for layer, layer_cache in [(flatten.vectorized, c4), (max_pool2d.blocked, c3), (relu.vectorized, c2)]:
        (d1,) = layer.backward(d1, layer_cache)
    dx, dw, _ = conv2d.blocked.backward(d1, c1)

    assert _equal((y,), (by_hand,))
    assert _equal(gradients, (dx, dw, dw1, db1, dw2, db2))


@pytest.mark.parametrize("version", VERSIONS)
def test_no_gradient_of_the_network_differs_from_the_complex_step_on_integers(version: Version) -> None:
    # One array at a time is moved, so no two steps meet in a product. A step of 2^-60 is scaled by integers alone.
    # Both sides are therefore exact, and no tolerance is due.
    generator = np.random.default_rng(2)
    arrays = _network_arrays(generator, 2)
    network = tutorial_network(version)
    y, cache = network.forward(*arrays)
    dy = _integers(generator, *y.shape)
    gradients = network.backward(dy, cache)
    assert len(gradients) == len(arrays)
    for position, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        direction = _integers(generator, *array.shape)
        moved = [a.astype(np.complex128) for a in arrays]
        moved[position] += 2.0**-60 * 1j * direction
        change, _ = network.forward(*moved)
        assert change.dtype == np.complex128
        assert gradient is not None
        assert np.vdot(dy, change.imag * 2.0**60) == np.vdot(gradient, direction), position


def test_versions_of_the_network_do_not_differ_on_integers() -> None:
    arrays = _network_arrays(np.random.default_rng(3), 1)
    outputs = {version: tutorial_network(version).forward(*arrays)[0] for version in VERSIONS}
    assert np.array_equal(outputs["naive"], outputs["fast"])


@pytest.mark.parametrize("version", VERSIONS)
def test_no_layer_of_the_other_version_slips_into_a_network(version: Version) -> None:
    arrays = _network_arrays(np.random.default_rng(17), 0)
    _, cache = tutorial_network(version, loss="sum").forward(*arrays, np.zeros(0, int))
    assert [step.layer.name == "naive" for step in cache.steps] == [version == "naive"] * 8


def test_network_takes_an_empty_batch() -> None:
    _, *parameters = _network_arrays(np.random.default_rng(4), 0)
    network = tutorial_network("fast")
    y, cache = network.forward(np.zeros((0, 1, 28, 28)), *parameters)
    dx, *gradients = network.backward(np.zeros((0, 10)), cache)
    assert y.shape == (0, 10)
    assert dx is not None
    assert dx.shape == (0, 1, 28, 28)
    assert not any(np.any(gradient) for gradient in gradients)


def test_chain_drops_the_gradient_of_a_bias_it_does_not_take_and_keeps_that_of_one_not_given() -> None:
    network, (x, w1, b1, w2) = _small_chain(np.random.default_rng(5))
    y, cache = network.forward(x, w1, b1, w2)
    assert len(network.backward(y, cache)) == 4
    y, cache = network.forward(x, w1, None, w2)
    gradients = network.backward(y, cache)
    assert [gradient is None for gradient in gradients] == [False, False, True, False]


def test_chain_is_pure() -> None:
    network, arrays = _small_chain(np.random.default_rng(6))
    before = [array.copy() for array in arrays]
    y, cache = network.forward(*arrays)
    other = [array + 1 for array in arrays]
    network.forward(*other)  # a second forward does not disturb the first one's backward
    dy = y + 1
    dy_before = dy.copy()
    gradients = network.backward(dy, cache)
    assert _equal(gradients, network.backward(dy, network.forward(*arrays)[1]))
    assert _equal((*arrays, dy), (*before, dy_before))
    results = [y, *(gradient for gradient in gradients if gradient is not None)]
    assert len(results) == 5
    assert not any(np.may_share_memory(result, array) for result in results for array in (*arrays, dy))


def test_a_chain_is_a_layer_of_another_chain() -> None:
    generator = np.random.default_rng(7)
    inner, arrays = _small_chain(generator)
    outer = chain("outer", [Step(inner, 3), Step(relu.vectorized), Step(linear.vectorized, 1)])
    flat = chain("flat", [*TWO_LINEAR, Step(relu.vectorized), Step(linear.vectorized, 1)])
    w3 = _integers(generator, 2, 2)
    results = []
    for network in (outer, flat):
        y, cache = network.forward(*arrays, w3)
        results.append((y, *network.backward(_integers(np.random.default_rng(8), *y.shape), cache)))
    assert _equal(*results)


@pytest.mark.parametrize("version", ["naive", "fast"])
def test_leaving_out_dx_changes_no_other_gradient(version: Version) -> None:
    network = tutorial_network(version, loss="mean")
    y, cache = network.forward(*_network_arrays(np.random.default_rng(17), 1), np.array([3]))
    dx, *gradients = network.backward(np.ones_like(y), cache)
    left_out, *others = network.backward(np.ones_like(y), cache, need_dx=False)
    assert dx is not None
    assert left_out is None
    assert _equal(tuple(gradients), tuple(others))


def test_leaving_out_dx_spares_the_first_layers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*arguments: object) -> None:
        raise AssertionError("dx is computed")

    monkeypatch.setattr(blocks, "input_gradient", unwanted)
    network = tutorial_network("fast")
    y, cache = network.forward(*_network_arrays(np.random.default_rng(18), 2))
    network.backward(y, cache, need_dx=False)
    with pytest.raises(AssertionError, match="dx is computed"):
        network.backward(y, cache)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_wrong_number_of_arrays_is_not_taken_in_silence(count: int) -> None:
    network, (x, *rest) = _small_chain(np.random.default_rng(9))
    with pytest.raises(ValueError, match=rf"chain 'small' takes 3 arrays after x \(\[2, 0, 1\].*got {count}"):
        network.forward(x, *([*rest, x][:count]))


def test_cache_of_another_chain_is_not_mistaken_for_its_own() -> None:
    network, arrays = _small_chain(np.random.default_rng(10))
    y, cache = network.forward(*arrays)
    renamed = chain("renamed", TWO_LINEAR)
    longer = chain("small", [*TWO_LINEAR, Step(relu.vectorized)])
    for other, message in [(renamed, "'renamed' "), (longer, r"'small' \(4 steps")]:
        with pytest.raises(TypeError, match=rf"chain 'small' \(3 steps\), this backward needs .*{message}"):
            other.backward(y, cache)
    with pytest.raises(TypeError, match=r"cache is a builtins\.int"):
        network.backward(y, 0)
    fast, naive = tutorial_network("fast"), tutorial_network("naive")
    logits, fast_cache = fast.forward(*_network_arrays(np.random.default_rng(11), 1))
    with pytest.raises(TypeError, match=r"tutorial_network\('fast', loss=None\).*tutorial_network\('naive'"):
        naive.backward(logits, fast_cache)


def test_a_copied_cache_is_still_its_chains_own() -> None:
    network, arrays = _small_chain(np.random.default_rng(12))
    y, cache = network.forward(*arrays)
    assert _equal(network.backward(y, copy.deepcopy(cache)), network.backward(y, cache))


def test_chain_of_nothing_or_of_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="chain 'empty' must have at least one step"):
        chain("empty", [])
    with pytest.raises(ValueError, match="arrays must be at least 0, got -1"):
        chain("negative", [Step(relu.naive, -1)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "quick"}, 'version must be "naive" or "fast", got \'quick\''),
        ({"version": "fast", "loss": "none"}, 'loss must be None, "mean" or "sum", got \'none\''),
    ],
)
def test_unknown_network_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tutorial_network(**options)


def test_initial_parameters_have_the_variance_of_he_and_not_another() -> None:
    named = dict(zip(PARAMETERS, initial_parameters(np.random.default_rng(13), np.float64), strict=True))
    assert {name: array.shape for name, array in named.items()} == dict(PARAMETERS)
    assert not named["fc1_b"].any()
    assert not named["fc2_b"].any()
    for name, fan_in in [("conv_w", 25), ("fc1_w", 288), ("fc2_w", 60)]:
        w = named[name]
        # The sum of K squared standard normals has mean K and standard deviation sqrt(2 K): five of them.
        assert abs((w**2).sum() * fan_in / 2 - w.size) <= 5 * np.sqrt(2 * w.size), name
        assert abs(w.sum() * np.sqrt(fan_in / 2)) <= 5 * np.sqrt(w.size), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_one_seed_is_one_network_in_every_dtype(dtype: type[np.inexact[Any]]) -> None:
    reference = initial_parameters(np.random.default_rng(14), np.float64)
    parameters = initial_parameters(np.random.default_rng(14), dtype)
    assert all(array.dtype == dtype for array in parameters)
    assert _equal(parameters, tuple(array.astype(dtype) for array in reference))
    assert not _equal(parameters, initial_parameters(np.random.default_rng(15), dtype))


def test_integer_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match="dtype must be floating or complex, got int64"):
        initial_parameters(np.random.default_rng(16), np.int64)


def test_a_chain_has_the_name_it_is_given() -> None:
    assert chain("own", [Step(relu.vectorized)]).name == "own"


def test_a_cache_of_something_else_is_named_by_its_type() -> None:
    layer = chain("own", [Step(relu.vectorized)])
    with pytest.raises(
        TypeError, match=r"^cache is a collections\.OrderedDict, this backward needs the cnn_core\.network\._Cache"
    ):
        layer.backward(np.ones(2), OrderedDict())
