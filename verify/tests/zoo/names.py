# mypy: ignore-errors
"""Layers whose methods, parameters and gradients have names of their own."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Propagating:
    """fprop and bprop, with grads beside params in nested dicts."""

    def __init__(self, draw):
        self.params = {"fc": {"W": draw(3, 4), "b": draw(4)}}
        self.grads = {"fc": {}}

    def fprop(self, x):
        self.x = x
        return x @ self.params["fc"]["W"] + self.params["fc"]["b"]

    def bprop(self, delta):
        self.grads["fc"]["W"], self.grads["fc"]["b"] = self.x.T @ delta, self.of_bias(delta)
        return delta @ self.params["fc"]["W"].T

    def of_bias(self, delta):
        return delta.sum(axis=0)


class PropagatingMeanBias(Propagating):
    def of_bias(self, delta):
        return delta.mean(axis=0)


class Descent:
    """An optimiser that subtracts."""

    def __init__(self, rate):
        self.learning_rate = rate

    def update(self, w, grad):
        return w - self.learning_rate * grad


class Passing:
    """forward_pass and backward_pass, which lets an optimiser update."""

    def __init__(self, draw):
        self.W, self.w0, self.trainable = draw(3, 2), draw(1, 2), True
        self.W_opt = self.w0_opt = Descent(0.01)

    def forward_pass(self, X, training=True):
        self.layer_input = X
        return X.dot(self.W) + self.w0

    def backward_pass(self, accum_grad):
        W = self.W
        if self.trainable:
            self.W = self.W_opt.update(self.W, self.layer_input.T.dot(accum_grad))
            self.w0 = self.w0_opt.update(self.w0, np.sum(accum_grad, axis=0, keepdims=True))
        return accum_grad.dot(self.used(W).T)

    def used(self, W):
        return W


class PassingUpdated(Passing):
    def used(self, W):
        return self.W


class PassingHalf(Passing):
    def backward_pass(self, accum_grad):
        before, dx = self.W, super().backward_pass(accum_grad)
        self.W = (self.W + before) / 2
        return dx


class Called:
    """__call__ and backprop; the gradient of the slope has no usual name."""

    def __init__(self, draw):
        self.slope = draw(4)

    def __call__(self, x):
        self.last = x
        return np.tanh(self.slope * x)

    def backprop(self, error):
        d = error * (1 - np.tanh(self.slope * self.last) ** 2)
        self.change = self.of_slope(d)
        return d * self.slope

    def of_slope(self, d):
        return (d * self.last).sum(axis=0)


class CalledNoInput(Called):
    def of_slope(self, d):
        return d.sum(axis=0)


class Returning:
    """feed and feedback, which returns (dx, [dW, db])."""

    def __init__(self, draw):
        self.kernel, self.bias = draw(3, 2), draw(2)

    def feed(self, x):
        self.x = x
        self.y = 1 / (1 + np.exp(-(x @ self.kernel + self.bias)))
        return self.y

    def feedback(self, dy):
        d = dy * self.slope()
        return d @ self.kernel.T, [self.x.T @ d, d.sum(axis=0)]

    def slope(self):
        return self.y * (1 - self.y)


class ReturningOfX(Returning):
    def slope(self):
        return self.y * (1 + self.y)


class Named:
    """Returns its gradients in a dict by name."""

    def __init__(self, draw):
        self.W = draw(3, 2)

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        return {"dx": self.of_input(dy), "dW": self.x.T @ dy}

    def of_input(self, dy):
        return dy @ self.W.T


class NamedHalf(Named):
    def of_input(self, dy):
        return dy @ self.W.T / 2


class Half:
    """Computes in float32 whatever it is given."""

    def __init__(self, draw):
        self.w = draw(3, 2).astype(np.float32)

    def forward(self, x):
        self.x = x.astype(np.float32)
        return self.x @ self.w

    def backward(self, dy):
        self.dw = self.x.T @ dy
        return self.scaled(dy @ self.w.T)

    def scaled(self, dx):
        return dx


class HalfOff(Half):
    def scaled(self, dx):
        return dx * np.float32(2)


OWN = {"forward": "forward_pass", "backward": "backward_pass"}
ROWS = [
    Row(
        "fprop-bprop",
        Propagating,
        {"the mean of the bias gradient": PropagatingMeanBias},
        lambda draw: (draw(4, 3),),
        call={"forward": "fprop", "backward": "bprop"},
    ),
    Row(
        "forward-pass",
        Passing,
        {"dx of the new weights": PassingUpdated, "half of dW": PassingHalf},
        lambda draw: (draw(4, 3),),
        call=OWN,
        remedy={"parameters": {"W": "update", "w0": "update"}},
    ),
    Row(
        "called",
        Called,
        {"x left out": CalledNoInput},
        lambda draw: (draw(3, 4),),
        call={"forward": "__call__", "backward": "backprop"},
        remedy={"parameters": {"slope": "change"}},
    ),
    Row(
        "returned-in-a-list",
        Returning,
        {"1 + y": ReturningOfX},
        lambda draw: (draw(4, 3),),
        call={"forward": "feed", "backward": "feedback"},
    ),
    Row("returned-in-a-dict", Named, {"half of dx": NamedHalf}, lambda draw: (draw(4, 3),)),
    Row("float32-inside", Half, {"twice the gradient": HalfOff}, lambda draw: (draw(4, 3),)),
]
