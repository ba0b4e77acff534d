"""Layers that break the convention, and arguments that cannot be: one sentence names the fault, under any structure."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from verify import Certificate, GradientMismatch, StructureError, gradcheck
from verify.checker.check import ORACLES

STRUCTURES = ["auto", *ORACLES]
ARRAYS = np.array([[1.0, -2.0, 3.0], [0.5, 2.0, -1.0]]), np.array([[2.0], [1.0], [-3.0]])


def _forward(x: np.ndarray, w: np.ndarray) -> Any:
    return x @ w, (x, w)


def _backward(dy: np.ndarray, cache: Any) -> Any:
    x, w = cache
    return dy @ w.T, x.T @ dy


def _check(structure: str, forward: Any = _forward, backward: Any = _backward, **keywords: Any) -> Certificate:
    keywords = {"raise_on_failure": False, "seed": 0, **keywords}
    return gradcheck(forward, backward, ARRAYS, structure=structure, **keywords)


def _raises(dy: np.ndarray, cache: Any) -> Any:
    raise KeyError("weights")


def _changed(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda dy, cache: change(*_backward(dy, cache))


# What a backward does -> the code of its fault, the argument blamed, and the sentence.
BACKWARDS: dict[str, tuple[Callable[..., Any], str, str | None, str]] = {
    "too few": (_changed(lambda dx, dw: (dx,)), "gradient-count", None, "backward returned 1 gradients for 2: x, w"),
    "too many": (
        _changed(lambda dx, dw: (dx, dw, dw)),
        "gradient-count",
        None,
        "backward returned 3 gradients for 2: x, w",
    ),
    "generator": (
        _changed(lambda dx, dw: (g for g in (dx, dw))),
        "gradient-count",
        None,
        "backward must return a tuple, got generator",
    ),
    "None": (lambda dy, cache: None, "gradient-count", None, "backward must return a tuple, got NoneType"),
    "bare array": (_changed(lambda dx, dw: dx), "gradient-count", None, "backward must return a tuple, got ndarray"),
    "None for one": (_changed(lambda dx, dw: (dx, None)), "no-gradient", "w", "dw is NoneType, not an array"),
    "list for one": (_changed(lambda dx, dw: (dx.tolist(), dw)), "no-gradient", "x", "dx is list, not an array"),
    "wrong shape": (
        _changed(lambda dx, dw: (dx, dw[:, 0])),
        "wrong-shape",
        "w",
        "dw has shape (3,), w has (3, 1)",
    ),
    "float32": (
        _changed(lambda dx, dw: (dx.astype(np.float32), dw)),
        "wrong-dtype",
        "x",
        "dx has dtype float32, x has float64",
    ),
    "complex": (
        _changed(lambda dx, dw: (dx, dw + 0j)),
        "wrong-dtype",
        "w",
        "dw has dtype complex128, w has float64",
    ),
    "integers": (
        _changed(lambda dx, dw: (dx.astype(np.int64), dw)),
        "wrong-dtype",
        "x",
        "dx has dtype int64, x has float64",
    ),
    "objects": (
        _changed(lambda dx, dw: (dx.astype(object), dw)),
        "wrong-dtype",
        "x",
        "dx has dtype object, x has float64",
    ),
    "raises": (_raises, "raised", None, "backward raised KeyError: 'weights' at arrays x float64 "),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("fault", BACKWARDS)
def test_what_a_backward_does_wrong_is_said_in_one_sentence(fault: str, structure: str) -> None:
    backward, code, argument, sentence = BACKWARDS[fault]
    found = _check(structure, backward=backward)
    assert found.verdict == "FAIL"
    assert [(cause.code, cause.argument) for cause in found.causes] == [(code, argument)]
    assert found.causes[0].explanation.startswith(sentence)
    assert {result.name for result in found.arguments} == ({argument} if argument else {"x", "w"})
    with pytest.raises(GradientMismatch) as caught:
        _check(structure, backward=backward, raise_on_failure=True)
    assert sentence in str(caught.value)
    assert type(caught.value.__cause__) is (KeyError if code == "raised" else type(None))


def _mutates(x: np.ndarray, w: np.ndarray) -> Any:
    x *= 2
    return x @ w, (x, w)


def _grows() -> Callable[..., Any]:
    sizes = itertools.cycle((1, 2))
    return lambda x, w: (np.repeat(x @ w, next(sizes), axis=1), (x, w))


# What a forward does -> the code, the argument blamed, and the sentence; made anew for each check.
FORWARDS: dict[str, tuple[Callable[[], Callable[..., Any]], str, str | None, str]] = {
    "bare array": (
        lambda: lambda x, w: x @ w,
        "forward-result",
        None,
        "forward must return (y, cache), got ndarray",
    ),
    "None": (lambda: lambda x, w: None, "forward-result", None, "forward must return (y, cache), got NoneType"),
    "list of two": (
        lambda: lambda x, w: [x @ w, (x, w)],
        "forward-result",
        None,
        "forward must return (y, cache), got list",
    ),
    "triple": (
        lambda: lambda x, w: (x @ w, x, w),
        "forward-result",
        None,
        "forward must return (y, cache), got a tuple of 3",
    ),
    "y a list": (
        lambda: lambda x, w: ((x @ w).tolist(), (x, w)),
        "forward-result",
        None,
        "forward must return a floating array y, got list",
    ),
    "y None": (
        lambda: lambda x, w: (None, (x, w)),
        "forward-result",
        None,
        "forward must return a floating array y, got NoneType",
    ),
    "y of integers": (
        lambda: lambda x, w: (np.real(x @ w).astype(int), (x, w)),
        "forward-result",
        None,
        "forward must return a floating array y, got int64",
    ),
    "y complex": (
        lambda: lambda x, w: (x @ w + 0j, (x, w)),
        "forward-result",
        None,
        "forward returned y of complex128 for real arrays: return both parts, in one real array",
    ),
    "two shapes": (
        _grows,
        "forward-result",
        None,
        "forward returned y of shape (2, 2), and before of (2, 1), for arrays of the same shapes",
    ),
    "mutates": (lambda: _mutates, "input-overwritten", "x", "forward wrote to its argument x"),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("fault", FORWARDS)
def test_what_a_forward_does_wrong_is_said_in_one_sentence(fault: str, structure: str) -> None:
    make, code, argument, sentence = FORWARDS[fault]
    found = _check(structure, make())
    assert found.verdict == "FAIL"
    assert [cause.code for cause in found.causes] == [code]
    assert found.causes[0].argument == argument
    alternating = "forward returned y of shape (2, 1), and before of (2, 2), for arrays of the same shapes"
    assert found.causes[0].explanation in (sentence, alternating if fault == "two shapes" else "")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_a_forward_raises_at_the_arrays_given_passes_through_with_a_note(structure: str) -> None:
    def forward(x: np.ndarray, w: np.ndarray, *, scale: float = 1.0) -> Any:
        raise ZeroDivisionError("no scale")

    with pytest.raises(ZeroDivisionError, match="no scale") as caught:
        gradcheck(forward, _backward, ARRAYS, {"scale": 0.0}, structure=structure, raise_on_failure=False)
    (note,) = caught.value.__notes__
    assert note == (
        "gradcheck: forward raised ZeroDivisionError: no scale at arrays x float64 (2, 3), w float64 (3, 1), "
        "options {'scale': 0.0}"
    )


def _only_here(*raising: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A layer whose forward, or backward, raises unless x is what was given."""

    def guard(who: str, x: np.ndarray) -> None:
        if who in raising and not np.array_equal(x, ARRAYS[0]):
            raise ValueError("x is not as it was")

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        guard("forward", x)
        return x @ w, (x, w)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        guard("backward", cache[0])
        return _backward(dy, cache)

    return forward, backward


