# mypy: allow-untyped-defs, allow-untyped-calls
# mypy: disable-error-code="override,attr-defined,assignment,index,has-type,no-untyped-call"
"""verify.adapters.plain: a layer is not spoilt by its check, and what it keeps between calls is said."""

from __future__ import annotations

import collections
import threading
from typing import Any

import numpy as np
import pytest

from helpers import drawn, result_of
from verify import gradcheck
from verify.adapters import plain
from verify.adapters._places import walk
from verify.checker.certificate import Certificate

X = drawn(0, 3, 4)


def check(layer: Any, *inputs: Any, **settings: Any) -> Certificate:
    """A check that does not raise, at X unless inputs are given. Afterwards the layer is as it was."""
    before = contents(layer)
    certificate = result_of(plain.gradcheck, layer, inputs or (X,), seed=0, **settings)
    assert contents(layer) == before
    return certificate


def contents(layer: Any) -> dict[Any, Any]:
    """All that can be reached from a layer, in a form that can be compared."""
    return {
        path: (value.dtype, value.tolist()) if isinstance(value, np.ndarray) else repr(value)
        for path, value in walk(layer)
        if not hasattr(value, "forward")
    }


def kept(certificate: Certificate) -> list[str]:
    return [each.name for each in certificate.uncovered if "keeps it between calls" in each.why]


class BatchNorm:
    """Training mode: running statistics move with each forward."""

    def __init__(self, factor=1):
        self.gamma, self.beta, self.factor = drawn(1, 4), drawn(2, 4), factor
        self.running = {"mean": np.zeros(4), "var": np.ones(4)}
        self.steps = 0

    def forward(self, x):
        mean, var = x.mean(0), x.var(0)
        self.s = np.sqrt(((x - mean) ** 2).mean(0) + 1e-5)
        self.z = (x - mean) / self.s
        self.running["mean"] = 0.9 * self.running["mean"] + 0.1 * mean
        self.running["var"] *= 0.9
        self.running["var"] += 0.1 * np.real(var)
        self.steps += 1
        return self.gamma * self.z + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.z).sum(0), dy.sum(0)
        dz = dy * self.gamma
        return self.factor * (dz - dz.mean(0) - self.z * (dz * self.z).mean(0)) / self.s


class Cell:
    """A recurrent cell that keeps its hidden state."""

    def __init__(self, factor=1):
        self.W, self.U, self.factor = drawn(1, 4, 4), drawn(2, 4, 4), factor
        self.h = drawn(3, 3, 4)

    def forward(self, x):
        self.x, self.before = x, self.h
        self.h = np.tanh(x @ self.W + self.h @ self.U)
        return self.h

    def backward(self, dy):
        da = dy * (1 - self.h**2)
        self.dW, self.dU = self.x.T @ da, self.factor * self.before.T @ da
        return da @ self.W.T


class CellInPlace(Cell):
    """Its state is written in place, and y is a copy."""

    def forward(self, x):
        self.x, self.before = x, self.h.copy()
        h = np.tanh(x @ self.W + self.h @ self.U)
        self.h = self.h.astype(h.dtype)
        self.h[...] = h
        return h


class CellFromNothing(Cell):
    """Its state is made at the first forward."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.h = None

    def forward(self, x):
        if self.h is None:
            self.h = np.ones((len(x), 4))
        return super().forward(x)


class Memory(Cell):
    """Two states, in a dict."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.state = {"h": drawn(3, 3, 4), "c": drawn(4, 3, 4)}

    def forward(self, x):
        self.x, self.before = x, self.state["h"]
        self.a = np.tanh(x @ self.W + self.before @ self.U)
        self.state = {"h": self.a, "c": self.state["c"] + self.a}
        return self.state["c"] * 1.0

    def backward(self, dy):
        da = dy * (1 - self.a**2)
        self.dW, self.dU = self.x.T @ da, self.factor * self.before.T @ da
        return da @ self.W.T


class Dropout:
    """Its masks come from its own generator."""

    def __init__(self, factor=1):
        self.rng, self.factor = np.random.default_rng(5), factor

    def forward(self, x):
        self.mask = self.rng.random(x.shape) < 0.5
        return x * self.mask * 2

    def backward(self, dy):
        return self.factor * dy * self.mask * 2


