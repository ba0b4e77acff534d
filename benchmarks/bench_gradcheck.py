"""Benchmarks of gradcert against PyTorch's gradcheck, slow and fast mode, for several sizes of a convolution.

Ours checks PyTorch's own convolution, so that both times are those of checking. A second row checks our
convolution. The two do not establish the same thing: ours states the probability that a wrong gradient passes.

    pytest benchmarks/bench_gradcheck.py
"""

from __future__ import annotations

import functools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.calibrate.speed import LARGE, SMALL, Shapes, jobs
from benchmarks.turns import REPLAY, Rounds, in_turns, keep

_S1 = {"stride": 1, "padding": 1}

# PyTorch's slow mode needs two forwards for every entry of x and w. Its fast mode needs two for x and two for w.
SIZES: dict[str, list[tuple[Shapes, dict[str, int]]]] = {
    "slow": [
        (((1, 2, 5, 5), (2, 2, 3, 3)), _S1),
        (((2, 2, 6, 6), (3, 2, 3, 3)), _S1),
        SMALL,
        (((2, 4, 12, 12), (4, 4, 3, 3)), _S1),
    ],
    "fast": [
        SMALL,
        (((2, 16, 16, 16), (16, 16, 3, 3)), _S1),
        (((2, 32, 28, 28), (32, 32, 3, 3)), _S1),
        LARGE,
    ],
}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("version", ["ours", "ours, our convolution", "torch"])
@pytest.mark.parametrize(("mode", "size"), [(mode, size) for mode in SIZES for size in range(len(SIZES[mode]))])
def test_gradcheck(mode: str, size: int, version: str, benchmark: BenchmarkFixture, small: bool) -> None:
    pytest.importorskip("torch", reason="PyTorch's gradcheck is what we compare with")
    if not benchmark.enabled or (small and size):
        pytest.skip("a dry run has nothing to compare, and --small takes one size")
    (x, w), options = SIZES[mode][size]
    benchmark.group = f"gradcheck {mode} {size}"
    benchmark.extra_info.update(x=x, w=w, **options)
    keep(benchmark, _timed(mode, size, small)[version])


@functools.lru_cache(maxsize=1)
def _timed(mode: str, size: int, small: bool) -> dict[str, Rounds]:
    shapes, options = SIZES[mode][size]
    return in_turns(jobs(shapes, options, fast=mode == "fast"), seconds=0 if small else 4)
