"""The exact oracles: no step and no tolerance, on integers.

Multilinear functions: with integer arrays a, an integer direction v and an integer upstream
gradient dy, as long as nothing exceeds the mantissa,

    sum(dy * (f(a + v) - f(a))) == sum(da * v)        exactly.

A backward that errs by a polynomial of degree d in what is drawn survives one draw from a set S
with probability at most d / |S| (Schwartz 1980, Zippel 1979; for matrix products Freivalds 1977);
trials are repeated until (d / |S|)^trials is small enough. d counts v, dy and the arrays, once each.
Errors tied to particular values (`if x == 0.123`) are outside this bound.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np

from verify.gradcheck.certificate import PASS, StructureError
from verify.gradcheck.exact_numbers import (
    CHUNK,
    Array,
    draw_integers,
    dyadic_shift,
    exact_dot,
    mantissa_bits,
    set_size,
    small_bits,
)
from verify.gradcheck.locate import locate, not_finite
from verify.gradcheck.point import ExactPoint, Findings
from verify.gradcheck.subject import Arrays, Subject

# 20 bits for one factor and 20 for the other leave 12 of float64's 52 for sums of 4,096 products;
# longer sums get fewer. Two trials then miss with probability below 1e-9.
MOST_BITS = 20
_TRIED_BITS = 6
# More than the 24 that a float32 holds.
WIDE_BITS = 30
# Of so many entries of all arrays together a maximum may keep its winner along every direction tried, and of so
# many no sign of a relu may change: up to them a function is tested to be affine in the one way, and the other.
_FEW, _VERY_FEW = 4096, 64
# Of fractions, so many bits must be left over: a rounded number that looks short by chance, as one in
# two does that may fill the mantissa, then passes for exact one time in 2^7.
GUARD_BITS = 6


@dataclass(frozen=True)
class Differences(ExactPoint):
    """Differentiates by one exact difference, as long as `step`.

    Where y would take too much memory, `total` is sum(dy * y), and y is of NaN.
    """

    step: float = 1.0
    total: Fraction | None = None

    @classmethod
    def draw(
        cls,
        subject: Subject,
        arrays: Arrays,
        dy_bits: int,
        generator: np.random.Generator,
        step: float = 1.0,
        *,
        below: int | None = None,
        wide: bool = False,
    ) -> Self:
        """Run forward and backward at these arrays, of entries of `dy_bits`, with integers of them upstream.

        `below` makes fractions of them, up to 2^-below, so that a threshold shows. `wide` asks for as many bits
        as there is room for, up to 30: more than a float32 holds, so that one on the way back shows.
        """
        y, cache = subject.value_and_cache(arrays)
        exactly(y, -round(math.log2(step)) * len(subject.wrt))
        if wide:
            others = dy_bits * (len(subject.wrt) - 1)
            room = min(mantissa_bits(y.dtype), mantissa_bits(subject.dtype)) - GUARD_BITS - y.size.bit_length() - others
            dy_bits = max(dy_bits, min(WIDE_BITS, room))
        dy_shift = 0 if below is None else dy_bits + below
        dy = draw_integers(generator, y.shape, dy_bits, y.dtype, 2.0**-dy_shift)
        return cls(subject, arrays, y, dy, subject.pull_back(arrays, dy, cache), dy_shift=dy_shift, step=step)

    def without_y(self) -> Self:
        """The same, in less memory."""
        nothing = np.broadcast_to(self.y.dtype.type(np.nan), self.y.shape)
        return replace(self, y=nothing, total=self.upstream(self.y))

    def with_y(self) -> Self:
        """The same, with y again."""
        return self if self.total is None else replace(self, y=self.subject.value(self.arrays), total=None)

    def residual(self, k: int, v: Array, slopes: Array | None = None) -> Fraction:
        """0 if the gradient is right. Without y, v is where a + v is put together, and again as it was in the end."""
        if self.total is None or slopes is not None:
            return super().residual(k, v, slopes)
        array: Any = self.arrays[k]
        claimed, step = exact_dot(self.gradients[k], v, self.gradient_shift), v.dtype.type(self.step)
        v *= step
        v += array
        total = self.upstream(
            exactly(self.subject.borrowed(self.subject.with_array(self.arrays, k, v))[0], self.y_shift)
        )
        v -= array
        v /= step
        return (total - self.total) / Fraction(self.step) - claimed

    def change(self, k: int, v: Array) -> Array:
        """f(a + v) - f(a), exactly; v touches argument k alone."""
        change = exactly(self.subject.value(self.subject.moved(self.arrays, k, v)), self.y_shift)
        change -= self.y if self.total is None else self.subject.value(self.arrays)
        return change

    @property
    def y_shift(self) -> int:
        """That of y, if every array is of integers times the step: a product takes one of each."""
        return -round(math.log2(self.step)) * len(self.subject.wrt)

    @property
    def gradient_shift(self) -> int:
        """That of gradients: in a product dy stands in the place of an array."""
        return self.dy_shift - round(math.log2(self.step)) * (len(self.subject.wrt) - 1)

    def slopes(self, k: int, v: Array) -> Array:
        """(f(a + step v) - f(a)) / step, exactly: step is a power of two."""
        if self.step == 1:
            return self.change(k, v)
        change = self.change(k, self.step * v)
        change /= self.y.dtype.type(self.step)
        return change

    def check_affine(self, k: int, v: Array, slopes: Array) -> None:
        """Raise StructureError unless what is ahead along v is what is behind."""
        gap = np.abs(slopes + self.slopes(k, -v))
        if gap.any():
            raise StructureError(
                f"not affine in {self.subject.names[k]}: on exact integers f(a + v) - f(a) and f(a) - f(a - v) "
                f"differ by up to {gap.max():.6g}"
            )


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


def _hoped_bits(subject: Subject) -> int:
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
    degree = len(subject.wrt) + 2
    rate, trials = plan(degree, set_size(bits), miss_probability, subject.dtype)
    missed = min(degree / set_size(fraction_bits), 0.5)  # the last trial's
    while missed * rate ** (trials - 1) <= miss_probability and trials > 1:
        trials -= 1
    for trial in range(trials + 1):
        drawn_bits, unit = (bits, 1.0) if trial < trials else (fraction_bits, 2.0**-fraction_bits)
        _trial(findings, drawn_bits, unit, generator, number=trial)
    return missed * rate**trials


def _trial(findings: Findings, bits: int, unit: float, generator: np.random.Generator, *, number: int) -> None:
    """Draw arrays of integers times a unit, and compare there."""
    subject = findings.subject
    arrays: Arrays = subject.arrays
    for k in subject.wrt:
        drawn = draw_integers(generator, subject.arrays[k].shape, bits, subject.arrays[k].dtype, unit)
        arrays = subject.with_array(arrays, k, drawn)
    below = None if unit == 1 else small_bits(subject.dtype)
    point = Differences.draw(subject, arrays, bits, generator, unit, below=below, wide=unit != 1)
    confirm = functools.partial(_confirm_affine, subject, bits=bits, generator=generator)
    entries = sum(subject.arrays[k].size for k in subject.wrt)
    if entries > _FEW:
        point = point.without_y()
    elif number == 0:
        _check_no_kink_at_zero(point, findings.undecided())
    compare(point, bits, generator, findings, affine=entries <= _VERY_FEW and number < 2, confirm=confirm)


def _confirm_affine(subject: Subject, k: int, *, bits: int, generator: np.random.Generator) -> None:
    """Raise StructureError unless f is affine in argument k between whole numbers, too: a floor is so on them alone."""
    bits = max(2, bits - math.ceil(GUARD_BITS / len(subject.wrt)))
    unit = 2.0 ** -(bits // 2)
    for _ in range(draws_to_confirm(subject, k)):
        drawn = [draw_integers(generator, subject.arrays[j].shape, bits, subject.dtype) for j in subject.wrt]
        check_affine_at(subject, k, placed(subject, drawn, unit), bits, unit, generator)


def draws_to_confirm(subject: Subject, k: int) -> int:
    """At so many points, along one direction each: at one an entry of a floor may seem affine every other time."""
    return max(2, 16 // int(subject.arrays[k].size))


def check_affine_at(
    subject: Subject, k: int, arrays: Arrays, bits: int, unit: float, generator: np.random.Generator
) -> None:
    """Raise StructureError unless f is affine in argument k along a direction of integers times the unit."""
    v = draw_integers(generator, subject.arrays[k].shape, bits, subject.arrays[k].dtype)
    point = Differences(subject, arrays, subject.value(arrays), v, {}, step=unit)
    point.check_affine(k, v, point.slopes(k, v))


def _check_no_kink_at_zero(point: Differences, arguments: Sequence[int]) -> None:
    """Raise StructureError unless f(a) + f(-a) = 2 f(0) in each argument: no relu or maximum is affine so."""
    for k in arguments:
        array: Any = point.arrays[k]
        mirrored, zero = (
            exactly(point.subject.value(point.subject.with_array(point.arrays, k, factor * array)))
            for factor in (array.dtype.type(-1), array.dtype.type(0))
        )
        if not np.array_equal(point.y - zero, zero - mirrored):
            raise StructureError(f"not affine in {point.subject.names[k]}: f(a) - f(0) is not f(0) - f(-a)")


def placed(subject: Subject, drawn: Sequence[Array], unit: float) -> Arrays:
    """The subject's arrays, those of wrt replaced by what was drawn, times the unit."""
    arrays: Arrays = subject.arrays
    for k, array in zip(subject.wrt, drawn, strict=True):
        arrays = subject.with_array(arrays, k, np.asarray(unit * array).astype(subject.arrays[k].dtype))
    return arrays


