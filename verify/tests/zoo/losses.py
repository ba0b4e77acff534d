# mypy: ignore-errors
"""Losses: one-hot targets and labels, backward without dy, results as Python's floats."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class SoftmaxWithLoss:
    """Targets as one-hot rows or as labels; dout has the default 1."""

    def __init__(self, draw):
        self.loss = self.y = self.t = None

    def forward(self, x, t):
        self.t, self.y = t, softmax(x)
        n = len(x)
        if t.size == x.size:
            return -np.sum(t * np.log(self.y)) / n
        return -np.sum(np.log(self.y[np.arange(n), t])) / n

    def backward(self, dout=1):
        n = len(self.t)
        dx = self.y.copy()
        if self.t.size == dx.size:
            dx = dx - self.t
        else:
            dx[np.arange(n), self.t] -= 1
        return self.reduced(dout * dx, n)

    def reduced(self, dx, n):
        return dx / n


class SoftmaxWithLossSummed(SoftmaxWithLoss):
    def reduced(self, dx, n):
        return dx


class SoftmaxWithLossOfAllRows(SoftmaxWithLoss):
    """Subtracts 1 in whole columns: dx[:, t] where dx[range(n), t] is meant."""

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[:, self.t] -= 1
        return dout * dx / len(dx)


class SoftmaxWithLossIgnoresUpstream(SoftmaxWithLoss):
    def backward(self, dout=1):
        return super().backward(1)


class MeanSquares:
    """backward() without dy."""

    def __init__(self, draw):
        pass

    def forward(self, y_pred, y_true):
        self.y_pred, self.y_true = y_pred, y_true
        return np.mean((y_pred - y_true) ** 2)

    def backward(self):
        return 2 * (self.y_pred - self.y_true) / self.y_pred.size


class MeanSquaresOfRows(MeanSquares):
    def backward(self):
        return 2 * (self.y_pred - self.y_true) / len(self.y_pred)


class MeanSquaresSign(MeanSquares):
    def backward(self):
        return 2 * (self.y_true - self.y_pred) / self.y_pred.size


class LogSoftmax:
    def __init__(self, draw):
        self.eps = 1e-3

    def forward(self, x):
        self.p = softmax(x)
        return np.log(self.p + self.eps)

    def backward(self, dy):
        d = self.scaled(dy)
        return self.p * (d - np.sum(d * self.p, axis=1, keepdims=True))

    def scaled(self, dy):
        return dy / (self.p + self.eps)


class LogSoftmaxNoEpsilon(LogSoftmax):
    def scaled(self, dy):
        return dy / self.p


class LogSoftmaxOfAll(LogSoftmax):
    def backward(self, dy):
        return dy - np.sum(dy) * self.p


class LogLoss:
    """One logit, targets 0 and 1; both are arguments of backward."""

    def __init__(self, draw):
        pass

    def forward(self, logits, targets):
        return np.mean(np.maximum(logits, 0) - logits * targets + np.log(1 + np.exp(-np.abs(logits))))

    def backward(self, logits, targets):
        return (1 / (1 + np.exp(-logits)) - targets) / logits.size


class LogLossNoMean(LogLoss):
    def backward(self, logits, targets):
        return 1 / (1 + np.exp(-logits)) - targets


ROWS = [
    Row(
        "softmax-loss-one-hot",
        SoftmaxWithLoss,
        {"not divided": SoftmaxWithLossSummed, "no upstream": SoftmaxWithLossIgnoresUpstream},
        lambda draw: (draw(3, 4), draw.one_hot(3, 4)),
        remedy={"wrt": ["x"]},
    ),
    Row(
        "softmax-loss-labels",
        SoftmaxWithLoss,
        {"not divided": SoftmaxWithLossSummed, "1 less in whole columns": SoftmaxWithLossOfAllRows},
        lambda draw: (draw(3, 4), draw.generator.permutation(4)[:3]),
    ),
    Row(
        "mean-squares",
        MeanSquares,
        {"the mean of rows": MeanSquaresOfRows, "the sign": MeanSquaresSign},
        lambda draw: (draw(3, 2), draw(3, 2)),
        remedy={"wrt": ["y_pred"]},
    ),
    Row(
        "log-softmax-epsilon",
        LogSoftmax,
        {"epsilon left out": LogSoftmaxNoEpsilon, "summed over all": LogSoftmaxOfAll},
        lambda draw: (draw(3, 4),),
    ),
    Row(
        "log-loss-of-inputs",
        LogLoss,
        {"not divided": LogLossNoMean},
        lambda draw: (draw(6), draw.labels(6, 2)),
        single=False,
    ),
]
