"""The reference at ties: a claim must lie between the one-sided slopes.

Many of the functions are neither convex nor concave. There one-sided slopes alone decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from cnn_core import Implementation, max_pool2d, relu
from helpers import certificate_of, median, median_back, refuse_complex
from verify import gradcheck


def _tied_cases() -> int:
    """Return 125 in the profile `quick`, 500 in `ci`, 50,000 in `nightly`."""
    return 5 * settings().max_examples


@pytest.mark.parametrize("implementation", [max_pool2d.naive, max_pool2d.im2col], ids=lambda each: each.name)
def test_correct_pooling_of_tied_integers_never_fails(implementation: Implementation) -> None:
    for seed in range(_tied_cases()):
        generator = np.random.default_rng(seed)
        x = generator.integers(-1, 2, (1, 1, *generator.integers(2, 5, 2))).astype(np.float64)
        options = {"kernel_size": 2, "stride": int(generator.integers(1, 3))}
        assert gradcheck(
            *implementation[1:], (x,), options, structure="piecewise-linear", seed=seed, miss_probability=1e-3
        )


@pytest.mark.parametrize("implementation", [relu.naive, relu.vectorized], ids=lambda each: each.name)
def test_correct_relu_at_exact_zeros_never_fails(implementation: Implementation) -> None:
    for seed in range(_tied_cases()):
        x = np.random.default_rng(seed).integers(-1, 2, 5).astype(np.float64)
        assert gradcheck(*implementation[1:], (x,), structure="piecewise-linear", seed=seed, miss_probability=1e-3)


def _all_ties_rewarded(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    x, y = cache
    return (np.where(x == y, dy, 0.0),)


def test_rewarding_every_tie_fails_even_where_complex_numbers_are_refused() -> None:
    def forward(x: np.ndarray) -> Any:
        y = np.asarray([max(x.tolist())])
        return y, (x, y)

    x = np.array([3.0, 1.0, 3.0])
    for seed in range(20):
        certificate = certificate_of(forward, _all_ties_rewarded, (x,), structure="piecewise-linear", seed=seed)
        assert certificate.verdict == "FAIL"
        assert "at the arrays given" in str(certificate)


def test_a_relu_whose_derivative_at_zero_is_not_the_forwards_fails() -> None:
    x = np.array([0.0, 1.0, -1.0])
    ones = certificate_of(
        relu.vectorized.forward,
        lambda dy, cache: (np.where(cache.x >= 0, dy, 0.0),),
        (x,),
        structure="piecewise-linear",
    )
    assert ones.verdict == "FAIL"
    assert ones.worst is not None
    assert ones.worst.index == (0,)


_ZEROS = np.zeros((3, 4))
_SIGNS = np.array([1.0, -1, 2, -3])


def _two_layers(x: np.ndarray) -> tuple[Any, Any]:
    """Return a relu times weights of either sign, of real numbers only."""
    refuse_complex(x)
    return np.maximum(x, 0) @ _SIGNS, x


def _two_layers_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy[:, None] * _SIGNS * (x > 0),)


def _bent(x: np.ndarray) -> tuple[Any, Any]:
    y, cache = median(x)
    return y * y + y, (y, *cache)


def _bent_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    return median_back(dy * (2 * cache[0] + 1), cache[1:])


def _two_bent_layers(x: np.ndarray) -> tuple[Any, Any]:
    # No sum of thirds is exact.
    return np.tanh(_two_layers(x)[0] / 3), x


def _two_bent_layers_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    y = np.tanh(_two_layers(x)[0] / 3)
    return _two_layers_back(dy * (1 - y * y) / 3, x)


_MIXING = np.array([[1.0, 1, -1, 2], [1, -1, 3, 1], [2, 1, 1, -1], [-1, 1, 1, 1]])


def _mixed(x: np.ndarray) -> tuple[Any, Any]:
    """Return relus of sums and differences of entries. A step of one entry meets the kinks of all."""
    y, _ = _two_bent_layers(x @ _MIXING)
    return y, x


def _mixed_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (_two_bent_layers_back(dy, x @ _MIXING)[0] @ _MIXING.T,)


def _sign(x: np.ndarray) -> tuple[Any, Any]:
    refuse_complex(x)
    return np.sign(x), x


_RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any], np.ndarray]] = {
    "a median of three equal numbers": (median, median_back, np.zeros(3)),
    "a median of nine equal numbers": (median, median_back, np.ones(9)),
    "relus at 0, weighed": (_two_layers, _two_layers_back, _ZEROS),
    "a median of equal numbers, and its square": (_bent, _bent_back, np.zeros(3)),
    "relus at 0, weighed, and their tanh": (_two_bent_layers, _two_bent_layers_back, _ZEROS),
    "relus of sums at 0, weighed, and their tanh": (_mixed, _mixed_back, _ZEROS),
    "a sign at 0": (_sign, lambda dy, x: (0 * dy,), np.array([0.0, 1, -2])),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", _RIGHT)
def test_a_right_gradient_at_ties_is_no_failure(name: str, seed: int) -> None:
    forward, backward, x = _RIGHT[name]
    certificate = certificate_of(forward, backward, (x,), seed=seed)
    assert certificate.verdict != "FAIL", certificate


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "name", [name for name in _RIGHT if name.startswith(("a median of t", "a median of n", "rel"))]
)
def test_ties_do_not_hide_a_gradient_that_is_wrong_everywhere(name: str, seed: int) -> None:
    forward, backward, x = _RIGHT[name]
    x = x + np.arange(x.size).reshape(x.shape) / 4 - 1 if "tanh" in name else x
    certificate = certificate_of(forward, lambda dy, cache: (2 * backward(dy, cache)[0],), (x,), seed=seed)
    assert certificate.verdict == "FAIL", certificate


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a median of three equal numbers", "break the ties"),
        ("relus at 0, weighed, and their tanh", "PASS"),  # each entry lies between its own one-sided slopes
        ("relus of sums at 0, weighed, and their tanh", "take arrays off them"),
        ("a sign at 0", "move x off the jump"),
    ],
)
def test_the_certificate_says_what_ties_leave_open(name: str, message: str) -> None:
    forward, backward, x = _RIGHT[name]
    assert message in str(certificate_of(forward, backward, (x,), seed=0))


def test_a_difference_of_relus_that_is_linear_must_have_slope_one_at_zero() -> None:
    """relu(x) - relu(-x) is x, with slope 1. The chain rule with relu'(0) = 0 claims 0."""

    def forward(x: np.ndarray) -> tuple[Any, Any]:
        refuse_complex(x)
        return np.maximum(x, 0) - np.maximum(-x, 0), x

    certificate = certificate_of(
        forward,
        lambda dy, x: (dy * (x != 0),),
        (np.array([0.0, 1, -2]),),
        structure="piecewise-linear",
        seed=0,
    )
    assert certificate.verdict == "FAIL", certificate


