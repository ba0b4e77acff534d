"""The corpus of verdicts is complete, calls no right gradient wrong, and shows every verdict that changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.corpus import __main__ as command
from benchmarks.corpus.checks import checks
from benchmarks.corpus.outcomes import FROZEN, differences, load, outcome, save

# Exact arithmetic: these verdicts are the same on every machine.
EXACT = (
    "right: conv2d, im2col, case 1, multilinear",
    "right: max_pool2d, naive, case 0, piecewise-linear",
    "museum: flatten-noT, vectorized, case 1",
    "bad layer: wrong shape, auto",
    "bad layer: forward raises, multilinear",
)


def test_every_check_is_frozen_and_nothing_else() -> None:
    names = [check.name for check in checks()]
    assert len(names) == len(set(names)) >= 2000
    assert sorted(load()) == sorted(names)


def test_no_right_gradient_is_frozen_as_wrong() -> None:
    right = {name: each for name, each in load().items() if name.startswith("right:") or ", right, " in f"{name}, "}
    assert len(right) > 700
    assert not [name for name, each in right.items() if each.verdict not in ("PASS", "INCONCLUSIVE")]


@pytest.mark.parametrize("name", EXACT)
def test_exact_verdicts_are_as_frozen(name: str) -> None:
    (check,) = (each for each in checks() if each.name == name)
    found = outcome(check)
    assert found == load()[name]
    assert (found.verdict == "PASS") == name.startswith("right")


@pytest.mark.parametrize("field", ["verdict", "structure", "worst", "cause", "inputs"])
def test_each_field_that_changes_is_one_difference(field: str) -> None:
    frozen = load()
    name = EXACT[2]
    changed = {name: frozen[name]._replace(**{field: "another"})}
    assert [found for found, _ in differences(frozen, changed)] == [field]
    assert not list(differences(frozen, {name: frozen[name]}))
    assert [found for found, _ in differences({}, {name: frozen[name]})] == ["new"]


def test_the_command_exits_with_1_where_a_verdict_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["museum: flatten-noT, vectorized", "--jobs", "1"]
    assert command.main(words) == 0
    altered = load()
    altered[EXACT[2]] = altered[EXACT[2]]._replace(verdict="PASS")
    save(altered, tmp_path / "verdicts.tsv")
    assert load(tmp_path / "verdicts.tsv") == altered != load(FROZEN)
    monkeypatch.setattr(command, "load", lambda: altered)
    assert command.main(words) == 1
    assert f"{EXACT[2]}: verdict was PASS, is FAIL" in capsys.readouterr().out


def test_what_cannot_be_run_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["no such check"], ["--jobs", "0"]):
        with pytest.raises(SystemExit) as caught:
            command.main(arguments)
        assert caught.value.code == 2
        assert arguments[-1] in capsys.readouterr().err
