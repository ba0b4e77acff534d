"""`check_layer` runs all named checks of a layer.

The checks of gradients are in checks.py: together and alone, in the other precision, at ties and zeros, and of an
empty batch. The other promises of a layer are in contracts.py. Hypothesis is only imported when it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from verify.adapters import Forward, Pair, adapt, layer_name, prepared
from verify.battery.checks import CHECKS, NOT_APPLICABLE, Found, Trial, judge
from verify.battery.report import EXPECTED_FAILURE, CheckResult, LayerError, LayerReport, told_once
from verify.checker.arguments import shown
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS
from verify.checker.check import checked_settings
from verify.entry import refuse_unknown
from verify.records import record, silently

__all__ = ["CheckResult", "LayerError", "LayerReport", "check_layer"]

# The worst case decides the verdict.
_WORST_FIRST = (FAIL, INCONCLUSIVE, PASS, NOT_APPLICABLE)
# Settings of the adapters that `check_layer` hands on.
_OF_ADAPTERS = ("parameters", "fixed", "reset", "backward_options", "forward", "backward", "nondiff_argnums")


def check_layer(
    layer: Any,
    cases: Any,
    *,
    structure: str = "auto",
    wrt: Sequence[int | str] | None = None,
    batch: Sequence[int] = (),
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
    examples: int | None = None,
    seed: int = 0,
    miss_probability: float = 1e-9,
    raise_on_failure: bool = True,
    **own: Any,
) -> LayerReport:
    """Run all checks of a layer at each of the cases, and return the report.

    - `layer` is a pair (forward, backward), or of any kind that `verify.adapters.adapt` knows. If a case only has
      the inputs, the layer's own parameters are added to them.
    - `cases` is a sequence of (inputs, options), or a Hypothesis strategy of them. A failing case of a strategy
      shrinks to the smallest case that fails by the same cause. The inputs are those of `verify.adapters.gradcheck`.
    - `structure`, `wrt` and `miss_probability` are those of gradcheck.
    - `batch` has the positions of the arrays whose first axis is a batch that may be empty.
    - `expected_failures` maps names of checks that fail or are inconclusive to the reason. It is strict: a listed
      check that passes or does not apply is a failure.
    - `checks` names the checks to run (default: all, `verify.battery.checks.CHECKS`).
    - `examples` is the number of cases that each check draws (default: that of the current Hypothesis profile).
    - `own` are settings of the layer's adapter: `parameters`, `fixed`, `reset`, `nondiff_argnums`, and the names of
      the methods `forward` and `backward` if they are called otherwise.

    A check that does not apply has the verdict NOT APPLICABLE. An example is float32 in a layer that refuses it.

    Raises LayerError, with the report, if a check did not pass and `raise_on_failure` is True.
    Raises TypeError or ValueError, quoting the values, for invalid arguments and for unknown names of checks.
    """
    __tracebackhide__ = True
    started = time.perf_counter()
    expected = known(expected_failures or {}, "expected_failures")
    names = list(CHECKS if checks is None else known(dict.fromkeys(checks, "asked for"), "checks"))
    if not names:
        raise ValueError(f"checks must name some of {', '.join(CHECKS)}, got none")
    settings: dict[str, Any] = {"structure": structure, "miss_probability": miss_probability, "seed": seed}
    plan = planned(layer, cases, wrt=wrt, batch=batch, examples=examples, **settings, **own)
    tallies = [_Tally(name) for name in names]
    with silently():
        for tally in tallies:
            (_over_strategy if plan.drawn else _over_sequence)(tally, plan.trial, plan.cases, examples, seed)
    results = told_once(_against(expected.get(tally.check), tally.result()) for tally in tallies)
    report = LayerReport(layer_name(layer), tuple(results), seed, time.perf_counter() - started)
    record(layer, report)
    if raise_on_failure and not report:
        raise LayerError(report)
    return report


class Plan(NamedTuple):
    """The cases of a layer, and the function that makes a trial of one."""

    cases: Any
    trial: Callable[[Any], Trial]
    drawn: bool


def planned(
    layer: Any,
    cases: Any,
    *,
    structure: str = "auto",
    wrt: Any = None,
    batch: Any = (),
    examples: Any = None,
    seed: int = 0,
    miss_probability: float = 1e-9,
    **own: Any,
) -> Plan:
    """Return the plan of `check_layer`. Raises TypeError or ValueError for a layer, cases or settings that cannot be.

    Cases of a sequence are all looked at, and none is run.
    """
    refuse_unknown("check_layer", own, _OF_ADAPTERS)
    checked_settings(structure, miss_probability, seed)
    drawn = hasattr(cases, "example")
    _check_call(batch, examples, drawn=drawn)
    target = tuple(layer) if isinstance(layer, list) else layer
    by_adapt = {name: value for name, value in own.items() if name != "nondiff_argnums"}
    pair = adapt(target, **by_adapt)
    if isinstance(pair.forward, Forward) and not isinstance(target, Pair) and pair.forward.layer is not None:
        target = pair.forward.layer  # of a class the one instance that was made
    cases = cases if drawn else _listed(cases)

    def trial(case: Any) -> Trial:
        inputs, options = _case(case)
        forward, backward, arrays, positions = *pair, inputs, wrt
        if not (pair.parameters and len(inputs) > len(pair.inputs) > 0):  # otherwise the parameters are in the case
            forward, backward, arrays, _, positions = prepared(target, inputs, options, wrt=wrt, **own)
        own_wrt = None if positions is None else tuple(positions)
        return Trial(forward, backward, arrays, options, structure, tuple(batch), seed, own_wrt, miss_probability)

    if drawn:
        return Plan(cases, trial, drawn)
    made = {id(case): trial(case) for case in cases}  # once, because an adapter may have to learn about its layer
    for each in made.values():
        each.check_batch()
    return Plan(cases, lambda case: made[id(case)], drawn)


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
        raise TypeError(f"cases must be a sequence of (arrays, options), or a strategy of them, got {shown(cases)}")
    listed = list(cases)
    if not listed:
        used = isinstance(cases, Iterator)
        raise ValueError("cases is an iterator that is exhausted: give a list" if used else "cases is empty")
    return listed


def _case(case: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if not (isinstance(case, (tuple, list)) and len(case) == 2 and isinstance(case[0], (tuple, list))):
        what = f"{type(case).__name__} of {len(case)}" if isinstance(case, (tuple, list)) else type(case).__name__
        raise TypeError(f"a case is (arrays, options), the arrays a tuple, as in ((x,), {{}}); got a {what}")
    if not isinstance(case[1] or {}, Mapping):
        raise TypeError(f"a case is (arrays, options), the options a dict, as in ((x,), {{}}); got {shown(case[1])}")
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
        worst = self.worst
        return CheckResult(self.check, worst.verdict, self.cases, worst.note, self.case, worst.codes, worst.arguments)


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
