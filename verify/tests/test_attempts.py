"""What a verdict covers: arrays like those given, others, zeros and ties, and each gradient beside a broken one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import SEEDS, certificate_of, drawn, refuse_complex
from verify import gradcheck

_Layer = tuple[Callable[..., Any], Callable[..., Any]]


def _prelu(x: np.ndarray, a: np.ndarray) -> tuple[Any, Any]:
    y = np.where(x > 0, x, a * x)
    return y, (x, a, y)


def _prelu_back(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
    x, a, y = cache  # the mask of y is that of x for a > 0
    return np.where(y > 0, dy, a * dy), np.asarray((dy * np.where(y > 0, 0, x)).sum())


def _clip(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[Any, Any]:
    return np.minimum(np.maximum(x, low), high), (x, low, high)


def _clip_back(dy: np.ndarray, cache: Any) -> tuple[Any, Any, Any]:
    x, low, high = cache
    inside = (x > low) & (x < high)
    return dy * inside, np.asarray((dy * (x <= low)).sum()), np.asarray((dy * (x >= high)).sum())


def _level(x: np.ndarray, alpha: np.ndarray) -> tuple[Any, Any]:
    """Return x between 0 and a learned level, as PACT quantises it."""
    return np.where(x < 0, 0, np.where(x < alpha, x, alpha)), (x, alpha)


def _level_back(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
    x, alpha = cache
    return dy * ((x > 0) & (x < alpha)), np.asarray((dy * (x >= alpha)).sum())


def _number(value: float) -> np.ndarray:
    return np.asarray(value)


# Right for arrays like those given, and for no others.
_DOMAINS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "prelu": (_prelu, _prelu_back, (drawn(0, 4, 5), _number(0.25))),
    "clip": (_clip, _clip_back, (drawn(1, 4, 5), _number(-0.3), _number(0.7))),
    "level": (_level, _level_back, (drawn(2, 4, 5), _number(0.7))),
}


@SEEDS
@pytest.mark.parametrize("name", _DOMAINS)
def test_a_layer_that_is_right_in_its_domain_is_not_called_wrong(name: str, seed: int) -> None:
    forward, back, arrays = _DOMAINS[name]
    found = certificate_of(forward, back, arrays, seed=seed)
    assert found.verdict == "INCONCLUSIVE", found
    assert "right at arrays in the order of those given, wrong at others" in str(found)
    # The remedy that it names serves.
    assert certificate_of(forward, back, arrays, structure="smooth", seed=seed)


@pytest.mark.parametrize("name", _DOMAINS)
def test_a_layer_that_is_wrong_at_the_arrays_given_fails(name: str) -> None:
    forward, back, arrays = _DOMAINS[name]
    for position in range(len(arrays)):

        def wrong(dy: np.ndarray, cache: Any, position: int = position) -> Any:
            gradients = list(back(dy, cache))
            gradients[position] = 2 * gradients[position]
            return tuple(gradients)

        assert certificate_of(forward, wrong, arrays, seed=0).verdict == "FAIL"


def test_a_mask_that_was_forgotten_shows_where_the_arrays_given_need_none() -> None:
    found = certificate_of(
        lambda x: (np.maximum(x, 0), x), lambda dy, _: (dy.copy(),), (np.abs(drawn(0, 3, 4)),), seed=0
    )
    assert found.verdict == "INCONCLUSIVE"
    assert "where x[" in str(found)


def test_ties_may_be_broken_either_way() -> None:
    """A relu at zeros, and a maximum of equal numbers: arrays beside those given are like them."""
    halved = certificate_of(
        lambda x: (np.maximum(x, 0), x), lambda dy, x: (dy * (x > 0) / 2,), (np.zeros((3, 4)),), seed=0
    )
    assert halved.verdict == "FAIL"


# Multilinear layers with a backward that is wrong where entries are 0 or equal: forward, right and wrong backward.
def _masked(x: np.ndarray, mask: np.ndarray) -> tuple[Any, Any]:
    return x * mask, (x, mask)


def _by_quotient(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
    x, mask = cache
    with np.errstate(all="ignore"):
        return np.nan_to_num(dy * (x * mask) / x), dy * x


_SPARSE = np.where(drawn(0, 4, 5) > 0, np.rint(4 * drawn(0, 4, 5)), 0.0)
_TIED = np.array([1.0, 1, 2, 3, 3])
_AT_ZEROS_AND_TIES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], Any, Any]] = {
    "dropout by a quotient": (
        _masked,
        lambda dy, c: (dy * c[1], dy * c[0]),
        _by_quotient,
        (_SPARSE, (drawn(1, 4, 5) > 0) * 2.0),
        [0],
    ),
    "equal neighbours": (
        lambda x: (3 * x, x),
        lambda dy, _: (3 * dy,),
        lambda dy, x: (3 * dy * (1 + (x == np.roll(x, 1))),),
        (_TIED,),
        None,
    ),
    "a row of zeros": (
        lambda x, w: (x @ w, (x, w)),
        lambda dy, c: (dy @ c[1].T, c[0].T @ dy),
        lambda dy, c: (dy @ c[1].T * np.any(c[0], axis=1, keepdims=True), c[0].T @ dy),
        (np.vstack([drawn(2, 2, 3), np.zeros((1, 3))]), drawn(3, 3, 2)),
        None,
    ),
}


@SEEDS
@pytest.mark.parametrize("name", _AT_ZEROS_AND_TIES)
def test_zeros_and_ties_of_the_arrays_given_are_kept_in_one_draw(name: str, seed: int) -> None:
    forward, right, wrong, arrays, wrt = _AT_ZEROS_AND_TIES[name]
    assert certificate_of(forward, right, arrays, wrt=wrt, seed=seed)
    found = certificate_of(forward, wrong, arrays, wrt=wrt, seed=seed)
    assert (found.verdict, found.structure) == ("FAIL", "multilinear")


def _real_cosh(x: np.ndarray) -> tuple[Any, Any]:
    refuse_complex(x)
    return np.cosh(x), x


# Functions whose gradient is 0 at zeros: forward, right and wrong backward.
_FLAT: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "square": (lambda x: (x**2, x), lambda dy, x: (2 * x * dy,), lambda dy, x: (7 * x * dy,)),
    "cosine": (lambda x: (1 - np.cos(x), x), lambda dy, x: (np.sin(x) * dy,), lambda dy, x: (5 * np.sin(x) * dy,)),
    "by differences": (
        _real_cosh,
        lambda dy, x: (np.sinh(x) * dy,),
        lambda dy, x: (-np.sinh(x) * dy,),
    ),
}


@SEEDS
@pytest.mark.parametrize("name", _FLAT)
def test_where_the_whole_gradient_is_0_other_arrays_are_asked(name: str, seed: int) -> None:
    forward, right, wrong = _FLAT[name]
    assert certificate_of(forward, right, (np.zeros((2, 3)),), seed=seed)
    found = certificate_of(forward, wrong, (np.zeros((2, 3)),), seed=seed)
    assert found.verdict == "INCONCLUSIVE"
    assert "is 0 as a whole at the arrays given, and wrong at others: dx" in str(found)
    # The remedy: arrays like those.
    assert certificate_of(forward, wrong, (drawn(seed, 2, 3),), seed=seed).verdict == "FAIL"


def test_a_gradient_that_is_0_everywhere_passes() -> None:
    found = certificate_of(lambda x, b: (np.tanh(x) + 0 * b, x), _tanh_and_nothing, (drawn(0, 3), drawn(1, 3)), seed=0)
    assert found


def _tanh_and_nothing(dy: np.ndarray, x: np.ndarray) -> tuple[Any, Any]:
    return dy * (1 - np.tanh(x) ** 2), np.zeros_like(dy)


def test_where_the_domain_ends_at_the_other_arrays_it_is_undecided() -> None:
    def forward(x: np.ndarray) -> tuple[Any, Any]:
        if np.any(np.abs(x.real) > 0.3):
            raise ValueError("near 0 only")
        return x**2, x

    found = certificate_of(forward, lambda dy, x: (7 * x * dy,), (np.zeros(3),), seed=0)
    assert found.verdict == "INCONCLUSIVE"
    assert "take arrays at which it is not" in str(found)


# A fault of one gradient, and what its value becomes.
_BROKEN: dict[str, Callable[[np.ndarray], Any]] = {
    "no-gradient": lambda gradient: None,
    "wrong-shape": lambda gradient: gradient.T,
    "wrong-dtype": lambda gradient: gradient.astype(np.float32),
}


@pytest.mark.parametrize("doubled", [False, True], ids=["right", "doubled"])
@pytest.mark.parametrize("code", _BROKEN)
def test_a_broken_gradient_hides_no_other(code: str, doubled: bool) -> None:
    def back(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
        x, w = cache
        return (2 if doubled else 1) * dy @ w.T, _BROKEN[code](x.T @ dy)

    found = certificate_of(lambda x, w: (x @ w, (x, w)), back, (drawn(0, 4, 3), drawn(1, 3, 2)), seed=0)
    assert found.verdict == "FAIL"
    assert [(each.name, each.verdict) for each in found.arguments] == [
        ("x", "FAIL" if doubled else "PASS"),
        ("w", "FAIL"),
    ]
    assert {cause.code for cause in found.causes} == {code, *(["constant-factor"] if doubled else [])}


# Backwards that write to dy; the values of the first three are right.
def _relu_in_place(dy: np.ndarray, x: np.ndarray) -> tuple[Any]:
    dy[x <= 0] = 0
    return (dy,)


def _scaled_in_place(dy: np.ndarray, x: np.ndarray) -> tuple[Any]:
    dy *= x > 0
    return (dy.copy(),)


def _sorted_in_place(dy: np.ndarray, x: np.ndarray) -> tuple[Any]:
    dx = dy * (x > 0)
    dy.sort()
    return (dx,)


@pytest.mark.parametrize("back", [_relu_in_place, _scaled_in_place, _sorted_in_place])
def test_a_backward_that_writes_to_dy_fails_once_and_its_values_are_judged(back: Callable[..., Any]) -> None:
    found = certificate_of(lambda x: (np.maximum(x, 0), x), back, (drawn(0, 3, 4),), seed=0)
    assert found.verdict == "FAIL"
    assert [(cause.code, cause.argument) for cause in found.causes] == [("input-overwritten", "dy")]
    assert [each.verdict for each in found.arguments] == ["PASS"]
    wrong = certificate_of(
        lambda x: (np.maximum(x, 0), x), lambda dy, x: (2 * back(dy, x)[0],), (drawn(0, 3, 4),), seed=0
    )
    assert {cause.code for cause in wrong.causes} == {"input-overwritten", "constant-factor"}


# Harmless forms of y and of gradients.
def test_the_gradient_of_the_only_array_may_stand_alone() -> None:
    assert certificate_of(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, (drawn(0, 3),), seed=0)
    assert certificate_of(lambda x: (x**2, x), lambda dy, x: 3 * x * dy, (drawn(0, 3),), seed=0).verdict == "FAIL"


def test_y_may_be_a_number_of_python() -> None:
    assert certificate_of(lambda x: (float(np.sum(x**2)), x), lambda dy, x: (2 * x * dy,), (drawn(0, 3),), seed=0)


@pytest.mark.parametrize("kept", [True, False])
def test_a_vector_may_get_its_gradient_as_a_row(kept: bool) -> None:
    def back(dy: np.ndarray, x: np.ndarray) -> tuple[Any, Any]:
        return dy.copy(), dy.sum(0, keepdims=kept)

    found = certificate_of(lambda x, b: (x + b, x), back, (drawn(0, 4, 3), drawn(1, 3)), seed=0)
    assert found.verdict == "PASS"
    assert ("db has shape (1, 3), b has (3,): the same entries" in str(found)) == kept


def test_a_probe_outside_the_domain_warns_nobody() -> None:
    """A logarithm of the negative integers that are drawn is NaN. Nobody asked for these."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradcheck(lambda x: (np.log(x), x), lambda dy, x: (dy / x,), (np.array([0.5, 2, 3, 4]),), seed=0)
    assert found.structure == "analytic"
    assert not any("Warning" in reason for reason in found.reasons)
