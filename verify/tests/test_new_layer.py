"""A new layer is two files and one line: tests, command line, benchmarks and calibration find it by themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verify.battery.contracts import CONTRACTS

ROOT = Path(__file__).parents[2]

# An analytic layer, because it needs the most of a declaration: complex arrays, and a tolerance.
LAYER = '''"""Weighted square.

    y = scale * w * x^2;    dx = 2 * scale * w * x * dy,  dw = scale * x^2 * dy

Shapes: x, w, y of one shape. Dtypes: float32, float64, complex64, complex128.

Raises ValueError, quoting the shapes, if they differ.

Source: a test.
"""

from typing import NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, check_arrays, implement


class _Call(NamedTuple):
    x: Array
    w: Array
    scale: int


def _prepare(x: Array, w: Array, *, scale: int = 1) -> _Call:
    check_arrays(x=x, w=w)
    if x.shape != w.shape:
        raise ValueError(f"x and w must have one shape, got {x.shape} and {w.shape}")
    return _Call(x, w, scale)


def _naive_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w), entry by entry."""
    y = np.zeros(call.x.shape, call.x.dtype)
    for i in np.ndindex(call.x.shape):
        y[i] = call.scale * call.w[i] * (call.x[i] * call.x[i])
    return y, call


def _naive_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw) from dy, entry by entry."""
    dx, dw = np.zeros(dy.shape, dy.dtype), np.zeros(dy.shape, dy.dtype)
    for i in np.ndindex(dy.shape):
        dx[i] = 2 * call.scale * call.w[i] * call.x[i] * dy[i]
        dw[i] = call.scale * call.x[i] * call.x[i] * dy[i]
    return dx, dw


def _vectorized_forward(call: _Call) -> tuple[Array, _Call]:
    """Compute (y, cache) from (x, w), all entries at once."""
    return np.asarray(call.scale * call.w * call.x**2), call


def _vectorized_backward(dy: Array, call: _Call) -> Gradients:
    """Compute (dx, dw) from dy, all entries at once."""
    return np.asarray(2 * call.scale * call.w * call.x * dy), np.asarray(call.scale * call.x**2 * dy)


naive = implement("naive", _prepare, _naive_forward, _naive_backward)
vectorized = implement("vectorized", _prepare, _vectorized_forward, _vectorized_backward)
fast = vectorized
'''

DECLARATION = '''"""The declaration of weighted_square."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from cnn_core import weighted_square
from verify import strategies
from verify.layers._layer import BenchCase, Case, Layer, Reject


@st.composite
def cases(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    x, w = (draw(strategies.integers(shape, 9)) for _ in range(2))
    return Case((x, w), {"scale": draw(st.integers(1, 3))})


def draw(generator, images):
    return tuple(generator.normal(size=(images, 50)).astype(np.float32) for _ in range(2))


def tolerance(arrays, options, y, dy, gradients):
    """Four products, each rounded by eps/2 at most, in either version. By 2 and by a small scale none rounds."""
    return tuple(4 * np.finfo(y.dtype).eps * np.abs(each) for each in (y, *gradients))


WEIGHTED_SQUARE = Layer(
    name="weighted_square",
    module=weighted_square,
    arguments="x: ...; w: ... -> y: ...",
    structure="analytic",
    cases=cases,
    rejects=(Reject("shapes", (np.zeros(2), np.zeros(3)), {}, ValueError, r"got \\(2,\\) and \\(3,\\)"),),
    bench=(BenchCase("N = 64", "small", 64, draw, naive=True), BenchCase("N = 6400", "large", 6400, draw)),
    source="a test",
    torch=lambda torch, x, w, scale: scale * w * x**2,
    jax=lambda jax, x, w, scale: scale * w * x**2,
    tolerance=tolerance,
)
'''

# At a small scale, and without the other layers: their figures are no matter of this test.
CALIBRATION = """
from benchmarks.calibrate import causes, false_alarms, sensitivity
from benchmarks.calibrate.mutants import MUTANTS
from verify.layers import LAYERS

for name in [name for name in LAYERS if name != "weighted_square"]:
    LAYERS.pop(name)
MUTANTS[:] = [each for each in MUTANTS if each.layer in LAYERS]
false_alarms.TIED.clear()
false_alarms.TIED["none"] = (lambda x: (2 * x, None), lambda dy, _: (2 * dy,))
found = causes.measure(1, first_seed=0)
print(len(MUTANTS), "mutants, shown all but", found["mutants that no case showed"])
print(found["correct layers accused"], "accused")
print(sensitivity.measure(2, 1)["least share caught"], "caught")
print(false_alarms.measure(6)["FAIL"], "false alarms")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one more layer: two files, and its name in cnn_core."""
    root = tmp_path_factory.mktemp("project")
    for name in ("cnn_core", "verify", "benchmarks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "cnn_core" / "weighted_square.py").write_text(LAYER, encoding="utf-8")
    (root / "verify" / "layers" / "weighted_square.py").write_text(DECLARATION, encoding="utf-8")
    with (root / "cnn_core" / "__init__.py").open("a", encoding="utf-8") as names:
        names.write('from cnn_core import weighted_square; __all__ += ["weighted_square"]\n')
    return root


def _printed(project: Path, *arguments: str) -> str:
    """Return what a Python prints in the copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment |= {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _passed(output: str) -> int:
    """Return the number of tests that passed: pytest's last line says it."""
    words = output.splitlines()[-1].replace(",", " ").split()
    return int(words[words.index("passed") - 1])


def test_the_tests_check_a_new_layer(project: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "--hypothesis-profile=quick", "-k", "weighted_square")
    tests = [f"verify/tests/test_{name}.py" for name in ("layers", "house", "oracles")]
    # Gradients in two versions, of two arrays each and together, and no fewer contracts: the least there is.
    assert _passed(_printed(project, "-m", "pytest", *options, *tests)) >= 2 * (2 + 1 + len(CONTRACTS))


def test_the_command_line_runs_a_new_layer_and_lists_it(project: Path) -> None:
    run = _printed(project, "-m", "verify", "--layer", "weighted_square", "--examples", "5")
    assert [line.split()[:2] for line in run.splitlines() if line.startswith("weighted_square")] == [
        ["weighted_square", "naive"],
        ["weighted_square", "vectorized"],
    ]
    assert "2 PASS in" in run
    cells = ("`weighted_square`", "naive, vectorized", "`x: ...; w: ... -> y: ...`", "`scale=1`", "analytic")
    assert f"| {' | '.join(cells)} | PyTorch, JAX |  | a test |" in _printed(project, "-m", "verify", "layers")


def test_the_benchmarks_compare_a_new_layer(project: Path) -> None:
    options = ("--benchmark-disable", "-q", "-p", "no:cacheprovider", "-k", "weighted_square")
    assert _passed(_printed(project, "-m", "pytest", "benchmarks/bench_layers.py", *options)) >= 4 + 3


def test_the_calibration_plants_errors_in_a_new_layer(project: Path) -> None:
    mutants, causes, caught, alarms = _printed(project, "-c", CALIBRATION).splitlines()
    assert mutants.endswith("mutants, shown all but none")
    assert int(mutants.split()[0]) >= 15
    assert (causes, caught, alarms) == ("0 accused", "1.0 caught", "0 false alarms")
