# mypy: allow-untyped-defs, allow-untyped-calls
# mypy: disable-error-code="override,attr-defined,assignment,index,has-type,no-untyped-call"
"""verify.adapters.plain: several results, losses, and gradients returned in any usual form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import drawn, result_of
from verify.adapters import plain
from verify.checker.certificate import Certificate

X, H, C = drawn(0, 3, 4), drawn(1, 3, 4), drawn(2, 3, 4)
ONE_HOT = np.eye(4)[[0, 2, 1]]


def check(layer: Any, *inputs: Any, **settings: Any) -> Certificate:
    """A check that does not raise, at X unless inputs are given."""
    return result_of(plain.gradcheck, layer, inputs or (X,), seed=0, **settings)


class Two:
    """Returns (x h, tanh c). `wrong` is a factor of dc."""

    def __init__(self, wrong=1):
        self.wrong = wrong

    def forward(self, x, h, c):
        self.kept = x, h, c
        return x * h, np.tanh(c)

    def backward(self, dh, dc):
        x, h, c = self.kept
        return dh * h, dh * x, self.wrong * dc * (1 - np.tanh(c) ** 2)


class TwoWithDefault(Two):
    def backward(self, dh, dc=None):
        return super().backward(dh, dc)


class TwoInATuple(Two):
    def backward(self, grads):
        return super().backward(*grads)


class TwoByOtherNames(Two):
    def backward(self, grad_first, grad_second):
        return super().backward(grad_first, grad_second)


class TwoAsList(Two):
    def forward(self, x, h, c):
        return list(super().forward(x, h, c))


class Three(Two):
    def forward(self, x, h, c):
        return (*super().forward(x, h, c), x.sum(1))

    def backward(self, d1, d2, d3):
        dx, dh, dc = super().backward(d1, d2)
        return dx + d3[:, None], dh, dc


class TwoInADict(Two):
    def forward(self, x, h, c):
        return dict(zip("hc", super().forward(x, h, c), strict=True))

    def backward(self, grads):
        return super().backward(grads["h"], grads["c"])


class WithLabels(Two):
    """The last result is of whole numbers, and has no gradient."""

    def forward(self, x, h, c):
        return (*super().forward(x, h, c), np.argmax(np.real(x), 1))

    def backward(self, d1, d2, d3):
        return super().backward(d1, d2)


@pytest.mark.parametrize(
    "kind", [Two, TwoWithDefault, TwoInATuple, TwoByOtherNames, TwoAsList, TwoInADict, Three, WithLabels]
)
def test_all_results_are_checked(kind: Any) -> None:
    assert check(kind(), X, H, C).verdict == "PASS"
    wrong = check(kind(5), X, H, C)
    assert (wrong.verdict, wrong.worst and wrong.arguments[wrong.worst.argument].name) == ("FAIL", "c")


class OnlyTogether(Two):
    """Wrong where the second result is not used."""

    def backward(self, dh, dc):
        dx, dh, dc_ = super().backward(dh, dc)
        return (dx if dc.any() else 2 * dx), dh, dc_


class RaisesAlone(Two):
    def backward(self, dh, dc):
        if not dh.any():
            raise ZeroDivisionError("no dh")
        return super().backward(dh, dc)


class ForgetsAlone(Two):
    def backward(self, dh, dc):
        dx, dh_, dc_ = super().backward(dh, dc)
        return dx, dh_, dc_ * bool(dh.any())


@pytest.mark.parametrize(("kind", "result"), [(OnlyTogether, 0), (RaisesAlone, 1), (ForgetsAlone, 1)])
def test_each_result_is_checked_alone(kind: Any, result: int) -> None:
    certificate = check(kind(), X, H, C)
    assert certificate.verdict == "FAIL"
    assert f"with the upstream gradient of result {result} alone" in str(certificate)


class FirstOnly(Two):
    """Attention weights, say, are returned to be looked at."""

    def forward(self, x, h, c):
        self.kept = x, h, c
        return x * h + c, np.exp(c)

    def backward(self, dout):
        x, h, _ = self.kept
        return dout * h, dout * x, self.wrong * dout


def test_results_whose_gradient_backward_does_not_take_are_said() -> None:
    certificate = check(FirstOnly(), X, H, C)
    assert (certificate.verdict, [each.name for each in certificate.uncovered]) == ("PASS", ["result 1"])
    assert check(FirstOnly(5), X, H, C).verdict == "FAIL"


def test_a_result_with_its_cache_is_one_result() -> None:
    class Cube:
        def forward(self, x):
            return x**3, x

        def backward(self, dy, cache):
            return (3 * cache**2 * dy,)

    assert check(Cube()).verdict == "PASS"


class Loss:
    """Mean squared error. `form` says what forward returns."""

    def __init__(self, factor: Any = 1, form: Any = lambda y: y) -> None:
        self.factor, self.form = factor, form

    def forward(self, x, t):
        self.x, self.t = x, t
        return self.form(((x - t) ** 2).sum() / len(x))

    def slope(self):
        return self.factor * 2 * (self.x - self.t) / len(self.x)

    def backward(self, dout=1):
        return dout * self.slope()


class LossWithoutUpstream(Loss):
    def backward(self):
        return self.slope()


class LossOfItsInputs(Loss):
    def backward(self, x, t):
        return self.factor * 2 * (x - t) / len(x)


class LossOfEachExample(Loss):
    def forward(self, x, t):
        self.x, self.t = x, t
        return ((x - t) ** 2).sum(1) / len(x)

    def backward(self):
        return self.slope()


def as_float(y: Any) -> Any:
    return y if np.iscomplexobj(y) else float(y)


LOSSES = [Loss, LossWithoutUpstream, LossOfItsInputs, LossOfEachExample, lambda f=1: Loss(f, as_float)]
LOSSES += [lambda f=1: LossWithoutUpstream(f, as_float)]


@pytest.mark.parametrize("make", LOSSES)
def test_losses_with_one_hot_targets(make: Any) -> None:
    right = check(make(), X, ONE_HOT, wrt=["x"])
    assert right.verdict == "PASS", str(right)
    assert check(make(5), X, ONE_HOT, wrt=["x"]).verdict == "FAIL"
    silent = check(make(), X, ONE_HOT)
    assert silent.verdict == "INCONCLUSIVE"
    assert "Write wrt=['x']" in str(silent)
    assert check(make(5), X, ONE_HOT).verdict == "FAIL"


def test_a_float_of_real_parts_only_serves_as_y() -> None:
    assert check(Loss(1, float), X, ONE_HOT, wrt=["x"]).verdict == "PASS"
    assert check(Loss(5, float), X, ONE_HOT, wrt=["x"]).verdict == "FAIL"


def test_a_backward_that_ignores_its_upstream_gradient_fails() -> None:
    class Deaf(Loss):
        def backward(self, dout=1):
            return self.slope()

    assert check(Deaf(), X, ONE_HOT, wrt=["x"]).verdict == "FAIL"


def test_a_target_for_which_none_is_returned_has_no_gradient() -> None:
    class Pairs(Loss):
        def backward(self, dout):
            return dout * self.slope(), None

    assert check(Pairs(), X, ONE_HOT, wrt=["x"]).verdict == "PASS"
    assert check(Pairs(), X, ONE_HOT).verdict == "INCONCLUSIVE"
    assert check(Pairs(5), X, ONE_HOT).verdict == "FAIL"


class Returned:
    """y = x w + b, and backward returns all gradients in some form."""

    def __init__(self, form, factor=1):
        self.w, self.b, self.form, self.factor = drawn(3, 4, 5), drawn(4, 5), form, factor

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, dy):
        return self.form(dy @ self.w.T, self.factor * self.x.T @ dy, dy.sum(0))


FORMS = {
    "flat": lambda dx, dw, db: (dx, dw, db),
    "list inside": lambda dx, dw, db: (dx, [dw, db]),
    "tuple inside": lambda dx, dw, db: (dx, (dw, db)),
    "other order": lambda dx, dw, db: (dx, db, dw),
    "dict inside": lambda dx, dw, db: (dx, {"w": dw, "b": db}),
    "dict inside with d": lambda dx, dw, db: (dx, {"dw": dw, "db": db}),
    "dict": lambda dx, dw, db: {"x": dx, "w": dw, "b": db},
    "dict with d": lambda dx, dw, db: {"db": db, "dw": dw, "dx": dx},
    "row": lambda dx, dw, db: (dx, dw, db[None]),
}


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_parameters_may_be_returned(form: str) -> None:
    right = check(Returned(FORMS[form]))
    assert (right.verdict, {each.name for each in right.arguments}) == ("PASS", {"x", "w", "b"}), str(right)
    wrong = check(Returned(FORMS[form], 5))
    assert (wrong.verdict, wrong.worst and wrong.arguments[wrong.worst.argument].name) == ("FAIL", "w")


class Alike(Returned):
    """y = x w + x u: the shapes do not say which gradient is whose."""

    def __init__(self, form, factor=1):
        self.w, self.u, self.form, self.factor = drawn(3, 4, 5), drawn(4, 4, 5), form, factor

    def forward(self, x):
        self.x = x
        return x @ self.w + x**2 @ self.u

    def backward(self, dy):
        dx = dy @ self.w.T + 2 * self.x * (dy @ self.u.T)
        return self.form(dx, self.factor * self.x.T @ dy, self.x.T**2 @ dy)


def test_returned_gradients_of_equal_shapes_need_names() -> None:
    for form in ("flat", "list inside"):
        silent = check(Alike(FORMS[form]))
        assert (silent.verdict, "parameters=['w', 'u']" in str(silent)) == ("INCONCLUSIVE", True), str(silent)
        assert check(Alike(FORMS[form]), parameters=["w", "u"]).verdict == "PASS"
        assert check(Alike(FORMS[form], 5), parameters=["w", "u"]).verdict == "FAIL"


class Row:
    """A bias (D,) with a gradient (1, D)."""

    def __init__(self, factor=1, keep=True):
        self.b, self.factor, self.keep = drawn(3, 4), factor, keep

    def forward(self, x):
        return x * 2 + self.b

    def backward(self, dy):
        self.db = self.factor * dy.sum(0, keepdims=self.keep)
        return 2 * dy


class Column(Row):
    """(D, 1) for (1, D)."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.b = self.b[None]

    def backward(self, dy):
        dx = super().backward(dy)
        self.db = self.db.T
        return dx


