"""The whole Jacobian in two calls, where the entries of a batch do not mix.

Take one entry of the batch, repeat it, and put basis vectors on the batch axis: one forward along them
gives every column of J, one backward every row, and all are compared, exactly or as the complex step
allows. That the entries of the batch do not mix is tested: one of two is moved, and the other's y must
stay as it is. Where they do mix (batch norm), where an argument has no batch axis (a weight), and where
its Jacobian has more than 2^24 entries, random directions serve as before.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np

from verify.gradcheck.complex_step import analytic_point
from verify.gradcheck.exact import Differences, exactly, plan
from verify.gradcheck.exact_numbers import Array, draw_integers, mantissa_bits, set_size
from verify.gradcheck.locate import not_finite
from verify.gradcheck.point import Findings, Point
from verify.gradcheck.subject import Arrays, Subject

_MOST_ENTRIES = 1 << 24
_IMAGE_BITS, _MOST_BITS = 3, 50
_ENTRIES_TO_SEE = 256
STRUCTURES = ("multilinear", "analytic")


def check_jacobians(
    findings: Findings, structure: str, generator: np.random.Generator, miss_probability: float
) -> float | None:
    """Settle each argument that has a batch axis of its own by every entry of its Jacobian.

    Returns a bound on the probability that a wrong entry passed, None where rounding is tolerated.
    """
    missed: float | None = None
    for k in findings.undecided():
        sizes = _independent(findings.subject, k, generator)
        if sizes is None:
            continue
        if structure == "multilinear":
            missed = max(missed or 0.0, _exact(findings, k, sizes, generator, miss_probability))
        else:
            stacked = _stacked(findings.subject, k, findings.subject.arrays[k][:1], sizes[0])
            y = stacked.value(stacked.arrays)
            _compare(findings, k, sizes, analytic_point(stacked, _basis(y), generator))
    return missed


def _stacked(subject: Subject, k: int, one: Array, times: int) -> Subject:
    """The same subject (a call counts as its own), at so many copies of one entry of the batch."""
    stacked = copy.copy(subject)
    stacked.arrays = subject.with_array(subject.arrays, k, np.repeat(one, times, axis=0))
    return stacked


def _independent(subject: Subject, k: int, generator: np.random.Generator) -> tuple[int, int] | None:
    """The sizes of y and of the argument for one entry of the batch; None where there is no such thing."""
    array = subject.arrays[k]
    if array.ndim < 2 or not array.size:
        return None
    pair = np.repeat(array[:1], 2, axis=0)
    moved = pair.copy()
    moved[1] += generator.choice([-1.0, 1.0], pair[1].shape).astype(array.dtype)
    try:
        before, after = (subject.value(subject.with_array(subject.arrays, k, each)) for each in (pair, moved))
    except (TypeError, ValueError, IndexError):  # the other arrays want the batch as large as it is
        return None
    if before.ndim < 1 or len(before) != 2 or not np.array_equal(before[0], after[0], equal_nan=True):
        return None
    sizes = before[0].size, array[0].size
    return sizes if 0 < math.prod(sizes) * max(sizes) <= _MOST_ENTRIES else None


def _exact(
    findings: Findings, k: int, sizes: tuple[int, int], generator: np.random.Generator, miss_probability: float
) -> float:
    """On integers: the entries of J are polynomials in the other arrays, which get all the bits there are."""
    subject = findings.subject
    bits = _bits_of_others(subject, k)
    others = [j for j in subject.wrt if j != k]
    rate, trials = plan(max(1, len(others)), set_size(bits), miss_probability, subject.dtype)
    for trial in range(trials):
        one = draw_integers(generator, (1, *subject.arrays[k].shape[1:]), _IMAGE_BITS, subject.arrays[k].dtype)
        stacked = _stacked(subject, k, one, sizes[0])
        for j in others:
            drawn = draw_integers(generator, subject.arrays[j].shape, bits, subject.arrays[j].dtype)
            stacked.arrays = stacked.with_array(stacked.arrays, j, drawn)
        if trial == 0:
            _check_affine(stacked, k, sizes[1], generator)
        y, cache = stacked.value_and_cache(stacked.arrays)
        dy = _basis(y)
        point = Differences(stacked, stacked.arrays, y, dy, stacked.pull_back(stacked.arrays, dy, cache))
        if not _compare(findings, k, sizes, point):
            break
    return rate**trials


def _check_affine(stacked: Subject, k: int, entries: int, generator: np.random.Generator) -> None:
    """Raise StructureError unless f is affine in argument k: on so many images that a relu is seen to be none."""
    shape = (max(2, -(-_ENTRIES_TO_SEE // entries)), *stacked.arrays[k].shape[1:])
    drawn, v = (draw_integers(generator, shape, _IMAGE_BITS, stacked.arrays[k].dtype) for _ in range(2))
    arrays = stacked.with_array(stacked.arrays, k, drawn)
    point = Differences(stacked, arrays, exactly(stacked.value(arrays)), drawn, {})
    point.check_affine(k, v, point.slopes(k, v))


def _bits_of_others(subject: Subject, k: int) -> int:
    """How many bits the other arrays may have: no partial sum exceeds y of one entry of the batch, filled."""
    limit = 2.0 ** mantissa_bits(subject.dtype)
    arrays: Arrays = [np.asarray(np.abs(a)) if j in subject.held else a for j, a in enumerate(subject.arrays)]
    for j in subject.wrt:
        shape = (1, *arrays[j].shape[1:]) if j == k else arrays[j].shape  # type: ignore[union-attr]
        fill = 2.0 ** (_IMAGE_BITS + 1) if j == k else 2.0
        arrays = subject.with_array(arrays, j, np.full(shape, fill, subject.arrays[j].dtype))
    largest = float(subject.value(arrays).max(initial=1.0))
    # What is affine in each of d arrays grows at most with the d-th power of their entries.
    return min(_MOST_BITS, int(math.log2(limit / largest) / max(1, len(subject.wrt) - 1)))


def _compare(findings: Findings, k: int, sizes: tuple[int, int], point: Point) -> bool:
    """Whether every row that backward gives is that of the columns that forward gives."""
    outputs, entries = sizes
    rows = point.gradients[k].reshape(outputs, entries)
    array: Any = point.arrays[k]
    wide = replace(
        point,
        arrays=point.subject.with_array(point.arrays, k, np.repeat(array[:1], entries, axis=0)),
        y=np.repeat(point.y[:1], entries, axis=0),
    )
    basis = np.eye(entries, dtype=array.dtype).reshape(entries, *array.shape[1:])
    expected = wide.slopes(k, basis).reshape(entries, outputs).T
    index = not_finite(rows)
    if index is None and not point.agree(k, point.gradients[k], expected.reshape(point.gradients[k].shape)):
        off = np.abs(rows - expected)
        index = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
    if index is None:
        findings.settle(k, f"every entry of its Jacobian, {outputs} x {entries}")
        return True
    entry = tuple(int(i) for i in np.unravel_index(index[1], array.shape[1:]))
    output = [0, *(int(i) for i in np.unravel_index(index[0], point.y.shape[1:]))]
    findings.fail(point, k, (index[0], *entry), note=f"with 1 upstream at y{output}, 0 elsewhere")
    result = findings.results[k]
    if result.worst is not None:  # the entries of the batch are copies of its first
        findings.results[k] = result._replace(worst=result.worst._replace(index=(0, *entry)))
    return False


def _basis(y: Array) -> Array:
    """The basis vectors of one entry of the batch, one for each entry of the batch."""
    return np.eye(len(y), dtype=y.dtype).reshape(y.shape)
