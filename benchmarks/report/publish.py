"""Write a run as a folder of the handbook: the page, a file for each figure, the ratios, and a page that shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.report.answers import headlines
from benchmarks.report.collect import JAX, TORCH, Row, Run, Training
from benchmarks.report.collect import ratios as named_ratios
from benchmarks.report.drawing import Picture
from benchmarks.report.intervals import Interval, ratio
from benchmarks.report.sections import sections


class SmallRunError(ValueError):
    """A run with --small measures nothing and is not published."""


def publish(run: Run, page: str, folder: Path) -> list[Path]:
    """Write the files of a run to the folder, without figures of an earlier run, and return their paths.

    Raises SmallRunError for a run with --small.
    """
    if run.small:
        raise SmallRunError("the run has few images and few rounds (--small): it measures nothing and is not published")
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("*.svg"):
        earlier.unlink()
    pictures = [picture for section in sections(run) for picture in section.figures]
    files = {
        "report.html": page,
        "ratios.json": json.dumps(ratios(run), indent=1, ensure_ascii=False) + "\n",
        "index.md": index(run),
        **{f"{picture.name}.svg": picture.file for picture in pictures},
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def ratios(run: Run) -> dict[str, Any]:
    """Return the machine, and each ratio by its name with its interval of 95 % and the number of rounds.

    A larger ratio is worse: our time is over theirs.
    """
    intervals: dict[str, tuple[Interval, int]] = {}
    for timed, names, what in _compared(run):
        found = ratio(timed, names)
        if found is not None:
            intervals[what] = (found, len(timed.rounds.get("fast", ())))
    listed: dict[str, Any] = {}
    for what, value in named_ratios(run).items():
        listed[what] = {"ratio": _rounded(value)}
        if what in intervals and (rounds := intervals[what][1]):
            low, high = intervals[what][0][1:]
            listed[what] |= {"low": _rounded(low), "high": _rounded(high), "rounds": rounds}
    return {"machine": dict(run.machine), "ratios": listed}


def _compared(run: Run) -> list[tuple[Row | Training, tuple[str, ...], str]]:
    found: list[tuple[Row | Training, tuple[str, ...], str]] = []
    for row in run.rows:
        what = f"{row.layer} {row.direction}, {row.zoo}: {row.case}"
        over = {"naive": ("naive",), "the bare product": ("matmul",), "PyTorch": TORCH, "JAX": JAX}
        found += [(row, names, f"{what}, over {whom}") for whom, names in over.items()]
    found += [(each, ("torch",), f"training {each.network}, {each.span}, over PyTorch") for each in run.trainings]
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def index(run: Run) -> str:
    """Return the page of the handbook, in Markdown: the main ratios, each figure under its answer, the machine."""
    lines = ["# Benchmarks", ""]
    lines += [f"**{each.figure} {each.what}.** {each.meaning}\n" for each in headlines(run)]
    lines += [
        "[The whole report](report.html) is one page with every table. [The ratios](ratios.json) are there too.",
        "",
    ]
    for section in sections(run):
        if section.figures:
            lines += [f"## {section.title}", "", section.text, ""]
            lines += [line for picture in section.figures for line in _figure(picture)]
    lines += ["## The machine", "", *(f"- {name}: {fact}" for name, fact in run.machine.items()), ""]
    lines += [
        "Times belong to that machine and that hour: quote the ratios. Made by `tox -e bench` and",
        "`python -m benchmarks.report benchmarks/results/run.json --publish docs/benchmarks`.",
    ]
    return "\n".join(lines) + "\n"


def _figure(picture: Picture) -> list[str]:
    return [f"**{picture.title}**", "", f"![{picture.shows}]({picture.name}.svg)", ""]
