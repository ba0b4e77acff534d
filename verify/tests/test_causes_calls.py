"""Causes that show when the same call is made again, or between other calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import certificate_of
from verify import adapters
from verify.checker.certificate import Certificate

RNG = np.random.default_rng
X, W = RNG(0).normal(size=(4, 3)), RNG(1).normal(size=(3, 2))


def codes(found: Certificate) -> list[str]:
    assert found.verdict == "FAIL", found
    return [cause.code for cause in found.causes]


def affine(x: Any, w: Any) -> Any:
    return x @ w, (x, w)


def square(x: Any) -> Any:
    return x**2, x


def root(x: Any) -> Any:
    return np.sqrt(np.abs(x) + 1), x


def of_root(dy: Any, x: Any) -> Any:
    return dy * np.sign(x) / 2 / np.sqrt(np.abs(x) + 1)


def relu(x: Any) -> Any:
    return np.maximum(x.real, 0), x


def dropping(gradient: Any, seed: int) -> Any:
    generator = RNG(seed)
    return lambda dy, cache: (gradient(dy, cache) * (generator.random(dy.shape) > 0.1),)


RANDOM: dict[str, Any] = {
    "analytic": (square, dropping(lambda dy, x: 2 * x * dy, 0), (X,)),
    "smooth": (root, dropping(of_root, 1), (X,)),
    "piecewise-linear": (relu, dropping(lambda dy, x: dy * (x > 0), 2), (X,)),
    "multilinear": (lambda x: (3 * x, None), dropping(lambda dy, _: 3 * dy, 3), (X,)),
}


@pytest.mark.parametrize("structure", RANDOM)
def test_a_random_backward_is_random_under_every_reference_and_nothing_else(structure: str) -> None:
    forward, backward, arrays = RANDOM[structure]
    for seed in range(5):
        found = certificate_of(forward, backward, arrays, seed=seed)
        if found.verdict == "FAIL":
            assert codes(found) == ["random"], found


def test_noise_of_a_thousandth_and_a_random_factor_are_random() -> None:
    generator = RNG(0)
    for noise in (lambda: 1 + 1e-3 * generator.normal(), lambda: generator.choice([1.0, 2.0, 3.0])):
        backward = lambda dy, c, noise=noise: (dy @ c[1].T * noise(), c[0].T @ dy)  # noqa: E731
        assert codes(certificate_of(affine, backward, (X, W), seed=0)) == ["random"]


def test_one_random_entry_is_random() -> None:
    generator = RNG(0)
    found = certificate_of(
        lambda x, b: (x + b, None), lambda dy, _: (dy, np.sum(dy) * generator.random((1,))), (X, np.ones(1)), seed=0
    )
    assert codes(found) == ["random"]


def test_a_sum_in_another_order_is_not_random() -> None:
    """What differs by rounding alone is not the cause of a gradient that is off by a factor."""
    generator = RNG(0)

    def backward(dy: Any, x: Any) -> Any:
        order = generator.permutation(len(dy))
        return (np.cos(x) * 2 * (dy * x * x)[order].sum(axis=0) / (x * x)[order].sum(axis=0),)

    def forward(x: Any) -> Any:
        return np.sin(x).sum(axis=0, keepdims=True) + 0 * x, x

    assert "random" not in codes(certificate_of(forward, backward, (X,), seed=0))


class Counting:
    """A layer whose backward adds to what it returned before."""

    def __init__(self, share: float = 1.0) -> None:
        self.total, self.share = 0.0, share

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.sin(x)

    def backward(self, dy: Any) -> Any:
        self.total = self.share * self.total + dy * np.cos(self.x)
        return self.total


class CountingForwards(Counting):
    """A layer whose backward counts every forward until now."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.seen.append(x)
        return np.sin(x)

    def backward(self, dy: Any) -> Any:
        return sum(dy * np.cos(x.real) for x in self.seen)


