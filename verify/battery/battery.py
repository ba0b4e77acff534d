"""`check_layer` runs all named checks of a layer.

The checks of gradients are in checks.py: together and alone, in the other precision, at ties and zeros, and of an
empty batch. The other promises of a layer are in contracts.py. Hypothesis is only imported when it is used.
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
# The worst case decides the verdict.
_WORST_FIRST = (FAIL, INCONCLUSIVE, PASS, NOT_APPLICABLE)
# Up to three checks with the same finding are named below the table. More are counted.
_NAMED = 3


class CheckResult(NamedTuple):
    """The verdict of one check over its cases, the reason, and a description of the case if it did not pass."""

    check: str
    verdict: str
    cases: int
    note: str = ""
    case: str = ""


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
    """A layer did not pass its checks. `.report` has all results."""

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
    """Run all checks of a layer at each of the cases, and return the report.

    - `layer` is a pair (forward, backward), or of any kind that `verify.adapters.adapt` knows. If a case only has
      the inputs, the layer's own parameters are added to them.
    - `cases` is a sequence of (arrays, options), or a Hypothesis strategy of them. A failing case of a strategy
      shrinks to the smallest case that fails by the same cause.
    - `structure` is that of gradcheck.
    - `batch` has the positions of the arrays whose first axis is a batch that may be empty.
    - `expected_failures` maps names of checks that fail or are inconclusive to the reason. It is strict: a listed
      check that passes or does not apply is a failure.
    - `checks` names the checks to run (default: all, `verify.battery.checks.CHECKS`).
    - `examples` is the number of cases that each check draws (default: that of the current Hypothesis profile).

    A check that does not apply has the verdict NOT APPLICABLE. An example is float32 in a layer that refuses it.

    Raises LayerError, with the report, if a check did not pass and `raise_on_failure` is True.
    Raises TypeError or ValueError, quoting the values, for invalid arguments and for unknown names of checks.
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
    """Return the name of a layer: its own, that of its forward if it is a pair, or that of its class."""
    for owner in (layer, layer[0] if isinstance(layer, (tuple, list)) else type(layer)):
        name = getattr(owner, "name", None) or getattr(owner, "__name__", None)
        if isinstance(name, str):
            return name.strip("<>")
    return type(layer).__name__


def adapted(layer: Any) -> Pair:
    """Return the forward and backward of a layer of any kind that verify.adapters knows, or raise TypeError."""
    from verify.adapters import adapt

    return adapt(tuple(layer) if isinstance(layer, list) else layer)


def _with_parameters(pair: Pair, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arrays of a case. If it only has the inputs, the layer's own parameters are added."""
    alone = not pair.inputs or len(arrays) <= len(pair.inputs)
    return pair.arrays(arrays) if pair.parameters and alone else arrays


def _check_call(batch: Any, examples: Any, *, drawn: bool) -> None:
    """Raise TypeError or ValueError for an invalid `batch` or `examples`."""
    if isinstance(batch, str) or not isinstance(batch, Sequence) or not all(isinstance(k, int) for k in batch):
        raise TypeError(f"batch must be a sequence of the positions of arrays, such as (0,), got {batch!r}")
    if examples is None:
        return
    if not drawn:
        raise ValueError(f"examples={examples} is for a strategy of cases, not for a sequence")
    if not isinstance(examples, int) or examples < 1:
        raise ValueError(f"examples must be a whole number from 1 up, got {examples!r}")


def _listed(cases: Any) -> list[Any]:
    """Return the cases as a list, which all checks share."""
    if not isinstance(cases, Iterable):
        raise TypeError(f"cases must be a sequence of (arrays, options), or a strategy of them, got {cases!r}")
    listed = list(cases)
    if not listed:
        used = isinstance(cases, Iterator)
        raise ValueError("cases is an iterator that is exhausted: give a list" if used else "cases is empty")
    return listed


def _case(case: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if not (isinstance(case, (tuple, list)) and len(case) == 2 and isinstance(case[0], (tuple, list))):
        what = f"{type(case).__name__} of {len(case)}" if isinstance(case, (tuple, list)) else type(case).__name__
        raise TypeError(f"a case is (arrays, options), the arrays a tuple; got a {what}")
    return tuple(case[0]), case[1] or {}


def known(by_check: Mapping[str, str], what: str) -> Mapping[str, str]:
    """Return the mapping, or raise if a name is not that of a check or a reason is missing."""
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
    """Return the result of a check that is expected to fail for this reason, or for none."""
    if reason is None:
        return result
    if result.verdict in (FAIL, INCONCLUSIVE):
        return CheckResult(result.check, EXPECTED_FAILURE, result.cases, reason)
    was = "passed" if result.verdict == PASS else f"did not apply ({result.note})"
    return CheckResult(result.check, FAIL, result.cases, f"it {was}, but was expected to fail: {reason}")


class _Tally:
    """The worst finding of a check so far, over all cases."""

    def __init__(self, check: str) -> None:
        self.check, self.cases = check, 0
        self.worst = Found(NOT_APPLICABLE)
        self.case = ""

    def fails(self, trial: Trial) -> bool:
        """Check a case and return whether it fails. After a failure only a case with the same cause counts as one."""
        found, failed = judge(self.check, trial), self.worst.verdict == FAIL
        if failed and (found.verdict, found.code) != (FAIL, self.worst.code):
            return False
        self.cases += not failed
        if _WORST_FIRST.index(found.verdict) <= _WORST_FIRST.index(self.worst.verdict):
            self.worst = found
            self.case = str(trial) if found.verdict in (FAIL, INCONCLUSIVE) else ""
        return found.verdict == FAIL

    def result(self) -> CheckResult:
        """Return the result for the report."""
        if not self.cases:
            raise ValueError("cases is empty")
        return CheckResult(self.check, self.worst.verdict, self.cases, self.worst.note, self.case)


def _over_sequence(tally: _Tally, trial: Callable[[Any], Trial], cases: Any, *_: Any) -> None:
    """Check each case in turn, up to the first that fails."""
    any(tally.fails(trial(case)) for case in cases)


def _over_strategy(tally: _Tally, trial: Callable[[Any], Trial], cases: Any, examples: int | None, seed: int) -> None:
    """Check cases that Hypothesis draws. Hypothesis shrinks a case that fails."""
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
    except Exception:  # Hypothesis calls a layer that fails at random flaky; one failure is enough here
        if tally.worst.verdict != FAIL:
            raise


class _FailedError(Exception):
    """Tells Hypothesis to shrink this case."""
