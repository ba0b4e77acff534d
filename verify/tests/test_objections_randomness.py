"""Objections of randomness: a random forward decides nothing, a random backward fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from helpers import (
    ARRAYS,
    SEEDS,
    STRUCTURES,
    certificate_of,
    drawn,
    normalised,
    normalised_back,
    product,
    product_back,
    refuse_complex,
)
from verify import Certificate
from verify.checker import check, judge
from verify.checker.linearity import Opinion, opinions
from verify.checker.point import Point


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


class _Judged(NamedTuple):
    """A layer, its verdict if the judge asks a question, and its verdict if another function takes its place."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    structure: str
    asked: str
    replaced: str
    by: Callable[..., Any]


def _random_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    """Return dx of a sine, right on average."""
    return (dy * np.cos(x) * _RANDOM.choice([0.0, 2.0], x.shape),)


def _normalised_in_c(x: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    refuse_complex(x, b)
    return normalised(x, b)


def _tanh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = np.tanh(x)
    return y, y


def _tanh_back(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
    return (dy * (1 - y * y),)


def _exponential(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = np.exp(x)
    return y, y


def _clipped_back(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
    return (np.clip(dy, -1e4, 1e4) * y,)


def _without_tolerance(point: Point, floors: dict[int, float]) -> dict[int, Opinion]:
    return opinions(point, dict.fromkeys(floors, -1.0))


_RANDOM = np.random.default_rng(0)
_SATURATED = (18 + 0.1 * np.abs(drawn(0, 4)),)  # 1 - tanh(x)^2 is an ulp of 1 or two
# What the judge asks of a gradient that passes. "right" is what a right gradient needs, "wrong" what no wrong one is
# excused from.
_JUDGED = {
    "is_constant, right": _Judged(
        _normalised_in_c,
        normalised_back,
        (drawn(0, 8, 3), drawn(1, 3)),
        "smooth",
        "PASS",
        "INCONCLUSIVE",
        lambda *_: False,
    ),
    "is_constant, wrong": _Judged(
        _tanh,
        lambda dy, y: (2 * _tanh_back(dy, y)[0],),
        _SATURATED,
        "smooth",
        "INCONCLUSIVE",
        "PASS",
        lambda *_: True,
    ),
    "opinions, right": _Judged(
        _exponential, lambda dy, y: (dy * y,), (drawn(0, 4),), "analytic", "PASS", "FAIL", _without_tolerance
    ),
    "opinions, wrong": _Judged(_exponential, _clipped_back, (drawn(0, 4),), "analytic", "FAIL", "PASS", lambda *_: {}),
}


@pytest.mark.parametrize("name", _JUDGED)
def test_each_question_of_the_judge_decides_a_verdict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = _JUDGED[name]

    def verdict() -> str:
        return certificate_of(row.forward, row.backward, row.arrays, structure=row.structure, seed=0).verdict

    assert verdict() == row.asked
    monkeypatch.setattr(judge, name.split(",")[0], row.by)
    assert verdict() == row.replaced


def _dropping(share: float, generator: np.random.Generator, back: Callable[..., Any]) -> Callable[..., Any]:
    """A backward that loses a share of its entries, others at each call."""
    return lambda dy, cache: tuple(g * (generator.random(g.shape) >= share) for g in back(dy, cache))


# Forward, backward, arrays: exact integers, gapped integers, the complex step, differences.
_REPEATED: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "product": (
        lambda x, w: (x @ w, (x, w)),
        lambda dy, c: (dy @ c[1].T, c[0].T @ dy),
        (drawn(0, 4, 3), drawn(1, 3, 2)),
    ),
    "relu": (lambda x: (np.maximum(x, 0), x), lambda dy, x: (dy * (x > 0),), (drawn(2, 4, 3),)),
    "square": (lambda x: (x**2, x), lambda dy, x: (2 * x * dy,), (drawn(3, 4, 3),)),
    "root": (
        lambda x: (np.sqrt(np.abs(x) + 1), x),
        lambda dy, x: (dy * np.sign(x) / 2 / np.sqrt(np.abs(x) + 1),),
        (drawn(4, 4, 3),),
    ),
    "loss": (lambda x: (np.mean(x**2), x), lambda dy, x: (dy * 2 * x / x.size,), (drawn(5, 40),)),
}


@pytest.mark.parametrize("name", _REPEATED)
def test_a_backward_that_loses_a_tenth_at_random_fails_and_is_named(name: str) -> None:
    forward, back, arrays = _REPEATED[name]
    for seed in range(20):
        found = certificate_of(forward, _dropping(0.1, np.random.default_rng(seed), back), arrays, seed=seed)
        assert found.verdict == "FAIL"
        assert found.causes[0].code == "random"
        assert "unknown" not in {cause.code for cause in found.causes}


@pytest.mark.parametrize("name", _REPEATED)
def test_a_backward_that_repeats_itself_is_not_random(name: str) -> None:
    forward, back, arrays = _REPEATED[name]
    assert certificate_of(forward, back, arrays, seed=0)


def test_sums_in_another_order_are_not_random() -> None:
    """As threads make them: the last bits differ from call to call."""
    generator, x = np.random.default_rng(0), drawn(6, 200)

    def back(dy: np.ndarray, b: np.ndarray) -> Any:
        return (np.asarray(np.sum(generator.permutation(dy * np.exp(x + b)))),)

    assert len({float(back(np.ones(200), np.asarray(0.5))[0]) for _ in range(9)}) > 1
    assert certificate_of(lambda b: (np.exp(x + b), b), back, (np.asarray(0.5),), seed=0)


class _Updated:
    """A function pair of which backward updates what forward computes."""

    def __init__(self, seed: int, outer: str) -> None:
        self.w, self.outer = drawn(seed, 3, 2), outer

    def forward(self, x: np.ndarray) -> Any:
        z = x @ self.w
        return {"linear": z, "relu": np.where(z.real > 0, z, 0), "tanh": np.tanh(z)}[self.outer], x

    def backward(self, dy: np.ndarray, x: np.ndarray) -> Any:
        z = x @ self.w
        dz = {"linear": dy, "relu": dy * (z > 0), "tanh": dy / np.cosh(z) ** 2}[self.outer]
        dx = dz @ self.w.T
        self.w = self.w - 1e-3 * x.T @ dz / max(1.0, float(np.abs(dz).max()))
        return (dx,)


@pytest.mark.parametrize("outer", ["linear", "relu", "tanh"])
def test_a_backward_that_updates_weights_is_undecided_and_the_message_says_so(outer: str) -> None:
    for seed in range(6):
        layer = _Updated(seed, outer)
        found = certificate_of(layer.forward, layer.backward, (drawn(seed + 9, 4, 3),), seed=seed)
        assert found.verdict == "INCONCLUSIVE", found
        assert "backward changes what forward computes, such as its weights" in str(found)


def _masked(generator: np.random.Generator, share: float, outer: Callable[..., Any], slope: Callable[..., Any]) -> Any:
    """Return a dropout of a share, its mask drawn in forward, and what follows it."""

    def forward(x: np.ndarray) -> Any:
        mask = (generator.random(x.shape) >= share) * 2.0
        return outer(x * mask), (x, mask)

    return forward, lambda dy, cache: (dy * slope(cache[0] * cache[1]) * cache[1],)


@pytest.mark.parametrize(
    ("x", "share"),
    [
        *((drawn(0, 5, 5), share) for share in (0.001, 0.01, 0.5)),
        *((x, 0.5) for x in (np.zeros((4, 5)), np.append(np.zeros(9), 0.5), drawn(1, 1))),
    ],
)
def test_a_dropout_drawn_in_forward_is_never_a_random_backward(x: np.ndarray, share: float) -> None:
    def relu(x: np.ndarray) -> np.ndarray:
        return np.where(x.real > 0, x, 0)

    outer: list[Any] = [(np.sin, np.cos), (lambda x: x, np.ones_like), (relu, lambda x: x > 0)]
    for seed in range(10):
        for row in outer:
            forward, backward = _masked(np.random.default_rng(seed), share, *row)
            assert certificate_of(forward, backward, (x,), seed=seed).verdict != "FAIL"


@pytest.mark.parametrize("number", range(1, 80))
@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_one_call_of_forward_that_is_another_makes_no_right_backward_wrong(number: int, slope: float) -> None:
    """Whichever call loses an entry: the disagreement is not there again. That of a wrong backward is."""
    calls = itertools.count(1)

    def forward(x: np.ndarray) -> Any:
        kept = np.ones(x.shape)
        if next(calls) == number:
            kept[0, 0] = 0
        return np.sin(x * kept), (x, kept)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, kept = cache
        return (slope * dy * np.cos(x * kept) * kept,)

    verdict = certificate_of(forward, backward, (drawn(0, 3, 3),), seed=0).verdict
    assert verdict != "FAIL" if slope == 1 else verdict != "PASS"


def test_calls_of_structures_that_were_given_up_do_not_count_as_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, back, arrays = _REPEATED["relu"]
    known: list[int] = []

    def recorded(layer: Any, rng: np.random.Generator, calls: int) -> None:
        known.append(calls)

    monkeypatch.setattr(check, "not_repeated", recorded)
    alone = certificate_of(forward, back, arrays, structure="piecewise-linear", seed=0)
    auto = certificate_of(forward, back, arrays, seed=0)
    assert alone
    assert auto.backward_calls > alone.backward_calls
    assert known == [alone.backward_calls, alone.backward_calls]
