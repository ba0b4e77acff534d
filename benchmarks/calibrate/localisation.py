"""Measures how many forwards the search for the worst entry takes, after the gradient is known to be wrong.

The claim is at most 4 log2(n) + 10. The count includes the search and both values of the entry, for several
sizes n and for every oracle that halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from verify import gradcheck
from verify.checker.reference import Reference
from verify.checker.references.at_ties import AtTies
from verify.checker.references.differences import Differences

# The references that search in a way of their own, or give an entry's values in one.
_SEARCHES = ((Reference, "locate"), (AtTies, "locate"), (Differences, "locate"))
_VALUES = ((Reference, "worst"), (Differences, "worst"))
SIZES = (1, 2, 7, 64, 1000, 20_000)


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "multilinear": (lambda x: (3 * x, None), lambda dy, _: 3 * dy),
    "piecewise-linear": (lambda x: (np.where(x > 0, x, 0), x), lambda dy, x: np.where(x > 0, dy, 0)),
    "piecewise-multilinear": (lambda x: (np.where(x.real > 0, x, 0) * 3, x), lambda dy, x: np.where(x > 0, 3 * dy, 0)),
    "analytic": (lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x)),
    "smooth": (lambda x: (np.sin(x.real), x), lambda dy, x: dy * np.cos(x)),
}


@contextmanager
def _counting(count: list[int], calls: list[int]) -> Iterator[None]:
    """Add to count[0] the calls made by the search and for the two values of the entry."""

    inside: list[Any] = []  # a search may ask for the values of an entry: those are counted once

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            before = calls[0]
            inside.append(original)
            try:
                return original(*arguments, **options)
            finally:
                inside.pop()
                count[0] += 0 if inside else calls[0] - before

        return counted

    patches = [mock.patch.object(of, name, wrapped(getattr(of, name))) for of, name in (*_SEARCHES, *_VALUES)]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def forwards(structure: str, n: int, seed: int) -> tuple[int, bool]:
    """Return the number of forwards for the entry, and whether it is the right one."""
    generator = np.random.default_rng(seed)
    f, vjp = FUNCTIONS[structure]
    bad = int(generator.integers(n))
    calls, count = [0], [0]

    def forward(x: Any) -> Any:
        calls[0] += 1
        return f(x)

    def backward(dy: Any, cache: Any) -> Any:
        dx = np.array(vjp(dy, cache))
        dx[bad] += dy[bad]  # linear in dy, or the test of linearity would find it first
        return (dx,)

    x = np.rint(8 * generator.normal(size=n)) + (0.5 if structure in ("analytic", "smooth") else 0)
    with _counting(count, calls):
        found = gradcheck(forward, backward, (x,), structure=structure, seed=seed, raise_on_failure=False)
    return count[0], found.worst is not None and found.worst.index == (bad,)


def measure(trials: int) -> dict[str, Any]:
    """Return the largest number of forwards over `trials` seeds of each structure and size."""
    rows = {}
    for structure in FUNCTIONS:
        for n in SIZES:
            found = [forwards(structure, n, seed) for seed in range(trials)]
            rows[f"{structure}, n = {n}"] = {
                "most forwards": max(count for count, _ in found),
                "allowed": math.floor(4 * math.log2(n) + 10),
                "entry right": sum(right for _, right in found),
                "of": trials,
            }
    return {
        "within": all(row["most forwards"] <= row["allowed"] for row in rows.values()),
        "entry right": sum(row["entry right"] for row in rows.values()) / (trials * len(rows)),
        "rows": rows,
    }
