# mypy: allow-untyped-defs, allow-untyped-calls
# mypy: disable-error-code="override"
"""What the zoo's layers showed of the adapter of plain layers and of the checker, each by a few forms of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import drawn, result_of
from verify import Certificate, adapters, check_layer, gradcheck
from verify.adapters._names import is_target
from zoo import ZOO, Draw
from zoo._row import Row

ROWS = {row.name: row for row in ZOO}
# What belongs to the pair, and not to its check.
_OF_PAIRS = ("forward", "backward", "parameters", "fixed", "reset", "backward_options")


def made(name: str, mistake: str = "", seed: int = 0, dtype: Any = np.float64) -> tuple[Row, Any, tuple[Any, ...]]:
    """Return a row, its right layer or the wrong one, and inputs."""
    row, draw = ROWS[name], Draw(seed, dtype)
    return row, (row.wrong[mistake] if mistake else row.right)(draw), row.inputs(draw)


def check(layer: Any, *inputs: Any, **settings: Any) -> Certificate:
    return result_of(adapters.gradcheck, layer, inputs, seed=0, **settings)


class Loss:
    """forward(y, y_pred): the gradient is that of the second input."""

    def __init__(self, sign: int = 1) -> None:
        self.sign = sign

    def forward(self, y, y_pred):
        self.difference = y_pred - y
        return self.difference**2

    def backward(self, dy):
        return 2 * self.sign * self.difference * dy


class LossOfColumn(Loss):
    """The target is a row for all: only the second input has the gradient's shape."""


class LossWithWeight(Loss):
    """Has a parameter as well."""

    def __init__(self, sign: int = 1) -> None:
        super().__init__(sign)
        self.w = drawn(7, 4)

    def forward(self, y, y_pred):
        return super().forward(y, y_pred * self.w if self.keep(y_pred) else y_pred)

    def keep(self, y_pred):
        self.y_pred = y_pred
        return True

    def backward(self, dy):
        d = super().backward(dy)
        self.dw = (d * self.y_pred).sum(axis=0)
        return d * self.w


@pytest.mark.parametrize(("kind", "target"), [(Loss, (3, 4)), (LossOfColumn, (1, 4)), (LossWithWeight, (3, 4))])
def test_a_lone_gradient_may_belong_to_the_second_input(kind: Any, target: tuple[int, ...]) -> None:
    inputs = drawn(0, *target), drawn(1, 3, 4)
    own = ["y_pred", "w"] if kind is LossWithWeight else ["y_pred"]
    silent = check(kind(), *inputs)
    assert (silent.verdict, f"wrt={own!r}" in silent.headline) == ("INCONCLUSIVE", True)
    assert "right for y_pred, and wrong for y" in silent.headline
    assert check(kind(), *inputs, wrt=own).verdict == "PASS"
    assert check(kind(-1), *inputs).verdict != "PASS"
    assert check(kind(-1), *inputs, wrt=own).verdict == "FAIL"


def test_a_gradient_of_the_target_is_still_wrong_for_the_prediction() -> None:
    class Predicted(Loss):
        def forward(self, y_pred, y_true):
            return super().forward(y_true, y_pred)

    inputs = drawn(0, 3, 4), drawn(1, 3, 4)
    assert check(Predicted(-1), *inputs).verdict == "FAIL"
    assert check(Predicted(), *inputs, wrt=["y_pred"]).verdict == "PASS"
    assert all(map(is_target, ("t", "y", "y_true", "labels", "target")))
    assert not any(map(is_target, ("x", "y_pred", "logits", "yhat")))


class Factor:
    """A parameter that is a number; the input's precision must not change by it."""

    def __init__(self, number: Any) -> None:
        self.factor, self.factor_grad = number, 0.0

    def forward(self, x):
        self.x = x
        return x * self.factor

    def backward(self, dy):
        self.factor_grad = float((dy * self.x).sum())
        return dy * self.factor


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_of_python_leaves_the_precision_of_x_alone(dtype: Any) -> None:
    x = drawn(0, 2, 3).astype(dtype)
    certificate = check(Factor(1.5), x)
    assert (certificate.verdict, len(certificate.arguments)) == ("PASS", 2)
    report = check_layer(Factor(1.5), [((x,), {})], seed=0, raise_on_failure=False)
    assert report["gradients-in-the-other-precision"].verdict == "PASS"


@pytest.mark.parametrize("name", ["params-grads-lists", "derived-variables", "sequence", "embedding"])
def test_an_array_that_is_filled_with_gradients_follows_the_precision_asked(name: str) -> None:
    row, layer, inputs = made(name)
    report = check_layer(layer, [(inputs, {})], seed=0, raise_on_failure=False, **row.remedy)
    assert report["gradients-in-the-other-precision"].verdict == "PASS"
    assert report["dtypes-and-shapes-are-kept"].verdict == "PASS"


# Where backward leaves its gradients only a call shows: in a dict that is empty before, in what it returns.
@pytest.mark.parametrize("name", ["numbered-names", "residual", "gru-cell", "tied-weights", "fprop-bprop"])
def test_a_pair_made_without_inputs_finds_the_gradients_at_its_first_forward(name: str) -> None:
    for mistake in ("", *ROWS[name].wrong):
        row, layer, inputs = made(name, mistake)
        pair = adapters.adapt(layer, **row.call)
        found = result_of(gradcheck, *pair, pair.arrays(inputs), seed=0)
        assert found.verdict == ("FAIL" if mistake else "PASS"), found


