# mypy: ignore-errors
"""Layers that keep something between calls: statistics, hidden states, masks, sums, weights that backward updates."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Lazy:
    """Makes its parameters at the first forward, when it knows their shape."""

    def __init__(self, draw):
        self.draw, self.units, self.weights, self.biases = draw, 3, None, None

    def build(self, width):
        self.weights, self.biases = self.draw(width, self.units), self.draw(1, self.units)

    def forward(self, inputs):
        if self.weights is None:
            self.build(inputs.shape[1])
        self.inputs = inputs
        return np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = self.summed(dvalues)
        self.dinputs = np.dot(dvalues, self.weights.T)
        return self.dinputs

    def summed(self, dvalues):
        return np.sum(dvalues, axis=0, keepdims=True)


class LazyOfInputs(Lazy):
    def summed(self, dvalues):
        return np.sum(dvalues[:-1], axis=0, keepdims=True)


class BatchNorm:
    """Running statistics, a flag for training, gamma and beta."""

    def __init__(self, draw, training=True):
        self.gamma, self.beta, self.momentum, self.eps, self.training = draw(3), draw(3), 0.9, 1e-5, training
        self.running_mean, self.running_var = draw(3), draw.positive(3)

    def forward(self, x):
        if self.training:
            mean, var = x.mean(axis=0), x.var(axis=0)
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            mean, var = self.running_mean, self.running_var
        self.std = np.sqrt(var + self.eps)
        self.xn = (x - mean) / self.std
        return self.gamma * self.xn + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = np.sum(dy * self.xn, axis=0), np.sum(dy, axis=0)
        dxn = dy * self.gamma
        if not self.training:
            return dxn / self.std
        return self.through_statistics(dxn, len(dy))

    def through_statistics(self, dxn, n):
        return (n * dxn - dxn.sum(axis=0) - self.xn * (dxn * self.xn).sum(axis=0)) / (n * self.std)


class BatchNormNoVariance(BatchNorm):
    def through_statistics(self, dxn, n):
        return (n * dxn - dxn.sum(axis=0)) / (n * self.std)


class BatchNormBessel(BatchNorm):
    def through_statistics(self, dxn, n):
        return (dxn - dxn.mean(axis=0) - self.xn * (dxn * self.xn).sum(axis=0) / (n - 1)) / self.std


class Evaluating(BatchNorm):
    def __init__(self, draw):
        super().__init__(draw, training=False)


class EvaluatingAsTraining(Evaluating):
    def backward(self, dy):
        self.training = True
        dx = super().backward(dy)
        self.training = False
        return dx


class Dropout:
    """The mask is stored, already divided by what is kept; the generator belongs to the layer."""

    def __init__(self, draw):
        self.p, self.rng, self.mask = 0.4, np.random.RandomState(0), None

    def forward(self, x):
        self.mask = (self.rng.rand(*x.shape) >= self.p).astype(x.dtype) / x.dtype.type(1 - self.p)
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class DropoutUnmasked(Dropout):
    def backward(self, dout):
        return dout / (1 - self.p)


class DropoutOverP(Dropout):
    def backward(self, dout):
        return dout * (self.mask > 0) / self.p


class DropoutNewMask(Dropout):
    def backward(self, dout):
        return dout * (self.rng.rand(*dout.shape) >= self.p) / (1 - self.p)


class Recurrent:
    """h' = tanh(x Wx + h Wh + b), where the layer remembers h."""

    def __init__(self, draw):
        self.Wx, self.Wh, self.b, self.h = draw(3, 4), draw(4, 4), draw(4), draw(2, 4)

    def forward(self, x):
        self.x, self.h_prev = x, self.h
        self.h = np.tanh(x @ self.Wx + self.h_prev @ self.Wh + self.b)
        return self.h

    def backward(self, dh):
        dt = dh * (1 - self.h**2)
        self.dWx, self.dWh, self.db = self.x.T @ dt, self.before().T @ dt, dt.sum(axis=0)
        return dt @ self.Wx.T

    def before(self):
        return self.h_prev


class RecurrentAfter(Recurrent):
    def before(self):
        return self.h


class Sequence:
    """An RNN over time, (N, T, D), that can keep its state; gradients in a list."""

    def __init__(self, draw):
        Wx, Wh, b = draw(3, 2), draw(2, 2), draw(2)
        self.params, self.grads = [Wx, Wh, b], [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]
        self.h, self.stateful = None, False

    def forward(self, xs):
        Wx, Wh, b = self.params
        N, T, _ = xs.shape
        hs = np.zeros((N, T + 1, Wh.shape[0]), xs.dtype)
        if self.stateful and self.h is not None:
            hs[:, -1] = self.h
        for t in range(T):
            hs[:, t] = np.tanh(xs[:, t] @ Wx + hs[:, t - 1] @ Wh + b)
        self.xs, self.hs, self.h = xs, hs, hs[:, T - 1]
        return hs[:, :T]

    def backward(self, dhs):
        Wx, Wh, _ = self.params
        dxs, dh, sums = np.zeros_like(self.xs), 0, [0, 0, 0]
        for t in reversed(range(dhs.shape[1])):
            dt = (dhs[:, t] + dh) * (1 - self.hs[:, t] ** 2)
            for k, each in enumerate((self.xs[:, t].T @ dt, self.hs[:, t - 1].T @ dt, dt.sum(axis=0))):
                sums[k] = sums[k] + each
            dxs[:, t], dh = dt @ Wx.T, self.back_in_time(dt @ Wh.T)
        for grad, each in zip(self.grads, sums, strict=True):
            grad[...] = each
        return dxs

    def back_in_time(self, dh):
        return dh


class SequenceTruncated(Sequence):
    def back_in_time(self, dh):
        return 0 * dh


class SequenceClipped(Sequence):
    def back_in_time(self, dh):
        return np.clip(dh, -1, 1)


ROWS = [
    Row("made-at-first-forward", Lazy, {"dbiases without the last": LazyOfInputs}, lambda draw: (draw(4, 2),)),
    Row(
        "batch-norm",
        BatchNorm,
        {"no variance term": BatchNormNoVariance, "n - 1 for n": BatchNormBessel},
        lambda draw: (draw(5, 3),),
    ),
    Row(
        "batch-norm-evaluating",
        Evaluating,
        {"batch statistics in backward": EvaluatingAsTraining},
        lambda draw: (draw(5, 3),),
        remedy={"fixed": ("running_mean", "running_var")},
    ),
    Row(
        "dropout",
        Dropout,
        {"no mask": DropoutUnmasked, "over p": DropoutOverP, "another mask": DropoutNewMask},
        lambda draw: (draw(4, 5),),
    ),
    Row("recurrent-state", Recurrent, {"the later state": RecurrentAfter}, lambda draw: (draw(2, 3),)),
    Row(
        "sequence",
        Sequence,
        {"nothing through time": SequenceTruncated, "clipped through time": SequenceClipped},
        lambda draw: (draw(2, 4, 3),),
    ),
]
