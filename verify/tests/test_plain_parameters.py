# mypy: allow-untyped-defs, allow-untyped-calls
# mypy: disable-error-code="override,attr-defined,assignment,index,has-type,no-untyped-call"
"""verify.adapters.plain: the parameters of a layer are found, whatever they are called and wherever they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import drawn, result_of
from verify.adapters import plain
from verify.adapters._names import is_gradient_of
from verify.checker.certificate import Certificate

X = drawn(0, 3, 4)


def check(layer: Any, *inputs: Any, **settings: Any) -> Certificate:
    """A check that does not raise, at X unless inputs are given."""
    return result_of(plain.gradcheck, layer, inputs or (X,), seed=0, **settings)


def names_of(certificate: Certificate) -> list[str]:
    return [each.name for each in certificate.arguments]


def matters(certificate: Certificate) -> list[str]:
    """The names of what y depends on and nobody checked."""
    return [each.name for each in certificate.uncovered if each.matters]


class Product:
    """y = x w, with w under any name. `factor` is 1 if the gradient is right."""

    def __init__(self, weights: str, gradient: str, factor: float) -> None:
        self.names, self.factor = (weights, gradient), factor
        setattr(self, weights, drawn(1, 4, 5))

    def forward(self, x):
        self.x = x
        return x @ getattr(self, self.names[0])

    def backward(self, dy):
        setattr(self, self.names[1], self.factor * self.x.T @ dy)
        return dy @ getattr(self, self.names[0]).T


SPELLINGS = [
    *[("W", each) for each in ("dW", "grad_W", "W_grad", "gradW", "d_W", "gW", "Wgrad", "dLdW", "dL_dW", "delta_W")],
    *[
        ("W", each)
        for each in ("W_gradient", "gradient_W", "grads_W", "nabla_W", "dW_", "_dW", "dJ_dW", "derivative_W")
    ],
    *[("weights", each) for each in ("weights_gradient", "gradient_weights", "weight_grad", "dweights", "d_weights")],
    *[("weights", each) for each in ("weights_grad", "grad_weights", "weightsGradient", "gradWeights", "dWeights")],
    *[("weights", each) for each in ("weights_gradients", "dweight", "dW", "weights_delta", "delta_weights")],
    *[("_w", each) for each in ("_dw", "dw", "grad_w", "_w_grad")],
    *[("kernel", each) for each in ("kernel_grad", "dkernel", "kernels_gradient", "dK", "dW")][:3],
    ("biases", "dbiases"),
    ("biases", "bias_grad"),
    ("gamma", "dgamma"),
    ("embedding_matrix", "embedding_matrix_gradient"),
]


@pytest.mark.parametrize(("weights", "gradient"), SPELLINGS)
def test_a_usual_spelling_of_the_gradient_is_paired_by_itself(weights: str, gradient: str) -> None:
    assert check(Product(weights, gradient, 1)).verdict == "PASS"
    wrong = check(Product(weights, gradient, 5))
    assert (wrong.verdict, wrong.worst is not None) == ("FAIL", True)
    assert names_of(wrong) == ["x", weights]


@pytest.mark.parametrize(("weights", "gradient"), [("W", "slope"), ("matrix_of_all", "result"), ("t1", "buffer7")])
def test_an_unusual_spelling_is_inconclusive_with_a_remedy_that_decides(weights: str, gradient: str) -> None:
    for factor, verdict in ((1, "PASS"), (5, "FAIL")):
        layer = Product(weights, gradient, factor)
        silent = check(layer)
        assert (silent.verdict, matters(silent)) == ("INCONCLUSIVE", [weights])
        remedy = next(each.remedy for each in silent.uncovered if each.matters)
        assert f"parameters={{{weights!r}: {gradient!r}}}" in remedy
        assert f"fixed=({weights!r},)" in remedy
        assert check(layer, parameters={weights: gradient}).verdict == verdict
        fixed = check(layer, fixed=(weights,))
        assert (fixed.verdict, fixed.not_checked) == ("PASS", ((weights, "fixed"),))


@pytest.mark.parametrize(
    ("gradient", "name"),
    [("x", "x"), ("data", "ata"), ("W", "W"), ("dropout", "w"), ("d", "w"), ("gate", "w"), ("momentum_w", "w")],
)
def test_other_names_are_no_gradients(gradient: str, name: str) -> None:
    assert gradient == "data" or not is_gradient_of(gradient, name)


class Kept:
    """y = x w + b, where the subclasses say where these and their gradients lie."""

    def __init__(self, factor: float = 1) -> None:
        self.factor = factor
        self.make(drawn(1, 4, 5), drawn(2, 5))

    def make(self, w, b):
        raise NotImplementedError

    def read(self):
        raise NotImplementedError

    def leave(self, dw, db):
        raise NotImplementedError

    def forward(self, x):
        self.x = x
        w, b = self.read()
        return x @ w + b

    def backward(self, dy):
        self.leave(self.factor * self.x.T @ dy, dy.sum(0))
        return dy @ self.read()[0].T


class Dicts(Kept):
    def make(self, w, b):
        self.parameters, self.gradients = {"W": w, "b": b}, {}

    def read(self):
        return self.parameters["W"], self.parameters["b"]

    def leave(self, dw, db):
        self.gradients = {"W": dw, "b": db}


class DictsWithD(Dicts):
    def leave(self, dw, db):
        self.gradients = {"dW": dw, "db": db}


class OneDict(Dicts):
    def leave(self, dw, db):
        self.parameters.update(dW=dw, db=db)


class AttributesAndDict(Kept):
    def make(self, w, b):
        self.W, self.b, self.grads = w, b, {}

    def read(self):
        return self.W, self.b

    def leave(self, dw, db):
        self.grads["W"], self.grads["b"] = dw, db


class AttributesAndDictWithD(AttributesAndDict):
    def leave(self, dw, db):
        self.grads["dW"], self.grads["db"] = dw, db


class Entries(Kept):
    def make(self, w, b):
        self.W, self.b = {"val": w, "grad": 0}, {"val": b, "grad": 0}

    def read(self):
        return self.W["val"], self.b["val"]

    def leave(self, dw, db):
        self.W["grad"], self.b["grad"] = dw, db


class Parameter:
    """An array with its gradient."""

    __slots__ = ("grad", "value")

    def __init__(self, value):
        self.value, self.grad = value, None


class Objects(Kept):
    def make(self, w, b):
        self.w, self.b = Parameter(w), Parameter(b)

    def read(self):
        return self.w.value, self.b.value

    def leave(self, dw, db):
        self.w.grad, self.b.grad = dw, db


class ListOfObjects(Objects):
    def make(self, w, b):
        self.params = [Parameter(w), Parameter(b)]

    def read(self):
        return self.params[0].value, self.params[1].value

    def leave(self, dw, db):
        self.params[0].grad, self.params[1].grad = dw, db


class Lists(Kept):
    def make(self, w, b):
        self.params, self.grads = [w, b], [np.zeros_like(w), np.zeros_like(b)]

    def read(self):
        return self.params

    def leave(self, dw, db):
        self.grads[0][...], self.grads[1][...] = dw, db


class Tuples(Lists):
    def make(self, w, b):
        self.weights, self.dweights = (w, b), None

    def read(self):
        return self.weights

    def leave(self, dw, db):
        self.dweights = (dw, db)


class ListOfDicts(Kept):
    def make(self, w, b):
        self.params = [{"W": w}, {"b": b}]

    def read(self):
        return self.params[0]["W"], self.params[1]["b"]

    def leave(self, dw, db):
        self.grads = [{"dW": dw}, {"db": db}]


class ListOfEntries(Kept):
    def make(self, w, b):
        self.params = [{"param": w, "grad": None}, {"param": b, "grad": None}]

    def read(self):
        return self.params[0]["param"], self.params[1]["param"]

    def leave(self, dw, db):
        self.params[0]["grad"], self.params[1]["grad"] = dw, db


class Slots(Kept):
    __slots__ = ("__b", "__w", "db", "dw", "factor", "x")

    def make(self, w, b):
        self.__w, self.__b = w, b

    def read(self):
        return self.__w, self.__b

    def leave(self, dw, db):
        self.dw, self.db = dw, db


class Inner:
    """x w + b with the usual names."""

    def __init__(self, w, b, factor):
        self.W, self.b, self.factor = w, b, factor

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.factor * self.x.T @ dy, dy.sum(0)
        return dy @ self.W.T


class Nested(Kept):
    def make(self, w, b):
        self.layers = [Inner(np.eye(4), np.zeros(4), 1), Inner(w, b, self.factor)]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class NestedTwice(Nested):
    def make(self, w, b):
        self.block = Nested.__new__(Nested)
        self.block.factor = self.factor
        self.block.make(w, b)

    def forward(self, x):
        return self.block.forward(x)

    def backward(self, dy):
        return self.block.backward(dy)


class AtFirstForward(Dicts):
    """Its parameters have the sizes of the first input."""

    def make(self, w, b):
        self.parameters, self.gradients = {"W": None, "b": None}, {}

    def forward(self, x):
        if self.parameters["W"] is None:
            self.parameters["W"] = np.random.default_rng().normal(size=(x.shape[1], 5))
            self.parameters["b"] = np.random.default_rng().normal(size=5)
        return super().forward(x)


class AttributeAtFirstForward(Kept):
    def make(self, w, b):
        self.built = False

    def read(self):
        if not self.built:
            self.W, self.b, self.built = np.random.default_rng().normal(size=(4, 5)), np.ones(5), True
        return self.W, self.b

    def leave(self, dw, db):
        self.dW, self.db = dw, db


class OfTheClass(Kept):
    W, b = drawn(1, 4, 5), drawn(2, 5)

    def make(self, w, b):
        pass

    def read(self):
        return self.W, self.b

    def leave(self, dw, db):
        self.dW, self.db = dw, db


class TwoNames(Kept):
    """The list and the attributes are the same arrays; forward reads the attributes."""

    def make(self, w, b):
        self.w, self.b = w, b
        self.params, self.grads = [w, b], [np.zeros_like(w), np.zeros_like(b)]

    def read(self):
        return self.w, self.b

    def leave(self, dw, db):
        self.grads[0][...], self.grads[1][...] = dw, db


class TwoNamesInDicts(TwoNames):
    def make(self, w, b):
        self.inner = Inner(w, b, self.factor)
        self.params, self.grads = {"W1": w, "b1": b}, {}

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, dy):
        dx = self.inner.backward(dy)
        self.grads = {"W1": self.inner.dW, "b1": self.inner.db}
        return dx


class Collected(TwoNames):
    def make(self, w, b):
        self.inner = Inner(w, b, self.factor)
        self.params = [self.inner.W, self.inner.b]
        self.grads: list[Any] = [None, None]

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, dy):
        dx = self.inner.backward(dy)
        self.grads = [self.inner.dW, self.inner.db]
        return dx


CONTAINERS = [
    *[Dicts, DictsWithD, OneDict, AttributesAndDict, AttributesAndDictWithD, Entries, Objects, ListOfObjects, Lists],
    *[Tuples, ListOfDicts, ListOfEntries, Slots, Nested, NestedTwice, AtFirstForward, AttributeAtFirstForward],
    *[OfTheClass, TwoNames, TwoNamesInDicts, Collected],
]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_parameters_are_found_in_usual_containers(kind: Any) -> None:
    right, wrong = check(kind(1)), check(kind(5))
    assert (right.verdict, len(right.arguments)) == ("PASS", 5 if issubclass(kind, Nested) else 3), str(right)
    assert wrong.verdict == "FAIL"
    assert [each.verdict for each in wrong.arguments].count("FAIL") == 1


@pytest.mark.parametrize("kind", [Dicts, Entries, Lists, Nested, TwoNames, AttributeAtFirstForward])
def test_the_arrays_of_the_layer_stay_as_they_are(kind: Any) -> None:
    layer = kind(1)
    before = {path: np.array(value) for path, value in plain_arrays(layer)}
    check(layer)
    after = dict(plain_arrays(layer))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[path], after[path]) for path in before)


def plain_arrays(layer: Any) -> list[Any]:
    from verify.adapters._places import is_floating, walk

    return [(path, value) for path, value in walk(layer) if is_floating(value)]


class Silent(Kept):
    """A parameter in a place that no rule knows, with a gradient in another."""

    def make(self, w, b):
        self.w, self.inner, self.out = w, Inner(w, b, 1), {}

    def read(self):
        return self.w, self.inner.b

    def leave(self, dw, db):
        self.out = {"first": dw, "second": db}


@pytest.mark.parametrize(
    "parameters",
    [
        {"w": 'out["first"]', "inner.b": 'out["second"]'},
        {"inner.W": "out['first']", "inner.b": "out['second']"},
    ],
)
def test_paths_name_parameters_and_their_gradients(parameters: Any) -> None:
    silent = check(Silent(5))
    assert silent.verdict == "INCONCLUSIVE"
    assert matters(silent) == ["w", "inner.b"]
    assert check(Silent(1), parameters=parameters).verdict == "PASS"
    assert check(Silent(5), parameters=parameters).verdict == "FAIL"


@pytest.mark.parametrize(
    ("kind", "fixed", "left"),
    [
        (Nested, ("layers[1].W",), ["x", "layers[0].W", "layers[0].b", "layers[1].b"]),
        (Nested, ("layers[0]",), ["x", "layers[1].W", "layers[1].b"]),
        (Dicts, ('parameters["W"]',), ["x", "b"]),
        (Dicts, ("parameters",), ["x"]),
        (Lists, ("params[0]",), ["x", "params[1]"]),
    ],
)
def test_paths_name_what_is_fixed(kind: Any, fixed: Any, left: list[str]) -> None:
    certificate = check(kind(1), fixed=fixed)
    assert (certificate.verdict, names_of(certificate)) == ("PASS", left)
    assert "fixed" in str(certificate)


def test_a_name_that_means_nothing_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"fixed holds 'V', which is none of the floating arrays of Dicts: W, b"):
        plain.gradcheck(Dicts(), (X,), fixed=("V",))
    with pytest.raises(TypeError, match="fixed must be a sequence of names, got 'W'"):
        plain.gradcheck(Dicts(), (X,), fixed="W")


class Evaluating:
    """Batch norm in evaluation: its statistics have no gradient."""

    def __init__(self, factor=1):
        self.gamma, self.beta, self.factor = drawn(1, 4), drawn(2, 4), factor
        self.running_mean, self.running_var = drawn(3, 4), drawn(4, 4) ** 2 + 1

    def forward(self, x):
        self.s = np.sqrt(self.running_var + 1e-5)
        self.z = (x - self.running_mean) / self.s
        return self.gamma * self.z + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = self.factor * (dy * self.z).sum(0), dy.sum(0)
        return dy * self.gamma / self.s


def test_statistics_without_a_gradient_are_named_and_may_be_fixed() -> None:
    certificate = check(Evaluating())
    assert (certificate.verdict, matters(certificate)) == ("INCONCLUSIVE", ["running_mean", "running_var"])
    assert check(Evaluating(), fixed=("running_mean", "running_var")).verdict == "PASS"
    assert check(Evaluating(5), fixed=("running_mean", "running_var")).verdict == "FAIL"
    assert check(Evaluating(5)).verdict == "FAIL"


class Behind:
    """y = (x u) v with v = 0 at first: there y does not depend on u."""

    def __init__(self):
        self.u, self.v = drawn(1, 4, 4), np.zeros((4, 2))

    def forward(self, x):
        self.x = x
        return x @ self.u @ self.v

    def backward(self, dy):
        self.dv = (self.x @ self.u).T @ dy
        return dy @ self.v.T @ self.u.T


def test_a_parameter_behind_a_weight_of_zero_is_named() -> None:
    assert matters(check(Behind())) == ["u"]


class Used(Inner):
    """A layer that was called before: it holds an x, and its gradient dx."""

    def backward(self, dy):
        self.dx = super().backward(dy)
        return self.dx


def test_caches_and_buffers_are_no_parameters() -> None:
    layer = Used(drawn(1, 4, 5), drawn(2, 5), 1)
    layer.backward(np.ones_like(layer.forward(drawn(7, 3, 4))))
    certificate = check(layer)
    assert (certificate.verdict, names_of(certificate), certificate.uncovered) == ("PASS", ["x", "W", "b"], ())


class WithCache:
    """Pure functions, except that the weight is in the instance."""

    def __init__(self, factor=1):
        self.scale_of_all, self.factor = drawn(1, 4), factor

    def forward(self, x):
        return x * self.scale_of_all, x

    def backward(self, dy, cache):
        self.found = self.factor * (dy * cache).sum(0)
        return (dy * self.scale_of_all,)


def test_an_instance_whose_functions_take_a_cache_is_looked_through_as_well() -> None:
    assert matters(check(WithCache())) == ["scale_of_all"]
    assert check(WithCache(), parameters={"scale_of_all": "found"}).verdict == "PASS"
    assert check(WithCache(5), parameters={"scale_of_all": "found"}).verdict == "FAIL"


class Closures:
    """Functions that close over their arrays, in a bag."""

    def __init__(self, factor=1):
        kept: dict[str, Any] = {"W": drawn(1, 4, 5)}

        def forward(x):
            kept["x"] = x
            return x @ kept["W"]

        def backward(dy):
            kept["dW"] = factor * kept["x"].T @ dy
            return dy @ kept["W"].T

        self.forward, self.backward = forward, backward


def test_what_functions_close_over_is_reached() -> None:
    assert check(Closures()).verdict == "PASS"
    assert check(Closures(5)).verdict == "FAIL"


class ByItself:
    """Its activation is a lambda that closes over the layer."""

    def __init__(self):
        self.W = drawn(1, 4, 5)
        self.multiplied = lambda x: x @ self.W

    def forward(self, x):
        self.x = x
        return self.multiplied(x)

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T


def test_a_closure_over_the_layer_reads_the_copy() -> None:
    assert check(ByItself()).verdict == "PASS"


class Leaky:
    """A slope that is a number of Python, with its gradient."""

    def __init__(self, factor: Any = 1, number: Any = 0.25) -> None:
        self.alpha, self.factor, self.rate = number, factor, 0.1

    def forward(self, x):
        self.x = x
        return np.where(np.real(x) > 0, x, self.alpha * x)

    def backward(self, dy):
        below = np.real(self.x) <= 0
        self.dalpha = float(self.factor * np.sum(dy * self.x * below))
        return np.where(below, self.alpha, 1) * dy


@pytest.mark.parametrize("number", [0.25, np.float64(0.25), np.array(0.25), np.array([0.25])])
def test_a_parameter_may_be_a_number(number: Any) -> None:
    if np.ndim(number):
        assert check(Leaky(1, number)).verdict != "PASS"  # a float for an array of one entry
        return
    right = check(Leaky(1, number))
    assert (right.verdict, names_of(right)) == ("PASS", ["x", "alpha"]), str(right)
    assert check(Leaky(5, number)).verdict == "FAIL"


class Tied:
    """Two layers share a weight, and each leaves its own part of the gradient."""

    def __init__(self, factor=1):
        w = drawn(1, 4, 4)
        self.one, self.two = Inner(w, drawn(2, 4), 1), Inner(w, drawn(3, 4), factor)

    def forward(self, x):
        return self.two.forward(self.one.forward(x))

    def backward(self, dy):
        return self.one.backward(self.two.backward(dy))


class TiedInList(Tied):
    def __init__(self, factor=1):
        super().__init__(factor)
        self.layers = [self.one, self.two]
        del self.one, self.two

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in self.layers[::-1]:
            dy = layer.backward(dy)
        return dy


class TiedAndSummed(Tied):
    """The whole leaves the sum."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.params, self.grads = [self.one.W], [np.zeros((4, 4))]

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads[0][...] = self.one.dW + self.two.dW
        return dx


