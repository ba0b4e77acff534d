"""Bad inputs and mistyped calls, in Python, on the command line and in pytest, each with the sentence it gets."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import verify
from verify import check_layer, parametrize_with_checks
from verify.command.cli import cli

# Calls that a type checker would refuse.
gradcheck: Any = verify.gradcheck
adapters: Any = verify.adapters

X, W = np.random.default_rng(0).normal(size=(5, 4)), np.ones((4, 3))


def matmul(x: Any, w: Any) -> Any:
    """A right layer."""
    return x @ w, (x, w)


def matmul_backward(dy: Any, cache: Any) -> Any:
    """Its gradients."""
    x, w = cache
    return dy @ w.T, x.T @ dy


class Scale:
    """A layer with methods of other names, and an argument."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        """y = factor x."""
        return self.factor * x

    def backprop(self, dy: Any) -> Any:
        """dx = factor dy."""
        return self.factor * dy


class Dense:
    """A layer that keeps its parameter in itself."""

    def __init__(self) -> None:
        self.W = W.copy()

    def forward(self, x: Any) -> Any:
        """y = x W."""
        self.x = x
        return x @ self.W

    def backward(self, dy: Any) -> Any:
        """dx, and dW as an attribute."""
        self.dW = self.x.T @ dy
        return dy @ self.W.T


class OneWay:
    """A layer without a backward."""

    def forward(self, x: Any) -> Any:
        """y = x."""
        return x


class Tensor:
    """A tensor of some framework: what can become an array, and is none."""

    shape = (4, 3)

    def __array__(self, *_: Any, **__: Any) -> Any:
        return W


PAIR = (matmul, matmul_backward)

PYTHON: dict[str, tuple[Callable[[], Any], str]] = {
    "a layer and its inputs": (lambda: gradcheck(Dense(), (X,)), r"write verify\.adapters\.gradcheck\(layer, inputs\)"),
    "a function for options": (lambda: gradcheck(*PAIR, (X, W), lambda: X), "to values, got the function lambda"),
    "the layer alone": (lambda: gradcheck(Dense), "gradcheck needs forward, backward and arrays, got the class Dense:"),
    "arrays for backward": (
        lambda: gradcheck(matmul, (X, W), {}),
        r"backward must be callable, got a tuple of 2: an array of shape \(5, 4\), an array of shape \(4, 3\); a layer",
    ),
    "eps": (lambda: gradcheck(*PAIR, (X, W), eps=1e-6), "takes no eps: leave it out: steps and tolerances follow"),
    "atol, to an adapter": (lambda: adapters.gradcheck(Dense(), (X,), atol=1e-4), "gradcheck takes no atol: leave it"),
    "rtol, to the battery": (lambda: check_layer(PAIR, [((X, W), {})], rtol=1), "check_layer takes no rtol: leave it"),
    "raise_exception": (lambda: gradcheck(*PAIR, (X, W), raise_exception=False), "write raise_on_failure=False"),
    "an option of forward": (lambda: gradcheck(*PAIR, (X, W), stride=2), r"are one dict, \{'stride': \.\.\.\}"),
    "parameters of two functions": (
        lambda: adapters.gradcheck(PAIR, (X, W), parameters=["W"]),
        "parameters is for a layer in NumPy that keeps arrays in itself, and matmul is two functions",
    ),
    "parameters, to the wrong gradcheck": (
        lambda: gradcheck(*PAIR, (X, W), parameters=["W"]),
        r"takes no parameters: it is for .* itself: verify\.adapters\.gradcheck\(layer, inputs, parameters=\.\.\.\)",
    ),
    "one array for the inputs": (
        lambda: adapters.gradcheck(Dense(), X),
        r"inputs must be a tuple, as in \(x,\), got an",
    ),
    "inputs first": (lambda: adapters.gradcheck((X,), Dense), r"The layer comes first, and then its inputs in a tuple"),
    "the layer second": (
        lambda: adapters.plain.gradcheck(Dense(), Dense),
        "the layer comes first, and then its inputs",
    ),
    "wrt a name alone": (lambda: adapters.gradcheck(Dense(), (X,), wrt="W"), r"as in \['W'\], got 'W'"),
    "wrt unknown": (lambda: adapters.gradcheck(Dense(), (X,), wrt=["V"]), "'V', which is none of the arrays: x, W"),
    "other names": (
        lambda: adapters.gradcheck(Scale(2.0), (X,)),
        'not called forward and backward: name them, as in forward="__call__", backward="backprop"',
    ),
    "a name that is not there": (
        lambda: adapters.gradcheck(Scale(2.0), (X,), forward="__call__", backward="back"),
        "Scale has no method back, named as backward; its methods are backprop, __call__",
    ),
    "a class that needs arguments": (
        lambda: adapters.gradcheck(Scale, (X,), forward="__call__", backward="backprop"),
        "Scale cannot be made without arguments, give an instance: .* 'factor'",
    ),
    "no backward": (lambda: adapters.gradcheck(OneWay(), (X,)), "OneWay has no backward: its methods are forward"),
    "a module": (lambda: adapters.gradcheck(np, (X,)), "the module numpy is no layer"),
    "a list of numbers": (
        lambda: gradcheck(*PAIR, (X.tolist(), W.tolist())),
        r"no floating array was given \(x l",
    ),
    "complex": (
        lambda: gradcheck(*PAIR, (X + 1j, W)),
        "x is complex; .*: give its real and imaginary parts as two arr",
    ),
    "NaN": (lambda: gradcheck(*PAIR, (X * np.nan, W)), r"x\[0, 0\] is nan: arrays must be finite"),
    "a tensor": (lambda: gradcheck(*PAIR, (X, Tensor())), "arrays must be NumPy arrays, got Tensor: give its values"),
    "a tensor, to an instance": (
        lambda: adapters.plain.gradcheck(Dense(), (Tensor(),)),
        r"x is a tensor of shape \(4, 3\), and this layer is not known to take such: give NumPy arrays or,",
    ),
    "a tensor beside an array": (
        lambda: adapters.gradcheck(PAIR, (X, Tensor())),
        r"w is a tensor of shape \(4, 3\), and",
    ),
    "a tensor in a case": (lambda: check_layer(PAIR, [((X, Tensor()), {})]), r"w is a tensor of shape \(4, 3\), and"),
    "second order": (
        lambda: verify.gradgradcheck,
        r"layer \(x, dy\) -> dx, as docs/recipes/second_order\.md",
    ),
    "create_graph": (lambda: gradcheck(*PAIR, (X, W), create_graph=True), r"check the layer \(x, dy\) -> dx, as docs"),
    "cases without options": (lambda: check_layer(PAIR, [(X, W)]), r"as in \(\(x,\), \{\}\); got a tuple of 2"),
    "options that are none": (lambda: check_layer(PAIR, [((X, W), 3)]), r"the options a dict, as in .*; got 3"),
    "too few arrays": (
        lambda: check_layer(PAIR, [((X,), {})]),
        "forward takes x, w; it cannot be called with 1 arrays",
    ),
    "a check that is none": (lambda: check_layer(PAIR, [((X, W), {})], checks=["ties"]), "no check is called 'ties'"),
    "at collection, a case": (lambda: parametrize_with_checks([PAIR], [(X, W)]), "got a tuple of 2"),
    "at collection, an array": (
        lambda: parametrize_with_checks([PAIR], [((X,), {})]),
        "cannot be called with 1 arrays",
    ),
    "at collection, a batch": (
        lambda: parametrize_with_checks([PAIR], [((X, W), {})], batch=[2]),
        r"batch must have positions of arrays with axes, among 2 arrays, got \(2,\)",
    ),
    "at collection, a structure": (
        lambda: parametrize_with_checks([PAIR], [((X, W), {})], structure="linear"),
        'structure must be "auto" or one of',
    ),
    "at collection, checks": (
        lambda: parametrize_with_checks([PAIR], [((X, W), {})], checks=["gradients-at-ties"]),
        "takes no checks: each check is a test of its own",
    ),
}


def seemly(sentence: str) -> bool:
    """Return whether a sentence is one line, shows no array, and no name with a leading underscore but dunders."""
    hidden = re.search(r"(?<![\w-])_(?!_call__)\w+", sentence)
    return "\n" not in sentence and "array([" not in sentence and len(sentence) < 600 and hidden is None


@pytest.mark.parametrize("name", PYTHON)
def test_a_bad_call_in_python_gets_its_sentence(name: str) -> None:
    call, sentence = PYTHON[name]
    with pytest.raises((TypeError, ValueError, AttributeError), match=sentence) as caught:
        call()
    assert seemly(str(caught.value)), caught.value


def test_a_sentence_that_is_not_seemly_is_noticed() -> None:
    assert seemly("the class Dense is no layer: name __call__")
    for sentence in (
        "a\nb",
        "got array([1.0])",
        "got <class '_checked_mine.Dense'>",
        "the layer _Tape is none",
        "x" * 700,
    ):
        assert not seemly(sentence)


FILE = """
    import numpy as np

    class Dense:
        def __init__(self, size=4):
            self.W = np.ones((size, 3))
        def forward(self, x):
            self.x = x
            return x @ self.W
        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy @ self.W.T

    class Scale:
        def __init__(self, factor):
            self.factor = factor
        def __call__(self, x):
            return self.factor * x
        def backprop(self, dy):
            return self.factor * dy

    class OneWay:
        def forward(self, x):
            return x

    LIST = [np.ones((3, 4))]
