"""The pair of functions, called with care: one sentence names how a layer breaks the convention."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import Implementation
from helpers import ARRAYS, SAMPLE, STRUCTURES, certificate_of, drawn, nonempty, product, product_back, sabotaged
from verify import Certificate, GradientMismatch, StructureError, gradcheck
from verify.checker.arguments import layer_under_test
from verify.layers import Layer


def _check(structure: str, forward: Any = product, backward: Any = product_back, **keywords: Any) -> Certificate:
    return certificate_of(forward, backward, ARRAYS, structure=structure, **{"seed": 0, **keywords})


def _raises(dy: np.ndarray, cache: Any) -> Any:
    raise KeyError("weights")


def _changed(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda dy, cache: change(*product_back(dy, cache))


# What backward does: the code of its fault, the argument at fault, and the sentence.
BACKWARDS: dict[str, tuple[Callable[..., Any], str, str | None, str]] = {
    "too few": (
        _changed(lambda dx, dw: (dx,)),
        "gradient-count",
        None,
        "backward must return (dx, dw), got 1 gradient",
    ),
    "too many": (
        _changed(lambda dx, dw: (dx, dw, dw)),
        "gradient-count",
        None,
        "backward must return (dx, dw), got 3 gradients",
    ),
    "generator": (
        _changed(lambda dx, dw: (g for g in (dx, dw))),
        "gradient-count",
        None,
        "backward must return a tuple (dx, dw), got generator",
    ),
    "None": (lambda dy, cache: None, "gradient-count", None, "backward must return a tuple (dx, dw), got NoneType"),
    "bare array": (
        _changed(lambda dx, dw: dx),
        "gradient-count",
        None,
        "backward must return a tuple (dx, dw), got ndarray",
    ),
    "None for one": (_changed(lambda dx, dw: (dx, None)), "no-gradient", "w", "dw is None, not an array"),
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
def test_a_fault_of_backward_is_named_in_one_sentence(fault: str, structure: str) -> None:
    backward, code, argument, sentence = BACKWARDS[fault]
    found = _check(structure, backward=backward)
    assert found.verdict == "FAIL"
    assert [(cause.code, cause.argument) for cause in found.causes] == [(code, argument)]
    assert found.causes[0].explanation.startswith(sentence)
    # The fault of one argument does not hide the other, which is right.
    assert {each.name: each.verdict for each in found.arguments} == {
        name: "FAIL" if argument in (None, name) else "PASS" for name in ("x", "w")
    }
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(product, backward, ARRAYS, structure=structure, seed=0)
    assert sentence in str(caught.value)
    assert type(caught.value.__cause__) is (KeyError if code == "raised" else type(None))


def _mutates(x: np.ndarray, w: np.ndarray) -> Any:
    x *= 2
    return x @ w, (x, w)


def _grows() -> Callable[..., Any]:
    sizes = itertools.cycle((1, 2))
    return lambda x, w: (np.repeat(x @ w, next(sizes), axis=1), (x, w))


# What forward does: the code of its fault, the argument at fault, and the sentence. Each check makes a new one.
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
        "forward returned y of shape (2, 2) after (2, 1), for arrays of the same shapes",
    ),
    "mutates": (lambda: _mutates, "input-overwritten", "x", "forward wrote to its argument x"),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("fault", FORWARDS)
def test_a_fault_of_forward_is_named_in_one_sentence(fault: str, structure: str) -> None:
    make, code, argument, sentence = FORWARDS[fault]
    found = _check(structure, make())
    assert found.verdict == "FAIL"
    assert [cause.code for cause in found.causes] == [code]
    assert found.causes[0].argument == argument
    alternating = "forward returned y of shape (2, 1) after (2, 2), for arrays of the same shapes"
    assert found.causes[0].explanation in (sentence, alternating if fault == "two shapes" else "")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_exception_of_forward_at_the_given_arrays_passes_through_with_a_note(structure: str) -> None:
    def forward(x: np.ndarray, w: np.ndarray, *, scale: float = 1.0) -> Any:
        raise ZeroDivisionError("no scale")

    with pytest.raises(ZeroDivisionError, match="no scale") as caught:
        certificate_of(forward, product_back, ARRAYS, {"scale": 0.0}, structure=structure)
    (note,) = caught.value.__notes__
    assert note == (
        "gradcheck: forward raised this at arrays x float64 (2, 3), w float64 (3, 1), options {'scale': 0.0}"
    )


def _only_here(*raising: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a layer whose named functions raise unless x is the given array."""

    def guard(who: str, x: np.ndarray) -> None:
        if who in raising and not np.array_equal(x, ARRAYS[0]):
            raise ValueError("x is not as it was")

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        guard("forward", x)
        return x @ w, (x, w)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        guard("backward", cache[0])
        return product_back(dy, cache)

    return forward, backward


