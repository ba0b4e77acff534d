"""The report of `check_layer`: a result for each check, and the exception that carries it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from verify.battery.checks import GRADIENT_CHECKS, NOT_APPLICABLE
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS

EXPECTED_FAILURE = "EXPECTED FAILURE"
# The most checks that a headline names, so that it stays one line.
_NAMED = 3


class CheckResult(NamedTuple):
    """The verdict of one check over its cases, the reason, and a description of the case if it did not pass.

    `codes` are the causes, and `arguments` those whose gradients are wrong.
    """

    check: str
    verdict: str
    cases: int
    note: str = ""
    case: str = ""
    codes: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The first line of the reason."""
        return self.note.partition("\n")[0]


@dataclass(frozen=True)
class LayerReport:
    """The outcome of `check_layer`: a result for each check, in order. `report["check-name"]` is one of them.

    It is truthy if something was checked, nothing failed unexpectedly and nothing was inconclusive.
    """

    layer: str
    results: tuple[CheckResult, ...]
    seed: int
    seconds: float = 0.0

    def __bool__(self) -> bool:
        verdicts = {result.verdict for result in self.results}
        return not verdicts & {FAIL, INCONCLUSIVE} and verdicts != {NOT_APPLICABLE}

    def __getitem__(self, check: str) -> CheckResult:
        return {result.check: result for result in self.results}[check]

    @property
    def verdict(self) -> str:
        """The worst verdict of all checks: FAIL, INCONCLUSIVE, PASS or NOT APPLICABLE."""
        verdicts = {result.verdict for result in self.results}
        worst = next((each for each in (FAIL, INCONCLUSIVE) if each in verdicts), None)
        return worst or (PASS if self else NOT_APPLICABLE)

    @property
    def headline(self) -> str:
        """The verdict, the checks that did not pass, and what the first of them found, in one line."""
        broken = [result for result in self.results if result.verdict in (FAIL, INCONCLUSIVE)]
        if not broken:
            count = sum(result.verdict != NOT_APPLICABLE for result in self.results)
            return f"{self.verdict}: {self.layer}, {count} of {len(self.results)} checks apply"
        names = ", ".join(result.check for result in broken[:_NAMED]) + ", ..." * (len(broken) > _NAMED)
        found = broken[0].headline.removeprefix(f"{self.verdict}: ")
        return f"{self.verdict}: {self.layer}, {names}: {found}"

    def __str__(self) -> str:
        count = f"{len(self.results)} check{'s' if len(self.results) > 1 else ''}"
        width = max(len(result.check) for result in self.results)
        lines = [f"{self.layer}: {count} in {self.seconds:.2g} s, seed {self.seed}"]
        for check, verdict, cases, note, case, *_ in self.results:
            reason = f"  ({note})" if note and not case else ""
            lines.append(f"  {check:<{width}}  {cases:>4} {'case ' if cases == 1 else 'cases'}  {verdict}{reason}")
        for result in self.results:
            if result.case:
                lines += [f"{result.check}, at {result.case}:", "  " + result.note.replace("\n", "\n  ")]
        return "\n".join(lines)


class LayerError(AssertionError):
    """A layer did not pass its checks. `.report` has all results."""

    __module__ = "verify"

    def __init__(self, report: LayerReport) -> None:
        super().__init__(str(report))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


def told_once(results: Iterable[CheckResult]) -> Iterator[CheckResult]:
    """Yield the results. A check that finds what an earlier one found only names that check."""
    earlier: list[CheckResult] = []
    for result in results:
        first = next((each for each in earlier if same_finding(each, result)), None)
        yield result if first is None else as_above(result, first)
        if first is None and result.verdict in (FAIL, INCONCLUSIVE):
            earlier.append(result)


def same_finding(first: CheckResult, result: CheckResult) -> bool:
    """Return whether two checks found the same: in one sentence, or wrong gradients of one cause in one argument."""
    if result.verdict != first.verdict or not result.codes:
        return False
    both = {first.check, result.check} <= set(GRADIENT_CHECKS)
    alike = set(result.codes) <= set(first.codes) and set(result.arguments) <= set(first.arguments)
    return (both and alike) or (result.note, result.case) == (first.note, first.case)


def as_above(result: CheckResult, first: CheckResult) -> CheckResult:
    """Return a result that only names the check which found the same."""
    return result._replace(note=f"as above: {first.check}", case="")
