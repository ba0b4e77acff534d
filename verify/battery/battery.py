"""Everything a layer owes its users, checked by name: `check_layer`.

The checks are in checks.py: gradients together and alone, in the other precision, at ties and zeros, of an
empty batch; and the contracts of verify.battery.contracts. Hypothesis is imported when it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from verify.battery.checks import CHECKS, NOT_APPLICABLE, Found, Trial, judge
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS

if TYPE_CHECKING:
    from verify.adapters import Pair

EXPECTED_FAILURE = "EXPECTED FAILURE"
# Of several cases the worst decides.
_WORST_FIRST = (FAIL, INCONCLUSIVE, PASS, NOT_APPLICABLE)
# So many checks that found the same are named where it is told; the table above names more.
_NAMED = 3


class CheckResult(NamedTuple):
    """What one check found over so many cases: a verdict, why, and, of what is not well, the case in words."""

    check: str
    verdict: str
    cases: int
    note: str = ""
    case: str = ""


@dataclass(frozen=True)
class LayerReport:
    """The outcome of `check_layer`: a result for each check, in order; `report["check-name"]` is one.

    It is truthy if something was checked, and nothing failed unexpectedly or stayed undecided.
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

    def __str__(self) -> str:
        width = max(len(result.check) for result in self.results)
        lines = [f"{self.layer}: {len(self.results)} checks in {self.seconds:.2g} s, seed {self.seed}"]
        for check, verdict, cases, note, case in self.results:
            reason = f"  ({note})" if note and not case else ""
            lines.append(f"  {check:<{width}}  {cases:>4} {'case ' if cases == 1 else 'cases'}  {verdict}{reason}")
        together: dict[tuple[str, str], list[str]] = {}
        for result in self.results:
            if result.case:
                together.setdefault((result.case, result.note), []).append(result.check)
        for (case, note), found in together.items():
            who = ", ".join(found) if len(found) <= _NAMED else f"{len(found)} checks"
            lines += [f"{who}, at {case}:", "  " + note.replace("\n", "\n  ")]
        return "\n".join(lines)


class LayerError(AssertionError):
    """A layer that did not pass its checks; `.report` says all."""

    def __init__(self, report: LayerReport) -> None:
        super().__init__(str(report))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


def check_layer(
    layer: Any,
    cases: Any,
    *,
    structure: str = "auto",
    batch: Sequence[int] = (),
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
    examples: int | None = None,
    seed: int = 0,
    raise_on_failure: bool = True,
) -> LayerReport:
    """Check all that a layer owes its users, at each of the cases.

    layer is a pair (forward, backward), or of any kind that `verify.adapters.adapt` knows: where a case holds
    its inputs alone, its own parameters go with them. cases is a sequence of (arrays, options), or a
    Hypothesis strategy of them, from which each check draws `examples` (default: as many as the Hypothesis
    profile in force says) and shrinks what fails to the smallest case that fails by the same cause.
    `structure` is gradcheck's. `batch` holds the positions of the arrays whose first axis is a batch that
    may be empty. `checks` names those to run (default: all, `verify.battery.checks.CHECKS`).

    `expected_failures` maps the names of checks that fail, or stay undecided, to the reason. It is strict:
    one that does not fail is a failure. What does not apply (float32 where the layer refuses it) says so.

    Raises LayerError, with the report, unless all is well or `raise_on_failure` is False; TypeError or
    ValueError, quoting the values, for arguments that cannot be, unknown names of checks among them.
    """
    started = time.perf_counter()
    expected = known(expected_failures or {}, "expected_failures")
    names = list(CHECKS if checks is None else known(dict.fromkeys(checks, "asked for"), "checks"))
    if not names:
        raise ValueError(f"checks must name some of {', '.join(CHECKS)}, got none")
    drawn = hasattr(cases, "example")
    _check_call(batch, examples, drawn=drawn)
    cases = cases if drawn else _listed(cases)
    pair = adapted(layer)

    def trial(case: Any) -> Trial:
        arrays, own_options = _case(case)
        return Trial(*pair, _with_parameters(pair, arrays), own_options, structure, tuple(batch), seed)

    over = _over_strategy if drawn else _over_sequence
    tallies = [_Tally(name) for name in names]
    for tally in tallies:
        over(tally, trial, cases, examples, seed)
    results = tuple(_against(expected.get(tally.check), tally.result()) for tally in tallies)
    report = LayerReport(layer_name(layer), results, seed, time.perf_counter() - started)
    if raise_on_failure and not report:
        raise LayerError(report)
    return report


def layer_name(layer: Any) -> str:
    """What to call a layer: its own name, that of its forward where it is a pair, or that of its class."""
    for owner in (layer, layer[0] if isinstance(layer, (tuple, list)) else type(layer)):
        name = getattr(owner, "name", None) or getattr(owner, "__name__", None)
        if isinstance(name, str):
            return name.strip("<>")
    return type(layer).__name__


