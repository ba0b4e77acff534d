# mypy: ignore-errors
"""Layers whose backward updates or adds up."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class Updating:
    """Backward takes a learning rate, and updates."""

    def __init__(self, draw):
        self.weights, self.bias = draw(4, 3), draw(3)

    def forward(self, input_data):
        self.input = input_data
        return np.dot(input_data, self.weights) + self.bias

    def backward(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        self.weights -= learning_rate * np.dot(self.input.T, output_error)
        self.bias -= learning_rate * output_error.sum(axis=0)
        return input_error


class UpdatingFirst(Updating):
    def backward(self, output_error, learning_rate):
        super().backward(output_error, learning_rate)
        return np.dot(output_error, self.weights.T)


class UpdatingUphill(Updating):
    def backward(self, output_error, learning_rate):
        input_error = super().backward(output_error, learning_rate)
        self.weights += 2 * learning_rate * np.dot(self.input.T, output_error)
        return input_error


class UpdatingOwnRate:
    """The learning rate is an attribute; the update makes new arrays."""

    def __init__(self, draw):
        self.W, self.lr = draw(3, 3), 0.1

    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.W)

    def backward(self, dy):
        d = dy * (1 - np.tanh(self.x @ self.W) ** 2)
        W, self.W = self.W, self.W - self.lr * self.of_weights(d)
        return d @ W.T

    def of_weights(self, d):
        return self.x.T @ d


class UpdatingOwnRateMean(UpdatingOwnRate):
    def of_weights(self, d):
        return self.x.T @ d / len(d)


class Accumulating:
    """Gradients add up until zero_grad."""

    def __init__(self, draw):
        self.weight, self.weight_grad = draw(3, 2), None
        self.zero_grad()

    def zero_grad(self):
        self.weight_grad = np.zeros_like(self.weight)

    def forward(self, x):
        self.x = x
        return x @ self.weight

    def backward(self, grad_output):
        self.weight_grad += self.of_weights(grad_output)
        return grad_output @ self.weight.T

    def of_weights(self, grad_output):
        return self.x.T @ grad_output


class AccumulatingAbsolute(Accumulating):
    def of_weights(self, grad_output):
        return np.abs(self.x.T @ grad_output)


UPDATES = {"parameters": {"weights": "update", "bias": "update"}}
ROWS = [
    Row(
        "update-with-rate",
        Updating,
        {"dx of the new weights": UpdatingFirst, "uphill": UpdatingUphill},
        lambda draw: (draw(5, 4),),
        remedy=UPDATES,
    ),
    Row(
        "update-own-rate",
        UpdatingOwnRate,
        {"the mean of dW": UpdatingOwnRateMean},
        lambda draw: (draw(4, 3),),
        remedy={"parameters": {"W": "update"}},
    ),
    Row(
        "accumulates-until-reset",
        Accumulating,
        {"the absolute gradient": AccumulatingAbsolute},
        lambda draw: (draw(4, 3),),
        remedy={"reset": "zero_grad"},
    ),
]
