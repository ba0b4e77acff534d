"""Benchmarks of gradcert against the fast mode of PyTorch's gradcheck, for several sizes of a convolution.

Ours checks PyTorch's own convolution, so that both times are those of checking. A second row checks our
convolution. The two do not establish the same thing: ours states the probability that a wrong gradient passes.

    pytest benchmarks/bench_gradcheck.py
"""

from __future__ import annotations

import functools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.calibrate.speed import LARGE, Shapes, jobs
from benchmarks.turns import REPLAY, Rounds, in_turns, keep

_S1 = {"stride": 1, "padding": 1}

# PyTorch's fast mode needs two forwards for x and two for w.
SIZES: list[tuple[Shapes, dict[str, int]]] = [
    (((2, 3, 8, 8), (4, 3, 3, 3)), {"stride": 2, "padding": 1}),
    (((2, 16, 16, 16), (16, 16, 3, 3)), _S1),
    (((2, 32, 28, 28), (32, 32, 3, 3)), _S1),
    LARGE,
]


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("version", ["ours", "ours, our convolution", "torch"])
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_gradcheck(size: int, version: str, benchmark: BenchmarkFixture, small: bool) -> None:
    pytest.importorskip("torch", reason="PyTorch's gradcheck is what we compare with")
    if not benchmark.enabled or (small and size):
        pytest.skip("a dry run has nothing to compare, and --small takes one size")
    (x, w), options = SIZES[size]
    benchmark.group = f"gradcheck {size}"
    benchmark.extra_info.update(x=x, w=w, **options)
    keep(benchmark, _timed(size, small)[version])


@functools.lru_cache(maxsize=1)
def _timed(size: int, small: bool) -> dict[str, Rounds]:
    shapes, options = SIZES[size]
    return in_turns(jobs(shapes, options), seconds=0 if small else 4)
