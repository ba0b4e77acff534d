"""The floating arrays that a layer reaches, where their gradients lie, and which of them y depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.adapters import _places
from verify.adapters._names import PARAMETERS, canonical, likeness, short_name
from verify.adapters._places import MISSING, Path, Step, is_floating, parsed, read, walk, write
from verify.adapters._state import same_results

# From this likeness on a name alone is too weak: the shapes must agree as well.
_WEAK = 3
# How far an array is moved, relative to its entries and to its largest one. The first move keeps signs.
_MOVES = ((1.0, 0.125), (-0.75, -0.5))
_ELSEWHERE = (0.5, 0.25)


class Parameter(NamedTuple):
    """A parameter: its name, all places of its array, and the place of its gradient.

    `gradient` is None if backward returns the gradient.
    """

    name: str
    paths: tuple[Path, ...]
    gradient: Path | None

    def value(self, root: Any) -> np.ndarray:
        """Return a copy of the parameter's array."""
        return np.array(read(root, self.paths[0]))

    def put(self, root: Any, value: np.ndarray) -> None:
        """Let all places of the parameter refer to this array, or to its number if there is a number."""
        for path in self.paths:
            write(root, path, _as_number(value, read(root, path)))


class Group(NamedTuple):
    """An array with all places that refer to it, the nearest first."""

    paths: tuple[Path, ...]
    array: np.ndarray

    def under(self, paths: Iterable[Path]) -> bool:
        """Whether one of the places lies at or inside one of these."""
        return any(place[: len(path)] == path for place in self.paths for path in paths)


def groups_of(root: Any) -> list[Group]:
    """Return the floating arrays that can be reached from a layer. An array under two names counts once."""
    found: dict[int, Group] = {}
    for path, value in walk(root):
        if is_floating(value):
            paths = found[id(value)].paths if id(value) in found else ()
            found[id(value)] = Group((*paths, path), value)
    return list(found.values())


def is_float(value: Any) -> bool:
    """Return whether it is a floating number, of Python or of NumPy."""
    return isinstance(value, (float, np.floating, np.complexfloating))


def _as_number(value: np.ndarray, before: Any) -> Any:
    """Return the array, or its number of the kind that stands there: one of Python's keeps x float32 in x * number."""
    if isinstance(before, np.generic):
        return value[()]
    return value.item() if isinstance(before, (float, complex)) else value


def group_named(groups: Iterable[Group], name: str) -> Group | None:
    """Return the group that a path or a short name means."""
    groups, path = list(groups), parsed(name)
    for group in groups:
        if any(_keys(each) == _keys(path) for each in group.paths):
            return group
    return next((group for group in groups if any(short_name(each) == name for each in group.paths)), None)


def _keys(path: Path) -> tuple[Any, ...]:
    return tuple(step.key for step in path)


def display_names(groups: Sequence[Group], taken: Iterable[str]) -> list[str]:
    """Return a name for each group: the short one where it is free, else the path."""
    names: list[str] = []
    used = set(taken)
    for group in groups:
        short = next((name for name in map(short_name, group.paths) if name and name not in used), None)
        name = str(short or _places.text(group.paths[0]))
        if name in used:
            name = _places.text(group.paths[0]) if _places.text(group.paths[0]) not in used else f"self.{name}"
        names.append(name)
        used.add(name)
    return names


def paired(
    groups: Sequence[Group], places: Mapping[Path, Any], written: Callable[[Path], bool] = lambda path: True
) -> dict[int, Path]:
    """Return the place of the gradient for each group, by its number, where names and containers say it.

    Of several places the likeliest is taken, and one that backward writes to comes first. Of an array that several
    layers share each has a gradient, and these add up.
    """
    scored: list[tuple[bool, int, int, Path]] = []
    for k, group in enumerate(groups):
        for place, value in places.items():
            if place in group.paths or not _may_be_gradient(value):
                continue
            fits = [fit for path in group.paths if (fit := likeness(path, place)) is not None]
            if fits and (min(fits) < _WEAK or same_entries(np.shape(value), group.array.shape)):
                scored.append((not written(place), min(fits), k, place))
    found: dict[int, Path] = {}
    taken: set[Path] = set()
    for unwritten, fit, k, place in sorted(scored, key=lambda each: each[:3]):
        if k in found or place in taken:
            continue
        group = groups[k]
        shared = [
            other
            for *score, j, other in scored
            if (j, score) == (k, [unwritten, fit]) and len(other) == len(place) > 1 and other[:-1] != place[:-1]
        ]
        owners = {path[:-1] for path in group.paths}
        shared = [other for other in [place, *shared] if other[:-1] in owners]
        taken.update([place, *shared])
        found[k] = place if len(shared) < 2 else (Step("sum", tuple(shared)),)
    return found


