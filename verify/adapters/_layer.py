"""A copy of a layer, called as a pure function of its inputs and its parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.adapters import _places
from verify.adapters._calls import Form, gradients_of
from verify.adapters._names import is_rate, short_name
from verify.adapters._pair import positional
from verify.adapters._parameters import (
    Group,
    Parameter,
    display_names,
    expected_places,
    fitted,
    group_named,
    groups_of,
    is_float,
    paired,
)
from verify.adapters._places import MISSING, Path, duplicate, is_floating, parsed, read
from verify.adapters._state import Snapshot
from verify.adapters._updates import UPDATE, subtracted
from verify.checker.certificate import Uncovered
from verify.checker.layer import ContractError
from verify.checker.point import Array


class Spec(NamedTuple):
    """What the caller says of a layer."""

    parameters: Sequence[str] | Mapping[str, str | None] | None = None
    fixed: Sequence[str] = ()
    reset: str | None = None
    backward_options: Mapping[str, Any] | None = None


class _Cache(NamedTuple):
    inputs: tuple[Any, ...]
    options: Mapping[str, Any]
    values: tuple[Any, ...]
    results: tuple[Any, ...]
    own: Any
    left: Snapshot


def means(name: str, group: Group) -> bool:
    """Return whether a name, or a path such as params["W"] or layer.W, leads to this array or to what holds it."""
    keys = [step.key for step in parsed(name)]
    return any([step.key for step in path[: len(keys)]] == keys or short_name(path) == name for path in group.paths)


def _of_python(gradient: Any, like: Any) -> Any:
    """Return a number of Python's as an array, in the dtype of what it is the gradient of: it has none itself."""
    if not isinstance(gradient, float) or isinstance(gradient, np.generic):
        return gradient
    return np.asarray(gradient, getattr(like, "dtype", like))


