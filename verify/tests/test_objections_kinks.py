"""Objections at kinks of black boxes: a right gradient there is no failure, and a wrong one is not excused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from helpers import SEEDS, certificate_of, drawn, elu, median, median_back, refuse_complex, relu, relu_back
from objection_rows import (
    Layer,
    Row,
    Table,
    all_rows,
    check_excuses_no_error,
    check_necessary,
    rows_with_a_right_layer,
)
from verify import gradcheck


def _abs_of_floats(x: np.ndarray) -> Any:
    return np.array([0.1 * math.fabs(e) for e in x]), x


@pytest.mark.parametrize("at_zero", [-0.1, 0.03, 0.1])
def test_at_a_kink_of_a_black_box_the_claim_may_lie_between_the_one_sided_derivatives(at_zero: float) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.where(x == 0, at_zero, 0.1 * np.sign(x)),)

    certificate = gradcheck(_abs_of_floats, backward, (np.array([0.0, 1.0, -2.0]),), structure="smooth")
    assert "1 of 3 entries at kinks" in str(certificate)
    assert certificate.detection_floor is not None
    assert certificate.detection_floor < 1e-9  # the floor of the entries that are at no kink


@pytest.mark.parametrize("at_zero", [-0.1001, 0.2])
def test_at_a_kink_of_a_black_box_the_claim_may_not_lie_outside(at_zero: float) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.where(x == 0, at_zero, 0.1 * np.sign(x)),)

    certificate = certificate_of(_abs_of_floats, backward, (np.array([1.0, 0.0, -2.0]),), structure="smooth")
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert certificate.worst.index == (1,)


def test_a_kink_does_not_hide_a_wrong_entry_elsewhere() -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.array([0.1, 0.0, -0.1 - 1e-9]),)

    certificate = certificate_of(_abs_of_floats, backward, (np.array([1.0, 0.0, -2.0]),), structure="smooth")
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert certificate.worst.index == (2,)


@SEEDS
def test_with_every_entry_at_a_kink_no_detection_floor_is_promised(seed: int) -> None:
    def back(at_zero: float) -> Any:
        return lambda dy, x: (dy * np.where(x == 0, at_zero, np.where(x > 0, 1.0, 2 * np.exp(x))),)

    between = certificate_of(elu, back(1.2), (np.zeros((3, 4)),), seed=seed)
    assert between.verdict == "PASS"
    assert between.detection_floor is None
    assert "12 of 12 entries at kinks" in str(between)
    assert "what is caught is said below" in str(between)
    assert certificate_of(elu, back(2.1), (np.zeros((3, 4)),), seed=seed).verdict == "FAIL"
    some = certificate_of(elu, back(1.2), (np.array([0.0, 1.5, -0.7]),), seed=seed)
    assert some.verdict == "PASS"
    assert some.detection_floor is not None


@SEEDS
@pytest.mark.parametrize("slope", [0.1, 0.01])
def test_one_sided_slopes_that_round_are_accepted(slope: float, seed: int) -> None:
    def leaky(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        refuse_complex(x)
        return np.where(x > 0, x, slope * x), x

    def back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * np.where(x > 0, 1, slope),)

    assert certificate_of(leaky, back, (np.zeros((3, 4)),), seed=seed, structure="smooth").verdict == "PASS"


# The one-sided slopes at 0, and function and slope on each side: sin and 2 sinh, and SELU (Klambauer et al. 2017).
# Short steps of SELU round.
BENT: dict[str, Any] = {
    "sin": (1.0, 2.0, np.sin, np.cos, lambda x: 2 * np.sinh(x), lambda x: 2 * np.cosh(x)),
    "selu": (
        1.05,
        1.75,
        lambda x: 1.05 * x,
        lambda x: 1.05 + 0 * x,
        lambda x: 1.75 * np.expm1(x),
        lambda x: 1.75 * np.exp(x),
    ),
}


@SEEDS
@pytest.mark.parametrize("off", [1e-7, -1e-7])
@pytest.mark.parametrize("name", BENT)
def test_a_claim_outside_the_slopes_of_its_kink_fails_though_other_entries_move(
    name: str, off: float, seed: int
) -> None:
    low, high, ahead, slope_ahead, behind, slope_behind = BENT[name]
    x = np.rint(1.5 * drawn(seed + 100, 4, 5))
    place = tuple(np.argwhere(x == 0)[0])

    def forward(x: np.ndarray) -> tuple[np.ndarray, Any]:
        refuse_complex(x)
        return np.where(x > 0, ahead(x), behind(x)), x

    def back(dy: np.ndarray, x: np.ndarray, off: float = off) -> tuple[np.ndarray]:
        slopes = np.where(x > 0, slope_ahead(x), slope_behind(x))
        slopes[place] = high + off if off > 0 else low + off
        return (dy * slopes,)

    wrong = certificate_of(forward, back, (x,), seed=seed)
    assert wrong.verdict == "FAIL", wrong
    right = certificate_of(forward, lambda dy, x: back(dy, x, -off * 1e-5), (x,), seed=seed)
    assert right.verdict == "PASS", right
    known = float(right.arguments[0].note.split(", to ")[1].split()[0])
    assert 0 < known < 1e-7


@SEEDS
@pytest.mark.parametrize(("off", "verdict"), [(0, "INCONCLUSIVE"), (0.01, "INCONCLUSIVE"), (0.1, "FAIL")])
def test_a_kink_known_to_less_than_a_thousandth_is_inconclusive(off: float, verdict: str, seed: int) -> None:
    x = np.rint(1.5 * drawn(seed + 100, 4, 5))

    def forward(x: np.ndarray) -> tuple[np.ndarray, Any]:
        refuse_complex(x)
        return np.where(x > 0, x + np.abs(x) ** 1.2, -np.sin(x)), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        slopes = np.where(x > 0, 1 + 1.2 * np.abs(x) ** 0.2, -np.cos(x))
        slopes[x == 0] = 1 + off
        return (dy * slopes,)

    certificate = certificate_of(forward, backward, (x,), seed=seed)
    assert certificate.verdict == verdict, certificate


@SEEDS
def test_at_a_jump_the_advice_is_to_move_x_not_to_use_float64(seed: int) -> None:
    x = np.rint(drawn(seed, 4, 5))
    x[0] = [2, 2, 0, 1, -1]

    def forward(x: np.ndarray) -> tuple[np.ndarray, Any]:
        first = np.argmax(x, axis=1)[:, None] == np.arange(5)
        return np.where(first, np.sin(x) + np.arange(5), 0).sum(1), (x, first)

    def backward(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
        x, first = cache
        return (dy[:, None] * first * np.cos(x),)

    certificate = certificate_of(forward, backward, (x,), seed=seed)
    assert certificate.verdict == "INCONCLUSIVE", certificate
    assert "move x off the jump" in certificate.arguments[0].note


def _normalised(x: np.ndarray) -> tuple[Any, Any]:
    """Return the relu of a layer normalisation. A step of any entry moves the one that is at 0."""
    refuse_complex(x)
    centred = x - x.mean()
    scale = 1 / np.sqrt((centred * centred).mean())
    return np.maximum(centred * scale, 0).astype(x.dtype), (centred * scale, scale)


def _normalised_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    y, scale = cache
    passed = dy * (y > 0)
    return ((scale * (passed - passed.mean() - y * (passed * y).mean())).astype(dy.dtype),)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kink_that_float32_hardly_shows_is_no_failure(dtype: type, seed: int) -> None:
    x: Any = np.array([0.0, 2, -1, -1]).astype(dtype)
    certificate = certificate_of(_normalised, _normalised_back, (x,), seed=seed)
    assert certificate.verdict == ("PASS" if dtype == np.float64 else "INCONCLUSIVE"), certificate


_ZEROS = np.zeros((3, 4))
_ONE_ZERO = np.array([0.0, 1, -2])


def _weighed(x: np.ndarray) -> tuple[Any, Any]:
    """Return a relu times weights of either sign: neither convex nor concave."""
    refuse_complex(x)
    return np.maximum(x, 0) @ np.array([1.0, -1, 2, -3]), x


def _weighed_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy[:, None] * np.array([1.0, -1, 2, -3]) * (x > 0),)


def _relu_of_complex(x: np.ndarray) -> tuple[Any, Any]:
    return np.where(x.real > 0, x, 0), x


ROWS: Table = {
    # No right gradient is known that needs it: `irregular_at_ties` excuses the sign at 0 as well.
    ("kinks.y_jumps", "piecewise-linear"): Row(
        right=None,
        wrong=Layer(relu, relu_back(2), (_ONE_ZERO,)),
    ),
    ("kinks.irregular_at_ties", "piecewise-linear"): Row(
        right=Layer(_weighed, _weighed_back, (_ZEROS,)),
        wrong=Layer(relu, relu_back(2), (_ONE_ZERO,)),
    ),
    # NumPy sorts equal complex numbers by their imaginary parts.
    ("kinks.many_branches", "piecewise-multilinear"): Row(
        right=Layer(median, median_back, (np.zeros(3),)),
        wrong=Layer(_relu_of_complex, relu_back(1), (_ONE_ZERO,)),
    ),
    ("kinks.many_branches", "analytic"): Row(
        right=Layer(median, median_back, (np.zeros(3),)),
        wrong=Layer(_relu_of_complex, relu_back(1), (_ONE_ZERO,)),
    ),
}


@pytest.mark.parametrize(("name", "structure", "row"), rows_with_a_right_layer(ROWS))
def test_a_right_gradient_fails_without_the_objection(name: str, structure: str, row: Row) -> None:
    check_necessary(name, structure, row)


@pytest.mark.parametrize(("name", "structure", "row"), all_rows(ROWS))
def test_the_objection_does_not_excuse_a_wrong_gradient(name: str, structure: str, row: Row) -> None:
    check_excuses_no_error(name, structure, row)
