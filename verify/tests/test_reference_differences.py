"""The reference of extrapolated differences: steps of the right length, and noise that decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.calibrate import sabotage
from benchmarks.calibrate.zoo import ZOO
from helpers import SEEDS, certificate_of, drawn, normalised, normalised_back, refuse_complex
from verify.checker.arguments import layer_under_test
from verify.checker.extrapolation import MOST_LEVELS, Estimate, Ladder, short_estimate
from verify.checker.kink_search import KinkSearch
from verify.checker.line import Line
from verify.checker.reference import point_at


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


def _line(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> Line:
    """A function along (1, ..., 1), with 1 upstream."""
    layer = layer_under_test(lambda x: (function(x), x), lambda dy, x: (0 * x,), (x,), None, None)
    return Line(point_at(layer, layer.arrays, np.ones_like), 0, np.ones_like(x))


def test_a_function_that_is_infinite_on_both_sides_has_no_slope_and_no_warning() -> None:
    ladder = Ladder(_line(lambda x: np.where(x == 0, 0, np.inf), np.zeros(2)))
    assert not np.isfinite(ladder.estimate().value)


def test_flat_is_what_long_steps_moved_by_more_than_rounding_and_short_ones_do_not() -> None:
    def function(x: np.ndarray) -> np.ndarray:
        never, always, dead_zone = 0 * x, x, np.maximum(x - 0.01, 0)
        by_rounding = 1 + 1e-15 * (x > 0.01)
        return np.concatenate([never, always, dead_zone, by_rounding])

    ladder = Ladder(_line(function, np.zeros(1)))
    ladder.extend(14)
    assert ladder.flat.tolist() == [False, False, True, False]


@pytest.mark.parametrize("function", [np.sin, np.exp])
def test_three_steps_that_served_elsewhere_give_the_slope_and_its_error(function: Any) -> None:
    """Errors of central differences have even powers alone. With odd ones the error was 1e-3, and is below 2e-7."""
    line = _line(function, drawn(0, 4))
    known = Ladder(line).estimate()
    found = short_estimate(line, known)
    assert abs(found.value - known.value) <= found.error + known.error
    assert found.error <= 1e-5 * abs(found.value)


@pytest.mark.parametrize("function", [np.sin, np.exp, np.square])
def test_a_smooth_function_takes_few_steps(function: Any) -> None:
    ladder = Ladder(_line(function, drawn(0, 4)))
    found = ladder.estimate()
    assert found.error <= 1e-8 * abs(found.value)
    assert len(ladder.steps) < MOST_LEVELS / 2


@pytest.mark.parametrize(
    ("function", "regular"),
    [
        (lambda x: np.abs(x), True),
        # At 0 it is 0 along either axis. Beside it the slope along the first is 2 or -2 wherever |x[1]| > |x[0]|.
        (lambda x: np.abs(x[:1] + x[1:]) - np.abs(x[:1] - x[1:]), False),
        # Along the first axis the slope is 0 off the jump. A difference across that is no slope.
        (lambda x: x[1:] * (x[:1] > 0), True),
    ],
    ids=["absolute values", "a difference of two", "a jump"],
)
def test_a_function_is_regular_if_slopes_off_its_kinks_lie_between_those_at_them(
    function: Callable[[np.ndarray], np.ndarray], regular: bool
) -> None:
    line = _line(function, np.zeros(2))
    search = KinkSearch(line.point, 0, Estimate(0.0, 0.0, level=5, noise=0.0))
    for seed in range(8):
        assert search.is_regular([0], line.v, np.random.default_rng(seed)) is regular


@SEEDS
@pytest.mark.parametrize(
    ("forward", "dtype", "text"),
    [
        # The sine of 10^18 x makes noise of the last bits of x.
        (lambda x: (np.sin(x) + 1e-6 * np.sin(1e18 * x), x), np.float64, "let the forward compute in float64"),
        (lambda x: (1e10 + np.sin(x), x), np.float64, "away from kinks and poles, of moderate size"),
        (lambda x: (np.sin(x).astype(np.float16), x), np.float64, "y is float16, too coarse for differences"),
    ],
    ids=["noise", "rounding", "float16"],
)
def test_the_certificate_says_what_makes_differences_coarse(
    forward: Callable[..., Any], dtype: type[np.floating], text: str, seed: int
) -> None:
    x: Any = drawn(0, 5).astype(dtype)
    certificate = certificate_of(forward, lambda dy, x: (dy * np.cos(x),), (x,), structure="smooth", seed=seed)
    assert certificate.verdict == "INCONCLUSIVE"
    assert text in certificate.arguments[0].note


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray([math.erf(each) for each in x])


_LARGE = [-4.827, -7.58, -1.54, -1.97, -4.146, -5.42, -4.784, -4.15, 7.38, 5.576, -8.316, 4.178, 2.05, -4.076]
_LARGE += [-3.06, -3.34, -5.44, 4.48, 2.685]


@pytest.mark.parametrize(
    ("forward", "slope", "x"),
    [
        (lambda x: (1 + _erf(x / 2**0.5)) / 2, lambda x: np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5, [-0.605, *_LARGE]),
        (lambda x: 1 + _erf(x), lambda x: 2 * np.exp(-(x**2)) / np.pi**0.5, [-0.43, *(0.7 * np.array(_LARGE))]),
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2, [0.3, 21.0, -1.5, 18.0, 40.0, -2.0, 0.9]),
    ],
    ids=["normal", "erf", "tanh"],
)
def test_entries_that_have_saturated_hide_no_small_error_of_the_others(forward: Any, slope: Any, x: Any) -> None:
    # Long steps leave the plateau, at which short ones do not move y: they are too coarse for an error of 1e-6.
    def backward(dy: np.ndarray, x: np.ndarray, error: float = 1e-6) -> Any:
        dx = dy * slope(x)
        dx[0] *= 1 + error
        return (dx,)

    for seed in range(12):
        given: Any = {"arrays": (np.array(x),), "structure": "smooth", "seed": seed}
        right = certificate_of(lambda x: (forward(x), x), partial(backward, error=0.0), **given)
        assert right.verdict == "PASS"
        wrong = certificate_of(lambda x: (forward(x), x), backward, **given)
        assert (wrong.verdict, wrong.worst and wrong.worst.index) == ("FAIL", (0,))


@pytest.mark.parametrize("seed", [0, 3])
def test_long_steps_that_leave_a_grid_do_not_pass_what_is_wrong_off_it(seed: int) -> None:
    """Three entries lie on a grid of 2^-24: only long steps move them, and these are too coarse for the others."""

    def forward(x: Any) -> Any:
        return np.concatenate([np.rint(x[:3] * 2.0**24) / 2.0**24, np.sin(x[3:])]), x

    def backward(dy: Any, x: Any, error: float = 0.0) -> Any:
        dx = np.concatenate([dy[:3], dy[3:] * np.cos(x[3:])])
        dx[4] *= 1 + error
        return (dx,)

    given: Any = {"arrays": (drawn(seed, 8),), "structure": "smooth", "seed": seed}
    right = certificate_of(forward, backward, **given)
    assert right.verdict == "PASS"
    assert right.detection_floor is not None
    error = right.detection_floor / 100
    found = certificate_of(forward, partial(backward, error=error), **given)
    assert found.verdict == "INCONCLUSIVE"
    assert "the differences at long steps agree with the gradient" in found.arguments[0].note
