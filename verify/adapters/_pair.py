"""The pair (forward, backward) that every adapter makes, with the names and the parameters of its layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from verify.checker.arguments import argument_names
from verify.checker.calls import shown
from verify.checker.certificate import Certificate, Uncovered
from verify.checker.check import gradcheck
from verify.checker.layer import kinds
from verify.checker.point import Array

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Input(NamedTuple):
    """An argument that a forward takes by position."""

    name: str
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether the argument has no default."""
        return self.default is inspect.Parameter.empty


class UnknownArgument(ValueError):
    """A name or position that does not belong to an array of the layer."""


@dataclass(frozen=True)
class Forward:
    """`call(*inputs, *parameters, **options) -> (y, cache)`, with the names for the certificate.

    `inputs` is the user's own signature. `parameters` are the arrays that the layer owns, by name. They come
    after the inputs. `made` is the expression that makes the pair of `layer`, for the lines that reproduce a failure.
    `uncovered()` says what the adapter left out of the check.
    """

    call: Callable[..., tuple[Array, Any]]
    inputs: tuple[Input, ...] = ()
    parameters: Mapping[str, Array] = field(default_factory=dict)
    made: str = ""
    layer: Any = None
    uncovered: Callable[[], tuple[Uncovered, ...]] = tuple

    def __call__(self, *arrays: Any, **options: Any) -> tuple[Array, Any]:
        return self.call(*arrays, **options)

    def argument_names(self, count: int) -> tuple[str, ...]:
        """Return the names of `count` arrays, the parameters last."""
        given = max(0, count - len(self.parameters))
        names = [each.name for each in self.inputs[:given]]
        names += [f"arg{k}" for k in range(len(names), given)]
        return (*names, *self.parameters)[:count]


class Pair(NamedTuple):
    """The forward and backward of a layer, for `gradcheck(*pair, pair.arrays(inputs))`."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[[Array, Any], Sequence[Array | None]]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The positional arguments of the forward, without those for parameters."""
        return self.forward.inputs if isinstance(self.forward, Forward) else positional(self.forward)

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The arrays that the layer owns, by name. A pair of plain functions has none."""
        return self.forward.parameters if isinstance(self.forward, Forward) else {}

    def arrays(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Return the inputs and then the parameters, in a dtype at least as fine as that of the inputs."""
        floating = [each.dtype for each in inputs if isinstance(each, np.ndarray) and each.dtype.kind in "fc"]
        parameters = [array.astype(np.result_type(array, *floating)) for array in self.parameters.values()]
        return (*inputs, *parameters)

    def filled(self, values: Mapping[int, Any]) -> Pair:
        """Return a pair of the remaining arguments. `values` fixes the others by their position among the inputs."""

        def call(*arrays: Any, **options: Any) -> tuple[Array, Any]:
            others = iter(arrays)
            places = range(len(arrays) + len(values))
            return self.forward(*(values[k] if k in values else next(others) for k in places), **options)

        inputs = tuple(each for k, each in enumerate(self.inputs) if k not in values)
        asked = getattr(self.forward, "uncovered", tuple)
        made, layer = (getattr(self.forward, name, default) for name, default in (("made", ""), ("layer", None)))
        made = f"{made}.filled({dict(values)!r})" if made else ""
        return Pair(Forward(call, inputs, self.parameters, made, layer, asked), self.backward)

    def bound(self, inputs: Sequence[Any]) -> tuple[Pair, tuple[Any, ...], list[int]]:
        """Return a pair that only takes arrays, these arrays, and their positions among inputs and parameters.

        Inputs that are neither an array nor None become fixed arguments of the pair.
        """
        places = [k for k, each in enumerate(inputs) if each is None or isinstance(each, (np.ndarray, np.generic))]
        names = argument_names(self.forward, len(inputs) + len(self.parameters))
        values = {k: each for k, each in enumerate(inputs) if k not in places}
        pair = self.filled(values) if values else self
        if isinstance(pair.forward, Forward):  # a name for each, even if the signature has none
            pair = pair._replace(forward=replace(pair.forward, inputs=tuple(Input(names[k]) for k in places)))
        arrays = pair.arrays([None if inputs[k] is None else np.asarray(inputs[k]) for k in places])
        return pair, arrays, places + list(range(len(inputs), len(names)))


def check(
    pair: Pair,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None,
    *,
    wrt: Sequence[int | str] | None = None,
    run: Callable[..., Certificate] = gradcheck,
    **settings: Any,
) -> Certificate:
    """Check a pair at these inputs and at its own parameters. `wrt` takes positions and names.

    Inputs that are not arrays (a stride, a string) are passed to the layer unchanged. `run` is called in the place of
    `verify.gradcheck`, with the same arguments.
    """
    if not isinstance(inputs, (tuple, list)):
        raise TypeError(f"inputs must be a tuple of arrays, as in (x,), got {shown(inputs)}")
    bound, arrays, places = pair.bound(inputs)
    if inputs and not arrays:
        given = kinds(argument_names(pair.forward, len(inputs)), inputs)
        raise ValueError(f"nothing to check: none of the inputs ({given}) is an array that this adapter knows")
    positions = None if wrt is None else _positions(wrt, argument_names(bound.forward, len(arrays)), places)
    return run(*bound, arrays, options, wrt=positions, **settings)


def _positions(wrt: Any, names: tuple[str, ...], places: list[int]) -> tuple[int, ...]:
    """Return the positions of arrays given by name, or by position among all inputs and parameters."""
    if isinstance(wrt, (str, int)):
        raise TypeError(f"wrt must be a sequence of names or positions, as in [{wrt!r}], got {wrt!r}")
    found = []
    for each in wrt:
        known: Sequence[int | str] = names if isinstance(each, str) else places
        if each not in known:
            raise UnknownArgument(f"wrt holds {each!r}, which is none of the arrays: {', '.join(names)}")
        found.append(known.index(each))
    return tuple(found)


def positional(function: Callable[..., Any] | inspect.Signature) -> tuple[Input, ...]:
    """Return the positional arguments of a function, or nothing if it has no signature."""
    try:
        signature = function if isinstance(function, inspect.Signature) else inspect.signature(function)
    except (TypeError, ValueError):
        return ()
    parameters = (each for each in signature.parameters.values() if each.kind in _POSITIONAL)
    return tuple(Input(each.name, each.default) for each in parameters)


def made_of(target: type) -> Any:
    """Return an instance of a class, or raise TypeError if it cannot be made without arguments."""
    try:
        return target()
    except TypeError as error:
        raise TypeError(f"{target.__name__} cannot be made without arguments, give an instance: {error}") from error