@pytest.mark.parametrize("structure", ["multilinear", "piecewise-linear", "piecewise-multilinear"])
def test_what_is_raised_at_arrays_drawn_is_no_fault_of_the_layer(structure: str) -> None:
    forward, backward = _only_here("forward")
    with pytest.raises(StructureError, match="x is not as it was") as caught:
        _check(structure, forward, backward)
    assert caught.value.__cause__ is not None


def test_auto_passes_over_what_is_raised_at_arrays_drawn_and_says_so() -> None:
    found = _check("auto", *_only_here("backward"))
    assert found.verdict == "PASS"
    assert found.reasons[0].startswith("not multilinear: backward raised ValueError: x is not as it was at arrays x")


def test_a_forward_that_raises_a_step_away_is_inconclusive_and_says_what_helps() -> None:
    for structure in ("auto", "smooth"):
        found = _check(structure, *_only_here("forward"))
        assert found.verdict == "INCONCLUSIVE"
        notes = " ".join(result.note for result in found.arguments)
        assert "take arrays" in notes or "too close to where it overflows or ends" in notes


def _noisy(generator: np.random.Generator) -> Iterator[Callable[..., Any]]:
    def noise(x: np.ndarray, w: np.ndarray) -> Any:
        return x @ w + 0.1 * generator.normal(size=(2, 1)), (x, w)

    def dropout(x: np.ndarray, w: np.ndarray) -> Any:
        kept = x * (generator.random(x.shape) < 0.5)
        return kept @ w, (kept, w)

    yield from (noise, dropout)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_random_forward_is_never_called_wrong_and_hears_that_it_is_random(structure: str) -> None:
    for seed in range(20):
        for forward in _noisy(np.random.default_rng(seed)):
            found = _check(structure, forward, seed=seed)
            assert found.verdict != "FAIL", found
            if found.verdict == "INCONCLUSIVE":
                assert "two calls of the forward with the same arrays differ" in str(found)


