"""A function with other options, or at other arrays."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from verify.checker.layer import LayerUnderTest
from verify.checker.point import Array, Arrays, Point

T = TypeVar("T")


def option_values(point: Point) -> dict[str, Any]:
    """The options the forward runs with, its defaults among them."""
    try:
        parameters = inspect.signature(point.layer.forward).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {**defaults, **point.layer.options}


def at_arrays(point: Point, arrays: Arrays, dy: Array, layer: LayerUnderTest | None = None) -> Point:
    """A point at other arrays, and of another layer if one is given. Backward is not asked there."""
    layer = layer or point.layer
    return Point(layer, arrays, layer.value(arrays), dy, {}, point.step)


def at_options(point: Point, changed: dict[str, Any], arrays: Arrays | None = None) -> Point:
    """A point of the function with other options; its calls are counted together with the layer's."""
    return at_arrays(point, point.arrays if arrays is None else arrays, point.dy, point.layer.with_options(changed))


def guarded(found: Iterable[T]) -> Iterator[T]:
    """What is found until the layer, called with what nobody promised it, refuses in whatever way."""
    try:
        yield from found
    except Exception:
        return
