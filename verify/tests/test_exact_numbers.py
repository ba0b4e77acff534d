"""The arithmetic the exact oracles rest on, against Python's own fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.gradcheck.exact_numbers import draw_gapped, draw_integers, dyadic_shift, exact_dot, set_size


def _dot(u: list[float], v: list[float]) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in zip(u, v, strict=True)), Fraction(0))


@given(data=st.data(), left=st.sampled_from([3, 21, 40, 53, 62]), right=st.sampled_from([1, 20, 53]))
def test_integer_products_of_any_width_do_not_round(data: st.DataObject, left: int, right: int) -> None:
    size = data.draw(st.integers(0, 40))
    u = data.draw(st.lists(st.integers(-(2**left), 2**left).map(float), min_size=size, max_size=size))
    v = data.draw(st.lists(st.integers(-(2**right), 2**right).map(float), min_size=size, max_size=size))
    assert exact_dot(np.array(u), np.array(v)) == _dot(u, v)


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=20))
def test_products_of_any_floats_do_not_round(pairs: list[tuple[float, float]]) -> None:
    u, v = [a for a, _ in pairs], [b for _, b in pairs]
    assert exact_dot(np.array(u), np.array(v)) == _dot(u, v)


def test_long_sums_that_overflow_an_int64_do_not() -> None:
    u = np.full(100_000, 2.0**52)
    assert exact_dot(u, np.full_like(u, 2.0**20)) == 100_000 * 2**72


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
