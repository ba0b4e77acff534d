"""Every configuration of a layer within a bound: all versions, bit for bit, and every gradient exactly.

The arrays are Gaussian integers, complex numbers with whole parts. On them sums and products are exact. A layer that is
affine in each array with the others fixed has

    sum(dy * (f(a + v) - f(a))) == sum(da * v)        exactly,

and so has a maximum, if v is too short to change its order. Entries are drawn from 2^42 values, those of a v that is
short from 2^36. The equations of all arrays are added, each with a v of its own. One draw misses a wrong gradient with
a probability of at most d / 2^42, or d / 2^36, where d counts the arrays, dy and v (Schwartz 1980, Zippel 1979). Other
versions must give the same y and gradients, to the last bit.

A layer that rounds is compared within the tolerance of its declaration, and its gradient with a complex step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnn_core import Implementation
from verify.checker.exact_numbers import draw_gapped, draw_integers
from verify.layers import Case, Configuration, Layer

Array = NDArray[Any]
# Bits of each part of an entry: products of two arrays, of complex numbers, leave 2^12 of float64's 2^53 for sums.
_BITS = 20
# A maximum is taken of numbers that are at least 3/4 of 2^20 apart. Moves are an eighth of that at most.
_GAP_BITS, _MOVE_BITS = 20, 17
# Gaussian integers that are drawn at a time, enough for hundreds of small arrays.
_STOCK = 1 << 14
# h^2 leaves no truncation, and h times a slope is a normal number.
_STEP = 2.0**-200


class Wrong(NamedTuple):
    """A configuration at which something is wrong: what, and the call."""

    what: str
    case: Case


def parts(layer: Layer, bound: int) -> Sequence[Callable[[], Iterator[Configuration]]]:
    """Return all configurations within the bound, in parts. Raises ValueError for a layer that declares none."""
    if layer.scope is None:
        raise ValueError(f"{layer.name} declares no scope: there is nothing to sweep")
    return layer.scope(bound)


def missed(layer: Layer, count: int) -> float:
    """Return a bound on the probability that the sweep missed a wrong gradient, over this many configurations."""
    degree = len(layer.names) - len(layer.constants) + 2
    bits = _BITS if layer.structure == "multilinear" else _MOVE_BITS
    # Each part of a number has 2^(bits + 1) values. All gradients of a configuration are in one sum.
    return count * degree / 4.0 ** (bits + 1)


class Draws:
    """Random arrays. Gaussian integers are drawn many at a time, since a call for a small array is mostly overhead."""

    def __init__(self, seed: Any) -> None:
        self.generator = np.random.default_rng(seed)
        self._stocks: dict[int, Array] = {}

    def gaussian(self, shape: tuple[int, ...], bits: int = _BITS) -> Array:
        """Gaussian integers that no other array has. Both parts are in [-2^bits, 2^bits)."""
        size, stock = math.prod(shape), self._stocks.get(bits, np.zeros(0, complex))
        if size > stock.size:
            pairs = draw_integers(self.generator, (2 * max(size, _STOCK),), bits, np.dtype(float))
            stock = pairs.view(complex)
        self._stocks[bits] = stock[size:]
        return stock[:size].reshape(shape)


def check(layer: Layer, configuration: Configuration, draws: Draws) -> Wrong | None:
    """Return what is wrong at a configuration, or None."""
    case = _drawn(layer, configuration, draws)
    reference, *others = layer.implementations
    try:
        naive = _Results.of(reference, case, None, draws)
        for version in others:
            other = _Results.of(version, case, naive.dy, draws)
            allowed = layer.allowed(case, naive.y, naive.dy, naive.gradients)
            if what := _difference(naive, other, allowed):
                return Wrong(f"{what} of {version.name} is not that of {reference.name}", case)
        wrong = (_unequal if layer.exact else _beyond_rounding)(layer, others[0], case, naive, draws)
        if wrong is not None:
            return Wrong(f"d{layer.names[wrong]} is not the derivative", case)
    except Exception as error:  # a fault of the layer is what a sweep looks for
        return Wrong(f"{type(error).__name__}: {error}", case)
    return None


class _Results(NamedTuple):
    """What a version gives: y, dy, its gradients, and its winners, if it has any."""

    y: Array
    dy: Array
    gradients: tuple[Array | None, ...]
    indices: Array | None

    @classmethod
    def of(cls, version: Implementation, case: Case, dy: Array | None, draws: Draws) -> _Results:
        y, cache = version.forward(*case.arrays, **case.options)
        if dy is None:
            is_real = y.dtype.kind == "f"
            dy = draws.generator.normal(size=y.shape).astype(y.dtype) if is_real else draws.gaussian(y.shape)
        return cls(y, dy, version.backward(dy, cache), getattr(cache, "indices", None))


def _drawn(layer: Layer, configuration: Configuration, draws: Draws) -> Case:
    """Gaussian integers, gapped for a maximum; real numbers for a layer that rounds."""

    def draw(shape: Any) -> Array | None:
        if shape is None or callable(shape):
            return None if shape is None else np.asarray(shape(draws.generator))
        if not layer.exact:
            return np.asarray(draws.generator.uniform(-1, 1, shape))
        if layer.structure == "multilinear":
            return draws.gaussian(shape)
        return np.asarray(draw_gapped(draws.generator, [shape], _GAP_BITS)[0] + 1j * draws.gaussian(shape).imag)

    return Case(tuple(draw(shape) for shape in configuration.shapes), configuration.options)


def _differentiable(layer: Layer, case: Case) -> list[int]:
    named = zip(layer.names, case.arrays, strict=True)
    return [k for k, (name, a) in enumerate(named) if a is not None and a.size and name not in layer.constants]


def _difference(naive: _Results, other: _Results, allowed: tuple[Any, ...]) -> str:
    """Return what differs by more than is allowed; empty if nothing does."""
    if naive.indices is not None and not (other.indices is not None and np.array_equal(naive.indices, other.indices)):
        return "the winners"
    pairs = zip((naive.y, *naive.gradients), (other.y, *other.gradients), allowed, strict=True)
    for position, (one, two, most) in enumerate(pairs):
        if one is None or two is None:
            equal = one is two
        elif (one.shape, one.dtype) != (two.shape, two.dtype):
            equal = False
        else:
            equal = bool((one == two).all() or (np.abs(one - two) <= most).all())
        if not equal:
            return f"gradient {position - 1}" if position else "y"
    return ""


class _Move(NamedTuple):
    """An array moved by v: y changes by `change`. So sum(dy * change) is sum(gradient * v)."""

    dy: Array
    change: Array
    gradient: Array
    v: Array


def _unequal(layer: Layer, version: Implementation, case: Case, naive: _Results, draws: Draws) -> int | None:
    """Return the first array whose gradient is not the derivative. `version` is faster, and gives what naive gives.

    The equations of all arrays are added. Each has its own v, so a wrong one shows in the sum.
    """
    moves = {}
    for k in _differentiable(layer, case):
        array, gradient = case.arrays[k], naive.gradients[k]
        if array is None or gradient is None or gradient.shape != array.shape:
            return k
        v = draws.gaussian(array.shape, _BITS if layer.structure == "multilinear" else _MOVE_BITS)
        change = version.forward(*_with(case, k, array + v), **case.options)[0] - naive.y
        moves[k] = _Move(naive.dy, change, gradient, v)
    if _equal(moves.values()):
        return None
    return next(k for k, move in moves.items() if not _equal([move]))


def _beyond_rounding(layer: Layer, version: Implementation, case: Case, naive: _Results, draws: Draws) -> int | None:
    """Return the first array whose gradient is not the complex step's, within the tolerance of the layer."""
    for k in _differentiable(layer, case):
        array, gradient = case.arrays[k], naive.gradients[k]
        if array is None or gradient is None or gradient.shape != array.shape:
            return k
        v = draws.generator.choice([-1.0, 1.0], array.shape) * draws.generator.uniform(0.5, 1, array.shape)
        slopes = version.forward(*_with(case, k, array + 1j * _STEP * v), **case.options)[0].imag / _STEP
        allowed = layer.allowed(Case(_with(case, k, v), case.options), slopes, naive.dy, naive.gradients)
        off = abs(float((naive.dy * slopes).sum() - (gradient * v).sum()))
        if not off <= float((np.abs(naive.dy) * allowed[0]).sum() + (np.abs(v) * allowed[1 + k]).sum()):
            return k
    return None


