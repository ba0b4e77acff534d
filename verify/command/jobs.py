"""The checks of `python -m verify run`: which there are, and their rows, from one process or from several."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cnn_core.data import Dataset
from cnn_core.network import Version
from verify.command import executors
from verify.command.run import Row, verify_layer, verify_network
from verify.digits import Part
from verify.layers import LAYERS

NETWORK = "digits"
_DRAWN_FROM = ("cnn_core", "verify.checker", "verify.command", "verify.diagnosis", "verify.layers")
# A choice: seconds between two lines of progress where standard error is no terminal.
_SECONDS = 10.0


class Job(NamedTuple):
    """A check: its name, and the call that makes its row. All of it can be sent to a process."""

    name: str
    check: Callable[..., Any]
    arguments: tuple[Any, ...]


def versions_of(layer: str) -> tuple[str, ...]:
    """Return the names of a layer's versions, or of the network's."""
    return get_args(Version) if layer == NETWORK else tuple(each.name for each in LAYERS[layer].implementations)


def wanted(layer: str, implementations: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of those of a layer's versions that the caller chose: all, if none is named."""
    fast = "fast" if layer == NETWORK else LAYERS[layer].fast.name
    chosen = {fast if name == "fast" else name for name in implementations or versions_of(layer)}
    return tuple(name for name in versions_of(layer) if name in chosen)


def jobs(
    layers: Iterable[str], implementations: tuple[str, ...], examples: int, seed: int, dataset: Dataset | None
) -> list[Job]:
    """Return a job for each chosen version of each layer, and of each part of the network if there is a dataset."""
    found = [
        Job(f"{layer} {version}", verify_version, (layer, version, examples, seed))
        for layer in layers
        if layer != NETWORK
        for version in wanted(layer, implementations)
    ]
    if dataset is not None:
        tested = dataset._replace(train_images=dataset.train_images[:0], train_labels=dataset.train_labels[:0])
        found += [
            Job(f"{NETWORK}: {part} {version}", verify_network, (part, version, tested, seed))
            for part in get_args(Part)
            for version in wanted(NETWORK, implementations)
        ]
    return found


def verify_version(
    layer: str, version: str, examples: int, seed: int, progress: Callable[[], None] = lambda: None
) -> Row:
    """Check one version of a layer, both by their names, and return the row."""
    (implementation,) = (each for each in LAYERS[layer].implementations if each.name == version)
    return verify_layer(LAYERS[layer], implementation, examples, seed, progress)


def rows(found: Sequence[Job], processes: int) -> Iterator[Any]:
    """Yield the row of each job, in the order of the jobs, with as many of them at once as there are processes."""
    load()
    with _Shown(len(found)) as shown:
        if min(processes, len(found)) > 1:
            yield from _in_processes(found, processes, shown)
            return
        for job in found:
            shown.begin(job.name)
            if job.check is verify_version:
                examples = job.arguments[2]
                yield job.check(*job.arguments, lambda share=1 / examples: shown.advance(share))
            else:
                yield job.check(*job.arguments)
            shown.end(job.name)


def _in_processes(found: Sequence[Job], processes: int, shown: _Shown) -> Iterator[Any]:
    """Yield the rows in the order of the jobs. The network's jobs take longest, so they begin first."""
    order = sorted(range(len(found)), key=lambda place: found[place].check is verify_version)
    tasks = ((place, found[place].check, found[place].arguments) for place in order)
    done: dict[int, Any] = {}
    following = 0
    ended = executors.finished(tasks, executors.processes(min(processes, len(found)), load))
    with contextlib.closing(ended):
        for place, row in ended:
            shown.end(found[place].name)
            done[place] = row
            while following in done:
                yield done.pop(following)
                following += 1


def load() -> None:
    """Import every module that a check may need.

    Hypothesis also draws constants that it finds in the loaded modules of a checkout. Otherwise the cases of a seed
    would depend on what had been imported before.
    """
    for package in map(importlib.import_module, _DRAWN_FROM):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


class _Shown:
    """Progress on standard error: a bar on a terminal, a line every ten seconds elsewhere, none in a short run."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total}")
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("", total=total)
        self._lines, self._total, self._done = not console.is_terminal, total, 0
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, name: str) -> None:
        """A job begins."""
        self._bar.update(self._task, description=name)

    def advance(self, share: float) -> None:
        """This share of a job is done."""
        self._bar.advance(self._task, share)
        self._print()

    def end(self, name: str) -> None:
        """A job is done."""
        self._done += 1
        self._bar.update(self._task, completed=self._done, description=name)
        self._print()

    def _print(self) -> None:
        now = time.monotonic()
        if self._lines and now - self._printed >= _SECONDS:
            self._printed = now
            click.echo(f"{self._done} of {self._total} checks done in {now - self._started:.0f} s", err=True)
