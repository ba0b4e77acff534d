"""The command `sweep`: every configuration of a layer within a bound, in processes or on a cluster, resumable."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import rich_click as click

from verify import sweep as library
from verify.command import executors
from verify.command.executors import dask_option, jobs_option
from verify.command.journal import Journal, code
from verify.command.output import seed_option
from verify.layers import LAYERS

SWEPT = tuple(name for name, layer in LAYERS.items() if layer.scope is not None)
# Seconds between two lines of progress.
_EVERY = 10.0


class _Part(NamedTuple):
    """What was found in a part: how many configurations it has, and the first that is wrong."""

    checked: int
    wrong: str = ""


def _check_part(name: str, bound: int, number: int, seed: int) -> _Part:
    """Check one part. Its draws depend on its number alone, so a sweep that is resumed draws as one that is not."""
    layer, draws, count = LAYERS[name], library.Draws([seed, number]), 0
    for configuration in library.parts(layer, bound)[number]():
        count += 1
        wrong = library.check(layer, configuration, draws)
        if wrong is not None:
            return _Part(count, f"{wrong.what}\n{library.call(layer, wrong)}")
    return _Part(count)


def _run(name: str, bound: int, seed: int, workers: executors.Workers, journal: Journal, total: int) -> Iterator[_Part]:
    """Yield each part as it ends, those of the journal first."""
    yield from (_Part(*record) for record in journal.done.values())
    missing = [number for number in range(total) if number not in journal.done]
    tasks = ((number, _check_part, (name, bound, number, seed)) for number in missing)
    for number, part in executors.finished(tasks, workers):
        journal.add(number, part)
        yield part


@click.command()
@click.argument("layer", type=click.Choice(SWEPT))
@click.option(
    "--bound",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="The largest size and option of a configuration.",
)
@jobs_option
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the finished parts in this file (default: .gradcert/sweep-LAYER-BOUND.jsonl).",
)
@dask_option
@seed_option
def sweep(layer: str, bound: int, processes: int, dask: str | None, state: Path | None, seed: int) -> None:
    """Check every configuration of a layer up to a bound: versions bit for bit, gradients exactly.

    A layer that rounds is compared within its tolerance. The docstring of its scope says what is in it.
    Started again after an end of any kind, it goes on where it was. The exit code is 1 if something is wrong.
    """
    declared = LAYERS[layer]
    total = len(library.parts(declared, bound))
    path = state or Path(".gradcert") / f"sweep-{layer}-{bound}.jsonl"
    with Journal(path, {"layer": layer, "bound": bound, "seed": seed, "code": code()}) as journal:
        if journal.done:
            click.echo(f"{len(journal.done)} of {total} parts are done in {path}", err=True)
        found = _run(layer, bound, seed, executors.workers(dask, processes), journal, total)
        count, wrong = _followed(found, len(journal.done), total)
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
