"""Check PyTorch's operator database: `python -m benchmarks.calibrate.operators [--scale 0.1] [--operators norm]`.

The database is that of PyTorch's own tests. It needs the packages torch and expecttest. Of each operator with a
gradient, up to three samples of at most 500 entries are checked in float64. The first sample that passes is checked
again, with errors planted in one entry of one gradient.

It exits with 1 if an operator is called wrong that ALLOWED does not list, or if a planted error does not fail.
`--write` keeps what the whole database gives as docs/operators.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.calibrate.operator_errors import place_of_largest, planted
from benchmarks.calibrate.operator_samples import Outcome, Sample, checked, line, operators, samples

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
# Relative errors of one entry. At -1 the entry is zero.
ERRORS = (1e-6, 1e-3, -1.0)
# The operators that are called wrong, and why that is right.
ALLOWED = {
    "as_strided_scatter": "its backward is not that of overlapping strides",
    "nn.functional.max_unpool1d": "repeated indices: one of the entries is kept, and each gets its gradient",
    "nn.functional.max_unpool2d": "repeated indices: one of the entries is kept, and each gets its gradient",
    "nn.functional.max_unpool3d": "repeated indices: one of the entries is kept, and each gets its gradient",
    "normal": "its gradient is zero: the sample is taken as independent of mean and deviation",
    "nn.functional.hardsigmoid": "its backward takes 1/6 in float32",
    "native_group_norm": "it drops a term where only the mean or the deviation is used",
}
# What becomes of a planted error. One smaller than the certificate promises to catch may pass.
FOUND, NAMED, SMALL, MISSED = "FAIL", "right entry named", "below the promise", "missed"
# The page shows the first characters of a reason.
_MOST_SAID = 160


class Told(NamedTuple):
    """What is said of an operator whose samples did not all pass: for each verdict how often, and the first reason."""

    name: str
    verdict: str
    samples: int
    reason: str


class Run:
    """The verdicts of a run, and what became of the planted errors, by their size."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds, self.seed = seconds, seed
        self.operators = self.unexpected = self.zero = 0
        self.verdicts: Counter[str] = Counter()
        self.told: list[Told] = []
        self.errors: dict[float, Counter[str]] = {size: Counter() for size in ERRORS}

    def check(self, operator: Any, *, plant: bool) -> None:
        """Check the samples of an operator, print what is no PASS, and plant errors in the first that is one."""
        self.operators += 1
        name, right = operator.formatted_name, []
        seen: dict[str, list[str]] = {}
        for sample in _prepared(operator):
            outcome = checked(sample, self.seconds, self.seed)
            self.verdicts[outcome.verdict] += 1
            if outcome.verdict == "PASS":
                right.append((sample, outcome))
                continue
            allowed = ALLOWED.get(operator.name) if outcome.verdict == "FAIL" else None
            self.unexpected += outcome.verdict == "FAIL" and allowed is None
            seen.setdefault(outcome.verdict, []).append(allowed or outcome.reason)
            text = f"{outcome.verdict} {name}: {outcome.reason}"
            print(text + (f" (known: {allowed})" if allowed else ""), flush=True)
        self.told += [Told(operator.name, verdict, len(reasons), reasons[0]) for verdict, reasons in seen.items()]
        if right and plant:
            self._plant(name, *right[0])

    def _plant(self, name: str, sample: Sample, right: Outcome) -> None:
        """Plant errors in a sample that passed, and count which are found."""
        try:
            place = place_of_largest(*sample)
        except Exception as error:
            print(f"no error planted in {name}: {line(error)}", flush=True)
            return
        if place is None:
            self.zero += 1
            return
        for size, counts in self.errors.items():
            wrong = planted(sample[0], place.tensor, place.flat, size)
            outcome = checked((wrong, *sample[1:]), self.seconds, self.seed)
            floor = getattr(outcome.certificate, "detection_floor", None) or 0.0
            if outcome.verdict == "FAIL":
                worst = outcome.certificate.worst
                argument = right.certificate.arguments[place.argument].position
                named = worst is not None and (worst.argument, tuple(worst.index)) == (argument, place.at)
                counts[FOUND] += 1
                counts[NAMED] += named
                said = "" if named else "other entry named"
            else:
                small = outcome.verdict == "PASS" and abs(size) <= floor
                said = SMALL if small else MISSED
                counts[said] += 1
            if said:
                print(f"{said}: {name}, {size:g} in {list(place.at)}: {outcome.verdict} {outcome.reason}", flush=True)

    def total(self, what: str) -> int:
        """Return the number of planted errors of all sizes of which this became."""
        return sum(counts[what] for counts in self.errors.values())

    @property
    def failed(self) -> bool:
        """Whether an operator is called wrong that is right, or a planted error is missed or given another entry."""
        return bool(self.unexpected or self.total(MISSED) or self.total(NAMED) < 0.99 * self.total(FOUND))


