"""Functions with more kinks than one layer has, and their right gradients, for arrays where most kinks meet.

The gradients follow the chain rule with the convention of each layer: relu'(0) = 0, the first of equal maxima
wins, and a jump has no slope. With three or more entries the kinks of the relus are independent. The result is then
a generalized gradient (Clarke 1983). With one entry it need not be: relu(x) - relu(-x) is x, and the convention
gives 0 as its slope at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = tuple[Callable[[Array], tuple[Any, Any]], Callable[[Array, Any], tuple[Array]]]

_WEIGHTS = np.array([[1.0, -2, 1], [-1, 1, 3], [2, 1, -1], [1, -1, 1]])


def _first(x: Array) -> Array:
    """Return True at the first of the largest entries of each row."""
    return np.asarray(np.arange(x.shape[1]) == x.argmax(axis=1)[:, None])


def _place(x: Array, rank: int) -> Array:
    """Return True at the entry of each row that a stable sort puts at this rank."""
    return np.asarray(np.arange(x.shape[1]) == np.argsort(x, axis=1, kind="stable")[:, rank][:, None])


def _picked(where: Callable[[Array], Array]) -> Function:
    """Return the function that picks the entry of each row at which `where` is True."""

    def forward(x: Array) -> tuple[Any, Any]:
        mask = where(x)
        return (x * mask).sum(axis=1), mask

    return forward, lambda dy, mask: ((dy[:, None] * mask).astype(dy.dtype),)


def _relu(x: Array) -> tuple[Any, Any]:
    return x * (x > 0), x


def _relu_back(dy: Array, x: Array) -> tuple[Array]:
    return (dy * (x > 0),)


def _linear(weights: Array) -> Function:
    """Return the product with these weights, in the dtype of the array."""
    return (
        lambda x: (x @ weights[: x.shape[1]].astype(x.dtype), x.shape[1]),
        lambda dy, width: (dy @ weights[:width].T.astype(dy.dtype),),
    )


def _each(f: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Function:
    """Return f, applied entry by entry."""
    return lambda x: (f(x).astype(x.dtype), x), lambda dy, x: ((dy * slope(x)).astype(dy.dtype),)


def _chain(*functions: Function) -> Function:
    def forward(x: Array) -> tuple[Any, Any]:
        caches = []
        for each, _ in functions:
            x, cache = each(x)
            caches.append(cache)
        return x, caches

    def backward(dy: Array, caches: Any) -> tuple[Array]:
        for (_, back), cache in zip(functions[::-1], caches[::-1], strict=True):
            (dy,) = back(dy, cache)
        return (dy,)

    return forward, backward


def _of_reals(function: Function) -> Function:
    """Return a copy of the function that refuses complex numbers, as most layers of most libraries do."""

    def forward(x: Array) -> tuple[Any, Any]:
        if np.iscomplexobj(x):
            raise TypeError("real numbers only")
        return function[0](x)

    return forward, function[1]


_RELU: Function = _relu, _relu_back
_ABS = _each(np.abs, np.sign)
_TANH = _each(np.tanh, lambda x: 1 - np.tanh(x) ** 2)

_OF_ANY: dict[str, Function] = {
    "median": _picked(lambda x: _place(x, x.shape[1] // 2)),
    "second largest": _picked(lambda x: _place(x, max(0, x.shape[1] - 2))),
    "largest, then relu": _chain(_picked(_first), _each(lambda x: x * (x > 0), lambda x: x > 0)),
    "relu, then the largest": _chain(_RELU, _picked(_first)),
    "relu, then weights": _chain(_RELU, _linear(_WEIGHTS)),
    "weights, relu, weights": _chain(_linear(_WEIGHTS), _RELU, _linear(_WEIGHTS)),
    "weights, abs, the largest": _chain(_linear(_WEIGHTS), _ABS, _picked(_first)),
    "relu, weights, tanh": _chain(_RELU, _linear(_WEIGHTS / 3), _TANH),
    "weights, relu, weights, tanh": _chain(_linear(_WEIGHTS / 3), _RELU, _linear(_WEIGHTS / 3), _TANH),
    "abs, squared": _chain(_ABS, _each(np.square, lambda x: 2 * x)),
    "clipped": _each(lambda x: np.minimum(np.maximum(x, -1), 1), lambda x: np.abs(x) < 1),
    "hinge": _chain(_each(lambda x: 1 - x, lambda x: -np.ones_like(x)), _RELU),
    "sign": _each(np.sign, np.zeros_like),
    "floor of halves": _each(lambda x: np.floor(x / 2), np.zeros_like),
}
TIED = {**_OF_ANY, **{f"{name}, of reals": _of_reals(function) for name, function in _OF_ANY.items()}}
