"""The pair (forward, backward) that every adapter makes, with the names and the parameters of its layer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from verify.checker.arguments import argument_names, shown
from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Certificate,
    CheckError,
    GradientMismatch,
    Inconclusive,
    Uncovered,
)
from verify.checker.layer import kinds
from verify.checker.point import Array
from verify.entry import gradcheck
from verify.records import record, silently

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

    `at(inputs, options)` returns the pair again, with what calls at these inputs show. `notes()` has a sentence for
    some arguments by name. `ungraded` are inputs that have no gradient. `alone` makes the pair of each result alone.
    `of(names)` is a backward whose gradients belong to the inputs of these names, if it returns that many. `instead`
    holds other inputs to which they may belong. `instance()` is the object that is called: the layer, or a copy of it.
    """

    call: Callable[..., tuple[Array, Any]]
    inputs: tuple[Input, ...] = ()
    parameters: Mapping[str, Array] = field(default_factory=dict)
    made: str = ""
    layer: Any = None
    uncovered: Callable[[], tuple[Uncovered, ...]] = tuple
    at: Callable[[Sequence[Any], Mapping[str, Any]], Pair] | None = None
    notes: Callable[[], Mapping[str, str]] = dict
    ungraded: tuple[str, ...] = ()
    alone: Sequence[Callable[[], Pair]] = ()
    of: Callable[[Sequence[str]], Callable[..., Any]] | None = None
    instead: tuple[tuple[str, ...], ...] = ()
    instance: Callable[[], Any] | None = None

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
        forward = self.forward if isinstance(self.forward, Forward) else Forward(self.forward)
        made = f"{forward.made}.filled({dict(values)!r})" if forward.made else ""
        alone = [lambda each=each: each().filled(values) for each in forward.alone]
        return Pair(replace(forward, call=call, inputs=inputs, made=made, alone=alone), self.backward)

    def bound(
        self, inputs: Sequence[Any], options: Mapping[str, Any] | None = None
    ) -> tuple[Pair, tuple[Any, ...], list[int]]:
        """Return a pair that only takes arrays, these arrays, and their positions among inputs and parameters.

        Inputs that are neither an array nor None become fixed arguments of the pair.
        """
        if isinstance(self.forward, Forward) and self.forward.at is not None:
            known = self.forward.at(inputs, options or {})
            return known._replace(forward=replace(known.forward, at=None)).bound(inputs)  # type: ignore[type-var]
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
    **settings: Any,
) -> Certificate:
    """Check a pair at these inputs and at its own parameters. `wrt` takes positions and names.

    Inputs that are not arrays (a stride, a string) are passed to the layer unchanged. The setting `run` is called
    in the place of `verify.gradcheck`, with the same arguments.
    """
    __tracebackhide__ = True
    check_inputs(inputs)
    bound, arrays, places = pair.bound(inputs, options)
    if inputs and not arrays:
        given = kinds(_names_of(pair, inputs), inputs)
        raise ValueError(f"nothing to check: none of the inputs ({given}) is an array that this adapter knows")
    names = argument_names(bound.forward, len(arrays))
    positions: Sequence[int] | None = None if wrt is None else _positions(wrt, names, places)
    forward, backward = bound
    if isinstance(forward, Forward) and positions is not None:  # what is left out is left out on purpose
        asked, chosen = forward.uncovered, [names[k] for k in positions]
        left = lambda: tuple(e._replace(matters=False, remedy="") for e in asked() if e.name not in chosen)  # noqa: E731
        forward = replace(forward, uncovered=left, instead=())
        if forward.of is not None:
            backward = forward.of([name for name in chosen if name not in forward.parameters])
    elif isinstance(forward, Forward) and forward.ungraded:
        kinds_of = [getattr(each, "dtype", np.dtype(int)).kind for each in arrays]
        positions = [k for k, name in enumerate(names) if kinds_of[k] in "fc" and name not in forward.ungraded]
    return check_bound(Pair(forward, backward), arrays, options, wrt=positions, **settings)


def check_bound(
    pair: Pair,
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None,
    *,
    run: Callable[..., Certificate] = gradcheck,
    raise_on_failure: bool = True,
    **settings: Any,
) -> Certificate:
    """Check a pair that takes these arrays alone and, if an adapter made it, each of its results alone."""
    __tracebackhide__ = True
    if not isinstance(pair.forward, Forward):
        return run(*pair, arrays, options, raise_on_failure=raise_on_failure, **settings)
    with silently():  # what is recorded is the whole
        certificate, raised = _adapted(pair.backward, pair.forward, arrays, options, settings, run)
    record(pair.forward, certificate)
    if raise_on_failure and certificate.verdict != PASS:
        raise (GradientMismatch if certificate.verdict == FAIL else Inconclusive)(certificate) from raised
    return certificate


