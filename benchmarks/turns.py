"""Time several contenders in turn, and pass the rounds to pytest-benchmark.

pytest-benchmark times one benchmark after another, seconds apart. The speed of a machine drifts meanwhile, and
the ratio of two such medians includes this drift. Here every contender has one round, then every contender has
its next one. The order is reversed each time.

Before each round there is a pause. The threads of the library that ran before still spin on cores that the next
one needs. OpenBLAS's spin for 0.1 s, measured by the CPU time of the sleeping process. A short call also has an
untimed call before its round, because the caches are full of other data.

pytest-benchmark reads these rounds through its public option `timer`. The timer is a clock that returns the
measured times. The statistics, JSON, histograms and `compare` are therefore those of rounds in turn.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from pytest_benchmark.fixture import BenchmarkFixture

# A round is long compared with the clock's resolution and the jitter of a call.
_ROUND_SECONDS = 5e-4
_PAUSE_SECONDS = 0.12
_LONG_SECONDS = 0.05  # in calls this long, other contenders' data in the caches costs next to nothing
_FEWEST, _MOST = 5, 25


class Rounds(NamedTuple):
    """The seconds of each round, which is the sum over its calls."""

    seconds: tuple[float, ...]
    calls: int

    @property
    def median(self) -> float:
        """The median seconds of one call."""
        return statistics.median(self.seconds) / self.calls


def in_turns(contenders: Mapping[str, Callable[[], object]], *, seconds: float = 1.0) -> dict[str, Rounds]:
    """Return the rounds of each contender.

    The number of rounds is between 5 and 25. In these limits all rounds together take `seconds`. For 0 seconds
    there are no pauses.
    """
    once = {name: _once(call) for name, call in contenders.items()}
    calls = {name: max(1, math.ceil(_ROUND_SECONDS / took)) for name, took in once.items()}
    pause = _PAUSE_SECONDS if seconds else 0.0
    of_all = sum(once[name] * (calls[name] + 1) + pause for name in contenders)
    rounds = min(max(math.ceil(seconds / of_all), _FEWEST), _MOST)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            for name in list(contenders)[:: 1 if turn % 2 else -1]:
                time.sleep(pause)
                if once[name] < _LONG_SECONDS:
                    contenders[name]()
                found[name].append(_seconds(contenders[name], calls[name]))
    finally:
        if enabled:
            gc.enable()
    return {name: Rounds(tuple(own), calls[name]) for name, own in found.items()}


def _once(call: Callable[[], object]) -> float:
    """Return about how many seconds a call takes. A short call is timed twice, and the shorter time counts."""
    first = _seconds(call, 1)
    return first if first >= _LONG_SECONDS else min(first, _seconds(call, 1))


def _seconds(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - started


class _Replay:
    """A clock for pytest-benchmark. It reads 0 before a round and the round's seconds after it."""

    __name__ = "rounds_in_turn"
    _readings: Iterator[float] = iter(())

    def load(self, rounds: Rounds) -> None:
        self._readings = itertools.chain.from_iterable((0.0, seconds) for seconds in rounds.seconds)

    def __call__(self) -> float:
        return next(self._readings)


REPLAY = _Replay()  # for `@pytest.mark.benchmark(timer=REPLAY)`


def keep(benchmark: BenchmarkFixture, rounds: Rounds) -> None:
    """Pass the rounds to pytest-benchmark. The test must be marked with the clock REPLAY."""
    REPLAY.load(rounds)
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark's gap
        tuple, rounds=len(rounds.seconds), iterations=rounds.calls
    )
