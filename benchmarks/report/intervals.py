"""Intervals of 95 %: of ratios by a bootstrap over rounds, of exponents by the regression."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report.collect import Row, Training, geometric_mean

Array = NDArray[Any]

_ENDS = (2.5, 97.5)
# With 2,000 resamples an end of the interval lies between the percentiles 1.8 and 3.2 of the distribution (two
# standard deviations of a binomial). Rounds are few, so more would only look more exact.
_RESAMPLES = 2000
# The quantile 97.5 % of Student's t, by degrees of freedom. A series of n sizes has n - 2.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Interval(NamedTuple):
    """A value with the ends of its interval of 95 %. Both ends are the value if there are no rounds."""

    value: float
    low: float
    high: float

    @property
    def side(self) -> int:
        """-1 if all of the interval lies below 1, +1 if all lies above, 0 if it has 1 in it."""
        return (self.low > 1) - (self.high < 1)


def ratio(timed: Row | Training, names: Sequence[str], ours: str = "fast") -> Interval | None:
    """Return our time over the best of these contenders, or None if none of them was timed.

    Contenders took turns, so round k of one and round k of another ran in the same second. The bootstrap draws
    turns with replacement, and both medians are those of the same turns.
    """
    best = min((timed.seconds[name] for name in names if name in timed.seconds), default=None)
    if best is None or ours not in timed.seconds:
        return None
    value, logarithms = timed.seconds[ours] / best, _logarithms(timed, names, ours)
    return Interval(value, value, value) if logarithms is None else _interval(value, logarithms)


def mean(timed: Iterable[Row | Training], names: Sequence[str]) -> Interval | None:
    """Return the geometric mean of our time over the best of these contenders, for these very cases."""
    found = [(each, of.value) for each in timed if (of := ratio(each, names)) is not None]
    if not found:
        return None
    value, drawn = geometric_mean(of for _, of in found), [_logarithms(each, names, "fast") for each, _ in found]
    whole = [each for each in drawn if each is not None]
    return _interval(value, np.mean(whole, axis=0)) if len(whole) == len(drawn) else Interval(value, value, value)


def slope(points: Sequence[tuple[float, float]]) -> Interval | None:
    """Return the least-squares slope in logarithms. Three sizes are needed: two have a line without residuals.

    The interval is that of the regression, +- t s. It assumes that the points scatter about a line.
    """
    n = len({size for size, _ in points})
    if n < 3 or n - 2 > len(_STUDENT):
        return None
    x, y = np.log(np.array(points, float)).T
    x = x - x.mean()
    found = float(x @ y / (x @ x))
    residuals = y - y.mean() - found * x
    deviation = math.sqrt(residuals @ residuals / (len(x) - 2) / (x @ x))
    reach = _STUDENT[len(x) - 3] * deviation
    return Interval(found, found - reach, found + reach)


def _interval(value: float, logarithms: Array) -> Interval:
    low, high = np.exp(np.percentile(logarithms, _ENDS))
    return Interval(value, min(float(low), value), max(float(high), value))


def _logarithms(timed: Row | Training, names: Sequence[str], ours: str) -> Array | None:
    """Return the logarithm of the ratio in each resample, or None if the rounds are not known."""
    theirs = [name for name in names if name in timed.seconds]
    rounds: Mapping[str, tuple[float, ...]] = {name: timed.rounds.get(name, ()) for name in (ours, *theirs)}
    if len({len(each) for each in rounds.values()}) != 1 or not rounds[ours]:
        return None
    salt = zlib.crc32(" ".join(map(str, timed[:4])).encode())  # each case draws turns of its own
    best = np.min([_medians(rounds[name], salt) for name in theirs], axis=0)
    return np.asarray(np.log(_medians(rounds[ours], salt)) - np.log(best))


@functools.cache
def _medians(rounds: tuple[float, ...], salt: int) -> Array:
    turns = np.random.default_rng(salt).integers(0, len(rounds), (_RESAMPLES, len(rounds)))
    return np.asarray(np.median(np.array(rounds)[turns], axis=1))