@pytest.mark.parametrize("make", [Counting, lambda: Counting(0.9), CountingForwards], ids=["sum", "decay", "forwards"])
def test_what_grows_accumulates(make: Callable[[], Any]) -> None:
    layer = make()
    forward = lambda x: (layer.forward(x), None)  # noqa: E731
    assert codes(certificate_of(forward, lambda dy, _: (layer.backward(dy),), (X,), seed=0)) == ["accumulates"]


def test_a_cache_that_backward_changes_is_overwritten() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        cache["x"] = cache["x"] ** 2
        return (dy * np.cos(cache["x"]),)

    found = certificate_of(lambda x: (np.sin(x), {"x": x}), backward, (X,), seed=0)
    assert codes(found) == ["cache-overwritten"]


class First:
    """A layer whose forwards pile up, and whose backward reads the first."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.derived: dict[str, list[Any]] = {"y": []}

    def forward(self, x: Any) -> Any:
        self.inputs.append(x)
        self.derived["y"].append(np.tanh(x))
        return np.tanh(x)

    def backward(self, dy: Any) -> Any:
        return dy * (1 - np.tanh(self.inputs[0]) ** 2)


class FirstOutput(First):
    def backward(self, dy: Any) -> Any:
        return dy * (1 - self.derived["y"][0] ** 2)


@pytest.mark.parametrize("kind", [First, FirstOutput])
def test_forwards_that_pile_up_are_a_stale_cache(kind: type[First]) -> None:
    layer = kind()
    forward = lambda x: (layer.forward(x), None)  # noqa: E731
    assert codes(certificate_of(forward, lambda dy, _: (layer.backward(dy),), (X,), seed=0)) == ["stale-cache"]


def test_a_cache_kept_from_the_first_forward_is_stale() -> None:
    kept: list[Any] = []

    def forward(x: Any, w: Any) -> Any:
        kept.append((x, w))
        return np.exp(x @ w), None

    def backward(dy: Any, _: Any) -> Any:
        x, w = kept[0]
        d = dy * np.exp(x @ w)
        return d @ w.T, x.T @ d

    found = certificate_of(forward, backward, (X, W), seed=0)
    assert codes(found) == ["stale-cache"]
    assert "first forward" in found.causes[0].explanation
    assert found.causes[0].argument is None


def test_a_forward_before_the_check_is_no_less_stale() -> None:
    layer = First()
    layer.forward(X + 1)

    class Pair:
        inputs = layer.inputs

        def forward(self, x: Any) -> Any:
            return layer.forward(x), None

    found = certificate_of(Pair().forward, lambda dy, _: (layer.backward(dy),), (X,), seed=0)
    assert codes(found) == ["unknown"]  # of a list that the forward's owner has not grown, nothing is known

    class Own(First):
        def both(self, x: Any) -> Any:
            return self.forward(x), None

    own = Own()
    own.forward(X + 1)
    found = certificate_of(own.both, lambda dy, _: (own.backward(dy),), (X,), seed=0)
    assert codes(found) == ["stale-cache"]
    assert "pile up in its inputs" in found.causes[0].explanation


def test_what_piles_up_is_named() -> None:
    layer = First()
    found = adapters.plain.gradcheck(layer, (X,), seed=0, raise_on_failure=False)
    if found.verdict == "FAIL":  # it may be that the adapter gives the layer a new state for each call
        assert codes(found) == ["stale-cache"]


def test_a_gradient_that_does_not_depend_on_x_is_no_stale_cache() -> None:
    """Its formula is wrong: dy for sin. No forward was kept, though a list grows."""

    class Logging:
        def __init__(self) -> None:
            self.log: list[int] = []

        def forward(self, x: Any) -> Any:
            self.log.append(1)
            return np.sin(x), None

    layer = Logging()
    found = certificate_of(layer.forward, lambda dy, _: (dy.copy(),), (X,), seed=0)
    assert "stale-cache" not in codes(found)
    assert codes(found)[0] == "upstream-copied"
