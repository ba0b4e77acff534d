"""The true gradient with its entries in other places: permuted, mirrored, moved, cut.

A rearrangement is an array of flat places: entry i of it is the true gradient's entry places[i], 0 for -1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence

# Of more axes there are too many orders.
_MOST_AXES = 5
# Of four groups there are 24 orders; of more only turns are tried.
_MOST_GROUPS = 4
# A choice: a padding of 3, which a kernel of 7 has, shifts by no more.
_FARTHEST = 3
# What is left over is less than a stride, or a batch: at most these slices.
MOST_LOST = 8


class Places(NamedTuple):
    """A rearrangement, the code it speaks for, and what it does."""

    code: CauseCode
    why: str
    places: Array


def rearranged(evidence: Evidence, groups: int = 1, *, images: bool = False) -> Iterator[tuple[CauseCode, str]]:
    """The rearrangements of the true gradient that are what the backward claims.

    `images` says that the last two axes are taken for height and width.
    """
    shape = evidence.claimed.shape
    places = np.arange(math.prod(shape)).reshape(shape)
    named = False
    for found in _all(places, evidence.batched, groups, images):
        if not np.array_equal(found.places, places) and evidence.fits_places(found.places):
            named = True
            yield found.code, found.why
    if not named:  # a turn is an order, too
        yield from _permuted(evidence)


def _all(places: Array, batched: bool, groups: int, images: bool) -> Iterator[Places]:
    if groups > 1:
        yield from _blocks(places, groups)
    yield from orders(places, batched, images=images)
    if images and places.ndim > 2:
        yield from _misplaced(places)
    yield from mirrored(places)
    yield from moved(places)
    yield from _cut(places)


def orders(places: Array, batched: bool = False, *, images: bool = False) -> Iterator[Places]:
    """The axes in other orders, read in the shape they have; and the inverse of that."""
    axes = range(places.ndim)
    if not 2 <= places.ndim <= _MOST_AXES:
        return
    features_first = [(*axes[1:], 0), (places.ndim - 1, *axes[:-1])]
    for order in sorted(itertools.permutations(axes), key=lambda order: order not in features_first):
        if order == tuple(axes):
            continue
        code, why = CauseCode.TRANSPOSED, f"has its axes in the order {order}"
        if batched and order in features_first:
            code, why = CauseCode.FEATURES_BATCH_SWAPPED, "is (features, N), reshaped without a transpose"
        elif images and places.ndim > 2 and order == (*axes[:-2], axes[-1], axes[-2]):
            code, why = CauseCode.HEIGHT_WIDTH, "has its height and width exchanged"
        read = places.transpose(order)
        yield Places(code, why + (", reshaped" if read.shape != places.shape else ""), read.reshape(places.shape))
        written = places.reshape([places.shape[axis] for axis in order]).transpose(np.argsort(order))
        yield Places(code, why + ", the other way round", written)


def exchanges(places: Array, *, images: bool = False) -> Iterator[Places]:
    """Two axes exchanged, read in the shape they have."""
    last = (places.ndim - 2, places.ndim - 1)
    for one, other in itertools.combinations(range(places.ndim), 2):
        read = places.swapaxes(one, other)
        why = f"has its axes {one} and {other} exchanged" + (", reshaped" if read.shape != places.shape else "")
        both = images and places.ndim > 2 and (one, other) == last
        code, why = (CauseCode.HEIGHT_WIDTH, why + ": height and width") if both else (CauseCode.TRANSPOSED, why)
        yield Places(code, why, read.reshape(places.shape))


def _misplaced(places: Array) -> Iterator[Places]:
    """Row p of each window at p times its height, not at p times its width: what falls on another entry is lost."""
    height, width = places.shape[-2:]
    starts = np.arange(places.size // max(1, height * width)).reshape(*places.shape[:-2], 1, 1) * (height * width)
    targets = starts + np.arange(height)[:, None] * height + np.arange(width)
    read = np.full(places.size, -1)
    inside = targets < places.size
    read[targets[inside]] = places[inside]
    why = "has row p of its last two axes at p times their height, not at p times their width"
    yield Places(CauseCode.HEIGHT_WIDTH, why, read.reshape(places.shape))


def mirrored(places: Array) -> Iterator[Places]:
    """Mirrored in the last two axes, or one of them."""
    last = range(max(0, places.ndim - 2), places.ndim)
    for count in (2, 1):
        for axes in itertools.combinations(last, count):
            yield Places(CauseCode.FLIPPED, f"is mirrored in {_axes(axes)}", np.flip(places, axes))


def moved(places: Array) -> Iterator[Places]:
    """Moved along the last two axes, or any one."""
    rank = places.ndim
    steps = [by for by in range(-_FARTHEST, _FARTHEST + 1) if by]
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]
    pairs = [((axis,), (by,)) for axis in reversed(range(rank)) for by in steps]
    if rank > 1:
        pairs += [((rank - 2, rank - 1), both) for both in itertools.product(steps, repeat=2)]
    for axes, by in sorted(pairs, key=lambda pair: sum(map(abs, pair[1]))):
        if any(abs(step) >= places.shape[axis] for step, axis in zip(by, axes, strict=True)):
            continue
        rolled = np.roll(places, by, axes)
        left = rolled.copy()
        for step, axis in zip(by, axes, strict=True):
            np.moveaxis(left, axis, 0)[slice(0, step) if step > 0 else slice(step, None)] = -1
        yield Places(CauseCode.SHIFTED, f"is moved by {_numbers(by)} along {_axes(axes)}", left)
        yield Places(CauseCode.SHIFTED, f"is rolled by {_numbers(by)} along {_axes(axes)}", rolled)


def _cut(places: Array) -> Iterator[Places]:
    """The last slices along an axis, or the last two, zero."""
    for axes in [(axis,) for axis in reversed(range(places.ndim))] + [tuple(range(places.ndim))[-2:]]:
        for lost in range(1, min(MOST_LOST + 1, max((places.shape[axis] for axis in axes), default=0))):
            cut = places.copy()
            for axis in axes:
                np.moveaxis(cut, axis, 0)[-lost:] = -1
            if (cut >= 0).any():
                yield Places(CauseCode.REMAINDER_LOST, f"lacks the last {lost} along {_axes(axes)}", cut)


def _blocks(places: Array, groups: int) -> Iterator[Places]:
    """The blocks of the groups, along either of the first two axes, in another order or interleaved."""
    for axis in range(min(2, places.ndim)):
        size = places.shape[axis]
        if size % groups:
            continue
        blocks = np.moveaxis(places, axis, 0).reshape(groups, size // groups, -1)
        back = (size, *np.moveaxis(places, axis, 0).shape[1:])
        every = itertools.permutations(range(groups)) if groups <= _MOST_GROUPS else _turns(groups)
        for order in every:
            turned = np.moveaxis(blocks[list(order)].reshape(back), 0, axis)
            yield Places(CauseCode.GROUPS_PERMUTED, f"has its groups along axis {axis} in the order {order}", turned)
        for shape in ((groups, size // groups), (size // groups, groups)):
            woven = np.moveaxis(places, axis, 0).reshape(*shape, -1).swapaxes(0, 1).reshape(back)
            why = f"has its groups along axis {axis} interleaved"
            yield Places(CauseCode.GROUPS_PERMUTED, why, np.moveaxis(woven, 0, axis))


def _turns(count: int) -> Iterator[tuple[int, ...]]:
    numbers = tuple(range(count))
    yield numbers[::-1]
    for start in range(1, count):
        yield numbers[start:] + numbers[:start]


def _permuted(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """Slices along an axis in any order: each claimed slice is one true slice, and no two are the same one."""
    claimed, true = evidence.claimed, evidence.true
    for axis in range(claimed.ndim):
        slices = [np.moveaxis(each, axis, 0).reshape(claimed.shape[axis], -1) for each in (claimed, true)]
        lines = ~np.isnan(slices[1]).any(axis=0)  # along which every entry is known
        if not lines.any():
            continue
        places = np.moveaxis(np.arange(claimed.size).reshape(claimed.shape), axis, 0)
        order = [int(np.abs(slices[1] - one)[:, lines].sum(axis=1).argmin()) for one in slices[0]]
        if sorted(order) != list(range(len(order))) or order == sorted(order):
            continue
        if evidence.fits_places(np.moveaxis(places[order], 0, axis)):
            yield CauseCode.PERMUTED, f"has its slices along axis {axis} in the order {tuple(order)}"


def _axes(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {_numbers(axes)}"


def _numbers(numbers: tuple[int, ...]) -> str:
    return " and ".join(map(str, numbers))
