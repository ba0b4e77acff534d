# mypy: ignore-errors
"""Layers that ask for more than dy, or keep more than a cache."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Squeeze:
    """Squeeze and excitation: each channel times a gate of the means of all."""

    def __init__(self, draw):
        self.fc1, self.fc2 = {"w": draw.positive(4, 2)}, {"w": draw(2, 4)}
        self.fc1["dw"] = self.fc2["dw"] = None

    def forward(self, x):
        self.x, self.mean = x, x.mean(axis=(2, 3))
        self.hidden = np.maximum(self.mean @ self.fc1["w"], 0)
        self.gate = 1 / (1 + np.exp(-self.hidden @ self.fc2["w"]))
        return x * self.gate[:, :, None, None]

    def backward(self, dy):
        dgate = (dy * self.x).sum(axis=(2, 3)) * self.gate * (1 - self.gate)
        dhidden = (dgate @ self.fc2["w"].T) * (self.hidden > 0)
        self.fc2["dw"], self.fc1["dw"] = self.hidden.T @ dgate, self.mean.T @ dhidden
        dmean = dhidden @ self.fc1["w"].T
        return dy * self.gate[:, :, None, None] + self.spread(dmean)[:, :, None, None]

    def spread(self, dmean):
        return dmean / (self.x.shape[2] * self.x.shape[3])


class SqueezeWidth(Squeeze):
    def spread(self, dmean):
        return dmean / self.x.shape[3]


class SqueezeGateOnly(Squeeze):
    def spread(self, dmean):
        return 0 * dmean


class Choosing:
    """backward requires an argument that nobody can guess: which of two forwards it belongs to."""

    def __init__(self, draw):
        self.W = draw(3, 2)

    def forward(self, x, doubled=False):
        self.x = x
        return 2 * x @ self.W if doubled else x @ self.W

    def backward(self, dy, doubled):
        factor = self.factor(doubled)
        self.dW = factor * self.x.T @ dy
        return factor * dy @ self.W.T

    def factor(self, doubled):
        return 2 if doubled else 1


class ChoosingOpposite(Choosing):
    def factor(self, doubled):
        return 1 if doubled else 2


class Momentum:
    """Updates by momentum, which is no gradient; its gradient stays in `grad_W`."""

    def __init__(self, draw):
        self.W, self.velocity, self.lr, self.mu = draw(3, 2), 0 * draw(3, 2), 0.1, 0.9

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        dx = dy @ self.W.T
        self.grad_W = self.of_weights(dy)
        self.velocity = self.mu * self.velocity - self.lr * self.grad_W
        self.W = self.W + self.velocity
        return dx

    def of_weights(self, dy):
        return self.x.T @ dy


class MomentumInGradient(Momentum):
    """Keeps the decayed sum, and calls it the gradient."""

    def of_weights(self, dy):
        return self.x.T @ dy + 0.01 * self.W


ROWS = [
    Row(
        "squeeze-and-excite",
        Squeeze,
        {"divided by the width": SqueezeWidth, "the gate alone": SqueezeGateOnly},
        lambda draw: (draw.positive(2, 4, 2, 3),),
    ),
    Row(
        "required-argument",
        Choosing,
        {"the other factor": ChoosingOpposite},
        lambda draw: (draw(4, 3),),
        call={"backward_options": {"doubled": False}},
    ),
    Row("momentum", Momentum, {"decayed": MomentumInGradient}, lambda draw: (draw(4, 3),)),
]