class Scalar(Row):
    """A float for an array without axes."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.b = np.array(0.5)

    def backward(self, dy):
        self.db = float(self.factor * dy.sum())
        return 2 * dy


@pytest.mark.parametrize(("kind", "said"), [(Row, "(1, 4)"), (Column, "(4, 1)"), (Scalar, "")])
def test_a_gradient_with_axes_of_length_1_more_or_less_is_taken_and_said(kind: Any, said: str) -> None:
    right = check(kind())
    assert right.verdict == "PASS"
    assert said in right.arguments[1].note
    assert check(kind(5)).verdict == "FAIL"


def test_a_gradient_of_another_shape_is_still_wrong() -> None:
    class Transposed(Returned):
        def backward(self, dy):
            self.dw, self.db = dy.T @ self.x, dy.sum(0)
            return dy @ self.w.T

    assert [cause.code for cause in check(Transposed(None)).causes] == ["wrong-shape"]


def test_an_argument_of_backward_that_nobody_knows_is_asked_for() -> None:
    class Asks:
        def forward(self, x):
            return 2 * x

        def backward(self, dy, mode):
            return 2 * dy if mode == "plain" else dy

    with pytest.raises(TypeError, match=r'backward of Asks requires dy, mode.*backward_options=\{"mode": \.\.\.\}'):
        plain.gradcheck(Asks(), (X,))
    assert check(Asks(), backward_options={"mode": "plain"}).verdict == "PASS"
    assert check(Asks(), backward_options={"mode": "other"}).verdict == "FAIL"


def test_a_second_argument_named_as_an_input_gets_that_input() -> None:
    class Square:
        def forward(self, x):
            return x**2

        def backward(self, dy, x):
            return 2 * x * dy

    assert check(Square()).verdict == "PASS"


@pytest.mark.parametrize("name", ["lr", "alpha", "eta", "step_size", "learning_rate"])
def test_a_required_rate_is_passed_and_said(name: str) -> None:
    names: dict[str, Any] = {}
    exec(f"class Rated:\n def forward(self, x): return 3 * x\n def backward(self, d, {name}): return 3 * d", names)
    certificate = check(names["Rated"]())
    assert (certificate.verdict, [each.name for each in certificate.uncovered]) == ("PASS", [name])
    assert check(names["Rated"](), backward_options={name: 0.0}).uncovered == ()


def test_wrt_takes_names_of_parameters() -> None:
    certificate = check(Returned(FORMS["dict"]), wrt=["w"])
    assert (certificate.verdict, [each.name for each in certificate.arguments]) == ("PASS", ["w"])


def test_what_a_backward_raises_is_the_cause_of_the_exception() -> None:
    class Broken:
        def forward(self, x):
            return x

        def backward(self, dy):
            raise KeyError("cache")

    with pytest.raises(AssertionError) as caught:
        plain.gradcheck(Broken(), (X,))
    assert isinstance(caught.value.__cause__, KeyError)


class Model:
    """Its backward returns the gradients of its parameters alone, or leaves them."""

    def __init__(self, form, factor=1):
        self.params = {"W1": drawn(3, 4, 6), "b1": drawn(4, 6), "W2": drawn(5, 6, 2)}
        self.form, self.factor = form, factor

    def forward(self, x):
        self.x, self.a = x, np.tanh(x @ self.params["W1"] + self.params["b1"])
        return self.a @ self.params["W2"]

    def backward(self, dy):
        dz = dy @ self.params["W2"].T * (1 - self.a**2)
        grads = {"W1": self.x.T @ dz, "b1": self.factor * dz.sum(0), "W2": self.a.T @ dy}
        return self.form(self, grads)


def left(model: Any, grads: Any) -> None:
    model.grads = grads


@pytest.mark.parametrize(
    "form", [left, lambda model, grads: grads, lambda model, grads: {f"d{name}": each for name, each in grads.items()}]
)
def test_a_model_without_a_gradient_of_its_input_is_checked_at_its_parameters(form: Any) -> None:
    silent = check(Model(form))
    assert (silent.verdict, [each.name for each in silent.arguments]) == ("INCONCLUSIVE", ["W1", "b1", "W2"])
    assert "Write wrt=['W1', 'b1', 'W2']" in str(silent)
    assert check(Model(form), wrt=["W1", "b1", "W2"]).verdict == "PASS"
    assert check(Model(form, 5)).verdict == "FAIL"
