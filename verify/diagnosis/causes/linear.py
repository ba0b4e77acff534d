"""What backward makes of another dy: of none, of a larger or smaller one, of a sum of two."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from verify.checker.exact_numbers import draw_integers
from verify.checker.point import Array, Point
from verify.checker.reference import scaled, with_upstream
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import FEWEST_WRONG, Evidence

Found = Iterator[tuple[CauseCode, str]]
# To which dy is scaled, as powers of two: small beside any threshold on what is large, and the other way round.
_POWERS = (0, 10, -10)
# An exact check draws dy up to 2^31, and asks for one 2^32 times as large.
_HUGE = 62
# More than a backward rounds by that computes in float32, in sums of up to a few entries: 16 units in its last place.
_ROUNDED = 2.0**-20
# Integers of three bits: they add up exactly, in float16 as well.
_BITS = 3


def with_large_dy(point: Point) -> Point:
    """The point with a dy that is not small: a gradient that is cut to whole numbers is 0 of small ones."""
    exponent = int(np.frexp(np.abs(point.dy).max(initial=0.0))[1])
    return point if exponent > min(_POWERS) else scaled(point, 2.0 ** (max(_POWERS) - exponent))


def with_huge_dy(point: Point) -> Point:
    """The point with a dy beside which the gradients of a check are small."""
    return scaled(point, 2.0 ** (_HUGE - int(np.frexp(np.abs(point.dy).max(initial=0.0))[1])))


def not_linear(evidence: Evidence) -> Found:
    """A gradient that is right for the same dy, made smaller or larger, or but for a term that dy has no part in."""
    point, k = evidence.point, evidence.k
    exponent = int(np.frexp(np.abs(point.dy).max(initial=0.0))[1])
    for power in _POWERS:  # of a power of two nothing rounds
        other = scaled(point, 2.0 ** (power - exponent))
        if np.array_equal(other.claimed[k] / 2.0 ** (power - exponent), point.claimed[k]):
            continue  # it is as wrong there, whatever is tolerated
        known = zip(evidence.directions, evidence.slopes, strict=True)
        if all(evidence.reference.matches(other, k, v, other.dy, slopes) for v, slopes in known):
            size = f"2^{power - exponent}" if power > exponent else f"2^-{exponent - power}"
            yield (
                CauseCode.NOT_LINEAR,
                f"is right for {size} dy: it cuts off what is small, clips what is large, or loses accuracy",
            )
            return
    yield from _term_without_dy(evidence)


def _term_without_dy(evidence: Evidence) -> Found:
    """The true gradient, and what is claimed for dy = 0."""
    point, k = evidence.point, evidence.k
    term = with_upstream(point, np.zeros_like(point.dy)).claimed[k]
    if not term.any() or np.array_equal(term, point.claimed[k]):
        return
    eps = float(np.finfo(term.dtype).eps)
    if evidence.fits(evidence.true + term, 2 * eps * (np.abs(evidence.true) + np.abs(term))):
        yield CauseCode.NOT_LINEAR, f"is the true gradient and a term without dy: for dy = 0 it is {_example(term)}"


def nonlinear_at_all(point: Point, k: int) -> Found:
    """A backward that is not linear in dy, whatever else is wrong with it. No true gradient is needed to see that."""
    claimed, zero = point.claimed[k], np.zeros_like(point.dy)
    term = with_upstream(point, zero).claimed[k]
    if term.any() and np.isfinite(term).all():
        if np.array_equal(term, claimed):
            yield CauseCode.UPSTREAM_IGNORED, "does not change when dy is set to 0"
        else:
            yield CauseCode.NOT_LINEAR, f"has a term without dy: for dy = 0 it is {_example(term)}"
        return
    generator = np.random.default_rng(0)
    one, other = (draw_integers(generator, point.dy.shape, _BITS, point.dy.dtype) for _ in range(2))
    first, second, both = (with_upstream(point, dy).claimed[k] for dy in (one, other, one + other))
    largest = max(float(np.abs(each).max(initial=0.0)) for each in (first, second, both))
    off = np.abs(first + second - both)
    if np.isfinite(largest) and (off > _ROUNDED * largest).any():
        text = "is not linear in dy: the gradients of two dy do not add up to that of their sum"
        yield CauseCode.NOT_LINEAR, f"{text} (off by {float(off.max()):.3g}, the largest is {largest:.3g})"


def ignores_upstream(evidence: Evidence) -> Found:
    """A gradient that stays as it is for twice the upstream gradient."""
    point, k = evidence.point, evidence.k
    if np.count_nonzero(np.nan_to_num(evidence.true)) < FEWEST_WRONG:
        return  # the true gradient does not change, either
    doubled = scaled(point, 2.0).claimed[k]
    if evidence.claimed.any() and np.array_equal(doubled, evidence.claimed):
        yield CauseCode.UPSTREAM_IGNORED, "does not change when dy is doubled"


def _example(term: Array) -> str:
    """The largest entry, in words."""
    return f"up to {float(np.abs(term).max()):.6g}"
