"""A backward is linear in dy: one that cuts, clips or rounds dy fails under every reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import certificate_of, conv_arrays, sabotaged
from verify import GradientMismatch, gradcheck
from verify.layers import LAYERS


@pytest.mark.parametrize(
    "spoilt",
    [
        np.trunc,
        np.abs,
        lambda g: np.clip(g, -1, 1),
        lambda g: g.astype(np.float32),
        lambda g: np.where(np.abs(g) < 1e-3, 0, g),
    ],
    ids=["whole", "positive", "clipped", "float32", "cut off"],
)
@pytest.mark.parametrize(
    ("layer", "structure"),
    [
        ("flatten", "multilinear"),
        ("flatten", "piecewise-linear"),
        ("flatten", "piecewise-multilinear"),
        ("flatten", "analytic"),
        ("flatten", "smooth"),
        ("relu", "piecewise-linear"),
        ("relu", "auto"),
        ("max_pool2d", "piecewise-linear"),
        ("conv2d", "multilinear"),
    ],
)
def test_a_gradient_that_is_no_linear_function_of_dy_fails(
    layer: str, structure: str, spoilt: Callable[[Any], Any]
) -> None:
    # Each is right for some dy. A gradient cut to whole numbers, for example, is right for whole dy.
    right = LAYERS[layer].fast
    x = np.random.default_rng(0).normal(size=(2, 2, 5, 5))
    arrays = conv_arrays() if layer == "conv2d" else (np.rint(64 * x) / 64,)
    options = {"kernel_size": 2} if layer == "max_pool2d" else {}
    wrong = sabotaged(right, 0, lambda gradient: spoilt(gradient).astype(gradient.dtype))
    for seed in range(2):
        settings: Any = {"structure": structure, "seed": seed}
        assert gradcheck(*right[1:], arrays, options, **settings)
        with pytest.raises(GradientMismatch, match=r"worst entry dx\["):
            gradcheck(*wrong[1:], arrays, options, **settings)


@pytest.mark.parametrize(("below", "above", "size"), [(1e-3, np.inf, "/2^36"), (0, 1e4, r" \* 2^20")])
@pytest.mark.parametrize("structure", ["analytic", "smooth"])
def test_a_backward_that_drops_small_gradients_or_clips_large_ones_fails(
    structure: str, below: float, above: float, size: str
) -> None:
    x = np.linspace(-1, 1, 4)
    certificate = gradcheck(lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (x,), structure=structure)
    assert "backward is linear in dy to the last bit" in str(certificate)

    def unfair(dy: np.ndarray, x: np.ndarray) -> Any:
        return (np.clip(np.where(np.abs(dy) < below, 0, dy), -above, above) * np.exp(x),)

    with pytest.raises(
        GradientMismatch, match=f"of -dy{size}: backward is not linear in dy".replace("^", r"\^")
    ) as found:
        gradcheck(lambda x: (np.exp(x), x), unfair, (x,), structure=structure)
    assert found.value.certificate.causes[0].code == "not-linear"


@pytest.mark.parametrize(("off", "verdict"), [(2.0**-30, "PASS"), (2.0**-20, "FAIL")])
@pytest.mark.parametrize("structure", ["analytic", "smooth"])
def test_bits_lost_as_dy_grows_are_reported_and_no_failure(structure: str, off: float, verdict: str) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.exp(x) * (1 + off * (np.abs(dy) > 1000)),)

    arrays = (np.linspace(-1, 1, 4),)
    found = certificate_of(lambda x: (np.exp(x), x), backward, arrays, structure=structure)
    assert found.verdict == verdict
    if verdict == "PASS":
        assert "backward is linear in dy up to 9.3e-10 of its largest entry" in str(found)


def test_a_clip_of_large_gradients_fails_in_float32_too() -> None:
    def clipped(dy: np.ndarray, x: np.ndarray) -> Any:
        return (np.clip(dy, -1e4, 1e4) * np.exp(x),)

    x = np.linspace(-1, 1, 4, dtype=np.float32)
    assert gradcheck(lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (x,), structure="analytic")
    with pytest.raises(GradientMismatch, match="clips what is large"):
        gradcheck(lambda x: (np.exp(x), x), clipped, (x,), structure="analytic")


def test_an_overflow_at_a_large_dy_is_no_failure() -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.exp(x),)

    arrays = (np.array([690.0, 704.0]),)  # exp(704) is 5e305
    assert gradcheck(lambda x: (np.exp(x), x), backward, arrays, structure="analytic")


def test_a_wrong_gradient_of_float32_is_not_taken_for_one_that_is_not_linear() -> None:
    def backward(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
        dx = dy * (1 - y * y)
        dx[0] *= np.float32(1.5)
        dx[1] *= 2
        return (dx,)

    x = np.random.default_rng(7).normal(size=12).astype(np.float32)
    certificate = certificate_of(lambda x: (np.tanh(x),) * 2, backward, (x,), seed=0)
    assert certificate.verdict == "FAIL"
    assert "not-linear" not in [cause.code for cause in certificate.causes]


@pytest.mark.parametrize("dtypes", [("e", "d"), ("d", "e"), ("e", "f"), ("f", "d")])
def test_dy_is_scaled_within_the_range_of_each_gradient(dtypes: tuple[str, str]) -> None:
    """Of dy in float64, 2^-34 times as large, a gradient in float16 is 0."""
    rng = np.random.default_rng(0)
    arrays = tuple(rng.normal(size=shape).astype(dtype) for shape, dtype in zip(((3, 4), (4, 2)), dtypes, strict=True))

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, w = cache
        return (dy @ w.T).astype(x.dtype), (x.T @ dy).astype(w.dtype)

    for seed in range(4):
        assert certificate_of(lambda x, w: (x @ w, (x, w)), backward, arrays, seed=seed).verdict != "FAIL"
        wrong = certificate_of(lambda x, w: (x @ w, (x, w)), lambda dy, c: backward(2 * dy, c), arrays, seed=seed)
        assert wrong.verdict == "FAIL"
