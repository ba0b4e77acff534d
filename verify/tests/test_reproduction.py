"""The lines that a FAIL prints run as printed, for every oracle, and show the two values they say they show."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_core import conv2d, max_pool2d, relu, softmax_cross_entropy
from helpers import certificate_of
from verify import adapters
from verify.checker.certificate import Certificate
from verify.command.targets import load
from verify.diagnosis.reproduction import YOURS, arrays_not_at_hand, runnable

SHAPE, KERNEL = (2, 2, 5, 4), (2, 2, 3, 2)


def _half_again(right: Any) -> Callable[..., Any]:
    """Return a closure, which cannot be imported."""
    return lambda dy, cache: tuple(None if g is None else 1.5 * g for g in right(dy, cache))


def wrong_convolution(dy: Any, cache: Any) -> Any:
    """Return negated gradients. The printed lines import this function."""
    return tuple(None if g is None else -g for g in conv2d.im2col.backward(dy, cache))


class Scale:
    """A layer whose functions are imported through their class."""

    @staticmethod
    def forward(x: Any) -> Any:
        """y = 3 x."""
        return 3 * x, None

    @staticmethod
    def backward(dy: Any, cache: Any) -> Any:
        """Wrong in every entry."""
        return (2 * dy,)


def _draw(shape: Any, seed: int = 0, kind: str = "normal") -> Any:
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape) if kind == "normal" else generator.integers(-2, 3, shape).astype(float)


LABELS = np.array([0, 3, 1])
POOL = {"kernel_size": 2}
# Structure, and how it comes to be: implementation, arrays, options, and which way is right.
ORACLES: dict[str, tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = {
    "multilinear": ("multilinear", conv2d.im2col, (_draw(SHAPE), _draw(KERNEL), None), {"stride": 2, "padding": 1}),
    "float32": (
        "multilinear",
        conv2d.im2col,
        (_draw(SHAPE).astype(np.float32), _draw(KERNEL).astype(np.float32)),
        {"padding": "same"},
    ),
    "large": ("multilinear", conv2d.im2col, (_draw((2, 8, 20, 20)), _draw((4, 8, 3, 3))), {}),
    "piecewise-linear": ("piecewise-linear", max_pool2d.im2col, (_draw((2, 1, 4, 4), kind="integers"),), POOL),
    "piecewise-multilinear": (
        "piecewise-multilinear",
        max_pool2d.im2col,
        (_draw((2, 1, 4, 4), kind="integers"),),
        POOL,
    ),
    "analytic": ("analytic", softmax_cross_entropy.naive, (_draw((3, 4)), LABELS), {"reduction": "none"}),
    "many labels": ("analytic", softmax_cross_entropy.vectorized, (_draw((99, 4)), np.arange(99) % 4), {}),
    "smooth": ("smooth", softmax_cross_entropy.naive, (_draw((3, 4)), LABELS), {}),
    "scalar": ("piecewise-linear", relu.vectorized, (np.array(2.0),), {}),
}


def _shown(text: str, **names: Any) -> tuple[float, float]:
    """Run the lines, without those for the reader to fill in, and return what they print."""
    printed: list[Any] = []
    exec("\n".join(runnable(text)), {**names, "print": lambda *values: printed.extend(values)})
    return float(printed[0]), float(printed[1])


def _said(text: str) -> tuple[float, float]:
    """Return the two values in the comment of the last line."""
    found = re.search(r"# (\S+), where differences say (\S+)$", text)
    assert found is not None, text
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("name", ORACLES)
def test_the_lines_run_and_show_what_they_say(name: str) -> None:
    structure, implementation, arrays, options = ORACLES[name]
    backward = _half_again(implementation.backward)
    found = certificate_of(implementation.forward, backward, arrays, options, structure=structure, seed=0)
    assert found.verdict == "FAIL"
    lines = found.reproduction.splitlines()
    assert 0 < len(lines) <= 10, found
    assert f"backward = {YOURS}" in found.reproduction  # a closure
    path = implementation.forward.__qualname__
    assert f"from {implementation.forward.__module__} import {path.split('.')[0]}; forward = {path}" in lines
    claimed, true = _shown(found.reproduction, backward=backward, arrays=arrays)
    assert (claimed, true) == _said(found.reproduction)
    assert re.search(r"\n  to reproduce, at your arrays( \[\w.*\])?:\n", str(found))
    assert claimed == pytest.approx(1.5 * true, rel=1e-6)  # a plain central difference, where it is one
    assert found.reproduction == found.to_dict()["reproduction"]
    assert all(f"    {line}" in str(found) for line in lines)


def test_lines_of_what_can_be_imported_run_in_a_process_of_their_own() -> None:
    for forward, backward, arrays in (
        (conv2d.im2col.forward, wrong_convolution, (_draw((1, 1, 3, 3)), _draw((1, 1, 2, 2)))),
        (Scale.forward, Scale.backward, (_draw((3, 4)),)),
    ):
        found = certificate_of(forward, backward, arrays, seed=0)
        assert YOURS not in found.reproduction
        module = f"from {__name__} import "
        assert module in found.reproduction
        printed = subprocess.run(
            [sys.executable, "-c", found.reproduction],
            cwd=Path(__file__).parent,
            env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert tuple(map(float, printed)) == _said(found.reproduction)


def test_lines_hold_the_arrays_found_where_small_numbers_hide_the_error() -> None:
    """The relu is wrong at 0 alone."""

    def backward(dy: Any, cache: Any) -> Any:
        return (np.where(cache.x >= 0, dy, 0.0),)

    x = _draw((4, 3), kind="integers")
    found = certificate_of(relu.naive.forward, backward, (x,), seed=0)
    assert str(x.tolist()) in found.reproduction
    assert found.worst is not None
    shown = _shown(found.reproduction, backward=backward)
    assert shown == (found.worst.analytic, found.worst.numeric)


def test_a_gradient_that_is_not_finite_is_shown() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        return (np.full_like(dy, np.nan),)

    found = certificate_of(lambda x: (3 * x, None), backward, (np.ones(3),), seed=0)
    claimed, true = _shown(found.reproduction, forward=lambda x: (3 * x, None), backward=backward)
    assert claimed != claimed
    assert np.isfinite(true)


def test_a_pass_and_a_broken_contract_have_no_lines() -> None:
    def check(backward: Any) -> Certificate:
        return certificate_of(lambda x: (3 * x, None), backward, (np.ones(3),))

    assert check(lambda dy, _: (3 * dy,)).reproduction == ""
    assert check(lambda dy, _: (3 * dy[1:],)).reproduction == ""


def test_options_that_cannot_be_written_down_are_yours() -> None:
    def forward(x: Any, *, scale: Any) -> Any:
        return scale(x), None

    found = certificate_of(forward, lambda dy, _: (dy,), (np.ones(3),), {"scale": lambda x: 3 * x}, seed=0)
    assert f"options = {YOURS}" in found.reproduction
    shown = _shown(
        found.reproduction, forward=forward, backward=lambda dy, _: (dy,), options={"scale": lambda x: 3 * x}
    )
    assert shown == _said(found.reproduction)


def _product(x: Any, w: Any) -> Any:
    y = np.tanh(x @ w)
    return y, (x, w, y)


def _product_twice(dy: Any, cache: Any) -> Any:
    x, w, y = cache
    inner = dy * (1 - y * y)
    return inner @ w.T, 2 * x.T @ inner


def test_arrays_of_unlike_shapes_are_moved_one_at_a_time() -> None:
    found = certificate_of(_product, _product_twice, (_draw((4, 3)), _draw((3, 2))), seed=0)
    assert found.structure == "analytic"
    claimed, true = _shown(found.reproduction, forward=_product, backward=_product_twice)
    assert claimed == pytest.approx(2 * true)


# Forward, a wrong and the right backward, and arrays at which a complex step, or a step beyond the domain, misleads.
MISLEADING: dict[str, tuple[Any, Any, Any, Any]] = {
    "softshrink": (
        lambda x: (np.sign(x) * np.maximum(np.abs(x) - 0.5, 0), x),
        lambda dy, x: (dy * 1.0,),
        lambda dy, x: (dy * (np.abs(x) > 0.5),),
        [0.1, 0.9],
    ),
    "abs": (
        lambda x: (np.abs(x), x),
        lambda dy, x: (np.where(x == 0, 3, np.sign(x)) * dy,),
        lambda dy, x: (np.where(x >= 0, 1, -1) * dy,),
        [0.0, 1.0, -2.0],
    ),
    "sqrt": (
        lambda x: (np.sqrt(x), x),
        lambda dy, x: (dy / np.sqrt(np.where(x == 0, 1, x)),),
        lambda dy, x: (dy / (2 * np.sqrt(x)),),
        [0.0, 1.0, 2.0],
    ),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_lines_show_that_a_right_backward_is_right(name: str) -> None:
    forward, wrong, right, values = MISLEADING[name]
    with np.errstate(all="ignore"):
        found = certificate_of(forward, wrong, (np.array(values),), seed=0)
        claimed, true = _shown(found.reproduction, forward=forward, backward=wrong)
        said, same = _shown(found.reproduction, forward=forward, backward=right)
    assert (claimed, true) == _said(found.reproduction)
    assert same == true
    assert claimed != pytest.approx(true, rel=1e-3)
    assert said == pytest.approx(true, rel=1e-6)


def test_lines_do_not_import_a_file_loaded_under_a_private_name(tmp_path: Path) -> None:
    path = tmp_path / "lay.py"
    path.write_text("def f(x):\n    return 3 * x, None\n\ndef b(dy, _):\n    return (2 * dy,)\n")
    forward, backward = load(f"{path}:f,b").layer
    found = certificate_of(forward, backward, (np.ones(3),), seed=0)
    assert f"forward, backward = {YOURS}" in found.reproduction
    assert "import lay" not in found.reproduction
    assert "_checked" not in found.reproduction


class _Adding:
    """Its gradient is right at the first backward, and adds to the one before at every other."""

    def __init__(self) -> None:
        self.W, self.dW = np.ones((4, 2)), np.zeros((4, 2))

    def forward(self, x: Any) -> Any:
        """y = x W."""
        self.x = x
        return x @ self.W

    def backward(self, dy: Any) -> Any:
        """dx; dW is left in the instance."""
        self.dW = self.dW + self.x.T @ dy
        return dy @ self.W.T


def test_lines_that_begin_anew_are_not_printed_for_what_a_call_leaves_behind() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    found = adapters.plain.gradcheck(_Adding(), (x,), seed=0, raise_on_failure=False)
    assert found.verdict == "FAIL"
    assert "accumulates" in {cause.code for cause in found.causes}
    if found.reproduction:
        claimed, true = _said(found.reproduction)
        assert abs(claimed - true) > 1e-6 * abs(true)


def _slack_relu(x: Any) -> Any:
    return np.maximum(x, 0), x


def test_arrays_that_the_check_drew_are_not_called_yours_rounded() -> None:
    x = np.array([[0.125, -0.125, 0.625], [0.125, -0.5625, 0.375]])
    found = certificate_of(_slack_relu, lambda dy, x: (dy * (x >= -0.1),), (x,), seed=0)
    assert found.verdict == "FAIL"
    assert found.shown[0].where == "at drawn arrays"


def test_lines_draw_integers_without_ties_where_no_arrays_are_at_hand() -> None:
    def backward(dy: Any, x: Any) -> Any:
        return (2 * dy * (x > 0),)

    with arrays_not_at_hand():
        found = certificate_of(_slack_relu, backward, (np.ones((20, 30)) - np.arange(600).reshape(20, 30),), seed=1)
    assert "rng.choice([-1, 1]) * (4 * rng.permutation(600).reshape((20, 30)) - 1198)" in found.reproduction
    claimed, true = _shown(found.reproduction, forward=_slack_relu, backward=backward)
    assert claimed == 2 * true != 0
    assert (claimed, true) == _said(found.reproduction)