class PlainLayer:
    """A layer whose copy is called. The layer itself is never called, so it stays as it is."""

    def __init__(self, target: Any, spec: Spec) -> None:
        self.target, self.spec = target, spec
        self.root = duplicate(target)
        self.inputs = positional(target.forward)
        required = [each.name for each in positional(target.backward) if each.required]
        self.form = Form(takes_cache=len(required) == 2 and not is_rate(required[1]))
        self.learnt = self.replayed = False
        self.kept: tuple[Path, ...] = ()
        self.tried: list[Any] = []  # another copy, whose groups are looked through
        self.results = 1  # those that are part of y
        self.states: tuple[str, ...] = ()  # parameters that forward changes
        self.stale = ""
        self.most_gradients: int | None = None  # more of them belong to parameters whose order is not known
        self.unchecked: list[Uncovered] = []
        self.ungraded: tuple[str, ...] = ()
        self.instead: tuple[tuple[str, ...], ...] = ()  # other inputs to which the gradients may belong
        self.remarks: dict[str, str] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}  # those that parameters had last, where it was another
        shared = {id(value) for _, value in _places.walk(target) if is_floating(value)}
        shared &= {id(value) for _, value in _places.walk(self.root)}
        self.home = Snapshot(target) if shared or self.root is target else None
        self.start = Snapshot(self.root)
        self.parameters = self._static()
        self.placed_by_code = {each.name: each.gradient for each in self.parameters}  # known without any call

    def _static(self) -> tuple[Parameter, ...]:
        """The parameters that the names in the layer and in its code show, before any call."""
        groups = groups_of(self.root)
        found = self.named(groups, missing=False)
        rest = [group for group in groups if all(group is not each for each, _ in found)]
        gradients = paired(rest, expected_places(self.root, rest))
        return self.made(found + [(rest[k], gradients[k]) for k in sorted(gradients)])

    def named(self, groups: Sequence[Group], *, missing: bool = True) -> list[tuple[Group, Path | None]]:
        """Return the parameters that the caller named, with the places of their gradients.

        Raises ValueError for a name that means no floating array. Unless `missing`, one that the code of the layer
        mentions is left out: a forward may make it.
        """
        found: list[tuple[Group, Path | None]] = []
        given = self.spec.parameters or ()
        for name in given:
            value = read(self.root, parsed(name))
            group = group_named(groups, name) or self._of_property(groups, name)
            if group is None and is_float(value):
                group = Group((parsed(name),), np.array(float(value)))
            if group is None:
                code = expected_places(self.root, ())
                if not missing and (value is None or (value is MISSING and parsed(name)[:1] in code)):
                    continue
                what = "no such attribute" if value is MISSING else type(value).__name__
                kind = type(self.target).__name__
                raise ValueError(f"parameter {name!r} of {kind} must be a floating array, got {what}")
            gradient = given[name] if isinstance(given, Mapping) else None
            found.append((group, None if gradient is None else parsed(gradient)))
        return found

    def _of_property(self, groups: Sequence[Group], name: str) -> Group | None:
        """The group whose array a property of this name returns."""
        values = [read(root, parsed(name)) for root in (self.root, *self.tried)]
        return next((group for group in groups if any(group.array is value for value in values)), None)

    def made(self, found: Sequence[tuple[Group, Path | None]]) -> tuple[Parameter, ...]:
        """Return these parameters with their names, less the fixed ones."""
        kept = [(group, gradient) for group, gradient in found if not self.is_fixed(group)]
        names = display_names([group for group, _ in kept], [each.name for each in self.inputs])
        return tuple(
            Parameter(name, group.paths, gradient) for name, (group, gradient) in zip(names, kept, strict=True)
        )

    def is_fixed(self, group: Group) -> bool:
        """Return whether the caller says that this array has no gradient."""
        return any(means(name, group) for name in self.spec.fixed)

    def put(self, state: Snapshot, values: Sequence[Any]) -> None:
        """Put back what the layer keeps between calls, and set the parameters to copies of these values.

        Before a backward, a state has the value that its forward left.
        """
        for path in self.kept:
            state.restore(self.root, path)
        for parameter, value in zip(self.parameters, values, strict=True):
            if state is self.start or parameter.name not in self.states:
                self._follow(parameter, np.asarray(value).dtype)
                parameter.put(self.root, np.array(value))

    def _follow(self, parameter: Parameter, dtype: np.dtype[Any]) -> None:
        """Give the array that backward fills with a gradient the dtype of its parameter, as in a layer made anew."""
        known = self.dtypes.get(parameter.name, parameter.value(self.root).dtype)
        if dtype.kind != "f" or dtype == known:
            return
        self.dtypes[parameter.name] = dtype
        gradient: Any = None if parameter.gradient in (None, UPDATE) else read(self.root, parameter.gradient or ())
        if is_floating(gradient) and gradient.dtype == known:
            filled = gradient.astype(dtype)
            for path in [path for path, value in _places.walk(self.root) if value is gradient]:
                _places.write(self.root, path, filled)

    def call_reset(self) -> None:
        """Call the method that the caller named."""
        if self.spec.reset is not None:
            getattr(self.root, self.spec.reset)()

    def forward(self, *arrays: Any, **options: Any) -> tuple[Any, _Cache]:
        """Return y and the cache for `backward`."""
        split = len(arrays) - len(self.parameters)
        inputs, values = arrays[:split], arrays[split:]
        self.put(self.start, values)
        if self.replayed:
            self.call_reset()
        results, own = self.form.results_of(self.root.forward(*inputs, **options))
        left = Snapshot(self.root, self.kept)
        return self.form.y_of(results), _Cache(inputs, options, values, results, own, left)

    def backward(self, dy: Array, cache: _Cache, of: Sequence[str] = ()) -> tuple[Any, ...]:
        """Return the gradients of the inputs, and then those of the parameters.

        `of` are the inputs to which the gradients belong, if backward returns that many and no more.
        """
        if self.stale:
            raise ContractError("stale-cache", None, None, self.stale)
        given = {each.name: value for each, value in zip(self.inputs, cache.inputs, strict=False)}

        def call(more: Mapping[str, Any]) -> Any:
            own = cache.own
            if self.replayed:
                self.put(self.start, cache.values)
                self.call_reset()
                _, own = self.form.results_of(self.root.forward(*cache.inputs, **cache.options))
            else:
                self.put(cache.left, cache.values)
                self.call_reset()
            return self.form.call_backward(self.root.backward, dy, cache.results, own, given, more)

        updated = [each for each in self.parameters if each.gradient == UPDATE]
        if not updated:
            return self.gradients(call({}), cache.inputs, dy, of=of)
        before = [value for each, value in zip(self.parameters, cache.values, strict=True) if each in updated]
        returned, steps = subtracted(self.root, updated, before, call)
        by_name = dict(zip([each.name for each in updated], steps, strict=True))
        return self.gradients(returned, cache.inputs, dy, by_name, of)

    def gradients(
        self,
        returned: Any,
        inputs: Sequence[Any],
        dy: Array,
        steps: Mapping[str, Array] | None = None,
        of: Sequence[str] = (),
    ) -> tuple[Any, ...]:
        """Return one gradient for each differentiable input and for each parameter, in order."""
        names = [each.name for each in self.inputs]
        places = [k for k, each in enumerate(inputs) if each is None or is_floating(each)]
        items, named = gradients_of(
            returned, [names[k] for k in places if k < len(names)], [each.name for each in self.parameters]
        )
        extra = sum(each.gradient is None and each.name not in named for each in self.parameters)
        if len(items) == len(inputs) + extra > len(places) + extra:
            whole = [k for k in range(len(inputs)) if k not in places]
            if all(items[k] is None for k in whole):  # a place for each integer array as well
                items = [items[k] for k in range(len(items)) if k not in whole]
        if 0 < len(of) == len(items) - extra < len(places):
            known = [names[k] if k < len(names) else f"arg{k}" for k in places]
            items = [items[of.index(name)] if name in of else None for name in known] + items[len(of) :]
        own, rest = items[: len(places)], items[len(places) : self.most_gradients]
        own += [None] * (len(places) - len(own))
        found = []
        for each in self.parameters:
            if each.gradient == UPDATE:
                gradient: Any = (steps or {}).get(each.name)
            elif each.gradient is not None:
                gradient = read(self.root, each.gradient)
            else:
                gradient = named[each.name] if each.name in named else rest.pop(0) if rest else None
            found.append(self._fitted(each, None if gradient is MISSING else gradient))
        # Copies, because the next backward may write to the same arrays.
        left = [gradient.copy() if isinstance(gradient, np.ndarray) else gradient for gradient in found]
        scale: Callable[[Any], Any] = (lambda each: each * dy) if self.form.upstream == "none" else (lambda each: each)
        gradients = [None if each is None else scale(each) for each in (*own, *left, *rest)]
        kinds = [*(inputs[k] for k in places), *(self.dtypes.get(each.name) for each in self.parameters)]
        return tuple(_of_python(each, kind) for each, kind in itertools.zip_longest(gradients, kinds))

    def _fitted(self, parameter: Parameter, gradient: Any) -> Any:
        shape = parameter.value(self.root).shape
        made = fitted(gradient, shape)
        if isinstance(gradient, np.ndarray) and made is not gradient:
            self.remarks[parameter.name] = f"backward gives it the shape {gradient.shape}, with the same entries"
        return made

    def uncovered(self) -> tuple[Uncovered, ...]:
        """Return what the check left out. A layer that cannot be copied gets its own values back."""
        if self.home is not None:
            for path in self.home.changed(Snapshot(self.target)):
                self.home.restore(self.target, path)
        return tuple(self.unchecked)
