"""Random cases of everything that is declared, in batches: what is wrong, and which behaviours were met.

A batch is a number. With the seed it decides the layer, the version and every draw. So batches can be done anywhere
and in any order, and one that is lost is done again. A case is checked twice:

- `gradcheck` at the drawn case, in float64.
- y and all gradients against another version, bit for bit where arithmetic is exact, in a drawn dtype.

A behaviour is the layer, its version, the plan of a fast convolution, the dtype and the corner of the case. The corner
says which options differ from their defaults and how, and which arrays are missing or empty.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import SkipTest

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import HypothesisDeprecationWarning

from cnn_core import Implementation
from verify.checker.certificate import PASS
from verify.checker.check import gradcheck
from verify.command.run import describe
from verify.diagnosis.causes import CauseCode
from verify.diagnosis.reproduction import arrays_not_at_hand
from verify.evidence.hall import clean, differs
from verify.layers import LAYERS, Case, Layer

# A choice: a batch of 200 cases takes some seconds, far longer than to hand it to a worker.
CASES = 200
_DTYPES = (np.float32, np.float64)


class Batch(NamedTuple):
    """What a batch did: its cases, how often it met each behaviour, and of each failure the smallest case."""

    cases: int
    behaviours: dict[str, int]
    failures: dict[str, str]


class _FailedError(Exception):
    """A case failed."""


@functools.cache
def _failed(kind: str) -> type[_FailedError]:
    """The class of failures of this kind: Hypothesis tells failures apart by their class, and shrinks one of each."""
    return type(f"Failed: {kind}", (_FailedError,), {})


def subjects() -> list[tuple[Layer, Implementation]]:
    """Every version of every layer."""
    return [(layer, version) for layer in LAYERS.values() for version in layer.implementations]


def batch(number: int, seed: int, folder: str, cases: int = CASES) -> Batch:
    """Do a batch. Its failures are shrunk, and kept in the folder as Hypothesis keeps examples."""
    layer, version = subjects()[number % len(subjects())]
    return _run(layer, version, folder, (Phase.generate, Phase.shrink), (seed << 32) + number, cases)


def replay(folder: str) -> Iterator[Batch]:
    """Do the kept failures again, those of one version after the other."""
    for layer, version in subjects():
        if _kept(folder, layer, version).is_dir():
            yield _run(layer, version, folder, (Phase.reuse,), 0, CASES)


def unseen(behaviours: Mapping[str, int]) -> float:
    """Estimate the chance that the next case behaves in a way not met before (Good 1953): met once / cases."""
    return sum(count == 1 for count in behaviours.values()) / max(1, sum(behaviours.values()))


def together(batches: Iterable[Batch]) -> Batch:
    """Add batches up. Of a failure met by several the first case is shown."""
    cases, behaviours, failures = 0, Counter[str](), dict[str, str]()
    for each in batches:
        cases += each.cases
        behaviours.update(each.behaviours)
        failures = {**each.failures, **failures}
    return Batch(cases, dict(behaviours), failures)


def _kept(folder: str, layer: Layer, version: Implementation) -> Path:
    return Path(folder) / f"{layer.name}-{version.name}"


def _run(layer: Layer, version: Implementation, folder: str, phases: tuple[Phase, ...], seed: int, cases: int) -> Batch:
    met: Counter[str] = Counter()
    failures: dict[str, str] = {}

    @settings(
        max_examples=cases,
        database=DirectoryBasedExampleDatabase(_kept(folder, layer, version)),
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis_seed(seed)  # below the settings: it takes their database away
    @given(case=layer.cases(), dtype=st.sampled_from(_DTYPES), draw=st.integers(0, 2**32 - 1))
    def check(case: Case, dtype: type, draw: int) -> None:
        if not failures:  # the steps that shrink a failure are no cases
            met[behaviour(layer, version, case, dtype)] += 1
        found = _failure(layer, version, case, dtype, draw)
        if found:
            kind, message = found
            failures[f"{layer.name}, {version.name}: {kind}"] = f"{message}\n  {describe([case], layer.names)}"
            raise _failed(kind)

    # Hypothesis skips a test of which it kept no example. It warns if another thread of a Dask worker draws numbers.
    with contextlib.suppress(_FailedError, ExceptionGroup, SkipTest), warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisDeprecationWarning)
        check()
    return Batch(met.total(), dict(met), failures)


def _failure(layer: Layer, version: Implementation, case: Case, dtype: type, draw: int) -> tuple[str, str] | None:
    """Return the kind of what is wrong at a case and its message, or None."""
    try:
        with arrays_not_at_hand(), np.errstate(all="ignore"):
            found = gradcheck(*version[1:], *case, structure=layer.structure, seed=draw, raise_on_failure=False)
            if found.verdict != PASS:
                cause = found.causes[0].code if found.causes else CauseCode.UNKNOWN.code
                return f"{found.verdict} {cause}", found.text(timed=False)
            what = differs(clean(layer, version), _typed(layer, case, dtype), draw)
            return (what, f"in {np.dtype(dtype)}, {what}") if what else None
    except Exception as error:  # a fault of a layer or of the checker is what a campaign looks for
        return type(error).__name__, f"{type(error).__name__}: {error}"


def _typed(layer: Layer, case: Case, dtype: type) -> Case:
    arrays = (a if a is None or a.dtype.kind != "f" else a.astype(dtype) for a in case.arrays)
    return Case(tuple(arrays), case.options)


def behaviour(layer: Layer, version: Implementation, case: Case, dtype: type) -> str:
    """The name of how a version behaves at a case."""
    whole = layer.complete(*case)
    plan = layer.plan(whole.arrays, whole.options) if layer.plan and version == layer.fast else ""
    words = itertools.chain(_of_arrays(layer, whole), _of_options(layer, whole))
    return " ".join([layer.name, version.name, str(np.dtype(dtype)), *([plan] if plan else []), *words])


def _of_arrays(layer: Layer, case: Case) -> Iterator[str]:
    """Say which arrays are missing or empty, and whether the first has an axis of one entry."""
    for name, array in zip(layer.names, case.arrays, strict=False):
        if array is None:
            yield f"no-{name}"
        elif not array.size:
            yield f"empty-{name}"
    first = case.arrays[0]
    if first is not None and 1 in first.shape:
        yield "one-wide"


def _of_options(layer: Layer, case: Case) -> Iterator[str]:
    """Say which options are not their defaults, and of numbers whether they are 0, 1 or larger, equal or unequal."""
    for name, value in case.options.items():
        if value is None or (not isinstance(value, np.ndarray) and value == layer.options[name]):
            continue
        if isinstance(value, (bool, str)):
            yield f"{name}={value}"
            continue
        entries = np.asarray(value, dtype=object if isinstance(value, (tuple, list)) else None).ravel().tolist()
        numbers = [number for number in entries if isinstance(number, (int, float))]
        sizes = "".join(sorted({"-" if n < 0 else "0" if n == 0 else "1" if n == 1 else "+" for n in numbers}))
        yield f"{name}={sizes}{'!' * (len(set(numbers)) > 1)}"
