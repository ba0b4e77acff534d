"""What a check leaves behind: the certificate, and the exceptions that carry it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from verify.checker.point import Array, Worst

if TYPE_CHECKING:
    from verify.diagnosis.curve import Curve
    from verify.diagnosis.gradients import Compared
    from verify.diagnosis.later import Later

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


class Shown(NamedTuple):
    """Small numbers that show a fault: entries of one gradient, what they are, and what they may be.

    Of several entries, such as ties, all numbers are sums over them. `low` and `high` differ at kinks alone.
    `where` says at which arrays.
    """

    argument: int
    name: str
    indices: tuple[tuple[int, ...], ...]
    claimed: float
    low: float
    high: float
    where: str


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

    A PASS states what it would have caught. With an exact oracle, `miss_probability` bounds the chance that a wrong
    gradient passes. Otherwise an error in one entry above `detection_floor` is always caught, relative to the largest
    entry of that gradient. `uncovered` lists what was not checked, why, and the remedy.

    `reasons` says why "auto" passed over the structures that are stronger than `structure`. It is empty if none was, or
    if the structure was declared. `reproduction` is Python, ten lines at most, that shows a wrong entry without the
    checker. It is empty where none so short does. `shown` holds numbers of each wrong gradient, first those that the
    lines of `reproduction` print.

    `wrong_entries` maps the name of an argument whose gradient is wrong to an array of its shape: True where the
    gradient is wrong. If not every entry was looked at it is a masked array, and the others are masked. It is None
    where no entry was looked at. `to_dict` gives how many there are. `gradients` has the numbers of every entry.
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
    shown: tuple[Shown, ...] = ()
    wrong_entries: Mapping[str, Array | None] = dataclasses.field(default_factory=dict, compare=False)
    later: Later | None = dataclasses.field(default=None, compare=False, repr=False)

    def __bool__(self) -> bool:
        return self.verdict == PASS

    @property
    def not_checked(self) -> tuple[tuple[str, str], ...]:
        """What was not checked, and why: pairs of names and reasons."""
        return tuple((each.name, each.why) for each in self.uncovered)

    @property
    def gradients(self) -> Mapping[str, Compared]:
        """By argument, the claimed gradient beside the right one. The first reading calls the layer."""
        return self.later().gradients if self.later else {}

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Of a check by differences: these by their steps, by the argument's name. Read it like `gradients`."""
        return self.later().curves if self.later else {}

    @property
    def worst(self) -> Worst | None:
        """The worst entry over all arguments; None on PASS, or where no entry could be compared."""
        return worst_of(self.arguments)

    @property
    def headline(self) -> str:
        """The first line of the text: the verdict, what it is about, and the numbers."""
        from verify.diagnosis.report import headline  # it reads certificates

        return headline(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, ready for JSON. Of `wrong_entries` it counts those looked at and those wrong."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "later"}
        fields["arguments"] = [
            {**result._asdict(), "worst": result.worst._asdict() if result.worst else None} for result in self.arguments
        ]
        fields["causes"] = [cause._asdict() for cause in self.causes]
        fields["uncovered"] = [each._asdict() for each in self.uncovered]
        fields["not_checked"] = [list(each) for each in self.not_checked]
        fields["worst"] = self.worst._asdict() if self.worst else None
        fields["shown"] = [each._asdict() for each in self.shown]
        fields["wrong_entries"] = {name: _counts(wrong) for name, wrong in self.wrong_entries.items()}
        fields["headline"] = self.headline
        return fields

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; options go to json.dumps. What is not finite becomes a string, such as "nan"."""
        return json.dumps(finite(self.to_dict()), **options)

    def to_html(self) -> str:
        """One HTML page that needs no other file: heat maps, causes, lines to reproduce."""
        from verify.pictures.page import certificate_page

        return certificate_page(self)

    def plot(self) -> Any:
        """A matplotlib Figure of every gradient: as claimed, as it should be, and their difference."""
        from verify.pictures.figure import figure

        return figure(self)

    def _repr_html_(self) -> str:
        from verify.pictures.page import notebook_cell

        return notebook_cell(self)

    def __str__(self) -> str:
        return self.text()

    def explain(self) -> str:
        """The text, with the reasons why "auto" passed over stronger structures."""
        return self.text(explained=True)

    def text(self, *, timed: bool = True, explained: bool = False) -> str:
        """What is printed. Unless it is `timed`, the seconds are left out, which differ from run to run."""
        from verify.diagnosis.report import report

        return report(self, timed=timed, explained=explained)


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


def _counts(wrong: Array | None) -> dict[str, int] | None:
    if wrong is None:
        return None
    looked_at = int(np.ma.count(wrong))
    return {"entries": wrong.size, "looked_at": looked_at, "wrong": int(np.ma.filled(wrong, False).sum())}


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
