# mypy: allow-untyped-decorators
"""verify.adapters.plain and adapt: classes that keep their cache in themselves, pairs, and functions of C."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from numpy.ctypeslib import ndpointer

from cnn_core import linear
from helpers import result_of
from verify import adapters
from verify.adapters import Pair, adapt, gradcheck, plain
from verify.battery.contracts import CONTRACTS, Call
from verify.checker.certificate import Certificate, GradientMismatch
from verify.checker.layer import ContractError


class Linear:
    """As most write it: W and b, whose gradients are left in dW and db."""

    def __init__(self) -> None:
        self.W, self.b = np.ones((4, 3)), np.ones(3)

    def forward(self, x: Any, scale: float = 1) -> Any:
        self.x, self.scale = x, scale
        return scale * (x @ self.W) + self.b

    def backward(self, dy: Any) -> Any:
        self.dW = self.scale * self.x.T @ dy
        self.db = dy.sum(axis=0)
        return self.scale * dy @ self.W.T


class WithDicts:
    """Its parameters and gradients are dicts, and backward replaces the second."""

    def __init__(self) -> None:
        self.params: Any = {"W": np.ones((4, 3)), "b": np.ones(3), "layers": 1}
        self.grads: Any = {}

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"W": self.x.T @ dy, "b": dy.sum(axis=0)}
        return dy @ self.params["W"].T


class WithLists(WithDicts):
    """Its parameters and gradients are lists, and backward writes gradients in place."""

    def __init__(self) -> None:
        self.params = [np.ones((4, 3)), np.ones(3)]
        self.grads = [np.zeros((4, 3)), np.zeros(3)]

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dy: Any) -> Any:
        self.grads[0][...] = self.x.T @ dy
        self.grads[1][...] = dy.sum(axis=0)
        return dy @ self.params[0].T


class Returning:
    """Two inputs, and a parameter whose gradient backward returns after theirs."""

    def __init__(self) -> None:
        self.W = np.ones((4, 3))

    def forward(self, x: Any, y: Any) -> Any:
        self.x, self.y = x, y
        return x @ self.W * y

    def backward(self, dy: Any) -> Any:
        return dy * self.y @ self.W.T, dy * (self.x @ self.W), self.x.T @ (dy * self.y)


class Accumulating(Linear):
    """Adds to dW, as those do that have a zero_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.dW = np.zeros((4, 3))

    def zero_grad(self) -> None:
        self.dW = np.zeros((4, 3))

    def backward(self, dy: Any) -> Any:
        before = self.dW
        dx = super().backward(dy)
        self.dW = self.dW + before
        return dx


class Pure:
    """A class that is no more than a room for two functions."""

    @staticmethod
    def forward(x: Any, w: Any) -> Any:
        return x @ w, (x, w)

    @staticmethod
    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return dy @ w.T, x.T @ dy


X = np.random.default_rng(0).standard_normal((5, 4))


def check(target: Any, *inputs: Any, **settings: Any) -> Certificate:
    """A check that does not raise, seed 0."""
    return result_of(plain.gradcheck, target, inputs, seed=0, **settings)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Linear, ["x", "W", "b"]),
        (Linear(), ["x", "W", "b"]),
        (WithDicts(), ["x", "W", "b"]),
        (WithLists(), ["x", "params[0]", "params[1]"]),
    ],
)
def test_an_instance_is_exact_in_its_input_and_its_parameters(target: Any, names: list[str]) -> None:
    certificate = check(target, X)
    assert (certificate.verdict, certificate.oracle) == ("PASS", "exact integers")
    assert [result.name for result in certificate.arguments] == names


def test_gradients_that_backward_returns_are_those_of_the_parameters_named() -> None:
    certificate = check(Returning(), X, np.ones((5, 3)), parameters=["W"])
    assert (certificate.verdict, [each.name for each in certificate.arguments]) == ("PASS", ["x", "y", "W"])
    unnamed = check(Returning(), X, np.ones((5, 3)))  # W is the one array whose shape fits
    assert (unnamed.verdict, [each.name for each in unnamed.arguments]) == ("PASS", ["x", "y", "W"])


