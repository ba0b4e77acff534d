"""The layer under test, called with care: calls counted, arguments guarded, answers inspected."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.checker import guard
from verify.checker.point import Array, Arrays, StructureError

# Faults of one gradient, beside which those of the other arguments can be judged.
OF_ONE_GRADIENT = ("no-gradient", "wrong-shape", "wrong-dtype")
# A choice: the most characters quoted of what an exception says. It may hold a whole array.
_MOST_SAID = 240


class ContractError(Exception):
    """The layer broke its contract: its gradient cannot even be compared."""

    def __init__(self, code: str, position: int | None, argument: str | None, explanation: str) -> None:
        super().__init__(explanation)
        self.code, self.position, self.argument = code, position, argument


class NoResult(ContractError, ValueError):
    """A call without a result: forward or backward raised, or forward returned no (y, cache).

    At arrays that a reference made, this may only mean that the function's domain ends. Hence it is a ValueError.
    """


class ForwardRaised(NoResult):
    """The forward raised, or an adapter cannot ask backward. At the caller's own arrays: the call is refused."""


def is_floating(array: Any) -> bool:
    """Whether it is an array of floating or complex numbers: one that has a gradient."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "fc"


def is_complex(array: Any) -> bool:
    """Whether it is an array of complex numbers."""
    return is_floating(array) and array.dtype.kind == "c"


def kinds(names: Iterable[str], arrays: Iterable[Any]) -> str:
    """Names, dtypes and shapes of all arguments: "x float64 (2, 3), b NoneType"."""
    said = (f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__ for a in arrays)
    return ", ".join(map(" ".join, zip(names, said, strict=False)))


class LayerUnderTest:
    """A pair (forward, backward), the caller's arrays and options, and the positions `wrt` to check."""

    def __init__(
        self,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Array, Any], Sequence[Array | None]],
        arrays: tuple[Any, ...],
        options: Mapping[str, Any],
        names: tuple[str, ...],
        wrt: tuple[int, ...],
    ) -> None:
        self.forward, self.backward = forward, backward
        self.arrays, self.options, self.names, self.wrt = arrays, dict(options), names, wrt
        self.differentiable = tuple(k for k, array in enumerate(arrays) if array is None or is_floating(array))
        self.fixed = tuple(k for k in self.differentiable if k not in wrt and arrays[k] is not None)
        self.dtype = _coarsest(arrays[k].dtype for k in wrt)
        self.calls = {"forward": 0, "backward": 0}
        self.notes: dict[int | None, str] = {}  # remarks on a gradient's form, by position; on dy under None
        self.y_shapes: dict[tuple[tuple[int, ...] | None, ...], tuple[int, ...]] = {}  # by the shapes of the arrays
        self.first: Arrays | None = None  # the arrays of the first forward, unless they are large

    def with_options(self, changed: Mapping[str, Any]) -> LayerUnderTest:
        """This layer with some options changed; its calls are counted together with these."""
        other = copy.copy(self)
        other.options, other.y_shapes = {**self.options, **changed}, {}
        return other

    def at(self, arrays: Sequence[Any], wrt: tuple[int, ...]) -> LayerUnderTest:
        """This layer at other arrays, and the positions to check there; its calls and notes are kept together."""
        other = copy.copy(self)
        other.arrays, other.wrt = tuple(arrays), wrt
        other.dtype = _coarsest(other.arrays[k].dtype for k in wrt)
        return other

    def without(self, position: int) -> LayerUnderTest:
        """This layer with one argument fewer to check; its calls and notes are kept together with these."""
        return self.at(self.arrays, tuple(k for k in self.wrt if k != position))

    def with_array(self, arrays: Arrays, position: int, array: Array) -> tuple[Array | None, ...]:
        """The arrays with one of them replaced."""
        return (*arrays[:position], array, *arrays[position + 1 :])

    def moved(self, arrays: Arrays, position: int, step: Array) -> tuple[Array | None, ...]:
        """The arrays with a step added to one of them, in its dtype."""
        array: Any = arrays[position]
        moved = np.asarray(array + step.astype(array.dtype, copy=False))
        return (*arrays[:position], moved, *arrays[position + 1 :])

    def complex_value(self, arrays: Arrays, position: int, step: Array) -> Array:
        """The forward's y at complex128 arrays, one of them moved by i * step.

        StructureError if the forward refuses them, or drops imaginary parts: y written into `np.zeros(shape)` is real.
        """
        as_complex: list[Any] = [np.asarray(array, np.complex128) if is_floating(array) else array for array in arrays]
        as_complex[position] = np.asarray(as_complex[position] + 1j * step)
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            try:
                y = self.value(as_complex)
            except NoResult as fault:  # a forward may refuse in any way it likes
                raise StructureError(f"the forward refuses complex arrays: {fault.__cause__ or fault}") from fault
        if y.dtype.kind != "c":
            raise StructureError("the forward drops imaginary parts: its y is real for complex arrays")
        return y

    def value(self, arrays: Arrays) -> Array:
        """The forward's y."""
        return self.value_and_cache(arrays)[0]

    def pull_back(self, arrays: Arrays, dy: Array, cache: Any) -> dict[int, Array]:
        """The backward's gradient for each position in wrt; ContractError where it breaks the contract.

        Backward gets a copy of dy, unless that is large. What it writes there is noted, and its gradients are judged.
        """
        given = dy.copy() if dy.nbytes < guard.LARGE else dy
        gradients = self.call("backward", [*arrays, *([dy] if given is dy else [])], given, cache)
        if given is not dy and not np.array_equal(given, dy, equal_nan=True):
            self.notes[None] = "backward wrote to its argument dy"
        if isinstance(gradients, (np.ndarray, np.generic)) and len(self.differentiable) == 1:
            gradients = (gradients,)  # of one array, as in many tutorials
        if not isinstance(gradients, (tuple, list)):
            names = ", ".join(f"d{self.names[k]}" for k in self.differentiable)
            text = f"backward must return a tuple ({names}), got {type(gradients).__name__}"
            raise ContractError("gradient-count", None, None, text)
        if len(self.differentiable) < len(self.arrays) == len(gradients):
            gradients = self._without_places_of_integers(gradients)
        expected = len(self.differentiable)
        if len(gradients) < expected or any(extra is not None for extra in gradients[expected:]):
            names = ", ".join(f"d{self.names[k]}" for k in self.differentiable)
            text = f"backward must return ({names}), got {len(gradients)} gradient{'s' * (len(gradients) != 1)}"
            raise ContractError("gradient-count", None, None, text)
        by_position = dict(zip(self.differentiable, gradients, strict=False))
        return {k: self._inspect(k, by_position[k]) for k in self.wrt}

    def _without_places_of_integers(self, gradients: Sequence[Array | None]) -> Sequence[Array | None]:
        """The gradients less the None that stand for integer arrays, where there is one for every array."""
        if any(gradients[k] is not None for k in range(len(self.arrays)) if k not in self.differentiable):
            return gradients
        return [gradients[k] for k in self.differentiable]

    def value_and_cache(self, arrays: Arrays) -> tuple[Array, Any]:
        """The forward's y and cache; the cache is what `pull_back` takes."""
        y, cache = self.borrowed(arrays)
        return np.array(y), cache  # a copy: the forward may write its next y to the same place

    def borrowed(self, arrays: Arrays) -> tuple[Array, Any]:
        """The forward's y and cache, where y is good until the next call only."""
        # Arithmetic turns arrays without axes into scalars; the layer gets arrays.
        arrays = [np.asarray(array) if isinstance(array, np.generic) else array for array in arrays]
        if not self.calls["forward"] and sum(getattr(array, "nbytes", 0) for array in arrays) < guard.LARGE:
            self.first = tuple(array.copy() if isinstance(array, np.ndarray) else array for array in arrays)
        result = self.call("forward", arrays, *arrays, **self.options)
        if not isinstance(result, tuple) or len(result) != 2:
            got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
            raise _no_result(f"forward must return (y, cache), got {got}")
        y, cache = result
        y = np.float64(y) if isinstance(y, float) and not isinstance(y, np.generic) else y
        if not isinstance(y, (np.ndarray, np.generic)) or y.dtype.kind not in "fc":
            raise _no_result(f"forward must return a floating array y, got {getattr(y, 'dtype', type(y).__name__)}")
        if y.dtype.kind == "c" and not any(is_complex(arrays[k]) for k in self.wrt):
            raise _no_result(f"forward returned y of {y.dtype} for real arrays: return both parts, in one real array")
        before = self.y_shapes.setdefault(tuple(getattr(a, "shape", None) for a in arrays), y.shape)
        if before != y.shape:
            raise _no_result(f"forward returned y of shape {y.shape} after {before}, for arrays of the same shapes")
        return np.asarray(y), cache

    def fault(self) -> ContractError | None:
        """What the layer does wrong at the caller's arrays, called twice; None if nothing."""
        try:
            for _ in range(2):
                y, cache = self.value_and_cache(self.arrays)
                self.pull_back(self.arrays, np.ones_like(y), cache)
        except ContractError as fault:
            return fault
        return None

    def is_random(self) -> bool:
        """Whether any two of five calls of the forward at the caller's arrays differ."""
        try:
            first, *others = (self.value(self.arrays) for _ in range(5))
        except NoResult:  # it raises at times
            return True
        return not all(np.array_equal(first, other, equal_nan=True) for other in others)

    def call(self, who: str, given: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        """Call forward or backward, and count it. What it writes to its arguments is undone, and a ContractError.

        What it raises becomes a NoResult that says at which arrays.
        """
        self.calls[who] += 1
        marks = guard.marks(given, self.arrays)
        try:
            result = (self.forward if who == "forward" else self.backward)(*arguments, **options)
        except ContractError:  # an adapter knows better what went wrong
            raise
        except Exception as error:
            fault = ForwardRaised if who == "forward" else NoResult
            said = " ".join(str(error).split())[:_MOST_SAID]
            text = ": ".join(filter(None, (type(error).__name__, said)))
            raise fault("raised", None, None, f"{who} raised {text} at arrays {kinds(self.names, given)}") from error
        finally:
            written = guard.restored(given, marks)
        for position in written:
            own = position < len(self.names)
            name = self.names[position] if own else "dy"
            text = f"{who} wrote to its argument {name}"
            raise ContractError("input-overwritten", position if own else None, name, text)
        return result

    def _inspect(self, position: int, gradient: Any) -> Array:
        array, name = self.arrays[position], self.names[position]
        if not isinstance(gradient, (np.ndarray, np.generic)):
            kind = gradient if gradient is None else type(gradient).__name__
            raise ContractError("no-gradient", position, name, f"d{name} is {kind}, not an array")
        if {gradient.shape, array.shape} == {(array.size,), (1, array.size)}:
            self.notes[position] = f"d{name} has shape {gradient.shape}, {name} has {array.shape}: the same entries"
            gradient = gradient.reshape(array.shape)
        if gradient.shape != array.shape:
            text = f"d{name} has shape {gradient.shape}, {name} has {array.shape}"
            raise ContractError("wrong-shape", position, name, text)
        dtype = gradient.dtype
        if dtype != array.dtype and dtype.newbyteorder("=") != array.dtype.newbyteorder("="):
            raise ContractError("wrong-dtype", position, name, f"d{name} has dtype {dtype}, {name} has {array.dtype}")
        # A copy: the backward may write its next gradients to the same place. NumPy computes in native byte order.
        return np.array(gradient, dtype if dtype.isnative else dtype.newbyteorder("="))


def _coarsest(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """Of several dtypes the coarsest decides what is exact."""
    return min(dtypes, key=lambda dtype: np.finfo(dtype).nmant)


def _no_result(explanation: str) -> NoResult:
    return NoResult("forward-result", None, None, explanation)