@pytest.mark.parametrize("raising", [2, 3, 4, 9])
@pytest.mark.parametrize("structure", ["auto", "smooth"])
def test_a_forward_that_raises_once_is_never_called_wrong(structure: str, raising: int) -> None:
    calls = itertools.count(1)

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        if next(calls) == raising:
            raise OSError("once")
        return np.tan(np.real(x @ w) / 9), (x, w)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, w = cache
        return _backward(dy / 9 / np.cos(x @ w / 9) ** 2, cache)

    found = _check(structure, forward, backward)
    assert found.verdict == "PASS" or "but not when called again: fix its randomness" in str(found)
    assert structure == "auto" or raising > 4 or found.verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_a_layer_prints_and_warns_of_passes_through(structure: str, capsys: pytest.CaptureFixture[str]) -> None:
    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        print("forward!")
        warnings.warn("old", FutureWarning, stacklevel=1)
        return _forward(x, w)

    with pytest.warns(FutureWarning, match="old"):
        found = _check(structure, forward)
    assert found
    assert capsys.readouterr().out == "forward!\n" * found.forward_calls


ONE = (np.ones(3),)


class Tensor:
    """What NumPy can make an array of, and is none."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.ones(3)


# Arguments, keywords -> the exception and its sentence.
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "forward": ((None, _backward, ARRAYS), {}, TypeError, "forward must be callable, got None"),
    "backward": ((_forward, "f", ARRAYS), {}, TypeError, "backward must be callable, got 'f'"),
    "one array": (
        (_forward, _backward, ONE[0]),
        {},
        TypeError,
        r"arrays must be a tuple of arrays, got one array of shape \(3,\)",
    ),
    "scalar": ((_forward, _backward, 3.0), {}, TypeError, "arrays must be a tuple of arrays, got float"),
    "generator": (
        (_forward, _backward, (a for a in ARRAYS)),
        {},
        TypeError,
        "arrays must be a tuple of arrays, got generator",
    ),
    "too few arrays": (
        (_forward, _backward, ARRAYS[:1]),
        {},
        TypeError,
        r"forward takes x, w; it cannot be called with 1 arrays and options \{\}: missing a required argument: 'w'",
    ),
    "unknown option": (
        (_forward, _backward, ARRAYS, {"strid": 2}),
        {},
        TypeError,
        r"forward takes x, w; it cannot .* options \{'strid': 2\}: got an unexpected keyword argument 'strid'",
    ),
    "options": ((_forward, _backward, ARRAYS, "stride"), {}, TypeError, "options must map names to values, got 'stri"),
    "option 0": ((_forward, _backward, ARRAYS, {0: 1}), {}, TypeError, r"options must map names to values, got \{0: 1"),
    "ints": (
        (_forward, _backward, (np.ones((2, 3), np.int64), 2)),
        {},
        ValueError,
        r"nothing to check: none of the 2 arrays is floating \(x int64 \(2, 3\), w int\)",
    ),
    "lists": (
        (_forward, _backward, ([1.0], [2.0])),
        {},
        ValueError,
        r"nothing to check: none of the 2 arrays is floating \(x list, w list\)",
    ),
    "NaN": (
        (_forward, _backward, (np.array([[0, np.nan, 0]]), ARRAYS[1])),
        {},
        ValueError,
        r"x\[0, 1\] is nan: arrays must be finite",
    ),
    "infinity": (
        (_forward, _backward, (ARRAYS[0], np.array([[-np.inf], [0], [0]]))),
        {},
        ValueError,
        r"w\[0, 0\] is -inf: arrays must be finite; `wrt` leaves out what is only held",
    ),
    "complex": (
        (_forward, _backward, (ARRAYS[0] + 0j, ARRAYS[1])),
        {},
        TypeError,
        "x is complex; gradients are checked at real arrays",
    ),
    "a tensor": (
        (_forward, _backward, (ARRAYS[0], Tensor())),
        {},
        TypeError,
        "arrays must be NumPy arrays, got Tensor: give its values as one, or check",
    ),
    "wrt a flag": (
        (_forward, _backward, ARRAYS),
        {"wrt": [True]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \[True\]",
    ),
    "wrt an int": ((_forward, _backward, ARRAYS), {"wrt": 0}, TypeError, "wrt must be a sequence of positions, got 0"),
    "wrt negative": (
        (_forward, _backward, ARRAYS),
        {"wrt": [-1]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \[-1\]",
    ),
    "wrt twice": (
        (_forward, _backward, ARRAYS),
        {"wrt": [0, 0]},
        ValueError,
        r"wrt must hold each position once, got \[0, 0\]",
    ),
    "wrt names": (
        (_forward, _backward, ARRAYS),
        {"wrt": ["x"]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \['x'\]",
    ),
    "wrt empty": ((_forward, _backward, ARRAYS), {"wrt": ()}, ValueError, "nothing to check: wrt is empty"),
    "seed": ((_forward, _backward, ARRAYS), {"seed": -1}, ValueError, "seed must be a nonnegative integer, got -1"),
    "miss probability": (
        (_forward, _backward, ARRAYS),
        {"miss_probability": "1"},
        ValueError,
        "miss_probability must lie between 0 and 1, got '1'",
    ),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("what", REFUSED)
def test_arguments_that_cannot_be_are_refused_in_one_sentence(what: str, structure: str) -> None:
    arguments, keywords, error, sentence = REFUSED[what]
    with pytest.raises(error, match=sentence):
        gradcheck(*arguments, structure=structure, **keywords)


def test_positions_may_be_a_range() -> None:
    assert gradcheck(_forward, _backward, ARRAYS, wrt=range(2))


@pytest.mark.parametrize("structure", ["auto", "multilinear", "analytic", "smooth"])
def test_a_list_of_arrays_no_options_and_numbers_among_arrays_are_taken(structure: str) -> None:
    assert gradcheck(_forward, _backward, list(ARRAYS), None, structure=structure)
    assert gradcheck(
        lambda x, scale: (x * scale, (x, scale)),
        lambda dy, cache: (dy * cache[1], np.asarray((dy * cache[0]).sum())),
        (ARRAYS[0], 3.0),
        structure=structure,
    )
