"""What a layer owes its callers besides right numbers, one function a promise.

Each takes a pair (forward, backward), the arrays and options of one call, and a generator, and
raises ContractError, which says what was broken. CONTRACTS names them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.gradcheck.exact_numbers import Array
from verify.gradcheck.subject import ContractError, argument_names


class Call(NamedTuple):
    """One call of a layer, and what it returned."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[[Array, Any], Sequence[Array | None]]
    arrays: tuple[Any, ...]
    options: Mapping[str, Any]
    y: Array
    cache: Any
    dy: Array

    @classmethod
    def of(
        cls,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Array, Any], Sequence[Array | None]],
        arrays: Sequence[Any],
        options: Mapping[str, Any],
        generator: np.random.Generator,
    ) -> Call:
        """Run the forward on copies of the arrays, and draw signed integers for its upstream gradient."""
        copies = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in arrays)
        y, cache = forward(*copies, **options)
        dy = np.asarray(generator.integers(-9, 10, y.shape)).astype(y.dtype)
        return cls(forward, backward, copies, options, y, cache, dy)

    def gradients(self, dy: Array | None = None) -> list[tuple[str, Array]]:
        """The gradients with their names, those that are None left out."""
        named = zip(self.names, self.backward(self.dy if dy is None else dy, self.cache), strict=False)
        return [(name, gradient) for name, gradient in named if gradient is not None]

    @property
    def floating(self) -> list[Array]:
        """The arrays that have a gradient."""
        return [a for a in self.arrays if a is not None and np.issubdtype(a.dtype, np.inexact)]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the gradients, for the arrays that are differentiable or None."""
        names = argument_names(self.forward, len(self.arrays))
        return tuple(
            f"d{name}"
            for name, array in zip(names, self.arrays, strict=True)
            if array is None or np.issubdtype(array.dtype, np.inexact)
        )


def arguments_are_left_alone(call: Call, generator: np.random.Generator) -> None:
    """Neither forward nor backward writes to an argument; read-only arrays serve."""
    frozen = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in call.arrays)
    dy = call.dy.copy()
    for array in (*frozen, dy):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    try:
        _, cache = call.forward(*frozen, **call.options)
        call.backward(dy, cache)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise _broken("input-overwritten", f"it writes to an argument: {error}") from error
    for before, now in zip((*call.arrays, call.dy), (*frozen, dy), strict=True):
        if isinstance(now, np.ndarray) and not np.array_equal(before, now, equal_nan=True):
            raise _broken("input-overwritten", "it writes to an argument, read-only or not")


def gradients_alias_nothing(call: Call, generator: np.random.Generator) -> None:
    """No gradient shares memory with an argument, with dy, y, or another gradient."""
    gradients = call.gradients()
    others = [("an argument", a) for a in call.floating] + [("dy", call.dy), ("y", call.y)]
    for position, (name, gradient) in enumerate(gradients):
        for other, array in others + gradients[:position]:
            if np.shares_memory(gradient, array):
                raise _broken("aliased", f"{name} shares memory with {other}")


def any_layout_of_dy_serves(call: Call, generator: np.random.Generator) -> None:
    """The memory layout of dy does not matter: transposed, reversed, strided, broadcast, read-only."""
    expected = call.gradients()
    for layout, dy in _layouts(call.dy):
        _same(expected, call.gradients(dy), "dy-layout", f"with dy {layout}")
    if call.dy.ndim:
        broadcast = np.broadcast_to(call.dy[..., :1], call.dy.shape) if call.dy.size else call.dy
        _same(call.gradients(broadcast.copy()), call.gradients(broadcast), "dy-layout", "with dy broadcast")


def any_layout_of_the_arrays_serves(call: Call, generator: np.random.Generator) -> None:
    """The memory layout of the arrays does not matter, but for the order of roundings."""
    expected = call.gradients()
    for k, array in enumerate(call.arrays):
        if not isinstance(array, np.ndarray):
            continue
        for layout, view in _layouts(array):
            y, cache = call.forward(*call.arrays[:k], view, *call.arrays[k + 1 :], **call.options)
            gradients = call._replace(y=y, cache=cache).gradients()
            # Sums of at most this many terms, in another order (Higham 2002, section 4.2).
            terms = max([y.size, *(a.size for a in call.arrays if a is not None)])
            _same([("y", call.y), *expected], [("y", y), *gradients], "layout", f"with array {k} {layout}", terms=terms)


def a_second_backward_gives_the_same(call: Call, generator: np.random.Generator) -> None:
    """Backward accumulates nothing, and does not use up its cache."""
    first = [(name, gradient.copy()) for name, gradient in call.gradients()]
    _same(first, call.gradients(), "accumulates", "the second time")
    for _, gradient in call.gradients():
        gradient[...] = 7
    _same(first, call.gradients(), "accumulates", "after its results were overwritten")


def another_forward_disturbs_nothing(call: Call, generator: np.random.Generator) -> None:
    """Forward A, forward B, backward A gives the gradients of A."""
    expected = [(name, gradient.copy()) for name, gradient in call.gradients()]
    others = [1 - a if isinstance(a, np.ndarray) and np.issubdtype(a.dtype, np.inexact) else a for a in call.arrays]
    call.forward(*(np.asarray(a) if a is not None else a for a in others), **call.options)
    _same(expected, call.gradients(), "stale-cache", "after another forward")


def the_same_call_gives_the_same_result(call: Call, generator: np.random.Generator) -> None:
    """Forward and backward are deterministic, bit for bit."""
    again = Call.of(call.forward, call.backward, call.arrays, call.options, generator)._replace(dy=call.dy)
    _same([("y", call.y), *call.gradients()], [("y", again.y), *again.gradients()], "random", "when called again")


def dtypes_and_shapes_are_kept(call: Call, generator: np.random.Generator) -> None:
    """Each gradient has its argument's shape and dtype, in float32, float64 and complex128; y has the dtype."""
    for dtype in (np.float32, np.float64, np.complex128):
        arrays = [a.astype(dtype) if a is not None and np.issubdtype(a.dtype, np.inexact) else a for a in call.arrays]
        y, cache = call.forward(*arrays, **call.options)
        if y.dtype != dtype:
            raise _broken("wrong-dtype", f"y has dtype {y.dtype} for arrays of {np.dtype(dtype)}")
        cast = call._replace(arrays=tuple(arrays), y=y, cache=cache, dy=call.dy.astype(dtype))
        for (name, gradient), array in zip(cast.gradients(), cast.floating, strict=True):
            if gradient.dtype != dtype:
                raise _broken("wrong-dtype", f"{name} has dtype {gradient.dtype} for arrays of {np.dtype(dtype)}")
            if gradient.shape != array.shape:
                raise _broken("wrong-shape", f"{name} has shape {gradient.shape} for an array of {array.shape}")


