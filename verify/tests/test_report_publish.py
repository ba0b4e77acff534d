"""A run as a folder of the handbook: what is written, and that every figure is a file of its own."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_report import timed, written

report = pytest.importorskip("benchmarks.report.__main__", reason="the report is an extra: gradcert[report]")


def _entry(version: str, seconds: float, case: str = "64->64 3x3 on 56x56, N = 8", **info: Any) -> dict[str, Any]:
    """An entry with nine rounds about the median."""
    made = timed(version, seconds, case=case, **info)
    made["stats"]["data"] = [seconds * (1 + 0.02 * ((5 * turn) % 9 - 4)) for turn in range(9)]
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions, one of them far from the others, with all contenders."""
    entries = [
        _entry(version, factor * seconds, case, extra_resident_bytes=int(factor * 2**22))
        for case, seconds in (("64->64 3x3 on 56x56, N = 8", 1), ("3->8 3x3 on 9x9, N = 8", 40))
        for version, factor in (
            *(("fast", 1), ("im2col", 2), ("matmul", 0.8), ("torch", 0.7), ("torch channels_last", 0.9)),
            *(("jax", 3), ("jax channels_last", 30)),
        )
    ]
    entries += [_entry("fast", n, f"N = {n}", zoo="by batch", shape=[n, 3, 9, 9]) for n in (8, 16, 32)]
    return written(tmp_path_factory.mktemp("run") / "run.json", entries)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The run, in a folder of its own."""
    return Path(shutil.copy(made, tmp_path / "run.json"))


def _published(run: Path, folder: Path) -> dict[str, str]:
    result = CliRunner().invoke(report.main, [str(run), "--publish", str(folder)])
    assert result.exit_code == 0, result.output
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(made: Path) -> dict[str, str]:
    """The files of the run, by their names."""
    return _published(made, made.parent / "docs" / "benchmarks")


def test_page_ratios_and_a_file_for_each_figure_are_written(made: Path, files: dict[str, str]) -> None:
    pictures = {name for name in files if name.endswith(".svg")}
    assert {"contenders.svg", "growth.svg", "memory.svg", "rounds.svg"} <= pictures
    assert set(files) == {"report.html", "ratios.json", "index.md", *pictures}
    assert files["report.html"] == made.with_name("report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", files["index.md"])) == pictures
    for name in re.findall(r"\]\(([^):]+)\)", files["index.md"]):
        assert name in files
    assert "slower than PyTorch and JAX" in files["index.md"] or "slower than the better" in files["index.md"]


def test_the_same_run_gives_the_same_files_and_no_figure_of_an_earlier_run_stays(
    run: Path, files: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "gone.svg").write_text("<svg/>", encoding="utf-8")
    (tmp_path / "docs" / "notes.md").write_text("stays", encoding="utf-8")
    assert _published(run, tmp_path / "docs") == {**files, "notes.md": "stays"}


def test_each_figure_is_a_file_of_its_own_in_both_schemes(files: dict[str, str]) -> None:
    for name, text in files.items():
        if name.endswith(".svg"):
            root = ET.fromstring(text)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            title = root.find("{http://www.w3.org/2000/svg}title")
            assert title is not None
            assert title.text
            assert "prefers-color-scheme: dark" in text
            colours = set(re.findall(r"var\(--([a-z]+)\)", text))
            assert all(text.count(f"--{colour}: #") == 2 for colour in colours)
            assert not re.search(r'(?:href|src)="(?!#)', text)
            assert "#0102" not in text


def test_ratios_have_their_intervals(files: dict[str, str]) -> None:
    found = json.loads(files["ratios.json"])
    assert found["machine"]["processor"] == "A Processor, 4 cores"
    ratio = found["ratios"]["conv2d both, ResNet-50: 64->64 3x3 on 56x56, N = 8, over PyTorch"]
    assert ratio["ratio"] == pytest.approx(1 / 0.7, rel=1e-3)
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert ratio["rounds"] == 9


def test_a_small_run_is_not_published(run: Path, tmp_path: Path) -> None:
    small = json.loads(run.read_text(encoding="utf-8"))
    small["machine_info"]["small"] = True
    run.write_text(json.dumps(small), encoding="utf-8")
    result = CliRunner().invoke(report.main, [str(run), "--publish", str(tmp_path / "docs")])
    assert result.exit_code == 2
    assert "it measures nothing and is not published" in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "docs").exists()


def test_a_small_run_names_the_images_that_it_took(run: Path) -> None:
    small = json.loads(run.read_text(encoding="utf-8"))
    small["machine_info"]["small"] = True
    for each in small["benchmarks"]:
        each["extra_info"]["shape"] = [1, 3, 9, 9]
    run.write_text(json.dumps(small), encoding="utf-8")
    assert CliRunner().invoke(report.main, [str(run)]).exit_code == 0
    page = run.with_name("report.html").read_text(encoding="utf-8")
    assert "N = 1<" in page
    assert "N = 8" not in page