def plan(degree: int, size: int, miss_probability: float, dtype: np.dtype[Any]) -> tuple[float, int]:
    """The probability that one trial misses, d / |S|, and how many trials the one asked for takes."""
    rate = degree / size
    if rate >= 0.5:
        raise StructureError(f"only {size} integers fit {dtype} at these sizes: too few for a meaningful draw")
    return rate, max(1, math.ceil(math.log(miss_probability) / math.log(rate)))


def compare(
    point: Differences,
    v_bits: int,
    generator: np.random.Generator,
    findings: Findings,
    *,
    affine: bool,
    confirm: Callable[[int], None] | None = None,
) -> None:
    """One trial: every argument that has not failed before, along one direction each.

    `affine` asks for a test that the function is so; it is made in any case before anything is called wrong.
    A function of many entries that is not affine cannot satisfy the identity along a random direction;
    one of a few may, as a relu of positive numbers does.
    """
    undecided = findings.undecided()
    for k in (k for k in point.subject.wrt if point.gradients[k].size and k not in findings.settled):
        gradient = point.gradients[k]
        if k not in undecided and not affine:
            continue
        v = draw_integers(generator, gradient.shape, v_bits, gradient.dtype)
        slopes = point.slopes(k, v) if affine else None
        index = not_finite(gradient)
        wrong = index is None and point.residual(k, v, slopes) != 0
        if affine or wrong:  # of what has failed at its kinks, too: is it the function it was taken for?
            point.check_affine(k, v, point.slopes(k, v) if slopes is None else slopes)
        if wrong and confirm is not None:
            confirm(k)
        if wrong and gradient.size <= _FEW:  # of few entries, one direction may be rounded alike on both sides
            for _ in range(max(4, 16 // gradient.size)):
                other = draw_integers(generator, gradient.shape, v_bits, gradient.dtype)
                point.check_affine(k, other, point.slopes(k, other))
        if k not in undecided:
            continue
        if wrong:
            index = locate(gradient.shape, lambda d, k=k: point.residual(k, d), generator, first=v)  # type: ignore[misc]
        if index is not None:
            findings.fail(point.with_y(), k, index)


def bits_in_range(subject: Subject) -> int:
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


def _largest_intermediate(subject: Subject, bits: int) -> float:
    fill = float(2 << bits)  # |a + v| is at most this
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


def exactly(y: Array, likely: int = 0) -> Array:
    """The array y itself. StructureError unless its entries are integers, or short dyadic fractions, in range.

    `likely` is a shift that likely makes integers of them; it saves a search for the least.
    """
    largest = max(float(y.max(initial=0.0)), -float(y.min(initial=0.0)))
    limit = 2.0 ** mantissa_bits(y.dtype)
    if largest * 2.0 ** (likely + GUARD_BITS if likely else 0) <= limit:
        flat, scale = y.reshape(-1), y.dtype.type(2.0**likely)
        chunks = (flat[start : start + CHUNK] * scale for start in range(0, flat.size, CHUNK))
        if all((np.rint(chunk) == chunk).all() for chunk in chunks):
            return y
    try:
        shift = dyadic_shift(y)
        fits = largest * 2.0**shift <= (limit / 2.0**GUARD_BITS if shift else limit)
    except ValueError:
        fits = False
    if not fits:
        raise StructureError(f"y leaves the integers that {y.dtype} holds exactly (largest entry {largest:.6g})")
    return y
