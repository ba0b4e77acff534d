"""The arithmetic the exact oracles rest on, against Python's own fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.checker.exact import Differences
from verify.checker.exact_numbers import (
    Grid,
    draw_gapped,
    draw_integers,
    dyadic_shift,
    exact_dot,
    grid_of,
    set_size,
)
from verify.checker.layer import LayerUnderTest


def _dot(u: list[float], v: list[float]) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in zip(u, v, strict=True)), Fraction(0))


@given(data=st.data(), left=st.sampled_from([3, 21, 40, 53, 62]), right=st.sampled_from([1, 20, 53]))
def test_integer_products_of_any_width_do_not_round(data: st.DataObject, left: int, right: int) -> None:
    size = data.draw(st.integers(0, 40))
    u = data.draw(st.lists(st.integers(-(2**left), 2**left).map(float), min_size=size, max_size=size))
    v = data.draw(st.lists(st.integers(-(2**right), 2**right).map(float), min_size=size, max_size=size))
    assert exact_dot(np.array(u), np.array(v)) == _dot(u, v)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (20, 20), (30, 46), (52, 20), (43, 44), (52, 52), (62, 62)])
def test_products_of_numbers_whose_grids_are_told_do_not_round(left: int, right: int) -> None:
    generator = np.random.default_rng(0)
    for size in (1, 1000, 40_000):
        u, v = (generator.integers(-(2**bits), 2**bits, size, endpoint=True).astype(float) for bits in (left, right))
        u[0], v[0] = -(2**left), 2**right  # the largest
        expected = Fraction(sum(int(a) * int(b) for a, b in zip(u, v, strict=True)), 2**13)
        halves, others = u / 2**5, v / 2**8
        assert exact_dot(halves, others, Grid(5, left), Grid(8, right)) == expected
        assert exact_dot(halves, others, Grid(3), Grid(-9)) == expected  # guesses that do not hold


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_grid_is_the_likely_one_if_it_holds_else_the_least(dtype: type) -> None:
    values: np.ndarray = np.array([[0.5, -0.75], [2, 0]], dtype)
    assert grid_of(values, 4) == Grid(4, 5)
    assert grid_of(values, 1) == grid_of(values) == Grid(2, 3)
    assert grid_of(values * dtype(2.0**20), 60) == Grid(0, 21)  # of that many bits there are none
    assert grid_of(np.zeros((0, 3), dtype)) == Grid(0, 0)
    for value in (np.nan, np.inf, -np.inf):
        assert grid_of(np.array([1, value], dtype)) is None
    assert grid_of(np.array([1e30, 2.0**-60], dtype)) is None


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=20))
def test_products_of_any_floats_do_not_round(pairs: list[tuple[float, float]]) -> None:
    u, v = [a for a, _ in pairs], [b for _, b in pairs]
    assert exact_dot(np.array(u), np.array(v)) == _dot(u, v)


@pytest.mark.parametrize("bits", [(52, 20), (43, 44), (53, 34), (44, 44), (53, 53)])
def test_long_sums_of_the_largest_do_not_round(bits: tuple[int, int]) -> None:
    """Of one sign, and odd, so that each partial sum rounds: the sums int64 and floating point are farthest off."""
    largest = [2**each - 1 for each in bits]
    u, v = (np.full(100_000, float(value)) for value in largest)
    assert exact_dot(u, v) == 100_000 * largest[0] * largest[1]


@pytest.mark.parametrize(("value", "shift"), [(3.0, 0), (0.5, 1), (-0.375, 3), (2.0**-60, 60)])
def test_the_shift_is_the_least_that_serves(value: float, shift: int) -> None:
    assert dyadic_shift(np.array([1.0, value])) == shift


def test_a_tenth_is_no_short_dyadic_fraction() -> None:
    assert dyadic_shift(np.array([0.1])) == 55  # as a double it is one, but long
    with pytest.raises(ValueError, match=r"not a multiple of 2\^-60"):
        dyadic_shift(np.array([1e-5]))


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(3, 22))
def test_gapped_entries_are_apart_from_each_other_and_from_zero(seed: int, sizes: list[int], gap_bits: int) -> None:
    arrays = draw_gapped(np.random.default_rng(seed), [(size,) for size in sizes], gap_bits)
    assert [array.shape for array in arrays] == [(size,) for size in sizes]
    entries = np.sort(np.concatenate(arrays))
    assert (np.diff(entries) >= 0.75 * 2**gap_bits).all()
    assert (np.abs(entries) >= 0.375 * 2**gap_bits).all()


def test_drawn_integers_fill_their_set() -> None:
    drawn = draw_integers(np.random.default_rng(0), (10_000,), 3, np.dtype(np.float32))
    assert drawn.dtype == np.float32
    assert len(np.unique(drawn)) == set_size(3) == 16


@pytest.mark.parametrize("shape", [(), (7,), (4, 20_000)])
@pytest.mark.parametrize("bits", [0, 3, 31, 32, 50])
def test_drawn_integers_reach_both_ends_of_their_range_and_are_times_the_unit(
    bits: int, shape: tuple[int, ...]
) -> None:
    drawn = draw_integers(np.random.default_rng(0), shape, bits, np.dtype(float), 2.0**-9)
    whole = drawn * 2.0**9
    assert drawn.shape == shape
    assert (whole == np.rint(whole)).all()
    assert (-(2.0**bits) <= whole).all()
    assert (whole < 2.0**bits).all()
    # 5,000 draws all miss the last 200th of the range with a chance of 0.995^5000, 1e-11.
    for part in whole.reshape(-1, 5000) if whole.size > 5000 else ():
        assert part.min() < -0.99 * 2.0**bits
        assert part.max() > 0.99 * 2.0**bits - 1


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**-3, 2.0**3, 2.0**40])
def test_a_point_of_scaled_dy_is_as_exact(factor: float) -> None:
    def doubled(x: np.ndarray) -> Any:
        return 2 * x, None

    subject = LayerUnderTest(doubled, lambda dy, _: (2 * dy,), (np.ones((3, 2)),), None, None)
    arrays = (np.arange(6.0).reshape(3, 2),)
    point = Differences.draw(subject, arrays, 3, np.random.default_rng(0), below=4).scaled(factor)
    v = np.array([[1.0, -2.0], [4.0, 8.0], [-8.0, 16.0]])
    assert point.residual(0, v) == 0
    point.gradients[0][1, 1] *= 2
    assert point.residual(0, v) == -8 * Fraction(point.gradients[0][1, 1]) / 2


def test_a_point_at_another_dy_is_as_exact() -> None:
    arrays = (np.arange(1.0, 7.0).reshape(2, 3),)
    subject = LayerUnderTest(lambda x: (2 * x, None), lambda dy, _: (2 * dy,), arrays, {}, None)
    dy = np.full((2, 3), 0.1)  # on another grid than what was drawn
    drawn = Differences.draw(subject, arrays, 3, np.random.default_rng(0), below=4)
    point = replace(drawn.at(arrays, dy), gradients={0: 2 * dy})
    assert point.residual(0, np.ones((2, 3))) == 0
    assert replace(point, gradients={0: 4 * dy}).residual(0, np.ones((2, 3))) == -12 * Fraction(0.1)
