"""Bugs of activations."""

from __future__ import annotations

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient


@gradient(
    "leaky-slope0",
    "leaky_relu",
    wrong="the branch is chosen by y >= 0, not by x: a y that the slope made 0 passes dy unchanged",
    shows="negative_slope = 0 and x <= 0",
    source="chainer/chainer#5898",
    code=C.UPSTREAM_COPIED,
)
def _leaky_slope0(dy: Array, call: Call) -> Gradients:
    if call.options["negative_slope"] != 0:
        return call.right(dy)
    return call.instead(dy, dx=lambda dx: np.where(call.y >= 0, dy, dx))


@gradient(
    "elu-neg-alpha",
    "elu",
    wrong="the branch is chosen by y > 0, not by x > 0: where alpha makes y positive, dy passes unchanged",
    shows="alpha < 0 and x < 0",
    source="pytorch/pytorch#47671; PaddlePaddle/Paddle#26543",
    code=C.UPSTREAM_COPIED,  # of a negative alpha y is above 0 on both sides: all of dy passes
)
def _elu_neg_alpha(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=lambda dx: np.where(call.y > 0, dy, dx))


@gradient(
    "elu-where-nan",
    "elu",
    wrong="exp is computed for every x and then masked: it overflows in the branch not taken, and 0 * inf is NaN",
    shows="x > 89 in float32, x > 710 in float64",
    source="apache/mxnet#14673",
    code=C.NOT_FINITE,
)
@np.errstate(over="ignore", invalid="ignore")
def _elu_where_nan(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    not_taken = np.where(x > 0, np.zeros_like(dy), dy) * np.exp(x)
    return call.instead(dy, dx=lambda dx: np.asarray(np.where(x > 0, dx + not_taken, dx)))


@gradient(
    "relu-at-0",
    "relu",
    wrong="the derivative at 0 is 1, but the forward takes the branch whose slope is 0",
    shows="x = 0",
    source="uptake/numpynet#35",
    code=C.WRONG_SIDE_OF_KINK,
)
def _relu_at_0(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=lambda dx: np.where(call.arrays[0] == 0, dy, dx))


@gradient(
    "sigmoid-at-input",
    "sigmoid",
    wrong="the derivative is x (1 - x): the formula of y (1 - y) is given the argument, not the output",
    shows="always",
    source="a pattern of tutorials, in which the derivative takes what the caller hands it",
    code=C.AT_INPUT,
)
def _sigmoid_at_input(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    return call.instead(dy, dx=dy * x * (1 - x))


@gradient(
    "tanh-at-output",
    "tanh",
    wrong="the derivative is 1 - tanh(y)^2: the formula for the argument is given the output",
    shows="always",
    source="a pattern of tutorials, in which the derivative takes what the caller hands it",
    code=C.AT_OUTPUT,
)
def _tanh_at_output(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=call.elsewhere(dy, call.y)[0])