class Fading:
    """Each forward counts, and y depends on the count."""

    def __init__(self, factor=1):
        self.t, self.factor = 1, factor

    def forward(self, x):
        self.t += 1
        self.scale = 2 / self.t
        return x * self.scale

    def backward(self, dy):
        return self.factor * dy * self.scale


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (BatchNorm, []),
        (Cell, ["h"]),
        (CellInPlace, ["h"]),
        (CellFromNothing, ["h"]),
        (Memory, ['state["h"]', 'state["c"]']),
        (Dropout, ["rng"]),
        (Fading, ["t"]),
    ],
)
def test_a_layer_with_state_is_checked_from_the_state_given(kind: Any, names: list[str]) -> None:
    right, wrong = check(kind(1)), check(kind(5))
    assert (right.verdict, kept(right)) == ("PASS", names), str(right)
    assert (wrong.verdict, kept(wrong)) == ("FAIL", names)
    assert "complex128" not in str(right)


class CellWithGradientOfState(Cell):
    """dh is the gradient of the state before."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.dh = self.factor * (dy * (1 - self.h**2)) @ self.U.T
        return dx


class CellWithUpstream(Cell):
    """Its dh is that of the state after: no gradient of what forward reads."""

    def backward(self, dy):
        self.dh = dy
        return super().backward(dy)


def test_a_state_that_may_have_a_gradient_is_asked_for() -> None:
    for kind in (CellWithGradientOfState, CellWithUpstream):
        certificate = check(kind())
        assert (certificate.verdict, "dh may be its gradient" in str(certificate)) == ("INCONCLUSIVE", True)
        assert check(kind(), fixed=("h",)).verdict == "PASS"
    assert check(CellWithGradientOfState(), parameters={"h": "dh"}).verdict == "PASS"
    assert check(CellWithGradientOfState(5), parameters={"h": "dh"}).verdict == "FAIL"


class WithLock(Cell):
    """Nothing can copy its lock."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.lock, self.inner = threading.Lock(), [{"lock": threading.Lock(), "bias": drawn(6, 4)}]

    def forward(self, x):
        with self.lock:
            return super().forward(x) + self.inner[0]["bias"]


class Uncopied(BatchNorm):
    """A layer that forbids copies."""

    def __deepcopy__(self, memo):
        raise TypeError("there is one of me")


class Single(BatchNorm):
    """A layer of which there is one."""

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize(("kind", "fixed"), [(WithLock, ("inner",)), (Uncopied, ()), (Single, ())])
def test_a_layer_that_cannot_be_copied_is_as_it_was(kind: Any, fixed: Any) -> None:
    assert check(kind(1), fixed=fixed).verdict == "PASS"
    assert check(kind(5), fixed=fixed).verdict == "FAIL"


class Pile:
    """Forwards append their inputs. `first` says that backward takes the first of them."""

    def __init__(self, factor=1, *, first=True):
        self.W, self.factor, self.first = drawn(1, 4, 5), factor, first
        self.gradients = {"W": np.zeros((4, 5))}
        self.X = self.empty()

    def empty(self) -> Any:
        return []

    def forward(self, x):
        self.X.append(x)
        return np.tanh(x @ self.W)

    def backward(self, dy):
        x = self.X[0 if self.first else -1]
        da = dy * (1 - np.tanh(x @ self.W) ** 2)
        self.gradients["W"] = self.gradients["W"] + self.factor * x.T @ da
        return da @ self.W.T

    def flush_gradients(self):
        self.X = self.empty()
        self.gradients["W"] = np.zeros((4, 5))


class Queue(Pile):
    def empty(self):
        return collections.deque()


class PileInDict(Pile):
    def empty(self):
        self.cache: dict[str, Any] = {"X": []}
        return self.cache["X"]


@pytest.mark.parametrize("kind", [Pile, Queue, PileInDict])
def test_forwards_that_pile_up_are_named_and_a_reset_decides(kind: Any) -> None:
    silent = check(kind(1))
    assert [cause.code for cause in silent.causes] == ["stale-cache"]
    assert "forwards pile up" in str(silent)
    assert "reset='flush_gradients'" in str(silent)
    assert check(kind(1), reset="flush_gradients").verdict == "PASS"
    assert check(kind(5), reset="flush_gradients").verdict == "FAIL"


def test_a_stack_of_forwards_of_which_the_last_counts_is_right_but_for_its_sums() -> None:
    silent = check(Pile(1, first=False))
    assert [(each.name, each.verdict) for each in silent.arguments] == [("x", "PASS"), ("W", "FAIL")]
    assert check(Pile(1, first=False), reset="flush_gradients").verdict == "PASS"


class Update:
    """backward subtracts from w."""

    def __init__(self, factor=1, *, late=False):
        self.w, self.factor, self.late = drawn(1, 4, 5), factor, late

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, d, learning_rate=0.005):
        dx = d @ self.w.T
        self.w -= learning_rate * self.factor * self.x.T @ d
        return d @ self.w.T if self.late else dx


