"""The reference of the complex step: analytic functions, ends of domains and overflows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_core import gelu, softmax_cross_entropy
from helpers import certificate_of, drawn
from verify import Certificate, Inconclusive, StructureError, gradcheck
from verify.checker.arguments import layer_under_test
from verify.checker.complex_consistency import _Margins, _Seen, check_consistent


def test_a_zero_gradient_of_a_forward_that_drops_imaginary_parts_does_not_pass_as_analytic() -> None:
    with pytest.raises(StructureError, match="the forward drops imaginary parts"):
        gradcheck(lambda x: (np.sin(x.real), x), lambda dy, x: (0 * dy,), (np.array([0.3]),), structure="analytic")


def test_a_forward_that_refuses_complex_arrays_is_not_analytic() -> None:
    def forward(x: np.ndarray) -> Any:
        return np.array([math.sin(e) for e in x.tolist()]), x

    with pytest.raises(StructureError, match="the forward refuses complex arrays: must be real number, not complex"):
        gradcheck(forward, lambda dy, x: (dy * np.cos(x),), (np.array([0.3]),), structure="analytic")


@pytest.mark.parametrize("seed", range(20))
def test_the_complex_step_differentiates_a_confident_softmax(seed: int) -> None:
    """The loss is a small difference of large numbers. Plain differences lose it to rounding."""
    x = np.array([[3.23009285, -3.90753739]])
    labels = np.array([0])
    options = {"reduction": "sum"}
    assert gradcheck(*softmax_cross_entropy.vectorized[1:], (x, labels), options, structure="analytic", seed=seed)


@pytest.mark.parametrize("entry", [0.0, 1.0, -3.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_a_gradient_that_vanishes_by_symmetry_is_told_from_a_wrong_one(entry: float, seed: int) -> None:
    """Of equal logits and smooth labels every term cancels. The slopes hold the roundings of what cancels."""
    forward, right = softmax_cross_entropy.vectorized[1:]
    arrays, options = (np.full((3, 2), entry), np.array([0, 1, 0])), {"label_smoothing": 1.0}

    def wrong(dy: np.ndarray, cache: Any) -> Any:
        (dx,) = right(dy, cache)
        return (dx + np.array([[0, 1e-12 * dy], [0, 0], [0, 0]]),)

    assert gradcheck(forward, right, arrays, options, structure="analytic", seed=seed)
    found = gradcheck(forward, wrong, arrays, options, structure="analytic", seed=seed, raise_on_failure=False)
    assert found.verdict == "FAIL"


@pytest.mark.parametrize("entry", [-3.5, -4.0, -5.0, -6.0])
@pytest.mark.parametrize("seed", [0, 1, 12])
def test_a_lone_entry_whose_terms_cancel_is_told_from_a_wrong_one(entry: float, seed: int) -> None:
    """1 + tanh u holds the roundings of 1. A campaign met it. With seed 12 a draw lay where gelu's slope is 0."""
    forward, right = gelu.naive[1:]

    def wrong(dy: np.ndarray, cache: Any) -> Any:
        (dx,) = right(dy, cache)
        assert dx is not None
        return (dx + 1e-12 * dy,)

    x = (np.array(entry),)
    assert gradcheck(forward, right, x, structure="analytic", seed=seed)
    assert gradcheck(forward, wrong, x, structure="analytic", seed=seed, raise_on_failure=False).verdict == "FAIL"