def _with(case: Case, k: int, array: Array) -> tuple[Array | None, ...]:
    """The arrays with another one at k. A step into the complex plane makes all of them complex."""
    others = (a if a is None or a.dtype.kind not in "fc" else a.astype(array.dtype, copy=False) for a in case.arrays)
    return tuple(array if j == k else other for j, other in enumerate(others))


def _equal(moves: Iterable[_Move]) -> bool:
    """Whether sum(dy * change) is sum(gradient * v), of Gaussian integers, over all moves together.

    int64, which wraps around, gives the difference modulo 2^64. Floating point says that it is below 2^63.
    """
    pairs = [pair for dy, change, gradient, v in moves for pair in ((dy, change), (-gradient, v))]
    if not pairs:
        return True
    left, right = (np.concatenate([each.reshape(-1) for each in side]) for side in zip(*pairs, strict=True))
    parts = np.stack((left, right)).view(float)
    largest = float(np.abs(parts).max(initial=0.0))
    if not largest < 2.0**53:
        raise OverflowError(f"integers up to {largest:.3g} are not exact: take a smaller bound")
    one, other = parts.astype(np.int64).reshape(2, left.size, 2)
    (real, crossed), (turned, imaginary) = (one.T @ other).tolist()
    wrapped = (real - imaginary) % 2**64, (crossed + turned) % 2**64
    return wrapped == (0, 0) and abs(complex(left @ right)) < 2.0**63


def call(layer: Layer, wrong: Wrong) -> str:
    """Return Python that makes the call at which something is wrong."""
    given = dict(zip(layer.names, wrong.case.arrays, strict=True))
    lines = ["import numpy as np", f"from cnn_core import {layer.name}"]
    for name, array in given.items():
        if array is not None:
            lines.append(f"{name} = np.array({array.tolist()!r}, {str(array.dtype)!r}).reshape({array.shape})")
    passed = [name if array is not None else "None" for name, array in given.items()]
    passed += [f"{name}={value!r}" for name, value in wrong.case.options.items()]
    return "\n".join([*lines, f"y, cache = {layer.name}.naive.forward({', '.join(passed)})"])
