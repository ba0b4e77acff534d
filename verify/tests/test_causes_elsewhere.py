"""Causes that are the true gradient of another function: at other options, at y, with constant statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import certificate_of
from verify import adapters
from verify.checker.certificate import Certificate

RNG = np.random.default_rng
X, W = RNG(0).normal(size=(4, 9)), RNG(1).normal(size=3)


def codes(found: Certificate) -> list[str]:
    assert found.verdict == "FAIL", found
    return [cause.code for cause in found.causes]


def correlate(x: Any, w: Any, stride: int, dilation: int = 1) -> Any:
    """y[n, i] = sum_t w[t] x[n, i stride + t dilation]."""
    count = (x.shape[1] - dilation * (len(w) - 1) - 1) // stride + 1
    taps = [x[:, t * dilation : t * dilation + stride * (count - 1) + 1 : stride] * w[t] for t in range(len(w))]
    return sum(taps)


def of_correlate(dy: Any, x: Any, w: Any, stride: int, dilation: int = 1) -> Any:
    """dx, where windows are taken at this stride and dilation."""
    dx = np.zeros_like(x)
    for i in range(dy.shape[1]):
        for t in range(len(w)):
            dx[:, i * stride + t * dilation] += dy[:, i] * w[t]
    return dx


def filter_gradient(dy: Any, x: Any, stride: int, dilation: int = 1) -> Any:
    ends = [t * dilation + stride * (dy.shape[1] - 1) + 1 for t in range(3)]
    return np.array([(dy * x[:, t * dilation : ends[t] : stride]).sum() for t in range(3)])


class Windows:
    """A layer that keeps its options in attributes."""

    def __init__(self, options: dict[str, Any], wrong: dict[str, int]) -> None:
        self.wrong = wrong
        vars(self).update(options)

    @property
    def steps(self) -> tuple[int, int]:
        return vars(self).get("strides", 2), vars(self).get("dilation_rate", 1)

    def forward(self, x: Any) -> Any:
        self.x = x
        return correlate(x, W, *self.steps)

    def backward(self, dy: Any) -> Any:
        return of_correlate(dy, self.x, W, *self.wrong.values())


class InDict(Windows):
    @property
    def steps(self) -> tuple[int, int]:
        return vars(self)["config"]["stride"], vars(self)["config"]["dilation"]


class InLayerWithin(Windows):
    @property
    def steps(self) -> tuple[int, int]:
        return vars(self)["inner"].stride, 1


class Inner:
    stride: int

    def __init__(self) -> None:
        self.stride = 2


KEPT: dict[str, tuple[Callable[[], Any], str]] = {
    "strides": (lambda: Windows({"strides": 2}, {"stride": 1}), "stride-ignored"),
    "dilation_rate": (lambda: Windows({"strides": 1, "dilation_rate": 2}, {"stride": 1}), "dilation-ignored"),
    "a dict, stride": (lambda: InDict({"config": {"stride": 2, "dilation": 1}}, {"stride": 1}), "stride-ignored"),
    "a dict, dilation": (lambda: InDict({"config": {"stride": 1, "dilation": 2}}, {"stride": 1}), "dilation-ignored"),
    "a layer within": (lambda: InLayerWithin({"inner": Inner()}, {"stride": 1}), "stride-ignored"),
}


@pytest.mark.parametrize("name", KEPT)
def test_options_are_found_in_attributes(name: str) -> None:
    make, code = KEPT[name]
    layer = make()
    found = adapters.plain.gradcheck(layer, (X,), seed=0, raise_on_failure=False)
    assert codes(found)[0] == code, found
    assert vars(layer).keys() == vars(make()).keys()  # a copy is checked


def _of_dict(x: Any, w: Any, hparameters: dict[str, Any]) -> Any:
    return correlate(x, w, hparameters["stride"]), (x, w)


def _of_conv_param(x: Any, w: Any, *, conv_param: dict[str, Any]) -> Any:
    return correlate(x, w, conv_param["inner"]["stride"], conv_param["inner"]["dilation"]), (x, w)


@pytest.mark.parametrize(
    ("forward", "options", "code"),
    [
        (_of_dict, {"hparameters": {"f": 3, "stride": 2}}, "stride-ignored"),
        (_of_conv_param, {"conv_param": {"inner": {"stride": 2, "dilation": 1}}}, "stride-ignored"),
        (_of_conv_param, {"conv_param": {"inner": {"stride": 1, "dilation": 2}}}, "dilation-ignored"),
    ],
    ids=["a dict", "a dict in a dict", "dilation"],
)
def test_options_are_found_in_dicts(forward: Any, options: dict[str, Any], code: str) -> None:
    inner = next(iter(options.values()))
    inner = inner.get("inner", inner)
    stride, dilation = inner["stride"], inner.get("dilation", 1)

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return of_correlate(dy, x, w, 1), filter_gradient(dy, x, stride, dilation)

    before = repr(options)
    found = certificate_of(forward, backward, (X, W), options, seed=0)
    assert codes(found)[0] == code, found
    assert f"(in {next(iter(options))})" in found.causes[0].explanation
    assert repr(options) == before


def test_a_wrong_gradient_beside_a_stride_is_no_ignored_stride() -> None:
    layer = Windows({"strides": 2}, {"stride": 2})
    layer.backward = lambda dy: 2 * of_correlate(dy, layer.x, W, 2)  # type: ignore[method-assign]
    found = adapters.plain.gradcheck(layer, (X,), seed=0, raise_on_failure=False)
    assert codes(found)[0] == "constant-factor"
    assert "stride-ignored" not in codes(found)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any) -> Any:
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def real_tanh(x: Any) -> Any:
    if np.iscomplexobj(x):
        raise TypeError("real numbers only")
    return np.tanh(x)


def of_softmax(dy: Any, y: Any) -> Any:
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


# What backward is given (x or y), its formula, the code.
EXCHANGED: dict[str, tuple[Any, Any, str]] = {
    "sigmoid, x(1 - x)": (sigmoid, lambda dy, x, y: dy * x * (1 - x), "at-input"),
    "tanh, 1 - x^2": (np.tanh, lambda dy, x, y: dy * (1 - x**2), "at-input"),
    "softmax of x": (softmax, lambda dy, x, y: of_softmax(dy, x), "at-input"),
    "tanh by differences, 1 - x^2": (real_tanh, lambda dy, x, y: dy * (1 - x**2), "at-input"),
    "tanh, 1 - tanh(y)^2": (np.tanh, lambda dy, x, y: dy * (1 - np.tanh(y) ** 2), "at-output"),
    "sigmoid of y": (sigmoid, lambda dy, x, y: dy * sigmoid(y) * (1 - sigmoid(y)), "at-output"),
    "softmax twice": (softmax, lambda dy, x, y: of_softmax(dy, softmax(y)), "at-output"),
    "sine by differences, cos(y)": (lambda x: np.sin(x.real) * 1.5, lambda dy, x, y: 1.5 * dy * np.cos(y), "at-output"),
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_a_derivative_at_x_for_y_is_named(name: str) -> None:
    function, gradient, code = EXCHANGED[name]
    for seed in range(2):
        found = certificate_of(
            lambda x: (function(x), (x, function(x))), lambda dy, c: (gradient(dy, *c),), (X,), seed=seed
        )
        assert codes(found) == [code], found


def test_y_in_the_place_of_another_array_is_named() -> None:
    """A square linear layer that keeps y, not x."""
    x, w = RNG(0).normal(size=(4, 4)), RNG(1).normal(size=(4, 4))
    found = certificate_of(lambda x, w: (x @ w, (x @ w, w)), lambda dy, c: (dy @ c[1].T, c[0].T @ dy), (x, w), seed=0)
    assert codes(found) == ["at-output"]
    assert found.causes[0].argument == "w"


@pytest.mark.parametrize(
    "gradient", [lambda dy, x, y: dy * (1 - y), lambda dy, x, y: dy * (1 - x * y), lambda dy, x, y: dy * (1 + y**2)]
)
def test_another_formula_is_neither(gradient: Any) -> None:
    found = certificate_of(lambda x: (np.tanh(x), (x, np.tanh(x))), lambda dy, c: (gradient(dy, *c),), (X,), seed=0)
    assert codes(found) == ["unknown"]


def normed(axes: Any, eps: float = 1e-5, *, real: bool = False) -> Callable[..., Any]:
    def forward(x: Any, gamma: Any) -> Any:
        if real and np.iscomplexobj(x):
            raise TypeError("real numbers only")
        centred = x - x.mean(axis=axes, keepdims=True)
        inverse = 1 / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + eps)
        return gamma * centred * inverse, (centred * inverse, inverse, gamma)

    return forward


def of_normed(axes: Any, kept: str, sum_over: Any) -> Callable[..., Any]:
    """The gradient where the mean, the variance or both are differentiated."""

    def backward(dy: Any, cache: Any) -> Any:
        xhat, inverse, gamma = cache
        d = dy * gamma
        dx = d.copy()
        if "mean" in kept:
            dx -= d.mean(axis=axes, keepdims=True)
        if "variance" in kept:
            dx -= xhat * (d * xhat).mean(axis=axes, keepdims=True)
        return dx * inverse, (dy * xhat).sum(axis=sum_over).reshape(gamma.shape)

    return backward


NORMS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], Any, bool]] = {
    "batch norm": (0, (6, 3), (3,), 0, False),
    "batch norm of images": ((0, 2, 3), (4, 2, 2, 3), (1, 2, 1, 1), (0, 2, 3), False),
    "layer norm": (1, (5, 4), (4,), 0, False),
    "instance norm": ((2, 3), (2, 3, 3, 2), (1, 3, 1, 1), (0, 2, 3), False),
    "batch norm by differences": (0, (6, 3), (3,), 0, True),
}


@pytest.mark.parametrize("kept", ["neither", "mean", "variance"])
@pytest.mark.parametrize("name", NORMS)
def test_statistics_taken_as_constants_are_named(name: str, kept: str) -> None:
    axes, shape, gamma_shape, sum_over, real = NORMS[name]
    arrays = RNG(0).normal(size=shape), RNG(1).normal(size=gamma_shape)
    found = certificate_of(normed(axes, real=real), of_normed(axes, kept, sum_over), arrays, seed=0)
    assert codes(found)[0] == "statistics-constant", found
    named = {"neither": "means", "mean": "the variance", "variance": "the mean"}[kept]
    assert named in found.causes[0].explanation
    right = certificate_of(normed(axes, real=real), of_normed(axes, "mean and variance", sum_over), arrays, seed=0)
    assert right.verdict == "PASS"


def test_another_error_of_a_norm_is_no_constant_statistic() -> None:
    right = of_normed(0, "mean and variance", 0)
    arrays = RNG(0).normal(size=(6, 3)), RNG(1).normal(size=3)
    for change, code in ((lambda dx: 2 * dx, "constant-factor"), (lambda dx: dx[::-1].copy(), "flipped")):
        found = certificate_of(normed(0), lambda dy, c, f=change: (f(right(dy, c)[0]), right(dy, c)[1]), arrays, seed=0)
        assert codes(found)[0] == code
        assert "statistics-constant" not in codes(found)
