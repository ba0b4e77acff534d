# mypy: ignore-errors
"""Layers that keep their caches in lists and dicts, and models made of several layers."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Stack:
    """Each forward pushes what its backward pops."""

    def __init__(self, draw):
        self.W, self.dW, self._saved = draw(3, 2), None, []

    def forward(self, x):
        self._saved.append(x)
        return x @ self.W

    def backward(self, dy):
        x = self._saved.pop()
        self.dW = self.of_weights(x, dy)
        return dy @ self.W.T

    def of_weights(self, x, dy):
        return x.T @ dy


class StackHalf(Stack):
    def of_weights(self, x, dy):
        return x.T @ dy / 2


class Network:
    """Weights "W1", "b1", ... in one dict, a cache in another, gradients under "dW1"."""

    def __init__(self, draw):
        self.parameters = {"W1": draw(4, 3), "b1": draw(4, 1), "W2": draw(2, 4), "b2": draw(2, 1)}
        self.cache, self.grads = {}, {}

    def forward(self, X):
        p = self.parameters
        Z1 = p["W1"] @ X + p["b1"]
        A1 = np.tanh(Z1)
        A2 = 1 / (1 + np.exp(-(p["W2"] @ A1 + p["b2"])))
        self.cache = {"X": X, "Z1": Z1, "A1": A1, "A2": A2}
        return A2

    def backward(self, dA2):
        c, p, m = self.cache, self.parameters, dA2.shape[1]
        dZ2 = dA2 * c["A2"] * (1 - c["A2"])
        dZ1 = (p["W2"].T @ dZ2) * self.slope(c)
        self.grads = {"dW2": dZ2 @ c["A1"].T, "db2": dZ2.sum(axis=1, keepdims=True)}
        self.grads |= {"dW1": dZ1 @ c["X"].T, "db1": dZ1.sum(axis=1, keepdims=True)}
        return self.of_input(p["W1"].T @ dZ1, m)

    def slope(self, c):
        return 1 - c["A1"] ** 2

    def of_input(self, dX, m):
        return dX


class NetworkOfZ(Network):
    def slope(self, c):
        return 1 - np.tanh(c["A1"]) ** 2


class NetworkMean(Network):
    def of_input(self, dX, m):
        return dX / m


class Model:
    """Has no gradient of its input: only those of its weights, which it returns in a dict."""

    def __init__(self, draw):
        self.params = {"W1": draw(3, 4), "W2": draw(4, 2)}

    def forward(self, x):
        self.x, self.h = x, np.maximum(x @ self.params["W1"], 0)
        return self.h @ self.params["W2"]

    def backward(self, dout):
        dh = dout @ self.params["W2"].T
        return {"W1": self.x.T @ (dh * self.mask()), "W2": self.h.T @ dout}

    def mask(self):
        return self.h > 0


class ModelUnmasked(Model):
    def mask(self):
        return self.h >= 0


class Standing:
    """Position vectors that are added: a table of which only the first rows are read."""

    def __init__(self, draw):
        self.table, self.table_grad = draw(6, 3), None

    def forward(self, x):
        self.length = x.shape[1]
        return x + self.table[: self.length]

    def backward(self, dy):
        self.table_grad = np.zeros_like(self.table)
        self.table_grad[: self.length] = self.over_batch(dy)
        return dy.copy()

    def over_batch(self, dy):
        return dy.sum(axis=0)


class StandingOne(Standing):
    def over_batch(self, dy):
        return dy[0]


class Weighted:
    """Normalises its weights at each call: y = x W / |W|."""

    def __init__(self, draw):
        self.v, self.g = draw(3, 4), draw.positive(4)

    def forward(self, x):
        self.x, self.norm = x, np.sqrt((self.v**2).sum(axis=0))
        self.w = self.g * self.v / self.norm
        return x @ self.w

    def backward(self, dy):
        dw = self.x.T @ dy
        self.dg = (dw * self.v).sum(axis=0) / self.norm
        self.dv = self.g / self.norm * (dw - self.along(dw))
        return dy @ self.w.T

    def along(self, dw):
        return self.v * (dw * self.v).sum(axis=0) / self.norm**2


class WeightedNormConstant(Weighted):
    def along(self, dw):
        return 0 * dw


ROWS = [
    Row("stack-of-caches", Stack, {"half of dW": StackHalf}, lambda draw: (draw(4, 3),)),
    Row(
        "numbered-names",
        Network,
        {"tanh of tanh": NetworkOfZ, "divided by the batch": NetworkMean},
        lambda draw: (draw(3, 5),),
    ),
    Row(
        "model-without-dx",
        Model,
        {"the mask left out": ModelUnmasked},
        lambda draw: (2 * draw(5, 3),),
        remedy={"wrt": ["W1", "W2"]},
    ),
    Row("positions", Standing, {"one of the batch": StandingOne}, lambda draw: (draw(2, 4, 3),)),
    Row("weight-norm", Weighted, {"the norm a constant": WeightedNormConstant}, lambda draw: (draw(2, 3),)),
]