def _largest_of_pairs(x: np.ndarray) -> tuple[Any, Any]:
    refuse_complex(x)
    return x.max(axis=1), x


@pytest.mark.parametrize("seed", range(8))
def test_rewarding_every_tie_of_many_maxima_in_float32_fails(seed: int) -> None:
    """A step may meet another tie in the few bits of float32. That difference is no slope."""
    x = np.repeat(np.random.default_rng(seed).normal(size=(400, 1)), 2, axis=1).astype(np.float32)
    every_tie = certificate_of(
        _largest_of_pairs,
        lambda dy, x: ((dy[:, None] * (x == x.max(axis=1, keepdims=True))).astype(x.dtype),),
        (x,),
        seed=seed,
    )
    assert every_tie.verdict == "FAIL", every_tie


def _relu_with(at_zero: float) -> Callable[..., Any]:
    return lambda dy, x: (dy * np.where(x > 0, 1, np.where(x < 0, 0, at_zero)),)


def _relu(x: np.ndarray) -> tuple[Any, Any]:
    refuse_complex(x)
    return np.maximum(x, 0), x


@pytest.mark.parametrize("zeros", [3, 30, 100])
@pytest.mark.parametrize(
    ("at_zero", "verdict"), [(2, "FAIL"), (-1, "FAIL"), (-0.25, "FAIL"), (1.001, "FAIL"), (0.5, "PASS"), (1, "PASS")]
)
def test_wrong_claims_at_many_ties_do_not_cancel(at_zero: float, verdict: str, zeros: int) -> None:
    for seed in range(8):
        certificate = certificate_of(_relu, _relu_with(at_zero), (np.zeros(zeros),), seed=seed)
        assert certificate.verdict == verdict, certificate


@pytest.mark.parametrize("seed", range(4))
def test_one_entry_that_claims_too_much_at_a_tie_does_not_hide_among_others(seed: int) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        dx = dy * (x > 0)
        dx[7] += 2 * dy[7] * (x[7] == 0)
        return (dx,)

    assert certificate_of(_relu, backward, (np.zeros(40),), seed=seed).verdict == "FAIL"


@pytest.mark.parametrize("seed", range(4))
def test_a_claim_of_one_among_equal_numbers_does_not_hide_among_others(seed: int) -> None:
    """Of one pair the first claims 3 times dy, and the second -2 times. Only alone do these lie outside 0 and 1."""

    def backward(dy: np.ndarray, x: np.ndarray, off: float = 2.0) -> tuple[np.ndarray]:
        dx = dy[:, None] * (np.arange(2) == x.argmax(axis=1, keepdims=True))
        dx[7] += off * dy[7] * np.array([1, -1]) * (x[7, 0] == x[7, 1])
        return (dx,)

    x = np.repeat(np.arange(1.0, 31)[:, None], 2, axis=1)
    assert certificate_of(_largest_of_pairs, backward, (x,), seed=seed).verdict == "FAIL"
    assert certificate_of(_largest_of_pairs, lambda dy, x: backward(dy, x, -0.5), (x,), seed=seed).verdict == "PASS"


def test_the_certificate_says_how_many_ties_were_checked_alone() -> None:
    message = "of 100 entries at ties or 0, 64 were asked alone"
    assert message in str(gradcheck(_relu, _relu_with(0), (np.zeros(100),), seed=0))
    assert "asked alone" not in str(gradcheck(_relu, _relu_with(0), (np.zeros(40),), seed=0))
