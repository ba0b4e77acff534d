"""The whole Jacobian in two calls, where the entries of a batch do not mix.

Take one entry of the batch, repeat it, and put basis vectors on the batch axis: one forward along them
gives every column of J, one backward every row, each times a random number, and all are compared, exactly
or as the complex step allows. That the entries of the batch do not mix is tested: of each, all others are moved, and
its y must stay as it is. Where they do mix (batch norm), where an argument has no batch axis (a weight), and where
its Jacobian has more than 2^24 entries, random directions serve alone.

They serve always, too, at all entries of the batch given and with something upstream of every entry of y: a backward
that skips what has 0 upstream, or a batch of copies that it was not made for, shows there alone. The probability
that a wrong gradient passes is theirs.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
from typing import Any

import numpy as np

from verify.checker.certificate import PASS, StructureError
from verify.checker.exact import WIDE_BITS, Differences, exactly
from verify.checker.exact_numbers import Array, draw_integers, draw_upstream, mantissa_bits, small_bits
from verify.checker.layer import Arrays, LayerUnderTest
from verify.checker.locate import not_finite
from verify.checker.point import Findings, Point
from verify.checker.references.complex_step import analytic_point

_MOST_ENTRIES = 1 << 24
_IMAGE_BITS, _MOST_BITS = 3, 50
# Integers of so few bits reach no clip at 127, and no threshold at 1/2: in turn they are multiplied by 2 to these.
# Where the range has been proved for integers alone, only fractions are as small as they.
_POWERS, _POWERS_IN_RANGE = (0, 8, -8), (0, -4)
_SCALE_BITS, _LEAST_IMAGES = 8, 8
_ENTRIES_TO_SEE = 256


def check_exact_jacobian(findings: Findings, generator: np.random.Generator) -> None:
    """Compare every entry of the Jacobian of the argument whose first axis is a batch, if there is one, on integers."""
    for k in findings.undecided():
        if _exact(findings, k, generator):
            return


def check_analytic_jacobian(findings: Findings, generator: np.random.Generator) -> None:
    """Compare every entry of the Jacobian, too, at the first entry of the batch, of an argument that has passed."""
    subject = findings.subject
    for k in findings.undecided():
        sizes = _sizes(subject, k) if findings.results[k].verdict == PASS else None
        if sizes is not None and _independent(subject, k, generator):
            stacked = _stacked(subject, k, subject.arrays[k][:1], max(sizes))
            scales = draw_upstream(generator, (sizes[0],), subject.dtype)
            point = analytic_point(stacked, _basis(stacked.value(stacked.arrays), scales), generator)
            _compare(findings, k, point, scales, _along_basis(point, k, sizes), sizes)
            return  # y's first axis is this argument's, and no other's


def _stacked(subject: LayerUnderTest, k: int, one: Array, times: int) -> LayerUnderTest:
    """The same subject (a call counts as its own), at so many copies of one entry of the batch."""
    stacked = copy.copy(subject)
    stacked.arrays = subject.with_array(subject.arrays, k, np.repeat(one, times, axis=0))
    return stacked


def _times(subject: LayerUnderTest, least: int = 2) -> int:
    """So many copies as no array is long: that y has as many entries, then, is no chance."""
    lengths = {len(a) for a in subject.arrays if isinstance(a, np.ndarray) and a.ndim}
    return next(number for number in itertools.count(least) if number not in lengths)


def _sizes(subject: LayerUnderTest, k: int) -> tuple[int, int] | None:
    """The sizes of y and of the argument for one entry of the batch; None where it can have no such thing."""
    if not _may_be_a_batch(subject, k):
        return None
    copies = np.repeat(subject.arrays[k][:1], _times(subject), axis=0)
    y = _along_a_batch(subject, subject.with_array(subject.arrays, k, copies), len(copies))
    return None if y is None else _in_reach(y, copies)


def _may_be_a_batch(subject: LayerUnderTest, k: int) -> bool:
    return bool(subject.arrays[k].ndim >= 2 and subject.arrays[k].size)


def _along_a_batch(subject: LayerUnderTest, arrays: Arrays, times: int) -> Array | None:
    """y, if it has as many entries as the batch; None if not, or where the other arrays want it as large as it was."""
    try:
        y = subject.value(arrays)
    except (TypeError, ValueError, IndexError):
        return None
    return y if y.ndim and len(y) == times else None


def _in_reach(y: Array, images: Array) -> tuple[int, int] | None:
    """The sizes of y and of the argument for one entry of the batch, if that is not too much."""
    sizes = y[0].size, images[0].size
    return sizes if 0 < math.prod(sizes) * max(sizes) <= _MOST_ENTRIES else None


def _independent(subject: LayerUnderTest, k: int, generator: np.random.Generator) -> bool:
    """Whether each entry of the batch keeps its y while all others move."""
    copies = _stacked(subject, k, subject.arrays[k][:1], _times(subject)).arrays
    y, array = subject.value(copies), copies[k]
    for i in range(len(y)):
        v = generator.choice([-1.0, 1.0], array.shape).astype(array.dtype)
        v[i] = 0
        moved = subject.value(subject.moved(copies, k, v))
        if moved.shape != y.shape or not np.array_equal(moved[i], y[i], equal_nan=True):
            return False
    return True


def _exact(findings: Findings, k: int, generator: np.random.Generator) -> bool:
    """On integers: the entries of J are polynomials in the other arrays, which get all the bits there are.

    First it is hoped that they are right, in range, and the entries of the batch do not mix: if they did, what
    the gradient of one has to be multiplied by would not be how its y changes, while others move along. Only if
    something differs this is tested, False returned where they mix, the range proved, and every column of J made.
    """
    subject = findings.subject
    if not _may_be_a_batch(subject, k):
        return False
    with contextlib.suppress(StructureError):
        if _hope(findings, k, generator):
            return True
    sizes = _sizes(subject, k)
    if sizes is None or not _independent(subject, k, generator):
        return False
    one = _drawn(subject, k, _bits_of_others(subject, k), generator)
    point, scales = _with_basis(one, k, sizes[0], max(sizes), generator)
    slopes = _along_basis(point, k, sizes)
    _check_affine(point, k, _columns(slopes, sizes), generator)
    _compare(findings, k, point, scales, slopes, sizes)
    return True


def _hope(findings: Findings, k: int, generator: np.random.Generator) -> bool:
    """Whether all is as it should be.

    Every row that backward gives is multiplied by a few directions, and f(a + v) - f(a) must be the product:
    one entry off by anything survives a direction drawn from a set S with probability 1 / |S| (Freivalds 1977).
    """
    subject = findings.subject
    entries = subject.arrays[k][0].size
    others = max(1, len(subject.wrt) - 1)
    bits = max(1, min(_MOST_BITS, (_room(subject) - entries.bit_length()) // others))
    images = _times(subject, max(_LEAST_IMAGES, -(-_ENTRIES_TO_SEE // entries)) + 1) - 1
    one = _drawn(subject, k, bits, generator)
    v, moved = _moved(one, k, images, generator, _POWERS)
    sizes = None if moved is None else _in_reach(moved, v)
    if moved is None or sizes is None:
        return False
    point, scales = _with_basis(one, k, sizes[0], sizes[0], generator, _POWERS)
    change = _change(point.y, moved, _POWERS)
    rows = point.gradients[k].reshape(sizes).astype(np.float64, copy=False)
    # Of a row nothing rounds that would not with a scale from 1/2 to 1.
    largest = (np.abs(rows).max(1) * 2.0 ** -np.frexp(scales)[1]).max() * 2.0 ** (_IMAGE_BITS + 1)
    if not largest * entries < 2.0 ** (52 - _scale_bits(subject)):  # infinity too
        return False
    if not np.array_equal(rows @ v.reshape(images, -1).T, scales[:, None] * change.T):  # nor is NaN equal
        return False
    findings.note(k, _told(sizes))
    return True


def _drawn(subject: LayerUnderTest, k: int, bits: int, generator: np.random.Generator) -> LayerUnderTest:
    """The same subject (a call counts as its own) at one drawn entry of the batch, and other arrays of so many bits."""
    one = draw_integers(generator, (1, *subject.arrays[k].shape[1:]), _IMAGE_BITS, subject.arrays[k].dtype)
    drawn = copy.copy(subject)
    drawn.arrays = subject.with_array(subject.arrays, k, one)
    for j in subject.wrt:
        if j != k:
            other = draw_integers(generator, subject.arrays[j].shape, bits, subject.arrays[j].dtype)
            drawn.arrays = subject.with_array(drawn.arrays, j, other)
    return drawn


def _with_basis(
    one: LayerUnderTest,
    k: int,
    outputs: int,
    times: int,
    generator: np.random.Generator,
    powers: tuple[int, ...] = (0,),
) -> tuple[Differences, Array]:
    """A point at so many copies of one image, with the basis upstream; and what each basis vector is multiplied by.

    The copies are in turn multiplied by powers of two, which the Jacobian does not see.
    """
    stacked = _stacked(one, k, one.arrays[k], times)
    copies: Any = stacked.arrays[k]
    copies *= _in_turn(powers, copies)
    y, cache = stacked.value_and_cache(stacked.arrays)
    # Signed, none of them 0 or whole, half of them small: what a backward does to dy that is not linear shows.
    scale_bits = _scale_bits(one)
    unit = 2.0 ** -(scale_bits // 2)
    scales = draw_integers(generator, (outputs,), scale_bits - 1, y.dtype, 2 * unit) + y.dtype.type(unit)
    scales[draw_integers(generator, (outputs,), 0, y.dtype) < 0] *= y.dtype.type(2.0 ** -small_bits(y.dtype))
    dy = _basis(y, scales)
    return Differences(stacked, stacked.arrays, y, dy, stacked.pull_back(stacked.arrays, dy, cache)), scales


def _moved(
    one: LayerUnderTest, k: int, images: int, generator: np.random.Generator, powers: tuple[int, ...]
) -> tuple[Array, Array | None]:
    """Directions v in argument k, and f where they lead, exactly; at last, of one image more, f(0).

    With the power 0 to a + v, v so long that it reaches past 0 from wherever a is; else to 2^power v.
    """
    array: Any = one.arrays[k]
    v = draw_integers(generator, (images, *array.shape[1:]), _IMAGE_BITS + 1, array.dtype)
    places = np.zeros((images + 1, *array.shape[1:]), array.dtype)
    places[:-1] = v * _in_turn(powers, v)
    places[: -1 : len(powers)] += array[:1]
    moved = _along_a_batch(one, one.with_array(one.arrays, k, places), len(places))
    if moved is not None:
        exactly(moved / _in_turn(powers, moved))  # of each power its own range
        moved = moved.astype(np.float64, copy=False)
    return v, moved


def _change(y: Array, moved: Array, powers: tuple[int, ...]) -> Array:
    """J v of each direction, one row for each, if f is affine: f(a + v) - f(a), or (f(2^power v) - f(0)) / 2^power."""
    change = moved[:-1] - moved[-1:]
    change[:: len(powers)] = moved[: -1 : len(powers)] - y[:1]
    change /= _in_turn(powers, change)
    return change.reshape(len(change), -1)


def _in_turn(powers: tuple[int, ...], images: Array) -> Array:
    """Two to these powers, in turn, to be multiplied with as many images."""
    return _turns(powers, len(images), images.dtype).reshape(-1, *[1] * (images.ndim - 1))


@functools.lru_cache(maxsize=64)
def _turns(powers: tuple[int, ...], count: int, dtype: np.dtype[Any]) -> Array:
    turns = np.exp2(np.resize(np.array(powers, dtype), count))
    turns.setflags(write=False)  # it is handed out again
    return turns


def _check_affine(point: Differences, k: int, columns: Array, generator: np.random.Generator) -> None:
    """Raise StructureError unless f(a + v) = f(a) + J v: on so many images that a relu is seen to be none."""
    images = max(4, -(-_ENTRIES_TO_SEE // len(columns)))
    v, moved = _moved(point.subject, k, images, generator, _POWERS_IN_RANGE)
    if moved is None or not np.array_equal(_change(point.y, moved, _POWERS_IN_RANGE), v.reshape(images, -1) @ columns):
        raise StructureError(f"not affine in {point.subject.names[k]}: on exact numbers f(a + v) is not f(a) + J v")


def _scale_bits(subject: LayerUnderTest) -> int:
    """Those of the upstream gradients: more than a float32 holds, unless the other arrays have that many."""
    return _SCALE_BITS if len(subject.wrt) > 1 else min(WIDE_BITS, mantissa_bits(subject.dtype) - _IMAGE_BITS - 2)


def _room(subject: LayerUnderTest) -> int:
    """The bits that are left for the other arrays, all together, and for sums."""
    return mantissa_bits(subject.dtype) - _scale_bits(subject) - _IMAGE_BITS - 2


def _bits_of_others(subject: LayerUnderTest, k: int) -> int:
    """How many bits the other arrays may have: no partial sum exceeds y of one entry of the batch, filled."""
    limit = 2.0 ** (mantissa_bits(subject.dtype) - _scale_bits(subject))
    arrays: Arrays = [np.asarray(np.abs(a)) if j in subject.held else a for j, a in enumerate(subject.arrays)]
    for j in subject.wrt:
        shape = (1, *arrays[j].shape[1:]) if j == k else arrays[j].shape  # type: ignore[union-attr]
        fill = 2.0 ** (_IMAGE_BITS + 2) if j == k else 2.0
        arrays = subject.with_array(arrays, j, np.full(shape, fill, subject.arrays[j].dtype))
    largest = float(subject.value(arrays).max(initial=1.0))
    # What is affine in each of d arrays grows at most with the d-th power of their entries.
    bits = int(math.log2(limit / largest) / max(1, len(subject.wrt) - 1)) if largest < limit else 0
    if bits < 1:
        raise StructureError(f"at these sizes even small integers leave the {limit:.3g} that {subject.dtype} holds")
    return min(_MOST_BITS, bits)


def _unit_vectors(point: Point, k: int, entries: int) -> Array:
    """The basis vectors e_i of one entry of the batch, along the batch."""
    array: Any = point.arrays[k]
    return np.eye(len(array), entries, dtype=array.dtype).reshape(array.shape)


def _along_basis(point: Point, k: int, sizes: tuple[int, int]) -> Array:
    """J e_i of one entry of the batch, for each of its entries i, by one forward."""
    return np.asarray(point.slopes(k, _unit_vectors(point, k, sizes[1])))


def _columns(slopes: Array, sizes: tuple[int, int]) -> Array:
    """The same, one row for each i."""
    outputs, entries = sizes
    return slopes[:entries].reshape(entries, outputs)


def _compare(findings: Findings, k: int, point: Point, scales: Array, slopes: Array, sizes: tuple[int, int]) -> None:
    """Every row that backward gives must be that of the columns that forward gives, times what was upstream."""
    outputs, entries = sizes
    gradient, columns = point.gradients[k], _columns(slopes, sizes)
    expected = np.zeros((len(gradient), entries), columns.dtype)
    expected[:outputs] = scales[:, None] * columns.T  # nothing is upstream of the other copies
    rows = gradient.reshape(expected.shape)
    index = not_finite(rows)
    of_gradient = expected.reshape(gradient.shape)
    if index is None and not point.agree(k, gradient, of_gradient):
        off = np.abs(rows - expected)
        # As much as anywhere: of a basis vector many products are exact, or round alike.
        rounding = float(point.slopes_round_by(k, _unit_vectors(point, k, entries), slopes).max(initial=0.0))
        off[:outputs] -= np.abs(scales)[:, None] * rounding
        if not (off.reshape(gradient.shape) <= point.allowed(k, of_gradient)).all():
            index = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
    if index is None:
        findings.note(k, _told((outputs, entries)))
        return
    entry = tuple(int(i) for i in np.unravel_index(index[1], gradient.shape[1:]))
    note = "with 0 upstream of it"
    if index[0] < outputs:
        output = [0, *(int(i) for i in np.unravel_index(index[0], point.y.shape[1:]))]
        note = f"with {float(scales[index[0]])!r} upstream at y{output}, 0 elsewhere"
    findings.fail(point, k, (index[0], *entry), note=note)
    result = findings.results[k]
    if result.worst is not None:  # the entries of the batch are copies of its first
        findings.results[k] = result._replace(worst=result.worst._replace(index=(0, *entry)))


def _told(sizes: tuple[int, int]) -> str:
    return "every entry of its Jacobian, {} x {}".format(*sizes)


def _basis(y: Array, scales: Array) -> Array:
    """The basis vectors of one entry of the batch, each times its scale, one for each entry of the batch."""
    basis = np.zeros((len(y), len(scales)), y.dtype)
    np.fill_diagonal(basis, scales)
    return basis.reshape(y.shape)
