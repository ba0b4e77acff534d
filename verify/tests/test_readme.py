"""The README is short, what it shows is what is printed, and its figures are those of the measured pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import page_blocks
import verify
from cnn_core.network import Version
from verify.digits import Part
from verify.layers import LAYERS

README = page_blocks.ROOT / "README.md"
PAGE = README.read_text(encoding="utf-8")
BLOCKS = page_blocks.blocks(PAGE)
LIMITS = {"lines": 150, "words": 1300, "words in a sentence": 30}


def sentences(page: str) -> list[str]:
    """Return the sentences of paragraphs, points and cells of tables. A link counts as its text."""
    text = re.sub(r"^```.*?^```$|^#[^\n]*$", "\n", page, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"!?\[((?:[^]`]|`[^`]*`)*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"\n\s*\n|\n(?=[-*] )|\|", text)
    found = [sentence for part in parts for sentence in re.split(r"(?<=[.!?])\s+", " ".join(part.split()))]
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def sizes(page: str) -> dict[str, int]:
    """Return what LIMITS bounds."""
    longest = max(len(sentence.split()) for sentence in sentences(page))
    return {"lines": len(page.splitlines()), "words": len(page.split()), "words in a sentence": longest}


def too_large(page: str) -> list[str]:
    """Return which of LIMITS a page exceeds."""
    return [what for what, size in sizes(page).items() if not size <= LIMITS[what]]


def dead(page: str) -> list[str]:
    """Return the links of the README to files that are not there."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page)
    assert targets
    return [target for target in targets if not (page_blocks.ROOT / target).exists()]


def row(page: str, first: str) -> list[str]:
    """Return the cells behind the first cell of a table's only row that begins with it."""
    (found,) = re.findall(rf"^\| {re.escape(first)} \| (.*) \|$", page, re.MULTILINE)
    return [cell.strip() for cell in found.split("|")]


def test_the_sessions_files_and_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = page_blocks.failures(page_blocks.without_oracles(BLOCKS), tmp_path)
    assert not found, "\n".join(found)
    # The convolution is mended by then. The test of it that is shown passes, and calls the checker.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "verify.plugin", "-p", "no:cacheprovider", "test_conv.py"]
    environment = os.environ | {"PYTHONPATH": str(Path(verify.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Conv +dw +PASS", done.stdout)


def test_the_sessions_with_pytorch_and_jax_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in page_blocks.ORACLES:
        pytest.importorskip(library)
    monkeypatch.syspath_prepend(tmp_path)
    found = page_blocks.failures(BLOCKS, tmp_path)
    assert not found, "\n".join(found)


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {block.kind for block in BLOCKS} <= set(page_blocks.KINDS)
    assert {"python", "console", "diff", "sh"} == {block.kind for block in BLOCKS}


def test_it_is_read_in_five_minutes() -> None:
    assert not too_large(PAGE), sizes(PAGE)


@pytest.mark.parametrize(
    ("added", "what"),
    [
        ("\nOne line.\n" * 80, "lines"),
        (" word." * 1300, "words"),
        ("\n\nA sentence of " + "so " * 28 + "many words.\n", "words in a sentence"),
        ("\n\n- A point\n  of " + "very, " * 28 + "many words.\n", "words in a sentence"),
        ("\n| a cell | " + "word " * 31 + "|\n", "words in a sentence"),
    ],
)
def test_a_page_that_grew_is_seen(added: str, what: str) -> None:
    assert what in too_large(PAGE + added)


def test_no_sentence_stands_there_twice() -> None:
    said = [each for each in sentences(PAGE) if len(each.split()) > 3]
    assert len(said) == len(set(said))


def test_its_links_and_pictures_are_there() -> None:
    assert not dead(PAGE)
    assert dead(PAGE + "[a page](docs/nothing.md)") == ["docs/nothing.md"]


def test_two_lines_set_it_up() -> None:
    """`.ci/run` finds them by how they begin, and runs them."""
    (setup,) = [block for block in BLOCKS if block.kind == "sh"]
    lines = [line for line in PAGE.splitlines() if line.startswith("python3 -m venv")]
    assert setup.text.splitlines() == lines
    assert len(lines) == 2
    assert not page_blocks.known_commands(setup)


# A row of the README and, in docs/museum.md, the column of the table beside other checkers.
COLUMNS = {
    "bugs seen at one ordinary call": 0,
    "bugs seen at 25 drawn cases": 1,
    "right cases with ties accused": 4,
    "time of a check, on busy cores": 7,
}


@pytest.mark.parametrize("what", COLUMNS)
def test_a_row_beside_other_checkers_is_the_museums(what: str) -> None:
    museum = (page_blocks.ROOT / "docs" / "museum.md").read_text(encoding="utf-8")
    measured = [row(museum, checker)[COLUMNS[what]] for checker in ("gradcert", "torch", "jax")]
    assert [cell.removesuffix(" ms") for cell in row(PAGE, what)] == measured


def test_all_checks_see_what_the_museum_says() -> None:
    museum = (page_blocks.ROOT / "docs" / "museum.md").read_text(encoding="utf-8")
    assert row(PAGE, "bugs seen by all checks, at 100 cases")[0] == row(museum, "gradcert, every check")[1]
    assert "100 cases for each version" in museum


def test_a_small_error_is_seen_as_often_as_the_calibration_says() -> None:
    calibration = (page_blocks.ROOT / "docs" / "calibration.md").read_text(encoding="utf-8")
    table = calibration.partition("## sensitivity")[2].partition("##")[0]
    rows = re.findall(r"^\| \w+ \| (\d+) \| (\d+) \| .* \| (\d+) of (\d+) \|$", table, re.MULTILINE)
    trials, caught, caught_by_torch, trials_of_torch = (sum(map(int, column)) for column in zip(*rows, strict=True))
    shown = row(PAGE, "one entry wrong by a billionth ([`tox -e calibrate`](docs/calibration.md))")
    assert shown[:2] == [f"{caught} of {trials}", f"{caught_by_torch} of {trials_of_torch}"]


def test_layers_and_versions_are_counted() -> None:
    assert f"[{len(LAYERS)} layers]" in PAGE
    of_layers = sum(len(layer.implementations) for layer in LAYERS.values())
    of_network = len(get_args(Part)) * len(get_args(Version))
    assert f"{of_layers + of_network} versions" in PAGE


def test_the_figure_of_speed_is_the_reports() -> None:
    report = (page_blocks.ROOT / "docs" / "benchmarks" / "index.md").read_text(encoding="utf-8")
    figure = r"\*\*(\S+× \w+ than the better of PyTorch and JAX)\.\*\* Forward and backward of (\d+ convolutions)"
    found = re.search(figure, report)
    assert found
    assert all(each in " ".join(PAGE.split()) for each in found.groups())
