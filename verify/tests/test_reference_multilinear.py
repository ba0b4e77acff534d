"""The reference of exact integers for multilinear functions."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from helpers import certificate_of, drawn, product, product_back
from verify import GradientMismatch, StructureError, gradcheck
from verify.checker.arguments import layer_under_test
from verify.checker.point import Array
from verify.checker.references.multilinear import Multilinear


@pytest.mark.parametrize("size", [65, 300])
@pytest.mark.parametrize("which", ["maximum of all", "first positive or 0"])
def test_a_function_that_bends_only_across_zero_is_not_multilinear(which: str, size: int) -> None:
    def forward(x: np.ndarray) -> Any:
        return (np.maximum(x[:1], 0), x) if which != "maximum of all" else (x.max(keepdims=True), x)

    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        dx = np.zeros_like(x)
        dx[0 if which != "maximum of all" else x.argmax()] = dy[0] * (which == "maximum of all" or x[0] > 0)
        return (dx,)

    for seed in range(100):
        with pytest.raises(StructureError, match="not affine in x"):
            gradcheck(forward, backward, (np.zeros(size),), structure="multilinear", seed=seed)


def test_arrays_of_two_precisions_are_judged_by_the_coarser() -> None:
    x, w = np.ones((3, 4), np.float32), np.ones((4, 2))

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, w = cache
        return (dy @ w.T).astype(np.float32), x.T @ dy

    def wrong(dy: np.ndarray, cache: Any) -> Any:
        dx, dw = backward(dy, cache)
        dx[1, 1] *= 1 + 2.0**-10
        return dx, dw

    for seed in range(10):
        assert gradcheck(lambda x, w: (x @ w, (x, w)), backward, (x, w), seed=seed)
        assert gradcheck(lambda x: (3 * x.astype(float), x), lambda dy, x: ((3 * dy).astype(x.dtype),), (x,), seed=seed)
        with pytest.raises(GradientMismatch, match=r"worst entry dx\[1, 1\]"):
            gradcheck(lambda x, w: (x @ w, (x, w)), wrong, (x, w), seed=seed)


def test_integers_too_large_for_float32_are_reported() -> None:
    with pytest.raises(StructureError, match=r"even small integers leave the 8.39e\+06 that float32 holds exactly"):
        gradcheck(
            lambda x: (np.float32(2**25) * x, None),
            lambda dy, _: (np.float32(2**25) * dy,),
            (drawn(0, 3, 4).astype(np.float32),),
            structure="multilinear",
            seed=0,
        )


def test_a_large_check_takes_no_more_than_four_times_the_memory_of_its_arrays() -> None:
    arrays = np.ones((2000, 200)), np.ones((200, 200))
    size = sum(array.nbytes for array in arrays) + arrays[0].nbytes
    tracemalloc.start()
    certificate = gradcheck(product, product_back, arrays, structure="multilinear")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert certificate
    assert peak <= 4 * size


@pytest.mark.parametrize(("outputs", "inputs"), [(8, 300), (4, 100)])
def test_long_upstream_gradients_do_not_make_a_right_backward_round(outputs: int, inputs: int) -> None:
    """Weights of 23 bits times dy of 30 leave float64: the sum rounds, and may be a whole number all the same."""
    w = np.random.default_rng(300).integers(1, 9, (outputs, inputs)).astype(float) * (2**20 + 1)
    for seed in range(5):
        found = certificate_of(lambda x: (w @ x, None), lambda dy, _: (w.T @ dy,), (np.zeros(inputs),), seed=seed)
        assert found.verdict == "PASS", found


# One draw of fractions misses with probability 5 / 2^18, and each of integers with 5 / 2^21. One of each is the least.
@pytest.mark.parametrize(("asked", "points"), [(1e-4, 2), (1e-9, 2), (1e-15, 3), (1e-16, 4)])
def test_no_more_points_are_drawn_than_the_probability_asked_for_takes(asked: float, points: int) -> None:
    layer = layer_under_test(product, product_back, (drawn(0, 4, 3), drawn(1, 3, 4)), None, None)
    reference = Multilinear(asked)
    assert len(list(reference.points(layer, np.random.default_rng(0)))) == points
    assert reference.missed is not None
    assert reference.missed <= asked


@pytest.mark.parametrize(("outputs", "points"), [(1, 16), (5, 4), (8, 2), (20, 2)])
def test_over_all_points_16_entries_of_y_are_seen(outputs: int, points: int) -> None:
    layer = layer_under_test(lambda x: (3 * x, None), lambda dy, _: (3 * dy,), (drawn(0, outputs),), None, None)
    assert len(list(Multilinear(1e-4).points(layer, np.random.default_rng(0)))) == points


def _loss_of_labels(x: Array, labels: Array) -> tuple[Array, Any]:
    """x where the label is 1, its square where it is -1, and 0 for other labels."""
    return np.where(labels == 1, x, np.where(labels == -1, x * x, 0)), (x, labels)


def _loss_back(dy: Array, cache: Any) -> tuple[Array, Array]:
    x, labels = cache
    return dy * np.where(labels == 1, 1, np.where(labels == -1, 2 * x, 0)), np.zeros_like(labels)


def _square_at_halves(x: Array, p: Array) -> tuple[Array, Any]:
    """x, to which x * x is added where p is 0.3."""
    return x + np.where(p == 0.3, x * x, 0), (x, p)


def _square_at_halves_back(dy: Array, cache: Any) -> tuple[Array, Array]:
    x, p = cache
    return dy * (1 + np.where(p == 0.3, 2 * x, 0)), np.zeros_like(p)


def _gated(x: Array, gates: Array) -> tuple[Array, Any]:
    """A product where the gates are 0 and 1, and the sine where they are not."""
    return (x * gates if np.isin(gates, (0, 1)).all() else 0 * x * gates), (x, gates)


def _gated_back(dy: Array, cache: Any) -> tuple[Array, Array]:
    x, gates = cache
    open_ = float(np.isin(gates, (0, 1)).all())
    return dy * gates * open_, dy * x * open_


@pytest.mark.parametrize(
    ("forward", "backward", "arrays"),
    [
        (_loss_of_labels, _loss_back, (drawn(0, 5), np.array([1.0, -1, 1, -1, 1]))),
        (_square_at_halves, _square_at_halves_back, (drawn(0, 4), np.array([0.3, 0.1, 0.3, 0.7]))),
        (_gated, _gated_back, (drawn(0, 4), np.array([0.0, 1, 1, 0]))),
    ],
)
def test_a_function_that_is_affine_at_other_arrays_alone_is_not_taken_for_multilinear(
    forward: Any, backward: Any, arrays: Any
) -> None:
    def wrong(dy: Array, cache: Any) -> tuple[Array, Array]:
        dx, other = backward(dy, cache)
        return 1.1 * dx, other

    right = gradcheck(forward, backward, arrays, seed=0, raise_on_failure=False)
    assert (right.verdict, right.structure) != ("PASS", "multilinear")
    assert right.verdict != "FAIL"
    # The right gradient is 0 wherever it is drawn: there a wrong one is right.
    assert gradcheck(forward, wrong, arrays, seed=0, wrt=[0, 1], raise_on_failure=False).verdict != "PASS"
    assert gradcheck(forward, wrong, arrays, seed=0, wrt=[0], raise_on_failure=False).verdict == "FAIL"


@pytest.mark.parametrize("given", [(), (1,), (2, 3)])
def test_a_sum_of_products_of_any_shape_is_checked_by_exact_integers(given: tuple[int, ...]) -> None:
    def forward(x: Array, w: Array) -> tuple[Array, Any]:
        return np.asarray((x * w).sum()), (x, w)

    def backward(dy: Array, cache: Any) -> tuple[Array, Array]:
        x, w = cache
        return np.asarray(dy * w), np.asarray(dy * x)

    arrays = np.asarray(drawn(0, *given)), np.asarray(drawn(1, *given))
    found = gradcheck(forward, backward, arrays, seed=0)
    assert (found.verdict, found.structure) == ("PASS", "multilinear")
