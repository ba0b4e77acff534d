"""Ties and jumps of functions that are neither convex nor concave: one-sided derivatives do not judge them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import certificate_of
from verify import gradcheck
from verify.checker.certificate import StructureError

_ZEROS = np.zeros((3, 4))
_SIGNS = np.array([1.0, -1, 2, -3])


def _median(x: np.ndarray) -> tuple[Any, Any]:
    """Of an odd number of entries, and which it is: of complex ones, a sort goes by both parts."""
    index = np.argsort(x, kind="stable")[len(x) // 2]
    return x[index], (index, len(x))


def _median_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    index, length = cache
    return (dy * (np.arange(length) == index),)


def _real(x: np.ndarray) -> None:
    if np.iscomplexobj(x):
        raise TypeError("real numbers only")


def _two_layers(x: np.ndarray) -> tuple[Any, Any]:
    """A relu, then weights of either sign, as in any network, without complex numbers."""
    _real(x)
    return np.maximum(x, 0) @ _SIGNS, x


def _two_layers_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy[:, None] * _SIGNS * (x > 0),)


def _bent(x: np.ndarray) -> tuple[Any, Any]:
    y, cache = _median(x)
    return y * y + y, (y, *cache)


def _bent_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    return _median_back(dy * (2 * cache[0] + 1), cache[1:])


def _two_bent_layers(x: np.ndarray) -> tuple[Any, Any]:
    # Of thirds no sum is exact.
    return np.tanh(_two_layers(x)[0] / 3), x


def _two_bent_layers_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    y = np.tanh(_two_layers(x)[0] / 3)
    return _two_layers_back(dy * (1 - y * y) / 3, x)


def _mixed(x: np.ndarray) -> tuple[Any, Any]:
    """A relu of sums and differences: along one entry, all of them have their kinks."""
    y, _ = _two_bent_layers(x @ _MIXING)
    return y, x


def _mixed_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (_two_bent_layers_back(dy, x @ _MIXING)[0] @ _MIXING.T,)


def _exponential(x: np.ndarray) -> tuple[Any, Any]:
    return np.exp(x), np.exp(x)


def _lenient_sign(x: np.ndarray) -> tuple[Any, Any]:
    """By the real part."""
    return np.sign(x.real) + 0 * x, x


def _largest_of_pairs(x: np.ndarray) -> tuple[Any, Any]:
    _real(x)
    return x.max(axis=1), x


def _sign(x: np.ndarray) -> tuple[Any, Any]:
    _real(x)
    return np.sign(x), x


_MIXING = np.array([[1.0, 1, -1, 2], [1, -1, 3, 1], [2, 1, 1, -1], [-1, 1, 1, 1]])
_RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any], np.ndarray]] = {
    "a median of three equal numbers": (_median, _median_back, np.zeros(3)),
    "a median of nine equal numbers": (_median, _median_back, np.ones(9)),
    "relus at 0, weighed": (_two_layers, _two_layers_back, _ZEROS),
    "a median of equal numbers, and its square": (_bent, _bent_back, np.zeros(3)),
    "relus at 0, weighed, and their tanh": (_two_bent_layers, _two_bent_layers_back, _ZEROS),
    "relus of sums at 0, weighed, and their tanh": (_mixed, _mixed_back, _ZEROS),
    "a sign at 0": (_sign, lambda dy, x: (0 * dy,), np.array([0.0, 1, -2])),
}

_OPEN = ("a median of equal numbers, and its square", "a sign at 0")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", _RIGHT)
def test_a_right_gradient_is_not_called_wrong_at_ties(name: str, seed: int) -> None:
    forward, backward, x = _RIGHT[name]
    certificate = certificate_of(forward, backward, (x,), seed=seed)
    assert certificate.verdict != "FAIL", certificate


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "name", [name for name in _RIGHT if name.startswith(("a median of t", "a median of n", "rel"))]
)
def test_what_is_wrong_everywhere_does_not_hide_behind_ties(name: str, seed: int) -> None:
    forward, backward, x = _RIGHT[name]
    x = x + np.arange(x.size).reshape(x.shape) / 4 - 1 if "tanh" in name else x
    certificate = certificate_of(forward, lambda dy, cache: (2 * backward(dy, cache)[0],), (x,), seed=seed)
    assert certificate.verdict == "FAIL", certificate


def test_a_relu_less_another_is_judged_where_one_sided_derivatives_are_one() -> None:
    """relu(x) - relu(-x) is x, with derivative 1; relu'(0) = 0 makes 0 of it."""

    def forward(x: np.ndarray) -> tuple[Any, Any]:
        _real(x)
        return np.maximum(x, 0) - np.maximum(-x, 0), x

    certificate = certificate_of(
        forward,
        lambda dy, x: (dy * (x != 0),),
        (np.array([0.0, 1, -2]),),
        structure="piecewise-linear",
        seed=0,
    )
    assert certificate.verdict == "FAIL", certificate


@pytest.mark.parametrize("seed", range(4))
def test_a_branch_that_complex_numbers_show_is_believed_where_one_sided_derivatives_do_not_tell(seed: int) -> None:
    x = np.array([0.0, 1, -2])
    assert gradcheck(_lenient_sign, lambda dy, x: (0 * dy,), (x,), seed=seed).structure == "piecewise-linear"


