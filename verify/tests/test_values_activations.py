"""Activations and dropout: values on paper and in 60 digits, laws, extreme values, options, corners of the strategies.

What is wrong in both versions of a layer shows here. NumPy's warnings are errors in these tests, so nothing overflows.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from numpy.typing import NDArray

from cnn_core import Implementation
from verify.layers import LAYERS, Case

Array = NDArray[Any]

NAN, INF = math.nan, math.inf
LOG2, LOG3 = math.log(2), math.log(3)
# Activations of one array, by their options for the tests that go through all of them.
POINTWISE: dict[str, dict[str, Any]] = {
    "elu": {"alpha": 1.5},
    "gelu": {},
    "hardsigmoid": {},
    "leaky_relu": {"negative_slope": 0.2},
    "sigmoid": {},
    "silu": {},
    "softplus": {"beta": 0.75, "threshold": 18.0},
    "tanh": {},
}
EVERY = [*POINTWISE, "prelu", "dropout"]


def versions(*names: str) -> list[Any]:
    """All versions of these layers."""
    pairs = [(name, version) for name in names for version in LAYERS[name].implementations]
    return [pytest.param(name, version, id=f"{name}-{version.name}") for name, version in pairs]


def both(*names: str) -> pytest.MarkDecorator:
    """Run a test for all versions of these layers."""
    return pytest.mark.parametrize(("name", "layer"), versions(*names))


def one(name: str) -> pytest.MarkDecorator:
    """Run a test for all versions of one layer."""
    return pytest.mark.parametrize("layer", [pytest.param(*each.values[1:], id=each.id) for each in versions(name)])


def run(layer: Implementation, x: Any, *more: Array, dy: Any = 1, dtype: Any = np.float64, **options: Any) -> Any:
    """Return y and the gradients of a dy that is broadcast to y."""
    y, cache = layer.forward(np.array(x, dtype), *more, **options)
    return (y, *layer.backward(np.array(np.broadcast_to(dy, y.shape), y.dtype), cache))


def same(got: Any, right: Any, dtype: Any = np.float64) -> None:
    """Equal in shape, dtype, every entry, and in the sign of each zero."""
    right = np.array(right, dtype)
    np.testing.assert_array_equal(got, right, strict=True)
    assert isinstance(got, np.ndarray)
    zeros = (got.real == 0) & np.isrealobj(got)  # a product of complex numbers loses it
    assert (np.signbit(got.real)[zeros] == np.signbit(right.real)[zeros]).all(), (got, right)


def near(got: Array, right: Any, roundings: float, scale: Any = None) -> None:
    """Equal up to some roundings of the scale, by default of the value itself."""
    eps = float(np.finfo(got.dtype).eps)
    error, allowed = np.abs(got - right), roundings * eps / 2 * np.abs(right if scale is None else scale)
    assert (error <= allowed).all(), f"{got} is not {right}"


DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])


@DTYPES
@one("leaky_relu")
def test_leaky_relu_scales_what_is_not_positive(layer: Implementation, dtype: type) -> None:
    y, dx = run(layer, [-8, -0.0, 0, 3], dy=[1, 2, 3, -4], dtype=dtype, negative_slope=0.25)
    same(y, [-2, -0.0, 0, 3], dtype)
    same(dx, [0.25, 0.5, 0.75, -4], dtype)
    y, dx = run(layer, [-8, 5], dy=[1, 2], dtype=dtype, negative_slope=-2)
    same(y, [16, 5], dtype)
    same(dx, [-2, 2], dtype)
    y, dx = run(layer, [-100], dtype=dtype)  # the slope is 0.01 by default
    near(y, [-1], 2)
    near(dx, [0.01], 2)


@DTYPES
@one("elu")
def test_elu_is_alpha_times_exp_minus_1_below_0(layer: Implementation, dtype: type) -> None:
    # exp(-log 2) - 1 = -1/2.
    y, dx = run(layer, [-LOG2, 2, -0.0, 0], dy=[4, -3, 1, 1], dtype=dtype, alpha=3)
    near(y, [-1.5, 2, 0, 0], 20)
    near(dx, [6, -3, 3, 3], 20)
    same(y[1:], [2, -0.0, 0], dtype)
    y, dx = run(layer, [-LOG2, -0.0], dtype=dtype)  # alpha is 1 by default
    near(y, [-0.5, 0], 20)
    near(dx, [0.5, 1], 20)


@DTYPES
@one("sigmoid")
def test_sigmoid_of_log_3_is_three_quarters(layer: Implementation, dtype: type) -> None:
    y, dx = run(layer, [LOG3, -LOG3, 0, -0.0], dy=[16, -16, 4, 4], dtype=dtype)
    near(y, [3 / 4, 1 / 4, 1 / 2, 1 / 2], 20)
    near(dx, [3, -3, 1, 1], 40)


@DTYPES
@one("tanh")
def test_tanh_of_log_2_is_three_fifths(layer: Implementation, dtype: type) -> None:
    # (4 - 1) / (4 + 1), and 1 - 9/25 = 16/25.
    y, dx = run(layer, [LOG2, -LOG2, 0, -0.0], dy=[25, -25, 2, 3], dtype=dtype)
    near(y, [3 / 5, -3 / 5, 0, 0], 20)
    near(dx, [16, -16, 2, 3], 40)
    same(y[2:], [0, -0.0], dtype)


@DTYPES
@one("silu")
def test_silu_is_x_times_its_sigmoid(layer: Implementation, dtype: type) -> None:
    # 3/4 + log 3 * 3/16, and 1/4 - log 3 * 3/16.
    y, dx = run(layer, [LOG3, -LOG3, 0, -0.0], dy=[16, 16, 2, 2], dtype=dtype)
    near(y, [LOG3 * 3 / 4, -LOG3 / 4, 0, 0], 20)
    near(dx, [12 + 3 * LOG3, 4 - 3 * LOG3, 1, 1], 40, 16)
    same(y[2:], [0, -0.0], dtype)


@DTYPES
@one("gelu")
def test_gelu_where_its_tanh_is_one_half(layer: Implementation, dtype: type) -> None:
    # tanh u = 1/2 where u = log(3) / 2. That x + k x^3 = u / r has one root, which Newton's method finds.
    r, k = math.sqrt(2 / math.pi), 0.044715
    x = 0.6
    for _ in range(6):
        x -= (r * (x + k * x**3) - LOG3 / 2) / (r * (1 + 3 * k * x**2))
    slope = x / 2 * 3 / 4 * r * (1 + 3 * k * x**2)
    y, dx = run(layer, [x, -x, 0, -0.0], dtype=dtype)
    near(y, [x * 3 / 4, -x / 4, 0, 0], 30)
    near(dx, [3 / 4 + slope, 1 / 4 - slope, 1 / 2, 1 / 2], 40, 1)
    same(y[2:], [0, -0.0], dtype)


@DTYPES
@one("softplus")
def test_softplus_of_log_3_is_log_4(layer: Implementation, dtype: type) -> None:
    y, dx = run(layer, [LOG3, -LOG3, 0], dy=[4, -4, 2], dtype=dtype)
    near(y, [math.log(4), math.log(4 / 3), LOG2], 40, 1)
    near(dx, [3, -1, 1], 40)
    # beta 2 halves both axes. beta -1 mirrors both.
    y, dx = run(layer, [LOG3 / 2, -LOG3 / 2], dy=4, dtype=dtype, beta=2)
    near(y, [math.log(4) / 2, math.log(4 / 3) / 2], 40, 1)
    near(dx, [3, 1], 40)
    y, dx = run(layer, [LOG3, -LOG3], dy=4, dtype=dtype, beta=-1)
    near(y, [-math.log(4 / 3), -math.log(4)], 40, 1)
    near(dx, [1, 3], 40)


@DTYPES
@one("softplus")
def test_softplus_is_x_only_above_the_threshold_of_beta_x(layer: Implementation, dtype: type) -> None:
    # beta x is 1, 2 and 4: the threshold itself belongs to the curve.
    y, dx = run(layer, [0.5, 1, 2], dy=3, dtype=dtype, beta=2, threshold=2)
    same(y[2:], [2], dtype)
    same(dx[2:], [3], dtype)
    curve = [math.log1p(math.exp(z)) / 2 for z in (1, 2)]
    near(y[:2], curve, 60)
    near(dx[:2], [3 / (1 + math.exp(-z)) for z in (1, 2)], 60)
    y, dx = run(layer, [-1, 20.5], dtype=dtype, threshold=-2)
    same(y, [-1, 20.5], dtype)
    same(dx, [1, 1], dtype)
    y, dx = run(layer, [20, 20.5], dtype=dtype)  # 20 by default
    near(dx, [1 / (1 + math.exp(-20)), 1], 2)
    assert dtype is np.float32 or dx[0] != 1
    same(y[1:], [20.5], dtype)


@DTYPES
@one("hardsigmoid")
def test_hardsigmoid_is_flat_from_3_on(layer: Implementation, dtype: type) -> None:
    y, dx = run(layer, [-4, -3, -1.5, -0.0, 1.5, 3, 4], dy=[6, 6, 6, 12, -6, 6, 6], dtype=dtype)
    same(y, [0, 0, 0.25, 0.5, 0.75, 1, 1], dtype)
    same(dx, [0, 0, 1, 2, -1, 0, 0], dtype)
    # The slope is dy / 6, not dy times a rounded sixth.
    x = np.zeros(99)
    dy = np.arange(99)
    same(run(layer, x, dy=dy, dtype=dtype)[1], dy.astype(dtype) / np.array(6, dtype), dtype)


@DTYPES
@one("prelu")
def test_prelu_has_one_slope_a_channel_or_one_for_all(layer: Implementation, dtype: type) -> None:
    # Channel 0: -1, 2; -3, 0. Channel 1: -5, 6; 7, -8.
    x = [[[-1, 2], [-5, 6]], [[-3, 0], [7, -8]]]
    dy = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    y, dx, dw = run(layer, x, np.array([10, -100], dtype), dy=dy, dtype=dtype)
    same(y, [[[-10, 2], [500, 6]], [[-30, 0], [7, 800]]], dtype)
    same(dx, [[[10, 2], [-300, 4]], [[50, 60], [7, -800]]], dtype)
    same(dw, [-1 - 15, -15 - 64], dtype)
    y, dx, dw = run(layer, x, np.array([10], dtype), dy=dy, dtype=dtype)
    same(y, [[[-10, 2], [-50, 6]], [[-30, 0], [7, -80]]], dtype)
    same(dx, [[[10, 2], [30, 4]], [[50, 60], [7, 80]]], dtype)
    same(dw, [-1 - 15 - 15 - 64], dtype)


@DTYPES
@one("dropout")
def test_dropout_scales_what_it_keeps(layer: Implementation, dtype: type) -> None:
    mask = np.array([True, False, True, False])
    y, dx = run(layer, [1, 2, -3, 0], mask, dy=[5, 6, 7, 8], dtype=dtype, p=0.75)
    same(y, [4, 0, -12, 0], dtype)
    same(dx, [20, 0, 28, 0], dtype)
    y, dx = run(layer, [1, 2, -3, 0], mask, dy=[5, 6, 7, 8], dtype=dtype)  # a half by default
    same(y, [2, 0, -6, 0], dtype)
    same(dx, [10, 0, 14, 0], dtype)
    for p, scale in ((0, 1), (1, 0)):  # p = 1 drops everything, whatever the mask
        y, dx = run(layer, [1, 2, 3, 0], mask, dtype=dtype, p=p)
        same(y, [scale, 0, 3 * scale, 0], dtype)
        same(dx, [scale, 0, scale, 0], dtype)
    near(run(layer, [9], np.ones(1, bool), dtype=dtype, p=0.1)[0], [10], 5)


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def reference(name: str, x: Any, **options: Any) -> tuple[Decimal, Decimal]:
    """y and its slope at x, in 60 digits, by the formulae of the textbooks."""
    a = Decimal(x)
    e = a.exp()
    s = e / (1 + e)
    zero, one = Decimal(0), Decimal(1)
    if name == "leaky_relu":
        slope = one if a > 0 else Decimal(options["negative_slope"])
        return a * slope, slope
    if name == "elu":
        alpha = Decimal(options["alpha"])
        return (a, one) if a > 0 else (alpha * (e - 1), alpha * e)
    if name == "sigmoid":
        return s, s * (1 - s)
    if name == "tanh":
        t = (e - 1 / e) / (e + 1 / e)
        return t, 1 - t * t
    if name == "silu":
        return a * s, s + a * s * (1 - s)
    if name == "gelu":
        r, k = (2 / PI).sqrt(), Decimal("0.044715")
        t, _ = reference("tanh", r * (a + k * a**3))
        return a / 2 * (1 + t), (1 + t) / 2 + a / 2 * (1 - t * t) * r * (1 + 3 * k * a * a)
    if name == "softplus":
        z = Decimal(options["beta"]) * a
        if z > Decimal(options["threshold"]):
            return a, one
        return (1 + z.exp()).ln() / Decimal(options["beta"]), z.exp() / (1 + z.exp())
    assert name == "hardsigmoid"
    return min(max((a + 3) / 6, zero), one), 1 / Decimal(6) if -3 < a < 3 else zero


POINTS = [sign * x for x in (1e-12, 1e-5, 0.1, 0.5, 1.0, 2.0, 2.75, 4.0, 9.0, 17.5, 30.0) for sign in (1, -1)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@both(*POINTWISE)
def test_values_and_slopes_are_those_of_60_digits(name: str, layer: Implementation, dtype: type) -> None:
    x: Array = np.array(POINTS, dtype)
    y, dx = run(layer, x, dtype=dtype, **POINTWISE[name])
    case, dy = Case((x,), POINTWISE[name]), np.ones_like(x)
    with localcontext(prec=60):
        right = [
            np.array([float(v) for v in each])
            for each in zip(*(reference(name, float(v), **case.options) for v in x), strict=True)
        ]
    for got, exact, allowed in zip((y, dx), right, LAYERS[name].allowed(case, y, dy, (dx,)), strict=True):
        # Two versions may differ by twice what one may be off by, and the exact value is rounded to float64.
        assert (np.abs(got - exact) <= allowed / 2 + np.finfo(np.float64).eps * np.abs(exact)).all(), (got, exact)


@both("sigmoid", "tanh", "silu", "softplus", "elu")
def test_slopes_keep_their_digits_far_out(name: str, layer: Implementation) -> None:
    # 1 - y and 1 - y^2 would be 0 from 37 and 19 on. exp(x) of -700 is the smallest but some thousands.
    x = np.array([-700.0, -200, -40, -25, 25, 40, 200, 340])
    options = {"elu": {"alpha": 1.5}, "softplus": {"threshold": 800.0}}.get(name, {})
    if name == "tanh":
        x = x / 2
    _, dx = run(layer, x, **options)
    with localcontext(prec=400):  # tanh subtracts numbers that agree in 295 digits
        right = np.array([float(reference(name, v, **{"beta": 1.0, **options})[1]) for v in x])
    assert right.all()
    near(dx, right, 60)


@both(*POINTWISE)
def test_nothing_overflows_at_any_number(name: str, layer: Implementation) -> None:
    y_low, y_high = {"leaky_relu": (-0.2 * 1e308, 1e308), "elu": (-1.5, 1e308), "tanh": (-1.0, 1.0)}.get(
        name, (-0.0 if name in ("gelu", "silu") else 0.0, 1.0 if "sigmoid" in name else 1e308)
    )
    low, high = {"leaky_relu": (0.2, 1.0), "sigmoid": (0.0, 0.0), "hardsigmoid": (0.0, 0.0), "tanh": (0.0, 0.0)}.get(
        name, (0.0, 1.0)
    )
    y, dx = run(layer, [-1e308, 1e308], **POINTWISE[name])
    same(y, [y_low, y_high])
    np.testing.assert_array_equal(np.abs(dx), [low, high])
    y, dx = run(layer, [-1e4, 1e4], dtype=np.complex128, **POINTWISE[name])
    near(y, [y_low * 1e-304 if name == "leaky_relu" else y_low, 1e4 if y_high == 1e308 else y_high], 2)
    near(dx, [low, high], 2)


@one("softplus")
def test_softplus_survives_an_overflow_of_beta_x_and_of_exp(layer: Implementation) -> None:
    y, dx = run(layer, [-1e308, 1e308], beta=10)
    same(y, [0, 1e308])
    same(dx, [0, 1])
    y, dx = run(layer, [800, -800], threshold=1e4)
    same(y, [800, 0])
    same(dx, [1, 0])


@both("sigmoid", "tanh", "silu", "gelu", "softplus", "hardsigmoid", "elu", "leaky_relu")
@given(x=LAYERS["tanh"].cases().map(lambda case: case.arrays[0]))
def test_law_of_the_mirror_image(name: str, layer: Implementation, x: Array) -> None:
    y, dx = run(layer, x)
    mirrored, slope = run(layer, -x)
    if name in ("sigmoid", "hardsigmoid"):  # y(x) + y(-x) = 1
        near(y + mirrored, 1, 80, 1)
        near(dx, slope, 80, 1)
    elif name == "tanh":
        same(y, -mirrored)
        same(dx, slope)
    elif name in ("silu", "gelu", "softplus"):  # y(x) - y(-x) = x
        near(y - mirrored, x, 80, 1 + np.abs(x))
        near(dx + slope, 1, 200, 1 + np.abs(x) ** 3)
    else:  # one of x and -x is on the branch y = x
        np.testing.assert_array_equal(np.maximum(y, mirrored), np.abs(x))
        assert ((dx == 1) | (slope == 1) | (x == 0)).all()


@one("tanh")
@given(x=LAYERS["tanh"].cases().map(lambda case: case.arrays[0]))
def test_tanh_is_a_sigmoid_stretched(layer: Implementation, x: Array) -> None:
    s, slope = run(LAYERS["sigmoid"].reference, 2 * x)
    y, dx = run(layer, x)
    near(y, 2 * s - 1, 80, 1)
    near(dx, 4 * slope, 80)


@one("silu")
@given(x=LAYERS["tanh"].cases().map(lambda case: case.arrays[0]))
def test_silu_is_x_times_the_sigmoid(layer: Implementation, x: Array) -> None:
    near(run(layer, x)[0], x * run(LAYERS["sigmoid"].fast, x)[0], 60)


@one("softplus")
@given(x=LAYERS["tanh"].cases().map(lambda case: case.arrays[0]), beta=st.sampled_from((0.5, 2.0, -4.0)))
def test_softplus_has_the_sigmoid_as_its_slope_and_beta_scales_both_axes(
    layer: Implementation, x: Array, beta: float
) -> None:
    y, dx = run(layer, x, beta=beta)
    near(dx, run(LAYERS["sigmoid"].fast, beta * x)[0], 60)
    same(y, run(layer, beta * x)[0] / beta)  # beta is a power of two


@one("gelu")
def test_gelu_is_near_its_exact_form(layer: Implementation) -> None:
    x = np.linspace(-6, 6, 1201)
    exact = np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    error = np.abs(run(layer, x)[0] - exact).max()
    assert 4e-4 < error < 5e-4  # as the docstring says


@one("leaky_relu")
@given(x=LAYERS["relu"].cases().map(lambda case: case.arrays[0]), slope=st.sampled_from((0.0, 0.25, 1.0, 3.0, -2.0)))
def test_leaky_relu_is_a_line_and_a_relu(layer: Implementation, x: Array, slope: float) -> None:
    y, dx = run(layer, x, dy=3, negative_slope=slope)
    relu, drelu = run(LAYERS["relu"].fast, x, dy=3)
    np.testing.assert_array_equal(y, slope * x + (1 - slope) * relu)
    np.testing.assert_array_equal(dx, slope * 3 + (1 - slope) * drelu)


@one("elu")
@given(x=LAYERS["tanh"].cases().map(lambda case: case.arrays[0]), alpha=st.sampled_from((0.0, 0.5, -2.0)))
def test_elu_is_affine_in_alpha(layer: Implementation, x: Array, alpha: float) -> None:
    (y, dx), (y0, dx0), (y1, dx1) = (run(layer, x, alpha=a) for a in (alpha, 0, 1))
    np.testing.assert_array_equal(y, y0 + alpha * (y1 - y0))  # one of the two is 0
    np.testing.assert_array_equal(dx, dx0 + alpha * (dx1 - dx0))


@one("prelu")
@given(case=LAYERS["prelu"].cases())
def test_prelu_is_leaky_relu_channel_by_channel(layer: Implementation, case: Case) -> None:
    x, w = case.arrays
    assert x is not None
    assert w is not None
    y, dx, dw = run(layer, x, w, dy=3)
    parts: list[tuple[Any, Any]] = [((slice(None), c), slope) for c, slope in enumerate(w)]
    if len(w) == 1:
        parts = [((), w[0])]
    leaky = LAYERS["leaky_relu"].reference
    for c, (part, slope) in enumerate(parts):
        right, dright = run(leaky, x[part], dy=3, negative_slope=slope)
        np.testing.assert_array_equal(y[part], right)
        np.testing.assert_array_equal(dx[part], dright)
        assert dw[c] == 3 * np.minimum(x[part], 0).sum()


@one("dropout")
@given(case=LAYERS["dropout"].cases(), p=st.sampled_from((0.1, 0.2, 0.3, 0.9, 0.5)))
def test_dropout_and_its_complement_share_the_scaled_input(layer: Implementation, case: Case, p: float) -> None:
    x, mask = case.arrays
    assert x is not None
    assert mask is not None
    (y, dx), (rest, drest) = (run(layer, x, m, dy=3, p=p) for m in (mask, np.array(~mask)))
    near(y + rest, x / (1 - p), 3)
    near(dx + drest, 3 / (1 - p), 3)
    assert not y[~mask].any()
    assert not rest[mask].any()


def test_a_mask_of_the_docstring_keeps_the_mean() -> None:
    generator, p, n = np.random.default_rng(0), 0.3, 100_000
    y, _ = LAYERS["dropout"].fast.forward(np.ones(n), generator.random(n) >= p, p=p)
    # Six standard deviations of the mean of n independent entries, each sqrt(p / (1 - p)).
    assert abs(y.mean() - 1) <= 6 * math.sqrt(p / (1 - p) / n)


def call_of(name: str, x: Array) -> Any:
    """A call of a layer at x, with some slopes, or a mask that keeps all."""
    more: dict[str, tuple[Array, ...]] = {"prelu": (np.array([-0.3], x.dtype),), "dropout": (np.ones(x.shape, bool),)}
    return Case((x, *more.get(name, ())), POINTWISE.get(name, {}))


@both(*EVERY)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_complex_step_sees_the_slope_that_backward_gives_also_at_kinks(
    name: str, layer: Implementation, sign: int
) -> None:
    # A comparison of complex numbers would depend on the sign of the imaginary part at 0 and 3.
    (x, *more), options = call_of(name, np.array([-30.0, -3, -1.25, -1e-9, -0.0, 0, 0.5, 2.75, 3, 24, 30]))
    h = sign * 1e-30
    y, _ = layer.forward(x + 1j * h, *(m if m.dtype == bool else m.astype(complex) for m in more), **options)
    real, dx, *_ = run(layer, x, *more, **options)
    near(y.imag / h, dx, 100, np.maximum(np.abs(dx), 1e-3 if name == "gelu" else 0))
    near(y.real, real, 40, 1 + np.abs(real))


@one("softplus")
def test_softplus_of_an_imaginary_number_has_a_sigmoid_as_its_slope(layer: Implementation) -> None:
    # z = i pi / 2: sigmoid(z) = 1 / (1 - i) = (1 + i) / 2, whose sign of i is that of exp(-z).
    for sign in (1, -1):
        _, dx = run(layer, [sign * 0.5j * math.pi], dtype=np.complex128)
        near(dx, [(1 + sign * 1j) / 2], 10)


@both(*EVERY)
@DTYPES
def test_scalars_and_empty_arrays_keep_shape_and_type(name: str, layer: Implementation, dtype: type) -> None:
    for shape in ((), (0,), (2, 0, 3), (1,), (1, 1)):
        (x, *more), options = call_of(name, np.full(shape, 0.5, dtype))
        y, dx, *_ = run(layer, x, *more, dtype=dtype, **options)
        for found in (y, dx):
            assert isinstance(found, np.ndarray)
            assert (found.shape, found.dtype) == (shape, dtype)


@one("prelu")
def test_prelu_of_no_image_and_of_no_channel_has_zero_gradients(layer: Implementation) -> None:
    same(run(layer, np.zeros((0, 3, 2)), np.ones(3))[2], [0, 0, 0])
    same(run(layer, np.zeros((0, 3)), np.ones(1))[2], [0])
    same(run(layer, np.zeros((2, 0)), np.ones(0))[2], np.zeros(0))
    assert run(layer, np.array(-2.0), np.array([3.0]), dy=5)[2] == [-10]


@one("prelu")
def test_slopes_of_prelu_take_no_part_of_positive_entries_however_large(layer: Implementation) -> None:
    same(run(layer, [0.5, -1], np.ones(1), dy=[INF, 3])[2], [-3])
    same(run(layer, [INF, -1], np.ones(1), dy=[2, 3])[2], [-3])
    with np.errstate(invalid="ignore"):
        assert np.isnan(run(layer, [0.0, -1], np.ones(1), dy=[INF, 3])[2]).all()  # 0 is not positive: 0 * inf


def extremes(dtype: Any) -> Array:
    """NaN, infinities, large, subnormal, tiny and zero numbers of both signs. More than a vector register has."""
    limits = np.finfo(dtype)
    sizes = (INF, 0.9 * float(limits.max), 1e4, 80, float(limits.tiny), 3 * float(limits.smallest_subnormal), 0.0)
    return np.array([NAN, *(sign * size for size in sizes for sign in (1, -1)), 1.0], dtype)


@both(*EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_values_propagate_as_in_pytorch(name: str, layer: Implementation, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    case = call_of(name, extremes(dtype))
    leaves = [torch.tensor(a, requires_grad=a.dtype != bool) for a in case.arrays if a is not None]
    options = {**case.options, **({"approximate": "tanh"} if name == "gelu" else {})}
    if name == "dropout":  # of a mask that is given
        right = torch.ops.aten.native_dropout_backward(*leaves, 2.0)
    else:
        right = getattr(torch.nn.functional, name)(*leaves, **options)
    right.sum().backward()
    # inf * 0 and inf - inf are NaN, and NumPy says so.
    with np.errstate(invalid="ignore", over="ignore"):
        y, *gradients = run(layer, *case.arrays, dtype=dtype, **case.options)
        y_most, *most = LAYERS[name].allowed(case, y, np.ones_like(y), tuple(gradients))
    tiny = 2 * float(np.finfo(dtype).smallest_subnormal)
    agree(y, right.detach().numpy(), y_most, tiny)
    for gradient, leaf, allowed in zip(gradients, leaves, most, strict=False):
        theirs = leaf.grad.numpy()
        if name == "gelu":  # its x^2 overflows, and the gradient of a finite number is NaN
            ours_only = np.isfinite(case.arrays[0]) & np.isnan(theirs)
            assert ours_only.any()
            theirs = np.where(ours_only, gradient, theirs)
            same(gradient[ours_only], [1, 0], dtype)
        if name == "elu":  # in float32, 1 at NaN where arrays are long enough for vector registers
            theirs[0] = NAN
        if name == "hardsigmoid":  # its sixth has float32's digits
            theirs = np.where(theirs == np.float32(1 / 6), dtype(1) / dtype(6), theirs)
        agree(gradient, theirs, allowed, tiny)


def agree(got: Array, right: Array, allowed: Any, tiny: float) -> None:
    """Equal, both NaN, or within the tolerance and two roundings of a subnormal number."""
    with np.errstate(invalid="ignore"):
        close = np.abs(got - right) <= np.nan_to_num(allowed) + tiny
    assert ((got == right) | (np.isnan(got) & np.isnan(right)) | close).all(), (got, right)


@one("hardsigmoid")
def test_pytorch_s_sixth_is_a_float32_and_ours_is_not(layer: Implementation) -> None:
    torch = pytest.importorskip("torch")
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.hardsigmoid(x).backward(torch.ones(1, dtype=torch.float64))
    assert x.grad.item() == float(np.float32(1) / np.float32(6)) != 1 / 6
    same(run(layer, [0])[1], [1 / 6])


@one("softplus")
def test_pytorch_overflows_above_a_large_threshold_and_we_do_not(layer: Implementation) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(800.0, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.softplus(x, threshold=1e4)
    y.backward()
    assert y.isinf()
    assert x.grad.isnan()
    y, dx = run(layer, 800, threshold=1e4)
    assert y == 800
    assert dx == 1


@one("dropout")
def test_dropout_is_pytorch_s_at_every_p(layer: Implementation) -> None:
    torch = pytest.importorskip("torch")
    for p, dtype in itertools.product((0.0, 0.1, 0.3, 0.7, 0.9, 1.0), (torch.float32, torch.float64)):
        torch.manual_seed(0)
        x = torch.arange(1.0, 100.0, dtype=dtype, requires_grad=True)
        y = torch.nn.functional.dropout(x, p=p)
        y.sum().backward()
        right = y.detach().numpy()
        got, dx = run(layer, x.detach().numpy(), right != 0, dtype=right.dtype, p=p)
        near(got, right, 4)
        near(dx, x.grad.numpy(), 4)


CHANGES: list[tuple[str, str, tuple[Any, ...]]] = [
    ("leaky_relu", "negative_slope", (0.01, 0.02, 0.0, -1)),
    ("elu", "alpha", (1.0, 0.5, 0.0, -1)),
    ("softplus", "beta", (1.0, 2.0, 0.5, -1)),
    ("softplus", "threshold", (20.0, 0.5, -0.5, -2)),
    ("dropout", "p", (0.5, 0.0, 0.25, 1.0)),
]


@pytest.mark.parametrize(("name", "option", "values"), CHANGES)
def test_each_value_of_an_option_gives_another_output_and_gradient(name: str, option: str, values: Any) -> None:
    for layer in LAYERS[name].implementations:
        x = call_of(name, np.array([-1.0, -0.25, 0.25, 1.0]))
        found = [run(layer, *x.arrays, **{option: value}) for value in values]
        for one, other in itertools.combinations(found, 2):
            assert (one[0] != other[0]).any()
            assert (one[1] != other[1]).any()
        default, first = run(layer, *x.arrays), found[0]
        np.testing.assert_array_equal(default[0], first[0])
        np.testing.assert_array_equal(default[1], first[1])


def x_of(case: Case) -> Array:
    """The first array of a case."""
    assert case.arrays[0] is not None
    return case.arrays[0]


def other_of(case: Case) -> Array:
    """The second array of a case."""
    assert case.arrays[1] is not None
    return case.arrays[1]


SHAPES: dict[str, Callable[[Case], bool]] = {
    "scalar": lambda case: x_of(case).shape == (),
    "nothing": lambda case: x_of(case).size == 0,
    "no image of some channels": lambda case: x_of(case).ndim == 4 and x_of(case).shape[0] == 0 < x_of(case).shape[1],
    "one entry in four axes": lambda case: x_of(case).shape == (1, 1, 1, 1),
    "four axes": lambda case: x_of(case).ndim == 4 and x_of(case).size > 1,
    "unequal sizes": lambda case: len({*x_of(case).shape}) == x_of(case).ndim == 3 and x_of(case).size > 0,
}


def corners(name: str) -> dict[str, Callable[[Case], bool]]:
    """The corners that the strategy of a layer names."""
    found = dict(SHAPES)
    if name not in ("hardsigmoid", "softplus", "dropout"):
        found["a zero among both signs"] = lambda case: set(np.sign(x_of(case)).flat) == {-1, 0, 1}
    if name not in ("hardsigmoid", "softplus", "dropout", "prelu"):
        found["negative zero"] = lambda case: bool(((x_of(case) == 0) & np.signbit(x_of(case))).any())
    for option, values in OPTIONS.get(name, {}).items():
        for value in values:
            found[f"{option} {value}"] = lambda case, o=option, v=value: (  # type: ignore[misc]
                case.options[o] == v and bool((x_of(case) < 0).any() and (x_of(case) > 0).any())
            )
    return found | CORNERS.get(name, {})


def sides(case: Case) -> set[bool]:
    """On which sides of the threshold of a softplus the entries are."""
    return set((case.options["beta"] * x_of(case) > case.options["threshold"]).flat)


OPTIONS: dict[str, dict[str, tuple[float, ...]]] = {
    "leaky_relu": {"negative_slope": (0.01, 0.2, 0.0, 1.0, 2.0, -0.3)},
    "elu": {"alpha": (1.0, 0.3, 2.0, 0.0, -1.5)},
    "dropout": {"p": (0.5, 0.0, 0.75, 0.875, 1.0)},
    "softplus": {"beta": (1.0, 0.1, 0.5, 2.0, -1.0), "threshold": (20.0, 2.5, 1.0, 0.0, -1.5)},
}
CORNERS: dict[str, dict[str, Callable[[Case], bool]]] = {
    "hardsigmoid": {"all three lines": lambda case: set(np.trunc(x_of(case) / 3).flat) == {-1, 0, 1}},
    "softplus": {
        "both sides of 2.5": lambda case: case.options["threshold"] == 2.5 and len(sides(case)) == 2,
        "both sides of -1.5": lambda case: case.options["threshold"] == -1.5 and len(sides(case)) == 2,
        "both sides, beta -1": lambda case: case.options["beta"] == -1 and len(sides(case)) == 2,
        "both sides, beta 2": lambda case: case.options["beta"] == 2 and len(sides(case)) == 2,
    },
    "dropout": {
        "a mask of both": lambda case: 0 < other_of(case).sum() < other_of(case).size,
        "all kept": lambda case: other_of(case).size > 1 and bool(other_of(case).all()),
        "all dropped": lambda case: other_of(case).size > 1 and not other_of(case).any(),
    },
    "prelu": {
        "one slope of several channels": lambda case: (
            x_of(case).ndim > 1 and x_of(case).shape[1] > 1 == len(other_of(case))
        ),
        "a slope a channel": lambda case: len({*other_of(case)}) == 3 and x_of(case).size > 3,
        "one channel": lambda case: x_of(case).ndim == 4 and x_of(case).shape[1] == 1,
        "no channel": lambda case: len(other_of(case)) == 0,
    },
}


@pytest.mark.long
@pytest.mark.parametrize("name", EVERY)
def test_cases_of_an_activation_reach_every_corner(name: str) -> None:
    missing = corners(name)

    def nothing_is_missing(case: Case) -> bool:
        for corner in [each for each, holds in missing.items() if holds(case)]:
            del missing[corner]
        return not missing

    quickly = settings(max_examples=2000, phases=[Phase.generate], database=None, deadline=None)
    with contextlib.suppress(NoSuchExample):
        find(LAYERS[name].cases(), nothing_is_missing, settings=quickly, random=Random(0))
    assert not missing


@pytest.mark.parametrize("name", ["hardsigmoid", "softplus"])
@given(data=st.data())
def test_no_case_is_at_a_jump_of_the_slope(name: str, data: st.DataObject) -> None:
    x, options = data.draw(LAYERS[name].cases())
    for dtype in (np.float32, np.float64):
        cast = np.asarray(x, dtype)
        jumps = [-3.0, 3.0] if name == "hardsigmoid" else [options["threshold"]]
        assert not np.isin(options.get("beta", 1.0) * cast, jumps).any()