"""

SHAPE = ("--shape", "x=5,4")
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "no command": (("FILE:Dense", *SHAPE), "to check your own layer, write `check"),
    "an option of check": (("run", *SHAPE), "--shape is an option of `check`: write `check path/to/file.py:NAME`"),
    "a typing error": (("check", "FILE:Dens", *SHAPE), "there is no Dens in"),
    "a path without .py": (("check", "layers/mine:Dense", *SHAPE), "a file is written layers/mine.py:NAME"),
    "no shape": (("check", "FILE:Dense"), "--shape is missing for x: the forward takes x; it has its own parameters W"),
    "other names": (("check", "FILE:Scale", "--init", "2", *SHAPE), "as in --forward __call__, --backward backprop"),
    "no such method": (("check", "FILE:Dense", "--backward", "back", *SHAPE), "Dense has no method back, named as b"),
    "no backward": (("check", "FILE:OneWay", *SHAPE), "OneWay has no backward: its methods are forward"),
    "arguments of a class": (
        ("check", "FILE:Scale", "--forward", "__call__", "--backward", "backprop", *SHAPE),
        "Scale cannot be made without arguments, give its arguments, as in --init",
    ),
    "arguments that do not fit": (("check", "FILE:Dense", "--init", "width=2", *SHAPE), "Dense(size=4): got an unexp"),
    "arguments that are none": (("check", "FILE:Dense", "--init", "size=", *SHAPE), "holds no arguments as in --init"),
    "arguments of a list": (
        ("check", "FILE:LIST", "--init", "2", *SHAPE),
        "makes an instance of a class; list is none",
    ),
    "a list": (("check", "FILE:LIST", *SHAPE), "a list of 1: an array of shape (3, 4) is no layer"),
    "a parameter": (
        ("check", "FILE:Dense", "--parameter", "V=dV", *SHAPE),
        "parameter 'V' of Dense must be a floating",
    ),
    "no such fixed array": (
        ("check", "FILE:Dense", "--fixed", "V", *SHAPE),
        "'V', which is none of the floating arrays",
    ),
    "half a parameter": (
        ("check", "FILE:Dense", "--parameter", "W=", *SHAPE),
        "--parameter W= names no attribute with the gradient, as in W=dW",
    ),
    "no reset": (("check", "FILE:Dense", "--reset", "zero", *SHAPE), "Dense has no method zero, named by reset"),
    "a case that is none": (("check", "FILE:Dense", "--arrays", "LIST"), "LIST[0] is a ndarray, neither"),
    "a check": (
        ("check", "FILE:Dense", "--checks", "--expected-failure", "ties=known", *SHAPE),
        "no check is called 't",
    ),
    "a batch without checks": (("check", "FILE:Dense", "--batch", "0", *SHAPE), "add --checks"),
    "a batch": (("check", "FILE:Dense", "--checks", "--batch", "7", *SHAPE), "among 2 arrays, got (7,)"),
    "wrt": (("check", "FILE:Dense", "--wrt", "V", *SHAPE), "'V', which is none of the arrays: x, W"),
    "an option": (("check", "FILE:Dense", "--option", "stride=2", *SHAPE), "unexpected keyword argument 'stride'"),
}


def commanded(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, what is printed, and the same without the frame and line breaks of a usage error."""
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(FILE), encoding="utf-8")
    result = CliRunner().invoke(cli, [each.replace("FILE", str(path)) for each in arguments])
    plain = " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split())
    return result.exit_code, result.output, plain.replace(str(path), "mine.py")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_command_gets_its_sentence_and_exit_code_2(name: str, tmp_path: Path) -> None:
    arguments, sentence = COMMANDS[name]
    code, output, plain = commanded(tmp_path, *arguments)
    assert code == 2, output
    assert sentence in plain
    assert "Traceback" not in output
    assert seemly(plain.partition("Error")[2]), plain


TEST = """
    import numpy as np
    from verify import parametrize_with_checks

    def double(x):
        return 2 * x, None

    def back(dy, cache):
        return (2 * dy,)

    @parametrize_with_checks({"double": (double, back)}, CASES)
    def test_layer(layer, check):
        check(layer)
"""


@pytest.mark.parametrize(
    ("cases", "sentence"),
    [
        (
            "[np.ones(3)]",
            "*TypeError: a case is (arrays, options), the arrays a tuple, as in ((x,), {}); got a ndarray",
        ),
        ("[((np.ones(3), np.ones(3)), {})]", "*TypeError: forward takes x; it cannot be called with 2 arrays*"),
        ("[]", "*ValueError: cases is empty"),
    ],
)
def test_bad_cases_fail_once_at_collection(pytester: pytest.Pytester, cases: str, sentence: str) -> None:
    pytester.makepyfile(TEST.replace("CASES", cases))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([sentence])


def test_good_cases_are_collected(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST.replace("CASES", "[((np.ones(3),), {})]"))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-q")
    result.assert_outcomes(passed=13, skipped=2)