@pytest.mark.parametrize("structure", ["multilinear", "piecewise-linear", "piecewise-multilinear"])
def test_an_exception_at_drawn_arrays_is_no_fault_of_the_layer(structure: str) -> None:
    forward, backward = _only_here("forward")
    with pytest.raises(StructureError, match="x is not as it was") as caught:
        _check(structure, forward, backward)
    assert caught.value.__cause__ is not None


def test_auto_skips_a_structure_whose_arrays_raise_and_says_so() -> None:
    found = _check("auto", *_only_here("backward"))
    assert found.verdict == "PASS"
    assert found.reasons[0].startswith("not multilinear: backward raised ValueError: x is not as it was at arrays x")


def test_a_forward_that_raises_a_step_away_is_inconclusive_and_says_what_helps() -> None:
    for structure in ("auto", "smooth"):
        found = _check(structure, *_only_here("forward"))
        assert found.verdict == "INCONCLUSIVE"
        notes = " ".join(result.note for result in found.arguments)
        assert "take arrays" in notes or "move x away from where it overflows or ends" in notes


@pytest.mark.parametrize("structure", STRUCTURES)
def test_output_and_warnings_of_a_layer_pass_through(structure: str, capsys: pytest.CaptureFixture[str]) -> None:
    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        print("forward!")
        warnings.warn("old", FutureWarning, stacklevel=1)
        return product(x, w)

    with pytest.warns(FutureWarning, match="old"):
        found = _check(structure, forward)
    assert found
    assert capsys.readouterr().out == "forward!\n" * found.forward_calls


WRONG_FORMS = {
    "wrong-shape": lambda gradient: gradient[None, ..., None],
    "wrong-dtype": lambda gradient: gradient.astype(np.float32),
    "no-gradient": lambda gradient: gradient.tolist(),
}


@pytest.mark.parametrize("code", WRONG_FORMS)
@pytest.mark.parametrize(("layer", "implementation"), SAMPLE)
@settings(max_examples=10)
@given(data=st.data())
def test_a_gradient_of_another_form_fails(
    layer: Layer, implementation: Implementation, code: str, data: st.DataObject
) -> None:
    case, position = nonempty(data, layer)
    wrong = sabotaged(implementation, position, WRONG_FORMS[code])
    certificate = certificate_of(*wrong[1:], *case, structure=layer.structure)
    assert certificate.verdict == "FAIL"
    assert [cause.code for cause in certificate.causes] == [code]
    assert certificate.causes[0].argument == layer.names[position]


