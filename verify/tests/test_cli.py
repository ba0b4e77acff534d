"""python -m verify: what it prints, writes and returns."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cnn_core import relu
from verify.command.cli import cli
from verify.command.run import verify_layer
from verify.layers import LAYERS, Layer


def _run(*arguments: str) -> Result:
    # A replaced layer is not known in other processes.
    return CliRunner().invoke(cli, [*arguments, "--jobs", "1"] if arguments[0] == "run" else arguments)


def _replaced(monkeypatch: pytest.MonkeyPatch, name: str, backward: Any, forward: Any = None, **changes: Any) -> None:
    """Replace the fast backward of a layer, and its forward if one is given."""

    class Module:
        naive = LAYERS[name].reference
        fast = vectorized = LAYERS[name].fast._replace(backward=backward, forward=forward or LAYERS[name].fast.forward)

    broken: Layer = dataclasses.replace(LAYERS[name], module=Module, **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(LAYERS, name, broken)


def _passed(result: Result) -> list[str]:
    """Return the first word of each row that passed."""
    assert result.exit_code == 0, result.output
    return [line.split("  ")[0] for line in result.output.splitlines() if line.rstrip().endswith("PASS")]


# The naive loops take seconds for one image, and depend on no version.
@pytest.mark.parametrize("version", [pytest.param("naive", marks=pytest.mark.long), "fast"])
def test_every_layer_and_the_network_pass(version: str) -> None:
    result = _run("run", "--examples", "3", "--implementation", version)
    assert _passed(result) == [*LAYERS, "digits: logits", "digits: loss"]
    assert f"{len(LAYERS) + 2} PASS in" in result.output


def test_without_a_choice_all_versions_of_a_layer_are_checked() -> None:
    result = _run("run", "--examples", "3", *(word for name in LAYERS for word in ("--layer", name)))
    assert _passed(result) == [name for name, layer in LAYERS.items() for _ in layer.implementations]


def test_one_layer_and_version_can_be_chosen_and_a_seed_repeats_the_run() -> None:
    chosen = ["run", "--layer", "linear", "--implementation", "fast", "--examples", "5", "--json", "-"]
    one, two = (json.loads(_run(*chosen, "--seed", "7").stdout) for _ in range(2))
    assert [(row["layer"], row["version"], row["cases"]) for row in one["rows"]] == [("linear", "vectorized", 5)]
    for run in (one, two):
        run["rows"][0].pop("seconds")
    assert one == two


@pytest.mark.long
def test_processes_give_the_rows_that_one_gives_in_the_same_order() -> None:
    layers = ("relu", "softmax_cross_entropy", "digits")  # the digits are long in both: fast alone
    chosen = ["run", "--implementation", "fast", "--examples", "9", *(f"--layer={layer}" for layer in layers)]
    results = []
    for processes in ("1", "2"):
        command = [sys.executable, "-m", "verify", *chosen, "--json", "-", "--jobs", processes]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout))
        for row in results[-1]["rows"]:
            row.pop("seconds")
    assert [row["layer"] for row in results[0]["rows"]] == [*layers[:2], "digits: logits", "digits: loss"]
    assert results[0] == results[1]


def test_a_row_that_did_not_pass_comes_from_a_process_whole() -> None:
    wrong = relu.fast._replace(backward=lambda dy, cache: (dy * 2,))
    row = verify_layer(LAYERS["relu"], wrong, 20, 0)
    assert row.verdict == "FAIL"
    assert pickle.loads(pickle.dumps(row)).to_dict() == row.to_dict()


def test_a_long_run_says_every_ten_seconds_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 4))
    monkeypatch.setattr("verify.command.jobs.time", SimpleNamespace(monotonic=lambda: next(times)))
    result = _run("run", "--layer", "relu", "--examples", "2")
    # A case, and the end of a version, take four seconds each.
    said = [f"{done} of 2 checks done in {seconds} s" for done, seconds in ((1, 12), (2, 24))]
    assert result.stderr.splitlines() == said


def test_json_goes_to_a_file_beside_the_table(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    result = _run("run", "--layer", "relu", "--examples", "3", "--json", str(path))
    assert "relu" in result.output
    results = json.loads(path.read_text())
    assert results["exit_code"] == 0
    assert {row["verdict"] for row in results["rows"]} == {"PASS"}
    assert results["rows"][0]["miss_probability"] <= 1e-9


def test_a_page_has_every_row_and_the_maps_of_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    _replaced(monkeypatch, "relu", lambda dy, cache: (dy * 2,))
    path = tmp_path / "page.html"
    result = _run("run", "--layer", "relu", "--layer", "add", "--examples", "5", "--html", str(path))
    assert f"the page: {path}" in result.stderr
    page = path.read_text(encoding="utf-8")
    assert page.count("<tr>") == 1 + 4
    assert page.count('<a href="#section-1">relu</a>') == 1
    assert page.count('<td class="verdict PASS">PASS</td>') == 3
    assert "dx, difference" in page
    assert "1 FAIL in " in page or "3 PASS, 1 FAIL" in page


def test_a_page_needs_a_place_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = _run("run", "--layer", "relu", "--examples", "1", "--html", "page.html")
    assert result.exit_code == 2
    assert 'pip install "gradcert[report]"' in " ".join(result.output.replace("│", " ").split())
    assert not Path("page.html").exists(), "an empty page is left"


def test_a_wrong_gradient_is_exit_code_1_with_the_worst_entry_and_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    _replaced(monkeypatch, "relu", lambda dy, cache: (dy * 2,))
    result = _run("run", "--layer", "relu", "--examples", "20", "--json", "-")
    assert result.exit_code == 1
    right, wrong = json.loads(result.stdout)["rows"]
    assert (right["verdict"], wrong["verdict"]) == ("PASS", "FAIL")
    worst = wrong["certificate"]["worst"]
    assert worst["numeric"] in (0, worst["analytic"] / 2)
    assert re.match(r"FAIL: dx is wrong in \d+ of \d+ entr(y|ies); dx(\[[\d, ]+\])? is \S+ and ", wrong["message"])
    assert "case: x (" in wrong["message"]


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("out of tape")


def test_a_forward_that_refuses_a_valid_case_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = relu.vectorized._replace(forward=_broken)
    monkeypatch.setattr(relu, "vectorized", broken)
    monkeypatch.setattr(relu, "fast", broken)
    result = _run("run", "--layer", "relu", "--examples", "3")
    assert result.exit_code == 3
    assert "RuntimeError: out of tape" in result.output


def test_a_backward_that_raises_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    _replaced(monkeypatch, "relu", _broken)
    result = _run("run", "--layer", "relu", "--examples", "3")
    assert result.exit_code == 1
    assert "backward raised RuntimeError: out of tape" in result.output


def test_a_check_that_cannot_decide_is_exit_code_4(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)

    def forward(x: Any) -> Any:
        y, cache = relu.vectorized.forward(x)
        return y + noise.normal(size=y.shape), cache

    _replaced(monkeypatch, "relu", relu.vectorized.backward, forward, structure="smooth")
    result = _run("run", "--layer", "relu", "--implementation", "fast", "--examples", "20")
    assert result.exit_code == 4, result.output
    assert "fix its randomness" in result.output


def test_a_choice_that_leaves_nothing_is_exit_code_5() -> None:
    result = _run("run", "--layer", "relu", "--implementation", "im2col")
    assert result.exit_code == 5
    assert "nothing was checked" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--layer", "conv4d"], "'conv4d' is not one of"),
        (["run", "--examples", "0"], "0 is not in the range"),
        (["check", "x.py:y", "--jobs", "2"], "No such option"),
        (["run", "--data", "no such folder"], "no such folder"),
        (["run", "--data", "x", "--layer", "relu"], "--data x is for the network, which --layer excludes"),
        (["museum", "--examples", "5"], "5 is not in the range"),
        (["run", "--layer", "relu", "--examples", "1", "--json", "no/such/folder.json"], "no/such/folder.json"),
        (["chekc"], "No such command 'chekc'"),
    ],
)
def test_usage_errors_quote_what_was_given(arguments: list[str], message: str) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


def test_interrupted_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("verify.command.jobs.verify_layer", interrupted)
    result = _run("run", "--layer", "relu")
    assert result.exit_code == 130
    assert "interrupted" in result.output


def test_python_m_verify_means_run() -> None:
    command = [sys.executable, "-m", "verify", "--layer", "flatten", "--examples", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "flatten" in result.stdout
    assert re.sub(r"\d of 2 checks done in \d+ s\n", "", result.stderr) == ""  # no bar where nobody looks
