"""Normalizations, softmax, log_softmax, mse_loss and the options of the cross-entropy: values, laws, extremes.

Naive and vectorized agree elsewhere, and gradients agree with differences. Here a forward that is wrong in both shows.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Implementation
from verify import strategies
from verify.layers import LAYERS, Case
from verify.layers._normalization import errors

Array = NDArray[Any]
NAN, INF = math.nan, math.inf
LOG2, LOG3 = math.log(2), math.log(3)
NORMS = ("batch_norm2d", "group_norm", "instance_norm2d", "layer_norm")
DTYPES = (np.float32, np.float64, np.complex128)


def both(*names: str) -> pytest.MarkDecorator:
    """Run a test for all versions of these layers."""
    pairs = [(name, version) for name in names for version in LAYERS[name].implementations]
    return pytest.mark.parametrize(
        ("name", "layer"), [pytest.param(name, version, id=f"{name}-{version.name}") for name, version in pairs]
    )


def near(got: Any, right: Any, roundings: int = 8) -> None:
    """Equal in shape, and in value but for some roundings of the largest entry."""
    got, right = np.asarray(got), np.asarray(right)
    assert got.shape == right.shape
    scale = float(np.abs(right).max(initial=0.0))
    assert np.allclose(got, right, rtol=0, atol=roundings * float(np.finfo(got.dtype).eps) * scale, equal_nan=True)


def normal(*shape: int, seed: int = 0) -> Array:
    """Normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


# Each with statistics of squares, so that every number is exact. With eps = 3 the variance 1 gives r = 1/2 and
# h = (-1/2, 1/2) for the entries 1 and 3; dx = r (dh - mean dh - h mean(dh h)).
ROW = [[1, 3]]
WORKED: dict[str, tuple[str, list[Any], dict[str, Any], Any, Any, list[Any]]] = {
    "batch_norm2d in training": (
        "batch_norm2d",
        [[[[[1]]], [[[3]]]], [2], [5]],
        {"eps": 3},
        [[[[4]]], [[[6]]]],
        [[[[1]]], [[[0]]]],
        [[[[[0.375]]], [[[-0.375]]]], [-0.5], [1]],
    ),
    "batch_norm2d in evaluation": (
        "batch_norm2d",
        [[[[[1]]], [[[3]]]], [2], [5]],
        {"eps": 1, "running_mean": np.array([1.0]), "running_variance": np.array([3.0])},
        [[[[5]]], [[[7]]]],
        [[[[1]]], [[[2]]]],
        [[[[[1]]], [[[2]]]], [2], [3]],
    ),
    "layer_norm": (
        "layer_norm",
        [ROW, [2, 4], [5, 0]],
        {"eps": 3, "normalized_shape": 2},
        [[4, 2]],
        [[1, 1]],
        [[[-0.375, 0.375]], [-0.5, 0.5], [1, 1]],
    ),
    "group_norm of one group": (
        "group_norm",
        [ROW, [2, 4], [5, 0]],
        {"eps": 3, "num_groups": 1},
        [[4, 2]],
        [[1, 1]],
        [[[-0.375, 0.375]], [-0.5, 0.5], [1, 1]],
    ),
    "instance_norm2d": (
        "instance_norm2d",
        [[[[[1, 3]]]], [2], [5]],
        {"eps": 3},
        [[[[4, 6]]]],
        [[[[1, 0]]]],
        [[[[[0.375, -0.375]]]], [-0.5], [1]],
    ),
    "rms_norm": (
        "rms_norm",  # the mean square 1 and eps give r = 1/2 and h = (1, 0, 0, 0); mean(dh h) = 3/4
        [[2, 0, 0, 0], [3, 1, 1, 1]],
        {"eps": 3, "normalized_shape": (4,)},
        [3, 0, 0, 0],
        [1, 2, 0, 0],
        [[1.125, 1, 0, 0], [1, 0, 0, 0]],
    ),
    "mse_loss averaged": ("mse_loss", [[1, 2], [3, 1]], {}, 2.5, 2, [[-4, 2], [4, -2]]),
    "mse_loss summed": ("mse_loss", [[1, 2], [3, 1]], {"reduction": "sum"}, 5, 2, [[-8, 4], [8, -4]]),
    "mse_loss": ("mse_loss", [[1, 2], [3, 1]], {"reduction": "none"}, [4, 1], [1, -2], [[-4, -4], [4, 4]]),
}


@both(*NORMS)
def test_a_large_mean_does_not_eat_the_variance(name: str, layer: Implementation) -> None:
    # The deviations of -1 and 1 are exact. Sums of them and the mean, or of squares, are not: 2^53 + 1 is no float64.
    row = np.array([-1.0, 1.0]) + 2.0**52
    x, options = {
        "batch_norm2d": (row.reshape(2, 1, 1, 1), {}),
        "group_norm": (row.reshape(1, 2), {"num_groups": 1}),
        "instance_norm2d": (row.reshape(1, 1, 1, 2), {}),
        "layer_norm": (row, {"normalized_shape": 2}),
    }[name]
    ones = np.ones(2 if name in ("group_norm", "layer_norm") else 1)
    y, _ = layer.forward(x, ones, 0 * ones, eps=3.0, **options)
    np.testing.assert_array_equal(y.reshape(-1), [-0.5, 0.5])


