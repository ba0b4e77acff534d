"""Chains of multilinear and piecewise-linear layers at the arrays given: the complex step, exactly.

A network of convolutions, poolings, relus and linear layers is, in each of its arrays alone and
until a branch switches, affine. Its forward takes complex arrays and branches on their real parts;
so with i v added to one array the branches stay what they are, no product is ever of two imaginary
parts, and Im f(a + iv) is the derivative along v of the branches taken: of whole numbers, or short
dyadic fractions, without any rounding. Hence, ties and zeros included,

    sum(dy * Im f(a + iv)) == sum(da * v)        exactly.

A gradient that is wrong in any entry at these arrays survives one draw of v and dy with probability
at most 2 / |S| (the two enter linearly; Schwartz 1980, Zippel 1979).

What is exact is derived: no intermediate exceeds what the forward gives on absolute values, and none
is finer than the product of the finest fractions of all arrays; both together must fit the mantissa.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verify.checker.certificate import StructureError
from verify.checker.exact import GUARD_BITS, MOST_BITS, WIDE_BITS, exactly, plan
from verify.checker.exact_numbers import (
    Array,
    draw_integers,
    dyadic_shift,
    mantissa_bits,
    set_size,
    small_bits,
)
from verify.checker.layer import LayerUnderTest
from verify.checker.locate import locate, not_finite
from verify.checker.point import ExactPoint, Findings
from verify.checker.same_function import check_feels_steps, check_one_branch, check_same_function


@dataclass(frozen=True)
class Branches(ExactPoint):
    """Differentiates the branches that the forward takes, by a complex step of 1."""

    def slopes(self, k: int, v: Array) -> Array:
        """Im f(a + iv), v touching argument k alone."""
        moved = self.subject.complex_value(self.arrays, k, v)
        if not np.array_equal(moved.real, self.y):
            raise StructureError(
                f"Re f(a + iv) is not f(a): {self.subject.names[k]} enters more than once in a product"
            )
        exactly(moved.imag)
        return moved.imag


def check_branches(findings: Findings, generator: np.random.Generator, miss_probability: float) -> float:
    """Fill in the findings; a bound on the probability that a wrong gradient passed.

    Raises StructureError where the arrays hold too many bits for exact arithmetic, and where the
    forward's imaginary part is not odd in the direction.
    """
    subject = findings.subject
    y = subject.value(subject.arrays)
    room = _bits_in_range(subject, y)
    bits = min(MOST_BITS, room)
    rate, trials = plan(2, set_size(bits), miss_probability, subject.dtype)
    trials = max(2, trials)
    for trial in range(trials):
        # Integers first, then small fractions, of more bits than a float32 holds: by them a gradient that is cut shows.
        dy_bits = min(WIDE_BITS, room) if trial else bits
        unit = 2.0 ** -(dy_bits + small_bits(y.dtype)) if trial else 1.0
        dy = draw_integers(generator, y.shape, dy_bits, y.dtype, unit)
        _, cache = subject.value_and_cache(subject.arrays)  # just before: a layer may keep its cache in itself
        point = Branches(subject, subject.arrays, y, dy, subject.pull_back(subject.arrays, dy, cache))
        for k in findings.undecided():
            _check_argument(point, k, bits, findings, generator, odd=trial == 0)
    return rate**trials


def _check_argument(
    point: Branches, k: int, bits: int, findings: Findings, generator: np.random.Generator, *, odd: bool
) -> None:
    gradient = point.gradients[k]
    v = draw_integers(generator, gradient.shape, bits, gradient.dtype)
    slopes = point.slopes(k, v)
    if odd:
        check_same_function(point.subject, k, v, 1.0, generator)
        if not np.array_equal(slopes, -point.slopes(k, -v)):
            raise StructureError(f"the branches depend on the imaginary part of {point.subject.names[k]}")
    index = not_finite(gradient)
    if index is None and point.residual(k, v, slopes) != 0:
        check_feels_steps(point, k, generator)
        check_one_branch(point, k, generator)
        index = locate(gradient.shape, lambda direction: point.residual(k, direction), generator, first=v)
    if index is not None:
        findings.fail(point, k, index)


def _bits_in_range(subject: LayerUnderTest, y: Array) -> int:
    """How many bits directions and upstream gradients may have.

    On absolute values the layers at hand are monotone: relu and maxima of nonnegative numbers pass
    them on, so f(|a| + i |v|) bounds every value and every slope. A right gradient's entry is at
    most sum(|dy| Im f(|a| + i |v|)) with v = 1.
    """
    limit = 2.0 ** (mantissa_bits(subject.dtype) - GUARD_BITS)
    absolute = [
        np.asarray(np.abs(a)) if k in subject.differentiable and a is not None else a
        for k, a in enumerate(subject.arrays)
    ]
    fineness = 2.0 ** sum(_shift(subject, k) for k in (*subject.wrt, *subject.held))
    values, slopes = 0.0, 0.0
    for k in subject.wrt:
        moved = subject.complex_value(absolute, k, np.ones(subject.arrays[k].shape))
        values = max(values, float(np.abs(moved.real).max(initial=0.0)))
        slopes = max(slopes, float(np.abs(moved.imag).max(initial=0.0)))
    _, cache = subject.value_and_cache(absolute)
    gradients = subject.pull_back(absolute, np.ones_like(y), cache)
    claimed = max((float(np.abs(g).max()) for g in gradients.values() if g.size), default=0.0)
    slopes = max(slopes, min(claimed, slopes * y.size))
    spare = math.log2(limit / fineness / max(slopes, 1.0))
    if not values * fineness < limit or not spare >= 3:
        raise StructureError(
            f"values up to {values:.3g} in steps of 1/{fineness:.3g} leave {subject.dtype} no room for exact directions"
        )
    return int(spare)


def _shift(subject: LayerUnderTest, k: int) -> int:
    if np.iscomplexobj(subject.arrays[k]):
        raise StructureError(f"{subject.names[k]} holds complex numbers")
    try:
        return dyadic_shift(subject.arrays[k])
    except ValueError:
        raise StructureError(
            f"{subject.names[k]} holds no short dyadic fractions: exact arithmetic needs them"
        ) from None
