"""Optimisers as pure functions of their state: SGD, with or without momentum, and Adam.

SGD, for a parameter w with gradient g, rate r and momentum m:

    v[t] = m * v[t-1] + g[t],  v[0] = 0
    w[t] = w[t-1] - r * v[t]

Adam, with the moments corrected for their start at zero:

    m[t] = beta1 * m[t-1] + (1 - beta1) * g[t],    v[t] = beta2 * v[t-1] + (1 - beta2) * g[t]^2
    w[t] = w[t-1] - r * (m[t] / (1 - beta1^t)) / (sqrt(v[t] / (1 - beta2^t)) + epsilon)

    state = optimizer.init(parameters)
    parameters, state = optimizer.step(parameters, gradients, state)

No argument is written to. The returned parameters and state are new arrays that share no memory with an
argument. Parameters and gradients are floating arrays. The dtype of each parameter is kept.

Raises TypeError for arrays that are not floating, for gradients of another dtype and for a foreign state.
Raises ValueError, quoting the values, for hyperparameters out of range and for counts or shapes that differ.

Sources:

- Polyak 1964, "Some methods of speeding up the convergence of iteration methods".
- Sutskever et al. 2013, ICML, section 2: the form used here. The rate is outside the velocity, as in
  torch.optim.SGD.
- Kingma & Ba 2015, arXiv:1412.6980, algorithm 1 (torch.optim.Adam at its defaults).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from cnn_core._arguments import Array, check_byte_order

Arrays = tuple[Array, ...]


class Optimizer(Protocol):
    """The functions that a trainer calls. Only the optimiser reads its state."""

    def init(self, parameters: Sequence[Array]) -> Any:
        """Return the state before the first step."""

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], state: Any) -> tuple[Arrays, Any]:
        """Return the parameters and the state after one step."""


class SGDState(NamedTuple):
    """The velocity of each parameter, or an empty tuple without momentum."""

    velocity: Arrays


class AdamState(NamedTuple):
    """The number of steps taken, and the uncorrected moments of each parameter."""

    steps: int
    first: Arrays
    second: Arrays


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: rate at least 0, momentum in [0, 1)."""

    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_number("learning_rate", self.learning_rate)
        _check_number("momentum", self.momentum, below=1)

    def init(self, parameters: Sequence[Array]) -> SGDState:
        """Return the state before the first step."""
        _check(parameters)
        return SGDState(_zeros(parameters) if self.momentum else ())

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], state: SGDState) -> tuple[Arrays, SGDState]:
        """Return the parameters and the state after one step."""
        _check_state(state, SGDState)
        _check(parameters, gradient=gradients)
        rate, momentum = float(self.learning_rate), float(self.momentum)
        if not momentum:
            return tuple(np.asarray(w - rate * g) for w, g in zip(parameters, gradients, strict=True)), SGDState(())
        _check(parameters, velocity=state.velocity)
        velocity = tuple(np.asarray(momentum * v + g) for v, g in zip(state.velocity, gradients, strict=True))
        return tuple(np.asarray(w - rate * v) for w, v in zip(parameters, velocity, strict=True)), SGDState(velocity)


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction: rate and epsilon at least 0, both betas in [0, 1)."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_number("learning_rate", self.learning_rate)
        _check_number("beta1", self.beta1, below=1)
        _check_number("beta2", self.beta2, below=1)
        _check_number("epsilon", self.epsilon)

    def init(self, parameters: Sequence[Array]) -> AdamState:
        """Return the state before the first step."""
        _check(parameters)
        return AdamState(0, _zeros(parameters), _zeros(parameters))

    def step(
        self, parameters: Sequence[Array], gradients: Sequence[Array], state: AdamState
    ) -> tuple[Arrays, AdamState]:
        """Return the parameters and the state after one step."""
        _check_state(state, AdamState)
        _check(parameters, gradient=gradients, first=state.first, second=state.second)
        beta1, beta2, steps = float(self.beta1), float(self.beta2), state.steps + 1
        first = _decayed(beta1, state.first, gradients)
        second = _decayed(beta2, state.second, [np.multiply(g, g, out=np.empty_like(g)) for g in gradients])
        # The corrections are scalars. Multiplied into the rate and the root, they cost no pass over the arrays.
        rate = float(self.learning_rate) / (1 - beta1**steps)
        root, epsilon = math.sqrt(1 - beta2**steps), float(self.epsilon)
        updated = []
        for w, m, v in zip(parameters, first, second, strict=True):
            scale = np.sqrt(v, out=np.empty_like(v))
            scale /= root
            scale += epsilon
            step = np.multiply(m, rate, out=np.empty_like(m))
            step /= scale
            updated.append(np.subtract(w, step, out=step))
        return tuple(updated), AdamState(steps, first, second)


def _decayed(beta: float, moments: Sequence[Array], values: Sequence[Array]) -> Arrays:
    """Return beta m + (1 - beta) g for each pair."""
    decayed = []
    for m, g in zip(moments, values, strict=True):
        result = np.multiply(m, beta, out=np.empty_like(m))
        result += (1 - beta) * g
        decayed.append(result)
    return tuple(decayed)


def _zeros(parameters: Sequence[Array]) -> Arrays:
    return tuple(np.zeros_like(parameter) for parameter in parameters)


def _check_number(name: str, value: object, below: float = math.inf) -> None:
    """Raise TypeError or ValueError unless the value is a number in [0, below). NaN is refused."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 <= value < below:
        raise ValueError(f"{name} must lie in [0, {below}), got {value!r}")


def _check_state(state: object, kind: type[SGDState] | type[AdamState]) -> None:
    if not isinstance(state, kind):
        raise TypeError(f"state is a {type(state).__name__}, this optimiser needs the {kind.__name__} of its own init")


def _check(parameters: Sequence[Array], **others: Sequence[Array]) -> None:
    """Raise unless all parameters are floating arrays and each other array matches its parameter."""
    for position, parameter in enumerate(parameters):
        if not isinstance(parameter, np.ndarray) or not np.issubdtype(parameter.dtype, np.floating):
            kind = getattr(parameter, "dtype", type(parameter).__name__)
            raise TypeError(f"parameter {position} must be a floating array, got {kind}")
        check_byte_order(f"parameter {position}", parameter)
    for name, arrays in others.items():
        if len(arrays) != len(parameters):
            raise ValueError(f"{len(parameters)} parameters need as many of {name}, got {len(arrays)}")
        for position, (parameter, array) in enumerate(zip(parameters, arrays, strict=True)):
            _check_match(f"{name} {position}", array, parameter)


def _check_match(name: str, array: Array, parameter: Array) -> None:
    kind = getattr(array, "dtype", type(array).__name__)
    if not isinstance(array, np.ndarray) or kind != parameter.dtype:
        raise TypeError(f"{name} must have the dtype of its parameter, {parameter.dtype}, got {kind}")
    if array.shape != parameter.shape:
        raise ValueError(f"{name} must have the shape of its parameter, {parameter.shape}, got {array.shape}")
