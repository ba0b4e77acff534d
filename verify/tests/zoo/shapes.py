# mypy: ignore-errors
"""Layers that move entries about: enlarged, flattened, pooled."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Enlarged:
    """Nearest neighbours, twice the height and three times the width."""

    def __init__(self, draw):
        self.size = (2, 3)

    def forward(self, x):
        self.shape = x.shape
        return x.repeat(self.size[0], axis=2).repeat(self.size[1], axis=3)

    def backward(self, dy):
        N, C, H, W = self.shape
        return self.reduced(dy.reshape(N, C, H, self.size[0], W, self.size[1]))

    def reduced(self, parts):
        return parts.sum(axis=(3, 5))


class EnlargedMean(Enlarged):
    def reduced(self, parts):
        return parts.mean(axis=(3, 5))


class EnlargedFirst(Enlarged):
    def reduced(self, parts):
        return parts[:, :, :, 0, :, 0]


class PoolLast:
    """Mean pooling, (N, H, W, C), what does not fit cut off."""

    def __init__(self, draw):
        self.pool = 2

    def forward(self, x):
        self.shape, p = x.shape, self.pool
        N, H, W, C = x.shape
        return x[:, : H // p * p, : W // p * p].reshape(N, H // p, p, W // p, p, C).mean(axis=(2, 4))

    def backward(self, dy):
        p = self.pool
        dx = np.zeros(self.shape, dy.dtype)
        dx[:, : dy.shape[1] * p, : dy.shape[2] * p] = self.shared(dy.repeat(p, axis=1).repeat(p, axis=2))
        return dx

    def shared(self, dy):
        return dy / self.pool**2


class PoolLastWhole(PoolLast):
    def shared(self, dy):
        return dy


class PoolLastOnce(PoolLast):
    def shared(self, dy):
        return dy / self.pool


class Flatten:
    """To (features, batch), as in courses."""

    def __init__(self, draw):
        pass

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1).T

    def backward(self, dy):
        return dy.T.reshape(self.shape)


class FlattenNoTranspose(Flatten):
    def backward(self, dy):
        return dy.reshape(self.shape)


ROWS = [
    Row("enlarged", Enlarged, {"the mean": EnlargedMean, "the first": EnlargedFirst}, lambda draw: (draw(2, 1, 2, 2),)),
    Row(
        "mean-pool-last",
        PoolLast,
        {"not divided": PoolLastWhole, "once": PoolLastOnce},
        lambda draw: (draw(2, 5, 4, 2),),
    ),
    Row("flatten-to-columns", Flatten, {"no transpose": FlattenNoTranspose}, lambda draw: (draw(3, 2, 2),)),
]