def adapted(layer: Any) -> Pair:
    """The forward and the backward of a layer of any kind that verify.adapters knows; TypeError where it has none."""
    from verify.adapters import adapt

    return adapt(tuple(layer) if isinstance(layer, list) else layer)


def _with_parameters(pair: Pair, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays of a case, and where it holds the inputs alone, the parameters that the layer owns."""
    alone = not pair.inputs or len(arrays) <= len(pair.inputs)
    return pair.arrays(arrays) if pair.parameters and alone else arrays


def _check_call(batch: Any, examples: Any, *, drawn: bool) -> None:
    """TypeError or ValueError for what cannot be."""
    if isinstance(batch, str) or not isinstance(batch, Sequence) or not all(isinstance(k, int) for k in batch):
        raise TypeError(f"batch must be a sequence of the positions of arrays, such as (0,), got {batch!r}")
    if examples is None:
        return
    if not drawn:
        raise ValueError(f"examples={examples} is for a strategy of cases, not for a sequence")
    if not isinstance(examples, int) or examples < 1:
        raise ValueError(f"examples must be a whole number from 1 up, got {examples!r}")


def _listed(cases: Any) -> list[Any]:
    """The cases, once and for all checks."""
    if not isinstance(cases, Iterable):
        raise TypeError(f"cases must be a sequence of (arrays, options), or a strategy of them, got {cases!r}")
    listed = list(cases)
    if not listed:
        used = isinstance(cases, Iterator)
        raise ValueError("cases is an iterator that is exhausted: give a list" if used else "cases holds none")
    return listed


def _case(case: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if not (isinstance(case, (tuple, list)) and len(case) == 2 and isinstance(case[0], (tuple, list))):
        what = f"{type(case).__name__} of {len(case)}" if isinstance(case, (tuple, list)) else type(case).__name__
        raise TypeError(f"a case is (arrays, options), the arrays a tuple; got a {what}")
    return tuple(case[0]), case[1] or {}


def known(by_check: Mapping[str, str], what: str) -> Mapping[str, str]:
    """The mapping, if its names are those of checks, and each has a reason."""
    if not isinstance(by_check, Mapping):
        raise TypeError(f"{what} must map names of checks to reasons, got {by_check!r}")
    unknown = [name for name in by_check if name not in CHECKS]
    if unknown:
        raise ValueError(f"{what}: no check is called {', '.join(map(repr, unknown))}; there are {', '.join(CHECKS)}")
    for name, reason in by_check.items():
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"{what}: the reason of {name} must be a text, got {reason!r}")
    return by_check


def _against(reason: str | None, result: CheckResult) -> CheckResult:
    """The result, set against the reason why it is expected to fail."""
    if reason is None:
        return result
    if result.verdict in (FAIL, INCONCLUSIVE):
        return CheckResult(result.check, EXPECTED_FAILURE, result.cases, reason)
    was = "passed" if result.verdict == PASS else f"did not apply ({result.note})"
    return CheckResult(result.check, FAIL, result.cases, f"it {was}, but was expected to fail: {reason}")


class _Tally:
    """The worst that a check found so far, over all cases."""

    def __init__(self, check: str) -> None:
        self.check, self.cases = check, 0
        self.worst = Found(NOT_APPLICABLE)
        self.case = ""

    def fails(self, trial: Trial) -> bool:
        """Take in a case. After one that failed, only another that fails by the same cause counts: it is smaller."""
        found, failed = judge(self.check, trial), self.worst.verdict == FAIL
        if failed and (found.verdict, found.code) != (FAIL, self.worst.code):
            return False
        self.cases += not failed
        if _WORST_FIRST.index(found.verdict) <= _WORST_FIRST.index(self.worst.verdict):
            self.worst = found
            self.case = str(trial) if found.verdict in (FAIL, INCONCLUSIVE) else ""
        return found.verdict == FAIL

    def result(self) -> CheckResult:
        """What is to be reported."""
        if not self.cases:
            raise ValueError("cases holds none")
        return CheckResult(self.check, self.worst.verdict, self.cases, self.worst.note, self.case)


def _over_sequence(tally: _Tally, trial: Callable[[Any], Trial], cases: Any, *_: Any) -> None:
    """Each case in turn; the first that fails ends it."""
    any(tally.fails(trial(case)) for case in cases)


def _over_strategy(tally: _Tally, trial: Callable[[Any], Trial], cases: Any, examples: int | None, seed: int) -> None:
    """Cases that Hypothesis draws; one that fails is shrunk."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as hypothesis_seed

    @hypothesis_seed(seed)
    @settings(
        max_examples=settings().max_examples if examples is None else examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def run(case: Any) -> None:
        if tally.fails(trial(case)):
            raise _FailedError

    try:
        run()
    except Exception:  # a layer that fails at random is flaky to Hypothesis; that it failed is enough
        if tally.worst.verdict != FAIL:
            raise


class _FailedError(Exception):
    """To Hypothesis: shrink this case."""
