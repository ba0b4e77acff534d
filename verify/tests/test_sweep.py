"""Sweeps visit every configuration within a bound, find what is wrong in one of them, and go on when killed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cnn_core import conv_transpose2d, max_pool2d, max_unpool2d, pad2d, unfold2d
from verify import sweep
from verify.command.cli import cli
from verify.layers import LAYERS, Configuration, Layer, _scopes

SWEPT = [name for name, layer in LAYERS.items() if layer.scope is not None]
# Those that have more than 5,000 configurations within 2.
LARGE = [name for name in SWEPT if LAYERS[name].configurations(2) > 5000]


def configurations(name: str, bound: int) -> list[Configuration]:
    return [each for part in sweep.parts(LAYERS[name], bound) for each in part()]


def broken(name: str, version: str, change: Any) -> Layer:
    """The layer with another backward in one version: change(gradients, cache)."""
    layer = LAYERS[name]
    versions = {each.name: each for each in layer.implementations}
    right = versions[version]

    def backward(dy: np.ndarray, cache: Any) -> Any:
        return change(right.backward(dy, cache), cache)

    versions[version] = right._replace(backward=backward)
    return dataclasses.replace(layer, module=SimpleNamespace(**versions, fast=versions[layer.fast.name]))  # type: ignore[arg-type]


def mutant(name: str, old: str, new: str) -> Layer:
    """The layer with one change in its source."""
    layer = LAYERS[name]
    source = Path(str(layer.module.__file__)).read_text(encoding="utf-8")
    assert source.count(old) == 1, source.count(old)
    changed = ModuleType(layer.module.__name__)
    exec(compile(source.replace(old, new), f"{name} with {new}", "exec"), vars(changed))
    return dataclasses.replace(layer, module=changed)


def wrong_at(layer: Layer, these: Iterable[Configuration]) -> Configuration | None:
    """The first configuration at which a sweep says that something is wrong."""
    draws = sweep.Draws(0)
    return next((each for each in these if sweep.check(layer, each, draws) is not None), None)


def test_every_axis_within_a_bound_is_there_once() -> None:
    found = [axis for axis in _scopes.sliding_axes(3) if axis.even]
    assert len(found) == len(set(found)) == 258  # counted by five loops of its own
    assert all(max(axis) <= 3 for axis in found)


def test_the_axes_of_a_convolution_are_those_that_it_takes() -> None:
    taken = set()
    for axis in map(_scopes.Sliding, *zip(*itertools.product(*[range(1, 4)] * 4, *[range(4)] * 2), strict=True)):
        options = {"stride": (axis.stride, 1), "dilation": (axis.dilation, 1)}
        padding = (axis.before, axis.after), (0, 0)
        with contextlib.suppress(ValueError):
            x = np.zeros((1, 1, axis.size, 1))
            y, _ = unfold2d.naive.forward(x, kernel_size=(axis.kernel, 1), padding=padding, **options)
            assert y.shape[2] == axis.out()
            taken.add(axis)
    assert set(_scopes.sliding_axes(3)) == taken


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_the_axes_of_a_pool_are_those_that_it_takes(ceil_mode: bool) -> None:
    """The layer is asked about all numbers up to 3. It has geometry of its own."""
    taken = set()
    for axis in map(_scopes.Sliding, *zip(*itertools.product(*[range(1, 4)] * 4, *[range(4)] * 2), strict=True)):
        options = {"stride": (axis.stride, 1), "dilation": (axis.dilation, 1), "ceil_mode": ceil_mode}
        padding = (axis.before, axis.after), (0, 0)
        with contextlib.suppress(ValueError):
            max_pool2d.naive.forward(
                np.zeros((1, 1, axis.size, 1)), kernel_size=(axis.kernel, 1), padding=padding, **options
            )
            taken.add(axis)
    assert set(_scopes.pool_axes(3, ceil_mode=ceil_mode)) == taken
    assert set(_scopes.pool_axes(3, ceil_mode=ceil_mode, dilated=False)) == {a for a in taken if a.dilation == 1}


def test_the_axes_of_a_transposed_convolution_are_those_that_it_takes() -> None:
    taken = set()
    for numbers in itertools.product(*[range(1, 3)] * 4, *[range(3)] * 3):
        axis = _scopes.Transposed(*numbers)
        options = {"stride": (axis.stride, 1), "dilation": (axis.dilation, 1), "output_padding": (axis.extra, 0)}
        padding, w = ((axis.before, axis.after), (0, 0)), np.zeros((1, 1, axis.kernel, 1))
        with contextlib.suppress(ValueError):
            conv_transpose2d.naive.forward(np.zeros((1, 1, axis.size, 1)), w, padding=padding, **options)
            taken.add(axis)
    assert set(_scopes.transposed_axes(2)) == taken


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_the_pads_of_a_mode_are_those_that_it_takes(mode: str) -> None:
    taken, numbers = set(), range(-2, 3)
    for size, before, after in itertools.product(range(3), numbers, numbers):
        with contextlib.suppress(ValueError):
            pad2d.naive.forward(np.zeros((1, 1, size, 1)), pad=((before, after), (0, 0)), mode=mode)
            taken.add((size, before, after))
    found = [each for each in configurations("pad2d", 2) if each.options["mode"] == mode]
    assert {(each.shapes[0][2], *each.options["pad"][0]) for each in found} == taken


def test_the_windows_of_an_unpooling_are_those_that_it_takes() -> None:
    taken, numbers = set(), range(1, 4)
    for size, kernel, stride, padding, out in itertools.product(numbers, numbers, numbers, range(4), (None, *numbers)):
        x, sizes = np.zeros((1, 1, size, 1)), None if out is None else (out, 1)
        options = {"kernel_size": (kernel, 1), "stride": (stride, 1), "padding": (padding, 0), "output_size": sizes}
        with contextlib.suppress(ValueError):
            max_unpool2d.naive.forward(x, np.zeros(x.shape, int), **options)
            taken.add((size, kernel, stride, padding, out))
    found = set()
    for each in configurations("max_unpool2d", 3):
        window = [each.options.get(name) for name in ("kernel_size", "stride", "padding", "output_size")]
        if None not in window[:2]:
            found.add((each.shapes[0][2], *[pair[0] if pair else None for pair in window]))
    assert found == taken


@pytest.mark.parametrize("name", SWEPT)
def test_no_configuration_is_there_twice(name: str) -> None:
    found = configurations(name, 2)
    assert len({repr(each) for each in found}) == len(found) == LAYERS[name].configurations(2) > 100


@pytest.mark.parametrize("name", SWEPT)
def test_every_option_of_a_layer_has_several_values(name: str) -> None:
    found = configurations(name, 2)
    for option in LAYERS[name].options:
        assert len({repr(each.options.get(option)) for each in found}) > 1, option


@pytest.mark.parametrize("name", SWEPT)
def test_nothing_is_wrong_within_a_small_bound(name: str) -> None:
    assert wrong_at(LAYERS[name], configurations(name, 1 if name in LARGE else 2)) is None


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_nothing_is_wrong_within_two(name: str) -> None:
    assert wrong_at(LAYERS[name], configurations(name, 2)) is None


def test_a_layer_without_windows_has_no_scope() -> None:
    assert LAYERS["relu"].configurations(2) == 0
    with pytest.raises(ValueError, match="relu declares no scope"):
        sweep.parts(LAYERS["relu"], 2)


@pytest.mark.long
def test_pairs_of_axes_are_all_there() -> None:
    assert len(configurations("conv2d", 2)) > 42 * 42  # 42 axes of at most 2
    paddings = {each.options["padding"] for each in configurations("conv2d", 2)}
    assert {"same", "valid", ((0, 0), (2, 2)), ((0, 2), (0, 0))} <= paddings
    assert {each.options["groups"] for each in configurations("conv2d", 3)} == {1, 2, 3}
    assert {each.shapes[0][0] for each in configurations("conv2d", 3)} == {0, 1, 2, 3}
    assert {each.options["ceil_mode"] for each in configurations("max_pool2d", 2)} == {False, True}


def _outs(each: Configuration) -> Any:
    factors = each.options.get("scale_factor", ())
    return each.options.get("size") or [int(n * factor) for n, factor in zip(each.shapes[0][2:], factors, strict=True)]


def _unequal_bins(each: Configuration) -> bool:
    outs = each.options["output_size"]
    return any(out and n % out for n, out in zip(each.shapes[0][2:], outs, strict=True))


def _rows_are_uneven(each: Configuration) -> bool:
    padding = each.options["padding"]
    return padding == "same" or (padding != "valid" and len(set(padding[0])) > 1)


# What is planted: the layer, the bound, a line of its source, what it becomes, and where alone that is wrong.
PLANTED = {
    "adaptive_avg_pool2d: all bins as large as the first": (
        "adaptive_avg_pool2d",
        3,
        "[len(each) for each in rows]",
        "[len(rows[0]) for each in rows]",
        _unequal_bins,
    ),
    "adaptive_max_pool2d: all bins as wide as the first": (
        "adaptive_max_pool2d",
        3,
        "winner // wide",
        "winner // len(columns[0])",
        _unequal_bins,
    ),
    "avg_pool2d: taps behind the padding count in ceil_mode": (
        "avg_pool2d",
        2,
        "(-axis.before, axis.size + axis.after) if",
        "(-axis.before, axis.source(axis.out - 1, axis.kernel)) if",
        lambda each: each.options.get("ceil_mode", False) and each.options["count_include_pad"],
    ),
    "avg_pool2d: a negative divisor_override loses its sign": (
        "avg_pool2d",
        1,
        "return inside, divisor_override",
        "return inside, abs(divisor_override)",
        lambda each: (each.options.get("divisor_override") or 1) < 0,
    ),
    "conv2d: all groups read the channels of the first": (
        "conv2d",
        2,
        "channel = f // (filters // groups) * channels + c",
        "channel = c",
        lambda each: each.options["groups"] > 1,
    ),
    "conv_transpose2d: the crop is taken behind, with a dilation": (
        "conv_transpose2d",
        2,
        "    y = yp[:, :, rows.inner, columns.inner]\n",
        "    top = rows.after if rows.dilation > 1 else rows.before\n"
        "    y = yp[:, :, top : top + rows.size, columns.inner]\n",
        lambda each: _rows_are_uneven(each) and each.options["dilation"][0] > 1,
    ),
    "conv_transpose2d: rows of output_padding without a bias": (
        "conv_transpose2d",
        2,
        "y + b[:, None, None]",
        "y + b[:, None, None] * (np.arange(rows.size) < rows.reads(rows.kernel - 1).stop - rows.before)[:, None]",
        lambda each: each.options["output_padding"][0] > 0,
    ),
    "fold2d: overlapping windows replace each other": (
        "fold2d",
        2,
        "columns.reads(q)] += taps",
        "columns.reads(q)] = taps",
        lambda each: max(each.options["kernel_size"]) > 1 and each.shapes[0][2] > 1,
    ),
    "max_pool2d: the padding behind belongs to the next row": (
        "max_pool2d",
        2,
        "(v < columns.size))",
        "(v <= columns.size))",
        lambda each: each.options["padding"] != "valid",
    ),
    "max_unpool2d: all entries of one index get its gradient": (
        "max_unpool2d",
        2,
        "held = last[places] == entries",
        "held = last[places] >= 0",
        lambda each: bool(each.shapes[1].repeated),
    ),
    "pad2d: reflect mirrors at what a crop left": (
        "pad2d",
        2,
        "2 * (size - 1) - t",
        "2 * (side.left - 1) - t",
        lambda each: each.options["mode"] == "reflect" and any(a < 0 < b for a, b in each.options["pad"]),
    ),
    "pad2d: circular repeats what was cropped": (
        "pad2d",
        2,
        "first + (t - first) % side.left",
        "t % size",
        lambda each: each.options["mode"] == "circular" and any(min(pad) < 0 < max(pad) for pad in each.options["pad"]),
    ),
    "pixel_shuffle: rows and columns of a block are exchanged": (
        "pixel_shuffle",
        2,
        "transpose(0, 1, 3, 5, 2, 4)",
        "transpose(0, 1, 5, 3, 2, 4)",
        lambda each: each.options["upscale_factor"] > 1,
    ),
    "unfold2d: the padding is exchanged": (
        "unfold2d",
        2,
        "((0, 0), (0, 0), (rows.before, rows.after)",
        "((0, 0), (0, 0), (rows.after, rows.before)",
        _rows_are_uneven,
    ),
    "upsample_bilinear2d: a weight of the rows for one of the columns": (
        "upsample_bilinear2d",
        2,
        "dx[n, c, g, v] += real(a * (1 - b))",
        "dx[n, c, g, v] += real(a * (1 - a))",
        lambda each: _outs(each)[0] != each.shapes[0][2],
    ),
    "upsample_nearest2d: the last copy alone gives its gradient": (
        "upsample_nearest2d",
        2,
        "kept.columns[j]] += dy",
        "kept.columns[j]] = dy",
        lambda each: any(out > n for out, n in zip(_outs(each), each.shapes[0][2:], strict=True)),
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_an_error_in_a_corner_is_found_there_and_nowhere_else(planted: Any) -> None:
    name, bound, old, new, is_there = planted
    found, layer = configurations(name, bound), mutant(name, old, new)
    assert wrong_at(layer, filter(is_there, found)) is not None
    elsewhere = [each for each in found if not is_there(each)]
    assert wrong_at(layer, elsewhere[:: 1 + len(elsewhere) // 100]) is None


def test_every_layer_that_is_swept_has_an_error_planted() -> None:
    assert {name for name, *_ in PLANTED.values()} == set(SWEPT)


@pytest.mark.parametrize("version", ["naive", "im2col", "blocked"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_wrong_entry_at_one_kernel_is_found_in_any_version(version: str, which: int) -> None:
    def change(gradients: Any, cache: Any) -> Any:
        if cache.w.shape[2:] != (2, 1):
            return gradients
        wrong = gradients[which].copy()
        wrong.flat[-1] += 1
        return tuple(wrong if k == which else each for k, each in enumerate(gradients))

    layer, draws = broken("conv2d", version, change), sweep.Draws(0)
    here = configurations("conv2d", 2)[:1764:40]  # pairs of the 42 axes
    for each in here:
        wrong = sweep.check(layer, each, draws)
        assert (wrong is not None) == (each.shapes[1][2:] == (2, 1)), each
    assert any(each.shapes[1][2:] == (2, 1) for each in here)


@pytest.mark.parametrize(("name", "which"), [("max_pool2d", 0), ("conv2d", 0), ("conv2d", 1), ("conv2d", 2)])
def test_a_gradient_wrong_in_all_versions_alike_is_found(name: str, which: int) -> None:
    def doubled(right: Any) -> Any:
        def backward(dy: np.ndarray, cache: Any) -> Any:
            return tuple(2 * each if k == which else each for k, each in enumerate(right.backward(dy, cache)))

        return right._replace(backward=backward)

    versions: dict[str, Any] = {each.name: doubled(each) for each in LAYERS[name].implementations}
    module: Any = SimpleNamespace(**versions, fast=versions["blocked"])
    layer, draws = dataclasses.replace(LAYERS[name], module=module), sweep.Draws(0)
    found = [
        sweep.check(layer, each, draws) for each in configurations(name, 1) if each.shapes[0][0] and each.shapes[-1]
    ]
    assert found
    assert {wrong and wrong.what for wrong in found} == {f"d{LAYERS[name].names[which]} is not the derivative"}


def test_draws_are_within_their_range_and_none_is_used_twice() -> None:
    draws = sweep.Draws(0)
    found = np.concatenate([draws.gaussian((7, 11)).ravel() for _ in range(1000)])
    assert len(np.unique(found)) == found.size
    assert np.abs(found.view(float)).max() <= 2**20
    assert np.abs(draws.gaussian((300, 300), 17).view(float)).max() <= 2**17
    assert draws.gaussian((0, 3)).shape == (0, 3)


def test_what_is_wrong_is_given_as_a_call_to_paste() -> None:
    layer = broken("conv2d", "im2col", lambda gradients, _: (gradients[0] * 2, *gradients[1:]))
    wrong = sweep.check(layer, configurations("conv2d", 1)[0], sweep.Draws(0))
    assert wrong is not None
    assert wrong.what == "gradient 0 of im2col is not that of naive"
    namespace: dict[str, Any] = {}
    exec(sweep.call(LAYERS["conv2d"], wrong), namespace)
    assert np.array_equal(namespace["x"], np.asarray(wrong.case.arrays[0]))
    assert namespace["y"].shape == (1, 1, 1, 1)


def test_the_command_says_how_many_and_what_may_be_missed(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    result = CliRunner().invoke(cli, ["sweep", "max_pool2d", "--bound", "1", "--jobs", "1", "--state", str(state)])
    assert result.exit_code == 0, result.output
    count = len(configurations("max_pool2d", 1))
    assert f"max_pool2d, bound 1: {count:,} configurations of naive, im2col, blocked, no exception" in result.output
    assert "was missed with a probability of at most" in result.output


def test_a_sweep_that_was_killed_goes_on_and_ends_with_the_same_count(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    command = [
        sys.executable,
        "-m",
        "verify",
        "sweep",
        "max_pool2d",
        "--bound",
        "2",
        "--jobs",
        "1",
        "--state",
        str(state),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        while run.poll() is None and (not state.is_file() or len(state.read_text().splitlines()) < 4):
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGKILL)
    parts = len(sweep.parts(LAYERS["max_pool2d"], 2))
    done = len(state.read_text().splitlines()) - 1
    assert 0 < done < parts
    state.write_text(state.read_text() + "[9, 1")  # a line that was cut off
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{done} of {parts} parts are done" in result.stderr
    assert f"{len(configurations('max_pool2d', 2)):,} configurations" in result.stdout
    numbers = [
        json.loads(line)[0]
        for line in state.read_text().splitlines()[1:]
        if line.startswith("[") and line.endswith("]")
    ]
    assert sorted(numbers) == list(range(parts))


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_the_workers_of_a_sweep_that_was_killed_end(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    command = [sys.executable, "-m", "verify", "sweep", "max_pool2d", "--bound", "4", "--jobs", "2"]
    with subprocess.Popen([*command, "--state", str(state)], stderr=subprocess.DEVNULL, start_new_session=True) as run:
        try:
            while run.poll() is None and (not state.is_file() or len(state.read_text().splitlines()) < 2):
                time.sleep(0.01)
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text(encoding="ascii").split()
            workers = [each for each in children if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text()]
            assert len(workers) == 2
            run.kill()
            run.wait()
            end = time.monotonic() + 30
            while any(map(_runs, workers)) and time.monotonic() < end:
                time.sleep(0.05)
            assert not any(map(_runs, workers))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def _runs(process: str) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False


def test_parts_done_by_other_code_are_not_done(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    state.write_text('{"layer": "max_pool2d", "bound": 1, "seed": 0, "code": "another"}\n[0, 99, ""]\n')
    result = CliRunner().invoke(cli, ["sweep", "max_pool2d", "--bound", "1", "--jobs", "1", "--state", str(state)])
    assert f"{len(configurations('max_pool2d', 1)):,} configurations" in result.output
