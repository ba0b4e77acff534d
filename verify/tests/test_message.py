"""What a certificate says: the first line, the cause, where, and what to do. Each kind in three forms and more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cnn_core import conv2d, max_pool2d
from helpers import certificate_of, conv_arrays, drawn, refuse_complex, sabotaged
from verify.checker.certificate import ArgumentResult, Certificate, Uncovered
from verify.command.cli import cli
from verify.diagnosis.report import FACTS, differing, several

NUMBERS = re.compile(r"(\w+\[[\d, ]+\]) is (\S+) and (?:should|may) be (?:at most |at least )?(\S+?)(?:;|$)")
TOGETHER = re.compile(r" together claim (\S+) and may claim (?:at most |at least )?(\S+?)(?:;|$)")
EMPTY: dict[Any, Any] = {}
X, W = drawn(0, 5, 4), drawn(1, 4, 3)


def matmul(x: Any, w: Any) -> Any:
    """Return x w."""
    return x @ w, (x, w)


def matmul_back(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return a backward of `matmul` whose gradients are changed."""

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return change(dy @ w.T, x.T @ dy)

    return backward


def _one(gradient: Any, index: tuple[int, ...], factor: float) -> Any:
    gradient = np.array(gradient)
    gradient[index] *= factor
    return gradient


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    def forward(x: Any) -> Any:
        refuse_complex(x)
        return function(x), x

    return forward


def _sine(factor: float) -> Callable[..., Any]:
    return lambda dy, x: (_one(dy * np.cos(x), (1, 2), factor),)


# Forward, a backward that is wrong in one entry, arrays, and the entry.
ONE_ENTRY: dict[str, tuple[Any, Any, Any, str]] = {
    "a billionth": (
        matmul,
        matmul_back(lambda dx, dw: (dx, _one(dw, (1, 0), 1 + 1e-9))),
        (np.ones((5, 4)), np.ones((4, 3))),
        "dw[1, 0]",
    ),
    "of normal numbers": (matmul, matmul_back(lambda dx, dw: (_one(dx, (4, 3), 1 + 1e-8), dw)), (X, W), "dx[4, 3]"),
    "zero": (matmul, matmul_back(lambda dx, dw: (dx, _one(dw, (0, 0), 0))), (X, W), "dw[0, 0]"),
    "by the complex step": (lambda x: (np.sin(x), x), _sine(1 + 1e-9), (X,), "dx[1, 2]"),
    "by differences": (_real(np.sin), _sine(1 + 1e-6), (X,), "dx[1, 2]"),
    "in float32": (_real(np.sin), _sine(2), (X.astype(np.float32),), "dx[1, 2]"),
    "nan": (matmul, matmul_back(lambda dx, dw: (dx, _one(dw, (2, 1), np.nan))), (X, W), "dw[2, 1]"),
    "of a pooling": (
        max_pool2d.im2col.forward,
        sabotaged(max_pool2d.im2col, 0, lambda dx: dx + _at((2, 1, 4, 4), (1, 0, 2, 3))).backward,
        (drawn(2, 2, 1, 4, 4),),
        "dx[1, 0, 2, 3]",
    ),
}


def _at(shape: tuple[int, ...], index: tuple[int, ...]) -> Any:
    array = np.zeros(shape)
    array[index] = 1
    return array


@pytest.mark.parametrize("name", ONE_ENTRY)
def test_the_first_line_says_which_entry_is_wrong_and_by_which_numbers(name: str) -> None:
    forward, backward, arrays, entry = ONE_ENTRY[name]
    options = {"kernel_size": 2} if "pooling" in name else {}
    found = certificate_of(forward, backward, arrays, options, seed=0)
    assert found.verdict == "FAIL", found
    assert str(found).splitlines()[0] == found.headline
    shown = NUMBERS.search(found.headline)
    assert shown is not None, found.headline
    assert shown[1] == entry
    assert shown[2] != shown[3]
    assert not abs(float(shown[2])) > 1000  # small numbers
    assert found.shown[0].where.startswith("at your arrays")
    count = f" is wrong in 1 of {np.size(arrays[found.shown[0].argument])} entries; "
    assert count in found.headline or name == "by differences"  # whose evidence is known to a millionth


