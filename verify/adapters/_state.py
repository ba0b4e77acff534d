"""What a layer keeps from call to call, and how it is put back."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.adapters._places import MISSING, Path, delete, read, walk, write

_GENERATORS = (np.random.Generator, np.random.RandomState)


class _Saved(NamedTuple):
    value: Any
    contents: Any


class Snapshot:
    """All values that can be reached from a layer, with copies of the contents of those that can be written to."""

    def __init__(self, root: Any, paths: Iterable[Path] | None = None) -> None:
        found = walk(root) if paths is None else ((path, read(root, path)) for path in paths)
        self.saved = {path: _Saved(value, _contents(value)) for path, value in found if value is not MISSING}

    def restore(self, root: Any, path: Path) -> None:
        """Put back what was at the path."""
        if path not in self.saved:
            delete(root, path)
            return
        value, contents = self.saved[path]
        if read(root, path) is not value and read(root, path[:-1]) is not MISSING:
            write(root, path, value)
        _refill(value, contents)

    def changed(self, later: Snapshot) -> list[Path]:
        """The paths whose values differ in a later snapshot, without those inside a container that differs itself."""
        found: list[Path] = []
        for path in (*self.saved, *(path for path in later.saved if path not in self.saved)):
            if any(path[:k] in found for k in range(1, len(path))):
                continue
            before, now = self.saved.get(path), later.saved.get(path)
            if before is None or now is None or not _same(before, now):
                found.append(path)
        return found


def _contents(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (list, dict, set, collections.deque)):
        return copy.copy(value)
    return copy.deepcopy(_state_of(value)) if isinstance(value, _GENERATORS) else None


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state(legacy=False)


def _refill(value: Any, contents: Any) -> None:
    """Write the contents into the value again, if they are others now."""
    if isinstance(value, np.ndarray):
        if not _same_array(value, contents) and value.flags.writeable:
            value[...] = contents
    elif isinstance(value, list):
        value[:] = contents
    elif isinstance(value, (dict, set)):
        value.clear()
        value.update(contents)
    elif isinstance(value, collections.deque):
        value.clear()
        value.extend(contents)
    elif isinstance(value, np.random.Generator):
        value.bit_generator.state = contents
    elif isinstance(value, np.random.RandomState):
        value.set_state(contents)


def _same(before: _Saved, now: _Saved) -> bool:
    one, other = before.value, now.value
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _same_array(before.contents, now.contents)
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple, collections.deque)):
        # The items are compared by themselves. A tuple has no contents beside its own.
        lengths = [len(each.value if each.contents is None else each.contents) for each in (before, now)]
        return lengths[0] == lengths[1]
    if isinstance(one, _GENERATORS):
        return repr(before.contents) == repr(now.contents)
    if isinstance(one, (int, float, complex, str, bytes, bool, np.generic)):
        return bool(one == other or one != one)
    if isinstance(one, set):
        return bool(before.contents == now.contents)
    return True  # dicts and objects: their parts are compared by themselves


def _same_array(one: np.ndarray, other: np.ndarray) -> bool:
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def kept_between_calls(
    root: Any, start: Snapshot, changed: Sequence[Path], call: Callable[[], Sequence[np.ndarray]]
) -> tuple[Path, ...] | None:
    """Return the fewest changed places that must be put back for the same call to give the same results.

    None means that no choice of them makes the call repeat itself: it is random. `call` runs forward and backward,
    and returns y.
    """

    def repeats(put_back: Sequence[Path]) -> bool:
        for path in put_back:
            start.restore(root, path)
        return same_results(first, call())

    for path in changed:
        start.restore(root, path)
    first = call()
    if repeats(()):
        return ()
    for path in changed:
        if repeats([path]) and repeats([path]):
            return (path,)
    if not repeats(changed):
        return None
    needed = list(changed)
    for path in changed:
        fewer = [each for each in needed if each != path]
        if repeats(fewer) and repeats(fewer):
            needed = fewer
    return tuple(needed)


def same_results(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    """Return whether the results of two calls are equal."""
    return len(one) == len(other) and all(_same_array(each, every) for each, every in zip(one, other, strict=True))
