# mypy: ignore-errors
"""Layers with their parameters and gradients in dicts, lists, entries, slots and layers inside."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Derived:
    """parameters, gradients and derived variables in dicts; the inputs of all forwards in a list."""

    def __init__(self, draw):
        self.X = []
        self.trainable = True
        self.parameters = {"W": draw(4, 3), "b": draw(1, 3)}
        self.gradients = {"W": 0 * draw(4, 3), "b": 0 * draw(1, 3)}
        self.derived_variables = {"Z": []}

    def forward(self, X, retain_derived=True):
        Z = X @ self.parameters["W"] + self.parameters["b"]
        if retain_derived:
            self.X.append(X)
            self.derived_variables["Z"].append(Z)
        return np.tanh(Z)

    def backward(self, dLdY, retain_grads=True):
        if not isinstance(dLdY, list):
            dLdY = [dLdY]
        dX = []
        for dy, x, z in zip(dLdY, self.X, self.derived_variables["Z"], strict=True):
            dz = self.slope(dy, z)
            dX.append(dz @ self.parameters["W"].T)
            if retain_grads:
                self.gradients["W"] += x.T @ dz
                self.gradients["b"] += dz.sum(axis=0, keepdims=True)
        return dX[0] if len(self.X) == 1 else dX

    def slope(self, dy, z):
        return dy * (1 - np.tanh(z) ** 2)

    def flush_gradients(self):
        self.X = []
        for name in self.derived_variables:
            self.derived_variables[name] = []
        for name in self.gradients:
            self.gradients[name] = np.zeros_like(self.gradients[name])


class DerivedOfZ(Derived):
    def slope(self, dy, z):
        return dy * (1 - z**2)


class Affine:
    """params and grads as lists; the gradients are written into the arrays that an optimiser knows."""

    def __init__(self, draw):
        W, b = draw(4, 3), draw(3)
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.x = None

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x.reshape(x.shape[0], -1), W) + b

    def backward(self, dout):
        W, _ = self.params
        flat = self.x.reshape(self.x.shape[0], -1)
        self.grads[0][...] = np.dot(flat.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return np.dot(dout, W.T).reshape(self.x.shape)


class AffineFortranOrder(Affine):
    def backward(self, dout):
        super().backward(dout)
        return np.dot(dout, self.params[0].T).reshape(self.x.shape, order="F")


class AffineAdds(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.grads[1][...] = self.grads[1] + self.params[1]
        return dx


class Entries:
    """W = {"val": ..., "grad": ...}."""

    def __init__(self, draw):
        self.W = {"val": draw(3, 4), "grad": 0}
        self.b = {"val": draw(4), "grad": 0}
        self.cache = None

    def forward(self, X):
        self.cache = X
        return X @ self.W["val"] + self.b["val"]

    def backward(self, dY):
        self.W["grad"] = self.cache.T @ dY
        self.b["grad"] = np.sum(dY, axis=0)
        return dY @ self.W["val"].T


class EntriesSwapped(Entries):
    def backward(self, dY):
        dX = super().backward(dY)
        self.W["grad"] = (self.cache.T @ dY)[::-1]
        return dX


class Tensor:
    __slots__ = ("data", "grad")

    def __init__(self, data):
        self.data, self.grad = data, None


class Slots:
    """Parameters are objects with slots, and so is the layer."""

    __slots__ = ("kernel", "offset", "x")

    def __init__(self, draw):
        self.kernel, self.offset, self.x = Tensor(draw(3, 4)), Tensor(draw(4)), None

    def forward(self, x):
        self.x = x
        return x @ self.kernel.data + self.offset.data

    def backward(self, dy):
        self.kernel.grad = self.x.T @ dy
        self.offset.grad = dy.sum(0)
        return dy @ self.kernel.data.T


class SlotsHalf(Slots):
    __slots__ = ()

    def backward(self, dy):
        dx = super().backward(dy)
        self.kernel.grad = self.kernel.grad / 2
        return dx


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


RESET = {"reset": "flush_gradients"}
ROWS = [
    Row("derived-variables", Derived, {"the slope of z": DerivedOfZ}, lambda draw: (draw(5, 4),), remedy=RESET),
    Row(
        "params-grads-lists",
        Affine,
        {"dx in Fortran order": AffineFortranOrder, "b in its gradient": AffineAdds},
        lambda draw: (draw(3, 2, 2),),
    ),
    Row("val-grad-entries", Entries, {"rows in reverse": EntriesSwapped}, lambda draw: (draw(2, 3),)),
    Row("slots", Slots, {"half of dW": SlotsHalf}, lambda draw: (draw(2, 3),)),
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
