"""Measure the checker and print the figures: `python -m benchmarks.calibrate [WHAT ...] [--scale S] [--write]`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verify.command import executors

DOCS = Path(__file__).parents[2] / "docs"
PAGE, RESULTS = DOCS / "calibration.md", DOCS / "calibration.json"

# Name of a figure -> its claim, and the arguments of its `measure` at scale 1.
FIGURES: dict[str, tuple[str, tuple[int, ...]]] = {
    "sensitivity": (
        "One entry is wrong by a billionth of the largest entry of its gradient. FAIL in at least 99.9 % of checks.",
        (1000, 200),
    ),
    "false_alarms": ("Correct layers are never called wrong.", (100_000,)),
    "sabotage": (
        "Spoilt forwards with right gradients. FAIL in at most 0.1 % of checks. Floors are right in at least 99 %.",
        (10_000,),
    ),
    "black_box": ("The true derivative lies within the tolerance in at least 99.99 % of cases.", (1000,)),
    "localisation": ("The search for the worst entry takes at most 4 log2(n) + 10 forwards.", (20,)),
    "causes": ("The first named cause is the planted one in at least 95 %, and wrong in at most 1 %.", (12,)),
    "speed": (
        "Time against PyTorch's gradcheck, on the same convolutions, in turn. A trial is one second for each row.",
        (15,),
    ),
}
_NEEDS = {"speed": "torch"}
_ALONE = ("speed",)
_NO_TOTALS = ("rows", "trials", "minutes", "seed")


def main(arguments: list[str] | None = None) -> int:
    """Measure the chosen figures and return the exit code, which is 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"one of {', '.join(FIGURES)} (default: all)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor of the number of trials (default: 1, as in the page)"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the figures to docs/calibration.json and docs/calibration.md",
    )
    parser.add_argument("--jobs", type=int, default=1, help="figures measured at once, each in a process (default: 1)")
    options = parser.parse_args(arguments)
    unknown = [what for what in options.what if what not in FIGURES]
    if unknown or not options.scale > 0:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else f"--scale {options.scale}: must be positive")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if options.write else {}
    for what, found in _measured(options.what or list(FIGURES), options.scale, options.jobs):
        if found is not None:
            results[what] = found
            print(section(what, found), flush=True)
    if options.write:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(results), encoding="utf-8")
    return 0


def _measured(chosen: list[str], scale: float, jobs: int) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Measure the figures, several at once; alone, at the end, those that are times."""
    together = [what for what in chosen if what not in _ALONE]
    if jobs > 1:
        tasks = ((what, _measure, (what, scale)) for what in together)
        yield from executors.finished(tasks, executors.workers(None, jobs))
    for what in chosen if jobs == 1 else [what for what in chosen if what in _ALONE]:
        yield what, _measure(what, scale)


def _measure(what: str, scale: float) -> dict[str, Any] | None:
    if what in _NEEDS and importlib.util.find_spec(_NEEDS[what]) is None:
        print(f"{what}: skipped, needs {_NEEDS[what]}", file=sys.stderr)
        return None
    module = importlib.import_module(f"benchmarks.calibrate.{what}")
    started = time.perf_counter()
    trials = tuple(max(1, round(scale * count)) for count in FIGURES[what][1])
    found: dict[str, Any] = module.measure(*trials)
    return {"trials": trials, "minutes": round((time.perf_counter() - started) / 60, 1), **found}


def section(what: str, found: dict[str, Any]) -> str:
    """Return one figure in Markdown: the claim, the totals, a table of the rows."""
    rows = found["rows"]
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    totals = [f"- {name}: {_text(value)}" for name, value in found.items() if name not in _NO_TOTALS]
    table = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    table += [f"| {name} | " + " | ".join(_text(row.get(c, "-")) for c in columns) + " |" for name, row in rows.items()]
    trials = ", ".join(map(str, found["trials"]))
    command = f"`python -m benchmarks.calibrate {what}`, trials {trials}, seeds from {found.get('seed', 0)}"
    return "\n".join([f"## {what.replace('_', ' ')}", "", FIGURES[what][0], "", command, "", *totals, "", *table, ""])


def page(results: dict[str, Any]) -> str:
    """Return all figures as one page."""
    head = [
        "# Calibration",
        "",
        "What the checker misses, which right gradients it calls wrong, and what it costs. `tox -e calibrate` measures",
        "these figures and writes this page. Nothing here is typed by hand.",
        "",
    ]
    return "\n".join(head + [section(what, results[what]) for what in FIGURES if what in results])


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
