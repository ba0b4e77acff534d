"""Multilinear functions, on integers and on small fractions: the trials, and how many bits they may have."""

from __future__ import annotations

import functools
import math

import numpy as np

from verify.checker.certificate import PASS, StructureError
from verify.checker.exact import (
    FEW,
    GUARD_BITS,
    MOST_BITS,
    Differences,
    check_affine_at,
    compare,
    draws_to_confirm,
    placed,
    plan,
)
from verify.checker.exact_numbers import draw_integers, mantissa_bits, set_size, small_bits
from verify.checker.layer import Arrays, LayerUnderTest
from verify.checker.point import Findings

_TRIED_BITS = 6
# Of so many entries of all arrays together no sign of a relu may change along the directions tried: up to them
# it is tested at each that the function is affine.
_VERY_FEW = 64
# Of an entry of y that is a maximum of two or a median of three, a direction at random and one across zero together
# show no kink in 9 of 100 draws (measured); eight such pairs do not in 4 of 10^9.
_TESTS = 16


def check_multilinear(findings: Findings, generator: np.random.Generator, miss_probability: float) -> float:
    """Fill in the findings; a bound on the probability that a wrong gradient passed.

    The last trial is on fractions, the others on integers. Raises StructureError where the function is
    not affine in each argument on them.
    """
    hoped = _hoped_bits(findings.subject)
    before = dict(findings.results)
    try:
        missed = _trials(findings, hoped, generator, miss_probability)
        if all(result.verdict == PASS for result in findings.results.values()):
            return missed  # exact equality needs no excuse
    except StructureError:
        if bits_in_range(findings.subject) >= hoped:
            raise
    bits = bits_in_range(findings.subject)
    if bits < hoped:  # the backward may have rounded
        findings.results.update(before)
        missed = _trials(findings, bits, generator, miss_probability)
    return missed


def _hoped_bits(subject: LayerUnderTest) -> int:
    """How many bits the drawn integers may have if a product takes two of them at most, and signs cancel in sums.

    The sum of n products of random signs is of the order of sqrt(n) of them, and takes one of every entry at most.
    """
    terms = max(int(subject.arrays[k].size) for k in subject.wrt)
    room = mantissa_bits(subject.dtype) - terms.bit_length() // 2
    return max(1, min(MOST_BITS, room // min(2, len(subject.wrt))))


def _trials(findings: Findings, bits: int, generator: np.random.Generator, miss_probability: float) -> float:
    subject = findings.subject
    # The same integers over a power of two, so between -1 and 1, are as exact: no more bits, and of a
    # product the unit is finer but the size smaller. What is linear only far out (a tanh that has saturated) is not
    # affine there. And dy is small: a gradient that is cut to whole numbers shows, and one with a threshold.
    fraction_bits = max(1, bits - math.ceil(GUARD_BITS / len(subject.wrt)))
    few = bool(sum(subject.arrays[k].size for k in subject.wrt) <= FEW)
    degree = len(subject.wrt) + 2 + few  # a direction across zero has but half the values
    rate, trials = plan(degree, set_size(bits), miss_probability, subject.dtype)
    missed = min(degree / set_size(fraction_bits), 0.5)  # the last trial's
    while missed * rate ** (trials - 1) <= miss_probability and trials > 1:
        trials -= 1
    outputs = 0
    for trial in range(trials + 1):
        drawn_bits, unit = (bits, 1.0) if trial < trials else (fraction_bits, 2.0**-fraction_bits)
        outputs = _trial(findings, drawn_bits, unit, generator, number=trial, few=few)
    for test in range(_TESTS // outputs if few and outputs else 0):
        arrays = _integers(subject, bits, 1.0, generator)
        for k in findings.undecided():
            check_affine_at(subject, k, arrays, bits, 1.0, generator, across=test % 2 == 0)
    return missed * rate**trials


def _trial(
    findings: Findings, bits: int, unit: float, generator: np.random.Generator, *, number: int, few: bool
) -> int:
    """Draw arrays of integers times a unit, and compare there; how many entries y has."""
    subject = findings.subject
    arrays = _integers(subject, bits, unit, generator)
    below = None if unit == 1 else small_bits(subject.dtype)
    point = Differences.draw(subject, arrays, bits, generator, unit, below=below, wide=unit != 1)
    confirm = functools.partial(_confirm_affine, subject, bits=bits, generator=generator)
    if not few:
        point = point.without_y()
    very_few = sum(subject.arrays[k].size for k in subject.wrt) <= _VERY_FEW
    compare(point, bits, generator, findings, affine=very_few and number < 2, across=few, confirm=confirm)
    return int(point.y.size)


def _integers(subject: LayerUnderTest, bits: int, unit: float, generator: np.random.Generator) -> Arrays:
    """The subject's arrays, those of wrt of integers times a unit."""
    arrays: Arrays = subject.arrays
    for k in subject.wrt:
        drawn = draw_integers(generator, subject.arrays[k].shape, bits, subject.arrays[k].dtype, unit)
        arrays = subject.with_array(arrays, k, drawn)
    return arrays


def _confirm_affine(subject: LayerUnderTest, k: int, *, bits: int, generator: np.random.Generator) -> None:
    """Raise StructureError unless f is affine in argument k between whole numbers, too: a floor is so on them alone."""
    bits = max(2, bits - math.ceil(GUARD_BITS / len(subject.wrt)))
    unit = 2.0 ** -(bits // 2)
    for _ in range(draws_to_confirm(subject, k)):
        drawn = [draw_integers(generator, subject.arrays[j].shape, bits, subject.dtype) for j in subject.wrt]
        check_affine_at(subject, k, placed(subject, drawn, unit), bits, unit, generator)


def bits_in_range(subject: LayerUnderTest) -> int:
    """How many bits the drawn integers may have for every intermediate to stay exact.

    The layer is run on arrays filled with one value, so that for nonnegative coefficients no partial sum
    of a drawn case can be larger; for others `check_affine` guards. What is affine in each of d arrays
    grows at most with the d-th power of that value, and so do gradients, dy in the place of an array.
    """
    limit = 2.0 ** mantissa_bits(subject.dtype)
    for bits in (_TRIED_BITS, 1):
        largest = _largest_intermediate(subject, bits)
        if largest < limit:
            return min(MOST_BITS, bits + int(math.log2(limit / max(largest, 1.0)) / len(subject.wrt)))
    raise StructureError(f"at these sizes even small integers leave the {limit:.3g} that {subject.dtype} holds exactly")


def _largest_intermediate(subject: LayerUnderTest, bits: int) -> float:
    fill = float(3 << bits)  # |a - v| is at most this
    arrays: Arrays = [np.asarray(np.abs(a)) if k in subject.held else a for k, a in enumerate(subject.arrays)]
    for k in subject.wrt:
        arrays = subject.with_array(arrays, k, np.full_like(subject.arrays[k], fill))
    y, cache = subject.borrowed(arrays)
    magnitudes = np.abs(y, dtype=np.float64)
    # sum(|dy| |y|) / |a|, dy and a being filled with one value: all the entries of a right gradient together.
    together = float(magnitudes.sum())
    gradients = subject.pull_back(arrays, np.full_like(y, fill), cache)
    claimed = max((float(np.abs(g).max()) for g in gradients.values() if g.size), default=0.0)
    # A wrong gradient must not talk the check out of its range.
    return max(float(magnitudes.max(initial=0.0)), min(together, claimed))