def _prepared(operator: Any) -> Iterator[Sample]:
    try:
        yield from samples(operator)
    except Exception as error:  # some samples need packages or devices that are not there
        print(f"no samples of {operator.formatted_name}: {line(error)}", flush=True)


def page(run: Run, version: str) -> str:
    """Return what a run found as a page."""
    failing = [each for each in run.told if each.verdict == "FAIL"]
    others = [each for each in run.told if each.verdict != "FAIL"]
    total = run.verdicts.total()
    text = [
        "# PyTorch's operators",
        "",
        "The operators with a gradient of the database of PyTorch's own tests, in float64. Of each, up to three",
        "samples of at most 500 entries are checked. `python -m benchmarks.calibrate.operators --write` writes this",
        "page. Nothing here is typed by hand.",
        "",
        f"PyTorch {version}, seed {run.seed}: {run.operators} operators, {total} samples.",
        "",
        *_table(("verdict", "samples"), run.verdicts.most_common()),
        "## FAIL",
        "",
        "The gradient is not the derivative of what the operator computes.",
        "",
        *_table(("operator", "samples", "why"), [(f"`{each.name}`", each.samples, each.reason) for each in failing]),
        "## Not decided, or not checked",
        "",
        "A sample is refused if its arrays cannot be checked as they are, and an error if the operator raises.",
        "",
        *_table(
            ("operator", "verdict", "samples", "why"),
            [(f"`{each.name}`", each.verdict, each.samples, _short(each.reason)) for each in others],
        ),
        "## Planted errors",
        "",
        "In the first sample of each operator that passes, the largest entry of the gradient is made wrong.",
        f"Where the gradient is 0 ({run.zero} operators), nothing is planted. An error is below the promise if it",
        "passes, and the certificate promises to catch larger ones only.",
        "",
        *_table(
            ("relative error", "planted", FOUND, NAMED, SMALL, MISSED),
            [
                (
                    "the entry is 0" if size == -1 else f"{size:g}",
                    counts.total() - counts[NAMED],
                    *(counts[what] for what in (FOUND, NAMED, SMALL, MISSED)),
                )
                for size, counts in run.errors.items()
            ],
        ),
    ]
    return "\n".join(text).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: list[Any]) -> list[str]:
    lines = [" | ".join(str(each).replace("|", "\\|") for each in row) for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {each} |" for each in lines), ""]


def _short(reason: str) -> str:
    return reason if len(reason) <= _MOST_SAID else reason[:_MOST_SAID].rsplit(" ", 1)[0] + " ..."


def main(arguments: list[str] | None = None) -> int:
    """Check the operators, print what is found, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate.operators", description=__doc__)
    parser.add_argument("--operators", default="", metavar="PATTERN", help="a regular expression in the names")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the operators (default: 1, all of them)")
    parser.add_argument("--seconds", type=float, default=30.0, help="the time limit of a sample (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the checks (default: 0)")
    parser.add_argument("--no-errors", action="store_true", help="plant no errors")
    parser.add_argument("--write", action="store_true", help="write docs/operators.md")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.scale <= 1:
        parser.error(f"--scale {chosen.scale}: must lie between 0 and 1")
    if chosen.write and (chosen.operators or chosen.scale < 1 or chosen.no_errors):
        parser.error("--write: takes the whole database, with planted errors")
    try:
        listed = operators(chosen.operators, chosen.scale)
    except ModuleNotFoundError as error:
        print(f"operators: skipped, needs {error.name}", file=sys.stderr)
        return 2
    started, run = time.perf_counter(), Run(chosen.seconds, chosen.seed)
    for operator in listed:
        run.check(operator, plant=not chosen.no_errors)
    minutes = (time.perf_counter() - started) / 60
    print(f"{run.operators} operators, {run.verdicts.total()} samples, {minutes:.1f} minutes: {dict(run.verdicts)}")
    for size, counts in run.errors.items():
        print(f"planted errors of {size:g}: {dict(counts)}")
    if chosen.write:
        import torch

        PAGE.write_text(page(run, torch.__version__), encoding="utf-8")
    return int(run.failed)


if __name__ == "__main__":
    sys.exit(main())
