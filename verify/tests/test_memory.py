"""The peak memory of a call, as the system counts it: that it is right, counted again, and missing where it must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import memory
from benchmarks.bench_layers import extra_bytes, prepare
from verify.layers import LAYERS

CASE = next(case for case in LAYERS["conv2d"].bench if case.zoo == "VGG on CIFAR" and case.name.startswith("64->64"))
ASKED: dict[str, Any] = {"layer": "conv2d", "zoo": CASE.zoo, "case": CASE.name, "images": 4, "dtype": "float32"}
# Pages, and the interpreter's own objects, of which some come and go.
OFF = 1 << 19


@pytest.fixture(scope="module")
def gauge() -> Iterator[memory.Gauge]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("Linux counts the memory of a process")
    made = memory.Gauge(1)
    yield made
    made.close()


@pytest.mark.parametrize("version", ["fast", "im2col"])
def test_what_the_system_counts_is_what_tracemalloc_counts_of_numpy(gauge: memory.Gauge, version: str) -> None:
    ready = prepare(LAYERS["conv2d"], CASE, np.dtype(np.float32), 4)
    results = sum(array.nbytes for array in ready.contenders["fast"].results)
    expected = extra_bytes(ready.contenders[version].calls["both"]) + results
    assert expected > 10 * OFF
    larger = gauge.peak(**{**ASKED, "images": 16}, version="im2col")  # its peak must be forgotten
    assert larger is not None
    assert larger > expected + 2 * OFF
    for _ in range(2):  # memory that was freed is taken, and counted, again
        measured = gauge.peak(**ASKED, version=version)
        assert measured is not None
        assert abs(measured - expected) <= OFF


def test_the_memory_of_a_library_is_counted(gauge: memory.Gauge) -> None:
    pytest.importorskip("torch", reason="PyTorch is what we compare with")
    measured = gauge.peak(**ASKED, version="torch")
    ready = prepare(LAYERS["conv2d"], CASE, np.dtype(np.float32), 4)
    assert measured is not None
    assert measured >= sum(array.nbytes for array in ready.contenders["fast"].results) - OFF


def test_a_process_that_dies_is_named_with_its_case() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("Linux counts the memory of a process")
    made = memory.Gauge(1)
    with pytest.raises(RuntimeError, match=r"the process that measures memory ended with 1 at \{'layer': 'no such"):
        made.peak(**{**ASKED, "layer": "no such layer"}, version="fast")


def test_a_system_that_does_not_count_gives_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "nothing")
    assert memory.Gauge(1).peak(**ASKED, version="fast") is None
    assert memory.peak(lambda: None) is None


def test_the_process_is_not_started_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started"))
    memory.Gauge(1).close()
