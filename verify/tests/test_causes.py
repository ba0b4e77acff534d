"""Tests of the causes: each planted mistake is named, and what is no such mistake is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_core import Implementation, conv2d, flatten, linear, max_pool2d, softmax_cross_entropy
from verify import gradcheck
from verify.gradcheck.causes import CauseCode, cause_table
from verify.museum import EXHIBITS

X, W, B = (3, 2, 6, 5), (4, 2, 3, 2), (4,)
SMALL_POOL = {"kernel_size": 2, "stride": 1}


def _changed(which: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda gradients: [change(g) if i == which else g for i, g in enumerate(gradients)]


def _zero_last(axis: int) -> Callable[[Any], Any]:
    def change(gradient: Any) -> Any:
        np.moveaxis(gradient, axis, 0)[-1] = 0
        return gradient

    return change


# name -> layer, shapes, options, what becomes of the right gradients, the code it must get.
MUTANTS: dict[str, tuple[Implementation, tuple[Any, ...], dict[str, Any], Callable[[Any], Any], str]] = {
    "conv dw zero": (conv2d.im2col, (X, W), {}, _changed(1, np.zeros_like), "zero"),
    "conv dx sign": (conv2d.im2col, (X, W), {}, _changed(0, np.negative), "sign"),
    "conv dw over the batch's size": (conv2d.im2col, (X, W), {}, _changed(1, lambda g: g * 4), "constant-factor"),
    "conv dw flipped": (conv2d.im2col, (X, W), {}, _changed(1, lambda g: g[..., ::-1, ::-1].copy()), "flipped"),
    "conv dw channels": (
        conv2d.im2col,
        (X, (2, 2, 3, 2)),
        {},
        _changed(1, lambda g: g.transpose(1, 0, 2, 3).copy()),
        "transposed",
    ),
    "conv dx shifted": (conv2d.im2col, (X, W), {"padding": 1}, _changed(0, lambda g: np.roll(g, 1, 2)), "shifted"),
    "conv dx last column": (conv2d.im2col, (X, W), {}, _changed(0, _zero_last(3)), "remainder-lost"),
    "linear dw transposed": (linear.vectorized, ((5, 4), (4, 4)), {}, _changed(1, lambda g: g.T.copy()), "transposed"),
    "linear dw cut": (linear.vectorized, ((5, 4), (3, 4)), {}, _changed(1, np.trunc), "truncated"),
    "linear dx twice": (linear.vectorized, ((5, 4), (3, 4)), {}, _changed(0, lambda g: g * 2), "constant-factor"),
    "linear swapped": (linear.vectorized, ((3, 4), (3, 4)), {}, lambda g: [g[1], g[0], g[2]], "gradients-swapped"),
    "flatten swapped": (
        flatten.vectorized,
        ((3, 2, 4),),
        {},
        _changed(0, lambda g: g.reshape(3, -1).T.reshape(g.shape).copy()),
        "features-batch-swapped",
    ),
    "loss without its sign": (
        softmax_cross_entropy.vectorized,
        ((4, 5), "labels"),
        {},
        _changed(0, np.negative),
        "sign",
    ),
    "loss not averaged": (
        softmax_cross_entropy.vectorized,
        ((4, 5), "labels"),
        {},
        _changed(0, lambda g: g * 4),
        "constant-factor",
    ),
}


def _drawn(shapes: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    generator = np.random.default_rng(seed)
    return tuple(generator.integers(0, 5, 4) if s == "labels" else generator.normal(size=s) for s in shapes)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_named(name: str) -> None:
    implementation, shapes, options, change, code = MUTANTS[name]

    def backward(dy: Any, cache: Any) -> Any:
        return tuple(change(list(implementation.backward(dy, cache))))

    for seed in range(5):
        found = gradcheck(
            implementation.forward, backward, _drawn(shapes, seed), options, seed=seed, raise_on_failure=False
        )
        assert found.verdict == "FAIL"
        assert found.causes[0].code == code, found


def test_the_kernel_not_flipped_is_named() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        _, w = cache
        x, _ = cache
        _, right = conv2d.im2col.forward(x, np.ascontiguousarray(w[..., ::-1, ::-1]))
        _, own = conv2d.im2col.forward(x, w)
        return (conv2d.im2col.backward(dy, right)[0], *conv2d.im2col.backward(dy, own)[1:2])

    found = gradcheck(
        lambda x, w: (conv2d.im2col.forward(x, w)[0], (x, w)), backward, _drawn((X, W), 0), raise_on_failure=False
    )
    assert [cause.code for cause in found.causes] == ["kernel-not-flipped"]
    assert found.causes[0].argument == "x"


@pytest.mark.parametrize("image", [0, 2])
def test_a_filter_gradient_of_one_image_is_named(image: int) -> None:
    def backward(dy: Any, cache: Any) -> Any:
        alone = np.zeros_like(dy)
        alone[image] = dy[image]
        dx, _, _ = conv2d.im2col.backward(dy, cache)
        return dx, conv2d.im2col.backward(alone, cache)[1], None

    found = gradcheck(conv2d.im2col.forward, backward, _drawn((X, W), 0), raise_on_failure=False)
    assert found.causes[0].code == "one-image-only"
    assert f"image {image}" in found.causes[0].explanation


@pytest.mark.parametrize(
    ("slug", "code"), [("flatten-noT", "features-batch-swapped"), ("maxpool-assign", "overlap-assigned")]
)
def test_exhibits_are_named(slug: str, code: str) -> None:
    exhibit = EXHIBITS[slug]
    implementation = exhibit.mutate(flatten.vectorized if exhibit.layer == "flatten" else max_pool2d.im2col)
    x = np.random.default_rng(0).permutation(40).reshape(2, 1, 4, 5).astype(float)
    options = SMALL_POOL if exhibit.layer == "max_pool2d" else {}
    found = gradcheck(implementation.forward, implementation.backward, (x,), options, seed=1, raise_on_failure=False)
    assert found.causes[0].code == code, found


def test_backwards_that_ignore_dy_or_accumulate_are_named() -> None:
    total = np.zeros((5, 3))

    def accumulating(dy: Any, w: Any) -> Any:
        total[...] += dy @ w.T
        return (total.copy(),)

    w = np.random.default_rng(0).integers(-4, 5, (3, 2)).astype(float)
    for backward, code in (
        (lambda dy, w: (np.broadcast_to(w.sum(1), (5, 3)).copy(),), "upstream-ignored"),
        (accumulating, "accumulates"),
    ):
        found = gradcheck(lambda x: (x @ w, w), backward, (np.ones((5, 3)),), raise_on_failure=False)
        assert found.causes[0].code == code, found


def test_scattered_errors_have_no_name() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        off = generator.integers(-5, 6, W) * (generator.random(W) < 0.3)

        def backward(dy: Any, cache: Any, off: Any = off) -> Any:
            dx, dw, db = conv2d.im2col.backward(dy, cache)
            return dx, dw + off, db

        found = gradcheck(conv2d.im2col.forward, backward, _drawn((X, W), seed), raise_on_failure=False)
        assert [cause.code for cause in found.causes] == ["unknown"], found


def test_rewarding_every_tie_is_named() -> None:
    def backward(dy: Any, x: Any) -> Any:
        return (np.where(x == x.max(), dy, 0.0),)

    x = np.array([2.0, 1.0, 2.0, 2.0])
    for seed in range(100):  # four numbers may keep their order in every draw: never taken for a linear function
        found = gradcheck(lambda x: (np.asarray(x.max()), x), backward, (x,), seed=seed, raise_on_failure=False)
        assert found.causes[0].code == "all-ties-rewarded", found


def test_every_code_has_its_sentence() -> None:
    assert len({each.code for each in CauseCode}) == len(CauseCode)
    table = cause_table().splitlines()
    assert len(table) == len(CauseCode) + 2
    assert "| `sign` | It has the opposite sign. |" in table
