"""The intervals of the report: how often they have the true value in them, and that rounds stay paired."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.report import intervals
from benchmarks.report.collect import Row
from benchmarks.report.intervals import Interval, mean, ratio, slope


def row(case: str = "a", **rounds: list[float]) -> Row:
    """A row of these rounds, with their medians."""
    seconds = {name: float(np.median(own)) for name, own in rounds.items()}
    return Row("conv2d", "zoo", case, "both", seconds, {}, {name: tuple(own) for name, own in rounds.items()})


def test_an_interval_has_the_true_ratio_in_it_about_as_often_as_it_says() -> None:
    """Of 200 at 95 %, fewer than 178 have a chance of 0.1 %. Percentiles of medians of few rounds are somewhat off."""
    generator, hits = np.random.default_rng(0), 0
    for case in range(200):
        fast, torch = np.exp(generator.normal(0, 0.1, (2, 15)))
        found = ratio(row(str(case), fast=list(2 * fast), torch=list(torch)), ("torch",))
        assert found is not None
        hits += found.low <= 2 <= found.high
    assert hits >= 178


def test_rounds_are_paired() -> None:
    """The machine drifts by a factor of 8, and every round has the same ratio. Unpaired, the interval would be wide."""
    drift = [1.0, 2.0, 4.0, 8.0, 6.0, 3.0, 1.5]
    found = ratio(row(fast=[3 * each for each in drift], torch=drift), ("torch",))
    assert found == pytest.approx(Interval(3, 3, 3))


def test_the_best_contender_is_chosen_in_each_resample() -> None:
    rounds = {"fast": [1.0] * 9, "torch": [1.0, 3.0, 1.1, 2.9, 1.0, 3.0, 2.0, 1.2, 2.8], "jax": [1.9] * 9}
    found = ratio(row("a", **rounds), ("torch", "jax"))
    assert found is not None
    assert found.value == pytest.approx(1 / 1.9)
    assert found.low == pytest.approx(1 / 1.9)
    assert found.high > 1 / 1.9


def test_the_same_rounds_give_the_same_interval_and_each_case_draws_its_own() -> None:
    generator = np.random.default_rng(1)
    fast, torch = (list(each) for each in np.exp(generator.normal(0, 0.3, (2, 9))))
    rounds = {"fast": fast, "torch": torch}
    assert ratio(row("a", **rounds), ("torch",)) == ratio(row("a", **rounds), ("torch",))
    first, second = (intervals._logarithms(row(case, **rounds), ("torch",), "fast") for case in "ab")
    assert first is not None
    assert second is not None
    assert (first != second).any()


def test_a_mean_of_many_cases_is_known_better_than_one() -> None:
    generator = np.random.default_rng(2)
    rows = [
        row(str(case), fast=list(fast), torch=list(torch))
        for case, (fast, torch) in enumerate(np.exp(generator.normal(0, 0.1, (25, 2, 11))))
    ]
    of_all, (one, *_) = mean(rows, ("torch",)), (ratio(each, ("torch",)) for each in rows)
    assert of_all is not None
    assert one is not None
    widths = [math.log(each.high / each.low) for each in (of_all, one)]
    assert widths[0] < widths[1] / 3  # a fifth, by the square root of 25


def test_without_rounds_there_is_no_interval() -> None:
    known = Row("conv2d", "zoo", "a", "both", {"fast": 3.0, "torch": 2.0}, {})
    assert ratio(known, ("torch",)) == mean([known], ("torch",)) == Interval(1.5, 1.5, 1.5)
    assert ratio(known, ("jax",)) is None
    assert mean([known], ("jax",)) is None


def test_contenders_with_unequal_rounds_are_not_paired() -> None:
    found = ratio(row(fast=[1.0, 2.0, 3.0], torch=[1.0, 2.0]), ("torch",))
    assert found is not None
    assert found.low == found.high


@pytest.mark.parametrize(("interval", "side"), [((0.5, 0.4, 0.6), -1), ((2, 1.5, 3), 1), ((1.1, 0.9, 1.3), 0)])
def test_a_side_is_named_only_if_all_of_the_interval_lies_there(
    interval: tuple[float, float, float], side: int
) -> None:
    assert Interval(*interval).side == side


def test_a_slope_has_the_interval_of_its_regression() -> None:
    """Of 400 at 95 %, from 363 to 393 have the true slope in it with a chance of 99.9 %."""
    generator, hits, sizes = np.random.default_rng(3), 0, (8, 16, 32, 64, 128, 256)
    for _ in range(400):
        noise = np.exp(generator.normal(0, 0.05, len(sizes)))
        found = slope([(n, float(3 * n**1.7 * e)) for n, e in zip(sizes, noise, strict=True)])
        assert found is not None
        hits += found.low <= 1.7 <= found.high
    assert 363 <= hits <= 393


def test_the_interval_of_a_slope_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="comes with scikit-learn")
    points = [(8, 1.0), (16, 2.5), (32, 4.1), (64, 9.0), (128, 15.0)]
    fitted, found = stats.linregress(*np.log(np.array(points)).T), slope(points)
    reach = stats.t.ppf(0.975, len(points) - 2) * fitted.stderr
    assert found == pytest.approx(Interval(fitted.slope, fitted.slope - reach, fitted.slope + reach), rel=1e-3)


def test_every_round_may_be_drawn() -> None:
    for place in range(3):
        rounds = [1.0, 1.0, 1.0]
        rounds[place] = 100.0
        assert intervals._medians(tuple(rounds), 0).max() == 100


def test_two_sizes_have_no_interval_and_no_slope() -> None:
    assert slope([(2, 1.0), (4, 2.0)]) is None
    assert slope([]) is None
    assert slope([(2, 1.0), (4, 2.0), (8, 4.0)]) == pytest.approx(Interval(1, 1, 1))


def test_the_quantiles_are_students() -> None:
    stats = pytest.importorskip("scipy.stats", reason="comes with scikit-learn")
    for freedom, quantile in enumerate(intervals._STUDENT, start=1):
        assert quantile == pytest.approx(stats.t.ppf(0.975, freedom), abs=5e-4)
