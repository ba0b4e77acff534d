"""The layer under test, called with care: counted, its arguments guarded, its answers inspected."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.gradcheck.certificate import Cause, StructureError
from verify.gradcheck.exact_numbers import Array, mantissa_bits
from verify.gradcheck.locate import not_finite

Arrays = Sequence[Array | None]


class ContractError(Exception):
    """The layer broke its contract: the gradient cannot even be compared."""

    def __init__(self, code: str, position: int | None, argument: str | None, explanation: str) -> None:
        super().__init__(explanation)
        self.position = position
        self.cause = Cause(code, argument, explanation)


class Subject:
    """A pair (forward, backward) at a point, the arrays, with the positions to check."""

    def __init__(
        self,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Array, Any], Sequence[Array | None]],
        arrays: Sequence[Any],
        options: Mapping[str, Any] | None,
        wrt: Sequence[int] | None,
    ) -> None:
        self._forward, self._backward = forward, backward
        # Copies, so that a layer that writes to its arguments cannot spoil the caller's.
        numbers = (np.asarray(a) if isinstance(a, (float, np.generic)) else a for a in arrays)
        self.arrays: tuple[Any, ...] = tuple(_copies(list(numbers)))
        self.options = dict(options or {})
        self.names = argument_names(forward, len(self.arrays))
        self.differentiable = tuple(
            position for position, array in enumerate(self.arrays) if array is None or _is_floating(array)
        )
        self.wrt = self._positions(wrt)
        self.held = tuple(k for k in self.differentiable if k not in self.wrt and self.arrays[k] is not None)
        # Of several dtypes the coarsest decides what is exact.
        self.dtype = min((self.arrays[k].dtype for k in self.wrt), key=mantissa_bits)
        self.calls = {"forward": 0, "backward": 0}

    def _positions(self, wrt: Sequence[int] | None) -> tuple[int, ...]:
        floating = tuple(k for k in self.differentiable if self.arrays[k] is not None)
        if wrt is not None and not isinstance(wrt, (tuple, list)):
            raise TypeError(f"wrt must be a sequence of positions, got {wrt!r}")
        for position in floating if wrt is None else wrt:
            if not isinstance(position, (int, np.integer)) or not 0 <= position < len(self.arrays):
                raise ValueError(f"wrt must hold positions in the {len(self.arrays)} arrays, got {wrt!r}")
            if position not in floating:
                array = self.arrays[position]
                what = "None" if array is None else f"dtype {getattr(array, 'dtype', type(array).__name__)}"
                raise TypeError(f"wrt={wrt!r}: {self.names[position]} is no floating array, but {what}")
            if np.iscomplexobj(self.arrays[position]):
                raise TypeError(f"{self.names[position]} is complex; gradients are checked at real arrays")
            index = not_finite(self.arrays[position])
            if index is not None:
                where = f"{self.names[position]}[{', '.join(map(str, index))}]"
                raise ValueError(f"{where} is {self.arrays[position][index]}: arrays must be finite")
        chosen = floating if wrt is None else tuple(int(k) for k in dict.fromkeys(wrt))
        if not chosen:
            why = "wrt is empty" if wrt is not None else f"none of the {len(self.arrays)} arrays is floating"
            raise ValueError(f"nothing to check: {why}")
        return chosen

    def with_array(self, arrays: Arrays, position: int, array: Array) -> tuple[Array | None, ...]:
        """The arrays with one of them replaced."""
        return (*arrays[:position], array, *arrays[position + 1 :])

    def moved(self, arrays: Arrays, position: int, step: Array) -> tuple[Array | None, ...]:
        """The arrays with a step added to one of them, in its dtype."""
        array: Any = arrays[position]
        return self.with_array(arrays, position, np.asarray(array + step.astype(array.dtype)))

    def complex_value(self, arrays: Arrays, position: int, step: Array) -> Array:
        """The forward's y at complex128 arrays, one of them moved by i * step; StructureError if it refuses them."""
        as_complex: list[Any] = [np.asarray(array, np.complex128) if _is_floating(array) else array for array in arrays]
        as_complex[position] = np.asarray(as_complex[position] + 1j * step)
        with warnings.catch_warnings():
            # A forward that casts to real numbers is told by its derivative, zero, not by a warning.
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            try:
                return self.value(as_complex)
            except Exception as error:  # a forward may refuse in any way it likes
                raise StructureError(f"the forward refuses complex arrays: {error}") from error

    def value(self, arrays: Arrays) -> Array:
        """The forward's y."""
        return self.value_and_cache(arrays)[0]

    def pull_back(self, arrays: Arrays, dy: Array, cache: Any) -> dict[int, Array]:
        """The backward's gradient for each position in wrt; ContractError where it breaks the contract."""
        given, before = dy.copy(), _copies(arrays)
        self.calls["backward"] += 1
        gradients = self._backward(given, cache)
        self._unchanged([*arrays, given], [*before, dy], "backward")
        if not isinstance(gradients, (tuple, list)):
            raise ContractError(
                "gradient-count", None, None, f"backward must return a tuple, got {type(gradients).__name__}"
            )
        gradients = self._without_places_of_integers(gradients)
        expected = len(self.differentiable)
        surplus = gradients[expected:]
        if len(gradients) < expected or any(extra is not None for extra in surplus):
            names = ", ".join(self.names[k] for k in self.differentiable)
            raise ContractError(
                "gradient-count", None, None, f"backward returned {len(gradients)} gradients for {expected}: {names}"
            )
        by_position = dict(zip(self.differentiable, gradients, strict=False))
        return {k: self._inspect(k, by_position[k]) for k in self.wrt}

    def _without_places_of_integers(self, gradients: Sequence[Array | None]) -> Sequence[Array | None]:
        """The gradients less the None that stand for integer arrays, where there is one for every array."""
        others = [k for k in range(len(self.arrays)) if k not in self.differentiable]
        if len(gradients) == len(self.arrays) and others and all(gradients[k] is None for k in others):
            return [gradients[k] for k in self.differentiable]
        return gradients

    def value_and_cache(self, arrays: Arrays) -> tuple[Array, Any]:
        """The forward's y and cache; the cache is what `pull_back` takes."""
        before = _copies(arrays)
        self.calls["forward"] += 1
        result = self._forward(*arrays, **self.options)
        self._unchanged(arrays, before, "forward")
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"forward must return (y, cache), got {type(result).__name__}")
        y, cache = result
        if not isinstance(y, (np.ndarray, np.generic)) or not np.issubdtype(y.dtype, np.inexact):
            raise TypeError(f"forward must return a floating array y, got {getattr(y, 'dtype', type(y).__name__)}")
        return np.array(y), cache  # a copy: the forward may write its next y to the same place

    def _unchanged(self, arrays: Sequence[Any], before: Sequence[Any], who: str) -> None:
        for position, (now, then) in enumerate(zip(arrays, before, strict=True)):
            if isinstance(now, np.ndarray) and not _same(now, then):
                given = position < len(self.names)
                name = self.names[position] if given else "dy"
                np.copyto(now, then)
                raise ContractError(
                    "input-overwritten", position if given else None, name, f"{who} wrote to its argument {name}"
                )

    def _inspect(self, position: int, gradient: Any) -> Array:
        array, name = self.arrays[position], self.names[position]
        if not isinstance(gradient, (np.ndarray, np.generic)):
            raise ContractError("no-gradient", position, name, f"d{name} is {type(gradient).__name__}, not an array")
        if gradient.shape != array.shape:
            raise ContractError(
                "wrong-shape", position, name, f"d{name} has shape {gradient.shape}, {name} has {array.shape}"
            )
        if gradient.dtype != array.dtype:
            raise ContractError(
                "wrong-dtype", position, name, f"d{name} has dtype {gradient.dtype}, {name} has {array.dtype}"
            )
        return np.asarray(gradient)


def _copies(arrays: Sequence[Any]) -> list[Any]:
    return [array.copy() if isinstance(array, np.ndarray) else array for array in arrays]


def _same(now: Array, then: Array) -> bool:
    """Whether nothing was written, NaN or not; the comparison that minds NaN is slow."""
    return bool((now == then).all()) or np.array_equal(now, then, equal_nan=now.dtype.kind in "fc")


def _is_floating(array: Any) -> bool:
    return isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.inexact)


def argument_names(forward: Callable[..., Any], count: int) -> tuple[str, ...]:
    """The forward's own names for its arrays, where its signature tells them; else arg0, arg1, ...

    A forward that has a method `argument_names(count)` is asked for them: a signature holds no "conv.weight".
    """
    if hasattr(forward, "argument_names"):
        return tuple(forward.argument_names(count))
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(names[k] if k < len(names) else f"arg{k}" for k in range(count))
