"""A call of a function of JAX on arrays: its results as one array y, and the gradients that jax.vjp gives.

Calls are compiled by jax.jit, because JAX dispatches each operation of a function that is not. Functions that jit
cannot trace, and those that differ between two calls, are called as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from verify.checker.certificate import Uncovered
from verify.checker.point import Array


class Results:
    """The results of a function that y is made of: all that are floating, or one of them.

    The first call decides. The others have no gradient, and `uncovered` says so.
    """

    def __init__(self, only: int | None = None) -> None:
        self.only = only
        self.names: list[tuple[int, str]] = []
        self.sizes: tuple[int, ...] = ()
        self.uncovered: list[Uncovered] = []

    def of(self, result: Any, *, real: bool) -> Any:
        """Return the only floating array of a result, or all of them as one vector.

        If `real`, a complex array is replaced by its real and imaginary parts.
        """
        found = [(_result_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(result)]
        floating = [k for k, (_, leaf) in enumerate(found) if is_floating(leaf)]
        if not floating:
            dtypes = ", ".join(_kind(leaf) for _, leaf in found) or "nothing"
            raise TypeError(f"forward must return a floating array, or several, got {dtypes}")
        if not self.names:
            self.names += [(k, found[k][0]) for k in floating]
            self.uncovered = [
                Uncovered(name, f"no gradient: {_kind(leaf)}")
                for k, (name, leaf) in enumerate(found)
                if k not in floating
            ]
        arrays = [jnp.asarray(found[k][1]) for k in (floating if self.only is None else [self.only])]
        if real:
            arrays = [jnp.stack([each.real, each.imag], axis=-1) if is_complex(each) else each for each in arrays]
        self.sizes = tuple(each.size for each in arrays)
        return arrays[0] if len(arrays) == 1 else jnp.concatenate([each.reshape(-1) for each in arrays])


def _result_name(path: Sequence[Any]) -> str:
    """Return "result 1" for result[1]."""
    name = "result" + re.sub(r"'([^'\"]*)'", r'"\1"', jax.tree_util.keystr(tuple(path)))
    return re.sub(r"^result\[(\d+)\]", r"result \1", name)


def _kind(leaf: Any) -> str:
    return str(getattr(leaf, "dtype", type(leaf).__name__))


class Tape(NamedTuple):
    """The cache of a forward: the vjp, whether it has 64 bits, and the position of each gradient in its result."""

    vjp: Any
    x64: bool
    order: tuple[int | None, ...]
    sizes: tuple[int, ...]
    compiled: bool

    def gradients(self, dy: Array) -> tuple[Array | None, ...]:
        """Return the gradient of each floating array, and None for an array that is None."""
        with jax.enable_x64(self.x64 or jax.config.jax_enable_x64):
            found = (_pulled_back if self.compiled else _pulled_back_plainly)(self.vjp, jnp.array(dy))
            return tuple(None if place is None else np.array(found[place]) for place in self.order)


def _pulled_back_plainly(vjp: Any, dy: Any) -> Any:
    return vjp(dy)


_pulled_back = jax.jit(_pulled_back_plainly)


class Caller:
    """A function whose calls are recorded, compiled where that changes nothing."""

    def __init__(self, function: Callable[..., Any], results: Results) -> None:
        self.function, self.results = function, results
        # For all that a compiled call depends on: the call, or None where it cannot be compiled.
        self._compiled: dict[Any, Callable[..., Any] | None] = {}
        self._sizes: dict[Any, tuple[int, ...]] = {}  # those at its first call, when it was traced
        self._repeatable: dict[Any, bool] = {}
        self._kept: list[Any] = []  # what is known by its identity must stay

    def record(self, arrays: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Array, Tape]:
        """Return y and the tape of a call."""
        x64 = any(isinstance(each, np.ndarray) and each.dtype in (np.float64, np.complex128) for each in arrays)
        with jax.enable_x64(x64 or jax.config.jax_enable_x64):
            given = [jnp.array(each) if isinstance(each, np.ndarray) else each for each in arrays]
            floating = [k for k, each in enumerate(given) if is_floating(each)]
            tensors = [given[k] for k in floating]
            plain = self._with_vjp(given, floating, options)
            key = (x64, *(self._key(each) for each in arrays), *((k, self._key(v)) for k, v in options.items()))
            y, vjp, sizes, compiled = self._called(key, plain, tensors)
        order = tuple(None if given[k] is None else floating.index(k) for k in range(len(given)) if _counts(given[k]))
        return np.array(y), Tape(vjp, x64, order, sizes, compiled)

    def _with_vjp(
        self, given: Sequence[Any], floating: Sequence[int], options: Mapping[str, Any]
    ) -> Callable[..., tuple[Any, Any]]:
        """Return the function of the floating arrays that returns y and its vjp."""
        real = any(is_floating(each) and not is_complex(each) for each in given)

        def of_floating(*tensors: Any) -> Any:
            filled = list(given)
            for k, tensor in zip(floating, tensors, strict=True):
                filled[k] = tensor
            return self.results.of(self.function(*filled, **options), real=real)

        return lambda *tensors: jax.vjp(of_floating, *tensors)

    def _called(
        self, key: Any, plain: Callable[..., Any], tensors: Sequence[Any]
    ) -> tuple[Any, Any, tuple[int, ...], bool]:
        """Return y, its vjp, the sizes of the results, and whether they come from a compiled call."""
        if key not in self._repeatable:
            self._repeatable[key] = _repeatable(plain, tensors)
        if not self._repeatable[key]:
            return (*plain(*tensors), self.results.sizes, False)
        signature = (key, *((each.shape, str(each.dtype)) for each in tensors))
        if signature not in self._compiled:
            self._compiled[signature] = jax.jit(plain)
        call = self._compiled[signature]
        if call is not None:
            try:
                y, vjp = call(*tensors)
                sizes = self._sizes.setdefault(signature, self.results.sizes)
                return y, vjp, sizes, True
            except Exception:  # what the function itself raises is raised below
                self._compiled[signature] = None
        return (*plain(*tensors), self.results.sizes, False)

    def _key(self, value: Any) -> Any:
        """What a compiled call depends on. Only floating arrays may change within one."""
        if isinstance(value, np.ndarray):
            return "array" if value.dtype.kind in "fc" else (str(value.dtype), value.shape, value.tobytes())
        if isinstance(value, (bool, int, float, str, type(None))):
            return type(value), value
        self._kept.append(value)
        return id(value)


def _repeatable(plain: Callable[..., Any], tensors: Sequence[Any]) -> bool:
    """Whether two calls give the same y and gradients. A random function that is compiled is random no more."""
    (y, vjp), (again, vjp_again) = plain(*tensors), plain(*tensors)
    if not np.array_equal(y, again, equal_nan=True):
        return False
    try:
        pairs = zip(vjp(jnp.ones_like(y)), vjp_again(jnp.ones_like(y)), strict=True)
        return all(np.array_equal(one, two, equal_nan=True) for one, two in pairs)
    except Exception:  # a backward at fault is told of when it is asked
        return True


def is_floating(value: Any) -> bool:
    """Whether it is an array of floating or complex numbers."""
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.inexact))


def is_complex(value: Any) -> bool:
    """Whether it is an array of complex numbers."""
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.complexfloating))


def _counts(value: Any) -> bool:
    """Return whether backward has an entry for this value: a gradient, or None for an array that is not given."""
    return value is None or is_floating(value)
