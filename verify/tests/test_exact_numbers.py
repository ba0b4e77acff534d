"""The arithmetic of exact references, against Python's fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from verify import StructureError
from verify.checker.exact import check_exact
from verify.checker.exact_numbers import (
    draw_gapped,
    draw_integers,
    dyadic_shift,
    exact_dot,
    integer_bits,
)


def _dot(u: list[float], v: list[float]) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in zip(u, v, strict=True)), Fraction(0))


@given(data=st.data(), left=st.sampled_from([3, 21, 40, 53, 62]), right=st.sampled_from([1, 20, 53]))
def test_integer_products_of_any_width_do_not_round(data: st.DataObject, left: int, right: int) -> None:
    size = data.draw(st.integers(0, 40))
    u = data.draw(st.lists(st.integers(-(2**left), 2**left).map(float), min_size=size, max_size=size))
    v = data.draw(st.lists(st.integers(-(2**right), 2**right).map(float), min_size=size, max_size=size))
    assert exact_dot(np.array(u), np.array(v)) == _dot(u, v)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (20, 20), (30, 46), (52, 20), (43, 44), (52, 52), (62, 62)])
def test_products_of_dyadic_fractions_do_not_round(left: int, right: int) -> None:
    generator = np.random.default_rng(0)
    for size in (1, 1000, 40_000):
        u, v = (generator.integers(-(2**bits), 2**bits, size, endpoint=True).astype(float) for bits in (left, right))
        u[0], v[0] = -(2**left), 2**right  # the largest
        expected = Fraction(sum(int(a) * int(b) for a, b in zip(u, v, strict=True)), 2**13)
        halves, others = u / 2**5, v / 2**8
        assert exact_dot(halves, others) == expected


@pytest.mark.parametrize(
    ("values", "shift", "bits"), [([0.5, -0.75, 2], 2, 3), ([0.0], 0, 0), ([-8.0], 0, 3), ([9.0], 0, 4)]
)
def test_bits_are_the_fewest_that_hold_the_integers(values: list[float], shift: int, bits: int) -> None:
    assert dyadic_shift(np.array(values)) == shift
    assert integer_bits(np.array(values), shift) == bits


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_inner_product_is_made_of_what_is_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        exact_dot(np.array([1, value]), np.array([0.0, 0.0]))


# A power of two that is so small has few bits, but no float64 is large enough to make it an integer.
@example([(3 * 2.0**-1060, 5.0), (2.0**-1060, -1.0)])
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=20))
def test_products_of_any_floats_do_not_round(pairs: list[tuple[float, float]]) -> None:
    u, v = [a for a, _ in pairs], [b for _, b in pairs]
    assert exact_dot(np.array(u), np.array(v)) == _dot(u, v)


@pytest.mark.parametrize("bits", [(52, 20), (43, 44), (53, 34), (44, 44), (53, 53)])
def test_long_sums_of_the_largest_do_not_round(bits: tuple[int, int]) -> None:
    """Odd numbers of one sign: every partial sum rounds, and int64 overflows most."""
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
    assert len(np.unique(drawn)) == 2 << 3 == 16


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


def test_what_is_small_is_exact_only_if_its_mantissas_are_short() -> None:
    """Neither 3 * 2^-500 nor pi * 2^-150 is a multiple of 2^-60. The first is exact, the second fills its mantissa."""
    check_exact(np.array([3 * 2.0**-500, -5 * 2.0**-501]))
    for rounded in ([np.pi * 2.0**-150], [1.0, np.pi * 2.0**-150], [1e-8 / 3, 2e-8]):
        with pytest.raises(StructureError, match="short fractions"):
            check_exact(np.array(rounded))