@pytest.mark.parametrize("case", WORKED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_worked_by_hand(case: str, dtype: type) -> None:
    name, arrays, options, y, dy, gradients = WORKED[case]
    for version in LAYERS[name].implementations:
        got, cache = version.forward(*(np.array(array, dtype) for array in arrays), **options)
        np.testing.assert_array_equal(got, np.array(y, dtype), strict=True)
        for found, right in zip(version.backward(np.array(dy, dtype), cache), gradients, strict=True):
            np.testing.assert_array_equal(found, np.array(right, dtype), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@both("softmax", "log_softmax")
def test_a_softmax_of_zero_and_log_three_is_a_quarter_and_three(name: str, layer: Implementation, dtype: type) -> None:
    # Along the first axis: e^0 : e^log 3 = 1 : 3. With dy = (4, 0), sum dy y = 1 and sum dy = 4.
    y, cache = layer.forward(np.array([[0, 5], [LOG3, 5]], dtype), axis=0)
    p = np.array([[0.25, 0.5], [0.75, 0.5]])
    near(y, p if name == "softmax" else np.log(p))
    dx = np.asarray(layer.backward(np.array([[4, 0], [0, 0]], dtype), cache)[0])
    near(dx, [[0.75, 0], [-0.75, 0]] if name == "softmax" else [[3, 0], [-3, 0]])
    assert y.dtype == dx.dtype == dtype


# Two images with p = (1/4, 3/4), so -log p = (log 4, log 4/3); labels 0 and 1.
L0, L1 = 2 * LOG2, 2 * LOG2 - LOG3
LOSSES: dict[str, tuple[dict[str, Any], list[int], Any, Any]] = {
    "weights": (
        {"reduction": "none", "weight": np.array([2.0, 4.0])},
        [0, 1],
        [2 * L0, 4 * L1],
        [[-1.5, 1.5], [1, -1]],
    ),
    "mean by weights": (
        {"weight": np.array([2.0, 4.0])},
        [0, 1],
        (2 * L0 + 4 * L1) / 6,
        [[-0.25, 0.25], [1 / 6, -1 / 6]],
    ),
    "ignored": ({"reduction": "none", "ignore_index": 1}, [0, 1], [L0, 0], [[-0.75, 0.75], [0, 0]]),
    "ignored by default": ({"reduction": "sum"}, [-100, 1], L1, [[0, 0], [0.25, -0.25]]),
    "mean of the others": ({"ignore_index": -1}, [-1, 1], L1, [[0, 0], [0.25, -0.25]]),
    # q = (3/4, 1/4) for the label 0, and (1/4, 3/4) = p for the label 1, where the gradient vanishes.
    "smoothed": (
        {"reduction": "none", "label_smoothing": 0.5},
        [0, 1],
        [0.75 * L0 + 0.25 * L1, 0.25 * L0 + 0.75 * L1],
        [[-0.5, 0.5], [0, 0]],
    ),
    # q = (2 * 3/4, 4 * 1/4) and (2 * 1/4, 4 * 3/4). The gradient is p (sum q) - q. The mean divides by 2 + 4.
    "smoothed, weighted mean": (
        {"label_smoothing": 0.5, "weight": np.array([2.0, 4.0])},
        [0, 1],
        (1.5 * L0 + L1 + 0.5 * L0 + 3 * L1) / 6,
        [[-0.875 / 6, 0.875 / 6], [0.375 / 6, -0.375 / 6]],
    ),
}


@both("softmax_cross_entropy")
@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_worked_by_hand(name: str, layer: Implementation, case: str, dtype: type) -> None:
    options, labels, y, dx = LOSSES[case]
    logits: Array = np.array([[0, LOG3], [0, LOG3]], dtype)
    got, cache = layer.forward(logits, np.array(labels), **options)
    near(got, y)
    dy: Array = np.ones(got.shape, dtype)
    gradient = np.asarray(layer.backward(dy, cache)[0])
    assert got.dtype == gradient.dtype == dtype
    # The smoothed gradient is a difference of numbers of up to 4, whatever is left of them.
    assert np.abs(gradient - np.array(dx)).max() <= 16 * np.finfo(dtype).eps


@both("softmax_cross_entropy")
@given(data=st.data())
def test_positions_of_an_image_lose_as_rows_do(name: str, layer: Implementation, data: st.DataObject) -> None:
    x = data.draw(strategies.reals((2, 3, 2, 2)))
    labels = np.array([[[0, 1], [2, -1]], [[1, -1], [0, 2]]])
    options = {
        "ignore_index": -1,
        "weight": np.array([0.5, 1, 2]),
        "label_smoothing": data.draw(st.sampled_from([0, 0.3])),
    }
    for reduction in ("none", "sum", "mean"):
        rows, flat = np.moveaxis(x, 1, -1).reshape(8, 3), labels.reshape(8)
        y, cache = layer.forward(x, labels, reduction=reduction, **options)
        of_rows, cache_of_rows = layer.forward(rows, flat, reduction=reduction, **options)
        near(y.reshape(of_rows.shape), of_rows)
        dy = normal(*y.shape)
        (dx,), (right,) = (
            layer.backward(np.asarray(dy), cache),
            layer.backward(dy.reshape(of_rows.shape), cache_of_rows),
        )
        assert dx is not None
        near(np.moveaxis(dx, 1, -1).reshape(8, 3), right)


@both("softmax_cross_entropy")
def test_the_mean_of_ignored_losses_is_nan_and_their_gradient_zero(name: str, layer: Implementation) -> None:
    x, labels = normal(2, 3), np.array([-100, -100])
    for smoothing in (0, 0.5):
        y, cache = layer.forward(x, labels, label_smoothing=smoothing)
        assert np.isnan(y)
        np.testing.assert_array_equal(layer.backward(np.array(1.0), cache)[0], np.zeros((2, 3)))
        y, cache = layer.forward(x, labels, label_smoothing=smoothing, reduction="sum")
        assert y == 0
        np.testing.assert_array_equal(layer.backward(np.array(1.0), cache)[0], np.zeros((2, 3)))


@both("softmax_cross_entropy")
def test_what_is_ignored_may_be_anything(name: str, layer: Implementation) -> None:
    x = np.array([[0, LOG3], [NAN, INF], [-INF, -INF]])
    y, cache = layer.forward(x, np.array([0, -100, -100]), label_smoothing=0.5)
    near(y, 0.75 * L0 + 0.25 * L1)
    near(layer.backward(np.array(1.0), cache)[0], [[-0.5, 0.5], [0, 0], [0, 0]])


def normalized(
    name: str, layer: Implementation, x: Array, eps: float, **arrays: Any
) -> tuple[Array, Any, tuple[int, ...]]:
    """Return y, the cache and the axes of the statistics: x (N, C, H, W), group_norm with one channel a group."""
    options: dict[str, Any] = {
        "layer_norm": {"normalized_shape": x.shape[1:]},
        "group_norm": {"num_groups": x.shape[1]},
    }
    axes = {"batch_norm2d": (0, 2, 3), "layer_norm": (1, 2, 3)}.get(name, (2, 3))
    return *layer.forward(x, **options.get(name, {}), **arrays, eps=eps), axes


@both(*NORMS)
def test_normalized_entries_have_mean_zero_and_variance_one(name: str, layer: Implementation) -> None:
    x = 3 + 2 * normal(2, 3, 4, 5)
    y, _, axes = normalized(name, layer, x, 0)
    assert np.abs(y.mean(axis=axes)).max() <= 1e-14  # 60 entries of 1 to 10, deviations of 2: some 100 u
    near(np.square(y).mean(axis=axes), np.ones_like(y.mean(axis=axes)), 60)
    variance = x.var(axis=axes, keepdims=True)
    damped, _, _ = normalized(name, layer, x, 0.5)
    near(damped, y * np.sqrt(variance / (variance + 0.5)), 60)


@both(*NORMS)
def test_a_shift_and_a_scale_of_x_change_nothing(name: str, layer: Implementation) -> None:
    # Both are exact on integers, as the scale is a power of two. Means of 4 to 24 entries round alike.
    x = np.random.default_rng(0).integers(-8, 8, (2, 3, 2, 4)).astype(float)
    y, cache, _ = normalized(name, layer, x, 0)
    other, other_cache, _ = normalized(name, layer, 4 * x + 64, 0)
    near(other, y, 256)
    dy = normal(*x.shape)
    near(layer.backward(dy, cache)[0], 4 * np.asarray(layer.backward(dy, other_cache)[0]), 1024)


@both(*NORMS)
def test_the_gradient_is_orthogonal_to_one_and_to_the_normalized_entries(name: str, layer: Implementation) -> None:
    y, cache, axes = normalized(name, layer, normal(2, 3, 4, 5), 0)
    dx = layer.backward(normal(2, 3, 4, 5, seed=1), cache)[0]
    assert dx is not None
    assert np.abs(dx.sum(axis=axes)).max() <= 1e-13  # 60 terms of order 1, a few roundings each
    assert np.abs((dx * y).sum(axis=axes)).max() <= 1e-13


@both("rms_norm")
def test_the_root_mean_square_is_one_and_the_sign_stays(name: str, layer: Implementation) -> None:
    x = normal(3, 4, 5)
    y, _ = layer.forward(x, normalized_shape=(4, 5), eps=0)
    near(np.square(y).mean(axis=(1, 2)), np.ones(3), 30)
    np.testing.assert_array_equal(np.sign(y), np.sign(x))
    near(layer.forward(8 * x, normalized_shape=(4, 5), eps=0)[0], y)


def test_normalizations_coincide_where_their_groups_do() -> None:
    x, w, b = normal(2, 6, 3, 4), normal(6), normal(6)
    for version in ("naive", "vectorized"):
        layers = {name: getattr(LAYERS[name].module, version).forward for name in NORMS}
        by_channel = layers["group_norm"](x, w, b, num_groups=6)[0]
        near(layers["instance_norm2d"](x, w, b)[0], by_channel, 50)
        near(layers["batch_norm2d"](x[:1], w, b)[0], by_channel[:1], 50)
        whole = layers["layer_norm"](x, normalized_shape=(6, 3, 4))[0]
        near(layers["group_norm"](x, num_groups=1)[0], whole, 100)
        # Three groups of two channels, which are neighbours.
        pairs = layers["layer_norm"](x.reshape(2, 3, 2, 3, 4), normalized_shape=(2, 3, 4))[0]
        near(layers["group_norm"](x, num_groups=3)[0], pairs.reshape(x.shape), 50)


@both("batch_norm2d")
def test_the_cache_has_the_statistics_and_evaluation_takes_them(name: str, layer: Implementation) -> None:
    x, w, b = 3 + normal(4, 3, 2, 5), normal(3), normal(3)
    y, cache = layer.forward(x, w, b)
    near(cache.mean, x.mean(axis=(0, 2, 3)), 40)
    near(cache.variance, x.var(axis=(0, 2, 3)), 40)
    mean, variance = cache.mean, cache.variance
    again, evaluated = layer.forward(x, w, b, running_mean=mean, running_variance=variance)
    near(again, y)
    dy = normal(*x.shape, seed=1)
    dx, dw, db = layer.backward(dy, evaluated)
    near(dx, dy * (w / np.sqrt(variance + 1e-5))[:, None, None])
    for one, two in zip((dw, db), layer.backward(dy, cache)[1:], strict=True):
        near(one, two, 40)
    near(layer.forward(x[:2], w, b, running_mean=mean, running_variance=variance)[0], y[:2])
    assert np.array_equal(mean, cache.mean)
    assert np.array_equal(variance, cache.variance)
    assert not np.shares_memory(evaluated.mean, mean)


@both("batch_norm2d")
def test_running_statistics_take_the_dtype_of_x(name: str, layer: Implementation) -> None:
    x, given_statistics = (
        np.ones((1, 2, 1, 1), np.float32),
        {"running_mean": np.zeros(2), "running_variance": np.ones(2)},
    )
    y, cache = layer.forward(x, **given_statistics, eps=0)
    assert y.dtype == cache.mean.dtype == cache.variance.dtype == np.float32
    assert (y == 1).all()


@both("softmax", "log_softmax")
def test_probabilities_sum_to_one_and_gradients_to_zero(name: str, layer: Implementation) -> None:
    x = normal(3, 4, 5)
    for axis in (-3, -1, 0, 1, 2):
        y, cache = layer.forward(x, axis=axis)
        p = y if name == "softmax" else np.exp(y)
        near(p.sum(axis=axis), np.ones(p.sum(axis=axis).shape), 40)
        near(p / p.max(axis=axis, keepdims=True), np.exp(x - x.max(axis=axis, keepdims=True)), 40)
        dx = layer.backward(normal(3, 4, 5, seed=1), cache)[0]
        assert np.abs(np.asarray(dx).sum(axis=axis)).max() <= 1e-14  # 5 terms of order 1, a few roundings each
        shifted, _ = layer.forward(x + 2.0**40 - 2.0**40, axis=axis)
        near(layer.forward((x + 2.0**40 - 2.0**40) + 2.0**20, axis=axis)[0], shifted, 40)
    assert np.array_equal(layer.forward(x)[0], layer.forward(x, axis=2)[0])


@both("softmax", "log_softmax")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_and_masked_entries_make_no_nan(name: str, layer: Implementation, dtype: type) -> None:
    huge = 1e308 if dtype == np.float64 else 1e38
    x: Array = np.array([[huge, -huge, 0], [1e4, 1e4, -1e4], [-INF, 3, 3], [-INF, 5, -INF]], dtype)
    p = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 1, 0]])
    y, cache = layer.forward(x)
    if name == "softmax":
        near(y, p)
    else:
        near(y[p > 0], np.log(p[p > 0]))
        right = [-INF if dtype == np.float64 else -2e38, -huge, -2e4 - LOG2, -INF, -INF, -INF]
        np.testing.assert_allclose(y[p == 0], np.array(right, dtype), rtol=4 * float(np.finfo(dtype).eps))
    dy: Array = np.array([1, 3, -2], dtype)
    (dx,) = layer.backward(np.broadcast_to(dy, x.shape).astype(dtype), cache)
    right_dx = p * (dy - (p * dy).sum(1, keepdims=True)) if name == "softmax" else dy - p * dy.sum()
    near(dx, right_dx)


