"""Objections of steps: differences that jump over what they should see accuse nobody, and excuse no error."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from helpers import SEEDS, certificate_of, drawn, elu, refuse_complex, relu, relu_back
from objection_rows import (
    Layer,
    Row,
    Table,
    all_rows,
    check_excuses_no_error,
    check_necessary,
    rows_with_a_right_layer,
    times,
)


def shrunk(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0.0)), x


@SEEDS
def test_a_dead_zone_excuses_no_gradient_outside_it(seed: int) -> None:
    x = 2 * drawn(seed, 4, 6)

    def verdict(backward: Any) -> str:
        return certificate_of(shrunk, backward, (x,), seed=seed).verdict

    assert verdict(lambda dy, x: (dy * (abs(x) > 0.5),)) == "PASS"
    assert verdict(lambda dy, x: (dy * (x > 0.5),)) == "FAIL"
    assert verdict(lambda dy, x: (dy * (abs(x) > 0.5) / 2,)) == "FAIL"
    assert verdict(lambda dy, x: (dy * (abs(x) > 0.5) * (1 + 1e-6 * (x == x.max())),)) == "FAIL"
    # Either the gradient is wrong where y is flat, or the function ignores short steps.
    assert verdict(lambda dy, x: (dy,)) != "PASS"


@SEEDS
def test_a_function_that_rounds_its_argument_has_no_dead_zone(seed: int) -> None:
    x = drawn(seed, 4, 6)
    certificate = certificate_of(lambda x: (np.rint(x * 64) / 64, x), lambda dy, _: (dy,), (x,), seed=seed)
    assert certificate.verdict == "INCONCLUSIVE", certificate


@SEEDS
def test_a_grid_in_a_part_of_y_accuses_nobody_and_excuses_no_gradient_of_the_rest(seed: int) -> None:
    def forward(x: Any) -> Any:
        return np.concatenate([np.rint(x[:3] * 2.0**12) / 2.0**12, np.sin(x[3:])]), x

    def backward(dy: Any, x: Any, error: float = 0.0) -> Any:
        dx = np.concatenate([dy[:3], dy[3:] * np.cos(x[3:])])
        dx[4] *= 1 + error
        return (dx,)

    right, wrong = (
        certificate_of(forward, partial(backward, error=error), (drawn(seed, 8),), structure="smooth", seed=seed)
        for error in (0.0, 1e-6)
    )
    assert right.verdict == "INCONCLUSIVE", right  # the slopes of the grid are 0 or nothing
    assert wrong.verdict == "FAIL", wrong


def rows_of_length_1(x: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return the rows of x, scaled to length 1, as PyTorch's normalize does. Near a row of zeros the slope is 1e12."""
    refuse_complex(x)
    length = np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-12)
    return x / length, (x / length, length)


def rows_of_length_1_back(dy: np.ndarray, cache: Any, at_zero: float = 1.0) -> tuple[np.ndarray]:
    y, length = cache
    along = (dy * y).sum(1, keepdims=True)
    return ((dy - y * along) / length * np.where(length > 1e-12, 1.0, at_zero),)


@SEEDS
def test_a_slope_that_only_the_shortest_step_shows_is_no_failure(seed: int) -> None:
    x = drawn(seed, 4, 5)
    x[2] = 0
    certificate = certificate_of(rows_of_length_1, rows_of_length_1_back, (x,), seed=seed)
    assert certificate.verdict == "INCONCLUSIVE", certificate
    assert "changes too fast beside x[2, " in certificate.arguments[0].note
    # A claim that no step shows is wrong.
    for off in (-1.0, 1e-5):
        back = partial(rows_of_length_1_back, at_zero=off)
        wrong = certificate_of(rows_of_length_1, back, (x,), seed=seed)
        assert wrong.verdict == "FAIL", wrong


def _half(x: np.ndarray) -> tuple[Any, Any]:
    """Return tanh(x) in half precision. Short steps do not move it."""
    return np.tanh(x.real.astype(np.float16)).astype(x.dtype), x


def _half_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy * (1 - np.tanh(x) ** 2),)


def _relu_of_complex(x: np.ndarray) -> tuple[Any, Any]:
    return np.where(x.real > 0, x, 0), x


def _sine_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy * np.cos(x),)


def _on_a_grid(x: np.ndarray) -> tuple[Any, Any]:
    return np.rint(x * 64) / 64, x


def _square_of_single(x: np.ndarray) -> tuple[Any, Any]:
    """Return the squares, rounded to float32."""
    return (x * x).real.astype(np.float32).astype(x.dtype), x


def _single_branch(x: np.ndarray) -> tuple[Any, Any]:
    """Return x plus its sine, which is in float32: a branch beside a residual connection."""
    refuse_complex(x)
    return x + (10 + np.sin(x)).astype(np.float32), x


def _square_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (2 * dy * x,)