def sharing(groups: Sequence[Group], layer: Any) -> list[Group]:
    """Return the groups whose arrays are views of other arrays, or have views, in the layer itself.

    A copy of the layer has them apart.
    """
    arrays = {path: value for path, value in walk(layer) if is_floating(value)}
    own = [(group, next((arrays[path] for path in group.paths if path in arrays), None)) for group in groups]
    return [
        group
        for group, array in own
        if array is not None
        and any(array is not other and np.may_share_memory(array, other) for other in arrays.values())
    ]


def _may_be_gradient(value: Any) -> bool:
    return value is None or value is MISSING or is_floating(value) or isinstance(value, (int, float, np.number))


def same_entries(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether two shapes only differ in axes of length 1."""
    return [size for size in one if size != 1] == [size for size in other if size != 1]


def fitted(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Return a gradient that only differs in axes of length 1 in this shape: (1, D) for (D,)."""
    if isinstance(gradient, (int, float)) and not isinstance(gradient, bool) and shape == ():
        return float(gradient)
    differs = isinstance(gradient, np.ndarray) and gradient.shape != shape
    return gradient.reshape(shape) if differs and same_entries(gradient.shape, shape) else gradient


def expected_places(root: Any, groups: Sequence[Group]) -> dict[Path, Any]:
    """Return the places where a gradient is or may be left, by what is there and by the names in the code."""
    places: dict[Path, Any] = dict(walk(root))
    owners = [((), root), *((path, value) for path, value in places.items() if hasattr(value, "__dict__"))]
    for path, owner in owners:
        if not isinstance(owner, type):
            for name in _mentioned(type(owner)):
                places.setdefault((*path, Step("attribute", name)), MISSING)
    containers = [path for path, value in places.items() if value is MISSING or isinstance(value, dict)]
    for path in containers:
        if canonical(path[-1].key) in PARAMETERS:
            continue
        for group in groups:
            for each in group.paths:
                place = (*path, Step("item", each[-1].key))
                if len(each) >= len(path):
                    places.setdefault(place, MISSING)
    return places


def _mentioned(kind: type) -> set[str]:
    """Return the names in the code of a class and of its base classes."""
    functions = (value for each in kind.__mro__ for value in vars(each).values() if hasattr(value, "__code__"))
    return {name for function in functions for name in function.__code__.co_names}


def that_matter(
    root: Any,
    groups: Sequence[Group],
    others: Sequence[Group],
    call: Callable[[int], Sequence[np.ndarray]],
    inputs: int,
) -> list[Group]:
    """Return the groups that y depends on: moved before a forward, they change what it returns.

    `call(k)` runs the forward on the layer at the k-th of the inputs to try. An exception counts as a change. Each
    group is also moved while it and the others are elsewhere: at a weight of 0 y does not depend on the one before it.
    """
    groups = [group for group in groups if group.array.size]
    found: list[Group] = []
    for elsewhere in (False, True):
        if not groups:
            break
        with _moved(root, [*groups, *others], _ELSEWHERE) if elsewhere else contextlib.nullcontext():
            expected = [call(k) for k in range(inputs)]
            if not all(same_results(call(k), expected[k]) for k in range(inputs)):
                return found  # random: nothing can be said
            for each in [groups, *([group] for group in groups)] if len(groups) > 1 else [groups]:
                if not _matters(root, each, call, expected):
                    if len(each) == len(groups):
                        break
                elif len(each) == 1:
                    found += each
        groups = [group for group in groups if all(group is not each for each in found)]
    return found


def _matters(
    root: Any, groups: Sequence[Group], call: Callable[[int], Sequence[np.ndarray]], expected: Sequence[Any]
) -> bool:
    for move in _MOVES:
        with _moved(root, groups, move):
            if not all(same_results(call(k), each) for k, each in enumerate(expected)):
                return True
    return False


@contextlib.contextmanager
def _moved(root: Any, groups: Sequence[Group], move: tuple[float, float]) -> Iterator[None]:
    """Give these arrays other entries inside the with block."""
    generator = np.random.default_rng(0)
    before = [group.array.copy() for group in groups]
    for group, array in zip(groups, before, strict=True):
        _write_entries(root, group, moved_array(array, move, generator))
    try:
        yield
    finally:
        for group, array in zip(groups, before, strict=True):
            _write_entries(root, group, array)


def moved_array(array: np.ndarray, move: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Return an array with other entries than these."""
    scale = float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) or 1.0
    factors = generator.uniform(0.5, 1.0, array.shape)
    with np.errstate(all="ignore"):
        return np.asarray((array + factors * (move[0] * array + move[1] * scale)).astype(array.dtype))


def _write_entries(root: Any, group: Group, entries: np.ndarray) -> None:
    group.array.flags.writeable = group.array.flags.writeable or group.array.flags.owndata
    if group.array.flags.writeable:
        group.array[...] = entries
    else:
        for path in group.paths:
            write(root, path, entries)
