"""Work in processes, or on a Dask cluster: either is a `concurrent.futures.Executor`, and no other file knows which.

`finished` yields results as they come. If a worker is killed, its tasks are done again by another one.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, TypeVar

import rich_click as click

Key = TypeVar("Key")
Made = Callable[[], Executor]

# A choice: a worker has one task in hand and one that waits. It does not idle, and a run that is stopped loses little.
_AHEAD = 2
# A choice: a task that was in hand or waiting at three deaths of a worker is taken to cause them.
_DEATHS = 3


class Workers(NamedTuple):
    """How to make an executor, and how many tasks it does at once."""

    make: Made
    at_once: int


class WorkerDiedError(RuntimeError):
    """A worker died again and again at the same tasks."""


def processes(count: int, begin: Callable[[], None] | None = None) -> Workers:
    """Workers that are processes of this machine. Each imports everything anew: to fork is not safe where threads run.

    `begin`, a function of a module, is called first in each.
    """
    context = multiprocessing.get_context("spawn")
    return Workers(lambda: ProcessPoolExecutor(count, context, _begin, (begin,)), count)


def dask(address: str) -> Workers:
    """Workers of the Dask cluster at this address. Raises ModuleNotFoundError without Dask, OSError if none answers."""
    from distributed import Client

    client = Client(address)
    return Workers(client.get_executor, max(1, sum(client.ncores().values())))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


jobs_option = click.option(
    "--jobs",
    "processes",
    type=click.IntRange(1),
    default=cores,
    show_default="the number of cores",
    help="Work in this many processes. The results do not depend on it.",
)
dask_option = click.option("--dask", metavar="ADDRESS", help="Use the Dask cluster with this address instead.")


def workers(dask_address: str | None, count: int) -> Workers:
    """The Dask cluster that the user names, or `count` processes. Raises a usage error if it does not answer."""
    if dask_address is None:
        return processes(count)
    try:
        return dask(dask_address)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        raise click.UsageError(f"--dask {dask_address}: {error}") from error


def _begin(begin: Callable[[], None] | None) -> None:
    """Leave Ctrl-C to the process that waits for this one, and end when that process ends in any way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin()


def _end_with_parent() -> None:
    """Wait for the end of the parent. One that was killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def finished(
    tasks: Iterable[tuple[Key, Callable[..., Any], tuple[Any, ...]]], workers: Workers
) -> Generator[tuple[Key, Any], None, None]:
    """Yield (key, function(*arguments)) of each task (key, function, arguments), in the order in which they end.

    Tasks are taken as workers become free. An exception of a task is raised here, and ends the work. Raises
    WorkerDiedError if workers die again and again at the same tasks.
    """
    todo, again, deaths = iter(tasks), list[Any](), Counter[Any]()
    running: dict[Future[Any], Any] = {}
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_closing(workers.make()))
        while True:
            try:
                _submit(pool, running, todo, again, _AHEAD * workers.at_once)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future)[0], result
            except BrokenProcessPool as broken:
                again += running.values()
                running.clear()
                deaths.update(task[0] for task in again)
                if max(deaths.values(), default=0) >= _DEATHS:
                    keys = ", ".join(str(task[0]) for task in again)
                    raise WorkerDiedError(f"a worker died {_DEATHS} times at one of the tasks {keys}") from broken
                pool = stack.enter_context(_closing(workers.make()))


def _submit(pool: Executor, running: dict[Future[Any], Any], todo: Iterator[Any], again: list[Any], most: int) -> None:
    """Submit tasks until `most` are running: those to be done again first."""
    while len(running) < most:
        if not again:
            again += itertools.islice(todo, 1)
        if not again:
            return
        _, function, arguments = again[-1]
        running[pool.submit(function, *arguments)] = again.pop()


@contextlib.contextmanager
def _closing(pool: Executor) -> Iterator[Executor]:
    """Close a pool. When work ends early, what runs is not waited for."""
    try:
        yield pool
    except BaseException:
        if isinstance(pool, ProcessPoolExecutor):
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
        else:
            pool.shutdown(wait=False)
        raise
    else:
        pool.shutdown()
