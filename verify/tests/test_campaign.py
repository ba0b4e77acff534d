"""Campaigns: each case is counted once, whoever is killed; failures are kept, shrunk, one for each cause."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import Phase

from verify.command import executors
from verify.command.cli import cli
from verify.command.journal import Journal
from verify.evidence import campaign
from verify.evidence.campaign import Batch
from verify.layers import LAYERS, Case

BATCHES = 8
# A choice: longer than a batch takes on a busy machine.
SECONDS = 120


def _numbers(state: Path) -> list[int]:
    """The numbers of the batches in the journal, in the order in which they ended."""
    path = state / "seed-0.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line)[0])
        except ValueError:
            continue
    return found


def _wait(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def _started(state: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "verify", "campaign", "--batches", str(BATCHES), "--state", str(state), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _workers_of(pid: int) -> list[int]:
    """The processes that a campaign started to do its batches."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(each) for each in children if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text(encoding="ascii")]


def _is_whole(state: Path, output: str) -> None:
    """Every batch is in the journal once, with the results that it has in one process."""
    assert sorted(_numbers(state)) == list(range(BATCHES))
    with Journal(state / "seed-0.jsonl", _about(state)) as journal:
        found = {number: Batch(*record) for number, record in journal.done.items()}
    # In a process of its own: Hypothesis draws constants of the modules that are loaded, and tests load more.
    lines = f"""
        import json
        from verify.command.campaign import _batch
        print(json.dumps([_batch(number, 0, {str(state / "again")!r}) for number in (0, {BATCHES - 1})]))
    """
    alone = subprocess.run([sys.executable, "-c", textwrap.dedent(lines)], capture_output=True, text=True, check=True)
    for number, record in zip((0, BATCHES - 1), json.loads(alone.stdout), strict=True):
        assert found[number] == Batch(*record)
    cases = sum(each.cases for each in found.values())
    assert f"{cases:,} cases in {BATCHES} batches, seed 0" in output