@both("softmax", "log_softmax")
def test_a_row_of_infinities_or_with_nan_is_nan_alone(name: str, layer: Implementation) -> None:
    x = np.array([[-INF, -INF], [INF, 0], [NAN, 0], [0, NAN], [0, 0]])
    y, cache = layer.forward(x)
    (dx,) = layer.backward(np.ones_like(x), cache)
    assert np.isnan(y[:4]).all()
    assert np.isnan(np.asarray(dx)[:4]).all()
    assert np.isfinite(y[4]).all()
    assert not np.asarray(dx)[4].any()


@both("softmax", "log_softmax")
def test_a_softmax_underflows_where_its_logarithm_does_not(name: str, layer: Implementation) -> None:
    y, _ = layer.forward(np.array([0.0, -800.0]))
    assert y[1] == (0 if name == "softmax" else -800)


@both(*NORMS, "rms_norm", "softmax", "log_softmax")
def test_nothing_and_one_entry(name: str, layer: Implementation) -> None:
    known: dict[str, dict[str, Any]] = {
        "group_norm": {"num_groups": 1},
        "layer_norm": {"normalized_shape": (1, 1, 1)},
    }
    options = known.get(name, {})
    options = {"normalized_shape": (1, 1, 1), "eps": 0} if name == "rms_norm" else options
    y, cache = layer.forward(np.full((1, 1, 1, 1), -3.0), **options)
    dx = layer.backward(np.full((1, 1, 1, 1), 7.0), cache)[0]
    assert y.item() == {"rms_norm": -1, "softmax": 1}.get(name, 0)
    assert np.asarray(dx).item() == 0
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4)):
        if "normalized_shape" in options:
            options = {**options, "normalized_shape": shape[1:]}
        y, cache = layer.forward(np.zeros(shape), **options)
        assert (y.shape, np.asarray(layer.backward(y, cache)[0]).shape) == (shape, shape)


