"""Piecewise-linear functions between their kinks: as exact as multilinear ones (exact.py).

The entries are drawn so far apart that no order between two of them, and no sign, changes between a - v and
a + v; that f(a + v) - f(a) = f(a) - f(a - v) is checked at every draw. What happens at the kinks is in kinks.py.
Where there is room the entries are no whole numbers, among which a floor, or x % 1, is affine.
"""

from __future__ import annotations

import math

import numpy as np

from verify.checker.certificate import StructureError
from verify.checker.exact import (
    GUARD_BITS,
    MOST_BITS,
    Differences,
    check_affine_at,
    compare,
    draws_to_confirm,
    exactly,
    placed,
    plan,
)
from verify.checker.exact_numbers import (
    Array,
    draw_gapped,
    draw_integers,
    mantissa_bits,
    set_size,
    small_bits,
)
from verify.checker.layer import Arrays, LayerUnderTest
from verify.checker.point import Findings

_ROOM_FOR_FRACTIONS = 16  # bits for each array, beside those that count entries
# Of few entries of y one draw takes few branches, and those of its mirror image may be the same: a gradient that is
# right in a third of them only passes so many points with probability 3^-16 at most.
_POINTS = 32
_FEWEST_FOR_FRACTIONS = 3  # of a gap and the direction in it, which then are halves


def check_between_kinks(findings: Findings, generator: np.random.Generator, miss_probability: float) -> float:
    """Add what is found between kinks; a bound on the probability that a wrong gradient passed.

    Raises StructureError where the function is not affine between kinks.
    """
    subject = findings.subject
    shapes = [subject.arrays[k].shape for k in subject.wrt]
    entries = sum(math.prod(shape) for shape in shapes)
    spare = mantissa_bits(subject.dtype) - _fraction_bits(subject, generator)
    # Where there is room the entries are no whole numbers, among which a floor, or x % 1, is affine.
    fractions = spare - GUARD_BITS >= len(subject.wrt) * (_ROOM_FOR_FRACTIONS + entries.bit_length())
    spare -= GUARD_BITS if fractions else 0
    # The entries reach entries * 2^(gap_bits - 1), with a bit to spare for sums of two; a product may
    # take an entry of each array, and a gradient a dy and an entry of each other array, for each output.
    factors, entry_bits = len(subject.wrt), entries.bit_length()
    gap_bits = min(MOST_BITS + 2, spare // factors - entry_bits)
    outputs = subject.value(subject.arrays).size
    dy_bits = min(MOST_BITS, spare - outputs.bit_length() - (factors - 1) * (gap_bits + entry_bits))
    v_bits = gap_bits - 2  # |v| is at most a quarter of the gap
    if min(v_bits, dy_bits) < 3:
        raise StructureError(f"{entries} entries of {subject.dtype} leave no room for gaps between them")
    rate, trials = plan(len(subject.wrt) + 2, set_size(min(v_bits, dy_bits)), miss_probability, subject.dtype)
    unit = 2.0 ** -(gap_bits // 2) if fractions else 1.0
    # To tell that f is affine takes fewer bits than to tell that a gradient is right.
    few_bits = gap_bits if fractions else min(MOST_BITS + 2, (spare - GUARD_BITS) // factors - entry_bits)
    if few_bits < _FEWEST_FOR_FRACTIONS:
        raise StructureError(f"{entries} entries of {subject.dtype} leave no room for fractions")

    def confirm(k: int) -> None:
        few = 2.0 ** -(few_bits // 2)
        for _ in range(draws_to_confirm(subject, k)):
            arrays = placed(subject, draw_gapped(generator, shapes, few_bits), few)
            check_affine_at(subject, k, arrays, few_bits - 2, few, generator)

    for k in [] if fractions else findings.undecided():
        confirm(k)
    drawn: list[Array] = []
    for trial in range(max(2, trials, -(-_POINTS // max(1, outputs)))):
        # Every other point mirrors the one before, so that each entry is seen on both sides of 0.
        drawn = [-array for array in drawn] if trial % 2 else draw_gapped(generator, shapes, gap_bits)
        # And every other dy is small: a threshold shows.
        below = small_bits(subject.dtype) if trial % 2 else None
        # And those are all of them within 1, where a clip, say, does not cut.
        size = 2.0 ** (1 - gap_bits - entry_bits) if trial % 2 and fractions else unit
        point = Differences.draw(subject, placed(subject, drawn, size), dy_bits, generator, size, below=below)
        compare(point, v_bits, generator, findings, affine=True, confirm=confirm)
    return rate**trials


def _fraction_bits(subject: LayerUnderTest, generator: np.random.Generator) -> int:
    """How many bits below the unit the function makes of integers: those of a leaky slope."""
    arrays: Arrays = subject.arrays
    for k in subject.wrt:
        drawn = draw_integers(generator, subject.arrays[k].shape, 2, subject.arrays[k].dtype)
        arrays = subject.with_array(arrays, k, drawn)
    shift = exactly(subject.value(arrays)).shift
    return shift + GUARD_BITS if shift else 0
