"""Reads the options of a layer: numbers, pairs, sides, axes, flags. What cannot be is refused, with its value."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def pair(name: str, value: Any, minimum: int | None) -> tuple[int, int]:
    """Read an option that is one integer for both axes or `(height, width)`.

    Raises TypeError if it is neither, ValueError if an entry is below `minimum`. None stands for no minimum.
    """
    entries = value if isinstance(value, (tuple, list)) else (value, value)
    if len(entries) != 2 or not all(map(is_integer, entries)):
        raise TypeError(f"{name} must be an integer or a pair of integers, got {value!r}")
    height, width = map(operator.index, entries)
    if minimum is not None and min(height, width) < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return height, width


def sides(name: str, value: Any, minimum: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read an option that is an integer, `(height, width)` or `((top, bottom), (left, right))`; return the last.

    Raises TypeError if it is none of these, ValueError if an entry is below `minimum`.
    """
    if isinstance(value, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in value):
        if len(value) != 2 or not all(isinstance(side, (tuple, list)) for side in value):
            raise TypeError(f"{name} must be ((top, bottom), (left, right)), got {value!r}")
        return pair(name, value[0], minimum), pair(name, value[1], minimum)
    height, width = pair(name, value, minimum)
    return (height, height), (width, width)


def whole_number(name: str, value: Any, minimum: int | None = None) -> int:
    """Read an option that is one integer.

    Raises TypeError if it is none, ValueError if it is below `minimum`.
    """
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return number


def flag(name: str, value: Any) -> bool:
    """Read an option that is True or False. Raises TypeError otherwise: a string such as "no" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def last_axes(shape: tuple[int, ...], normalized_shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split a shape into its leading axes and the last ones, which must be `normalized_shape`.

    Raises TypeError if that is neither an integer nor a sequence of integers, ValueError if the shape does not end so.
    """
    given = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not given or not all(is_integer(size) for size in given):
        raise TypeError(
            f"normalized_shape must be an integer or a tuple of integers, at least one, got {normalized_shape!r}"
        )
    last = tuple(operator.index(size) for size in given)
    if len(last) > len(shape) or shape[len(shape) - len(last) :] != last:
        raise ValueError(f"the last axes of x must be normalized_shape={normalized_shape!r}, got shape {shape}")
    return shape[: len(shape) - len(last)], last


def axis_of(ndim: int, axis: Any) -> int:
    """Return the index of one of `ndim` axes, counted from the front. A negative axis is counted from behind.

    Raises TypeError if it is no integer, ValueError if there is no such axis.
    """
    if not is_integer(axis):
        raise TypeError(f"axis must be an integer, got {axis!r}")
    if not -ndim <= operator.index(axis) < ndim:
        raise ValueError(f"axis must lie in [{-ndim}, {ndim}), got {axis!r}")
    return operator.index(axis) % ndim


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer. True and False are none."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    try:
        operator.index(value)
    except TypeError:
        return False
    return True
