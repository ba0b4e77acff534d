"""The list of the mutants that survive, and its comparison with what mutmut found."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import mutants

PAGE = mutants.PAGE.read_text(encoding="utf-8")


def _source(function: str) -> str:
    """The text of "cnn_core.relu._prepare", in one line."""
    parts: list[str] = []
    names = function.split(".")
    while True:
        try:
            found: Any = importlib.import_module(".".join(names))
            break
        except ModuleNotFoundError:
            parts.insert(0, names.pop())
    body: list[ast.stmt] = ast.parse(inspect.getsource(found)).body
    for name in parts:
        (node,) = (each for each in body if isinstance(each, (ast.FunctionDef, ast.ClassDef)) and each.name == name)
        body = node.body
    lines = inspect.getsource(found).splitlines()[node.lineno - 1 : node.end_lineno]
    return " ".join(line.strip() for line in lines).replace("`", "'").replace("|", "¦")


@pytest.mark.parametrize("row", [row for part in mutants.PARTS.values() for row in mutants.listed(PAGE, part)], ids=str)
def test_what_a_listed_mutant_changes_is_there(row: mutants.Row) -> None:
    if row.change == mutants.ANY:
        assert _source(row.function)
        return
    was, becomes = row.change.split(" → ")
    assert was != becomes
    assert was.strip("`") in _source(row.function)


def test_a_page_lists_mutants_as_often_as_they_are() -> None:
    line = "| `cnn_core.relu._prepare` | `a` → `b` | because |\n"
    row = mutants.Row("cnn_core.relu._prepare", "`a` → `b`")
    page = f"# Mutants\n\n| function | change | why |\n|---|---|---|\n{line}{line}"
    assert mutants.listed(page, mutants.PARTS["core"]) == Counter({row: 2})
    assert mutants.listed(page, mutants.PARTS["checker"]) == Counter()


def test_a_change_is_shown_with_some_letters_around_it() -> None:
    assert mutants._shortened("a" * 40 + "x" + "b" * 40, "a" * 40 + "y" + "b" * 40) == "`{0}x{1}` → `{0}y{1}`".format(
        "a" * 24, "b" * 24
    )
    assert mutants._shortened("f(a, b)", "f(a, )") == "`f(a, b)` → `f(a, )`"
    assert mutants._shortened("x | `y`", "None") == "`x ¦ 'y'` → `None`"


ROWS = {"0": "`a` → `c`", "1": "`a` → `b`", "2": "`a` → `d`"}


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Outcomes of three mutants: those of the copy that the command reads, as mutmut writes them."""
    codes: dict[str, int | None] = {f"cnn_core.relu.x__prepare__mutmut_{k}": code for k, code in enumerate((1, 0, 36))}
    (tmp_path / "mutants" / "cnn_core").mkdir(parents=True)

    def results(part: mutants.Part) -> list[mutants.Mutant]:
        meta = {"exit_code_by_key": codes}
        (tmp_path / "mutants" / "cnn_core" / "relu.py.meta").write_text(json.dumps(meta), encoding="utf-8")
        return read(part._replace(folder=tmp_path))

    read = mutants.results
    monkeypatch.setattr(mutants, "results", results)
    monkeypatch.setattr(
        mutants, "row", lambda mutant, part: mutants.Row("cnn_core.relu._prepare", ROWS[mutant.name[-1]])
    )
    monkeypatch.setattr(mutants, "PAGE", tmp_path / "mutants.md")
    mutants.PAGE.write_text("| `cnn_core.relu._prepare` | `a` → `b` | because |\n", encoding="utf-8")
    return codes


def test_listed_survivors_are_accepted_and_counted(found: dict[str, int | None], capsys: Any) -> None:
    assert mutants.main(["--report"]) == 0
    assert "| cnn_core/relu.py | 3 | 1 | 1 | 1 | 0 |" in capsys.readouterr().out


def test_a_survivor_that_is_not_listed_fails(found: dict[str, int | None], capsys: Any) -> None:
    found["cnn_core.relu.x__prepare__mutmut_0"] = 0
    assert mutants.main(["--report"]) == 1
    assert "SURVIVED  cnn_core.relu.x__prepare__mutmut_0\n| `cnn_core.relu._prepare`" in capsys.readouterr().out


