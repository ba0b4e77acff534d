"""The ways in take the same layers and settings, call a layer by its user's name, and tell one bug once."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import verify
from helpers import result_of
from verify import GradientMismatch, Inconclusive, LayerError, StructureError, adapters, check_layer, gradcheck
from verify.adapters import layer_name, prepared

X, W = np.random.default_rng(0).normal(size=(5, 4)), np.ones((4, 3))
ONE_CACHE = {"another-forward-disturbs-nothing": "an instance keeps one cache"}


class Weights:
    """A layer with a fixed array, a gradient of another name that accumulates, and methods of other names."""

    def __init__(self, off: float = 1.0) -> None:
        self.weights, self.offset = W.copy(), np.full(3, 0.5)
        self.slope, self.off = np.zeros((4, 3)), off

    def fprop(self, x: Any) -> Any:
        """y = x W + offset."""
        self.x = x
        return x @ self.weights + self.offset.astype(x.dtype)

    def bprop(self, dy: Any) -> Any:
        """dx; dW is added to slope."""
        self.slope = self.slope + self.off * self.x.T @ dy
        return dy @ self.weights.T

    def zero(self) -> None:
        """Clear the gradient."""
        self.slope = np.zeros_like(self.weights)


SETTINGS: dict[str, Any] = {
    "parameters": {"weights": "slope"},
    "fixed": ("offset",),
    "reset": "zero",
    "forward": "fprop",
    "backward": "bprop",
}


def by_adapters(layer: Any) -> Any:
    """The verdict of verify.adapters.gradcheck."""
    return adapters.gradcheck(layer, (X,), raise_on_failure=False, **SETTINGS).verdict


def by_check_layer(layer: Any) -> Any:
    """The verdict of check_layer."""
    report = check_layer(layer, [((X,), {})], expected_failures=ONE_CACHE, raise_on_failure=False, **SETTINGS)
    return report.verdict


def by_parametrize(layer: Any) -> Any:
    """The verdict of the first test that parametrize_with_checks makes."""
    mark = verify.parametrize_with_checks([layer], [((X,), {})], **SETTINGS).mark
    given, check = mark.args[1][0].values
    try:
        check(given)
    except LayerError as error:
        return error.report.verdict
    return "PASS"


@pytest.mark.parametrize("way", [by_adapters, by_check_layer, by_parametrize])
@pytest.mark.parametrize(("off", "verdict"), [(1.0, "PASS"), (5.0, "FAIL")])
def test_every_way_takes_the_settings_of_a_layer_with_state(
    way: Callable[[Any], str], off: float, verdict: str
) -> None:
    assert way(Weights(off)) == verdict


def test_without_the_reset_the_gradients_pile_up() -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != "reset"}
    assert not adapters.gradcheck(Weights(), (X,), raise_on_failure=False, **settings)


def test_the_callers_own_instance_keeps_its_class_and_its_parameters() -> None:
    layer = Weights()
    by_adapters(layer)
    assert type(layer) is Weights
    assert np.array_equal(layer.weights, W)
    assert not hasattr(layer, "forward")


def test_what_is_prepared_is_what_is_checked() -> None:
    call = prepared(Weights(), (X,), wrt=["weights"], **SETTINGS)
    assert [array.shape for array in call.arrays] == [(5, 4), (4, 3)]
    assert call.wrt == (1,)


def _forward(x: Any, w: Any) -> Any:
    return x @ w, (x, w)


def _backward(dy: Any, cache: Any) -> Any:
    return dy @ cache[1].T, cache[0].T @ dy


class Dense:
    """A class of functions."""

    forward = staticmethod(_forward)
    backward = staticmethod(_backward)

    class Inner:
        """A class in a class."""

    def method(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Dense, "Dense"),
        (Dense(), "Dense"),
        (Dense.Inner, "Dense.Inner"),
        ((_forward, _backward), "_forward"),  # as its user wrote it
        ((functools.partial(_forward, w=W), _backward), "_forward"),
        ((lambda x: x, _backward), "lambda"),
        (Weights().fprop, "Weights.fprop"),
        (adapters.adapt(Dense), "_forward"),
        (adapters.adapt(Weights(), **SETTINGS), "Weights"),
        (adapters.adapt(Weights(), **SETTINGS).filled({0: X}), "Weights"),
    ],
)
def test_a_layer_has_the_name_that_its_user_gave_it(layer: Any, name: str) -> None:
    assert layer_name(layer) == name


def test_layers_of_pytorch_have_their_names_and_take_tensors_in_every_way() -> None:
    torch = pytest.importorskip("torch")

    class Half(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            x, w = ctx.saved_tensors
            return dy @ w.T, x.T @ dy / 2

    tensors = torch.from_numpy(X), torch.from_numpy(W)
    for layer in (Half, Half.apply, adapters.torch.pair(Half)):
        assert layer_name(layer) == "Half"
        report = result_of(check_layer, layer, [(tensors, {})])
        assert str(report).startswith("Half: 15 checks in ")
        assert {result.check for result in report.results if result.note.startswith("as above")} == {
            "each-gradient-alone",
            "gradients-in-the-other-precision",
            "gradients-at-ties",
            "gradients-at-zeros",
        }
    linear = torch.nn.Linear(4, 3)
    assert layer_name(linear) == "Linear"
    assert check_layer(linear, [((tensors[0],), {})], checks=["each-gradient-alone"])
    assert adapters.gradcheck(adapters.torch.pair(linear), (tensors[0],))
    with pytest.raises(TypeError, match=r"is sparse .*: check a function of its values"):
        adapters.torch.gradcheck(torch.sparse.mm, (tensors[0].to_sparse(), tensors[1]))
    with pytest.raises(AttributeError, match=r"check the layer \(x, dy\) -> dx"):
        _ = adapters.torch.gradgradcheck


def test_functions_of_jax_have_their_names_and_take_pytrees_in_every_way() -> None:
    jax = pytest.importorskip("jax")

    def affine(parameters: Any, x: Any) -> Any:
        return x @ parameters["w"] + parameters["b"]

    inputs = {"w": jax.numpy.ones((4, 3)), "b": jax.numpy.ones(3)}, jax.numpy.ones((5, 4))
    pair = adapters.jax.pair(affine)
    assert layer_name(pair) == "affine"
    report = check_layer(pair, [(inputs, {})], checks=["each-gradient-alone"])
    assert str(report).startswith("affine: 1 check in ")
    assert [each.name for each in adapters.gradcheck(pair, inputs).arguments] == ["parameters.b", "parameters.w", "x"]


def _wrong(dy: Any, cache: Any) -> Any:
    dx, dw = _backward(dy, cache)
    return dx, 2 * dw


def _wrong_twice(dy: Any, cache: Any) -> Any:
    """Twice dw; and in float32 dx is wrong."""
    dx, dw = _wrong(dy, cache)
    return dx * (3 if dx.dtype == np.float32 else 1), dw


def test_one_wrong_gradient_is_told_once() -> None:
    report = result_of(check_layer, (_forward, _wrong), [((X, W), {})])
    above = [result for result in report.results if result.note == "as above: all-gradients-together"]
    assert {result.verdict for result in above} == {"FAIL"}
    assert len(above) == 4
    assert str(report).count("worst entry") == 1
    assert report.headline.startswith(
        "FAIL: _forward, all-gradients-together, each-gradient-alone, gradients-in-the-ot"
    )
    assert "\n" not in report.headline


def test_another_gradient_that_is_wrong_is_told_as_well() -> None:
    report = result_of(check_layer, (_forward, _wrong_twice), [((X, W), {})])
    assert "dx (5, 4): FAIL" in report["gradients-in-the-other-precision"].note
    assert report["gradients-at-ties"].note == "as above: all-gradients-together"


def _in_place(dy: Any, mask: Any) -> Any:
    dy[mask] = 0
    return (dy,)


def _forward_in_place(x: Any) -> Any:
    x *= 2
    return x.copy(), None


@pytest.mark.parametrize(
    ("layer", "note"),
    [
        ((lambda x: (np.maximum(x, 0), x <= 0), _in_place), "backward writes to its argument dy"),
        ((_forward_in_place, lambda dy, cache: (2 * dy,)), "forward writes to its argument x"),
        ((lambda x: (x * x, x), lambda dy, x: (np.multiply(dy, 2 * x, out=dy),)), "backward writes to its argument dy"),
        ((lambda x: (3 * x, x), lambda dy, x: (x.fill(0), 3 * dy)[1:]), "backward writes to its argument x"),
    ],
    ids=["dy[mask] = 0", "x *= 2", "out=dy", "the cached x"],
)
def test_a_write_to_an_argument_fails_one_check(layer: Any, note: str) -> None:
    report = result_of(check_layer, layer, [((X,), {})])
    assert [result.check for result in report.results if result.verdict == "FAIL"] == ["arguments-are-left-alone"], (
        report
    )
    assert report["arguments-are-left-alone"].note == note


def test_of_a_layer_that_writes_to_dy_a_wrong_gradient_is_found_all_the_same() -> None:
    def doubled(dy: Any, mask: Any) -> Any:
        dy[mask] = 0
        return (2 * dy,)

    report = result_of(check_layer, (lambda x: (np.maximum(x, 0), x <= 0), doubled), [((X,), {})])
    assert report["all-gradients-together"].verdict == "FAIL"
    assert "twice" in report["all-gradients-together"].note or "2 times" in report["all-gradients-together"].note


@pytest.mark.parametrize("change", [lambda dw: dw.sum(axis=0), lambda dw: None, lambda dw: dw.astype(np.float32)])
def test_a_gradient_of_another_kind_fails_the_checks_of_gradients_alone(change: Any) -> None:
    def changed(dy: Any, cache: Any) -> Any:
        dx, dw = _backward(dy, cache)
        return dx, change(dw)

    report = result_of(check_layer, (_forward, changed), [((X, W), {})])
    failed = {result.check for result in report.results if result.verdict == "FAIL"}
    assert failed == {
        "all-gradients-together",
        "each-gradient-alone",
        "gradients-in-the-other-precision",
        "gradients-at-ties",
        "gradients-at-zeros",
        "dtypes-and-shapes-are-kept",
    }
    assert len({result.note for result in report.results if result.verdict == "FAIL"}) == 2  # the fault, and as above


@pytest.mark.parametrize("error", [GradientMismatch, Inconclusive, LayerError, StructureError])
def test_exceptions_are_those_of_the_package_and_survive_pickling(error: type[Exception]) -> None:
    assert f"{error.__module__}.{error.__qualname__}" == f"verify.{error.__name__}"
    assert pickle.loads(pickle.dumps(error)) is error is getattr(verify, error.__name__)
    assert pickle.loads(pickle.dumps(gradcheck)) is gradcheck is verify.gradcheck


def test_a_mismatch_survives_pickling_with_its_certificate() -> None:
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(_forward, _wrong, (X, W), seed=0)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.certificate.text(timed=False)) == (
        GradientMismatch,
        caught.value.certificate.text(timed=False),
    )


class Two:
    """A layer with two results, whose second is wrong where it is used alone."""

    def __init__(self, off: float) -> None:
        self.off = off

    def forward(self, x: Any) -> Any:
        """2 x and 3 x."""
        return 2 * x, 3 * x

    def backward(self, dh: Any, dc: Any) -> Any:
        """dx, with a wrong factor where the first result has no gradient."""
        return 2 * dh + (3 if np.any(dh) else self.off) * dc


@pytest.mark.parametrize(("off", "verdict"), [(3.0, "PASS"), (4.0, "FAIL")])
def test_the_battery_asks_for_each_result_alone_as_the_adapter_does(off: float, verdict: str) -> None:
    alone = adapters.gradcheck(Two(off), (X,), raise_on_failure=False)
    report = result_of(check_layer, Two(off), [((X,), {})], checks=["all-gradients-together"])
    assert (alone.verdict, report.verdict) == (verdict, verdict)


class Unpaired:
    """A layer with a parameter whose gradient has no name that is known."""

    def __init__(self) -> None:
        self.kernel = W.copy()

    def forward(self, x: Any) -> Any:
        """y = x kernel."""
        self.x = x
        return x @ self.kernel

    def backward(self, dy: Any) -> Any:
        """dx; the other gradient is left in qqq."""
        self.qqq = self.x.T @ dy
        return dy @ self.kernel.T


def test_what_nobody_checked_is_no_pass_in_any_way_until_it_is_named() -> None:
    assert adapters.gradcheck(Unpaired(), (X,), raise_on_failure=False).verdict == "INCONCLUSIVE"
    report = result_of(check_layer, Unpaired(), [((X,), {})])
    assert report.verdict == "INCONCLUSIVE", report
    assert "kernel" in report["all-gradients-together"].note
    assert report["gradients-at-ties"].note == "as above: all-gradients-together"
    for settings in ({"parameters": {"kernel": "qqq"}}, {"fixed": ("kernel",)}):
        report = result_of(check_layer, Unpaired(), [((X,), {})], **settings)
        failed = {result.check for result in report.results if result.verdict in ("FAIL", "INCONCLUSIVE")}
        assert failed <= set(ONE_CACHE), report