def _window_ties(width: int, wrong: str) -> tuple[Any, Any]:
    """Return a pooling of windows of this width, and a backward that is wrong at ties."""

    def forward(x: Any) -> Any:
        windows = x.reshape(len(x), -1, width)
        return windows.max(2), windows

    def backward(dy: Any, windows: Any) -> Any:
        tied = windows == windows.max(2, keepdims=True)
        if wrong == "half too much":
            tied = tied * 1.5 / tied.sum(2, keepdims=True)
        if wrong == "last":
            tied = tied & (tied[:, :, ::-1].cumsum(2)[:, :, ::-1] == 1)
        return ((dy[:, :, None] * tied).reshape(len(windows), -1),)

    return forward, backward


TIED = np.maximum(np.random.default_rng(0).normal(size=(4, 8)), 0)


@pytest.mark.parametrize(
    ("width", "x"), [(2, TIED), (4, TIED), (2, np.zeros((3, 4))), (4, np.rint(drawn(5, 2, 8))), (8, np.abs(TIED) * 0)]
)
def test_ties_are_told_by_what_they_claim_together(width: int, x: Any) -> None:
    found = certificate_of(*_window_ties(width, "all"), (x,), seed=0)
    assert found.verdict == "FAIL"
    shown = TOGETHER.search(found.headline)
    assert shown is not None, found.headline
    assert abs(float(shown[1])) > abs(float(shown[2]))
    assert "backward says" not in str(found)
    assert "together claim" in found.headline
    wrong = found.wrong_entries["x"]
    assert wrong is not None
    assert all(wrong[index] for index in found.shown[0].indices)
    assert certificate_of(*_window_ties(width, "last"), (x,), seed=0).verdict == "PASS"


def test_lines_of_ties_print_the_numbers_of_the_first_line() -> None:
    forward, backward = _window_ties(2, "all")
    found = certificate_of(forward, backward, (np.zeros((3, 4)),), seed=0)
    printed: list[float] = []
    names = {"forward": forward, "backward": backward, "print": lambda *values: printed.extend(values)}
    exec("\n".join(line for line in found.reproduction.splitlines() if "yours" not in line), names)
    shown = TOGETHER.search(found.headline)
    assert shown is not None
    assert printed == [float(shown[1]), float(shown[2])] or "at " in found.headline
    assert len(found.reproduction.splitlines()) <= 10


