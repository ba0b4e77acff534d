"""The checker stays small enough to be read, and every constant has a reason. Every bound can be exceeded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.structure import __main__ as command
from benchmarks.structure import constants, measures
from benchmarks.structure import figures as bounds
from benchmarks.structure.figures import Figure, figures

PAGE = Path(__file__).parents[2] / "docs" / "constants.md"

LONG_FUNCTION = "def f():\n" + "    pass\n" * bounds.MOST_LINES_OF_A_FUNCTION
FULL_FILE = "#\n" * bounds.MOST_LINES_OF_A_FILE
NAME = "house"

# What makes a small package exceed a bound: its files. The figure's name begins with the key.
TOO_MUCH: dict[str, dict[str, str]] = {
    "files visited": {f"part{i}.py": "def f(): pass" for i in range(bounds.MOST_FILES_VISITED + 1)},
    "functions visited": {
        "part.py": "\n".join(f"def f{i}(): pass" for i in range(bounds.MOST_FUNCTIONS_VISITED + 1)),
    },
    # A chain of imports: the reference needs the last file only through all others.
    "lines that references/one.py needs": {
        "references/one.py": f"import {NAME}.part0",
        **{
            f"part{i}.py": f"from {NAME} import part{i + 1}\n" + FULL_FILE[2:]
            for i in range(bounds.MOST_LINES_OF_A_REFERENCE // bounds.MOST_LINES_OF_A_FILE)
        },
        f"part{bounds.MOST_LINES_OF_A_REFERENCE // bounds.MOST_LINES_OF_A_FILE}.py": FULL_FILE,
    },
    "files that decide": {f"part{i}.py": "FAIL = 'FAIL'" for i in range(bounds.MOST_FILES_THAT_DECIDE + 1)},
    "isinstance of kinds": {
        "part.py": "class Reference: pass\nclass Sharp(Reference): pass\nclass Sharper(Sharp): pass\n"
        + "isinstance(1, (str, Sharper))\n" * (bounds.MOST_ISINSTANCE + 1)
    },
    "raised NotImplementedError": {
        "part.py": "def f():\n" + "    raise NotImplementedError\n" * (bounds.MOST_NOT_IMPLEMENTED + 1)
    },
    "lines of the checker": {
        f"part{i}.py": FULL_FILE for i in range(bounds.MOST_LINES // bounds.MOST_LINES_OF_A_FILE + 1)
    },
    "functions over": {f"part{i}.py": LONG_FUNCTION for i in range(bounds.MOST_LONG_FUNCTIONS + 1)},
    "files over": {f"part{i}.py": FULL_FILE + "#\n" for i in range(bounds.MOST_LONG_FILES + 1)},
}

# Constants whose value no comment explains yet. A name leaves this list with the commit that explains it.
UNEXPLAINED: set[str] = set()


@pytest.fixture(scope="module")
def measured() -> list[Figure]:
    return figures()


@pytest.fixture(scope="module")
def found() -> list[constants.Constant]:
    return constants.of_the_checker()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], Path]]:
    """A function that writes a package's files and returns its folder."""

    def write(files: Mapping[str, str]) -> Path:
        for path, source in {"__init__.py": "", **files}.items():
            (tmp_path / NAME / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / NAME / path).write_text(source.removesuffix("\n") + "\n", encoding="utf-8")
        return tmp_path / NAME

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in [each for each in sys.modules if each.split(".")[0] == NAME]:
        del sys.modules[name]


def _call_all(root: Path) -> None:
    """Call every function f... of the modules part... in a package."""
    for path in sorted(root.glob("part*.py")):
        for name, value in vars(importlib.import_module(f"{NAME}.{path.stem}")).items():
            if name.startswith("f"):
                value()


def test_the_checker_keeps_its_bounds(measured: list[Figure]) -> None:
    assert not [each for each in measured if each.exceeded]


def test_a_second_measurement_gives_the_same_figures(measured: list[Figure]) -> None:
    assert figures() == measured


def test_every_reference_is_measured(measured: list[Figure]) -> None:
    files = {path.name for path in (bounds.CHECKER / "references").glob("[!_]*.py")}
    assert {each.what.split("/")[1].split()[0] for each in measured if each.what.startswith("lines that")} == files


def test_every_figure_of_the_checker_is_more_than_nothing(measured: list[Figure]) -> None:
    """A figure of 0 is the aim only for what must not be there at all."""
    empty = {each.what.split()[0] for each in measured if not each.measured}
    assert empty <= {"isinstance", "raised", "functions", "files"}
    assert all(each.measured for each in measured if "visited" in each.what or "decide" in each.what)


@pytest.mark.parametrize("figure", TOO_MUCH)
def test_a_package_that_has_too_much_exceeds_the_bound(figure: str, package: Callable[..., Path]) -> None:
    root = package(TOO_MUCH[figure])
    call = (lambda: _call_all(root)) if "visited" in figure else (lambda: None)
    exceeded = [each for each in figures(root, NAME, call) if each.exceeded]
    assert [each for each in exceeded if each.what.startswith(figure)]
    others = {each.what for each in exceeded if not each.what.startswith(figure)}
    assert others <= {"lines of the checker"}, "the figure is exceeded alone, or with the sum of lines"


