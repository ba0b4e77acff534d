"""Time several contenders in turn, and let pytest-benchmark keep the rounds.

pytest-benchmark times one benchmark after another, seconds apart, and a machine is never as fast now as it
was a second ago: the ratio of two such medians carries that drift. Here every contender has one round, then
every contender its next, in an order that turns round each time. Before each round there is a pause and,
where calls are short, an untimed call: the threads of the library that ran before spin a while for more work,
on cores that the next one needs (OpenBLAS's for 0.1 s, measured by what the process takes while it sleeps), and
it finds the caches full of another's data.

pytest-benchmark gets every one of these rounds by its public `timer`, a clock that reads what was measured,
so its statistics, JSON, histograms and `compare` are those of rounds in turn.
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

# A round is long enough for the clock's resolution and a call's jitter to be small beside it.
_ROUND_SECONDS = 5e-4
_PAUSE_SECONDS = 0.12
_LONG_SECONDS = 0.05  # beside which what the others leave behind is nothing
_FEWEST, _MOST = 5, 25


class Rounds(NamedTuple):
    """The seconds of each round, all its calls together."""

    seconds: tuple[float, ...]
    calls: int

    @property
    def median(self) -> float:
        """Seconds of one call."""
        return statistics.median(self.seconds) / self.calls


def in_turns(contenders: Mapping[str, Callable[[], object]], *, seconds: float = 1.0) -> dict[str, Rounds]:
    """The rounds of each contender: as many as fit in `seconds`, all together, but from 5 to 25; no pauses in 0 s."""
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
    """About how long a call takes; a short one is given a second chance."""
    first = _seconds(call, 1)
    return first if first >= _LONG_SECONDS else min(first, _seconds(call, 1))


def _seconds(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - started


class _Replay:
    """A clock for pytest-benchmark that reads 0 before a round, and after it what the round took."""

    __name__ = "rounds_in_turn"
    _readings: Iterator[float] = iter(())

    def load(self, rounds: Rounds) -> None:
        self._readings = itertools.chain.from_iterable((0.0, seconds) for seconds in rounds.seconds)

    def __call__(self) -> float:
        return next(self._readings)


REPLAY = _Replay()  # for `@pytest.mark.benchmark(timer=REPLAY)`


def keep(benchmark: BenchmarkFixture, rounds: Rounds) -> None:
    """Hand the rounds to pytest-benchmark; the test must be marked with the clock REPLAY."""
    REPLAY.load(rounds)
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark's gap
        tuple, rounds=len(rounds.seconds), iterations=rounds.calls
    )
