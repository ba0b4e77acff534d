"""The worst entry: the one that is off by more than its tolerance, with both values."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from helpers import SEEDS, certificate_of, drawn, refuse_complex
from verify import Certificate
from verify.checker.certificate import ArgumentResult
from verify.checker.point import Worst


def grown(off: float, seed: int) -> Certificate:
    """Check exp(3 x) with a gradient that is off by the same factor everywhere."""

    def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        refuse_complex(x)
        return np.exp(3 * x), x

    return certificate_of(forward, lambda dy, x: (3 * dy * np.exp(3 * x) * (1 + off),), (drawn(seed, 16),), seed=seed)


@SEEDS
@pytest.mark.parametrize("off", [3e-10, 1e-9, 1e-8])
def test_the_worst_entry_is_off_by_more_than_its_tolerance(off: float, seed: int) -> None:
    worst = grown(off, seed).worst
    assert worst is not None
    assert abs(worst.analytic - worst.numeric) > worst.tolerance


def test_an_error_below_each_entrys_tolerance_is_reported_as_one_of_all() -> None:
    """The entry is named all the same: that it is right is not said."""
    worst = Worst(0, (3,), 1.0 + 1e-9, 1.0, 1e-8)
    note = "off by 2e-08 along a random direction, where 1e-08 is tolerated"
    result = ArgumentResult(0, "x", (5,), "FAIL", 1e-9, 1e-8, worst=worst, note=note)
    certificate = Certificate("FAIL", "smooth", "differences", 0, (result,))
    assert "worst entry dx[3]" in str(certificate)
    assert "no entry" not in str(certificate)
    assert re.match(
        r"FAIL: dx is wrong: off by \S+ along a random direction, where \S+ is tolerated$", certificate.headline
    )


def test_a_wrong_entry_in_float32_is_shown_beside_the_right_value() -> None:
    x = np.array([1, 2, 3], np.float32)

    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (2 * x * dy * np.array([1, 1, 2], np.float32),)

    worst = certificate_of(lambda x: (x * x, x), backward, (x,), seed=0).worst
    assert worst is not None
    assert worst.analytic == pytest.approx(2 * worst.numeric, rel=1e-6)  # a few roundings of a float32, 6e-8 each
