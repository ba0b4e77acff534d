"""The command `campaign`: random cases of everything declared, for hours, in processes or on a cluster, resumable."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rich_click as click

from verify.command import executors, jobs, output
from verify.command.executors import dask_option, jobs_option
from verify.command.journal import Journal, code
from verify.command.output import seed_option
from verify.evidence import campaign as library
from verify.evidence.campaign import Batch

# Seconds between two lines of progress.
_EVERY = 10.0

_OPENING = """# Campaign

Random cases of every layer, for hours. `python -m verify campaign --hours 1 --markdown docs/campaign.md` measures these
figures, and writes this page. Nothing here is typed by hand.
"""


@click.command()
@click.option(
    "--hours",
    type=output.Finite(0, min_open=True),
    help="Stop after this many hours. One of --hours and --batches is needed.",
)
@click.option("--batches", type=click.IntRange(1), help=f"Stop after this many batches of {library.CASES} cases.")
@jobs_option
@dask_option
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".gradcert/campaign"),
    show_default=True,
    help="Keep the finished batches and the failures in this folder.",
)
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write the summary to this Markdown file."
)
@seed_option
def campaign(
    hours: float | None,
    batches: int | None,
    processes: int,
    dask: str | None,
    state: Path,
    markdown: Path | None,
    seed: int,
) -> None:
    """Check random cases of every layer and version, and count the behaviours that they meet.

    Started again with the same seed, it goes on where it was. Failures that were kept are done again first. The exit
    code is 1 if something is wrong.
    """
    if hours is None and batches is None:
        raise click.UsageError("say how long: --hours 1, or --batches 100")
    output.check_writable(markdown=markdown)
    workers = executors.workers(dask, processes)
    folder = str((state / "failures").absolute())
    kept = library.together(library.replay(folder))
    about = {"seed": seed, "cases": library.CASES, "code": code()}
    with Journal(state / f"seed-{seed}.jsonl", about) as journal:
        if journal.done:
            click.echo(f"{len(journal.done)} batches are done in {state}", err=True)
        started, before = time.monotonic(), len(journal.done)
        end = None if hours is None else started + 3600 * hours
        tasks = _tasks(journal.done, batches, end, seed, folder)
        said = started
        for number, batch in executors.finished(tasks, workers):
            journal.add(number, batch)
            if time.monotonic() - said >= _EVERY:
                said = time.monotonic()
                click.echo(_progress(len(journal.done), before, batches, end, started), err=True)
        done = library.together([Batch(*record) for record in journal.done.values()])
    text = summary(done._replace(failures={**kept.failures, **done.failures}), len(journal.done), seed)
    click.echo(text)
    if markdown is not None:
        markdown.write_text(page(done, text), encoding="utf-8")
    sys.exit(1 if done.failures or kept.failures else 0)


def _batch(number: int, seed: int, folder: str) -> Batch:
    """Do a batch in a worker. Its draws depend on the modules that are loaded."""
    jobs.load()
    return library.batch(number, seed, folder)


def _tasks(
    done: dict[int, Any], batches: int | None, end: float | None, seed: int, folder: str
) -> Iterator[tuple[int, Callable[..., Any], tuple[Any, ...]]]:
    """Yield the batches that are not done, up to their number or until the time is over."""
    for number in itertools.count() if batches is None else range(batches):
        if end is not None and time.monotonic() >= end:
            return
        if number not in done:
            yield number, _batch, (number, seed, folder)


def _progress(done: int, before: int, batches: int | None, end: float | None, started: float) -> str:
    now = time.monotonic()
    left = [] if end is None else [max(0.0, end - now)]
    if batches is not None:
        left.append((now - started) / max(1, done - before) * (batches - done))
    return f"{done} batches, {done * library.CASES:,} cases, {min(left):.0f} s left"


def summary(done: Batch, batches: int, seed: int) -> str:
    """Return what a campaign did, and what it has not seen."""
    once = sum(count == 1 for count in done.behaviours.values())
    lines = [
        f"{done.cases:,} cases in {batches:,} batches, seed {seed}",
        f"{len(done.behaviours):,} behaviours, {once:,} of them met once",
        f"chance that the next case behaves in a new way: about {library.unseen(done.behaviours):.2g} (Good 1953)",
        f"{len(done.failures)} failure{'s' * (len(done.failures) > 1)}" if done.failures else "no failure",
    ]
    return "\n".join(lines + [f"\n{kind}\n{message}" for kind, message in sorted(done.failures.items())])


def page(done: Batch, text: str) -> str:
    """Return the page of a campaign in Markdown: its summary, and the behaviours of each layer."""
    by_layer: dict[str, list[int]] = {}
    for behaviour, count in done.behaviours.items():
        by_layer.setdefault(behaviour.partition(" ")[0], []).append(count)
    rows = [
        f"| `{name}` | {sum(counts):,} | {len(counts):,} | {sum(count == 1 for count in counts):,} |"
        for name, counts in sorted(by_layer.items())
    ]
    head = ["| layer | cases | behaviours | met once |", "| --- | ---: | ---: | ---: |"]
    return "\n".join([_OPENING, "```", text, "```", "", *head, *rows, ""])
