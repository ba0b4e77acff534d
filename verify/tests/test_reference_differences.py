"""The reference of extrapolated differences: steps of the right length, and noise that decides nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.calibrate import sabotage
from benchmarks.calibrate.zoo import ZOO
from helpers import SEEDS, certificate_of, drawn, normalised, normalised_back, refuse_complex


@SEEDS
def test_noisy_differences_do_not_overrule_the_complex_step(seed: int) -> None:
    x = 1e8 + drawn(seed, 8, 4)

    def backward(dy: np.ndarray, cache: Any, factor: float = 1.0) -> tuple[np.ndarray]:
        return (factor * normalised_back(dy, cache)[0],)

    def of_x(x: np.ndarray) -> tuple[np.ndarray, Any]:
        return normalised(x, np.zeros(4))

    assert certificate_of(of_x, backward, (x,), seed=seed).verdict != "FAIL"  # eight digits are left
    assert certificate_of(of_x, backward, (x - 9e7,), seed=seed).verdict == "PASS"
    assert certificate_of(of_x, lambda dy, c: backward(dy, c, 1.1), (x,), seed=seed).verdict == "FAIL"


@SEEDS
def test_differences_of_an_ill_conditioned_inverse_are_no_failure(seed: int) -> None:
    left, right = (np.linalg.qr(drawn(seed + each, 6, 6))[0] for each in (0, 9))
    x = left * np.logspace(0, -11, 6) @ right

    def inverse(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.linalg.inv(x)
        return y, y

    assert certificate_of(inverse, lambda dy, y: (-y.T @ dy @ y.T,), (x,), seed=seed).verdict != "FAIL"


@SEEDS
def test_one_large_entry_does_not_lengthen_the_steps_of_others(seed: int) -> None:
    x = np.append(drawn(seed, 299), 1e9)

    def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        refuse_complex(x)
        return x + np.tanh(x), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * (2 - np.tanh(x) ** 2),)

    assert certificate_of(forward, backward, (x,), seed=seed, structure="smooth").verdict != "FAIL"


def large_loss(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    refuse_complex(x)
    return np.asarray(x.dtype.type(1e5) + np.sin(x).sum(dtype=x.dtype)), x


def beside_large(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    refuse_complex(x)
    return np.concatenate([[1e12], np.sin(x)]), x


@SEEDS
@pytest.mark.parametrize("factor", [0, -1, 1.01])
def test_a_large_number_in_y_hides_no_dependence_on_x(factor: float, seed: int) -> None:
    x = drawn(seed, 4)
    single = x.astype(np.float32)
    wrong = certificate_of(large_loss, lambda dy, x: (np.float32(factor) * dy * np.cos(x),), (single,), seed=seed)
    assert wrong.verdict != "PASS", wrong
    wrong = certificate_of(beside_large, lambda dy, x: (factor * dy[1:] * np.cos(x),), (x,), seed=seed)
    assert wrong.verdict != "PASS", wrong

    def hardly_moving(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 1 + 1e-13 * np.sin(x), x

    small = certificate_of(hardly_moving, lambda dy, x: (0 * dy,), (x,), seed=seed, structure="smooth")
    assert small.verdict != "PASS", small


@pytest.mark.parametrize("seed", [764, 1064])
def test_a_fast_function_rounded_to_a_grid_is_no_failure(seed: int) -> None:
    verdict, _ = sabotage.check(ZOO[seed % len(ZOO)], "step-blind", seed)
    assert verdict != "FAIL"
