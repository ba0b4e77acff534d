"""Set-up of all benchmarks: a fixed number of threads, and the machine's facts in the header and in the JSON."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

from benchmarks.memory import Gauge
from benchmarks.time_left import TimeLeft, earlier

_LIBRARIES = ("torch", "jax")
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
        "--dtype", choices=("float32", "float64"), default="float32", help="dtype of the arrays (default: float32)"
    )

    group.addoption(
        "--small",
        action="store_true",
        help="few images and few rounds: tries the benchmarks and the report, measures nothing",
    )


def pytest_configure(config: pytest.Config) -> None:
    # As an error, "no benchmarks have been run" would hide its cause, the traceback of a failed import.
    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    config.stash[_WARNINGS] = _drop_coretype()
    config.stash[_FACTS] = _facts(config.getoption("blas_threads"))
    report = config.getoption("benchmark_json")
    config.pluginmanager.register(TimeLeft(earlier(report)), "time-left")
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)


def pytest_report_header(config: pytest.Config) -> list[str]:
    facts = config.stash[_FACTS]
    cpu = config.hook.pytest_benchmark_generate_machine_info(config=config)["cpu"].get("brand_raw", "unknown")
    ran_on = "{threads} threads, {blas} {version}, kernel {kernel}, NumPy {numpy}".format(**facts)
    return [f"timed on: {cpu}, {ran_on}", *config.stash[_WARNINGS]]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["blas"] = config.stash[_FACTS]
    machine_info["small"] = config.getoption("small")


@pytest.fixture(scope="session")
def dtype(pytestconfig: pytest.Config) -> str:
    """The dtype of the layers' arrays."""
    return str(pytestconfig.getoption("dtype"))


@pytest.fixture(scope="session")
def small(pytestconfig: pytest.Config) -> bool:
    """Whether the run uses few images and rounds, as every dry run does."""
    return bool(pytestconfig.getoption("small") or pytestconfig.getoption("benchmark_disable"))


@pytest.fixture(scope="session")
def gauge(pytestconfig: pytest.Config) -> Iterator[Gauge]:
    """The process that measures peak memory."""
    made = Gauge(pytestconfig.getoption("blas_threads"))
    yield made
    made.close()


def _drop_coretype() -> list[str]:
    """Remove OPENBLAS_CORETYPE, which OpenBLAS reads when NumPy loads it. Return a warning if it was set."""
    kernel = os.environ.pop("OPENBLAS_CORETYPE", None)
    if kernel is None:
        return []
    fate = "has its effect, because NumPy was loaded before" if "numpy" in sys.modules else "is ignored"
    return [f"warning: OPENBLAS_CORETYPE={kernel} is set, which makes a current NumPy slow; it {fate}"]


def _pin(threads: int) -> dict[str, str]:
    """Give PyTorch and JAX this number of threads, and return the versions of the installed ones.

    XLA reads NPROC once, when JAX starts, and sizes JAX's pool from it. The only other way in JAX 0.10.2 is the
    affinity of the process. A 2048 x 2048 product used 1.95 cores with --xla_cpu_multi_thread_eigen=false in
    XLA_FLAGS, and 1.00 with NPROC=1.
    """
    os.environ["NPROC"] = str(threads)
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES if importlib.util.find_spec(name)}
    if "torch" in found:
        import torch

        torch.set_num_threads(threads)
    return found


def _facts(threads: int) -> dict[str, Any]:
    # Imported here, because `_drop_coretype` must run before.
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits

    libraries_beside = _pin(threads)
    threadpool_limits(limits=threads)
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    library = libraries[0] if libraries else {}  # threadpoolctl does not know Accelerate, for example
    return {
        "blas": library.get("internal_api", "unknown BLAS"),
        "version": library.get("version", "of unknown version"),
        "kernel": library.get("architecture", "unknown"),
        "threads": library.get("num_threads", "unknown"),
        "numpy": np.__version__,
        **libraries_beside,
    }
