"""Show how long a run of the benchmarks still takes, every quarter of a minute."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

_EVERY_SECONDS = 15.0
_OTHER_SECONDS = 0.5  # of a benchmark beside its rounds: to draw, compare and warm up its arrays, a rough mean


class TimeLeft:
    """A pytest plugin. It weighs each benchmark by its time in an earlier run, or all alike if there is none."""

    def __init__(self, earlier: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._earlier, self._clock = earlier, clock
        self._left: dict[str, float] = {}
        self._done = 0.0
        self._count = 0
        self._started = self._said = clock()

    def begin(self, names: list[str]) -> None:
        """Start with these benchmarks."""
        usual = sum(self._earlier.values()) / len(self._earlier) if self._earlier else 1.0
        self._left = {name: self._earlier.get(name, usual) for name in names}
        self._count = len(names)
        self._started = self._said = self._clock()

    def finish(self, name: str) -> str | None:
        """Note that a benchmark is done. Return the line to show, or None if one was shown moments ago."""
        self._done += self._left.pop(name, 0.0)
        now = self._clock()
        if not self._left or not self._done or now - self._said < _EVERY_SECONDS:
            return None
        self._said = now
        left = (now - self._started) / self._done * sum(self._left.values())
        return f"{self._count - len(self._left)} of {self._count} timed, about {_spoken(left)} left; now after {name}"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Start with the collected benchmarks."""
        self.begin([item.nodeid for item in session.items])
        self._reporter = session.config.pluginmanager.get_plugin("terminalreporter")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Show the time left."""
        line = self.finish(nodeid)
        if line is not None and self._reporter is not None:
            self._reporter.ensure_newline()
            self._reporter.write_line(line)


def earlier(path: Path | None) -> dict[str, float]:
    """Return the seconds of each benchmark of an earlier run, by its name. Empty if there is no such file."""
    try:
        run = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return {
            each["fullname"]: each["stats"]["total"] * each["stats"]["iterations"] + _OTHER_SECONDS
            for each in run.get("benchmarks", ())
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _spoken(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