def test_a_package_with_one_less_keeps_the_bound(package: Callable[..., Path]) -> None:
    root = package({"part.py": "\n".join(f"def f{i}(): pass" for i in range(bounds.MOST_FUNCTIONS_VISITED))})
    assert not [each for each in figures(root, NAME, lambda: _call_all(root)) if each.exceeded]


def test_the_command_fails_where_a_bound_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([]) == 0
    assert "0 of 15 figures exceed" in capsys.readouterr().out
    monkeypatch.setattr(bounds, "MOST_LINES", 100)
    assert command.main([]) == 1
    assert "1 of 15 figures exceed" in capsys.readouterr().out


def test_comprehensions_and_lambdas_belong_to_their_function(package: Callable[..., Path]) -> None:
    source = "def f():\n    [i for i in (1, 2)]\n    (lambda: 1)()\n    sum(i for i in (1, 2))\n    class A: pass"
    root = package({"part.py": source})
    visited = measures.visits(lambda: _call_all(root), root, NAME)
    assert visited == measures.Visits({"part.py"}, {("part.py", "f", 1)})


def test_what_a_cache_remembers_is_visited_again(package: Callable[..., Path]) -> None:
    root = package({"part.py": "from functools import cache\n@cache\ndef f(): pass"})
    for _ in range(2):
        assert measures.visits(lambda: _call_all(root), root, NAME).functions == {("part.py", "f", 2)}


def test_imports_for_types_alone_are_not_needed(package: Callable[..., Path]) -> None:
    late = f"def f():\n    import {NAME}.late"
    types = (
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {NAME}.types\nelse:\n    import {NAME}.other"
    )
    one = f"{types}\nfrom {NAME}.named import x\n{late}"
    others = dict.fromkeys(("late.py", "named.py", "types.py", "other.py", "unused.py"), "")
    root = package({"references/one.py": one, "references/__init__.py": "", **others})
    needs = {"references/one.py", "late.py", "named.py", "other.py"}
    assert measures.needed(root, NAME) == {"references/one.py": needs}


def test_a_relative_import_is_refused(package: Callable[..., Path]) -> None:
    root = package({"references/one.py": "from ..part import f", "part.py": ""})
    with pytest.raises(ValueError, match="line 1 imports relatively: write the package's name"):
        measures.needed(root, NAME)


@pytest.mark.parametrize(
    "source",
    ["x = PASS", "import certificate\ncertificate.INCONCLUSIVE", "y = ['FAIL']", "from certificate import FAIL as F"],
)
def test_a_file_that_uses_a_verdict_decides(source: str, package: Callable[..., Path]) -> None:
    root = package({"part.py": source, "certificate.py": "PASS = 'PASS'", "other.py": "'''May FAIL.'''  # PASS"})
    assert measures.deciding(root) == ["part.py"]


def test_the_page_of_constants_is_printed_from_the_source(
    found: list[constants.Constant], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--constants"]) == 0
    printed = capsys.readouterr().out
    assert printed == constants.page(found)
    assert PAGE.read_text(encoding="utf-8") == printed, "python -m benchmarks.structure --constants > docs/constants.md"


def test_every_constant_has_a_reason(found: list[constants.Constant]) -> None:
    assert {f"{each.module}.{each.name}" for each in found if not each.reason} == UNEXPLAINED


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# Why.\nA = 1", [("A", "1", "Why.")]),
        ("A = 1  # why", [("A", "1", "why")]),
        ("# Why,\n# at length.\nA, B = 1, -2.5", [("A", "1", "Why, at length."), ("B", "-2.5", "Why, at length.")]),
        ("# Why.\nA = 1\nB = 2", [("A", "1", "Why."), ("B", "2", "with `A`: Why.")]),
        ("# Why.\nA = 1\n\nB = 2", [("A", "1", "Why."), ("B", "2", "")]),
        ("A = 1  # why\nB = 2", [("A", "1", "why"), ("B", "2", "")]),
        ("# Why.\n\nA = 1", [("A", "1", "")]),
        ("A = 1  # noqa: X", [("A", "1", "")]),
        ("A = (  # why\n    1,\n    (2.0**-9, True),\n)", [("A", "(1, (2.0 ** (-9), True))", "why")]),
        ("A = 1\ndef f():\n    'Takes A steps.'", [("A", "1", "the docstring of `f`")]),
        ("A = 1\ndef f():\n    'Takes A_B steps.'", [("A", "1", "")]),
        ("A: int = range(8)", [("A", "range(8)", "")]),
        ("A = Way('x', h=1e-5, name='y')", [("A", "Way(h=1e-5)", "")]),
        ("A = 'x'\nB = True\nC = D[1]\nE = (f, g)\nF = lambda: 1", []),
    ],
)
def test_a_reason_stands_beside_a_constant_or_above(
    source: str, expected: list[tuple[str, str, str]], package: Callable[..., Path]
) -> None:
    constant = constants.constants(package({"part.py": source}), NAME)
    assert [(each.name, each.value, each.reason) for each in constant] == expected
    assert all(each.module == f"{NAME}.part" for each in constant)


def test_a_bar_does_not_end_a_cell() -> None:
    assert "| `A` | `1 \\| 2` | `m` | of \\|f\\| |" in constants.page([constants.Constant("A", "1 | 2", "m", "of |f|")])
