"""What a check leaves behind: the certificate, and the exceptions that carry it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from verify.checker.point import Worst

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"


class Cause(NamedTuple):
    """Why a check failed, as far as it can tell: a code, the argument's name, a sentence."""

    code: str
    argument: str | None
    explanation: str


class Uncovered(NamedTuple):
    """What the check did not cover (an array, a parameter, a result), why, and what to write so that it does.

    If `matters`, y depends on it and nobody said that it is fixed: then the check is no PASS.
    """

    name: str
    why: str
    remedy: str = ""
    matters: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" + (f". {self.remedy}" if self.remedy else "")


class ArgumentResult(NamedTuple):
    """What was found about the gradient of one argument.

    `error` is the largest disagreement of a directional derivative, `tolerance` what it was allowed;
    both are 0 where the arithmetic is exact. `note` says why a result is not a plain PASS, and of an
    INCONCLUSIVE one what would make it decidable.
    """

    position: int
    name: str
    shape: tuple[int, ...]
    verdict: str
    error: float = 0.0
    tolerance: float = 0.0
    detection_floor: float | None = None
    worst: Worst | None = None
    note: str = ""
    second_opinions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """The outcome of one gradient check. It is truthy only for PASS.

    A PASS states what it would have caught: with an exact oracle, `miss_probability` bounds the
    chance that a wrong gradient passes; otherwise `detection_floor` is the smallest error in one
    entry, relative to the largest entry of that gradient, that is always caught. `reasons` says why
    "auto" passed over the structures that are stronger than `structure`; it is empty if none was, or
    if the structure was declared. `reproduction` is Python, ten lines at most, that shows a wrong entry without
    the checker; empty where none so short does. `uncovered` lists what was not checked, and why.
    """

    verdict: str
    structure: str
    oracle: str
    seed: int
    arguments: tuple[ArgumentResult, ...] = ()
    causes: tuple[Cause, ...] | list[Cause] = ()
    miss_probability: float | None = None
    detection_floor: float | None = None
    forward_calls: int = 0
    backward_calls: int = 0
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    reproduction: str = ""
    uncovered: tuple[Uncovered, ...] = ()

    def __bool__(self) -> bool:
        return self.verdict == PASS

    @property
    def worst(self) -> Worst | None:
        """The worst entry over all arguments; None on PASS, or where no entry could be compared."""
        return worst_of(self.arguments)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, ready for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["arguments"] = [
            {**result._asdict(), "worst": result.worst._asdict() if result.worst else None} for result in self.arguments
        ]
        fields["causes"] = [cause._asdict() for cause in self.causes]
        fields["uncovered"] = [each._asdict() for each in self.uncovered]
        fields["worst"] = self.worst._asdict() if self.worst else None
        return fields

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; options go to json.dumps. What is not finite becomes a string, such as "nan"."""
        return json.dumps(finite(self.to_dict()), **options)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, timed: bool = True) -> str:
        """What is printed; but for the seconds it took, which differ from run to run, where it is not `timed`."""
        lines = [f"{self.verdict}: {self.oracle} ({self.structure}), seed {self.seed}"]
        lines += [f"  {reason}" for reason in self.reasons]
        lines += [_sentence(result) for result in self.arguments]
        lines += [f"  not checked: {each}" for each in self.uncovered]
        lines += [f"  cause (a guess): {cause.code}: {cause.explanation}" for cause in self.causes]
        if self.reproduction:
            lines += ["  to reproduce:", *(f"    {line}" for line in self.reproduction.splitlines())]
        lines.append("  " + self._promise(timed=timed))
        return "\n".join(lines)

    def _promise(self, *, timed: bool) -> str:
        work = f"{self.forward_calls} forwards, {self.backward_calls} backwards"
        work += f", {max(self.seconds, 1e-3):.2g} s" if timed else ""
        if self.verdict != PASS:
            return work
        if not any(math.prod(result.shape) for result in self.arguments):
            return f"no entries to compare: the call and the shapes of what it returns were checked; {work}"
        if self.miss_probability is not None:
            return f"a wrong gradient would have passed with probability at most {self.miss_probability:.1e}; {work}"
        if self.detection_floor is None:
            return f"what would have been caught is said above; {work}"
        return f"an error above {self.detection_floor:.1e} of a gradient's largest entry is caught; {work}"


class CheckError(AssertionError):
    """A check that did not pass; `.certificate` says all."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(str(certificate))
        self.certificate = certificate

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.certificate,)


class GradientMismatch(CheckError):
    """The gradient is wrong, or the layer broke its contract."""

    __module__ = "verify"


class Inconclusive(CheckError):
    """The reference could neither convict nor acquit."""

    __module__ = "verify"


def _sentence(result: ArgumentResult) -> str:
    text = f"  d{result.name} {result.shape}: {result.verdict}"
    if result.worst is not None:
        worst = result.worst
        text += (
            f", worst entry d{result.name}[{', '.join(map(str, worst.index))}]: "
            f"backward says {worst.analytic!r}, differences say {worst.numeric!r} (tolerance {worst.tolerance:.3g})"
        )
    notes = "; ".join(filter(None, (result.note, *result.second_opinions)))
    return text + (f" ({notes})" if notes else "")


def worst_of(arguments: Iterable[ArgumentResult]) -> Worst | None:
    """The worst entry over these; None where there is none."""
    found = [result.worst for result in arguments if result.worst is not None]
    return max(found, key=_badness, default=None)


def _badness(worst: Worst) -> float:
    error = abs(worst.analytic - worst.numeric)
    return error if error == error else float("inf")


def finite(value: Any) -> Any:
    """The value with NaN and infinities, which JSON lacks, as strings."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    return value
