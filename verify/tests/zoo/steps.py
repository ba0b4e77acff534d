# mypy: ignore-errors
"""Results that are several, and steps as pairs of functions."""

from __future__ import annotations

import numpy as np

from zoo._row import Row, pair


class Split:
    """Two halves, as a tuple."""

    def __init__(self, draw):
        pass

    def forward(self, x):
        half = x.shape[1] // 2
        return x[:, :half] * 2, np.tanh(x[:, half:])

    def backward(self, da, db):
        raise NotImplementedError


class SplitRight(Split):
    def forward(self, x):
        self.right = x[:, x.shape[1] // 2 :]
        return super().forward(x)

    def backward(self, da, db):
        return np.hstack([2 * da, db * (1 - np.tanh(self.right) ** 2)])


class SplitExchanged(SplitRight):
    def backward(self, da, db):
        return super().backward(db, da)


class SplitMixes(SplitRight):
    def backward(self, da, db):
        return super().backward(da, db) + 0.5 * np.hstack([db, 0 * da])


class Best:
    """The largest of each row, and where it was: whole numbers have no gradient."""

    def __init__(self, draw):
        self.argmax = None

    def forward(self, x):
        self.shape, self.argmax = x.shape, x.argmax(axis=1)
        return x[np.arange(len(x)), self.argmax], self.argmax

    def backward(self, dvalues, dindices=None):
        dx = np.zeros(self.shape, dvalues.dtype)
        self.place(dx, dvalues)
        return dx

    def place(self, dx, dvalues):
        dx[np.arange(len(dx)), self.argmax] = dvalues


class BestOfFirst(Best):
    def place(self, dx, dvalues):
        dx[0, self.argmax] = dvalues


def sample_forward(mean, log_variance, noise):
    std = np.exp(0.5 * log_variance)
    return mean + std * noise, (std, noise)


def sample_backward(dz, cache):
    std, noise = cache
    return dz, dz * 0.5 * std * noise, dz * std


def sample_backward_no_half(dz, cache):
    std, noise = cache
    return dz, dz * std * noise, dz * std


def step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


def step_backward_of_sigmoid(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * next_h * (1 - next_h)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


ROWS = [
    Row(
        "split",
        SplitRight,
        {"halves exchanged": SplitExchanged, "one in the other": SplitMixes},
        lambda draw: (draw(3, 4),),
    ),
    Row("max-and-where", Best, {"all in row 0": BestOfFirst}, lambda draw: (draw(3, 4),)),
    Row(
        "reparametrised",
        pair(sample_forward, sample_backward),
        {"no 1/2": pair(sample_forward, sample_backward_no_half)},
        lambda draw: (draw(3, 2), draw(3, 2), draw(3, 2)),
    ),
    Row(
        "rnn-step",
        pair(step_forward, step_backward),
        {"the slope of a sigmoid": pair(step_forward, step_backward_of_sigmoid)},
        lambda draw: (draw(2, 3), draw(2, 4), draw(3, 4), draw(4, 4), draw(4)),
    ),
]