# A change to the gradients of `matmul`, the first line, and the code, for faults of contract.
FAULTS: dict[str, tuple[Any, str, str]] = {
    "shape": (lambda dx, dw: (dx, dw.T), "dw has shape (3, 4), w has (4, 3)", "wrong-shape"),
    "dtype": (lambda dx, dw: (dx.astype("f"), dw), "dx has dtype float32, x has float64", "wrong-dtype"),
    "count": (lambda dx, dw: (dx,), "backward must return (dx, dw), got 1 gradient", "gradient-count"),
    "no array": (lambda dx, dw: (dx, None), "dw is None, not an array", "no-gradient"),
    "raised": (lambda dx, dw: EMPTY["dw"], "backward raised KeyError: 'dw' at arrays ", "raised"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fact_is_said_once_and_is_no_guess(name: str) -> None:
    change, first, code = FAULTS[name]
    found = certificate_of(matmul, matmul_back(change), (X, W), seed=0)
    text = str(found)
    assert found.headline.startswith(f"FAIL: {first}")
    assert text.count(first) == 1
    assert f"\n  cause: {code}\n" in text
    assert "guess" not in text
    assert "#" not in text


def test_a_guess_is_said_to_be_one_and_an_unknown_cause_is_not() -> None:
    twice = certificate_of(matmul, matmul_back(lambda dx, dw: (dx, -dw)), (X, W), seed=0)
    assert "\n  likely cause (a guess): sign: dw has the opposite sign\n" in str(twice)
    unknown = certificate_of(matmul, matmul_back(lambda dx, dw: (dx, _one(dw, (0, 0), 3))), (X, W), seed=0)
    assert "\n  cause: unknown: " in str(unknown)


@pytest.mark.parametrize(
    ("change", "first", "sentence", "merged"),
    [
        (
            lambda dx, dw: (2 * dx, 2 * dw),
            " is wrong as well",
            "all gradients are wrong together",
            "each of dx and dw is 2",
        ),
        (
            lambda dx, dw: (-dx, -dw),
            " is wrong as well",
            "all gradients are wrong together",
            "each of dx and dw has the",
        ),
        (lambda dx, dw: (2 * dx, -dw), " is wrong as well", "all gradients are wrong together", "dx is 2 times"),
        (lambda dx, dw: (dx, -dw), "; dw[", "", "dw has the opposite sign"),
    ],
)
def test_several_wrong_gradients_are_said_in_one_sentence(change: Any, first: str, sentence: str, merged: str) -> None:
    found = certificate_of(matmul, matmul_back(change), (X, W), seed=0)
    assert first in found.headline
    assert merged in str(found)
    assert ("wrong together" in str(found)) == bool(sentence)
    assert sentence in str(found)
    assert {each.name for each in found.shown} == {"x", "w"} - ({"x"} if not sentence else set())


def _helper(x: Any) -> Any:
    return EMPTY[len(x)]


class _Stateful:
    """A layer whose backward raises in a method of its own."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return 2 * x

    def backward(self, dy: Any) -> Any:
        return self._scaled(dy)

    def _scaled(self, dy: Any) -> Any:
        return np.linalg.inv(np.zeros((2, 2))) @ dy


def _line_of(marker: str) -> str:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(k for k, line in enumerate(lines, 1) if line.strip() == marker)}, in "


@pytest.mark.parametrize(
    ("backward", "where"),
    [
        (lambda dy, x: (dy * _helper(x),), _line_of("return EMPTY[len(x)]") + "_helper"),
        (lambda dy, x: (np.concatenate([dy, 1]),), f"{__file__}:"),  # raised in NumPy: our line
        (matmul_back(lambda dx, dw: (1 / 0, dw)), f"{__file__}:"),
    ],
)
def test_a_backward_that_raises_is_given_its_line(backward: Any, where: str) -> None:
    forward, arrays = (matmul, (X, W)) if "matmul" in backward.__qualname__ else ((lambda x: (2 * x, x)), (X,))
    found = certificate_of(forward, backward, arrays, seed=0)
    assert f"; raised at {where}" in found.headline
    assert f"; raised at {where}" in found.causes[0].explanation
    assert str(found).count("raised at") == 1


def test_a_layer_with_state_that_raises_is_given_its_line() -> None:
    from verify.adapters import plain

    found = plain.gradcheck(_Stateful(), (np.ones((2, 3)),), seed=0, raise_on_failure=False)
    assert _line_of("return np.linalg.inv(np.zeros((2, 2))) @ dy") + "_scaled" in found.headline


def test_an_exception_that_quotes_an_array_takes_one_line() -> None:
    def backward(dy: Any, x: Any) -> Any:
        raise ValueError(f"bad array:\n{np.ones((60, 9)).tolist()}")

    found = certificate_of(lambda x: (2 * x, x), backward, (X,), seed=0)
    assert "bad array: [[1.0" in found.headline
    assert len(str(found)) < 1000
    assert len(str(found).splitlines()) == 3


def test_a_pass_is_one_line_of_promise_and_reasons_are_for_those_who_ask() -> None:
    def relu(dy: Any, x: Any) -> Any:
        return (dy * (x > 0),)

    found = certificate_of(lambda x: (np.maximum(x, 0), x), relu, (X,), seed=0)
    assert re.match(
        r"PASS: dx \(exact gapped integers: a wrong gradient passes with probability at most \S+e-\d+\)$",
        found.headline,
    )
    assert found.reasons
    assert not any(reason in str(found) for reason in found.reasons)
    assert all(f"\n  {reason}" in found.explain() for reason in found.reasons)
    smooth = certificate_of(lambda x: (np.sin(x), x), lambda dy, x: (dy * np.cos(x),), (X,), seed=0)
    assert "PASS: dx (complex step: an error above " in smooth.headline
    assert "no stronger oracle was passed over" in certificate_of(*conv2d.im2col[1:], conv_arrays()).explain()
    empty = certificate_of(lambda x: (np.sin(x), x), lambda dy, x: (dy * np.cos(x),), (np.ones((0, 3)),), seed=0)
    assert "no entries to compare" in empty.headline


def test_a_y_without_entries_is_named() -> None:
    """A window larger than x: every gradient of zeros is right, whatever the layer does elsewhere."""

    def forward(x: Any) -> Any:
        return np.maximum(x[:, 5:], 0), x

    found = certificate_of(forward, lambda dy, x: (np.zeros_like(x),), (X,), seed=0)
    assert "\n  not checked: y (it has no entries at these shapes: any gradient of zeros is right)" in str(found)
    wrong = certificate_of(forward, lambda dy, x: (np.ones_like(x),), (X,), seed=0)
    assert wrong.verdict == "FAIL"
    none_to_move = certificate_of(lambda x: (x, None), lambda dy, _: (dy,), (X[:0],), seed=0)
    assert not none_to_move.uncovered  # the headline says it


def test_the_command_line_explains_when_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "layer.py"
    path.write_text(
        "import numpy as np\ndef f(x):\n    return np.sin(x), x\ndef b(dy, x):\n    return (dy * np.cos(x),)\n"
    )
    plain, explained = (
        CliRunner().invoke(cli, ["check", f"{path}:f,b", "--shape", "x=3,4", *more]) for more in ([], ["--explain"])
    )
    assert plain.exit_code == explained.exit_code == 0
    assert "not multilinear" not in plain.output
    assert "\n  not multilinear: " in explained.output


# Forward and the right backward, of which nothing can be decided, and what the first line says.
UNDECIDED: dict[str, tuple[Any, Any, Any, str]] = {
    "random": (
        lambda x: (x * np.random.default_rng().random(x.shape), x),
        lambda dy, x: (dy,),
        X,
        "two calls of the forward with the same arrays differ: fix its randomness",
    ),
    "below rounding": (
        _real(lambda x: 1 + 1e-14 * np.sin(x)),
        lambda dy, x: (1e-14 * dy * np.cos(x),),
        X,
        "so small a gradient is lost in the rounding of y, whose entries reach 1: leave out of y what does not depend",
    ),
    "float32 arrays": (
        _real(np.tanh),
        lambda dy, x: (dy * (1 - np.tanh(x) ** 2),),
        X.astype(np.float32),
        "float32 is too coarse for differences: check with arrays of float64",
    ),
    "y of float32": (
        _real(lambda x: np.tanh(x).astype(np.float32)),
        lambda dy, x: (dy * (1 - np.tanh(x) ** 2),),
        X,
        "y is float32, too coarse for differences, and x is float64: let forward compute in float64",
    ),
    "not finite": (
        lambda x: (np.log(x), x),
        lambda dy, x: (dy / x,),
        np.zeros(3),
        "y is not finite at these arrays: take arrays at which it is",
    ),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_decided_is_said_with_what_to_do(name: str) -> None:
    forward, backward, x, why = UNDECIDED[name]
    with np.errstate(all="ignore"):
        found = certificate_of(forward, backward, (x,), seed=0, structure="smooth")
    if found.verdict == "INCONCLUSIVE":  # float32 may be checked through float64
        assert found.headline.startswith(f"INCONCLUSIVE: dx could not be decided: {why}"), found
        assert str(found).count(why) == 1
    else:
        assert "float32" in name


def test_a_forward_that_backward_changes_is_not_called_random() -> None:
    from verify.checker.layer import LayerUnderTest
    from verify.checker.objections.randomness import why_not_repeated

    rng = np.random.default_rng(0)

    def layer(forward: Any) -> LayerUnderTest:
        return LayerUnderTest(forward, lambda dy, _: (dy,), (X,), {}, ("x",), (0,))

    assert "fix its randomness" in why_not_repeated(layer(lambda x: (x * rng.random(), x)))

    weights = [3.0]

    def update(dy: np.ndarray, _: Any) -> Any:
        weights[0] += 0.1
        return (dy,)

    changed = why_not_repeated(LayerUnderTest(lambda x: (weights[0] * x, x), update, (X,), {}, ("x",), (0,)))
    assert "randomness" not in changed
    assert "backward changes what forward computes" in changed
    # A y that is NaN in places stays so. A forward that is neither random nor changed by backward may keep something.
    holed = X.copy()
    holed.flat[0] = np.nan
    assert (
        why_not_repeated(LayerUnderTest(lambda x: (weights[0] * x, x), update, (holed,), {}, ("x",), (0,))) == changed
    )
    assert "what it keeps between calls" in why_not_repeated(layer(lambda x: (x, x)))
    random = LayerUnderTest(lambda x: (weights[0] * x * rng.random(), x), update, (X,), {}, ("x",), (0,))
    assert "fix its randomness" in why_not_repeated(random)


def test_what_is_not_checked_is_named_in_the_first_line() -> None:
    missing = Uncovered("weights", "y depends on it", 'parameters={"weights": "weights_gradient"}', matters=True)
    found = Certificate("INCONCLUSIVE", "smooth", "differences", 0, (_passed("x"),), uncovered=(missing,))
    assert found.headline == (
        'INCONCLUSIVE: weights was not checked (y depends on it). parameters={"weights": "weights_gradient"}'
    )
    two = Certificate(
        "INCONCLUSIVE", "smooth", "", 0, (_passed("x"),), uncovered=(missing, missing._replace(name="bias"))
    )
    assert two.headline.startswith("INCONCLUSIVE: weights and bias were not checked (each: y depends on it). ")


def _passed(name: str) -> ArgumentResult:
    return ArgumentResult(0, name, (2,), "PASS")


def test_numbers_that_differ_are_never_printed_equal() -> None:
    for one, other in ((1.0, 1 + 2**-52), (1e300, 1.0000001e300), (3.0, 3.000000003), (0.1, -0.1), (1.5e-8, 1.6e-8)):
        texts = differing(one, other)
        assert texts[0] != texts[1]
        assert float(texts[0]) - float(texts[1]) == pytest.approx(one - other, rel=0.1)
    assert differing(20.0, -14.0) == ("20.0", "-14.0")
    assert differing(-0.0, -212928729.0) == ("0.0", "-2.12929e+08")  # no sign, and no digits that are none
    assert differing(212928729.0, 212928730.0) == ("212928729.0", "212928730.0")
    assert differing(float("nan"), 2.0) == ("nan", "2.0")
    assert several(["dx"]) == "dx"
    assert several(["dx", "dw", "db"]) == "dx, dw and db"
    assert several([f"d{k}" for k in range(20)]).endswith("and 13 others")


def test_the_new_fields_go_to_json() -> None:
    found = certificate_of(matmul, matmul_back(lambda dx, dw: (dx, _one(dw, (1, 0), 3))), (X, W), seed=0)
    plain = json.loads(found.to_json())
    assert plain["headline"] == found.headline
    assert plain["wrong_entries"] == {"w": {"entries": 12, "looked_at": 12, "wrong": 1}}
    assert plain["shown"][0]["indices"] == [[1, 0]]
    assert "raised" in FACTS
