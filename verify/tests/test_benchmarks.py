"""The benchmarks: what they compare before they time, that contenders take turns, and what they count."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import bench_layers, turns
from benchmarks.bench_layers import _agreed, prepare
from benchmarks.contenders import by_size, passes, versions
from cnn_core import Implementation
from cnn_core._arguments import Array, Gradients
from verify.layers import LAYERS, BenchCase, Layer

_FLOAT32 = np.dtype(np.float32)


def _small(name: str, backward: Callable[..., Gradients] | None = None, scale: float = 1) -> Layer:
    """A layer with one small case to time; its fast version scales y, and has another backward if one is given."""
    layer = LAYERS[name]
    fast = layer.fast

    def scaled(*arrays: Array, **options: Any) -> tuple[Array, Any]:
        y, cache = fast.forward(*arrays, **options)
        return np.asarray(y * y.dtype.type(scale)), cache

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        if name == "conv2d":
            return tuple(
                generator.integers(-4, 5, shape).astype(_FLOAT32) for shape in ((images, 3, 5, 6), (4, 3, 3, 2), (4,))
            )
        return generator.normal(size=(images, 5)).astype(_FLOAT32), generator.integers(0, 5, images)

    broken = Implementation(fast.name, scaled, backward or fast.backward)
    module = SimpleNamespace(naive=layer.reference, fast=broken, **{fast.name: broken})
    return dataclasses.replace(layer, module=module, bench=(BenchCase("small", "zoo", 2, draw, naive=True),))  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize(("name", "tolerance"), [("conv2d", 0), ("softmax_cross_entropy", 1e-5)])
def test_versions_that_agree_are_ready_to_be_timed(name: str, tolerance: float) -> None:
    layer = _small(name)
    ready = prepare(layer, layer.bench[0], _FLOAT32, 2)
    assert {version: set(each.calls) for version, each in ready.contenders.items()} == {
        "naive": {"forward", "backward"},
        "fast": {"forward", "backward", "both"},
    }
    assert set(ready.differences) == {"naive"}
    assert ready.differences["naive"] <= tolerance


@pytest.mark.parametrize("name", ["conv2d", "softmax_cross_entropy"])
@pytest.mark.parametrize("scale", [1 + 1e-4, np.nan])
def test_a_wrong_forward_is_not_timed(name: str, scale: float) -> None:
    layer = _small(name, scale=scale)
    with pytest.raises(AssertionError, match=f"{name}, small: y of naive differs by"):
        prepare(layer, layer.bench[0], _FLOAT32, 2)


def test_one_wrong_entry_of_one_gradient_is_not_timed() -> None:
    def backward(dy: Array, cache: Any) -> Gradients:
        dx, dw, db = LAYERS["conv2d"].fast.backward(dy, cache)
        assert dw is not None
        dw[3, 2, 1, 0] += 1
        return dx, dw, db

    layer = _small("conv2d", backward)
    with pytest.raises(AssertionError, match="conv2d, small: dw of naive differs by 1, tolerance 0"):
        prepare(layer, layer.bench[0], _FLOAT32, 2)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("name", ["conv2d", "max_pool2d", "linear", "relu", "softmax_cross_entropy"])
def test_a_layer_that_differs_from_a_library_is_not_timed(
    library: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both layouts what is compared is the library's own result: scaled, ours does not equal it."""
    pytest.importorskip(library, reason=f"{library} is what we compare with")
    layer = LAYERS[name]
    (case, *_) = (each for each in layer.bench if not each.naive)
    layouts = [library, f"{library} channels_last"][: 2 if name in ("conv2d", "max_pool2d") else 1]
    assert [version for version in versions(layer, case) if version.startswith(library)] == layouts
    right = prepare(layer, case, _FLOAT32, 2)
    if name != "softmax_cross_entropy":
        assert all(right.differences[version] == 0 for version in layouts)
    wrong = _small(name, scale=2)
    monkeypatch.setattr("importlib.util.find_spec", lambda found: found == library or None)
    with pytest.raises(AssertionError, match=rf"y of {library} differs by"):
        prepare(wrong, case, _FLOAT32, 2)


def test_each_gradient_of_a_layer_of_any_number_of_arrays_is_compared() -> None:
    """PyTorch's concat of four arrays was refused: of the last two gradients, of one name, one was compared twice."""
    layer = LAYERS["concat"]
    (case, *_) = (each for each in layer.bench if len(each.draw(np.random.default_rng(0), 1)) == 4)
    ready = prepare(dataclasses.replace(layer, jax=None), case, _FLOAT32, 1)
    assert all(difference == 0 for difference in ready.differences.values())
    one, other = np.zeros(2), np.ones(2)
    right = [("dothers", one, 0.0), ("dothers", other, 0.0)]
    assert _agreed("concat", "torch", (one, other), right) == 0
    with pytest.raises(AssertionError, match="dothers of torch differs by 1"):
        _agreed("concat", "torch", (one, one), right)


def test_an_analytic_layer_without_a_tolerance_is_told_that_its_declaration_needs_one() -> None:
    layer = dataclasses.replace(_small("softmax_cross_entropy"), tolerance=None)
    with pytest.raises(TypeError, match="the declaration of softmax_cross_entropy needs a tolerance"):
        prepare(layer, layer.bench[0], _FLOAT32, 2)


def test_contenders_follow_from_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda library: library)
    conv, linear = LAYERS["conv2d"], LAYERS["linear"]
    naive, large, growing = (
        next(case for case in conv.bench if (case.naive, by_size(case)) == kind)
        for kind in ((True, False), (False, False), (False, True))
    )
    libraries = ("torch", "torch channels_last", "jax", "jax channels_last")
    assert versions(conv, naive) == ("naive", "im2col", "fast")
    assert versions(conv, large) == ("im2col", "fast", "matmul", *libraries)
    assert versions(conv, growing) == ("fast", *libraries[:2])
    without = dataclasses.replace(conv, torch=None, products=None)
    assert versions(without, large) == ("im2col", "fast", *libraries[2:])
    features = next(case for case in linear.bench if not case.naive)
    assert versions(linear, features) == ("fast", "matmul", "torch", "jax")


