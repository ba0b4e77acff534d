"""Sweeps visit every configuration within a bound, find what is wrong in one of them, and go on when killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from verify import strategies, sweep
from verify.command.cli import cli
from verify.layers import LAYERS, Configuration, Layer

SWEPT = [name for name, layer in LAYERS.items() if layer.scope is not None]


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


def test_every_axis_within_a_bound_is_there_once() -> None:
    found = strategies.every_axis(3)
    assert len(found) == len(set(found)) == 258  # counted by five loops of its own
    assert all(max(axis) <= 3 for axis in found)


@pytest.mark.parametrize("name", SWEPT)
def test_no_configuration_is_there_twice_and_each_can_be_called(name: str) -> None:
    found = configurations(name, 1)
    assert len({repr(each) for each in found}) == len(found) > 1
    generator = np.random.default_rng(0)
    assert [sweep.check(LAYERS[name], each, generator) for each in found] == [None] * len(found)


def test_pairs_of_axes_are_all_there() -> None:
    assert len(configurations("conv2d", 2)) > 42 * 42  # 42 axes of at most 2
    paddings = {each.options["padding"] for each in configurations("conv2d", 2)}
    assert {"same", "valid", ((0, 0), (2, 2)), ((0, 2), (0, 0))} <= paddings
    assert {each.options["groups"] for each in configurations("conv2d", 3)} == {1, 2, 3}
    assert {each.options.get("ceil_mode") for each in configurations("max_pool2d", 2)} == {None, False, True}


@pytest.mark.parametrize("version", ["naive", "im2col", "blocked"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_wrong_entry_at_one_kernel_is_found_in_any_version(version: str, which: int) -> None:
    def change(gradients: Any, cache: Any) -> Any:
        if cache.w.shape[2:] != (2, 1):
            return gradients
        wrong = gradients[which].copy()
        wrong.flat[-1] += 1
        return tuple(wrong if k == which else each for k, each in enumerate(gradients))

    layer, generator = broken("conv2d", version, change), np.random.default_rng(0)
    here = configurations("conv2d", 2)[:1764:40]
    for each in here:
        wrong = sweep.check(layer, each, generator)
        assert (wrong is not None) == (each.shapes[1][2:] == (2, 1)), each
    assert any(each.shapes[1][2:] == (2, 1) for each in here)


def test_a_gradient_wrong_in_all_versions_alike_is_found() -> None:
    def doubled(right: Any) -> Any:
        return right._replace(backward=lambda dy, cache: tuple(2 * each for each in right.backward(dy, cache)))

    versions: dict[str, Any] = {each.name: doubled(each) for each in LAYERS["max_pool2d"].implementations}
    module: Any = SimpleNamespace(**versions, fast=versions["blocked"])
    layer, generator = dataclasses.replace(LAYERS["max_pool2d"], module=module), np.random.default_rng(0)
    found = [sweep.check(layer, each, generator) for each in configurations("max_pool2d", 1)]
    assert {wrong.what for wrong in found if wrong} == {"dx is not the derivative"}


def test_what_is_wrong_is_given_as_a_call_to_paste() -> None:
    layer = broken("conv2d", "im2col", lambda gradients, _: (gradients[0] * 2, *gradients[1:]))
    wrong = sweep.check(layer, configurations("conv2d", 1)[0], np.random.default_rng(0))
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


def test_parts_done_by_other_code_are_not_done(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    state.write_text('{"layer": "max_pool2d", "bound": 1, "seed": 0, "code": "another"}\n[0, 99, ""]\n')
    result = CliRunner().invoke(cli, ["sweep", "max_pool2d", "--bound", "1", "--jobs", "1", "--state", str(state)])
    assert f"{len(configurations('max_pool2d', 1)):,} configurations" in result.output