class Required(Update):
    def backward(self, d, learning_rate):
        return super().backward(d, learning_rate)


class RateOfTheLayer(Update):
    def __init__(self, factor=1, **settings):
        super().__init__(factor, **settings)
        self.lr = 0.1

    def backward(self, d):
        return super().backward(d, self.lr)


class Rebinding(Update):
    def backward(self, d, lr):
        w = self.w
        self.w = w.copy()
        dx = super().backward(d, lr)
        self.w = w - (w - self.w)
        return dx


@pytest.mark.parametrize("kind", [Update, Required, RateOfTheLayer, Rebinding])
def test_an_update_in_backward_is_said_and_what_it_subtracts_can_be_checked(kind: Any) -> None:
    silent = check(kind(1))
    assert silent.verdict == "INCONCLUSIVE"
    assert "backward changes it" in str(silent)
    assert "parameters={'w': 'update'}" in str(silent)
    assert "randomness" not in str(silent)
    assert check(kind(1), parameters={"w": "update"}).verdict == "PASS"
    assert check(kind(5), parameters={"w": "update"}).verdict == "FAIL"
    assert check(kind(1), fixed=("w",)).verdict == "PASS"
    assert check(kind(1, late=True), fixed=("w",)).verdict == "FAIL"


class SmallSteps(Update):
    """An update that is small beside the weights, of a layer that is not linear."""

    def forward(self, x):
        self.x, self.y = x, np.tanh(x @ self.w * 1e-6)
        return self.y

    def backward(self, d, eta):
        d = d * (1 - self.y**2) * 1e-6
        return super().backward(d, eta)


def test_what_a_small_update_subtracts_is_known_to_rounding() -> None:
    assert check(SmallSteps(1), parameters={"w": "update"}).verdict == "PASS"
    assert check(SmallSteps(1 + 1e-6), parameters={"w": "update"}).verdict == "FAIL"


class UpdateWithGradient(Update):
    """The gradient is left as well."""

    def backward(self, d, alpha=0.1):
        self.dw = self.factor * self.x.T @ d
        return super().backward(d, alpha)


def test_an_update_whose_gradient_is_left_is_checked_and_said() -> None:
    right = check(UpdateWithGradient(1))
    assert (right.verdict, [each.name for each in right.arguments]) == ("PASS", ["x", "w"])
    assert "the layer changes it when it is called" in str(right)
    assert check(UpdateWithGradient(5)).verdict == "FAIL"


class Twofold:
    """An accumulator in a list, a dict or an attribute."""

    def __init__(self):
        self.W, self.grads = drawn(1, 4, 5), {"W": np.zeros((4, 5))}

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.grads["W"] += self.x.T @ dy
        return dy @ self.W.T

    def zero_grad(self):
        self.grads["W"] = np.zeros((4, 5))


class TwofoldList(Twofold):
    def __init__(self):
        self.W = drawn(1, 4, 5)
        self.params, self.grads = [self.W], [np.zeros((4, 5))]

    def backward(self, dy):
        self.grads[0] = self.grads[0] + self.x.T @ dy
        return dy @ self.W.T

    def zero_grad(self):
        self.grads = [np.zeros((4, 5))]


@pytest.mark.parametrize("kind", [Twofold, TwofoldList])
def test_gradients_that_accumulate_are_found_and_their_reset_serves(kind: Any) -> None:
    certificate = check(kind())
    assert (certificate.verdict, certificate.causes[0].code) == ("FAIL", "accumulates")
    assert check(kind(), reset="zero_grad").verdict == "PASS"


def test_a_random_layer_is_inconclusive_as_before() -> None:
    class Noise:
        def forward(self, x):
            return x * np.random.default_rng().random(x.shape)

        def backward(self, dy):
            return dy

    assert check(Noise()).verdict == "INCONCLUSIVE"


def test_a_pair_made_without_inputs_says_what_matters_as_well() -> None:
    made = plain.pair(Update())
    certificate = result_of(gradcheck, *made, made.arrays((X,)), seed=0)
    assert (certificate.verdict, [each.name for each in certificate.uncovered]) == ("INCONCLUSIVE", ["w"])
    made = plain.pair(Update(), {"w": "update"})
    assert result_of(gradcheck, *made, made.arrays((X,)), seed=0).verdict == "PASS"
    made = plain.pair(Cell())
    certificate = result_of(gradcheck, *made, made.arrays((X,)), seed=0)
    assert (certificate.verdict, kept(certificate)) == ("PASS", ["h"])
