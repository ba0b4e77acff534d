"""A function with other options, or at other arrays.

Options of windows are found wherever a layer keeps them:

- among the options and defaults of the forward;
- in a dict that is an option;
- in the attributes of the layer that an adapter wraps, or whose method the forward is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

from verify.checker.layer import LayerUnderTest
from verify.checker.point import Array, Arrays, Point

T = TypeVar("T")

# The spellings that NumPy layers, PyTorch, Keras and ONNX have for an option of windows.
_SPELLINGS = {
    "stride": ("stride", "strides", "s"),
    "dilation": ("dilation", "dilations", "dilate", "dilation_rate"),
    "padding": ("padding", "pad", "pads", "p"),
    "groups": ("groups", "group"),
    "kernel": ("kernel_size", "kernel", "pool_size", "window", "filter_size"),
}
_NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
# A choice: a layer keeps its options in itself, in a dict, or in a layer within it.
_DEPTH = 3
_PLAIN = (0, 1, (1, 1), [1, 1])
_WINDOWED = ("stride", "dilation", "padding", "kernel")


class Place(NamedTuple):
    """Where an option stands: an option of the forward and the keys in it, or an owner and its attribute or key."""

    option: str | None
    keys: tuple[str, ...]
    owner: Any
    value: Any

    @property
    def where(self) -> str:
        """In words, empty for an option of the forward."""
        if self.option is None:
            return f" (the {self.keys[-1]} that the layer keeps)"
        return f" (in {self.option})" if self.keys else ""


def option_values(point: Point) -> dict[str, Any]:
    """The options of windows by name, and those the forward runs with, its defaults among them."""
    return {**{name: place.value for name, place in places(point).items()}, **_own_options(point)}


def windowed(point: Point) -> bool:
    """Whether the forward has an option of windows: its last two axes are then taken for height and width."""
    return any(name in places(point) for name in _WINDOWED)


def places(point: Point) -> dict[str, Place]:
    """Where each option of windows stands: among the options first, then in dicts, then in the layer's attributes.

    Of several places the first counts at which the option is not 0 or 1: a block may have a layer without a stride.
    """
    found: dict[str, Place] = {}
    for name, place in _all_places(point):
        if name not in found or found[name].value in _PLAIN:
            found[name] = place
    return found


def _all_places(point: Point) -> Iterator[tuple[str, Place]]:
    own = _own_options(point)
    for option, value in own.items():
        if option in _NAMES:
            yield _NAMES[option], Place(option, (), None, value)
    for option, value in own.items():
        if isinstance(value, Mapping):
            for keys, _, inner in _inside(value, ()):
                yield _NAMES[keys[-1]], Place(option, keys, None, inner)
    for root in _roots(point.layer.forward):
        for keys, owner, inner in _inside(root, ()):
            yield _NAMES[keys[-1]], Place(None, keys, owner, inner)


def at_arrays(point: Point, arrays: Arrays, dy: Array, layer: LayerUnderTest | None = None) -> Point:
    """A point at other arrays, and of another layer if one is given. Backward is not asked there."""
    layer = layer or point.layer
    return Point(layer, arrays, layer.value(arrays), dy, {}, point.step)


def at_options(point: Point, changed: Mapping[str, Any], arrays: Arrays | None = None) -> Point:
    """A point of the function with other options; its calls are counted together with the layer's."""
    return at_arrays(point, point.arrays if arrays is None else arrays, point.dy, _with_options(point, changed))


def guarded(found: Iterable[T]) -> Iterator[T]:
    """What is found until the layer, called with what nobody promised it, refuses in whatever way."""
    try:
        yield from found
    except Exception:
        return


def _own_options(point: Point) -> dict[str, Any]:
    try:
        parameters: Iterable[inspect.Parameter] = inspect.signature(point.layer.forward).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {**defaults, **point.layer.options}


def _with_options(point: Point, changed: Mapping[str, Any]) -> LayerUnderTest:
    """The layer with options changed where they stand; an option that stands nowhere is given to the forward."""
    known = places(point)
    options: dict[str, Any] = {}
    kept: list[tuple[Any, str, Any]] = []
    for name, value in changed.items():
        place = known.get(name, Place(name, (), None, None))
        if place.option is None:
            kept.append((place.owner, place.keys[-1], value))
        elif place.keys:
            whole = options.get(place.option, _own_options(point)[place.option])
            options[place.option] = _replaced(whole, place.keys, value)
        else:
            options[place.option] = value
    layer = point.layer.with_options(options)
    if kept:
        layer.forward = _keeping(layer.forward, kept)
    return layer


def _replaced(whole: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    inner = value if len(keys) == 1 else _replaced(whole[keys[0]], keys[1:], value)
    return {**whole, keys[0]: inner}


def _keeping(forward: Callable[..., Any], kept: list[tuple[Any, str, Any]]) -> Callable[..., Any]:
    """A forward during whose calls the layer keeps other values."""

    def changed(*arrays: Any, **options: Any) -> Any:
        with ExitStack() as stack:
            for owner, name, value in kept:
                stack.enter_context(_kept(owner, name, value))
            return forward(*arrays, **options)

    return changed


@contextmanager
def _kept(owner: Any, name: str, value: Any) -> Iterator[None]:
    if isinstance(owner, dict):
        before = owner[name]
        owner[name] = value
    else:
        before = getattr(owner, name)
        setattr(owner, name, value)
    try:
        yield
    finally:
        if isinstance(owner, dict):
            owner[name] = before
        else:
            setattr(owner, name, before)


def _roots(forward: Any) -> Iterator[Any]:
    """The objects that may keep options: the layer of an adapter, or that whose method the forward is."""
    instance = getattr(forward, "instance", None)
    called = getattr(forward, "layer", None) if instance is None else instance()
    for root in (called, getattr(forward, "__self__", None)):
        if root is not None:
            yield root


def _inside(owner: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The options of windows in a dict or in the attributes of an object, and of what these hold."""
    entries = owner if isinstance(owner, Mapping) else attributes(owner)
    entries = {key: value for key, value in entries.items() if isinstance(key, str)}
    for key, value in entries.items():
        if key in _NAMES and isinstance(value, (int, tuple, list, str)) and not isinstance(value, bool):
            yield (*keys, key), owner, value
    if len(keys) + 1 < _DEPTH:
        for key, value in entries.items():
            yield from _inside(value, (*keys, key))


def attributes(owner: Any) -> dict[str, Any]:
    """The attributes of an instance of a class that has a dict of them; none of a module, class or function."""
    kept = getattr(owner, "__dict__", None)
    if not isinstance(kept, dict) or inspect.ismodule(owner) or inspect.isclass(owner) or inspect.isroutine(owner):
        return {}
    return kept
