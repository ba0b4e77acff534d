"""Causes that lie in what backward makes of dy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import certificate_of
from verify.checker.certificate import Certificate

RNG = np.random.default_rng
X, W = RNG(0).normal(size=(4, 3)), RNG(1).normal(size=(3, 2))


def codes(found: Certificate) -> list[str]:
    assert found.verdict == "FAIL", found
    return [cause.code for cause in found.causes]


def affine(x: Any, w: Any) -> Any:
    return x @ w, (x, w)


def root(x: Any) -> Any:
    return np.sqrt(np.abs(x) + 1), x


def relu(x: Any) -> Any:
    return np.where(x.real > 0, x, 0), x


WITHOUT_DY: dict[str, Any] = {
    "exact": (affine, lambda dy, c: (dy @ c[1].T + 1.0, c[0].T @ dy), (X, W)),
    "exact, of the array": (affine, lambda dy, c: (dy @ c[1].T, c[0].T @ dy + 0.5 * c[1]), (X, W)),
    "at kinks": (relu, lambda dy, x: (dy * (x > 0) + 2.0,), (np.round(4 * X),)),
    "analytic": (lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x) + 1.0,), (X,)),
    "analytic, a weight decay": (
        lambda x, w: (np.exp(x @ w), (x, w)),
        lambda dy, c: ((dy * np.exp(c[0] @ c[1])) @ c[1].T, c[0].T @ (dy * np.exp(c[0] @ c[1])) + 0.1 * c[1]),
        (X, W),
    ),
    "smooth": (root, lambda dy, x: (dy * np.sign(x) / 2 / np.sqrt(np.abs(x) + 1) + 1.0,), (X,)),
}


@pytest.mark.parametrize("name", WITHOUT_DY)
def test_a_term_without_dy_is_not_linear(name: str) -> None:
    for seed in range(3):
        found = certificate_of(*WITHOUT_DY[name], seed=seed)
        assert codes(found) == ["not-linear"], found
        assert "is the true gradient and a term without dy" in found.causes[0].explanation


def test_a_term_in_a_single_entry_is_not_linear() -> None:
    found = certificate_of(
        lambda x, b: (x + b, None), lambda dy, _: (dy, dy.sum(keepdims=True)[0] + 3.0), (X, np.ones(1)), seed=0
    )
    assert codes(found) == ["not-linear"]


def test_what_does_not_add_up_is_not_linear() -> None:
    """The square of dy has no other name, and is 0 for dy = 0."""
    for forward, gradient in ((lambda x: (np.exp(x), x), np.exp), (lambda x: (np.sin(x), x), np.cos)):
        found = certificate_of(forward, lambda dy, x, g=gradient: (dy * g(x) + 0.01 * dy * dy,), (X,), seed=0)
        assert codes(found) == ["not-linear"]
        assert "add up" in found.causes[0].explanation


@pytest.mark.parametrize(
    ("backward", "code"),
    [
        (lambda dy, x: (np.exp(x),), "upstream-ignored"),
        (lambda dy, x: (2 * dy * np.exp(x),), "constant-factor"),
        (lambda dy, x: (-dy * np.exp(x),), "sign"),
    ],
    ids=["dy ignored", "factor", "sign"],
)
def test_neighbours_are_no_term_without_dy(backward: Any, code: str) -> None:
    found = certificate_of(lambda x: (np.exp(x), x), backward, (X,), seed=0)
    assert codes(found) == [code]


def test_a_position_lost_where_dy_is_negative_is_no_mask() -> None:
    """Of two outputs the first counts alone. In a quarter of draws it is the one whose dy is positive."""
    x, w = RNG(0).normal(size=(1, 3)), RNG(1).normal(size=(3, 2))
    for seed in range(12):
        found = certificate_of(
            affine, lambda dy, c: (dy[:, :1] @ c[1][:, :1].T, c[0].T @ dy), (x, w), seed=seed, wrt=(0,)
        )
        assert codes(found)[0] == "one-position-only"
        assert "mask-of-upstream" not in codes(found)


def test_one_entry_that_ignores_dy_is_so_named() -> None:
    found = certificate_of(lambda x, b: (x + b, None), lambda dy, _: (dy, np.full(1, 3.0)), (X, np.ones(1)), seed=0)
    assert codes(found) == ["upstream-ignored"]


def leaky(x: Any) -> Any:
    return np.where(x.real > 0, x, 0.25 * x), x


MASKS: dict[str, Any] = {
    "relu": (relu, lambda dy, x: (dy * (dy > 0),)),
    "leaky": (leaky, lambda dy, x: (np.where(dy > 0, dy, 0.25 * dy),)),
    "both masks": (relu, lambda dy, x: (dy * (dy > 0) * (x > 0),)),
    "behind an exponential": (lambda x: (np.exp(x), x), lambda dy, x: (np.maximum(dy, 0) * np.exp(x),)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_taken_of_dy_is_named(name: str) -> None:
    for seed in range(3):
        forward, backward = MASKS[name]
        found = certificate_of(forward, backward, (X,), seed=seed)
        assert codes(found)[0] == "mask-of-upstream", found


@pytest.mark.parametrize(
    ("backward", "code"),
    [
        (lambda dy, x: (dy.copy(),), "upstream-copied"),
        (lambda dy, x: (-dy * (x > 0),), "sign"),
        (lambda dy, x: (np.clip(dy, -1, 1) * (x > 0),), "not-linear"),
    ],
    ids=["no mask", "sign", "clip"],
)
def test_neighbours_are_no_mask_of_dy(backward: Any, code: str) -> None:
    assert codes(certificate_of(relu, backward, (X,), seed=0))[0] == code