def _about(state: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((state / "seed-0.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return about


def _killed_and_resumed(state: Path, kill_worker: Callable[[subprocess.Popen[str]], None], *more: str) -> None:
    first = _started(state, *more)
    try:
        _wait(lambda: _numbers(state), "no batch ended")
        kill_worker(first)
        done = len(_numbers(state))
        _wait(lambda: len(_numbers(state)) > done, "no batch ended after a worker was killed")
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    before = _numbers(state)
    second = _started(state, *more)
    output = second.communicate(timeout=SECONDS)[0]
    assert second.returncode == 0, output
    assert _numbers(state)[: len(before)] == before
    _is_whole(state, output)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_a_worker_and_then_the_campaign_are_killed_and_every_case_is_counted_once(tmp_path: Path) -> None:
    def kill_worker(running: subprocess.Popen[str]) -> None:
        os.kill(_workers_of(running.pid)[0], signal.SIGKILL)

    _killed_and_resumed(tmp_path, kill_worker, "--jobs", "2")


@pytest.mark.long
def test_on_a_dask_cluster_every_case_is_counted_once_too(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:

        def kill_worker(running: subprocess.Popen[str]) -> None:
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

        _killed_and_resumed(tmp_path, kill_worker, "--dask", cluster.scheduler_address)


def _wrong_relu(dy: np.ndarray, cache: Any) -> Any:
    """Two bugs of different causes."""
    (dx,) = LAYERS["relu"].fast.backward(dy, cache)
    assert dx is not None
    return (-dx,) if dx.ndim == 2 else (np.zeros_like(dx),) if dx.ndim == 3 else (dx,)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Batch]:
    """The folder of a campaign in which relu is wrong, and its batch."""
    folder = tmp_path_factory.mktemp("campaign")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(campaign, "subjects", _only_wrong_relu)
        return folder, campaign.batch(0, 0, str(folder / "failures"))


def _only_wrong_relu() -> Any:
    return [(LAYERS["relu"], LAYERS["relu"].fast._replace(backward=_wrong_relu))]


@pytest.mark.long
def test_failures_are_shrunk_one_for_each_cause(failed: tuple[Path, Batch]) -> None:
    by_cause = {kind.rpartition(" ")[2]: message for kind, message in failed[1].failures.items()}
    assert {"sign", "zero"} <= set(by_cause)
    assert by_cause["sign"].splitlines()[-1].strip() in ("x (1, 2)", "x (2, 1)")


@pytest.mark.long
def test_a_failure_is_kept_until_it_is_mended(failed: tuple[Path, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(failed[0] / "failures")
    monkeypatch.setattr(campaign, "subjects", _only_wrong_relu)
    (again,) = campaign.replay(folder)
    assert {kind.rpartition(" ")[2] for kind in again.failures} & {"sign", "zero"}
    short = ["--hours", "1e-9", "--jobs", "1", "--state", str(failed[0]), "--markdown", str(failed[0] / "page.md")]
    result = CliRunner().invoke(cli, ["campaign", *short])
    assert result.exit_code == 1
    assert "relu, vectorized: FAIL" in result.output
    assert "# Campaign" in (failed[0] / "page.md").read_text(encoding="utf-8")
    monkeypatch.setattr(campaign, "subjects", lambda: [(LAYERS["relu"], LAYERS["relu"].fast)])
    assert [each.failures for each in campaign.replay(folder)] == [{}]
    assert CliRunner().invoke(cli, ["campaign", *short]).exit_code == 0


def test_a_batch_depends_on_its_number_and_seed_alone(tmp_path: Path) -> None:
    one, two = (campaign.batch(5, 3, str(tmp_path), cases=20) for _ in range(2))
    assert one == two
    assert one.cases == 20
    assert campaign.batch(5, 4, str(tmp_path), cases=20) != one


def test_versions_that_disagree_are_found_in_the_drawn_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = LAYERS["sigmoid"]

    def forward(x: np.ndarray) -> Any:
        y, cache = layer.fast.forward(x)
        return (y * np.float32(1.001) if x.dtype == np.float32 else y), cache

    vars(forward)["__signature__"] = vars(layer.fast.forward)["__signature__"]
    wrong = layer.fast._replace(forward=forward)
    monkeypatch.setattr(campaign, "subjects", lambda: [(layer, wrong)])
    found = campaign.batch(0, 0, str(tmp_path), cases=30)
    assert any("y is not the other version's" in message for message in found.failures.values()), found.failures


def test_behaviours_tell_corners_apart() -> None:
    layer = LAYERS["max_pool2d"]
    x = np.zeros((2, 1, 4, 4))
    options: list[dict[str, Any]] = [
        {"kernel_size": 2},
        {"kernel_size": (2, 1)},
        {"kernel_size": 2, "stride": 1},
        {"kernel_size": 2, "padding": ((0, 1), (0, 0))},
        {"kernel_size": 2, "ceil_mode": True},
    ]
    cases = [Case((array,), each) for array, each in itertools.product((x, x[:0]), options)]
    names = [campaign.behaviour(layer, layer.fast, case, np.float32) for case in cases]
    assert len(set(names)) == len(names)


def test_the_plan_of_a_convolution_is_a_behaviour() -> None:
    layer = LAYERS["conv2d"]
    x = np.zeros((2, 1, 4, 4))
    names = set()
    for kernel, plan in ((1, "WholeWindow"), (2, "RowByRow")):
        case = Case((x, np.zeros((1, 1, kernel, kernel)), None), {})
        names.add(campaign.behaviour(layer, layer.fast, case, np.float64))
        assert f"{plan}-one-block" in campaign.behaviour(layer, layer.fast, case, np.float64)
        assert plan not in campaign.behaviour(layer, layer.reference, case, np.float64)
    assert len(names) == 2


def test_good_turing_counts_what_was_met_once() -> None:
    assert campaign.unseen({"a": 1, "b": 3, "c": 1}) == 2 / 5
    assert campaign.unseen({"a": 2}) == 0


def test_batches_add_up() -> None:
    one, two = Batch(3, {"a": 2, "b": 1}, {"x": "first"}), Batch(2, {"b": 2}, {"x": "second"})
    assert campaign.together([one, two]) == Batch(5, {"a": 2, "b": 3}, {"x": "first"})


def test_the_command_asks_how_long(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["campaign", "--state", str(tmp_path)])
    assert result.exit_code == 2
    assert "say how long" in result.output


@pytest.mark.parametrize("hours", ["nan", "inf"])
def test_hours_that_never_end_are_refused(hours: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["campaign", "--hours", hours, "--state", str(tmp_path)])
    assert result.exit_code == 2
    assert f"'--hours': {hours} is not a finite number" in result.output


@pytest.mark.parametrize("command", [["campaign", "--batches", "1"], ["museum"]], ids=["campaign", "museum"])
def test_a_page_that_cannot_be_written_is_refused_before_the_run(command: list[str], tmp_path: Path) -> None:
    page = str(tmp_path / "missing" / "page.md")
    result = CliRunner(env={"COLUMNS": "1000"}).invoke(cli, [*command, "--markdown", page])
    assert result.exit_code == 2
    assert f"--markdown '{page}'" in result.output


def _add(one: int, other: int) -> int:
    return one + other


def _die_once(path: str) -> str:
    """End the worker the first time, and return the second time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise ValueError("of the task")


def _tasks(count: int) -> Iterator[tuple[int, Callable[..., int], tuple[int, int]]]:
    return ((number, _add, (number, 1)) for number in range(count))


@pytest.mark.long
def test_every_task_is_done_once() -> None:
    found: dict[int, int] = dict(executors.finished(_tasks(20), executors.workers(None, 2)))
    assert found == {n: n + 1 for n in range(20)}


def test_a_task_whose_worker_dies_is_done_again(tmp_path: Path) -> None:
    dying: Any = ("dying", _die_once, (str(tmp_path / "died"),))
    found = list(executors.finished([dying, *_tasks(5)], executors.workers(None, 2)))
    assert set(found) == {("dying", str(tmp_path / "died")), *((n, n + 1) for n in range(5))}


@pytest.mark.long
def test_a_task_that_always_kills_its_worker_is_named() -> None:
    with pytest.raises(executors.WorkerDiedError, match=r"a worker died 3 times at one of the tasks .*deadly"):
        list(executors.finished([("deadly", _die, ())], executors.workers(None, 1)))


def test_an_exception_of_a_task_is_raised() -> None:
    with pytest.raises(ValueError, match="of the task"):
        list(executors.finished([("bad", _raise, ())], executors.workers(None, 1)))


def test_a_cluster_that_does_not_answer_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["campaign", "--batches", "1", "--dask", "nonsense://x", "--state", str(tmp_path)])
    assert result.exit_code == 2
    assert "--dask nonsense://x" in result.output


def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"seed": 1}) as journal:
        journal.add(0, [3, "whole"])
    with path.open("a", encoding="utf-8") as file:
        file.write('[1, 4, "cut')
    with Journal(path, {"seed": 1}) as journal:
        assert journal.done == {0: [3, "whole"]}
        journal.add(1, [4, "again"])
    with Journal(path, {"seed": 1}) as journal:
        assert journal.done == {0: [3, "whole"], 1: [4, "again"]}
    for seed in (2, 3):
        with Journal(path, {"seed": seed}) as journal:
            assert not journal.done
            journal.add(seed, ["other"])
    with Journal(tmp_path / "journal.1", {"seed": 1}) as journal:  # of other work nothing is lost
        assert journal.done == {0: [3, "whole"], 1: [4, "again"]}
    assert (tmp_path / "journal.2").exists()


def test_replay_draws_nothing(tmp_path: Path) -> None:
    layer = LAYERS["relu"]
    found = campaign._run(layer, layer.fast, str(tmp_path), (Phase.reuse,), 0, 10)
    assert found == Batch(0, {}, {})
