"""The command `sweep`: every configuration of a layer within a bound, on several processes, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import rich_click as click

import cnn_core
from verify import sweep as library
from verify.command.output import seed_option
from verify.layers import LAYERS

SWEPT = tuple(name for name, layer in LAYERS.items() if layer.scope is not None)
# Parts in work or waiting for each process, so that none waits for the next.
_AHEAD = 2
# Seconds between two lines of progress.
_EVERY = 10.0


class _Part(NamedTuple):
    """What was found in a part: how many configurations it has, and the first that is wrong."""

    checked: int
    wrong: str = ""


class _Journal:
    """The parts that are done, in a file: one line each, written before the next. A new start reads them."""

    def __init__(self, path: Path, about: str) -> None:
        self.done: dict[int, _Part] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == about:
            for line in lines[1:]:
                try:
                    number, count, wrong = json.loads(line)
                except ValueError:
                    continue  # cut off when the process was killed
                self.done[number] = _Part(count, wrong)
            self._file = path.open("a", encoding="utf-8")
            self._file.write("\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._file.write(f"{about}\n")

    def close(self) -> None:
        self._file.close()

    def add(self, number: int, part: _Part) -> None:
        self.done[number] = part
        self._file.write(json.dumps([number, *part]) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _check_part(name: str, bound: int, number: int, seed: int) -> _Part:
    """Check one part. Its draws depend on its number alone, so a sweep that is resumed draws as one that is not."""
    layer, draws, count = LAYERS[name], library.Draws([seed, number]), 0
    for configuration in library.parts(layer, bound)[number]():
        count += 1
        wrong = library.check(layer, configuration, draws)
        if wrong is not None:
            return _Part(count, f"{wrong.what}\n{library.call(layer, wrong)}")
    return _Part(count)


def _run(name: str, bound: int, seed: int, jobs: int, journal: _Journal, total: int) -> Iterator[_Part]:
    """Yield each part as it ends, those of the journal first; the first that is wrong ends the sweep."""
    yield from journal.done.values()
    waiting = iter([number for number in range(total) if number not in journal.done])
    running: dict[Future[_Part], int] = {}
    with ProcessPoolExecutor(jobs) as pool:
        try:
            while True:
                for number in waiting:
                    running[pool.submit(_check_part, name, bound, number, seed)] = number
                    if len(running) >= _AHEAD * jobs:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    part = future.result()
                    journal.add(running.pop(future), part)
                    yield part
        finally:
            pool.shutdown(cancel_futures=True)


@click.command()
@click.argument("layer", type=click.Choice(SWEPT))
@click.option("--bound", type=click.IntRange(1), default=2, show_default=True, help="No number is larger.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores", help="How many.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the parts that are done are noted (default: .gradcert/sweep-LAYER-BOUND.jsonl).",
)
@seed_option
def sweep(layer: str, bound: int, jobs: int, state: Path | None, seed: int) -> None:
    """Check every configuration of a layer up to a bound: versions bit for bit, gradients exactly.

    A layer that rounds is compared within its tolerance. The docstring of its scope says what is in it.
    Started again after an end of any kind, it goes on where it was. The exit code is 1 if something is wrong.
    """
    declared = LAYERS[layer]
    total = len(library.parts(declared, bound))
    path = state or Path(".gradcert") / f"sweep-{layer}-{bound}.jsonl"
    journal = _Journal(path, json.dumps({"layer": layer, "bound": bound, "seed": seed, "code": _digest()}))
    if journal.done:
        click.echo(f"{len(journal.done)} of {total} parts are done in {path}", err=True)
    with contextlib.closing(journal):
        count, wrong = _followed(_run(layer, bound, seed, jobs, journal, total), len(journal.done), total)
    if wrong:
        what, _, call = wrong.partition("\n")
        click.echo(f"{layer}, bound {bound}: wrong after {count:,} configurations: {what}\n\n{call}")
        sys.exit(1)
    versions = ", ".join(version.name for version in declared.implementations)
    click.echo(f"{layer}, bound {bound}: {count:,} configurations of {versions}, no exception")
    if declared.exact:
        missed = library.missed(declared, count)
        click.echo(f"a wrong gradient in any of them was missed with a probability of at most {missed:.1g}")


def _followed(found: Iterator[_Part], before: int, total: int) -> tuple[int, str]:
    """Return how many configurations were checked, and the first that is wrong; say how far it is."""
    count, started, said = 0, time.monotonic(), time.monotonic()
    for done, part in enumerate(found, 1):
        count += part.checked
        if part.wrong:
            return count, part.wrong
        now = time.monotonic()
        if now - said >= _EVERY and done > before:
            said, left = now, (now - started) / (done - before) * (total - done)
            click.echo(f"{done} of {total} parts, {count:,} configurations, {left:.0f} s left", err=True)
    return count, ""


def _digest() -> str:
    """Of the code that is swept: parts done by another code are not done."""
    found = hashlib.sha256()
    core, verify = Path(cnn_core.__file__).parent, Path(library.__file__).parent
    for path in (*sorted(core.rglob("*.py")), *sorted(verify.glob("layers/*.py")), verify / "sweep.py"):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
