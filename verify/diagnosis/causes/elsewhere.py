"""The true gradient of another function: at other arrays, with other options, of another argument.

Nothing is known here of convolutions; `stride`, `dilation`, `groups` and `padding` are options that many
functions of windows have, with 1 and 0 for none. `options` finds them. A function is asked only for what it accepts:
where it raises, or its y has another shape than the prediction takes, there is no prediction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.causes.options import at_arrays, at_options, guarded, option_values, places, windowed
from verify.diagnosis.causes.padding import by_hand, padded
from verify.diagnosis.causes.rearranged import exchanges, mirrored

Found = Iterator[tuple[CauseCode, str]]
_NEUTRAL = (("stride", CauseCode.STRIDE_IGNORED), ("dilation", CauseCode.DILATION_IGNORED))
# Options that may have one value for the height and another for the width.
_PAIRS = ("stride", "padding", "dilation", "kernel")


def elsewhere(evidence: Evidence) -> Found:
    """The other functions whose true gradient is what the backward claims."""
    point = evidence.point
    options = option_values(point)
    where = {name: place.where for name, place in places(point).items()}
    for name, code in _NEUTRAL:
        for neutral in _neutral(options.get(name)):
            for _ in guarded(_in_the_corner(evidence, {name: neutral}, options.get("padding"))):
                yield code, f"is the true gradient for {name}={neutral!r}, not {options[name]!r}{where.get(name, '')}"
    for name in _PAIRS:
        for turned in _exchanged(options.get(name)):
            for _ in guarded(_in_the_corner(evidence, {name: turned}, options.get("padding"))):
                why = f"is the true gradient for {name}={turned!r}, not {options[name]!r}{where.get(name, '')}"
                yield CauseCode.HEIGHT_WIDTH, f"{why}: height and width are exchanged"
    yield from guarded(padded(evidence, options.get("padding")))
    if _count(options.get("groups")) > 1:
        yield from guarded(_first_group(evidence, _count(options.get("groups"))))
    yield from guarded(_other_arrays(evidence))
    yield from guarded(_other_arguments(evidence))


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 1


def _neutral(value: Any) -> Iterator[Any]:
    """The option at 1, along all axes or along one."""
    if isinstance(value, (tuple, list)) and all(isinstance(each, int) for each in value):
        ones = tuple(1 for _ in value)
        options = [ones] + [tuple(1 if i == j else each for j, each in enumerate(value)) for i in range(len(value))]
        yield from (each for each in dict.fromkeys(options) if each != tuple(value))
    elif isinstance(value, int) and value > 1:
        yield 1


def _exchanged(value: Any) -> Iterator[Any]:
    """An option of two values, or of two pairs, the other way round."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and value[0] != value[1]:
        yield [value[1], value[0]] if isinstance(value, list) else (value[1], value[0])


def _in_the_corner(evidence: Evidence, changed: dict[str, Any], padding: Any) -> Iterator[None]:
    """With these options y has another shape; the leading corner of dy is put in its corner, zeros elsewhere."""
    if padding == "same" and "padding" not in changed:  # what that is depends on the dilation: let it be what it was
        found = by_hand(evidence.point, padding)
        changed = {**changed, "padding": found and found.pads}
    other = at_options(evidence.point, changed)
    dy = evidence.point.dy
    if other.y.ndim != dy.ndim:
        return
    wide = np.zeros(other.y.shape, dy.dtype)
    both = tuple(slice(min(sizes)) for sizes in zip(other.y.shape, dy.shape, strict=True))
    wide[both] = dy[both]
    if evidence.fits_elsewhere(replace(other, dy=wide), evidence.k):
        yield


def _first_group(evidence: Evidence, groups: int) -> Found:
    """One group, of the channels of the first, whichever axis of whichever array these are."""
    point, k = evidence.point, evidence.k
    for j in point.layer.wrt:
        array: Any = point.arrays[j]
        for axis in range(array.ndim):
            if array.shape[axis] % groups or not array.size:
                continue
            few = array.shape[axis] // groups
            cut = np.ascontiguousarray(np.moveaxis(np.moveaxis(array, axis, 0)[:few], 0, axis))
            try:
                other = at_options(point, {"groups": 1}, point.layer.with_array(point.arrays, j, cut))
            except Exception:  # not the array, or the axis, that is grouped
                continue
            if other.y.shape != point.y.shape:
                continue
            for how in ("all", "first") if j == k else ("",):
                if evidence.fits_elsewhere(other, k, lambda v, a=axis, f=few, h=how: _of_first(v, a, f, h)):  # type: ignore[misc]
                    name = point.layer.names[j]
                    yield CauseCode.GROUPS_IGNORED, f"is the true gradient of one group, of {few} slices of {name}"


def _of_first(v: Array, axis: int, few: int, how: str) -> Array:
    """The transpose of giving a gradient of the first slices to all blocks of them, or to the first alone."""
    if not how:
        return v
    blocks = np.moveaxis(v, axis, 0)
    kept = blocks[:few] if how == "first" else blocks.reshape(-1, few, *blocks.shape[1:]).sum(axis=0)
    return np.ascontiguousarray(np.moveaxis(kept, 0, axis))


def _other_arrays(evidence: Evidence) -> Found:
    """Another array mirrored, or with its axes in another order."""
    point, k = evidence.point, evidence.k
    for j in point.layer.wrt:
        array: Any = point.arrays[j]
        if j == k or array.ndim < 2:
            continue
        flat = np.arange(array.size).reshape(array.shape)
        for found in itertools.chain(mirrored(flat), exchanges(flat, images=windowed(point))):
            turned = array.reshape(-1)[found.places]
            if np.array_equal(turned, array):
                continue
            if evidence.fits_elsewhere(at_arrays(point, point.layer.with_array(point.arrays, j, turned), point.dy), k):
                code = CauseCode.KERNEL_NOT_FLIPPED if found.code is CauseCode.FLIPPED else found.code
                yield code, f"is the true gradient for a {point.layer.names[j]} that {found.why}"


def _other_arguments(evidence: Evidence) -> Found:
    point, k = evidence.point, evidence.k
    for j in point.layer.wrt:
        if j != k and point.layer.arrays[j].shape == evidence.claimed.shape and evidence.fits_elsewhere(point, j):
            yield CauseCode.GRADIENTS_SWAPPED, f"is d{point.layer.names[j]}"