@both("batch_norm2d")
def test_no_image_has_no_statistics_and_gradients_of_zero(name: str, layer: Implementation) -> None:
    _, cache = layer.forward(np.zeros((0, 2, 3, 3)), np.ones(2), np.ones(2))
    assert np.isnan([cache.mean, cache.variance]).all()
    for gradient in layer.backward(np.zeros((0, 2, 3, 3)), cache)[1:]:
        np.testing.assert_array_equal(gradient, np.zeros(2))


@both("mse_loss")
def test_the_mean_of_nothing_is_nan_and_infinities_propagate(name: str, layer: Implementation) -> None:
    nothing = np.zeros((2, 0))
    assert np.isnan(layer.forward(nothing, nothing)[0])
    assert layer.forward(nothing, nothing, reduction="sum")[0] == 0
    x, target = np.array([INF, INF, NAN, 1e200]), np.array([0, INF, 1, -1e200])
    y, cache = layer.forward(x, target, reduction="none")
    np.testing.assert_array_equal(y, [INF, NAN, NAN, INF])
    np.testing.assert_array_equal(layer.backward(np.ones(4), cache)[0], [INF, NAN, NAN, 4e200])


def exactly(x: Array, dy: Array, eps: float) -> tuple[Array, Array]:
    """h and dx of one row in extended precision: dx = J dy, with J = r (I - 1/n - h h' / n)."""
    wide, n = x.astype(np.longdouble), len(x)
    z = wide - wide.sum() / n
    r = 1 / np.sqrt((z * z).sum() / n + np.longdouble(eps))
    h = z * r
    jacobian = r * (np.eye(n) - 1 / np.longdouble(n) - np.outer(h, h) / n)
    return h, (jacobian @ dy.astype(np.longdouble)[:, None])[:, 0]


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is no wider than double here")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 10, 1e4, 1e8])
@pytest.mark.parametrize("size", [2, 7, 300])
def test_errors_stay_within_the_tolerance_whatever_the_conditioning(dtype: type, offset: float, size: int) -> None:
    # The tolerance is that of two versions. One version errs by at most half of it. It must not be idle either:
    # where digits are lost to the offset, what is lost is at least a thousandth of it for a few entries.
    lost = 0.0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        x: Array = (offset + generator.normal(size=size)).astype(dtype)
        if x.min() == x.max():
            continue  # of noise on 1e8 nothing is left in float32
        dy: Array = generator.normal(size=size).astype(dtype)
        h, dx = exactly(x, dy, 1e-5)
        allowed = errors(x, 1, 0, dy, 1e-5, (0,), summed=1)
        for version in LAYERS["layer_norm"].implementations:
            y, cache = version.forward(x, normalized_shape=size)
            found = version.backward(dy, cache)[0]
            assert (np.abs(y - h) <= allowed.y / 2).all()
            assert (np.abs(np.asarray(found) - dx) <= allowed.dx / 2).all()
            lost = max(lost, float((np.abs(y - h) / allowed.y).max()))
    if size < 300 and np.finfo(dtype).eps * offset < 1e-2:
        assert lost > 1e-3


