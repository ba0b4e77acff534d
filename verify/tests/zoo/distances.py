# mypy: ignore-errors
"""Losses as pairs, as other methods, and of given probabilities."""

from __future__ import annotations

import numpy as np

from zoo._row import Row, pair


class CrossEntropyWithEpsilon:
    """-sum t log(p + epsilon), with gradients in dinputs."""

    def __init__(self, draw):
        self.epsilon = 1e-2

    def forward(self, p, t):
        self.p, self.t = p, t
        return -np.sum(t * np.log(p + self.epsilon), axis=1)

    def backward(self, dvalues):
        self.dinputs = -self.t / (self.p + self.epsilon) * dvalues[:, None]
        return self.dinputs


class CrossEntropyNoEpsilon(CrossEntropyWithEpsilon):
    def backward(self, dvalues):
        self.dinputs = -self.t / self.p * dvalues[:, None]
        return self.dinputs


class LossAndGradient:
    """loss() and gradient(), and targets first."""

    def __init__(self, draw):
        pass

    def loss(self, y, y_pred):
        return 0.5 * np.power((y - y_pred), 2)

    def gradient(self, y, y_pred):
        return -(y - y_pred)


class LossAndGradientOfBoth(LossAndGradient):
    def gradient(self, y, y_pred):
        return y - y_pred


def svm(x, y):
    """Return the loss and dx at once."""
    n = len(x)
    margins = np.maximum(0, x - x[np.arange(n), y][:, None] + 1.0)
    margins[np.arange(n), y] = 0
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[np.arange(n), y] -= np.sum(margins > 0, axis=1)
    return margins.sum() / n, dx / n


def svm_correct_class_left_out(x, y):
    loss, dx = svm(x, y)
    dx[np.arange(len(x)), y] = 0
    return loss, dx


def scaled_by_upstream(dloss, dx):
    return dloss * dx


def huber(x, t, delta=1.0):
    r = x - t
    inside = np.abs(r) <= delta
    return np.where(inside, 0.5 * r * r, delta * (np.abs(r) - 0.5 * delta)).mean(), (r, inside, delta)


def huber_back(dloss, cache):
    r, inside, delta = cache
    dx = dloss * np.where(inside, r, delta * np.sign(r)) / r.size
    return dx, -dx


def huber_back_without_sign(dloss, cache):
    r, inside, delta = cache
    dx = dloss * np.where(inside, r, delta) / r.size
    return dx, -dx


def huber_back_one_sign(dloss, cache):
    dx, _ = huber_back(dloss, cache)
    return dx, dx


ROWS = [
    Row(
        "cross-entropy-epsilon",
        CrossEntropyWithEpsilon,
        {"epsilon left out": CrossEntropyNoEpsilon},
        lambda draw: (draw.positive(3, 4), draw.one_hot(3, 4)),
        remedy={"wrt": ["p"]},
    ),
    Row(
        "loss-and-gradient",
        LossAndGradient,
        {"the sign": LossAndGradientOfBoth},
        lambda draw: (draw(4, 2), draw(4, 2)),
        call={"forward": "loss", "backward": "gradient"},
        remedy={"wrt": ["y_pred"]},
    ),
    Row(
        "svm-loss",
        pair(svm, scaled_by_upstream),
        {"the correct class": pair(svm_correct_class_left_out, scaled_by_upstream)},
        lambda draw: (draw(4, 3), draw.labels(4, 3)),
    ),
    Row(
        "huber",
        pair(huber, huber_back),
        {"no sign": pair(huber, huber_back_without_sign), "dt as dx": pair(huber, huber_back_one_sign)},
        lambda draw: (draw(4, 2) + np.array([-6, 6], draw.dtype), draw(4, 2)),
    ),
]