def _adapted(
    backward: Callable[..., Any],
    forward: Forward,
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    run: Callable[..., Certificate],
) -> tuple[Certificate, BaseException | None]:
    """Return the certificate of all results, or that of a wrong one alone; and what a backward raised."""
    certificate, raised = _result(run, forward, backward, arrays, options, settings)
    if certificate.verdict == FAIL and forward.of is not None and forward.instead:
        certificate = _of_others(certificate, forward, arrays, options, settings, run)
    for k, make in enumerate(forward.alone):
        if certificate.verdict == FAIL:
            break
        alone, failed = _result(run, *make(), arrays, options, settings)
        calls = {
            name: getattr(certificate, name) + getattr(alone, name) for name in ("forward_calls", "backward_calls")
        }
        if alone.verdict == FAIL:
            note = f"with the upstream gradient of result {k} alone, the others 0"
            results = [each._replace(note="; ".join(filter(None, (note, each.note)))) for each in alone.arguments]
            certificate, raised = replace(alone, arguments=tuple(results), uncovered=certificate.uncovered), failed
        certificate = replace(certificate, seconds=certificate.seconds + alone.seconds, **calls)
    notes = forward.notes()
    noted = [
        each._replace(note="; ".join(filter(None, (each.note, notes.get(each.name))))) for each in certificate.arguments
    ]
    uncovered = {each.name: each for each in certificate.uncovered}  # what the adapter says of a name comes last
    return replace(certificate, arguments=tuple(noted), uncovered=tuple(uncovered.values())), raised


def _of_others(
    failed: Certificate,
    forward: Forward,
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    run: Callable[..., Certificate],
) -> Certificate:
    """Return an INCONCLUSIVE certificate if the gradients are right for other inputs than the first, else the FAIL."""
    names = argument_names(forward, len(arrays))
    for others in forward.instead:
        wrt = [k for k, name in enumerate(names) if name in others or name in forward.parameters]
        found, _ = _result(run, forward, forward.of(others), arrays, options, {**settings, "wrt": wrt})  # type: ignore[misc]
        if FAIL in {each.verdict for each in found.arguments} or not found.arguments:
            continue
        first = [name for name in names[: len(names) - len(forward.parameters)] if name not in forward.ungraded]
        right, wrong = ", ".join(others), ", ".join(each for each in first if each not in others)
        why = f"backward returns a gradient that is right for {right}, and wrong for {wrong}"
        chosen = [*others, *forward.parameters]
        remedy = f"Write wrt={chosen!r} if it belongs to {right}, and wrt={[*first, *forward.parameters]!r} if not"
        said = [each for each in found.uncovered if each.name not in (*names, wrong)]
        return replace(found, verdict=INCONCLUSIVE, uncovered=(Uncovered(wrong, why, remedy, matters=True), *said))
    return failed


def _result(
    run: Callable[..., Certificate], forward: Any, backward: Any, arrays: Any, options: Any, settings: Mapping[str, Any]
) -> tuple[Certificate, BaseException | None]:
    """The certificate, whatever its verdict, and what a backward raised."""
    try:
        return run(forward, backward, arrays, options, **settings), None
    except CheckError as error:
        return error.certificate, error.__cause__
    except Exception:
        forward.uncovered()  # a layer that cannot be copied gets its own values back
        raise


def check_inputs(inputs: Any) -> None:
    """Raise TypeError unless the inputs are a tuple or a list."""
    if inspect.isclass(inputs) or inspect.isroutine(inputs):
        raise TypeError(
            f"the layer comes first, and then its inputs: gradcheck(layer, (x,)), got {shown(inputs)} second"
        )
    if not isinstance(inputs, (tuple, list)):
        raise TypeError(f"inputs must be a tuple, as in (x,), got {shown(inputs)}")


def _names_of(pair: Pair, inputs: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the inputs. The parameters come after them."""
    return argument_names(pair.forward, len(inputs) + len(pair.parameters))[: len(inputs)]


def refuse_tensors(pair: Pair, inputs: Any) -> None:
    """Raise TypeError for a tensor among the inputs of a layer that takes NumPy arrays: it would not be checked."""
    check_inputs(inputs)
    for name, each in zip(_names_of(pair, inputs), inputs, strict=False):
        if hasattr(each, "__array__") and not isinstance(each, (np.ndarray, np.generic)):
            text = "give NumPy arrays or, if it computes with tensors, use verify.adapters.torch or .jax"
            raise TypeError(f"{name} is {shown(each)}, and this layer is not known to take such: {text}")


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


def _plainly(error: TypeError) -> str:
    """Return Python's message about a call of a class without the name of the method."""
    return re.sub(r"^\S+\.__init__\(\) ", "", str(error))


def made_of(target: type) -> Any:
    """Return an instance of a class, or raise TypeError if it cannot be made without arguments."""
    try:
        return target()
    except TypeError as error:
        raise TypeError(
            f"{target.__name__} cannot be made without arguments, give an instance: {_plainly(error)}"
        ) from error
