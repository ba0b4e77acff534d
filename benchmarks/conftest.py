"""What all benchmarks share: pinned threads, a header that says what they ran on, and the same in the JSON."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

_FACTS = pytest.StashKey[dict[str, Any]]()
_WARNINGS = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks of gradcert")
    group.addoption(
        "--blas-threads",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="threads of the linear algebra library (default: 2, or the number of cores if fewer)",
    )
    group.addoption(
        "--dtype", choices=("float32", "float64"), default="float32", help="of the layers' arrays (default: float32)"
    )


def pytest_configure(config: pytest.Config) -> None:
    # As an error, "no benchmarks have been run" would bury why none was: the traceback of a failed import.
    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    config.stash[_WARNINGS] = _drop_coretype()
    config.stash[_FACTS] = _facts(config.getoption("blas_threads"))
    if report := config.getoption("benchmark_json"):
        report.parent.mkdir(parents=True, exist_ok=True)


def pytest_report_header(config: pytest.Config) -> list[str]:
    facts = config.stash[_FACTS]
    cpu = config.hook.pytest_benchmark_generate_machine_info(config=config)["cpu"].get("brand_raw", "unknown")
    ran_on = "{threads} threads, {blas} {version}, kernel {kernel}, NumPy {numpy}".format(**facts)
    return [f"timed on: {cpu}, {ran_on}", *config.stash[_WARNINGS]]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["blas"] = config.stash[_FACTS]


@pytest.fixture(scope="session")
def blas(pytestconfig: pytest.Config) -> dict[str, Any]:
    """The linear algebra library: blas, version, kernel, threads; and numpy, the version of NumPy."""
    return pytestconfig.stash[_FACTS]


def _drop_coretype() -> list[str]:
    """Forget OPENBLAS_CORETYPE, which OpenBLAS reads as NumPy loads it; what to say of it, if it was set."""
    kernel = os.environ.pop("OPENBLAS_CORETYPE", None)
    if kernel is None:
        return []
    fate = "in force, as NumPy was loaded before" if "numpy" in sys.modules else "ignored"
    return [f"warning: OPENBLAS_CORETYPE={kernel} is set, which slows a current NumPy down; it is {fate}"]


def _facts(threads: int) -> dict[str, Any]:
    # Loaded here, not above: `_drop_coretype` comes first.
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits

    threadpool_limits(limits=threads)
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    library = libraries[0] if libraries else {}  # Accelerate, for one, is not known to threadpoolctl
    return {
        "blas": library.get("internal_api", "unknown BLAS"),
        "version": library.get("version", "of unknown version"),
        "kernel": library.get("architecture", "unknown"),
        "threads": library.get("num_threads", "unknown"),
        "numpy": np.__version__,
    }
