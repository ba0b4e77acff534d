"""A training step of the tutorial's network: forward, backward and Adam, ours and PyTorch's.

128 images, float32, as many threads for either. Before one is timed both take the same steps from the
same parameters over the same batches and must agree; then it goes on from where it is, in a circle
over the batches. The goal: a step of ours takes at most three times as long as PyTorch's.

    pytest benchmarks/bench_training.py
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from cnn_core.network import IMAGE_SHAPE, initial_parameters, tutorial_network
from cnn_core.optim import Adam

Array = NDArray[Any]

IMAGES, BATCHES = 128, 10
AGREEING_STEPS = 3
LEARNING_RATE = 1e-3


class Trainer(NamedTuple):
    """A network in training: `step()` takes the next batch and returns its loss."""

    step: Callable[[], float]
    parameters: Callable[[], list[Array]]


@pytest.mark.parametrize("version", ["ours", "pytorch"])
@pytest.mark.parametrize("steps", [1, 200])
def test_training(
    version: str, steps: int, benchmark: BenchmarkFixture, blas: dict[str, Any], pytestconfig: pytest.Config
) -> None:
    trainer = _trainers(version, pytestconfig.getoption("blas_threads"))[version]
    benchmark.group = f"training, {steps} step{'s' if steps > 1 else ''} of {IMAGES} images"
    benchmark.extra_info.update(dtype="float32", kernel=blas["kernel"], threads=blas["threads"])
    if steps == 1:
        benchmark(trainer.step)
    else:
        benchmark.pedantic(_run, (trainer, steps), rounds=5)  # type: ignore[no-untyped-call]  # pytest-benchmark's gap


def _run(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        trainer.step()


def _trainers(version: str, threads: int) -> dict[str, Trainer]:
    """Ours and PyTorch's, in agreement; ours alone where there is no PyTorch and none is asked for."""
    if version == "ours" and importlib.util.find_spec("torch") is None:
        return {"ours": _ours()}
    torch = pytest.importorskip("torch", reason="PyTorch is what we compare with: an extra, and large")
    torch.set_num_threads(threads)
    trainers = {"ours": _ours(), "pytorch": _pytorchs(torch)}
    _check_agreement(**trainers)
    return trainers


def _batches() -> Iterator[tuple[Array, Array]]:
    """The same batches in the same order at every call, without end."""
    generator = np.random.default_rng(0)
    images = generator.random((BATCHES, IMAGES, *IMAGE_SHAPE), np.float32)
    return itertools.cycle(zip(images, generator.integers(0, 10, (BATCHES, IMAGES)), strict=True))


def _ours() -> Trainer:
    network, optimizer, batches = tutorial_network("fast", loss="mean"), Adam(LEARNING_RATE), _batches()
    parameters = initial_parameters(np.random.default_rng(1))
    state, upstream = optimizer.init(parameters), np.ones((), np.float32)

    def step() -> float:
        nonlocal parameters, state
        x, labels = next(batches)
        loss, cache = network.forward(x, *parameters, labels)
        _, *gradients = network.backward(upstream, cache, need_dx=False)
        parameters, state = optimizer.step(parameters, gradients, state)  # type: ignore[arg-type]
        return loss.item()

    return Trainer(step, lambda: list(parameters))


def _pytorchs(torch: Any) -> Trainer:
    functional, batches = torch.nn.functional, _batches()
    parameters = [torch.tensor(w, requires_grad=True) for w in initial_parameters(np.random.default_rng(1))]
    conv_w, fc1_w, fc1_b, fc2_w, fc2_b = parameters
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def step() -> float:
        x, labels = map(torch.from_numpy, next(batches))
        pooled = functional.max_pool2d(functional.relu(functional.conv2d(x, conv_w)), 2)
        hidden = functional.relu(functional.linear(pooled.flatten(1), fc1_w, fc1_b))
        loss = functional.cross_entropy(functional.linear(hidden, fc2_w, fc2_b), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return Trainer(step, lambda: [w.detach().numpy() for w in parameters])


def _check_agreement(ours: Trainer, pytorch: Trainer) -> None:
    """Some steps of both: the losses must agree to rounding, the parameters to a hundredth of their way.

    Fewer than k = 1024 roundings lie between a pixel and the loss (sums of 25, 288, 60, 10 and 128
    products, and a few functions), so a loss is right to gamma_k. Adam divides each gradient by its
    own size: a gradient that is rounding alone moves its parameter by as much as any other, either
    way. Such are few, so the parameters are compared in the norm; no step of theirs exceeds the rate.
    """
    gamma = 1024 * 2.0**-24 / (1 - 1024 * 2.0**-24)
    for _ in range(AGREEING_STEPS):
        np.testing.assert_allclose(ours.step(), pytorch.step(), rtol=2 * gamma, atol=0)
    for w, other in zip(ours.parameters(), pytorch.parameters(), strict=True):
        way = AGREEING_STEPS * LEARNING_RATE * np.sqrt(w.size)
        if not np.linalg.norm(w - other) <= way / 100:
            raise AssertionError(f"parameters {w.shape} differ by {np.linalg.norm(w - other)} after a way of {way}")