def _refuses_negative(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.real.min() < 0:
        raise ValueError("x must be >= 0")
    return x**2, x


def _refuses_small(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.abs(x.real).min() < 1 - 1e-6:  # an ulp inward is still inside
        raise ValueError("x must be <= -1 or >= 1")
    return x**2, x


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("forward", "x"),
    [
        (_refuses_negative, np.array([0.0, 1, 2])),
        # Random signs lead all twelve into the domain once in 4,096 draws: only signs that lead outward do.
        (_refuses_negative, np.array([*[0.0] * 12, 1, 2])),
        (_refuses_small, np.array([1.0, -1.0] * 6)),
    ],
    ids=["a zero", "twelve zeros", "both signs"],
)
def test_the_complex_step_works_at_the_end_of_a_domain(forward: Callable[..., Any], x: np.ndarray, seed: int) -> None:
    assert gradcheck(forward, lambda dy, x: (2 * dy * x,), (x,), seed=seed).structure == "analytic"


def test_a_batch_norm_of_few_images_is_no_failure() -> None:
    def forward(x: np.ndarray) -> Any:
        centred = x - x.mean(0)
        scale = 1 / np.sqrt((centred * centred).mean(0) + 1e-5)
        return centred * scale, (centred * scale, scale)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        y, scale = cache
        return (scale * (dy - dy.mean(0) - y * (dy * y).mean(0)),)

    for shape in ((2, 16), (8, 4)):
        for seed in range(10):
            x = np.random.default_rng(seed).normal(size=shape)
            assert gradcheck(forward, backward, (x,), structure="analytic", seed=seed)
            off = certificate_of(forward, lambda dy, c: (backward(dy, c)[0] * (1 + 1e-7),), (x,), seed=seed)
            assert off.verdict != "PASS"


def test_an_overflowing_forward_is_inconclusive() -> None:
    with np.errstate(over="ignore"), pytest.raises(Inconclusive, match="y is not finite"):
        gradcheck(
            lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (np.array([1000.0]),), structure="analytic"
        )


def _exponential(x: np.ndarray) -> tuple[Any, Any]:
    return np.exp(x), np.exp(x)


@pytest.mark.parametrize("exponent", [707.9, 709.0])
def test_a_gradient_that_overflows_by_dy_alone_is_inconclusive(exponent: float) -> None:
    x = np.array([exponent, 1, 2])

    def times(power: int) -> Callable[..., Any]:
        def backward(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
            with np.errstate(over="ignore"):
                return (dy * y**power,)

        return backward

    for structure in ("analytic", "smooth"):
        certificate = certificate_of(_exponential, times(1), (x,), structure=structure, seed=0)
        assert certificate.verdict == "INCONCLUSIVE"
        assert "overflows" in str(certificate)
        wrong = certificate_of(_exponential, times(2), (x,), structure=structure, seed=0)
        assert wrong.verdict == "FAIL"


def test_an_infinite_slope_is_no_tie() -> None:
    """The slope of a square root at 0 is infinite: twice the step is not twice the change."""
    with np.errstate(all="ignore"):
        certificate = certificate_of(
            lambda x: (np.sqrt(x), x),
            lambda dy, x: (dy / np.sqrt(np.where(x == 0, 1, x)),),
            (np.array([0.0, 1, 2]),),
            seed=0,
        )
    assert certificate.verdict == "FAIL", certificate


def test_complex_constants_stay_fixed() -> None:
    x, z = drawn(0, 3, 4), drawn(1, 3, 4) + 1j * drawn(2, 3, 4)

    def checked(factor: float) -> Certificate:
        return certificate_of(
            lambda x, z: (np.sin(x) * np.abs(z), (x, z)),
            lambda dy, c: (factor * dy * np.cos(c[0]) * np.abs(c[1]), None),
            (x, z),
            wrt=[0],
            seed=0,
        )

    assert checked(1).verdict == "PASS"
    assert "z holds complex numbers" in checked(1).explain()  # no value was cast to a real one
    assert checked(1.001).verdict == "FAIL"


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (1.001, "FAIL")])
def test_a_pole_at_the_scaled_arrays_widens_no_tolerance(factor: float, verdict: str) -> None:
    """Scaled to entries of at most 1, one of these arrays lies on the pole of 1 / (x - 1)."""

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (-factor * dy / (x - 1) ** 2,)

    with np.errstate(divide="ignore", invalid="ignore"):
        found = certificate_of(
            lambda x: (1 / (x - 1), x), backward, (np.array([4.0, 2.0]),), structure="analytic", seed=0
        )
    assert found.verdict == verdict, found


@pytest.mark.parametrize("factor", [1.0, 1e-9])
def test_small_slopes_that_the_complex_step_drops_are_seen(factor: float) -> None:
    """The margin follows the layer's numbers, however small they are: nothing in it is of the size of 1."""
    x = 0.01 * np.array([0.8, -0.9, 1.0])
    layer = layer_under_test(lambda x: (factor * np.abs(x).astype(x.dtype), x), lambda dy, x: (dy,), (x,), {}, None)
    with pytest.raises(StructureError, match="the complex step does not differentiate this function in x: it gives 0"):
        check_consistent(layer, 0, np.ones(3), 2.0**-60, np.random.default_rng(0))


def test_where_every_entry_bends_plain_differences_tell_nothing() -> None:
    """Slopes of 0, and differences that are larger, at what seem kinks everywhere: noise, and no other function."""
    margins = _Margins(2.0**-24, 2.0**-22, 2.0**-24)
    seen = _Seen(np.ones(3), np.ones(3), np.zeros(3), np.full(3, 1e-3), np.ones(3), margins)
    with pytest.raises(StructureError, match="plain differences in x tell nothing of what the complex step gives"):
        seen.wrong("x")
    assert seen._replace(slopes=np.full(3, 1e-3)).wrong("x") is None
