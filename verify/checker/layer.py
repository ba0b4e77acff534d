"""The layer under test, called with care: counted, its arguments guarded, its answers inspected."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.checker.arguments import argument_names, check_call, check_wrt, is_complex, is_floating, kinds
from verify.checker.certificate import Cause, StructureError
from verify.checker.exact_numbers import Array, mantissa_bits
from verify.checker.locate import not_finite

Arrays = Sequence[Array | None]
_LARGE = 1 << 20
_WEIGHTS = np.random.default_rng(0).normal(size=1024)


class ContractError(Exception):
    """The layer broke its contract: the gradient cannot even be compared."""

    def __init__(self, code: str, position: int | None, argument: str | None, explanation: str) -> None:
        super().__init__(explanation)
        self.position = position
        self.cause = Cause(code, argument, explanation)


class NoResult(ContractError, ValueError):
    """A call that came to nothing: forward or backward raised, or forward returned no (y, cache).

    At arrays that an oracle made it may only say where the function's domain ends: hence a ValueError.
    """


class ForwardRaised(NoResult):
    """The forward raised: where these are the caller's own arrays and options, it refuses the call."""


class LayerUnderTest:
    """A pair (forward, backward) at a point, the arrays, with the positions to check."""

    def __init__(
        self,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Array, Any], Sequence[Array | None]],
        arrays: Sequence[Any],
        options: Mapping[str, Any] | None,
        wrt: Sequence[int] | None,
    ) -> None:
        signature = check_call(forward, backward, arrays, options)
        self._forward, self._backward = forward, backward
        # The caller's own: what a layer writes to them is undone (see `_mark`).
        self.arrays: tuple[Any, ...] = tuple(np.asarray(a) if isinstance(a, (float, np.generic)) else a for a in arrays)
        self.options = dict(options or {})
        self.names = argument_names(forward, len(self.arrays), signature)
        self.differentiable = tuple(
            position for position, array in enumerate(self.arrays) if array is None or is_floating(array)
        )
        self.wrt = self._positions(wrt)
        self.held = tuple(k for k in self.differentiable if k not in self.wrt and self.arrays[k] is not None)
        # Of several dtypes the coarsest decides what is exact.
        self.dtype = min((self.arrays[k].dtype for k in self.wrt), key=mantissa_bits)
        self.calls = {"forward": 0, "backward": 0}
        self._shapes: dict[tuple[tuple[int, ...] | None, ...], tuple[int, ...]] = {}

    def _positions(self, wrt: Sequence[int] | None) -> tuple[int, ...]:
        floating = tuple(k for k in self.differentiable if self.arrays[k] is not None)
        if wrt is not None:
            check_wrt(wrt, len(self.arrays))
        for position in floating if wrt is None else wrt:
            if position not in floating:
                array = self.arrays[position]
                what = "None" if array is None else f"dtype {getattr(array, 'dtype', type(array).__name__)}"
                raise TypeError(f"wrt={wrt!r}: {self.names[position]} is no floating array, but {what}")
            if np.iscomplexobj(self.arrays[position]):
                raise TypeError(f"{self.names[position]} is complex; gradients are checked at real arrays")
            if self.arrays[position].dtype.itemsize > 8:
                dtype = self.arrays[position].dtype
                raise TypeError(f"{self.names[position]} has dtype {dtype}: at most float64 is checked")
            index = not_finite(self.arrays[position])
            if index is not None:
                where = f"{self.names[position]}[{', '.join(map(str, index))}]"
                hint = "; `wrt` leaves out what is only held, as a mask of -inf is" if wrt is None else ""
                raise ValueError(f"{where} is {self.arrays[position][index]}: arrays must be finite{hint}")
        chosen = floating if wrt is None else tuple(int(k) for k in wrt)
        if not chosen:
            given = f" ({kinds(self.names, self.arrays)})" if self.arrays else ""
            why = "wrt is empty" if wrt is not None else f"none of the {len(self.arrays)} arrays is floating{given}"
            raise ValueError(f"nothing to check: {why}")
        return chosen

    def with_options(self, changed: Mapping[str, Any]) -> LayerUnderTest:
        """The same subject (a call counts as its own), with some options changed."""
        other = copy.copy(self)
        other.options, other._shapes = {**self.options, **changed}, {}
        return other

    def with_array(self, arrays: Arrays, position: int, array: Array) -> tuple[Array | None, ...]:
        """The arrays with one of them replaced."""
        return (*arrays[:position], array, *arrays[position + 1 :])

    def moved(self, arrays: Arrays, position: int, step: Array) -> tuple[Array | None, ...]:
        """The arrays with a step added to one of them, in its dtype."""
        array: Any = arrays[position]
        return self.with_array(arrays, position, np.asarray(array + step.astype(array.dtype)))

    def complex_value(self, arrays: Arrays, position: int, step: Array) -> Array:
        """The forward's y at complex128 arrays, one of them moved by i * step; StructureError if it refuses them."""
        as_complex: list[Any] = [np.asarray(array, np.complex128) if is_floating(array) else array for array in arrays]
        as_complex[position] = np.asarray(as_complex[position] + 1j * step)
        with warnings.catch_warnings():
            # A forward that casts to real numbers is told by its derivative, zero, not by a warning.
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            try:
                return self.value(as_complex)
            except NoResult as fault:  # a forward may refuse in any way it likes
                raise StructureError(f"the forward refuses complex arrays: {fault.__cause__ or fault}") from fault

    def value(self, arrays: Arrays) -> Array:
        """The forward's y."""
        return self.value_and_cache(arrays)[0]

    def pull_back(self, arrays: Arrays, dy: Array, cache: Any) -> dict[int, Array]:
        """The backward's gradient for each position in wrt; ContractError where it breaks the contract."""
        gradients = self._guarded("backward", [*arrays, dy], dy, cache)
        if not isinstance(gradients, (tuple, list)):
            raise ContractError(
                "gradient-count", None, None, f"backward must return a tuple, got {type(gradients).__name__}"
            )
        gradients = self._without_places_of_integers(gradients)
        expected = len(self.differentiable)
        if len(gradients) < expected or any(extra is not None for extra in gradients[expected:]):
            names = ", ".join(self.names[k] for k in self.differentiable)
            raise ContractError(
                "gradient-count", None, None, f"backward returned {len(gradients)} gradients for {expected}: {names}"
            )
        by_position = dict(zip(self.differentiable, gradients, strict=False))
        return {k: self._inspect(k, by_position[k]) for k in self.wrt}

    def _without_places_of_integers(self, gradients: Sequence[Array | None]) -> Sequence[Array | None]:
        """The gradients less the None that stand for integer arrays, where there is one for every array."""
        if len(self.differentiable) == len(self.arrays) or len(gradients) != len(self.arrays):
            return gradients
        if any(gradients[k] is not None for k in range(len(self.arrays)) if k not in self.differentiable):
            return gradients
        return [gradients[k] for k in self.differentiable]

    def value_and_cache(self, arrays: Arrays) -> tuple[Array, Any]:
        """The forward's y and cache; the cache is what `pull_back` takes."""
        y, cache = self.borrowed(arrays)
        return np.array(y), cache  # a copy: the forward may write its next y to the same place

    def borrowed(self, arrays: Arrays) -> tuple[Array, Any]:
        """The same, but y is good only until the next call."""
        # Of arrays without axes arithmetic makes scalars; the layer gets arrays.
        arrays = [np.asarray(array) if isinstance(array, np.generic) else array for array in arrays]
        result = self._guarded("forward", arrays, *arrays, **self.options)
        if not isinstance(result, tuple) or len(result) != 2:
            got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
            raise _no_result(f"forward must return (y, cache), got {got}")
        y, cache = result
        if not isinstance(y, (np.ndarray, np.generic)) or y.dtype.kind not in "fc":
            raise _no_result(f"forward must return a floating array y, got {getattr(y, 'dtype', type(y).__name__)}")
        if y.dtype.kind == "c" and not any(is_complex(arrays[k]) for k in self.wrt):
            raise _no_result(f"forward returned y of {y.dtype} for real arrays: return both parts, in one real array")
        before_that = self._shapes.setdefault(tuple(getattr(a, "shape", None) for a in arrays), y.shape)
        if before_that != y.shape:
            raise _no_result(
                f"forward returned y of shape {y.shape}, and before of {before_that}, for arrays of the same shapes"
            )
        return np.asarray(y), cache

    def fault(self) -> ContractError | None:
        """What the layer does wrong at the arrays as they were given, twice; None if nothing."""
        try:
            for _ in range(2):
                y, cache = self.value_and_cache(self.arrays)
                self.pull_back(self.arrays, np.ones_like(y), cache)
        except ContractError as fault:
            return fault
        return None

    def is_random(self) -> bool:
        """Whether any two of five calls of the forward, with the arrays as they were given, differ."""
        try:
            first, *others = (self.value(self.arrays) for _ in range(5))
        except NoResult:  # of one that answers at times
            return True
        return not all(np.array_equal(first, other, equal_nan=True) for other in others)

    def call(self, who: str, arrays: Arrays, *arguments: Any, **options: Any) -> Any:
        """Forward or backward, counted; NoResult, from what it raised, says where."""
        self.calls[who] += 1
        try:
            return (self._forward if who == "forward" else self._backward)(*arguments, **options)
        except ContractError:  # of an adapter, which knows better
            raise
        except Exception as error:
            fault = ForwardRaised if who == "forward" else NoResult
            where = kinds(self.names, arrays)
            raise fault("raised", None, None, f"{who} raised {_told(error)} at arrays {where}") from error

    def _guarded(self, who: str, given: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        """The same; what is written to the arrays given is undone, and a ContractError."""
        marks = [self._mark(array) for array in given]
        try:
            result = self.call(who, given, *arguments, **options)
        finally:
            written = self._restored(given, marks)
        for position in written:
            its_own = position < len(self.names)
            name = self.names[position] if its_own else "dy"
            told = f"{who} wrote to its argument {name}"
            raise ContractError("input-overwritten", position if its_own else None, name, told)
        return result

    def _mark(self, array: Any) -> Any:
        """What tells if an array was written to: its bytes, or of a large one that is not the caller's a checksum."""
        if not isinstance(array, np.ndarray):
            return None
        if array.nbytes < _LARGE or any(array is own for own in self.arrays):
            return array.tobytes()
        return _checksum(array) if array.flags.c_contiguous and array.dtype.kind == "f" else array.tobytes()

    def _restored(self, arrays: Sequence[Any], marks: Sequence[Any]) -> list[int]:
        """The places of the arrays that were written to; those whose bytes are known are as they were again."""
        written = [k for k, mark in enumerate(marks) if mark is not None and not _same(arrays[k], mark)]
        for k in written:
            if isinstance(marks[k], bytes):
                arrays[k][...] = _from_bytes(marks[k], arrays[k])
        return written

    def _inspect(self, position: int, gradient: Any) -> Array:
        array, name = self.arrays[position], self.names[position]
        if not isinstance(gradient, (np.ndarray, np.generic)):
            raise ContractError("no-gradient", position, name, f"d{name} is {type(gradient).__name__}, not an array")
        if gradient.shape != array.shape:
            raise ContractError(
                "wrong-shape", position, name, f"d{name} has shape {gradient.shape}, {name} has {array.shape}"
            )
        dtype = gradient.dtype
        if dtype != array.dtype and dtype.newbyteorder("=") != array.dtype.newbyteorder("="):
            raise ContractError("wrong-dtype", position, name, f"d{name} has dtype {dtype}, {name} has {array.dtype}")
        # A copy, in the byte order NumPy computes in: the backward may write its next gradients to the same place.
        return np.array(gradient, dtype if dtype.isnative else dtype.newbyteorder("="))


def _checksum(array: Array) -> Array:
    """A random combination of every thousand entries: less work, and less memory, than a copy.

    Exchanged entries show, and so does a change of one by a 10^13th of the largest beside it.
    """
    flat = array.reshape(-1)
    whole = flat.size // len(_WEIGHTS) * len(_WEIGHTS)
    with np.errstate(all="ignore"):
        return np.append(flat[:whole].reshape(-1, len(_WEIGHTS)) @ _WEIGHTS.astype(array.dtype), flat[whole:])


def _same(now: Array, mark: bytes | Array) -> bool:
    """Whether nothing was written; 0 in the place of -0 is nothing."""
    if isinstance(mark, np.ndarray):
        return np.array_equal(_checksum(now), mark, equal_nan=True)
    return now.tobytes() == mark or np.array_equal(now, _from_bytes(mark, now), equal_nan=now.dtype.kind in "fc")


def _from_bytes(mark: bytes, like: Array) -> Array:
    return np.frombuffer(mark, like.dtype).reshape(like.shape)


def _no_result(explanation: str) -> NoResult:
    return NoResult("forward-result", None, None, explanation)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
