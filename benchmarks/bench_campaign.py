"""Benchmark of a campaign: the same batches on one process and on two.

    pytest benchmarks/bench_campaign.py

On two idle cores two processes should do 1.7 times as much. They did 2.06 times as much (medians of three rounds).
Each round starts its processes anew, so imports count.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from verify.command import executors, jobs
from verify.evidence import campaign

# One batch of each version of each layer, so that all layers count alike.
_BATCHES = len(campaign.subjects())


def _done(processes: int, batches: int, cases: int, folder: str) -> int:
    """Do the batches, and return how many cases they had."""
    tasks = ((number, campaign.batch, (number, 0, folder, cases)) for number in range(batches))
    found = [batch for _, batch in executors.finished(tasks, executors.processes(processes, jobs.load))]
    assert len(found) == batches
    assert not any(batch.failures for batch in found)
    return sum(batch.cases for batch in found)


@pytest.mark.parametrize("processes", [1, 2])
def test_campaign(processes: int, benchmark: BenchmarkFixture, small: bool, tmp_path: Path) -> None:
    batches, cases = (2, 2) if small else (_BATCHES, campaign.CASES // 8)
    benchmark.group = "campaign"
    rounds = 1 if small else 3
    benchmark.extra_info["cases"] = benchmark.pedantic(_done, (processes, batches, cases, str(tmp_path)), rounds=rounds)  # type: ignore[no-untyped-call]