CONTRACTS: dict[str, Callable[[Call, np.random.Generator], None]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        arguments_are_left_alone,
        gradients_alias_nothing,
        any_layout_of_dy_serves,
        any_layout_of_the_arrays_serves,
        a_second_backward_gives_the_same,
        another_forward_disturbs_nothing,
        the_same_call_gives_the_same_result,
        dtypes_and_shapes_are_kept,
    )
}


def _layouts(array: Array) -> Iterator[tuple[str, Array]]:
    """The same values in other layouts; a scalar has only one."""
    if not array.ndim:
        return
    yield "in Fortran order", np.asfortranarray(array)
    backwards = (slice(None, None, -1),) * array.ndim
    yield "negatively strided", array[backwards].copy()[backwards]
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    yield "strided", wide[..., 0]
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen


def _same(
    expected: Sequence[tuple[str, Array]], found: Sequence[tuple[str, Array]], code: str, when: str, *, terms: int = 0
) -> None:
    """Raise ContractError unless equal, or within the roundings of sums of `terms` terms."""
    for (name, right), (_, got) in zip(expected, found, strict=True):
        scale = float(np.nan_to_num(np.abs(right)).max(initial=0.0))
        tolerance = terms * float(np.finfo(right.dtype).eps) * scale
        close = np.isclose(got, right, rtol=0, atol=tolerance, equal_nan=True)
        if got.shape != right.shape or not close.all():
            raise _broken(code, f"{name} differs {when}")


def _broken(code: str, explanation: str) -> ContractError:
    return ContractError(code, None, None, explanation)
