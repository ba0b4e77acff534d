"""What is found out after a FAIL: causes, the wrong entries, lines that show one of them, where backward raised."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verify.checker.certificate import ArgumentResult, Cause, Shown, worst_of
from verify.checker.judge import Finding
from verify.checker.layer import ContractError
from verify.checker.point import Array
from verify.diagnosis.causes import find_causes
from verify.diagnosis.causes.evidence import Evidence
from verify.diagnosis.gradients import Compare, after_a_fail
from verify.diagnosis.shown import reproduce
from verify.diagnosis.wrong_entries import wrong_entries

_PACKAGE = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Diagnosis(NamedTuple):
    """What a certificate says of a FAIL beside the worst entries. `compare` computes all entries, for pictures."""

    causes: Sequence[Cause] = ()
    reproduction: str = ""
    shown: tuple[Shown, ...] = ()
    wrong_entries: Mapping[str, Array | None] | None = None
    compare: Compare | None = None

    def fields(self) -> dict[str, Any]:
        """The certificate's fields of these names."""
        found = {**self._asdict(), "wrong_entries": dict(self.wrong_entries or {})}
        return {name: value for name, value in found.items() if name != "compare"}


NO_DIAGNOSIS = Diagnosis()


def diagnose(found: Mapping[int, Finding], *, kinks: bool) -> Diagnosis:
    """Everything that is found out of wrong gradients. `kinks` says that the function is piecewise linear."""
    evidence: dict[int, list[Evidence]] = {}
    arguments: Sequence[ArgumentResult] = [each.result for each in found.values()]
    try:
        causes = find_causes(found, kinks=kinks, evidence=evidence)
    except ContractError as fault:  # it may well be why the gradient is wrong
        causes = [cause_of(fault)]
    wrong: dict[str, Array | None] = {}
    for k, finding in found.items():
        if finding.result.worst is not None:
            with np.errstate(all="ignore"):
                try:
                    wrong[finding.result.name] = wrong_entries(finding, evidence.get(k, []))
                except ContractError:
                    wrong[finding.result.name] = None
    worst = worst_of(arguments)
    order = sorted(arguments, key=lambda result: result.worst is not worst)
    lines = {
        result.position: each
        for result in order
        if (each := reproduce(found[result.position], result.worst, wrong.get(result.name))) is not None
    }
    text = next((each.text for each in lines.values()), "")
    compare = after_a_fail(found, evidence, lines, wrong)
    return Diagnosis(causes, text, tuple(each.shown for each in lines.values()), wrong, compare)


def cause_of(fault: ContractError) -> Cause:
    """The cause that a broken contract is. Of an exception it says at which line of the layer's code it was raised."""
    raised = fault.__cause__
    where = f"; raised at {place_of(raised)}" if fault.code == "raised" and raised is not None else ""
    return Cause(fault.code, fault.argument, f"{fault}{where}")


def place_of(error: BaseException) -> str:
    """Where an exception was raised: the innermost line that belongs to no library, or else the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not _is_library(each.filename)] or list(frames)
    return f"{own[-1].filename}:{own[-1].lineno}, in {own[-1].name}" if own else "an unknown line"


def _is_library(filename: str) -> bool:
    """Whether a file belongs to this package's own machinery, to Python or to an installed package."""
    path = str(Path(filename).resolve()) if not filename.startswith("<") else filename
    if path.startswith(_PACKAGE):
        tests = Path(_PACKAGE, "tests"), Path(_PACKAGE, "museum")
        return not any(path.startswith(str(folder)) for folder in tests)
    return path.startswith("<frozen") or path.startswith(_LIBRARIES)
