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
]
