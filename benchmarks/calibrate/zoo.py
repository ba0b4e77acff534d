"""Thirty real functions with known derivatives, to measure the black-box oracle.

Each has `f(x) -> y` for an array x, its transposed derivative `vjp(x, dy)`, and a draw of arrays. The calibration
names the structure "smooth", so the complex step never runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Known(NamedTuple):
    """A function with its vector-Jacobian product, and a draw of arrays in its domain."""

    name: str
    f: Callable[[Array], Array]
    vjp: Callable[[Array, Array], Array]
    draw: Callable[[np.random.Generator], Array]


def _entrywise(
    name: str, f: Callable[[Array], Array], slope: Callable[[Array], Array], draw: Callable[..., Array]
) -> Known:
    return Known(name, f, lambda x, dy: dy * slope(x), draw)


def _normal(scale: float = 1.0, shift: float = 0.0, size: int = 6) -> Callable[[np.random.Generator], Array]:
    return lambda generator: shift + scale * generator.normal(size=size)


def _between(low: float, high: float, size: int = 6) -> Callable[[np.random.Generator], Array]:
    return lambda generator: generator.uniform(low, high, size)


_erf = np.vectorize(math.erf, otypes=[float])
_gamma = np.vectorize(math.lgamma, otypes=[float])


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def _softmax_vjp(x: Array, dy: Array) -> Array:
    y = _softmax(x)
    return np.asarray(y * (dy - (y * dy).sum()))


def _digamma(x: Array) -> Array:
    """Return digamma(x) by recurrence and the asymptotic series, to rounding (Abramowitz & Stegun 6.3.5, 6.3.18)."""
    total = np.zeros_like(x)
    while (small := x < 12).any():
        total = np.where(small, total - 1 / x, total)
        x = np.where(small, x + 1, x)
    w = 1 / x**2
    series = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w * (1 / 132 - w * 691 / 32760)))))
    return np.asarray(total + np.log(x) - 0.5 / x - series)


def _normalise(x: Array) -> Array:
    centred = x - x.mean()
    return np.asarray(centred / np.sqrt((centred**2).mean() + 1e-5))


def _normalise_vjp(x: Array, dy: Array) -> Array:
    centred = x - x.mean()
    deviation = np.sqrt((centred**2).mean() + 1e-5)
    y = centred / deviation
    return np.asarray((dy - dy.mean() - y * (dy * y).mean()) / deviation)


def _polynomial(x: Array) -> Array:
    return np.asarray(((2 * x - 3) * x + 5) * x**3)


ZOO: tuple[Known, ...] = (
    _entrywise("identity", lambda x: x * 1.0, np.ones_like, _normal()),
    _entrywise("affine, large offset", lambda x: 3 * x + 1e6, lambda x: np.full_like(x, 3.0), _normal()),
    _entrywise("square", np.square, lambda x: 2 * x, _normal()),
    _entrywise("cube", lambda x: x**3, lambda x: 3 * x**2, _normal()),
    _entrywise("quintic", _polynomial, lambda x: 10 * x**4 - 12 * x**3 + 15 * x**2, _normal()),
    _entrywise("reciprocal", lambda x: 1 / x, lambda x: -1 / x**2, _between(0.5, 4)),
    _entrywise("reciprocal near its pole", lambda x: 1 / x, lambda x: -1 / x**2, _between(0.01, 0.1)),
    _entrywise("square root", np.sqrt, lambda x: 0.5 / np.sqrt(x), _between(0.5, 9)),
    _entrywise("square root near 0", np.sqrt, lambda x: 0.5 / np.sqrt(x), _between(1e-4, 1e-2)),
    _entrywise("logarithm", np.log, lambda x: 1 / x, _between(0.2, 5)),
    _entrywise("exponential", np.exp, np.exp, _normal()),
    _entrywise("exponential, large", np.exp, np.exp, _normal(5, 10)),
    _entrywise("sine", np.sin, np.cos, _normal(2)),
    _entrywise("sine, fast", lambda x: np.sin(50 * x), lambda x: 50 * np.cos(50 * x), _normal()),
    _entrywise("sine, very fast", lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x), _normal()),
    _entrywise("tangent", np.tan, lambda x: 1 / np.cos(x) ** 2, _between(-1.3, 1.3)),
    _entrywise("arctangent", np.arctan, lambda x: 1 / (1 + x * x), _normal(3)),
    _entrywise("hyperbolic tangent", np.tanh, lambda x: 1 / np.cosh(x) ** 2, _normal()),
    _entrywise("hyperbolic tangent, saturated", np.tanh, lambda x: 1 / np.cosh(x) ** 2, _normal(3)),
    _entrywise("sigmoid", lambda x: 1 / (1 + np.exp(-x)), lambda x: 0.25 / np.cosh(x / 2) ** 2, _normal(2)),
    _entrywise("softplus", lambda x: np.logaddexp(0, x), lambda x: 1 / (1 + np.exp(-x)), _normal(3)),
    _entrywise("error function", _erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x), _normal()),
    _entrywise("log-gamma", _gamma, _digamma, _between(0.5, 6)),
    _entrywise("Gauss", lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x), _normal()),
    _entrywise(
        "narrow Lorentz", lambda x: 1 / (1 + 1e4 * x * x), lambda x: -2e4 * x / (1 + 1e4 * x * x) ** 2, _normal(0.02)
    ),
    _entrywise("large arguments", lambda x: x * x * 1e-6, lambda x: 2e-6 * x, _normal(1e6)),
    Known("product", lambda x: np.array([x.prod()]), lambda x, dy: dy[0] * x.prod() / x, _between(0.5, 2)),
    Known(
        "Euclidean norm",
        lambda x: np.array([np.sqrt((x * x).sum())]),
        lambda x, dy: dy[0] * x / np.sqrt((x * x).sum()),
        _normal(),
    ),
    Known("softmax", _softmax, _softmax_vjp, _normal(2)),
    Known("normalisation", _normalise, _normalise_vjp, _normal(2, 5)),
)