def test_what_a_library_gives_as_a_view_is_not_timed() -> None:
    pytest.importorskip("torch", reason="PyTorch is what we compare with")
    case = next(case for case in LAYERS["flatten"].bench if not case.naive)
    assert not any(version.startswith("torch") for version in prepare(LAYERS["flatten"], case, _FLOAT32, 2).contenders)


def test_a_case_that_a_library_does_not_have_is_not_timed_there() -> None:
    pytest.importorskip("torch", reason="PyTorch is what we compare with")
    layer = dataclasses.replace(LAYERS["relu"], torch=lambda torch, x: None, jax=None)
    case = next(case for case in layer.bench if not case.naive)
    assert list(prepare(layer, case, _FLOAT32, 2).contenders) == ["fast"]


def test_a_case_is_completed_by_the_layer_s_defaults() -> None:
    case = LAYERS["conv2d"].complete((np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 2, 2))), {"stride": 2})
    assert case.arrays[2] is None
    assert case.options == {"stride": 2, "padding": 0, "dilation": 1, "groups": 1}


def test_arrays_whose_sums_would_round_are_not_called_exact() -> None:
    layer = _small("conv2d")
    case = layer.bench[0]
    large = case._replace(draw=lambda generator, images: tuple(2**12 * a for a in case.draw(generator, images)))
    with pytest.raises(AssertionError, match=r"partial sums up to .* are not exact in float32"):
        prepare(layer, large, _FLOAT32, 2)


def test_operations_of_a_convolution_are_counted_as_its_naive_loops_do() -> None:
    layer = _small("conv2d")
    ready = prepare(layer, layer.bench[0], _FLOAT32, 2)
    products, entries = 2 * 4 * 3 * 3 * 2 * 3 * 5, 2 * 4 * 3 * 5  # n f c p q i j; n f i j
    for direction, each in (("forward", 2), ("backward", 4)):
        assert bench_layers._flops(layer, direction, ready) == each * products + entries
    assert bench_layers._flops(layer, "both", ready) == 6 * products + 2 * entries


def test_extra_memory_is_what_is_neither_argument_nor_result() -> None:
    def call() -> tuple[Array, Any]:
        scratch = np.ones(1 << 20)
        return scratch[: 1 << 18].copy(), SimpleNamespace(cache=None)

    extra = bench_layers.extra_bytes(call)
    assert 1 << 23 <= extra < 1.01 * (1 << 23)


def test_contenders_take_turns_and_an_equal_number_of_them() -> None:
    said: list[str] = []

    def call(name: str) -> None:
        said.append(name)
        time.sleep(0.06)

    rounds = turns.in_turns({name: functools.partial(call, name) for name in "abc"}, seconds=0)
    assert said[:3] == list("abc")  # to see how long a call takes
    assert said[3:] == list("cba" + "abc" + "cba" + "abc" + "cba")
    assert all(len(each.seconds) == 5 and each.calls == 1 for each in rounds.values())
    assert all(0.06 <= each.median < 0.6 for each in rounds.values())


def test_short_calls_share_a_round() -> None:
    (rounds,) = turns.in_turns({"short": lambda: None}, seconds=0).values()
    assert rounds.calls > 100
    assert rounds.median == sorted(rounds.seconds)[2] / rounds.calls


def test_pytest_benchmark_reads_the_rounds_as_they_were() -> None:
    turns.REPLAY.load(turns.Rounds((0.5, 0.25), 3))
    assert [turns.REPLAY() for _ in range(4)] == [0, 0.5, 0, 0.25]


def test_every_layer_is_timed_naive_and_every_case_has_a_name_of_its_own() -> None:
    for layer in LAYERS.values():
        assert any(case.naive for case in layer.bench), layer
        names = [(case.zoo, case.name) for case in layer.bench]
        assert len(set(names)) == len(names)


def test_what_grows_is_timed_forward_and_backward_at_once() -> None:
    growing = [case for case in LAYERS["conv2d"].bench if by_size(case)]
    assert {case.zoo for case in growing} == {"by batch", "by channels", "by image size"}
    assert all(passes(case, "fast") == ("both",) for case in growing)
    assert not any("jax" in version for case in growing for version in versions(LAYERS["conv2d"], case))


def test_jax_is_timed_forward_and_backward_at_once_and_pytorch_each_by_itself_too() -> None:
    (case, *_) = (each for each in LAYERS["conv2d"].bench if not each.naive and not by_size(each))
    assert passes(case, "jax") == passes(case, "jax channels_last") == ("both",)
    assert passes(case, "torch") == passes(case, "fast") == ("forward", "backward", "both")


_XLA_THREADS = """
import os, jax
jax.block_until_ready(jax.jit(lambda a: a @ a)(jax.numpy.ones((512, 512))))
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(sum("XLAEigen" in name for name in names))
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_jax_takes_its_threads_from_the_environment(threads: str) -> None:
    """What benchmarks/conftest.py relies on to give everyone the same number."""
    pytest.importorskip("jax", reason="JAX is what we compare with")
    if not os.path.isdir("/proc/self/task") or (os.cpu_count() or 1) < 2:
        pytest.skip("threads are counted in /proc, on two cores at least")
    command = [sys.executable, "-c", _XLA_THREADS]
    done = subprocess.run(command, env={**os.environ, "NPROC": threads}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == threads
