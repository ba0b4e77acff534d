"""Verifies a layer on many generated cases, or the network on real images. Each result is a row of the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from cnn_core import Implementation
from cnn_core.data import Dataset
from cnn_core.network import Version
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS, Certificate, CheckError
from verify.checker.check import gradcheck
from verify.diagnosis.causes import CauseCode
from verify.diagnosis.causes.together import likeliest
from verify.diagnosis.reproduction import arrays_not_at_hand
from verify.digits import Part, check_network
from verify.layers import Case, Layer

ERROR = "ERROR"

# What a shrinking step must not change: the verdict, the likeliest cause and its argument.
Kind = tuple[str, str, str | None]
_NO_CAUSE = ("", CauseCode.UNKNOWN.code)
# A choice: where two causes predict one gradient, as of two windows, these cases tell which it is.
_FAILURES = 8
PHASES = (Phase.generate, Phase.shrink)


@dataclass
class Row:
    """The result for one version of one layer over all its cases."""

    layer: str
    version: str
    structure: str
    oracle: str = "-"
    cases: int = 0
    miss_probability: float | None = None
    detection_floor: float | None = None
    seconds: float = 0.0
    verdict: str = PASS
    message: str = ""
    certificate: Certificate | None = None

    def add(self, certificate: Certificate) -> None:
        """Add a case. The row has the weakest promise of all cases."""
        self.oracle = certificate.oracle
        self.miss_probability = _weakest(self.miss_probability, certificate.miss_probability)
        self.detection_floor = _weakest(self.detection_floor, certificate.detection_floor)

    def fail(self, certificate: Certificate, message: str) -> None:
        """Record the case that did not pass."""
        self.oracle, self.verdict = certificate.oracle, certificate.verdict
        self.miss_probability = self.detection_floor = None
        self.certificate, self.message = certificate, message

    def __getstate__(self) -> dict[str, Any]:
        """The row for another process. Its certificate's gradients must be computed here, where the layer is."""
        if self.certificate is not None:
            self.certificate.gradients  # noqa: B018
        return vars(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields in plain types, ready for JSON."""
        fields = {key: value for key, value in vars(self).items() if key != "certificate"}
        return {**fields, "certificate": None if self.certificate is None else self.certificate.to_dict()}


def verify_layer(
    layer: Layer,
    implementation: Implementation,
    examples: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> Row:
    """Check the gradients of one implementation on `examples` cases from the layer's strategy, and return the row.

    Of the first failures the likeliest cause is taken, with its argument. Hypothesis then searches for a smaller
    case that fails with it, and the smallest one is reported. This way a bug does not shrink into another one, into a
    tie, or into a case so small that no cause can be named.
    """
    started = time.perf_counter()
    failures: list[list[tuple[Kind, str]]] = []
    row = _run(layer, implementation, examples, seed, progress, failures)
    if failures and row.verdict != ERROR:
        named = [kinds for kinds in failures if kinds[0][0][1] not in _NO_CAUSE]
        row = _run(layer, implementation, examples, seed, progress, wanted=likeliest(named or failures))
    row.seconds = time.perf_counter() - started
    return row


def _run(
    layer: Layer,
    implementation: Implementation,
    examples: int,
    seed: int,
    progress: Callable[[], None],
    failures: list[list[tuple[Kind, str]]] | None = None,
    *,
    wanted: Kind | None = None,
) -> Row:
    """Return the row of a run that notes the kinds of the first failures, or ends at the wanted kind."""
    row = Row(layer.name, implementation.name, layer.structure)
    latest: list[Case] = []

    @hypothesis_seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=layer.cases(), draw=st.integers(0, 2**32 - 1))
    def check(case: Case, draw: int) -> None:
        if failures is not None and len(failures) >= _FAILURES:
            return
        progress()
        latest[:] = [case]
        if row.verdict == PASS:  # after a failure come shrinking steps, which are not counted
            row.cases += 1
        try:
            with arrays_not_at_hand():
                row.add(gradcheck(*implementation[1:], *case, structure=layer.structure, seed=draw))
        except CheckError as error:
            kinds = _kinds(error.certificate)
            if failures is not None:
                failures.append(kinds)
            elif kinds[0][0] == wanted:
                row.verdict = error.certificate.verdict
                raise

    try:
        check()
    except CheckError as error:
        row.fail(error.certificate, f"{error}\n  case: {describe(latest, layer.names)}")
    except Exception as error:
        row.verdict = ERROR
        row.message = f"{type(error).__name__}: {error}\n  case: {describe(latest, layer.names)}"
    return row


def verify_network(part: Part, version: Version, dataset: Dataset, seed: int) -> Row:
    """Check the whole network on one batch of real images, and return the row."""
    started = time.perf_counter()
    row = Row(f"digits: {part}", version, "")
    certificate = check_network(part, version, dataset, seed)
    row.structure, row.cases = certificate.structure, 1
    if certificate:
        row.add(certificate)
    else:
        row.fail(certificate, str(certificate))
    row.seconds = time.perf_counter() - started
    return row


def _kinds(certificate: Certificate) -> list[tuple[Kind, str]]:
    """The verdict with each cause named, the likeliest first, and the sentence of each."""
    verdict = certificate.verdict
    named = [((verdict, cause.code, cause.argument), cause.explanation) for cause in certificate.causes]
    return named or [((verdict, "", None), "")]


def describe(cases: list[Case], names: tuple[str, ...]) -> str:
    """Return the last case in one line: shapes and options."""
    if not cases:
        return "none was drawn"
    case = cases[-1]
    arrays = [f"{name} {'None' if a is None else a.shape}" for name, a in zip(names, case.arrays, strict=False)]
    return ", ".join(arrays + [f"{option}={value!r}" for option, value in case.options.items()])


def exit_code(rows: list[Row]) -> int:
    """Return the exit code of these rows.

    0 all passed, 1 a gradient is wrong, 3 the run itself broke, 4 inconclusive, 5 nothing was checked.
    """
    verdicts = {row.verdict for row in rows}
    for verdict, code in ((FAIL, 1), (ERROR, 3), (INCONCLUSIVE, 4)):
        if verdict in verdicts:
            return code
    return 0 if sum(row.cases for row in rows) else 5


def _weakest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