def _elu_back(dy: np.ndarray, x: np.ndarray, at_zero: float = 1.0) -> tuple[np.ndarray]:
    return (dy * np.where(x == 0, at_zero, np.where(x > 0, 1.0, 2 * np.exp(x))),)


_WEIGHTS = np.array([1.0, -1, 2, -3])
_MIXING = np.array([[1.0, 1, -1, 2], [1, -1, 3, 1], [2, 1, 1, -1], [-1, 1, 1, 1]])


def _mixed(x: np.ndarray) -> tuple[Any, Any]:
    """Return the tanh of weighed relus of sums. A step of one entry meets the kinks of all."""
    refuse_complex(x)
    return np.tanh(np.maximum(x @ _MIXING, 0) @ _WEIGHTS / 3), x


def _mixed_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    y, _ = _mixed(x)
    return (((dy * (1 - y * y) / 3)[:, None] * _WEIGHTS * (x @ _MIXING > 0)) @ _MIXING.T,)


def _with_a_row_of_zeros() -> np.ndarray:
    x = drawn(0, 4, 5)
    x[2] = 0
    return x


_ONE_ZERO = np.array([0.0, 1, -2])
_EIGHTHS = np.rint(16 * drawn(0, 2)) / 16


def _with_a_bump(x: np.ndarray) -> tuple[Any, Any]:
    """Return x, and a bump a hundredth wide."""
    refuse_complex(x)
    return x + np.exp(-((100 * x) ** 2)), x


def _bump_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy * (1 - 2e4 * x * np.exp(-((100 * x) ** 2))),)


_ONE_LARGE = np.concatenate([[100.0], 0.1 * drawn(0, 11)])
ROWS: Table = {
    ("steps.insensitive", "piecewise-linear"): Row(
        right=Layer(_half, _half_back, (_EIGHTHS,)),
        wrong=Layer(relu, relu_back(2), (_ONE_ZERO,)),
    ),
    ("steps.insensitive", "piecewise-multilinear"): Row(
        right=Layer(_half, _half_back, (_EIGHTHS,)),
        wrong=Layer(_relu_of_complex, times(2, relu_back(0)), (_ONE_ZERO,)),
    ),
    ("steps.differences_agree", "analytic"): Row(
        right=Layer(_half, _half_back, (_EIGHTHS,)),
        wrong=Layer(lambda x: (np.sin(x), x), times(1 + 1e-6, _sine_back), (drawn(0, 4),)),
    ),
    ("steps.long_steps_agree", "smooth"): Row(
        right=Layer(_single_branch, lambda dy, x: (dy * (1 + np.cos(x)),), (drawn(3, 3, 4),)),
        wrong=Layer(_single_branch, lambda dy, x: (2 * dy * (1 + np.cos(x)),), (drawn(3, 3, 4),)),
        seeds=range(6),
    ),
    ("steps.short_steps_agree", "smooth"): Row(
        right=Layer(_with_a_bump, _bump_back, (_ONE_LARGE,)),
        wrong=Layer(_with_a_bump, times(1.01, _bump_back), (_ONE_LARGE,)),
    ),
    ("steps.plateaus", "smooth"): Row(
        right=Layer(_on_a_grid, lambda dy, _: (dy.copy(),), (drawn(0, 4, 6),)),
        wrong=Layer(shrunk, lambda dy, x: (dy * (np.abs(x) > 0.5) / 2,), (2 * drawn(0, 4, 6),)),
        seeds=range(2),
    ),
    # More than 64 entries are at kinks.
    ("steps.too_many", "smooth"): Row(
        right=Layer(elu, _elu_back, (np.zeros(70),)),
        wrong=Layer(elu, partial(_elu_back, at_zero=2.1), (np.zeros(4),)),
        seeds=range(1),
    ),
    ("steps.irregular", "smooth"): Row(
        right=Layer(_mixed, _mixed_back, (np.zeros((3, 4)),)),
        wrong=Layer(elu, partial(_elu_back, at_zero=2.1), (np.zeros(4),)),
        seeds=range(2),
    ),
    ("steps.too_steep", "smooth"): Row(
        right=Layer(rows_of_length_1, rows_of_length_1_back, (_with_a_row_of_zeros(),)),
        wrong=Layer(rows_of_length_1, partial(rows_of_length_1_back, at_zero=-1.0), (_with_a_row_of_zeros(),)),
        seeds=range(3),
    ),
}


@pytest.mark.parametrize(("name", "structure", "row"), rows_with_a_right_layer(ROWS))
def test_a_right_gradient_fails_without_the_objection(name: str, structure: str, row: Row) -> None:
    check_necessary(name, structure, row)


@pytest.mark.parametrize(("name", "structure", "row"), all_rows(ROWS))
def test_the_objection_does_not_excuse_a_wrong_gradient(name: str, structure: str, row: Row) -> None:
    check_excuses_no_error(name, structure, row)
