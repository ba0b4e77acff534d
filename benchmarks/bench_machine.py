"""Benchmarks of the machine: its fastest matrix product and copy, which are the roofs of the report's roofline."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.turns import REPLAY, in_turns, keep

_SIDE = 2048  # side of the matrices: three are 48 MiB in float32, and arithmetic dominates a product of this size
_BYTES = 1 << 28  # far more than any cache


def _product(dtype: str, small: bool) -> tuple[Callable[[], object], dict[str, int]]:
    side = 128 if small else _SIDE
    left, right = np.random.default_rng(0).random((2, side, side)).astype(dtype)
    out = np.empty_like(left)
    return lambda: np.matmul(left, right, out=out), {"flops": 2 * side**3}


def _copy(pool: ThreadPoolExecutor, threads: int, small: bool) -> tuple[Callable[[], object], dict[str, int]]:
    """Return a copy by all threads, each of its own part. NumPy releases the interpreter's lock while it copies."""
    source = np.ones((threads, (_BYTES >> 10 * small) // threads), np.uint8)
    target = np.zeros_like(source)
    return lambda: list(pool.map(np.copyto, target, source)), {"bytes": 2 * source.nbytes}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("roof", ["matrix product", "copy"])
def test_machine(roof: str, benchmark: BenchmarkFixture, dtype: str, small: bool, pytestconfig: pytest.Config) -> None:
    threads = pytestconfig.getoption("blas_threads")
    with ThreadPoolExecutor(threads) as pool:
        call, work = _product(dtype, small) if roof == "matrix product" else _copy(pool, threads, small)
        if not benchmark.enabled:
            benchmark.pedantic(call)  # type: ignore[no-untyped-call]  # pytest-benchmark's gap
            return
        benchmark.group = "machine"
        benchmark.extra_info.update(work, dtype=dtype)
        keep(benchmark, in_turns({roof: call}, seconds=0 if small else 2)[roof])
