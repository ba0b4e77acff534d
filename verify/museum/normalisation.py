"""Bugs of normalisations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, Value, equivalent, forward, gradient, state

_OF_CHANNEL = (0, 2, 3)


def _in_training(call: Call) -> bool:
    return call.options["running_mean"] is None


def _statistics_fixed(dy: Array, call: Call) -> Array:
    """Return dx of a batch norm whose statistics are constants: r dh."""
    dx, _, _ = call.elsewhere(dy, running_mean=call.cache.mean, running_variance=call.cache.variance)
    return np.asarray(dx)


def _mean(array: Array) -> Array:
    """Return the mean of each channel, and 0 if there is no image."""
    return np.asarray(array.sum(axis=_OF_CHANNEL, keepdims=True) / max(1, math.prod(array.shape[::2]) * array.shape[3]))


@gradient(
    "bn-unchecked-dx",
    "batch_norm2d",
    wrong="in dx, dh less its mean is dh less its sum: a division by the number of entries is missing",
    shows="in training; its test had no layer below, so that nothing read dx",
    source="mlpack/mlpack#1923",
)
def _bn_unchecked_dx(dy: Array, call: Call) -> Gradients:
    if not _in_training(call):
        return call.right(dy)
    fixed = _statistics_fixed(dy, call)
    return call.instead(dy, dx=lambda dx: dx + _mean(fixed) - fixed.sum(axis=_OF_CHANNEL, keepdims=True))


@gradient(
    "bn-drop-var",
    "batch_norm2d",
    wrong="dx takes the variance as a constant: the term that goes through it is missing",
    shows="in training",
    source="a pattern of derivations by hand",
    code=C.STATISTICS_CONSTANT,
)
def _bn_drop_var(dy: Array, call: Call) -> Gradients:
    if not _in_training(call):
        return call.right(dy)
    fixed = _statistics_fixed(dy, call)
    return call.instead(dy, dx=fixed - _mean(fixed))


@gradient(
    "bn-eval-stats",
    "batch_norm2d",
    wrong="backward uses the statistics of the batch, although the forward used the running ones",
    shows="in evaluation",
    source="pytorch/xla#913; apache/mxnet#18209; torch/nn#768",
)
def _bn_eval_stats(dy: Array, call: Call) -> Gradients:
    return call.elsewhere(dy, running_mean=None, running_variance=None)


@state(
    "bn-accumulate",
    "batch_norm2d",
    wrong="gradients that should be added up are not: dx is overwritten, dw and db are never assigned; here: a second "
    "backward of one forward leaves dw and db at 0",
    shows="the second backward",
    source="apache/mxnet#18499",
    code=C.CACHE_OVERWRITTEN,
)
def _bn_accumulate(version: Implementation) -> Implementation:
    def forward(*arrays: Any, **options: Any) -> tuple[Array, list[Any]]:
        y, cache = version.forward(*arrays, **options)
        return y, [cache]

    def backward(dy: Array, caches: list[Any]) -> Gradients:
        dx, *others = version.backward(dy, caches[0])
        if len(caches) > 1:
            others = [None if each is None else np.zeros_like(each) for each in others]
        caches[1:] = ["a backward was run"]
        return dx, *others

    return version._replace(forward=forward, backward=backward)


@forward(
    "bn-square",
    "batch_norm2d",
    wrong="x less its mean is divided by the square of variance + eps, not by its root",
    shows="always",
    source="jax-ml/jax#442",
    value=Value((np.array([[[[-2.0, 2.0]]]]),), {"eps": 0.0}, [[[[-1, 1]]]]),
)
def _bn_square(version: Implementation) -> Implementation:
    @np.errstate(divide="ignore", over="ignore", invalid="ignore")
    def forward(x: Array, w: Any = None, b: Any = None, **options: Any) -> tuple[Array, Any]:
        version.forward(x, w, b, **options)  # which refuses what it does not take
        x, ones = np.ascontiguousarray(x), np.ones(x.shape[1], x.dtype)
        running = options.get("running_mean")
        z = x - (_mean(x) if running is None else _per_channel(running.astype(x.dtype)))
        variance = _mean(z * z) if running is None else _per_channel(options["running_variance"].astype(x.dtype))
        divisor, scale = variance + x.dtype.type(options.get("eps", 1e-5)), _per_channel(ones if w is None else w)
        y = scale * (z / divisor**2) + (0 if b is None else _per_channel(b))
        return y, (z, divisor, scale, running is None, w is not None, b is not None)

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")
    def backward(dy: Array, kept: Any) -> Gradients:
        z, divisor, scale, training, has_w, has_b = kept
        dy = np.ascontiguousarray(dy)
        dz = scale * dy / divisor**2
        if training:
            dvariance = -2 * (scale * dy * z).sum(axis=_OF_CHANNEL, keepdims=True) / divisor**3
            dz += 2 * dvariance * z / max(1, z.size // z.shape[1])
            dz -= _mean(dz)
        dw, db = (dy * z / divisor**2).sum(axis=_OF_CHANNEL), dy.sum(axis=_OF_CHANNEL)
        return dz, dw if has_w else None, db if has_b else None

    return version._replace(forward=forward, backward=backward)


def _per_channel(array: Array) -> Array:
    return array[:, None, None]


@gradient(
    "bn-large-N",
    "batch_norm2d",
    wrong="the sums over a channel are wrong beyond 768 images; here: they stop after 768 entries of the channel",
    shows="in training, more than 768 entries a channel, C > 1",
    source="ROCm/MIOpen#1109",
)
def _bn_large_n(dy: Array, call: Call) -> Gradients:
    images, channels, height, width = dy.shape
    if not _in_training(call) or images * height * width <= 768 or channels < 2:
        return call.right(dy)
    place = np.arange(images * height * width).reshape(images, 1, height, width)
    first = np.where(place < 768, dy, np.zeros_like(dy))
    dx, dw, db = call.right(first)
    return dx + _statistics_fixed(dy - first, call), dw, db


@gradient(
    "gn-W-for-HW",
    "group_norm",
    wrong="backward takes the width for the entries of a channel: its dx is too small, and cannot be reshaped",
    shows="x has more than three axes, H > 1",
    source="linkedin/Liger-Kernel#1376",
    code=C.RAISED,
    silent=False,
)
def _gn_w_for_hw(dy: Array, call: Call) -> Gradients:
    if dy.ndim > 3:
        np.zeros((*dy.shape[:2], dy.shape[-1]), dy.dtype).reshape(dy.shape)
    return call.right(dy)


@gradient(
    "gn-groups",
    "group_norm",
    wrong="backward takes all channels for one group",
    shows="num_groups > 1",
    source="state-spaces/mamba#547",
)
def _gn_groups(dy: Array, call: Call) -> Gradients:
    return call.elsewhere(dy, num_groups=1)


@gradient(
    "norm-low-acc",
    "layer_norm",
    wrong="dw is summed in the half precision of the arrays; here: float64 in float32, and float32 in float16",
    shows="many rows",
    source="linkedin/Liger-Kernel#950; pytorch/pytorch#195701",
    code=C.ROUNDED_TO_FLOAT32,
)
def _norm_low_acc(dy: Array, call: Call) -> Gradients:
    x, w, _ = call.arrays
    if w is None or not x.size:
        return call.right(dy)
    low = np.float16 if dy.dtype == np.float32 else np.float32
    h, _ = call.version.forward(x, normalized_shape=call.options["normalized_shape"], eps=call.options["eps"])
    rows = (dy.astype(low) * h.astype(low)).reshape(-1, w.size)
    dw = np.zeros(w.size, low)
    for row in rows:
        dw += row
    return call.instead(dy, dw=dw.reshape(w.shape).astype(dy.dtype))


@equivalent(
    "bn-mean-term",
    "batch_norm2d",
    wrong="the gradient of the mean has a term more, of the variance: it holds the sum of x - mean, which is 0",
    source="apache/mxnet#1053; pjreddie/darknet#1723",
)
@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _bn_mean_term(dy: Array, call: Call) -> Gradients:
    if not _in_training(call):
        return call.right(dy)
    z = np.ascontiguousarray(call.arrays[0]) - _per_channel(call.cache.mean)
    spread = _per_channel(call.cache.variance + dy.dtype.type(call.options["eps"]))
    dvariance = -(_statistics_fixed(dy, call) * z).sum(axis=_OF_CHANNEL, keepdims=True) / spread / 2
    return call.instead(dy, dx=lambda dx: dx + _mean(-2 * z) * (dvariance / max(1, z.size // z.shape[1])))
