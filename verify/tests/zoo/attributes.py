# mypy: ignore-errors
"""Layers with their parameters, their gradients and their cache as attributes."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Dense:
    def __init__(self, draw):
        self.W, self.b = draw(4, 3), draw(3)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


class DenseMeanBias(Dense):
    def backward(self, dy):
        dx = super().backward(dy)
        self.db = dy.mean(axis=0)
        return dx


class DenseTwiceDivided(Dense):
    def backward(self, dy):
        dx = super().backward(dy)
        self.dW = self.dW / len(dy)
        return dx


class FeaturesFirst:
    """Columns are examples, as in courses: Z = W X + b."""

    def __init__(self, draw):
        self.weights, self.bias = draw(4, 4), draw(4, 1)

    def forward(self, x):
        self.input = x
        return np.dot(self.weights, x) + self.bias

    def backward(self, dz):
        self.weights_gradient = np.dot(dz, self.input.T)
        self.bias_gradient = np.sum(dz, axis=1, keepdims=True)
        return np.dot(self.weights.T, dz)


class FeaturesFirstNoTranspose(FeaturesFirst):
    def backward(self, dz):
        super().backward(dz)
        return np.dot(self.weights, dz)


class FeaturesFirstBroadcastBias(FeaturesFirst):
    def backward(self, dz):
        dx = super().backward(dz)
        self.bias_gradient = dz[:, :1]
        return dx


class LayerNorm:
    def __init__(self, draw, eps=1e-3):
        self.gamma, self.beta, self.eps = draw(5), draw(5), eps

    def forward(self, x):
        mean = x.mean(axis=-1, keepdims=True)
        self.std_inv = 1 / np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + self.eps)
        self.x_hat = (x - mean) * self.std_inv
        return self.gamma * self.x_hat + self.beta

    def backward(self, dout):
        axes = tuple(range(dout.ndim - 1))
        self.dgamma, self.dbeta = (dout * self.x_hat).sum(axis=axes), dout.sum(axis=axes)
        dx_hat = dout * self.gamma
        mean = dx_hat.mean(axis=-1, keepdims=True)
        return self.std_inv * (dx_hat - mean - self.x_hat * (dx_hat * self.x_hat).mean(axis=-1, keepdims=True))


class LayerNormConstantVariance(LayerNorm):
    def backward(self, dout):
        super().backward(dout)
        dx_hat = dout * self.gamma
        return self.std_inv * (dx_hat - dx_hat.mean(axis=-1, keepdims=True))


class LayerNormGammaTwice(LayerNorm):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dgamma = (dout * (self.gamma * self.x_hat + self.beta)).sum(axis=tuple(range(dout.ndim - 1)))
        return dx


class RMSNorm:
    def __init__(self, draw):
        self.scale, self.epsilon = draw(6), 1e-3

    def forward(self, x):
        self.x = x
        self.r = np.sqrt(np.mean(x * x, axis=1, keepdims=True) + self.epsilon)
        return x / self.r * self.scale

    def backward(self, grad):
        self.grad_scale = np.sum(grad * self.x / self.r, axis=0)
        g = grad * self.scale
        return g / self.r - self.x * np.mean(g * self.x, axis=1, keepdims=True) / self.r**3


class RMSNormNoEpsilon(RMSNorm):
    def backward(self, grad):
        self.r = np.sqrt(np.mean(self.x * self.x, axis=1, keepdims=True))
        return super().backward(grad)


class RMSNormSquare(RMSNorm):
    def backward(self, grad):
        dx = super().backward(grad)
        g = grad * self.scale
        return dx + self.x * np.mean(g * self.x, axis=1, keepdims=True) * (self.r**-3 - self.r**-2)


class Bilinear:
    """y_nk = a_n' W_k b_n: two inputs, two gradients."""

    def __init__(self, draw):
        self.W = draw(2, 3, 4)

    def forward(self, a, b):
        self.cache = (a, b)
        return np.einsum("ni,kij,nj->nk", a, self.W, b)

    def backward(self, dy):
        a, b = self.cache
        self.dW = np.einsum("nk,ni,nj->kij", dy, a, b)
        return np.einsum("nk,kij,nj->ni", dy, self.W, b), np.einsum("nk,kij,ni->nj", dy, self.W, a)


class BilinearOneImage(Bilinear):
    def backward(self, dy):
        gradients = super().backward(dy)
        a, b = self.cache
        for i in range(len(dy)):
            self.dW = np.einsum("k,i,j->kij", dy[i], a[i], b[i])
        return gradients


class Standardise:
    """y = (x - shift) * factor, both Python floats."""

    def __init__(self, draw):
        self.shift, self.factor = float(draw(1)[0]), 1.5

    def forward(self, x):
        self.x = x
        return (x - self.shift) * self.factor

    def backward(self, dy):
        self.dshift = float(-(dy * self.factor).sum())
        self.dfactor = float((dy * (self.x - self.shift)).sum())
        return dy * self.factor


class StandardiseSign(Standardise):
    def backward(self, dy):
        dx = super().backward(dy)
        self.dshift = -self.dshift
        return dx


class HighwayGate:
    """y = t h(x) + (1 - t) x, with the gate t of its own weights."""

    def __init__(self, draw):
        self.W_H, self.W_T, self.b_T = draw(3, 3), draw(3, 3), draw(3)

    def forward(self, x):
        self.x, self.h = x, np.tanh(x @ self.W_H)
        self.t = 1 / (1 + np.exp(-(x @ self.W_T + self.b_T)))
        return self.t * self.h + (1 - self.t) * x

    def backward(self, dy):
        dh = dy * self.t * (1 - self.h**2)
        dt = dy * (self.h - self.x) * self.t * (1 - self.t)
        self.dW_H, self.dW_T, self.db_T = self.x.T @ dh, self.x.T @ dt, dt.sum(0)
        return dh @ self.W_H.T + dt @ self.W_T.T + self.carried(dy)

    def carried(self, dy):
        return dy * (1 - self.t)


class HighwayGateAllCarried(HighwayGate):
    def carried(self, dy):
        return dy


ROWS = [
    Row(
        "dense",
        Dense,
        {"the mean of the bias gradient": DenseMeanBias, "divided by the batch": DenseTwiceDivided},
        lambda draw: (draw(5, 4),),
    ),
    Row(
        "features-first",
        FeaturesFirst,
        {"W not transposed": FeaturesFirstNoTranspose, "the bias of one column": FeaturesFirstBroadcastBias},
        lambda draw: (draw(4, 3),),
    ),
    Row(
        "layer-norm",
        LayerNorm,
        {"the variance a constant": LayerNormConstantVariance, "dgamma of y": LayerNormGammaTwice},
        lambda draw: (draw(2, 3, 5),),
    ),
    Row(
        "rms-norm",
        RMSNorm,
        {"epsilon left out": RMSNormNoEpsilon, "r^2 for r^3": RMSNormSquare},
        lambda draw: (draw(3, 6),),
    ),
    Row("bilinear", Bilinear, {"dW of one image": BilinearOneImage}, lambda draw: (draw(3, 3), draw(3, 4))),
    Row("standardise", Standardise, {"the sign of dshift": StandardiseSign}, lambda draw: (draw(2, 4),)),
    Row("highway", HighwayGate, {"carries all": HighwayGateAllCarried}, lambda draw: (draw(4, 3),)),
]