@pytest.mark.parametrize("kind", [Tied, TiedInList, TiedAndSummed])
def test_the_gradients_of_a_shared_weight_add_up(kind: Any) -> None:
    right, wrong = check(kind()), check(kind(5))
    assert (right.verdict, len(right.arguments)) == ("PASS", 4), str(right)
    assert wrong.verdict == "FAIL"


class Transposed:
    """Forward reads a view of W."""

    def __init__(self, factor=1):
        self.W, self.factor = drawn(1, 5, 4), factor
        self.V = self.W.T

    def forward(self, x):
        self.x = x
        return x @ self.V

    def backward(self, dy):
        self.dW = self.factor * dy.T @ self.x
        return dy @ self.W


class Flat:
    """W and b are parts of one array."""

    def __init__(self, factor=1):
        self.theta, self.dtheta, self.factor = drawn(1, 25), np.zeros(25), factor
        self.W, self.b = self.theta[:20].reshape(4, 5), self.theta[20:]

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.factor * self.x.T @ dy, dy.sum(0)
        self.dtheta[:] = np.concatenate([self.dW.ravel(), self.db])
        return dy @ self.W.T


def test_views_of_a_parameter_count_once_or_are_named() -> None:
    assert [check(Flat(factor)).verdict for factor in (1, 5)] == ["PASS", "FAIL"]
    assert names_of(check(Flat())) == ["x", "W", "b"]
    for factor in (1, 5):
        certificate = check(Transposed(factor))
        assert (certificate.verdict, matters(certificate)) == ("INCONCLUSIVE", ["V"])
        assert "shares memory with another array" in str(certificate)