def test_a_listed_mutant_that_is_noticed_fails_once_its_function_has_run(found: dict[str, int | None]) -> None:
    found["cnn_core.relu.x__prepare__mutmut_1"] = 1
    assert mutants.main(["--report"]) == 1
    found["cnn_core.relu.x__prepare__mutmut_1"] = 36  # slower alone: a fast machine lets it survive
    assert mutants.main(["--report"]) == 0
    found["cnn_core.relu.x__prepare__mutmut_1"] = None
    assert mutants.main(["--report"]) == 0


def test_any_change_of_a_function_that_decides_how_fast_may_survive(found: dict[str, int | None]) -> None:
    found["cnn_core.relu.x__prepare__mutmut_0"] = 0
    mutants.PAGE.write_text("| `cnn_core.relu._prepare` | any | speed |\n", encoding="utf-8")
    assert mutants.main(["--report"]) == 0
    found.update(dict.fromkeys(found, 1))
    assert mutants.main(["--report"]) == 0


@pytest.mark.parametrize("code", [0, 5, 33])
def test_a_mutant_whose_function_no_test_calls_survives(found: dict[str, int | None], code: int) -> None:
    found["cnn_core.relu.x__prepare__mutmut_0"] = code
    assert mutants.main(["--report"]) == 1


def test_the_share_of_killed_mutants_has_a_bound_if_some_did_not_run(found: dict[str, int | None], capsys: Any) -> None:
    """Of three, one is listed, and two are killed or slow: with so few nothing much is known of all."""
    assert mutants.main(["--report"]) == 0
    assert "Equivalent: 1. Of the others 2 of 2 killed, 100.0 %\n" in capsys.readouterr().out
    found["cnn_core.relu.x__prepare__mutmut_9"] = None
    assert mutants.main(["--report"]) == 0
    known = "Of the others 2 of 2 killed, 100.0 % (if they are a sample of all: at least 42.5 %)\n"
    assert known in capsys.readouterr().out
    assert mutants.share(950, 1000, all_ran=False).endswith("at least 93.7 %)")


@pytest.mark.parametrize(("slow", "again"), [((), 0), (("corpus",), 1)])
def test_survivors_that_are_not_listed_see_the_slow_tests(
    found: dict[str, int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: tuple[str, ...], again: int
) -> None:
    part = mutants.PARTS["core"]._replace(folder=tmp_path, slow=slow)
    name = "cnn_core.relu.x__prepare__mutmut_"
    found.update({f"{name}0": 0, f"{name}2": 1})
    mutants.results(part)  # writes the file
    asked: list[str] = []

    def exit_code(part: mutants.Part, mutant: str, environment: dict[str, str]) -> int:
        asked.append(mutant)
        return int(mutant != "none")

    monkeypatch.setattr(mutants, "_exit_code", exit_code)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0))
    assert mutants.run(part, [], 1) == 0
    assert asked == (["none", f"{name}0"] if slow else [])  # the other one that survives is listed
    written = json.loads((part.copy / "cnn_core" / "relu.py.meta").read_text(encoding="utf-8"))["exit_code_by_key"]
    assert written == {f"{name}0": again, f"{name}1": 0, f"{name}2": 1}


def test_mutmut_reads_the_table_of_its_part(tmp_path: Path) -> None:
    part = mutants.PARTS["checker"]._replace(folder=tmp_path / "made")
    (part.copy / "verify").mkdir(parents=True)
    (part.folder / "old.py").write_text("", encoding="utf-8")
    mutants.prepare(part)
    settings = tomllib.loads((part.folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert settings["mutmut"]["source_paths"] == [part.source]
    assert settings["gradcert"]["mutants-of-core"]["source_paths"] == ["cnn_core"]
    assert all((part.folder / test).is_file() for test in settings["mutmut"]["pytest_add_cli_args_test_selection"])
    assert not (part.folder / "old.py").exists()
    assert part.copy.is_dir()  # the results of the run before