# With seeds 0 and 1 both directions meet the entry that the forward takes.
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_sort_by_imaginary_parts_is_no_branch(seed: int) -> None:
    with pytest.raises(StructureError, match="a tie at these arrays: the complex step in x is not linear"):
        gradcheck(_median, _median_back, (np.zeros(3),), structure="piecewise-multilinear", seed=seed)


def test_a_slope_that_is_no_number_is_no_tie() -> None:
    """That of a square root at 0: twice the way is not twice as far."""
    with np.errstate(all="ignore"):
        certificate = certificate_of(
            lambda x: (np.sqrt(x), x),
            lambda dy, x: (dy / np.sqrt(np.where(x == 0, 1, x)),),
            (np.array([0.0, 1, 2]),),
            seed=0,
        )
    assert certificate.verdict == "FAIL", certificate


@pytest.mark.parametrize("seed", range(8))
def test_ties_of_many_maxima_in_float32_are_judged(seed: int) -> None:
    """Beside them a direction may meet another tie in float32's few bits: that is no slope."""
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
    _real(x)
    return np.maximum(x, 0), x


@pytest.mark.parametrize("zeros", [3, 30, 100])
@pytest.mark.parametrize(
    ("at_zero", "verdict"), [(2, "FAIL"), (-1, "FAIL"), (-0.25, "FAIL"), (1.001, "FAIL"), (0.5, "PASS"), (1, "PASS")]
)
def test_however_many_ties_there_are_nothing_claimed_cancels(at_zero: float, verdict: str, zeros: int) -> None:
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


def test_of_how_many_ties_how_few_were_asked_alone_is_said() -> None:
    told = "of 100 entries at ties or 0, 64 were asked alone"
    assert told in str(gradcheck(_relu, _relu_with(0), (np.zeros(100),), seed=0))
    assert "asked alone" not in str(gradcheck(_relu, _relu_with(0), (np.zeros(40),), seed=0))


def _normalised(x: np.ndarray) -> tuple[Any, Any]:
    """Layer normalisation, then relu: every entry moves the one that is at 0."""
    _real(x)
    centred = x - x.mean()
    scale = 1 / np.sqrt((centred * centred).mean())
    return np.maximum(centred * scale, 0).astype(x.dtype), (centred * scale, scale)


def _normalised_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    y, scale = cache
    passed = dy * (y > 0)
    return ((scale * (passed - passed.mean() - y * (passed * y).mean())).astype(dy.dtype),)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kink_that_float32_hardly_shows_convicts_nobody(dtype: type, seed: int) -> None:
    x: Any = np.array([0.0, 2, -1, -1]).astype(dtype)
    certificate = certificate_of(_normalised, _normalised_back, (x,), seed=seed)
    assert certificate.verdict == ("PASS" if dtype == np.float64 else "INCONCLUSIVE"), certificate


@pytest.mark.parametrize("seed", range(4))
def test_a_zone_of_moderate_numbers_in_which_no_array_lies_is_visited(seed: int) -> None:
    def clipped(x: np.ndarray) -> tuple[Any, Any]:
        return np.clip(x, -1, 1), x

    x = np.array([3.0, -2])
    assert gradcheck(clipped, lambda dy, x: (dy * (np.abs(x) <= 1),), (x,), seed=seed).structure == "piecewise-linear"
    wrong = certificate_of(clipped, lambda dy, x: (2 * dy * (np.abs(x) <= 1),), (x,), seed=seed)
    assert wrong.verdict == "FAIL", wrong


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a median of three equal numbers", "break the ties"),
        ("relus at 0, weighed, and their tanh", "PASS"),  # each entry lies between its own one-sided derivatives
        ("relus of sums at 0, weighed, and their tanh", "take arrays off them"),
        ("a sign at 0", "move x off the jump"),
    ],
)
def test_what_ties_leave_open_is_said(name: str, told: str) -> None:
    forward, backward, x = _RIGHT[name]
    assert told in str(certificate_of(forward, backward, (x,), seed=0))


# The last eight are of what two trials took for multilinear.
@pytest.mark.parametrize("seed", [*range(16), 87, 121, 144, 155, 169, 213, 262, 279])
@pytest.mark.parametrize("reduce", [np.median, np.max, np.min])
def test_a_gradient_for_one_order_of_a_few_numbers_is_never_missed(reduce: Callable[..., Any], seed: int) -> None:
    x = np.array([0.25, -1.5, 0.75])
    entry = int(np.flatnonzero(x == reduce(x))[0])
    certificate = certificate_of(
        lambda x: (reduce(x), x),
        lambda dy, x: (dy * (np.arange(3) == entry),),
        (x,),
        seed=seed,
    )
    assert certificate.verdict == "FAIL", certificate
    assert certificate.structure == "piecewise-linear"


@pytest.mark.parametrize("exponent", [707.9, 709.0])
def test_a_gradient_that_overflows_by_what_is_upstream_alone_is_not_called_wrong(exponent: float) -> None:
    x = np.array([exponent, 1, 2])

    def times(power: int) -> Callable[..., Any]:
        def backward(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
            with np.errstate(over="ignore"):
                return (dy * y**power,)

        return backward

    for structure in ("analytic", "smooth"):
        options: dict[str, Any] = {"structure": structure, "seed": 0, "raise_on_failure": False}
        certificate = gradcheck(_exponential, times(1), (x,), **options)
        assert certificate.verdict == "INCONCLUSIVE"
        assert "overflows" in str(certificate)
        wrong = gradcheck(_exponential, times(2), (x,), **options)
        assert wrong.verdict == "FAIL"
