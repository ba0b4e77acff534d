"""Tells pytest's plugin of every check while a test runs. Imports nothing, because pytest loads it into each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Listeners, one inside the other. The innermost gets the layer's forward and the result.
_listeners: list[Callable[[Any, Any], None]] = []


@contextmanager
def listening(listener: Callable[[Any, Any], None]) -> Iterator[None]:
    """Tell this listener, and no other, of each check inside the with block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def silently() -> Iterator[None]:
    """Tell nobody of the checks inside the with block, because they are parts of a larger one."""

    def ignore(layer: Any, result: Any) -> None:
        pass

    with listening(ignore):
        yield


def record(layer: Any, result: Any) -> None:
    """Tell the innermost listener of a check: its layer, and its certificate or report."""
    if _listeners:
        _listeners[-1](layer, result)