@pytest.mark.parametrize("which", ["forward", "backward", "backward-dy"])
@pytest.mark.parametrize(("layer", "implementation"), SAMPLE)
@settings(max_examples=10)
@given(data=st.data())
def test_writing_to_an_argument_fails_and_spoils_nothing(
    layer: Layer, implementation: Implementation, which: str, data: st.DataObject
) -> None:
    case, position = nonempty(data, layer)
    before = [None if a is None else a.copy() for a in case.arrays]

    def forward(*arrays: Any, **options: Any) -> Any:
        y, cache = implementation.forward(*arrays, **options)
        if which == "forward":
            arrays[position].flat[0] += 1
        return y, (arrays, cache)

    def backward(dy: Any, cache: Any) -> Any:
        arrays, inner = cache
        gradients = implementation.backward(dy, inner)
        if which == "backward":
            arrays[position].flat[0] += 1
        if which == "backward-dy":
            dy *= 2
        return gradients

    certificate = certificate_of(forward, backward, *case, structure=layer.structure)
    assert certificate.verdict == "FAIL"
    assert [cause.code for cause in certificate.causes] == ["input-overwritten"]
    for now, then in zip(case.arrays, before, strict=True):
        assert then is None or np.array_equal(np.asarray(now), then)


@pytest.mark.parametrize("which", ["x", "dy"])
def test_writing_to_a_large_argument_fails(which: str) -> None:
    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        if which == "x":
            x[...] = x[::-1].copy()
        return x @ w, (x, w)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        dy[5, 5] *= -1
        return product_back(dy, cache)

    arrays = np.ones((2000, 200)), np.ones((200, 200))
    with pytest.raises(GradientMismatch, match=f"wrote to its argument {which}"):
        gradcheck(forward, backward, arrays, structure="multilinear", seed=0)


def test_a_forward_that_reuses_its_buffer_is_judged_by_its_values() -> None:
    buffer = np.zeros((3, 2))

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        return np.matmul(x, w, out=buffer), (x, w)

    arrays = np.ones((3, 4)), np.ones((4, 2))
    assert gradcheck(forward, lambda dy, cache: (dy @ cache[1].T, cache[0].T @ dy), arrays, structure="multilinear")
    with pytest.raises(GradientMismatch):
        gradcheck(forward, lambda dy, cache: (0 * cache[0], 0 * cache[1]), arrays, structure="multilinear")


def test_a_backward_that_reuses_its_buffer_is_judged_by_its_values() -> None:
    buffer = np.zeros(4)

    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        np.multiply(dy, np.exp(x), out=buffer)
        return (buffer,)

    for structure in ("analytic", "smooth"):
        assert gradcheck(lambda x: (np.exp(x), x), backward, (np.linspace(-1, 1, 4),), structure=structure)


def test_none_for_the_gradient_of_an_integer_array_is_accepted_as_in_pytorch() -> None:
    def backward(dy: np.ndarray, cache: Any) -> Any:
        indices, weight = cache
        dweight = np.zeros_like(weight)
        np.add.at(dweight, indices, dy)
        return None, dweight

    arrays = np.array([0, 2, 2]), np.ones((4, 2))
    assert gradcheck(lambda indices, weight: (weight[indices], (indices, weight)), backward, arrays)


@pytest.mark.parametrize("factor", [0, 1, 3])
def test_a_complex_result_of_complex_constants_is_refused(factor: int) -> None:
    x, z = drawn(0, 3, 4), drawn(1, 3, 4) + 1j * drawn(2, 3, 4)
    certificate = certificate_of(lambda x, z: (x * z, z), lambda dy, z: (factor * (dy * z).real, None), (x, z), wrt=[0])
    assert certificate.verdict == "FAIL"
    assert "return both parts, in one real array" in str(certificate)


def test_a_layer_with_other_options_has_shapes_of_its_own() -> None:
    layer = layer_under_test(lambda x, every: (x[::every], x), lambda dy, x: (dy,), (np.ones(6),), {"every": 1}, None)
    other = layer.with_options({"every": 2})
    assert layer.value(layer.arrays).shape == (6,)
    assert other.value(layer.arrays).shape == (3,)
    assert (layer.options, other.options) == ({"every": 1}, {"every": 2})
    assert layer.calls["forward"] == other.calls["forward"] == 2