@pytest.mark.parametrize("name", ["standardise", "returned-in-a-list", "returned-in-a-dict", "made-at-first-forward"])
def test_a_pair_made_without_inputs_says_what_it_does_not_check(name: str) -> None:
    row, layer, inputs = made(name)
    pair = adapters.adapt(layer, **row.call)
    found = result_of(gradcheck, *pair, pair.arrays(inputs), seed=0)
    assert found.verdict == "INCONCLUSIVE"
    assert "parameters=" in found.headline


@pytest.mark.parametrize("name", ["numbered-names", "residual"])
def test_the_lines_that_reproduce_name_where_the_gradients_are(name: str) -> None:
    row, layer, inputs = made(name, next(iter(ROWS[name].wrong)))
    certificate = check(layer, *inputs, **row.call)
    assert certificate.shown
    assert "grads[" in certificate.reproduction


@pytest.mark.parametrize("name", ["mean-squares", "softmax-loss-one-hot", "cross-entropy-epsilon"])
def test_all_checks_take_an_input_without_a_gradient(name: str) -> None:
    row, layer, inputs = made(name)
    report = check_layer(layer, [(inputs, {})], seed=0, raise_on_failure=False, **row.remedy)
    # Targets stay as they are where zeros and ties are tried: a row of zeros is no class.
    assert {result.check for result in report.results if result.verdict == "FAIL"} <= {
        "another-forward-disturbs-nothing"
    }
    assert report["dtypes-and-shapes-are-kept"].verdict == "PASS"


def test_all_checks_take_a_bare_gradient_of_a_pair() -> None:
    _, layer, inputs = made("elu")
    report = check_layer(layer, [(inputs, {})], seed=0, raise_on_failure=False)
    assert report["dtypes-and-shapes-are-kept"].verdict == "PASS"


def test_gradients_that_add_up_are_said_in_the_first_line_with_the_reset_below() -> None:
    _, layer, inputs = made("accumulates-until-reset")
    certificate = check(layer, *inputs)
    assert certificate.headline.startswith("FAIL: dweight grows each time backward is called again")
    assert "reset='zero_grad'" in str(certificate)
    # No lines: they would make the layer anew, and print two numbers that differ by rounding.
    assert not certificate.shown
    assert not certificate.reproduction


class NoReset:
    """Adds up, and no method empties it."""

    def __init__(self) -> None:
        self.w, self.dw = drawn(1, 3, 2), np.zeros((3, 2))

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, dy):
        self.dw = self.dw + self.x.T @ dy
        return dy @ self.w.T

    def reset_statistics(self):
        pass


def test_a_method_that_empties_nothing_is_not_advised() -> None:
    certificate = check(NoReset(), drawn(0, 4, 3))
    assert (certificate.verdict, certificate.causes[0].code) == ("FAIL", "accumulates")
    assert "reset=" not in str(certificate)


def test_a_pile_of_which_backward_raises_names_its_reset() -> None:
    _, layer, inputs = made("derived-variables")
    certificate = check(layer, *inputs)
    assert certificate.causes[0].code == "stale-cache"
    assert "the same call raises" in certificate.headline
    assert "reset='flush_gradients'" in certificate.headline


def _clipped_by_two(x: np.ndarray, alpha: np.ndarray) -> tuple[Any, Any]:
    return 0.5 * (np.abs(x) - np.abs(x - alpha) + alpha), (x, alpha)


@pytest.mark.parametrize("seed", range(4))
def test_what_rounds_to_nearly_0_moves_nothing(seed: int) -> None:
    x, alpha = 2 * drawn(seed, 4, 4), np.array([0.75])

    def backward(dy: np.ndarray, cache: Any, *, inside: bool) -> Any:
        x, alpha = cache
        return dy * ((x > 0) & (x < alpha)), (dy * (x > 0 if inside else x >= alpha)).sum(keepdims=True)[0]

    for inside, verdict in ((False, "PASS"), (True, "FAIL")):
        found = result_of(
            gradcheck,
            _clipped_by_two,
            lambda dy, cache, inside=inside: backward(dy, cache, inside=inside),
            (x, alpha),
            structure="smooth",
            seed=seed,
        )
        assert found.verdict == verdict, found


@pytest.mark.parametrize("name", ["dropout-pair", "elu"])
def test_the_lines_index_no_gradient_that_stands_alone(name: str) -> None:
    _, layer, inputs = made(name, next(iter(ROWS[name].wrong)))
    certificate = check(layer, *inputs)
    assert certificate.shown
    index = ", ".join(map(str, certificate.shown[0].indices[0]))
    assert f"print(backward(dy, cache)[{index}], " in certificate.reproduction


def test_what_is_0_but_for_rounding_is_said_to_be_0() -> None:
    _, layer, inputs = made("positions", "one of the batch", seed=3)
    certificate = result_of(adapters.gradcheck, layer, inputs, seed=3)
    assert "e-1" not in certificate.headline
    assert certificate.shown[0].low == certificate.shown[0].high
