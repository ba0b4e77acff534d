"""What all benchmarks share: pinned threads, a header that says what they ran on, and the same in the JSON."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import warnings
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

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
        "--dtype", choices=("float32", "float64"), default="float32", help="of the layers' arrays (default: float32)"
    )

    group.addoption(
        "--small",
        action="store_true",
        help="a few images and the fewest rounds: to try the benchmarks and the report, not to measure",
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
    machine_info["small"] = config.getoption("small")


@pytest.fixture(scope="session")
def dtype(pytestconfig: pytest.Config) -> str:
    """Of the layers' arrays."""
    return str(pytestconfig.getoption("dtype"))


@pytest.fixture(scope="session")
def small(pytestconfig: pytest.Config) -> bool:
    """Whether sizes and rounds are only to be tried, as in every dry run."""
    return bool(pytestconfig.getoption("small") or pytestconfig.getoption("benchmark_disable"))


def _drop_coretype() -> list[str]:
    """Forget OPENBLAS_CORETYPE, which OpenBLAS reads as NumPy loads it; what to say of it, if it was set."""
    kernel = os.environ.pop("OPENBLAS_CORETYPE", None)
    if kernel is None:
        return []
    fate = "in force, as NumPy was loaded before" if "numpy" in sys.modules else "ignored"
    return [f"warning: OPENBLAS_CORETYPE={kernel} is set, which slows a current NumPy down; it is {fate}"]


def _pin(threads: int) -> dict[str, str]:
    """As many threads for everyone; the versions of those who are installed.

    XLA sizes JAX's pool from NPROC, once, as JAX starts; JAX 0.10.2 has no other way but the process's
    affinity: a 2048 x 2048 product took 1.95 cores with --xla_cpu_multi_thread_eigen=false in XLA_FLAGS,
    1.00 with NPROC=1.
    """
    os.environ["NPROC"] = str(threads)
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES if importlib.util.find_spec(name)}
    if "torch" in found:
        import torch

        torch.set_num_threads(threads)
    return found


def _facts(threads: int) -> dict[str, Any]:
    # Loaded here, not above: `_drop_coretype` comes first.
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits

    libraries_beside = _pin(threads)
    threadpool_limits(limits=threads)
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    library = libraries[0] if libraries else {}  # Accelerate, for one, is not known to threadpoolctl
    return {
        "blas": library.get("internal_api", "unknown BLAS"),
        "version": library.get("version", "of unknown version"),
        "kernel": library.get("architecture", "unknown"),
        "threads": library.get("num_threads", "unknown"),
        "numpy": np.__version__,
        **libraries_beside,
    }
