# mypy: ignore-errors
"""Activations: masks, slopes that are learnt, clips with learnt limits, at zeros and ties as well."""

from __future__ import annotations

import numpy as np

from zoo._row import Row, pair


class Relu:
    """The mask is applied to a copy of x, and to dout itself."""

    def __init__(self, draw):
        self.mask = None

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class ReluOfUpstream(Relu):
    def backward(self, dout):
        dout[dout <= 0] = 0
        return dout


class ReluCopies(Relu):
    def backward(self, dout):
        dx = dout.copy()
        dx[self.mask] = 0
        return dx


class ReluOther(ReluCopies):
    def backward(self, dout):
        dx = dout.copy()
        dx[~self.mask] = 0
        return dx


class ReluTwice(ReluCopies):
    def backward(self, dout):
        return 2 * super().backward(dout)


class Scratch:
    """Leaky relu that fills an array of zeros."""

    def __init__(self, draw):
        self.slope = 0.1

    def forward(self, x):
        self.x = x
        y = np.zeros(x.shape)
        y[x > 0] = x[x > 0]
        y[x <= 0] = self.slope * x[x <= 0]
        return y

    def backward(self, dy):
        dx = np.zeros(self.x.shape)
        dx[self.x > 0] = dy[self.x > 0]
        dx[self.x <= 0] = self.slope * dy[self.x <= 0]
        return dx


class ScratchEverywhere(Scratch):
    def backward(self, dy):
        return super().backward(dy) + self.slope * dy


class ScratchOneAtZero(Scratch):
    """At x = 0 its slope is 2, which is beyond both sides."""

    def backward(self, dy):
        return super().backward(dy) + 1.9 * dy * (self.x == 0)


class Gelu:
    """By tanh, with (2/pi)^(1/2) and 0.044715."""

    def __init__(self, draw):
        self.c = 0.7978845608028654

    def forward(self, x):
        self.x, self.t = x, np.tanh(self.c * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + self.t)

    def backward(self, dy):
        inner = self.c * (1 + self.factor() * self.x**2)
        return dy * (0.5 * (1 + self.t) + 0.5 * self.x * (1 - self.t**2) * inner)

    def factor(self):
        return 3 * 0.044715


class GeluNoThree(Gelu):
    def factor(self):
        return 0.044715


class Maxout:
    """The larger of pairs of columns; integers tie often."""

    def __init__(self, draw):
        pass

    def forward(self, x):
        pairs = x.reshape(len(x), -1, 2)
        self.winner, self.shape = pairs.argmax(axis=2), pairs.shape
        return pairs.max(axis=2)

    def backward(self, dy):
        dx = np.zeros(self.shape, dy.dtype)
        self.spread(dx, dy)
        return dx.reshape(len(dy), -1)

    def spread(self, dx, dy):
        np.put_along_axis(dx, self.winner[..., None], dy[..., None], axis=2)


class MaxoutFirst(Maxout):
    def spread(self, dx, dy):
        dx[:, :, 0] = dy


def elu_forward(x, alpha=1.5):
    y = np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))
    return y, (x, y, alpha)


def elu_backward(dy, cache):
    x, y, alpha = cache
    return dy * np.where(x > 0, 1, y + alpha)


def elu_backward_alpha_one(dy, cache):
    x, y, _ = cache
    return dy * np.where(x > 0, 1, y + 1)


ROWS = [
    Row("relu-mask-in-place", Relu, {"the mask of dout": ReluOfUpstream}, lambda draw: (draw(3, 4),), overwrites=True),
    Row(
        "relu-at-zeros",
        ReluCopies,
        {"the other half": ReluOther, "twice": ReluTwice},
        lambda draw: (draw.coarse(3, 4),),
    ),
    Row(
        "leaky-relu-scratch",
        Scratch,
        {"the slope everywhere": ScratchEverywhere, "2 at 0": ScratchOneAtZero},
        lambda draw: (np.append(draw.coarse(11), 0.0).reshape(3, 4),),
        single=False,
    ),
    Row("gelu", Gelu, {"no 3": GeluNoThree}, lambda draw: (draw(3, 4),)),
    Row("maxout", Maxout, {"always the first": MaxoutFirst}, lambda draw: (draw.coarse(3, 6),)),
    Row(
        "elu",
        pair(elu_forward, elu_backward),
        {"alpha taken for 1": pair(elu_forward, elu_backward_alpha_one)},
        lambda draw: (draw(3, 4),),
    ),
]
