"""The promises of a layer besides right numbers, one function for each. CONTRACTS has them all by name.

Each function takes a call of the layer and a generator. It raises ContractError, with the broken promise.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.checker.arguments import argument_names
from verify.checker.layer import ContractError, is_floating
from verify.checker.point import Array


class Call(NamedTuple):
    """One call of a layer, with its results."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[[Array, Any], Sequence[Array | None]]
    arrays: tuple[Any, ...]
    options: Mapping[str, Any]
    y: Array
    cache: Any
    dy: Array
    # The dtypes that the layer must keep.
    dtypes: Sequence[Any] = (np.float32, np.float64, np.complex128)

    @classmethod
    def of(
        cls,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Array, Any], Sequence[Array | None]],
        arrays: Sequence[Any],
        options: Mapping[str, Any],
        generator: np.random.Generator,
    ) -> Call:
        """Run the forward on copies of the arrays, and draw a dy of signed integers."""
        copies = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in arrays)
        y, cache = forward(*copies, **options)
        dy = np.asarray(generator.integers(-9, 10, y.shape)).astype(y.dtype)
        return cls(forward, backward, copies, options, y, cache, dy)

    def gradients(self, dy: Array | None = None) -> list[tuple[str, Array]]:
        """Return the gradients with their names, without those that are None."""
        returned = self.backward(self.dy if dy is None else dy, self.cache)
        gradients = [returned] if isinstance(returned, np.ndarray) else list(returned)
        if len(gradients) == len(self.arrays):  # backward may return None for arrays without a gradient
            gradients = [g for g, a in zip(gradients, self.arrays, strict=True) if a is None or is_floating(a)]
        named = zip(self.names, gradients, strict=False)
        return [(name, gradient) for name, gradient in named if gradient is not None]

    def anew(self) -> Call:
        """The call with a forward of its own: a backward may change what the next one of a forward reads."""
        y, cache = self.forward(*self.arrays, **self.options)
        return self._replace(y=y, cache=cache)

    @property
    def floating(self) -> list[Array]:
        """The arrays that have a gradient."""
        return [a for a in self.arrays if is_floating(a)]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the gradients, for arrays that are differentiable or None."""
        names = argument_names(self.forward, len(self.arrays))
        return tuple(
            f"d{name}" for name, array in zip(names, self.arrays, strict=True) if array is None or is_floating(array)
        )

    def cast(self, dtype: Any) -> tuple[Any, ...]:
        """Return the arrays, with the floating ones in this dtype."""
        return tuple(a.astype(dtype) if is_floating(a) else a for a in self.arrays)


def arguments_are_left_alone(call: Call, generator: np.random.Generator) -> None:
    """Neither forward nor backward writes to an argument, and both accept read-only arrays."""
    frozen = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in call.arrays)
    dy = call.dy.copy()
    for array in (*frozen, dy):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    who = "forward"
    try:
        _, cache = call.forward(*frozen, **call.options)
        who = "backward"
        call.backward(dy, cache)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise _broken("input-overwritten", f"{who} writes to its argument {_written(call, who)}") from error
    names = argument_names(call.forward, len(frozen))
    for name, before, now in zip((*names, "dy"), (*call.arrays, call.dy), (*frozen, dy), strict=True):
        if isinstance(now, np.ndarray) and not np.array_equal(before, now, equal_nan=True):
            raise _broken("input-overwritten", f"the layer writes to {name}, although it is read-only")


def _written(call: Call, who: str) -> str:
    """Return the names of the arrays that a call changes, or a guess where it writes what was there."""
    arrays, dy = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in call.arrays), call.dy.copy()
    _, cache = call.forward(*arrays, **call.options)
    if who == "backward":
        call.backward(dy, cache)
    names = argument_names(call.forward, len(arrays))
    pairs = zip((*names, "dy"), (*call.arrays, call.dy), (*arrays, dy), strict=True)
    changed = [
        name
        for name, before, now in pairs
        if isinstance(now, np.ndarray) and not np.array_equal(before, now, equal_nan=now.dtype.kind in "fc")
    ]
    return ", ".join(changed) or ("dy, or to a cached array" if who == "backward" else " or ".join(names))


def gradients_alias_nothing(call: Call, generator: np.random.Generator) -> None:
    """No gradient shares memory with an argument, with dy, y, or another gradient."""
    gradients = call.gradients()
    others = [("an argument", a) for a in call.floating] + [("dy", call.dy), ("y", call.y)]
    for position, (name, gradient) in enumerate(gradients):
        for other, array in others + gradients[:position]:
            if np.shares_memory(gradient, array):
                raise _broken("aliased", f"{name} shares memory with {other}")


def any_layout_of_dy_serves(call: Call, generator: np.random.Generator) -> None:
    """The memory layout of dy (reversed, strided, broadcast, read-only) only changes the order of roundings."""
    expected = call.gradients()
    terms = _terms(call)
    for layout, dy in _layouts(call.dy):
        _same(expected, call.anew().gradients(dy), "dy-layout", f"with dy {layout}", terms=terms)
    if call.dy.ndim:
        broadcast = np.broadcast_to(call.dy[..., :1], call.dy.shape) if call.dy.size else call.dy
        plain = call.anew().gradients(broadcast.copy())
        _same(plain, call.anew().gradients(broadcast), "dy-layout", "with dy broadcast", terms=terms)


def any_layout_of_the_arrays_serves(call: Call, generator: np.random.Generator) -> None:
    """The memory layout of the arrays only changes the order of roundings."""
    expected = call.gradients()
    for k, array in enumerate(call.arrays):
        if not isinstance(array, np.ndarray):
            continue
        for layout, view in _layouts(array):
            y, cache = call.forward(*call.arrays[:k], view, *call.arrays[k + 1 :], **call.options)
            gradients = call._replace(y=y, cache=cache).gradients()
            when = f"with array {k} {layout}"
            _same([("y", call.y), *expected], [("y", y), *gradients], "layout", when, terms=_terms(call))


def a_second_backward_gives_the_same(call: Call, generator: np.random.Generator) -> None:
    """Backward accumulates nothing and leaves its cache usable."""
    first = [(name, gradient.copy()) for name, gradient in call.gradients()]
    second = [(name, gradient.copy()) for name, gradient in call.gradients()]
    if not _restored(call, first, second):
        _same(first, second, "accumulates", "the second time")
    _same(first, second, "cache-overwritten", "the second time")
    for _, gradient in call.gradients():
        if isinstance(gradient, np.ndarray):  # a scalar cannot be written to
            gradient[...] = 7
    _same(first, call.gradients(), "cache-overwritten", "after its results were overwritten")


def _restored(call: Call, first: Sequence[tuple[str, Array]], second: Sequence[tuple[str, Array]]) -> bool:
    """Whether a new forward gives the first gradients again, and the second are not what adding up makes of them."""
    anew = call.anew().gradients()
    pairs = [(one, two) for (_, one), (_, two) in zip(first, second, strict=True)]
    added = all(np.array_equal(two, one) or np.array_equal(two, 2 * one) for one, two in pairs)
    return not added and all(np.array_equal(one, other) for (_, one), (_, other) in zip(first, anew, strict=True))


def another_forward_disturbs_nothing(call: Call, generator: np.random.Generator) -> None:
    """Forward A, forward B, backward A gives the gradients of A."""
    expected = [(name, gradient.copy()) for name, gradient in call.gradients()]
    for change in (lambda a: np.asarray(1 - a), np.flip):
        others = [change(a) if is_floating(a) else a for a in call.arrays]
        with contextlib.suppress(Exception):  # 1 - a may leave the domain of the layer; reversed entries do not
            call.forward(*others, **call.options)
            break
    _same(expected, call.gradients(), "stale-cache", "after another forward")


def the_same_call_gives_the_same_result(call: Call, generator: np.random.Generator) -> None:
    """Forward and backward are deterministic, bit for bit."""
    again = Call.of(call.forward, call.backward, call.arrays, call.options, generator)._replace(dy=call.dy)
    _same([("y", call.y), *call.gradients()], [("y", again.y), *again.gradients()], "random", "when called again")


def backward_is_linear_in_dy(call: Call, generator: np.random.Generator) -> None:
    """Backward is linear: B(one - 3 two) = B(one) - 3 B(two), and B(0) = 0."""
    one, two = (np.asarray(generator.integers(-9, 10, call.y.shape)).astype(call.y.dtype) for _ in range(2))
    for name, gradient in call.anew().gradients(np.zeros_like(one)):
        if np.any(gradient != 0):
            raise _broken("not-linear", f"{name} is not 0 where dy is 0")
    parts = zip(*(call.anew().gradients(dy) for dy in (one, two, one - 3 * two)), strict=True)
    for (name, first), (_, second), (_, both) in parts:
        scale = float(np.abs(first).max(initial=0.0)) + 3 * float(np.abs(second).max(initial=0.0))
        # Relative to the scale, rounding is about eps and a nonlinearity about 1. sqrt(eps) is halfway in digits.
        coarsest = max(np.finfo(each.dtype).eps for each in (call.y, first))
        tolerance = math.sqrt(coarsest) * scale
        error = float(np.abs(first - 3 * second - both).max(initial=0.0))
        if not error <= tolerance:
            raise _broken(
                "not-linear", f"{name} is not linear in dy: off by {error:.3g} where entries reach {scale:.3g}"
            )


def dtypes_and_shapes_are_kept(call: Call, generator: np.random.Generator) -> None:
    """Each gradient has the shape and dtype of its argument, and y has the dtype, for each dtype of the call."""
    for dtype in call.dtypes:
        arrays = call.cast(dtype)
        y, cache = call.forward(*arrays, **call.options)
        if y.dtype != dtype:
            raise _broken("wrong-dtype", f"y has dtype {y.dtype} for arrays of {np.dtype(dtype)}")
        cast = call._replace(arrays=arrays, y=y, cache=cache, dy=call.dy.astype(dtype))
        arrays_of = {
            f"d{name}": array for name, array in zip(argument_names(call.forward, len(arrays)), arrays, strict=True)
        }
        for name, gradient in cast.gradients():
            array = arrays_of[name]
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
        backward_is_linear_in_dy,
        dtypes_and_shapes_are_kept,
    )
}


def _layouts(array: Array) -> Iterator[tuple[str, Array]]:
    """Yield views and copies of an array with other memory layouts. A scalar has none."""
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


def _terms(call: Call) -> int:
    """Return the largest number of terms in a sum of the layer. Their order may change (Higham 2002, section 4.2)."""
    return int(max([call.y.size, *(array.size for array in call.floating)]))


def _same(
    expected: Sequence[tuple[str, Array]], found: Sequence[tuple[str, Array]], code: str, when: str, *, terms: int = 0
) -> None:
    """Raise ContractError unless the arrays are equal up to the rounding of sums of `terms` terms."""
    for (name, right), (_, got) in zip(expected, found, strict=True):
        scale = float(np.nan_to_num(np.abs(right)).max(initial=0.0))
        tolerance = terms * float(np.finfo(right.dtype).eps) * scale
        close = np.isclose(got, right, rtol=0, atol=tolerance, equal_nan=True)
        if got.shape != right.shape or not close.all():
            raise _broken(code, f"{name} differs {when}")


def _broken(code: str, explanation: str) -> ContractError:
    return ContractError(code, None, None, explanation)
