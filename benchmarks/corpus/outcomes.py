"""Runs, freezes and compares the outcomes of the corpus.

A spawned process finds a function by its module, which must not be `__main__`. So this file is separate.
"""

from __future__ import annotations

import multiprocessing
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.corpus.checks import Check, checks
from verify import gradcheck

FROZEN = Path(__file__).with_name("verdicts.tsv")
_BATCH = 16


class Outcome(NamedTuple):
    """The frozen result of one check. `inputs` is a checksum of its arrays and options. "-" means none."""

    verdict: str
    structure: str
    worst: str
    cause: str
    inputs: str


def outcome(check: Check) -> Outcome:
    """Run one check and return its outcome. If gradcheck raises, the verdict is the type of the exception."""
    forward, backward = check.make()
    arrays, options = check.case
    described = [None if a is None else (a.dtype.str, a.shape, a.tobytes()) for a in arrays]
    inputs = f"{zlib.crc32(repr((described, options)).encode()):08x}"
    try:
        with np.errstate(all="ignore"):
            found = gradcheck(
                forward, backward, arrays, options, structure=check.structure, seed=check.seed, raise_on_failure=False
            )
    except Exception as error:
        return Outcome(type(error).__name__, check.structure, "-", "-", inputs)
    worst = "-"
    if found.worst is not None:
        worst = f"{found.worst.argument}[{','.join(map(str, found.worst.index))}]"
    return Outcome(found.verdict, found.structure, worst, found.causes[0].code if found.causes else "-", inputs)


def differences(frozen: Mapping[str, Outcome], found: Mapping[str, Outcome]) -> Iterator[tuple[str, str]]:
    """Yield (field, sentence) for each difference. The field of a check that was not frozen is "new"."""
    for name, now in found.items():
        before = frozen.get(name)
        if before is None:
            yield "new", f"{name}: not frozen, now {now.verdict}"
            continue
        for field, old, new in zip(Outcome._fields, before, now, strict=True):
            if old != new:
                yield field, f"{name}: {field} was {old}, is {new}"


def load(path: Path = FROZEN) -> dict[str, Outcome]:
    """Return the frozen outcomes by name."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:])
    return {name: Outcome(*fields) for name, *fields in rows}


def save(outcomes: Mapping[str, Outcome], path: Path = FROZEN) -> None:
    """Write the outcomes, one line each."""
    lines = ["\t".join(["check", *Outcome._fields]), *("\t".join([name, *each]) for name, each in outcomes.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(chosen: Sequence[Check], jobs: int) -> dict[str, Outcome]:
    """Return the outcomes by name. Progress goes to standard error."""
    names = [check.name for check in chosen]
    batches = [names[start : start + _BATCH] for start in range(0, len(names), _BATCH)]
    found: dict[str, Outcome] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for batch in pool.map(_outcomes, batches):
            found.update(batch)
            if sys.stderr.isatty() or len(found) % 400 < _BATCH:
                print(f"{len(found)} of {len(names)} checks", file=sys.stderr, flush=True)
    return found


def _outcomes(names: Sequence[str]) -> dict[str, Outcome]:
    """Return the outcomes of these checks. Closures cannot be sent to a process, so it looks the checks up by name."""
    known = {check.name: check for check in checks()}
    return {name: outcome(known[name]) for name in names}
