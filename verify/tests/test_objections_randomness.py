"""Objections of randomness: a random forward decides nothing, a random backward fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from helpers import ARRAYS, SEEDS, STRUCTURES, certificate_of, drawn, product, product_back
from verify import Certificate


def _check(structure: str, forward: Any = product, backward: Any = product_back, **keywords: Any) -> Certificate:
    return certificate_of(forward, backward, ARRAYS, structure=structure, **{"seed": 0, **keywords})


_X = np.array([[1.0, -2.0, 3.0], [0.5, 2.0, -1.0]])


def _noisy(generator: np.random.Generator) -> Iterator[Callable[..., Any]]:
    def noise(x: np.ndarray, w: np.ndarray) -> Any:
        return x @ w + 0.1 * generator.normal(size=(2, 1)), (x, w)

    def dropout(x: np.ndarray, w: np.ndarray) -> Any:
        kept = x * (generator.random(x.shape) < 0.5)
        return kept @ w, (kept, w)

    yield from (noise, dropout)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_random_forward_is_no_failure_and_the_message_says_random(structure: str) -> None:
    for seed in range(20):
        for forward in _noisy(np.random.default_rng(seed)):
            found = _check(structure, forward, seed=seed)
            assert found.verdict != "FAIL", found
            if found.verdict == "INCONCLUSIVE":
                assert "two calls of the forward with the same arrays differ" in str(found)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("seed", range(5))
def test_a_dropout_of_each_entry_is_not_called_nonlinear_in_dy(structure: str, seed: int) -> None:
    """Its mask is another at each call, and so is its gradient for a scaled dy."""
    generator = np.random.default_rng(seed)

    def dropout(x: np.ndarray) -> Any:
        mask = 2.0 * (generator.random(x.shape) < 0.5)
        return x * mask, mask

    found = certificate_of(dropout, lambda dy, mask: (dy * mask,), (_X,), structure=structure, seed=seed)
    assert found.verdict == "INCONCLUSIVE", found
    assert "two calls of the forward with the same arrays differ" in str(found)


@pytest.mark.parametrize("raising", [2, 3, 4, 9])
@pytest.mark.parametrize("structure", ["auto", "smooth"])
def test_a_forward_that_raises_once_is_no_failure(structure: str, raising: int) -> None:
    calls = itertools.count(1)

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        if next(calls) == raising:
            raise OSError("once")
        return np.tan(np.real(x @ w) / 9), (x, w)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, w = cache
        return product_back(dy / 9 / np.cos(x @ w / 9) ** 2, cache)

    found = _check(structure, forward, backward)
    assert found.verdict == "PASS" or "but not when called again: fix its randomness" in str(found)
    assert structure == "auto" or raising > 4 or found.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("seed", range(3))
def test_random_gradients_fail_even_where_rounding_would_hide_an_error(seed: int) -> None:
    generator = np.random.default_rng(seed)
    certificate = certificate_of(
        lambda x: (np.sin(x), x),
        lambda dy, x: (dy * (generator.random(x.shape) > 0.5) * 2 * np.cos(x),),
        (drawn(0, 3, 4),),
        seed=seed,
    )
    assert certificate.verdict == "FAIL"


@SEEDS
def test_random_gradients_are_not_excused_as_ill_conditioned(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * np.cos(x) * (1 + 0.01 * generator.normal(size=x.shape)),)

    x = drawn(seed, 4, 5)
    assert certificate_of(lambda x: (np.sin(x), x), backward, (x,), seed=seed, structure="smooth").verdict == "FAIL"
