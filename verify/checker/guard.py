"""Arrays handed to a layer are guarded: what it writes to them is found, and undone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from verify.checker.point import Array

Mark = bytes | int | None
# From 1 MiB on, an array made for a check is guarded by a checksum: a copy of its bytes would double its memory.
LARGE = 1 << 20


def marks(arrays: Sequence[Any], own: Sequence[Any]) -> list[Mark]:
    """The bytes of each array, or the checksum of a large one that is not the caller's `own`: it is not restored."""
    return [_mark(array, own) for array in arrays]


def _mark(array: Any, own: Sequence[Any]) -> Mark:
    if not isinstance(array, np.ndarray):
        return None
    if array.nbytes < LARGE or any(array is each for each in own):
        return array.tobytes()
    return _checksum(array)


def restored(arrays: Sequence[Any], before: Sequence[Mark]) -> list[int]:
    """The places of the arrays that were written to; those whose bytes are known are restored."""
    written = [k for k, mark in enumerate(before) if mark is not None and not _same(arrays[k], mark)]
    for k in written:
        mark = before[k]
        if isinstance(mark, bytes):
            arrays[k][...] = _from_bytes(mark, arrays[k])
    return written


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _same(now: Array, mark: bytes | int) -> bool:
    """Whether the array is as it was; writing 0 over -0 changes nothing."""
    if isinstance(mark, int):
        return _checksum(now) == mark
    return now.tobytes() == mark or np.array_equal(now, _from_bytes(mark, now), equal_nan=now.dtype.kind in "fc")


def _from_bytes(mark: bytes, like: Array) -> Array:
    return np.frombuffer(mark, like.dtype).reshape(like.shape)
