"""Layers in float32: certified in float64 at the same arrays, where both gradients are compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from helpers import SEEDS, certificate_of, drawn
from verify import StructureError
from verify.checker.arguments import layer_under_test
from verify.checker.conditioning import gamma
from verify.checker.references.widened import Widened, widened

_Layer = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]


def _tanh(x: np.ndarray) -> tuple[Any, Any]:
    return np.tanh(x), x


def _tanh_back(dy: np.ndarray, x: np.ndarray) -> tuple[Any]:
    return (dy * (1 - np.tanh(x) ** 2),)


def _softmax(x: np.ndarray) -> tuple[Any, Any]:
    e = np.exp(x - x.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    return p, p


def _softmax_back(dy: np.ndarray, p: np.ndarray) -> tuple[Any]:
    return (p * (dy - (dy * p).sum(1, keepdims=True)),)


def _normalised(x: np.ndarray) -> tuple[Any, Any]:
    centred = x - x.mean(0)
    s = 1 / np.sqrt((centred**2).mean(0) + x.dtype.type(1e-5))
    return centred * s, (centred * s, s)


def _normalised_back(dy: np.ndarray, cache: Any) -> tuple[Any]:
    z, s = cache
    return (s * (dy - dy.mean(0) - z * (dy * z).mean(0)),)


def _root(x: np.ndarray) -> tuple[Any, Any]:
    """Return sqrt(1 + |x|): differences alone serve."""
    return np.sqrt(np.abs(x) + 1), x


def _root_back(dy: np.ndarray, x: np.ndarray) -> tuple[Any]:
    return (dy * np.sign(x) / 2 / np.sqrt(np.abs(x) + 1),)


def _affine_tanh(x: np.ndarray, w: np.ndarray) -> tuple[Any, Any]:
    y = np.tanh(x @ w)
    return y, (x, w, y)


def _affine_tanh_back(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
    x, w, y = cache
    dz = dy * (1 - y * y)
    return dz @ w.T, x.T @ dz


_LAYERS: dict[str, _Layer] = {
    "tanh": (_tanh, _tanh_back, ((4, 5),)),
    "softmax": (_softmax, _softmax_back, ((4, 5),)),
    "batch norm": (_normalised, _normalised_back, ((8, 3),)),
    "root": (_root, _root_back, ((4, 5),)),
    "affine and tanh": (_affine_tanh, _affine_tanh_back, ((4, 5), (5, 3))),
}


def _single(shapes: tuple[tuple[int, ...], ...], seed: int) -> tuple[np.ndarray, ...]:
    return tuple(drawn(seed + k, *shape).astype(np.float32) for k, shape in enumerate(shapes))


def _off(back: Callable[..., Any], factor: float, *, only_single: bool) -> Callable[..., Any]:
    """The backward with one entry of its first gradient off by a factor; in float32 only, if so asked."""

    def wrong(dy: np.ndarray, cache: Any) -> Any:
        first, *others = back(dy, cache)
        if dy.dtype == np.float32 or not only_single:
            first = first.copy()
            first.flat[np.abs(first).argmax()] *= first.dtype.type(factor)
        return (first, *others)

    return wrong


@SEEDS
@pytest.mark.parametrize("name", _LAYERS)
def test_a_right_layer_passes_in_float32_by_way_of_float64(name: str, seed: int) -> None:
    forward, back, shapes = _LAYERS[name]
    found = certificate_of(forward, back, _single(shapes, seed), seed=seed)
    assert found.verdict == "PASS", found
    assert "checked in float64" in str(found)
    # What float32 rounds by is part of what a PASS states.
    assert found.detection_floor is not None
    assert 1e-6 < found.detection_floor < 1e-2


def test_roundings_amount_to_gamma() -> None:
    """Of 2^21 entries and an argument of 8: k is 2^21 + 32 + 4 * 8."""
    x = np.full(2**21, -8, np.float32)
    layer = layer_under_test(lambda x: (x, x), lambda dy, x: (dy,), (x,), None, None)
    k_eps = (2**21 + 64) * 2.0**-23
    assert gamma(layer, x) == k_eps / (1 - k_eps)
    with pytest.raises(StructureError, match=r"^float32 is too coarse for sums of 4\.19e\+06 roundings$"):
        gamma(layer, np.zeros(2**22))


def test_what_is_wrong_in_float32_alone_is_named() -> None:
    """Of float32 the first image counts alone. Sums over all of y, not over its entries, tell which image."""

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, w = cache
        counted = dy.copy()
        if dy.dtype == np.float32:
            counted[1:] = 0
        return (dy @ w.T) * (1 - np.tanh(x) ** 2), np.tanh(x).T @ counted

    arrays = _single(((3, 4), (4, 2)), 0)
    found = certificate_of(lambda x, w: (np.tanh(x) @ w, (x, w)), backward, arrays, seed=0)
    assert found.verdict == "FAIL"
    assert found.causes[0].code == "one-image-only", found


def test_of_two_gradients_the_wrong_one_alone_says_that_it_was_checked_in_float64() -> None:
    x, w = _single(((3,), (3,)), 0)
    found = certificate_of(
        lambda x, w: (np.sin(x) * np.sin(w), (x, w)),
        lambda dy, c: (dy * np.cos(c[0]) * np.sin(c[1]), 2 * dy * np.sin(c[0]) * np.cos(c[1])),
        (x, w),
        seed=0,
    )
    right, wrong = found.arguments
    assert (right.verdict, wrong.verdict) == ("PASS", "FAIL"), found
    assert "checked in float64" in wrong.note
    assert "checked in float64" not in right.note


@pytest.mark.parametrize("name", _LAYERS)
def test_a_wrong_formula_fails_in_float32_as_it_does_in_float64(name: str) -> None:
    forward, back, shapes = _LAYERS[name]
    found = certificate_of(forward, _off(back, 1 + 1e-4, only_single=False), _single(shapes, 0), seed=0)
    assert found.verdict == "FAIL", found


@pytest.mark.parametrize("name", _LAYERS)
def test_what_is_wrong_in_float32_alone_fails(name: str) -> None:
    forward, back, shapes = _LAYERS[name]
    found = certificate_of(forward, _off(back, 1.02, only_single=True), _single(shapes, 0), seed=0)
    assert found.verdict == "FAIL", found
    assert "compared with the gradient in float64" in str(found)


def test_an_error_as_large_as_rounding_may_be_is_undecided() -> None:
    certificate = certificate_of(_tanh, _tanh_back, _single(((4, 5),), 0), seed=0)
    assert certificate.detection_floor is not None
    off = 1 + certificate.detection_floor / 4
    found = certificate_of(_tanh, _off(_tanh_back, off, only_single=True), _single(((4, 5),), 0), seed=0)
    assert found.verdict == "INCONCLUSIVE", found


def test_exact_numbers_come_first_in_float32_as_well() -> None:
    found = certificate_of(lambda x: (3 * x, None), lambda dy, _: (3 * dy,), _single(((4, 5),), 0), seed=0)
    assert found.structure == "multilinear"
    assert found.miss_probability is not None


def _fixed_matrix(x: np.ndarray, w: np.ndarray) -> tuple[Any, Any]:
    """Return x @ w for a w of float32, and no other dtype of x."""
    if x.dtype != np.float32:
        raise TypeError(f"expected float32, got {x.dtype}")
    return x @ w, None


@SEEDS
@pytest.mark.parametrize("shape", [(2, 4), (1, 30), (16, 3)], ids=str)
def test_a_linear_layer_that_knows_float32_alone_is_known_by_long_steps(shape: tuple[int, int], seed: int) -> None:
    x, w = drawn(seed, *shape).astype(np.float32), drawn(seed + 1, shape[1], 5).astype(np.float32)
    forward = partial(_fixed_matrix, w=w)
    found = certificate_of(forward, lambda dy, _: (dy @ w.T,), (x,), seed=seed)
    assert found.verdict == "PASS", found
    wrong = certificate_of(forward, lambda dy, _: (dy @ w.T * np.float32(1.05),), (x,), seed=seed)
    assert wrong.verdict == "FAIL", wrong


def _recurrent(x: np.ndarray, u: np.ndarray) -> tuple[Any, Any]:
    """Return the states of a recurrent layer, kept in float32 whatever the arrays are."""
    states, h = np.empty(x.shape, "f"), np.zeros_like(x[:, 0], dtype="f")
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] + h @ u)
        states[:, t] = h
    return states, (states, u)


def _recurrent_back(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
    states, u = cache
    dx, du, dh = np.empty(states.shape, "f"), np.zeros(u.shape, "f"), 0
    for t in reversed(range(states.shape[1])):
        dz = (dy[:, t] + dh) * (1 - states[:, t] ** 2)
        dx[:, t], dh = dz, dz @ u.T
        if t:
            du += states[:, t - 1].T @ dz
    return dx, du


@SEEDS
def test_a_layer_that_computes_in_float32_throughout_gets_a_verdict(seed: int) -> None:
    arrays = _single(((3, 5, 4), (4, 4)), seed)
    assert certificate_of(_recurrent, _recurrent_back, arrays, seed=seed).verdict == "PASS"
    wrong = certificate_of(_recurrent, _off(_recurrent_back, 1.1, only_single=True), arrays, seed=seed)
    assert wrong.verdict == "FAIL", wrong


def _cosine(a: np.ndarray, b: np.ndarray) -> tuple[Any, Any]:
    sizes = np.sqrt((a * a).sum(1)), np.sqrt((b * b).sum(1))
    y = (a * b).sum(1) / (sizes[0] * sizes[1])
    return y, (a, b, *(size[:, None] for size in sizes), y[:, None])


def _cosine_back(dy: np.ndarray, cache: Any) -> tuple[Any, Any]:
    a, b, of_a, of_b, y = cache
    dy = dy[:, None]
    return dy * (b / (of_a * of_b) - y * a / of_a**2), dy * (a / (of_a * of_b) - y * b / of_b**2)


@pytest.mark.long
def test_what_cancels_to_0_in_float64_seldom_fails_and_a_wrong_gradient_always() -> None:
    """The cosine of two numbers is a sign. 1/a - 1/a rounds at the size of 1/a, which no gradient shows."""
    failed = 0
    for seed in range(40):
        arrays = drawn(seed, 4, 1).astype("f"), drawn(seed + 99, 4, 1).astype("f")
        failed += certificate_of(_cosine, _cosine_back, arrays, seed=seed).verdict == "FAIL"
        wrong = certificate_of(_cosine, lambda dy, c: (dy[:, None] / c[2], _cosine_back(dy, c)[1]), arrays, seed=seed)
        assert wrong.verdict == "FAIL"
    assert failed <= 8


def _gate(x: np.ndarray) -> tuple[Any, Any]:
    """Return what is not 0 near 0 alone."""
    if np.iscomplexobj(x):
        raise TypeError
    return x * np.exp(-200 * x * x), x


def _gate_back(dy: np.ndarray, x: np.ndarray) -> tuple[Any]:
    return (dy * (1 - 400 * x * x) * np.exp(-200 * x * x),)


@SEEDS
@pytest.mark.parametrize("scale", [100.0, 40.0])
def test_exact_numbers_too_coarse_for_the_arrays_do_not_decide_in_float32(scale: float, seed: int) -> None:
    x = np.append(scale, 0.1 * drawn(seed, 11)).astype("f")
    assert certificate_of(_gate, _gate_back, (x,), seed=seed).verdict != "FAIL"
    assert certificate_of(_gate, lambda dy, x: (2 * _gate_back(dy, x)[0],), (x,), seed=seed).verdict != "PASS"


@pytest.mark.parametrize("name", _LAYERS)
def test_slopes_are_those_of_the_layer_in_float64(name: str) -> None:
    forward, back, shapes = _LAYERS[name]
    layer = layer_under_test(forward, back, _single(shapes, 0), {}, None)
    wide = widened(layer)
    assert wide is not None
    reference = Widened(wide)
    (point,) = reference.points(layer, np.random.default_rng(0))
    for k in layer.wrt:
        v = np.random.default_rng(1).normal(size=point.claimed[k].shape)
        along = float((point.dy * reference.slopes(point, k, v)).sum())
        # A difference of float64 at steps of 2^-23 loses no more than float32 rounds by.
        assert abs(along - float((reference.true[k] * v).sum())) <= float(
            (reference.allowed(point, k, v) * abs(v)).sum()
        )


def test_a_layer_that_computes_in_float32_alone_is_not_widened() -> None:
    x = _single(((4, 5),), 0)
    assert widened(layer_under_test(_tanh, _tanh_back, x, {}, None)) is not None
    narrow = layer_under_test(lambda x: (np.tanh(x).astype(np.float32), x), _tanh_back, x, {}, None)
    assert widened(narrow) is None
