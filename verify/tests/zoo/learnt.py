# mypy: ignore-errors
"""Activations with slopes and limits that are learnt."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class PReLU:
    """A slope for each channel."""

    def __init__(self, draw):
        self.alpha = draw.positive(3) / 2

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        self.dalpha = (dy * np.minimum(self.x, 0)).sum(axis=0)
        return dy * np.where(self.x > 0, 1, self.alpha)


class PReLUShared(PReLU):
    def backward(self, dy):
        dx = super().backward(dy)
        self.dalpha = 0 * self.alpha + self.dalpha.sum()
        return dx


class PReLUPositive(PReLU):
    def backward(self, dy):
        dx = super().backward(dy)
        self.dalpha = (dy * np.maximum(self.x, 0)).sum(axis=0)
        return dx


class Clip:
    """Between learnt limits."""

    def __init__(self, draw):
        self.lo, self.hi = -draw.positive(1) / 2, draw.positive(1) / 2

    def forward(self, x):
        self.x = x
        return np.clip(x, self.lo, self.hi)

    def backward(self, dy):
        below, above = self.x < self.lo, self.x > self.hi
        self.dlo, self.dhi = np.sum(dy * below, keepdims=True)[0], np.sum(dy * above, keepdims=True)[0]
        return self.inside(dy, below, above)

    def inside(self, dy, below, above):
        return dy * ~(below | above)


class ClipOneSide(Clip):
    def inside(self, dy, below, above):
        return dy * ~above


class ClipStraight(Clip):
    def inside(self, dy, below, above):
        return dy


class PACT:
    """y = (|x| - |x - alpha| + alpha) / 2 for one alpha."""

    def __init__(self, draw):
        self.alpha = draw.positive(1)

    def forward(self, x):
        self.x = x
        return 0.5 * (np.abs(x) - np.abs(x - self.alpha) + self.alpha)

    def backward(self, dy):
        self.dalpha = np.array([np.sum(dy * self.of_alpha())]).astype(dy.dtype)
        return dy * ((self.x > 0) & (self.x < self.alpha))

    def of_alpha(self):
        return self.x >= self.alpha


class PACTInside(PACT):
    def of_alpha(self):
        return self.x > 0


class Swish:
    """x sigmoid(beta x), beta a parameter or, in the wrong twin, taken for 1."""

    def __init__(self, draw):
        self.beta = draw.positive(1)

    def forward(self, x):
        self.x, self.s = x, 1 / (1 + np.exp(-self.beta * x))
        return x * self.s

    def backward(self, grad):
        self.beta_grad = np.sum(grad * self.x**2 * self.s * (1 - self.s)).reshape(1)
        return grad * (self.s + self.slope() * self.x * self.s * (1 - self.s))

    def slope(self):
        return self.beta


class SwishOne(Swish):
    def slope(self):
        return 1


SMOOTH = {"structure": "smooth"}
ROWS = [
    Row("prelu", PReLU, {"one slope": PReLUShared, "dalpha where x > 0": PReLUPositive}, lambda draw: (draw(6, 3),)),
    Row(
        "clip",
        Clip,
        {"one side": ClipOneSide, "straight through": ClipStraight},
        lambda draw: (2 * draw(4, 4),),
        remedy=SMOOTH,
    ),
    Row("pact", PACT, {"dalpha inside": PACTInside}, lambda draw: (2 * draw.positive(4, 4) - 1,), remedy=SMOOTH),
    Row("swish", Swish, {"beta taken for 1": SwishOne}, lambda draw: (draw(3, 4),)),
]