OUTSIDE = drawn(11, 4, 5)
TABLES = {"w": drawn(12, 4, 5)}


class OfTheModule:
    """Its weight is a global."""

    def forward(self, x):
        return x @ OUTSIDE

    def backward(self, dy):
        return dy @ OUTSIDE.T


class OfTheModulesTable(OfTheModule):
    def forward(self, x):
        return x @ self.weight()

    def weight(self):
        return TABLES["w"]

    def backward(self, dy):
        return dy @ self.weight().T


class OfClassMethods:
    W = drawn(13, 4, 5)

    @classmethod
    def forward(cls, x):
        return x @ cls.W

    @classmethod
    def backward(cls, dy):
        return dy @ cls.W.T


@pytest.mark.parametrize(
    ("kind", "name"),
    [(OfTheModule, "OUTSIDE"), (OfTheModulesTable, "TABLES['w']"), (OfClassMethods, "OfClassMethods.W")],
)
def test_arrays_outside_the_layer_are_named(kind: Any, name: str) -> None:
    before = [OUTSIDE.copy(), TABLES["w"].copy(), OfClassMethods.W.copy()]
    certificate = check(kind())
    assert (certificate.verdict, matters(certificate)) == ("INCONCLUSIVE", [name])
    assert check(kind(), fixed=(name,)).verdict == "PASS"
    after = [OUTSIDE, TABLES["w"], OfClassMethods.W]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


class Properties:
    """W and its gradient are properties, and cannot be set."""

    def __init__(self, factor=1):
        self._array, self._result, self.factor = drawn(1, 4, 5), None, factor

    @property
    def W(self):  # noqa: N802
        return self._array

    @property
    def slope(self):
        return self._result

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self._result = self.factor * self.x.T @ dy
        return dy @ self.W.T


def test_properties_name_parameters_and_gradients() -> None:
    for factor, verdict in ((1, "PASS"), (5, "FAIL")):
        assert matters(check(Properties(factor))) == ["_array"]
        assert check(Properties(factor), parameters={"W": "slope"}).verdict == verdict
    assert check(Properties(), fixed=("_array",)).verdict == "PASS"