def test_other_names_of_gradients_can_be_said() -> None:
    class Odd(Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.slope = self.__dict__.pop("dW")
            return dx

    assert check(Odd(), X, parameters={"W": "slope", "b": "db"}).verdict == "PASS"
    missing = check(Odd(), X, parameters={"W": "dW"})
    assert [(cause.code, cause.argument) for cause in missing.causes] == [("no-gradient", "W")]
    with pytest.raises(ValueError, match="parameter 'V' of Odd must be a floating array, got no such attribute"):
        plain.pair(Odd(), ["V"])
    with pytest.raises(TypeError, match="parameters must be a sequence of names, or a dict, got 'W'"):
        plain.pair(Odd(), "W")


def test_a_wrong_parameter_gradient_is_named_with_its_worst_entry() -> None:
    class Wrong(Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.dW[1, 0] *= 1 + 1e-9
            return dx

    with pytest.raises(GradientMismatch, match=r"dW \(4, 3\): FAIL, worst entry dW\[1, 0\]"):
        plain.gradcheck(Wrong(), (X,), seed=0)


def test_the_instance_has_its_own_parameters_again_even_after_an_exception() -> None:
    layer = Linear()
    weights, bias = layer.W, layer.b
    check(layer, X)
    with pytest.raises(ValueError, match="matmul"):
        check(layer, np.ones((5, 7)))
    assert layer.W is weights
    assert layer.b is bias
    np.testing.assert_array_equal(weights, 1)


def test_gradients_that_accumulate_fail_unless_their_reset_is_named() -> None:
    certificate = check(Accumulating(), X)
    assert [(result.name, result.verdict) for result in certificate.arguments] == [
        ("x", "PASS"),
        ("W", "FAIL"),
        ("b", "PASS"),
    ]
    assert certificate.causes[0].code == "accumulates"
    pair = plain.pair(Accumulating(), reset="zero_grad")
    assert gradcheck(pair, (X,), seed=0).verdict == "PASS"


def test_a_gradient_stays_though_the_next_backward_writes_to_the_same_place() -> None:
    pair = plain.pair(WithLists())
    y, cache = pair.forward(*pair.arrays((X,)))
    first = pair.backward(np.ones_like(y), cache)[1]
    pair.backward(2 * np.ones_like(y), cache)
    np.testing.assert_array_equal(first, X.T @ np.ones_like(y))


def broken_contracts(pair: Pair) -> set[str]:
    """The codes of what the pair breaks at X."""
    codes, generator = set(), np.random.default_rng(0)
    for contract in CONTRACTS.values():
        call = Call.of(*pair, pair.arrays((X,)), {}, generator)
        try:
            contract(call, generator)
        except ContractError as error:
            codes.add(error.code)
    return codes


def test_the_adapter_hides_no_state_from_the_battery() -> None:
    assert broken_contracts(plain.pair(Linear())) == {"stale-cache"}  # x is the instance's latest
    assert broken_contracts(plain.pair(Accumulating())) >= {"accumulates", "stale-cache"}
    assert broken_contracts(Pair(lambda x: (2 * x, None), lambda dy, cache: (2 * dy,))) == set()


@pytest.mark.parametrize(
    "target",
    [
        linear.vectorized,
        (linear.vectorized.forward, linear.vectorized.backward),
        types.SimpleNamespace(forward=linear.vectorized.forward, backward=linear.vectorized.backward),
        Pair(linear.vectorized.forward, linear.vectorized.backward),
    ],
)
def test_a_pair_is_taken_as_it_is(target: Any) -> None:
    pair = adapt(target)
    assert (pair.forward, pair.backward) == (linear.vectorized.forward, linear.vectorized.backward)
    assert [(each.name, each.required) for each in pair.inputs] == [("x", True), ("w", True), ("b", False)]


def test_static_functions_of_a_class_are_a_pair_and_its_methods_make_an_instance() -> None:
    assert gradcheck(Pure, (X, np.ones((4, 2))), seed=0).verdict == "PASS"
    assert gradcheck(Linear, (X,), seed=0).verdict == "PASS"


def test_what_is_no_array_is_handed_on() -> None:
    certificate = gradcheck(Linear(), (X, 3), seed=0)
    assert [result.name for result in certificate.arguments] == ["x", "W", "b"]
    certificate = gradcheck(Linear(), (X,), {"scale": 3}, seed=0, wrt=["b", 0])
    assert [result.name for result in certificate.arguments] == ["b", "x"]


class _NeedsSizes:
    def __init__(self, sizes: int) -> None:
        self.sizes = sizes

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, dy: Any) -> Any:
        return dy


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "3 is no layer: give a pair"),
        (Linear().forward, "is no layer"),
        (np.sin, "the function sin is no layer"),
        (check, r"or name the framework of the function, as in verify\.adapters\.torch\.gradcheck\(check, \(x,\)\)"),
        ((1, 2), r"\(1, 2\) is no layer"),
        (_NeedsSizes, "cannot be made without arguments, give an instance: .*'sizes'"),
    ],
)
def test_an_unknown_target_is_quoted_and_told_what_would_do(target: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        adapt(target)


def test_inputs_must_be_a_tuple_and_wrt_names_of_arrays() -> None:
    with pytest.raises(TypeError, match=r"inputs must be a tuple, as in \(x,\), got an array"):
        gradcheck(Linear(), X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wrt holds 'V', which is none of the arrays: x, W, b"):
        gradcheck(Linear(), (X,), wrt=["V"])
    with pytest.raises(ValueError, match="wrt holds 3, which is none"):
        gradcheck(Linear(), (X,), wrt=[3])


def test_nothing_of_pytorch_or_jax_is_imported_before_it_is_used() -> None:
    program = (
        "import sys, verify, verify.command.cli; from verify.adapters import adapt; adapt((abs, abs)); "
        "print({'torch', 'jax'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def _in_c(entry: Any) -> Any:
    """What ctypes gives for `void f(const double *x, double *y, int n)`, here a callback; y[i] = entry(x[i])."""
    pointer = ctypes.POINTER(ctypes.c_double)

    @ctypes.CFUNCTYPE(None, pointer, pointer, ctypes.c_int)
    def function(x: Any, y: Any, n: int) -> None:
        for i in range(n):
            y[i] = entry(x[i])

    return function


def test_a_framework_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"adapters\.torch needs PyTorch, which is not installed: python -m pip"
    ):
        adapters.__getattr__("torch")


@pytest.mark.parametrize(("slope", "verdict"), [(3, "PASS"), (2, "FAIL")])
def test_functions_of_c_are_wrapped_as_the_docstring_says(slope: float, verdict: str) -> None:
    cube, cube_gradient = _in_c(lambda x: x**3), _in_c(lambda x: slope * x * x)
    doubles = ndpointer(np.float64, flags="C_CONTIGUOUS")
    cube.argtypes = cube_gradient.argtypes = [doubles, doubles, ctypes.c_int]

    def forward(x: Any) -> Any:
        x = np.ascontiguousarray(x)
        y = np.empty_like(x)
        cube(x, y, x.size)
        return y, x

    def backward(dy: Any, x: Any) -> Any:
        dx = np.empty_like(x)
        cube_gradient(x, dx, x.size)
        return (dx * dy,)

    certificate = result_of(gradcheck, (forward, backward), (X,), seed=0)
    assert (certificate.verdict, certificate.structure) == (verdict, "smooth")
    assert any("refuses complex arrays" in reason for reason in certificate.reasons)
