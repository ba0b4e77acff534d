"""The benchmarks of the layers: what they compare before they time, and the table made of their JSON."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cnn_core import Implementation
from cnn_core._arguments import Array, Gradients
from verify.layers import LAYERS, BenchCase, Layer

_ROOT = Path(__file__).parents[2]
_FLOAT32 = np.dtype(np.float32)


@pytest.fixture
def bench_layers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _imported("bench_layers", monkeypatch)


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _imported("ratios", monkeypatch)


def _imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the folder `benchmarks`, which is no part of what is installed."""
    monkeypatch.syspath_prepend(_ROOT)
    return importlib.import_module(f"benchmarks.{name}")


def _small(name: str, backward: Callable[..., Gradients] | None = None, scale: float = 1) -> Layer:
    """A layer with one small case to time; its fast version scales y, and has another backward if one is given."""
    layer = LAYERS[name]
    fast = layer.fast

    def scaled(*arrays: Array, **options: Any) -> tuple[Array, Any]:
        y, cache = fast.forward(*arrays, **options)
        return np.asarray(y * y.dtype.type(scale)), cache

    def draw(generator: np.random.Generator) -> tuple[Array, ...]:
        if name == "conv2d":
            return tuple(
                generator.integers(-4, 5, shape).astype(_FLOAT32) for shape in ((2, 3, 5, 6), (4, 3, 3, 2), (4,))
            )
        return generator.normal(size=(6, 5)).astype(_FLOAT32), generator.integers(0, 5, 6)

    broken = Implementation(fast.name, scaled, backward or fast.backward)
    module = SimpleNamespace(**{"naive": layer.reference, fast.name: broken})
    return dataclasses.replace(layer, module=module, bench=(BenchCase("small", draw),))  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize(("name", "tolerance"), [("conv2d", 0), ("softmax_cross_entropy", 1e-5)])
def test_versions_that_agree_are_ready_to_be_timed(bench_layers: ModuleType, name: str, tolerance: float) -> None:
    layer = _small(name)
    ready = bench_layers.prepare(layer, layer.bench[0], _FLOAT32)
    assert set(ready) == {
        (direction, version) for direction in ("forward", "backward") for version in ("naive", "fast")
    }
    assert all(timed.difference <= tolerance for timed in ready.values())


@pytest.mark.parametrize("name", ["conv2d", "softmax_cross_entropy"])
@pytest.mark.parametrize("scale", [1 + 1e-4, np.nan])
def test_a_wrong_forward_is_not_timed(bench_layers: ModuleType, name: str, scale: float) -> None:
    layer = _small(name, scale=scale)
    with pytest.raises(AssertionError, match=f"{name} forward, small: result 0 differs by"):
        bench_layers.prepare(layer, layer.bench[0], _FLOAT32)


def test_one_wrong_entry_of_one_gradient_is_not_timed(bench_layers: ModuleType) -> None:
    def backward(dy: Array, cache: Any) -> Gradients:
        dx, dw, db = LAYERS["conv2d"].fast.backward(dy, cache)
        assert dw is not None
        dw[3, 2, 1, 0] += 1
        return dx, dw, db

    layer = _small("conv2d", backward)
    with pytest.raises(AssertionError, match="conv2d backward, small: result 1 differs by 1, tolerance 0"):
        bench_layers.prepare(layer, layer.bench[0], _FLOAT32)


def test_arrays_whose_sums_would_round_are_not_called_exact(bench_layers: ModuleType) -> None:
    layer = _small("conv2d")
    large = layer.bench[0]._replace(draw=lambda generator: tuple(2**12 * a for a in layer.bench[0].draw(generator)))
    with pytest.raises(AssertionError, match=r"partial sums up to .* are not exact in float32"):
        bench_layers.prepare(layer, large, _FLOAT32)


def test_operations_of_a_convolution_are_counted_as_its_naive_loops_do(bench_layers: ModuleType) -> None:
    layer = _small("conv2d")
    ready = bench_layers.prepare(layer, layer.bench[0], _FLOAT32)
    products = 2 * 4 * 3 * 3 * 2 * 3 * 5  # n f c p q i j
    for direction, each in (("forward", 2), ("backward", 4)):
        work = bench_layers._work(layer, direction, ready[direction, "fast"].arrays)
        assert work == {"flops": each * products + 2 * 4 * 3 * 5}


def _timed(version: str, median: float, direction: str = "forward") -> dict[str, Any]:
    return {
        "fullname": f"bench_layers.py::test_layer[{version}]",
        "params": {"layer": "conv2d", "direction": direction, "case": "3->8", "version": version},
        "extra_info": {"dtype": "float32"},
        "stats": {"median": median},
    }


def _table(ratios: ModuleType, path: Path, benchmarks: object) -> Result:
    blas = {"blas": "openblas", "version": "0.3", "kernel": "Zen", "threads": 2, "numpy": "2.4.0"}
    machine = {"cpu": {"brand_raw": "A Processor"}, "python_version": "3.12.1", "blas": blas}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": benchmarks}), encoding="utf-8")
    return CliRunner().invoke(ratios.main, [str(path)])


def test_the_table_divides_naive_by_fast(ratios: ModuleType, tmp_path: Path) -> None:
    timed = [_timed("naive", 3.0), _timed("fast", 0.002), _timed("fast", 1.5e-5, "backward")]
    result = _table(ratios, tmp_path / "run.json", timed)
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["conv2d", "3->8", "forward", "3.00", "s", "2.00", "ms", "1,500"] in lines
    assert ["3->8", "backward", "not", "timed", "15.0", "µs"] in lines
    assert "A Processor, 2 threads, openblas 0.3, kernel Zen, NumPy 2.4.0, Python 3.12.1, float32" in result.output
    assert "Quote its ratios" in result.output


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ([], "holds no benchmark"),
        ([_timed("naive", 3.0)], "conv2d forward, 3->8, was timed naive but not fast"),
        (
            [{"fullname": "bench_training.py::test_step", "params": None}],
            "test_step is no benchmark of bench_layers.py",
        ),
        (None, "is not the JSON of pytest-benchmark"),
    ],
)
def test_a_file_that_is_no_run_of_the_layers_is_refused(
    ratios: ModuleType, tmp_path: Path, benchmarks: object, message: str
) -> None:
    result = _table(ratios, tmp_path / "run.json", benchmarks)
    assert result.exit_code == 2
    assert message in _unwrapped(result)


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "{}"])
def test_a_file_that_is_no_report_is_refused(ratios: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(ratios.main, [str(tmp_path / "run.json")])
    assert result.exit_code == 2
    assert "is not the JSON of pytest-benchmark" in _unwrapped(result)


def test_a_missing_file_is_named(ratios: ModuleType, tmp_path: Path) -> None:
    result = CliRunner().invoke(ratios.main, [str(tmp_path / "none.json")])
    assert result.exit_code == 2
    assert "does not exist" in _unwrapped(result)


def _unwrapped(result: Result) -> str:
    """What was said, without the frame and the line breaks that a narrow terminal adds."""
    return " ".join(result.stderr.replace("│", " ").split())
