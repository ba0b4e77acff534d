"""The judge's comparison: a claim inside its interval passes, and one outside fails unless an objection speaks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from verify.checker.arguments import layer_under_test
from verify.checker.judge import Finding, compare, shown
from verify.checker.objections import Objection
from verify.checker.point import Array, Point, Worst
from verify.checker.reference import Interval, Number, point_at
from verify.checker.references.multilinear import Multilinear

_EXACT = Interval(Fraction(-1, 3), Fraction(1, 3))
_TOLERANT = Interval.around(1.0, 2.0**-20)
_BILLIONTH = Fraction(1, 10**9)
_JUST_INSIDE: list[tuple[Interval, Number]] = [
    (_EXACT, Fraction(1, 3)),
    (_EXACT, Fraction(-1, 3)),
    (_EXACT, Fraction(0)),
    (_EXACT, Fraction(1, 3) - _BILLIONTH),
    (Interval(Fraction(2), Fraction(2)), Fraction(2)),
    (_TOLERANT, _TOLERANT.low),
    (_TOLERANT, _TOLERANT.high),
    (_TOLERANT, 1.0),
]
_JUST_OUTSIDE: list[tuple[Interval, Number]] = [
    (_EXACT, Fraction(1, 3) + _BILLIONTH),
    (_EXACT, Fraction(-1, 3) - _BILLIONTH),
    (Interval(Fraction(2), Fraction(2)), 2 + Fraction(1, 2**300)),
    (_TOLERANT, math.nextafter(float(_TOLERANT.low), -math.inf)),
    (_TOLERANT, math.nextafter(float(_TOLERANT.high), math.inf)),
    (_TOLERANT, math.nan),
    (_TOLERANT, math.inf),
    (_TOLERANT, -math.inf),
]


class _Given(Multilinear):
    """Compares a given claim with a given interval, along one direction."""

    def __init__(self, interval: Interval, claim: Number, *objections: Objection) -> None:
        super().__init__(1e-9, objections)
        self._interval, self._claim = interval, claim

    def directions(self, point: Point, k: int, rng: np.random.Generator) -> Iterator[Array]:
        yield np.ones(point.claimed[k].shape)

    def derivative(self, point: Point, k: int, v: Array) -> Interval:
        return self._interval

    def claim(self, point: Point, k: int, v: Array) -> Number:  # type: ignore[override]
        return self._claim

    def locate(self, point: Point, k: int, v: Array, rng: np.random.Generator) -> tuple[int, ...]:
        return (0,)


def _compared(interval: Interval, claim: Number, *objections: Objection) -> Finding:
    layer = layer_under_test(lambda x: (x.copy(), None), lambda dy, _: (dy.copy(),), (np.ones(1),), None, None)
    point = point_at(layer, layer.arrays, lambda y: np.full_like(y, 5.0))
    return compare(_Given(interval, claim, *objections), point, 0, np.random.default_rng(0))


@pytest.mark.parametrize(("interval", "claim"), _JUST_INSIDE)
def test_a_claim_just_inside_passes(interval: Interval, claim: Number) -> None:
    assert interval.excess(claim) == 0
    assert _compared(interval, claim, lambda case: "never asked").result.verdict == "PASS"


@pytest.mark.parametrize(("interval", "claim"), _JUST_OUTSIDE)
def test_a_claim_just_outside_fails(interval: Interval, claim: Number) -> None:
    assert interval.excess(claim) > 0
    assert _compared(interval, claim).result.verdict == "FAIL"
    assert _compared(interval, claim, lambda case: None).result.verdict == "FAIL"


def test_the_excess_is_the_distance_to_the_nearer_end_and_infinite_for_nan() -> None:
    assert _EXACT.excess(Fraction(4, 3)) == 1
    assert _EXACT.excess(Fraction(-7, 3)) == 2
    assert Interval(-1.0, 2.0).excess(2.5) == 0.5
    assert Interval(-1.0, 2.0).excess(math.nan) == math.inf


def test_the_first_objection_with_a_reason_makes_a_claim_outside_undecided() -> None:
    result = _compared(_EXACT, Fraction(1), lambda case: None, lambda case: "first", lambda case: "second").result
    assert (result.verdict, result.note) == ("INCONCLUSIVE", "first")


def test_an_objection_is_given_the_excess_of_the_claim() -> None:
    excesses: list[Number] = []
    _compared(_EXACT, Fraction(4, 3), lambda case: excesses.append(case.excess))
    assert excesses == [1]


def test_a_wrong_entry_is_shown_with_the_number_that_scales_it() -> None:
    arrays = np.array([1.0, 2.0, 3.0]), np.array([5.0]), np.array([7.0, 8.0])
    layer = layer_under_test(lambda x, s, b: (x * s, None), lambda dy, _: (dy, dy, dy), arrays, {}, None)
    point = Point(layer, layer.arrays, np.ones(3), np.ones(3), {})
    text = shown(point, Worst(0, (1,), -2.5, 4.0, 0.0))
    assert text == "dx[1] is -2.5 and should be 4 where x[1] is 2 and s[0] is 5"
