"""The Hypothesis profiles: `--hypothesis-profile quick`, `ci` (the default), `oracle` or `nightly`; and a small run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from verify.profiles import EXAMPLES
from verify.records import silently

pytest_plugins = ["pytester"]

# Naive loops are slow by design, and machines are shared: time is no ground to fail an example.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile("quick", _COMMON, max_examples=EXAMPLES["quick"], derandomize=True, database=None)
settings.register_profile("ci", _COMMON, max_examples=EXAMPLES["ci"], derandomize=True, database=None)
settings.register_profile("oracle", _COMMON, max_examples=EXAMPLES["oracle"], derandomize=True, database=None)
settings.register_profile("nightly", _COMMON, max_examples=EXAMPLES["nightly"])
settings.load_profile("ci")

# `benchmarks` and docs/handbook are no part of what is installed; last, so that what is installed comes first.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "docs")]


@pytest.fixture(autouse=True)
def _unlisted() -> Iterator[None]:
    """The checks of these tests, wrong gradients by the hundred, are not listed at the end of the run."""
    with silently():
        yield


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON that the benchmarks themselves write, of some cases at a few images."""
    root, path = Path(__file__).parents[2], tmp_path_factory.mktemp("run") / "run.json"
    command = [sys.executable, "-m", "pytest", "-q", *sorted(map(str, (root / "benchmarks").glob("bench_*.py")))]
    command += ["--small", "--blas-threads=1", f"--benchmark-json={path}"]
    command += ["-k", "loops or LeNet or batch or machine or slow-0 or fast-0"]
    # In a worker of xdist pytest-benchmark times nothing, and its children take themselves for workers.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return path