@both(*NORMS)
def test_a_large_offset_costs_its_digits_and_no_more(name: str, layer: Implementation) -> None:
    # 1e8 and noise of 1: the mean of up to 64 entries rounds by some 64 u 1e8 = 7e-7.
    noise = np.round(normal(4, 2, 4, 4) * 2**20) / 2**20  # exact beside 2^27
    y, cache, _ = normalized(name, layer, noise, 1e-5)
    far, far_cache, _ = normalized(name, layer, noise + 2.0**27, 1e-5)
    assert np.abs(far - y).max() <= 64 * 2.0**-53 * 2.0**27 * 4
    dy = normal(*y.shape, seed=1)
    dx, far_dx = (np.asarray(layer.backward(dy, each)[0]) for each in (cache, far_cache))
    assert np.abs(far_dx - dx).max() <= 64 * 2.0**-53 * 2.0**27 * 64


CHANGES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = {
    "eps of batch_norm2d": ("batch_norm2d", (normal(2, 3, 2, 2),), {}, {"eps": 0.5}),
    "statistics of batch_norm2d": (
        "batch_norm2d",
        (normal(2, 3, 2, 2),),
        {"running_mean": np.zeros(3), "running_variance": np.ones(3)},
        {"running_mean": np.ones(3)},
    ),
    "variance of batch_norm2d": (
        "batch_norm2d",
        (normal(2, 3, 2, 2),),
        {"running_mean": np.zeros(3), "running_variance": np.ones(3)},
        {"running_variance": np.full(3, 2.0)},
    ),
    "eps of layer_norm": ("layer_norm", (normal(2, 3, 4),), {"normalized_shape": 4}, {"eps": 0.5}),
    "axes of layer_norm": ("layer_norm", (normal(2, 3, 4),), {"normalized_shape": 4}, {"normalized_shape": (3, 4)}),
    "eps of rms_norm": ("rms_norm", (normal(2, 3, 4),), {"normalized_shape": 4}, {"eps": 0.5}),
    "axes of rms_norm": ("rms_norm", (normal(2, 3, 4),), {"normalized_shape": 4}, {"normalized_shape": (3, 4)}),
    "eps of group_norm": ("group_norm", (normal(2, 4, 3),), {"num_groups": 2}, {"eps": 0.5}),
    "groups of group_norm": ("group_norm", (normal(2, 4, 3),), {"num_groups": 2}, {"num_groups": 4}),
    "eps of instance_norm2d": ("instance_norm2d", (normal(2, 3, 2, 2),), {}, {"eps": 0.5}),
    "axis of softmax": ("softmax", (normal(3, 3),), {}, {"axis": 0}),
    "axis of log_softmax": ("log_softmax", (normal(3, 3),), {}, {"axis": -2}),
    "reduction of mse_loss": ("mse_loss", (normal(3), normal(3, seed=1)), {}, {"reduction": "sum"}),
    "weight": ("softmax_cross_entropy", (normal(3, 3), np.arange(3)), {}, {"weight": np.array([1, 2, 4.0])}),
    "ignore_index": ("softmax_cross_entropy", (normal(3, 3), np.arange(3)), {}, {"ignore_index": 1}),
    "label_smoothing": ("softmax_cross_entropy", (normal(3, 3), np.arange(3)), {}, {"label_smoothing": 0.1}),
    "reduction": ("softmax_cross_entropy", (normal(3, 3), np.arange(3)), {}, {"reduction": "sum"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_option_changes_y_and_dx(case: str) -> None:
    name, arrays, options, changed = CHANGES[case]
    for version in LAYERS[name].implementations:
        results = []
        for each in (options, {**options, **changed}):
            y, cache = version.forward(*arrays, **each)
            results.append((y, version.backward(np.asarray(normal(*y.shape, seed=2)), cache)[0]))
        (y, dx), (other_y, other_dx) = results
        assert not np.allclose(y, other_y)
        assert case == "statistics of batch_norm2d" or not np.allclose(np.asarray(dx), np.asarray(other_dx))


@both("rms_norm")
def test_the_default_eps_is_the_machine_epsilon(name: str, layer: Implementation) -> None:
    for dtype in (np.float32, np.float64, np.complex64, np.complex128):
        y, cache = layer.forward(np.zeros(2, dtype), normalized_shape=2)
        (dx, _) = layer.backward(np.ones(2, dtype), cache)
        near(dx, np.full(2, np.finfo(dtype).eps ** -0.5))
        assert not y.any()


@both(*NORMS, "rms_norm", "softmax", "log_softmax", "mse_loss")
def test_complex_numbers_are_not_conjugated(name: str, layer: Implementation) -> None:
    # A holomorphic function has the same slope along i: f(x + i t v) = f(x) + i t f'(x) v + O(t^2).
    x, step = normal(2, 4, 2, 2).astype(complex), 1e-30 * normal(2, 4, 2, 2, seed=1)
    shape = {"normalized_shape": (4, 2, 2)}
    known: dict[str, dict[str, Any]] = {
        "group_norm": {"num_groups": 2},
        "mse_loss": {"reduction": "none"},
        "layer_norm": shape,
        "rms_norm": shape,
    }
    options = known.get(name, {})
    others = (normal(2, 4, 2, 2, seed=2) + 0j,) if name == "mse_loss" else ()
    turned = (1 + 0.5j) * x
    y, cache = layer.forward(turned, *others, **options)
    dx = np.asarray(layer.backward(np.ones_like(y) * normal(*y.shape, seed=3), cache)[0])
    h = 2.0**-20
    moved: list[Any] = [layer.forward(turned + s * h * 1e30 * step, *others, **options)[0] for s in (1, -1, 1j, -1j)]
    for ahead, behind, unit in zip(moved[::2], moved[1::2], (1, 1j), strict=True):
        slope = ((ahead - behind) / (2 * h * unit) * normal(*y.shape, seed=3)).sum()
        assert abs(slope - (dx * 1e30 * step).sum()) <= 1e-8 * (1 + abs(slope))  # h^2 and u / h are 1e-12 and 1e-10


def reaches(name: str, corner: Callable[[Case], bool]) -> bool:
    """Whether one of a few thousand cases of a layer is such a corner."""
    quickly = settings(max_examples=3000, phases=[Phase.generate], database=None, deadline=None)
    return corner(find(LAYERS[name].cases(), corner, settings=quickly))


def of(case: Case, k: int = 0) -> Array:
    """An array that is given."""
    array = case.arrays[k]
    assert array is not None
    return array


def _constant(case: Case) -> bool:
    return of(case).size > 1 and np.ptp(of(case)) == 0


AFFINE: dict[str, Callable[[Case], bool]] = {
    "w and b": lambda case: case.arrays[1] is not None is not case.arrays[2],
    "w alone": lambda case: case.arrays[1] is not None and case.arrays[2] is None,
    "b alone": lambda case: case.arrays[1] is None and case.arrays[2] is not None,
    "neither": lambda case: case.arrays[1] is None and case.arrays[2] is None,
    "no image": lambda case: of(case).shape[0] == 0,
    "a variance of zero": _constant,
    "a large eps": lambda case: case.options["eps"] == 0.5,
    "the default eps": lambda case: case.options["eps"] == 1e-5 and of(case).size > 1,
}
IMAGES: dict[str, Callable[[Case], bool]] = {
    "one entry": lambda case: of(case).size == 1,
    "one channel of several images": lambda case: of(case).shape[0] > 1 == of(case).shape[1] and of(case)[0].size > 1,
    "planes that are not square": lambda case: 1 < of(case).shape[-2] != of(case).shape[-1] > 1,
}
ROWS: dict[str, Callable[[Case], bool]] = {
    "no entry": lambda case: of(case).size == 0 and of(case).shape[case.options["axis"]] > 0,
    "an empty axis": lambda case: of(case).size == 0 and of(case).shape[case.options["axis"]] == 0,
    "one class": lambda case: of(case).size > 1 and of(case).shape[case.options["axis"]] == 1,
    "the middle axis": lambda case: of(case).ndim == 3 and case.options["axis"] in (1, -2) and of(case).size > 8,
    "from behind": lambda case: case.options["axis"] < 0,
}
LAST: dict[str, Callable[[Case], bool]] = {
    "no leading axis": lambda case: case.options["normalized_shape"] == of(case).shape,
    "an integer": lambda case: isinstance(case.options["normalized_shape"], int),
    "two of four axes": lambda case: np.size(case.options["normalized_shape"]) == 2 and of(case).ndim == 4,
    "one entry": lambda case: np.prod(case.options["normalized_shape"]) == 1 and of(case).size > 1,
}
CORNERS: dict[str, dict[str, Callable[[Case], bool]]] = {
    "batch_norm2d": {
        **AFFINE,
        **IMAGES,
        "evaluation": lambda case: "running_mean" in case.options and of(case).size > 1,
        "training": lambda case: "running_mean" not in case.options and of(case).size > 1,
        "a running variance of zero": lambda case: 0 in case.options.get("running_variance", [1]),
    },
    "instance_norm2d": {**AFFINE, **IMAGES},
    "group_norm": {
        **AFFINE,
        "one group of several channels": lambda case: case.options["num_groups"] == 1 < of(case).shape[1],
        "each channel a group": lambda case: 1 < case.options["num_groups"] == of(case).shape[1],
        "several groups of several channels": lambda case: 1 < case.options["num_groups"] < of(case).shape[1],
        "two axes": lambda case: of(case).ndim == 2,
        "five axes": lambda case: of(case).ndim == 5,
        "groups of one entry": lambda case: 0 < of(case).size == of(case).shape[0] * case.options["num_groups"],
    },
    "layer_norm": {**{name: AFFINE[name] for name in AFFINE if name != "no image"}, **LAST},
    "rms_norm": {
        **LAST,
        "w": lambda case: case.arrays[1] is not None,
        "no w": lambda case: case.arrays[1] is None,
        "the default eps": lambda case: case.options["eps"] is None,
        "zeros alone": lambda case: of(case).size > 1 and not of(case).any(),
    },
    "softmax": ROWS,
    "log_softmax": ROWS,
    "mse_loss": {
        "a scalar": lambda case: of(case).shape == (),
        "nothing": lambda case: of(case).size == 0,
        "nothing averaged": lambda case: of(case).size == 0 and case.options["reduction"] == "mean",
        "several summed": lambda case: of(case).size > 1 and case.options["reduction"] == "sum",
        "several kept apart": lambda case: of(case).ndim > 1 < of(case).size and case.options["reduction"] == "none",
        "equal ones": lambda case: of(case).size > 0 and np.array_equal(of(case), of(case, 1)),
    },
    "softmax_cross_entropy": {
        "weights": lambda case: "weight" in case.options and of(case).size > 3,
        "a weight of zero": lambda case: 0 in case.options.get("weight", [1]),
        "smoothing": lambda case: 0 < case.options.get("label_smoothing", 0) < 1,
        "smoothing alone": lambda case: case.options.get("label_smoothing", 0) == 1,
        "all at once": lambda case: (
            {"weight", "label_smoothing", "ignore_index"} <= set(case.options)
            and len(set(of(case, 1).flat)) > 2
            and case.options["ignore_index"] in of(case, 1)
            and of(case).ndim == 4
        ),
        "an ignored class": lambda case: case.options.get("ignore_index", -1) >= 0 and of(case).shape[1] > 2,
        "all ignored": lambda case: of(case, 1).size > 1 and (of(case, 1) == case.options.get("ignore_index")).all(),
        "two further axes": lambda case: of(case).ndim == 4 and of(case).size > 8,
        "a segmented mean": lambda case: (
            of(case).ndim > 2 and case.options["reduction"] == "mean" and of(case).size > 8
        ),
    },
}


@pytest.mark.long
@pytest.mark.parametrize(("name", "corner"), [(name, corner) for name in CORNERS for corner in CORNERS[name]])
def test_cases_reach(name: str, corner: str) -> None:
    assert reaches(name, CORNERS[name][corner])


def of_torch(name: str, arrays: tuple[Any, ...], options: dict[str, Any], dy: float) -> tuple[Array, Array]:
    """PyTorch's y, and its dx for a constant dy."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    missing = [None] * (len(LAYERS[name].names) - len(arrays))
    declared = LAYERS[name].torch
    assert declared is not None
    y = declared(torch, *leaves, *missing, **options)
    y.backward(torch.full_like(y, dy))
    return y.detach().numpy(), leaves[0].grad.numpy()


EXTREME = {
    "a NaN": np.array([[NAN, 1, 2, 3], [0, 1, 2, 3]]),
    "an infinity": np.array([[INF, 1, 2, 3], [0, 1, 2, -INF]]),
    "both infinities": np.array([[INF, 1, -INF, 3], [0, 1, 2, 3]]),
    "masks": np.array([[-INF, 1, -INF, 3], [-INF, -INF, -INF, -INF]]),
    "zeros": np.zeros((2, 4)),
    "subnormals": np.array([[0, 5e-324, 1e-310, 0], [1e-320, 0, 0, 2e-320]]),
    "1e4": np.array([[1e4, 0, -1e4, 1e4], [1e4, 1e4 - 1, 0, -1]]),
    "1e308": np.array([[1e308, 1e308, -1e308, 0], [-1e308, -1e308, 0, 1]]),
}
OF_PYTORCH: dict[str, dict[str, Any]] = {
    "softmax": {"axis": 1},
    "log_softmax": {"axis": 1},
    "softmax_cross_entropy": {"reduction": "none"},
    "layer_norm": {"normalized_shape": 4, "eps": 1e-5},
    "rms_norm": {"normalized_shape": 4, "eps": 1e-5},
    "group_norm": {"num_groups": 2, "eps": 1e-5},
    "batch_norm2d": {"eps": 1e-5},
    "instance_norm2d": {"eps": 1e-5},
}


# Squares of 1e308 overflow: test_squares_that_overflow_are_not_hidden.
PAIRS = [(name, extreme) for name in OF_PYTORCH for extreme in EXTREME if extreme != "1e308" or "norm" not in name]


@pytest.mark.parametrize("version", ["naive", "vectorized"])
@pytest.mark.parametrize(("name", "extreme"), PAIRS)
def test_extreme_values_give_what_pytorch_gives(name: str, extreme: str, version: str) -> None:
    layer, x = getattr(LAYERS[name].module, version), EXTREME[extreme]
    if name.endswith("2d"):
        x = x[:, None, None]
    arrays = (x, np.array([1, 2])) if name == "softmax_cross_entropy" else (x,)
    right_y, right_dx = of_torch(name, arrays, OF_PYTORCH[name], 2.0)
    y, cache = layer.forward(*arrays, **OF_PYTORCH[name])
    dx = np.asarray(layer.backward(np.full(y.shape, 2.0), cache)[0])
    np.testing.assert_allclose(y, right_y, rtol=1e-12, atol=1e-300)
    # Of a constant dy the gradients of a norm and a softmax are 0 but for roundings of 2 r and 2 p.
    np.testing.assert_allclose(dx, right_dx, rtol=1e-12, atol=1e-12 * (316 if "norm" in name else 1))


@both(*NORMS, "rms_norm")
def test_squares_that_overflow_are_not_hidden(name: str, layer: Implementation) -> None:
    # The squares of 1e200 are infinite, and r is 0: as in PyTorch nothing is rescaled. So y is 0 or NaN, never finite
    # and wrong. The other rows are as ever.
    x = np.array([[1e200, -1e200, 0, 1e199], [1, 2, 3, 4]])[:, None, :, None]
    options: dict[str, Any] = {"group_norm": {"num_groups": 1}, "batch_norm2d": {}, "instance_norm2d": {}}.get(
        name, {"normalized_shape": (1, 4, 1)}
    )
    y, cache = layer.forward(x, **options)
    assert (np.isnan(y[0]) | (y[0] == 0)).all()
    if name == "batch_norm2d":
        assert np.isinf(cache.variance).all()
    else:
        np.testing.assert_array_equal(y[1], layer.forward(x[1:], **options)[0][0])


@pytest.mark.parametrize("name", ["layer_norm", "batch_norm2d", "softmax", "softmax_cross_entropy"])
def test_a_million_entries_in_float32_stay_near_float64(name: str) -> None:
    layer = LAYERS[name].fast
    size = 1_000_000
    x = (10 + normal(size)).astype(np.float32)
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "layer_norm": ((x,), {"normalized_shape": size}),
        "batch_norm2d": ((x.reshape(1000, 1, 25, 40),), {}),
        "softmax": ((x,), {}),
        "softmax_cross_entropy": ((x.reshape(-1, 2), np.zeros(size // 2, np.int64)), {}),
    }
    arrays, options = calls[name]
    y, _ = layer.forward(*arrays, **options)
    wide, _ = layer.forward(arrays[0].astype(np.float64), *arrays[1:], **options)
    # The worst case of a sum in a row, gamma_n = 0.06, would show; pairwise and blocked sums lose some 100 u.
    assert np.abs(y - wide).max() <= 1000 * 2.0**-24 * np.abs(wide).max()


@pytest.mark.parametrize(
    ("shape", "labels", "options", "message"),
    [
        ((2, 3), [0], {}, "labels must have shape (2,), one for each row of x (2, 3), got (1,)"),
        ((2, 3, 4), [0], {}, "labels must have shape (2, 4), one for each position of x (2, 3, 4), got (1,)"),
        ((2, 3), [3, 4], {}, "labels must lie in [0, 3), got 3 at position 0"),
        (
            (1, 3),
            [0],
            {"ignore_index": -(2**63) - 1},
            f"ignore_index must be at least {-(2**63)}, got {-(2**63) - 1}",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(shape: Any, labels: Any, options: Any, message: str) -> None:
    for version in LAYERS["softmax_cross_entropy"].implementations:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            version.forward(np.zeros(shape), np.array(labels), **options)


def test_the_least_integer_may_be_ignored() -> None:
    least = np.iinfo(np.int64).min
    for version in LAYERS["softmax_cross_entropy"].implementations:
        y, _ = version.forward(np.zeros((1, 3)), np.array([least]), ignore_index=int(least), reduction="sum")
        assert y == 0


def test_options_may_be_the_largest_number_and_no_more() -> None:
    for version in LAYERS["leaky_relu"].implementations:
        for slope in (sys.float_info.max, -sys.float_info.max):
            y, _ = version.forward(np.array([-1.0]), negative_slope=slope)
            assert y.tolist() == [-slope]
        with pytest.raises(ValueError, match=r"^negative_slope must be finite, got inf$"):
            version.forward(np.array([-1.0]), negative_slope=math.inf)


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        (np.zeros(2, complex), "running_mean must be a real floating array, got dtype complex128"),
        (np.zeros(2, ">f8"), "running_mean has dtype >f8, of another byte order: cast it to float64"),
    ],
)
def test_statistics_that_are_no_numbers_are_refused(mean: Any, message: str) -> None:
    arrays = np.zeros((1, 2, 1, 1)), np.ones(2), np.zeros(2)
    options = {"running_mean": mean, "running_variance": np.ones(2)}
    for version in LAYERS["batch_norm2d"].implementations:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            version.forward(*arrays, **options)


def test_statistics_may_be_in_float32() -> None:
    single = [np.ones(shape, np.float32) for shape in ((1, 2, 1, 1), 2, 2)]
    options = {"running_mean": np.zeros(2, np.float32), "running_variance": np.ones(2, np.float32), "eps": 0.0}
    for version in LAYERS["batch_norm2d"].implementations:
        y, _ = version.forward(*single, **options)
        assert y.dtype == np.float32
        assert y.tolist() == [[[[2.0]], [[2.0]]]]
