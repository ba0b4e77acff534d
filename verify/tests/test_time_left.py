"""The time left of a run of the benchmarks: by the number of benchmarks, or by their times in an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.time_left import TimeLeft, earlier


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_benchmarks_count_alike_without_an_earlier_run() -> None:
    clock = Clock()
    left = TimeLeft({}, clock)
    left.begin(["a", "b", "c", "d"])
    clock.now += 100
    assert left.finish("a") == "1 of 4 timed, about 5 min left; now after a"


def test_an_earlier_run_weighs_the_benchmarks() -> None:
    """One of four is done, but it took 6 of 9 seconds. A benchmark that is new weighs the mean, 3."""
    clock = Clock()
    left = TimeLeft({"a": 6.0, "b": 1.0, "c": 2.0}, clock)
    left.begin(["a", "b", "c", "new"])
    clock.now += 60
    assert left.finish("a") == "1 of 4 timed, about 60 s left; now after a"


def test_it_is_said_four_times_a_minute_at_most_and_not_at_the_end() -> None:
    clock = Clock()
    left = TimeLeft({}, clock)
    names = [str(i) for i in range(121)]
    left.begin(names)
    said = []
    for name in names:
        clock.now += 1
        said.append(left.finish(name))
    assert sum(line is not None for line in said) == 8
    assert said[-1] is None


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"benchmarks": [{}]}', '{"benchmarks": 3}'])
def test_a_file_that_is_no_run_weighs_nothing(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert earlier(path) == {}
    assert earlier(None) == {}


def test_an_earlier_run_gives_the_seconds_of_all_calls(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    stats = {"total": 2.0, "iterations": 3}
    path.write_text(json.dumps({"benchmarks": [{"fullname": "a", "stats": stats}]}), encoding="utf-8")
    assert earlier(path) == {"a": 6.5}
