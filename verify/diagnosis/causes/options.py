"""The same function with other options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from verify.checker.point import Point

T = TypeVar("T")


def option_values(point: Point) -> dict[str, Any]:
    """The options the forward runs with, its defaults among them."""
    try:
        parameters = inspect.signature(point.subject._forward).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {**defaults, **point.subject.options}


def at_options(point: Point, changed: dict[str, Any], arrays: Any = None) -> Point:
    """The same way to differentiate the function with other options, at other arrays; its calls are counted, too."""
    subject = point.subject.with_options(changed)
    return point.at(point.arrays if arrays is None else arrays, point.dy, subject)


def guarded(found: Iterable[T]) -> Iterator[T]:
    """What is found until the layer, called with what nobody promised it, refuses in whatever way."""
    try:
        yield from found
    except Exception:
        return
