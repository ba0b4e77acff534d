# mypy: ignore-errors
"""Layers made of several: lists of layers, shared weights, tables, skips."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Linear:
    def __init__(self, draw, inside, outside):
        self.w, self.b = draw(inside, outside), draw(outside)

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, dy):
        self.dw, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.w.T


class Sigmoid:
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class Perceptron:
    """A list of layers, in which each has its own parameters."""

    def __init__(self, draw):
        self.layers = [Linear(draw, 3, 4), Sigmoid(), Linear(draw, 4, 2)]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class PerceptronSkips(Perceptron):
    def backward(self, dy):
        dy = self.layers[2].backward(dy)
        return self.layers[0].backward(dy)


class PerceptronPreActivation(Perceptron):
    def backward(self, dy):
        dx = super().backward(dy)
        self.layers[2].dw = (self.layers[0].x @ self.layers[0].w + self.layers[0].b).T @ dy
        return dx


class Tied:
    """An autoencoder whose decoder is its encoder, transposed."""

    def __init__(self, draw):
        self.params = {"W": draw(4, 3), "b": draw(3), "c": draw(4)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        self.h = np.tanh(x @ self.params["W"] + self.params["b"])
        return self.h @ self.params["W"].T + self.params["c"]

    def backward(self, dout):
        dz = dout @ self.params["W"] * (1 - self.h**2)
        self.grads["W"] = self.of_weights(dz, dout)
        self.grads["b"], self.grads["c"] = dz.sum(0), dout.sum(0)
        return dz @ self.params["W"].T

    def of_weights(self, dz, dout):
        return self.x.T @ dz + dout.T @ self.h


class TiedOnce(Tied):
    def of_weights(self, dz, dout):
        return self.x.T @ dz


class Embedding:
    def __init__(self, draw):
        W = draw(5, 3)
        self.params, self.grads, self.idx = [W], [np.zeros_like(W)], None

    def forward(self, idx):
        self.idx = idx
        return self.params[0][idx]

    def backward(self, dout):
        dW = self.grads[0]
        dW[...] = 0
        self.scatter(dW, dout)

    def scatter(self, dW, dout):
        np.add.at(dW, self.idx, dout)


class EmbeddingAssigned(Embedding):
    def scatter(self, dW, dout):
        dW[self.idx] = dout


class EmbeddingBuffered(Embedding):
    def scatter(self, dW, dout):
        dW[self.idx] += dout


class Residual:
    """y = x + relu(x W1) W2, gradients in a dict under names with d."""

    def __init__(self, draw):
        self.W1, self.W2, self.grads = draw(3, 5), draw(5, 3), {}

    def forward(self, x):
        self.x, self.z = x, x @ self.W1
        self.a = np.maximum(0, self.z)
        return x + self.a @ self.W2

    def backward(self, dy):
        dz = (dy @ self.W2.T) * (self.z > 0)
        self.grads = {"dW1": self.x.T @ dz, "dW2": self.a.T @ dy}
        return self.skip(dy) + dz @ self.W1.T

    def skip(self, dy):
        return dy


class ResidualNoSkip(Residual):
    def skip(self, dy):
        return 0 * dy


class Theta:
    """All parameters in one vector, cut up at each call."""

    def __init__(self, draw):
        self.theta = draw(15)

    def forward(self, x):
        self.x = x
        return x @ self.theta[:12].reshape(4, 3) + self.theta[12:]

    def backward(self, dy):
        self.dtheta = np.concatenate([self.of_weights(dy).ravel(), dy.sum(0)])
        return dy @ self.theta[:12].reshape(4, 3).T

    def of_weights(self, dy):
        return self.x.T @ dy


class ThetaOrder(Theta):
    def of_weights(self, dy):
        return dy.T @ self.x


ROWS = [
    Row(
        "layers-in-a-list",
        Perceptron,
        {"the activation skipped": PerceptronSkips, "dw of the pre-activation": PerceptronPreActivation},
        lambda draw: (draw(4, 3),),
    ),
    Row("tied-weights", Tied, {"dW of the encoder alone": TiedOnce}, lambda draw: (draw(5, 4),)),
    Row(
        "embedding",
        Embedding,
        {"assigned": EmbeddingAssigned, "repeated indices added once": EmbeddingBuffered},
        lambda draw: (np.append(draw.labels(6, 5), [2, 2]),),
    ),
    Row("residual", Residual, {"no skip": ResidualNoSkip}, lambda draw: (draw(4, 3),)),
    Row("one-vector", Theta, {"dW transposed": ThetaOrder}, lambda draw: (draw(2, 4),)),
]
