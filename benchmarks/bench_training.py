"""Benchmarks of training, ours and PyTorch's: a step and an epoch of the tutorial's network and LeNet, with Adam.

Both train on scikit-learn's digits, enlarged to 28x28, in batches of 128, in float32, with the same number of
threads. Before they are timed, both take the same steps from the same parameters and must agree. Then they
continue in turn and repeat the batches. An epoch is every batch once.

    pytest benchmarks/bench_training.py
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.turns import REPLAY, Rounds, in_turns, keep
from cnn_core import Implementation, conv2d, flatten, linear, max_pool2d, relu, softmax_cross_entropy
from cnn_core.data import load_digits, scaled
from cnn_core.network import Step, chain

Array = NDArray[Any]
Batch = tuple[Array, Array]

BATCH_SIZE = 128
AGREEING_STEPS = 3
LEARNING_RATE = 1e-3


class Network(NamedTuple):
    """Convolutions (filters, channels, kernel, padding), each with relu and 2x2 max pooling, then linear layers."""

    convolutions: tuple[tuple[int, int, int, int], ...]
    biased: bool
    features: tuple[int, ...]


# The convolution of the tutorial's network has no bias. LeNet-5 (LeCun et al. 1998) is the version of today's
# frameworks: with relu, max pooling and all maps connected.
NETWORKS = {
    "tutorial": Network(((2, 1, 5, 0),), False, (288, 60, 10)),
    "LeNet": Network(((6, 1, 5, 2), (16, 6, 5, 0)), True, (400, 120, 84, 10)),
}


class Trainer(NamedTuple):
    """A network in training: `step()` takes the next batch and returns its loss."""

    step: Callable[[], float]
    parameters: Callable[[], list[Array]]


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("span", ["step", "epoch"])
@pytest.mark.parametrize("version", ["fast", "torch"])
def test_training(network: str, span: str, version: str, benchmark: BenchmarkFixture, small: bool) -> None:
    if version == "torch":
        pytest.importorskip("torch", reason="PyTorch is what we compare with: an extra, and large")
    _trainers(network)
    if not benchmark.enabled:
        benchmark.pedantic(tuple)  # type: ignore[no-untyped-call]  # pytest-benchmark's gap
        return
    benchmark.group = f"training {network}, {span}"
    benchmark.extra_info.update(dtype="float32", batch_size=BATCH_SIZE, steps=1 if span == "step" else len(_batches()))
    keep(benchmark, _timed(network, span, small)[version])


@functools.cache
def _timed(network: str, span: str, small: bool) -> dict[str, Rounds]:
    steps = len(_batches()) if span == "epoch" else 1
    calls = {version: functools.partial(_run, trainer.step, steps) for version, trainer in _trainers(network).items()}
    return in_turns(calls, seconds=0 if small else 5)


def _run(step: Callable[[], float], steps: int) -> None:
    for _ in range(steps):
        step()


@functools.cache
def _trainers(name: str) -> dict[str, Trainer]:
    """Return our trainer and, if PyTorch is installed, PyTorch's, after a check that they agree."""
    trainers = {"fast": _ours(NETWORKS[name])}
    if importlib.util.find_spec("torch") is not None:
        import torch

        trainers["torch"] = _pytorchs(NETWORKS[name], torch)
        _check_agreement(trainers["fast"], trainers["torch"])
    return trainers


@functools.cache
def _batches() -> tuple[Batch, ...]:
    """Return the batches of one epoch. Their order is drawn once."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.train_images))
    parts = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
    images = scaled(digits.train_images, digits.maximum, np.float32)
    return tuple((images[part], digits.train_labels[part].astype(np.int64)) for part in parts)


def _initial(network: Network) -> list[Array]:
    """Return initial parameters: weights normal with variance 2 / fan-in, as in cnn_core.network, biases zero."""
    generator, found = np.random.default_rng(1), []
    shapes = [(f, c, k, k) for f, c, k, _ in network.convolutions]
    shapes += [(out, into) for into, out in itertools.pairwise(network.features)]
    for shape in shapes:
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        found.append((generator.standard_normal(shape) * deviation).astype(np.float32))
        if network.biased or len(shape) == 2:
            found.append(np.zeros(shape[0], np.float32))
    return found


def _chain(network: Network) -> Implementation:
    steps = []
    for _, _, _, padding in network.convolutions:
        steps.append(Step(conv2d.fast, 1 + network.biased, {"padding": padding}))
        steps += [Step(relu.fast), Step(max_pool2d.fast, options={"kernel_size": 2, "stride": 2})]
    steps.append(Step(flatten.fast))
    for _ in network.features[2:]:
        steps += [Step(linear.fast, 2), Step(relu.fast)]
    steps += [Step(linear.fast, 2), Step(softmax_cross_entropy.fast, 1, {"reduction": "mean"})]
    return chain("network", steps)


def _ours(network: Network) -> Trainer:
    from cnn_core.optim import Adam

    layers, optimizer, batches = _chain(network), Adam(LEARNING_RATE), itertools.cycle(_batches())
    parameters = tuple(_initial(network))
    state, upstream = optimizer.init(parameters), np.ones((), np.float32)

    def step() -> float:
        nonlocal parameters, state
        x, labels = next(batches)
        loss, cache = layers.forward(x, *parameters, labels)
        _, *gradients = layers.backward(upstream, cache, need_dx=False)
        parameters, state = optimizer.step(parameters, gradients[: len(parameters)], state)  # type: ignore[arg-type]
        return loss.item()

    return Trainer(step, lambda: list(parameters))


def _pytorchs(network: Network, torch: Any) -> Trainer:
    functional = torch.nn.functional
    batches: Iterator[Any] = itertools.cycle([tuple(map(torch.from_numpy, batch)) for batch in _batches()])
    parameters = [torch.tensor(w, requires_grad=True) for w in _initial(network)]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def step() -> float:
        (x, labels), rest = next(batches), iter(parameters)
        for _, _, _, padding in network.convolutions:
            y = functional.conv2d(x, next(rest), next(rest) if network.biased else None, padding=padding)
            x = functional.max_pool2d(functional.relu(y), 2)
        x = functional.linear(x.flatten(1), next(rest), next(rest))
        for _ in network.features[2:]:
            x = functional.linear(functional.relu(x), next(rest), next(rest))
        loss = functional.cross_entropy(x, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return Trainer(step, lambda: [w.detach().numpy() for w in parameters])


def _check_agreement(ours: Trainer, pytorch: Trainer) -> None:
    """Raise unless both agree after some steps: losses to rounding, parameters to a hundredth of their path.

    Fewer than k = 1024 roundings lie between a pixel and the loss, so a loss is right to gamma_k. LeNet has sums
    of 25, 150, 400, 120, 84, 10 and 128 products, and a few functions.

    Adam divides each gradient by its own size. A gradient that is only rounding therefore moves its parameter as
    much as any other, in either direction. There are few of them, so parameters are compared in the norm. No step
    of a parameter exceeds the rate.
    """
    gamma = 1024 * 2.0**-24 / (1 - 1024 * 2.0**-24)
    for _ in range(AGREEING_STEPS):
        np.testing.assert_allclose(ours.step(), pytorch.step(), rtol=2 * gamma, atol=0)
    for w, other in zip(ours.parameters(), pytorch.parameters(), strict=True):
        way = AGREEING_STEPS * LEARNING_RATE * np.sqrt(w.size)
        if not np.linalg.norm(w - other) <= way / 100:
            raise AssertionError(f"parameters {w.shape} differ by {np.linalg.norm(w - other)} after a path of {way}")
