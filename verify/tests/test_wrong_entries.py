"""The map of wrong entries is that of the entries that are wrong."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from cnn_core import conv2d, linear, relu, softmax_cross_entropy
from helpers import certificate_of, drawn, sabotaged
from verify.diagnosis.wrong_entries import drawing

# Implementation, arrays, options, and the gradient that is spoilt.
LAYERS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], int]] = {
    "linear": (linear.vectorized, (drawn(0, 5, 4), drawn(1, 3, 4), drawn(2, 3)), {}, 1),
    "conv2d": (conv2d.im2col, (drawn(0, 2, 3, 5, 4), drawn(1, 4, 3, 3, 2)), {"padding": 1}, 0),
    "relu": (relu.vectorized, (drawn(0, 4, 5),), {}, 0),
    "loss": (softmax_cross_entropy.vectorized, (drawn(0, 6, 4), np.array([0, 3, 1, 2, 0, 1])), {}, 0),
    "one entry": (linear.vectorized, (drawn(0, 5, 4), drawn(1, 1, 4), drawn(2, 1)), {}, 2),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("structure", ["auto", "smooth"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_map_marks_the_entries_that_are_wrong_and_no_others(name: str, structure: str, seed: int) -> None:
    layer, arrays, options, which = LAYERS[name]
    if structure == "smooth" and name == "conv2d":
        pytest.skip("of more than 48 entries some are not looked at")
    shape = arrays[which].shape
    planted = np.random.default_rng(seed).random(shape) < (0.2 if arrays[which].size > 1 else 2)
    planted.flat[seed % planted.size] = True
    wrong = sabotaged(layer, which, lambda gradient: gradient + 16 * planted)
    found = certificate_of(*wrong[1:], arrays, options, structure=structure, seed=seed)
    assert found.verdict == "FAIL"
    argument = next(each for each in found.arguments if each.position == which)
    assert list(found.wrong_entries) == [argument.name]
    marked = found.wrong_entries[argument.name]
    assert marked is not None
    assert marked.dtype == bool
    looked_at = ~np.ma.getmaskarray(marked)
    assert looked_at.sum() >= min(planted.size, 32)
    np.testing.assert_array_equal(np.asarray(marked)[looked_at], planted[looked_at])
    the = "" if looked_at.all() else "the "
    assert f" is wrong in {planted[looked_at].sum()} of {the}{looked_at.sum()} entr" in found.headline
    assert ("looked at" in found.headline) == (not looked_at.all())


def test_of_a_large_gradient_what_was_not_looked_at_is_masked() -> None:
    x, w = drawn(0, 50, 60), drawn(1, 60, 30)
    rows = np.arange(60) % 7 == 3

    def backward(dy: Any, cache: Any) -> Any:
        return dy @ w.T, (x.T @ dy) * ~rows[:, None]

    found = certificate_of(lambda x, w: (x @ w, None), lambda dy, _: backward(dy, _), (x, w), seed=0)
    marked = found.wrong_entries["w"]
    assert found.verdict == "FAIL"
    assert np.ma.isMaskedArray(marked)
    assert marked.tolist()[0].count(None) > 0


def test_a_pass_and_a_broken_contract_have_no_map() -> None:
    x = drawn(0, 3)
    for backward in (lambda dy, _: (3 * dy,), lambda dy, _: (3 * dy[1:],)):
        assert certificate_of(lambda x: (3 * x, None), backward, (x,)).wrong_entries == {}


def test_a_map_is_drawn_by_the_last_two_axes() -> None:
    wrong = np.zeros((2, 2, 3), bool)
    wrong[1, 0, 2] = True
    assert drawing("dx", wrong) == ["dx: · right, # wrong", "  [0]  [1]", "  ···  ··#", "  ···  ···"]
    some = np.ma.array(wrong[1], mask=[[False, True, False], [False, False, True]])
    assert drawing("dx", some) == ["dx: · right, # wrong, ? not looked at", "  ·?#", "  ··?"]
    assert drawing("db", np.array([True, False])) == ["db: · right, # wrong", "  #·"]
    assert drawing("db", np.array([True])) == []
    assert drawing("db", np.array(True)) == []


def test_of_many_entries_counts_stand_along_each_axis() -> None:
    wrong = np.zeros((8, 1, 300), bool)
    wrong[3, :, 5:9] = wrong[5, :, 7] = True
    assert drawing("dx", wrong) == [
        "dx: 5 wrong of 2400 entries",
        "  axis 0 (of 8): 4 at 3, 1 at 5",
        "  axis 2 (of 300): 1 at 5, 1 at 6, 2 at 7, 1 at 8",
    ]
    assert drawing("dx", np.ones((30, 30), bool)) == ["dx: 900 wrong of 900 entries"]
    assert drawing("dx", np.eye(40, dtype=bool))[1] == "  axis 0 (of 40): at 40 places from 0 to 39"


def _right(x: Any) -> Any:
    y = np.tanh(x)
    return y, y


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (3 * x, x), lambda dy, x: (3 * dy,)),
        (lambda x: (np.maximum(x, 0), x), lambda dy, x: (dy * (x > 0),)),
        (_right, lambda dy, y: (dy * (1 - y * y),)),
    ],
    ids=["scale", "relu", "tanh"],
)
def test_a_fail_of_a_thousand_entries_takes_less_than_two_seconds(forward: Any, backward: Any) -> None:
    x = drawn(0, 25, 40)
    started = time.perf_counter()
    found = certificate_of(forward, lambda dy, cache: (1.5 * backward(dy, cache)[0],), (x,), seed=0)
    assert found.verdict == "FAIL"
    assert time.perf_counter() - started < 2
