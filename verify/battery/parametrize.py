"""The checks of `check_layer` as pytest tests, one for each layer and check, as scikit-learn does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from verify.adapters import layer_name
from verify.battery.battery import LayerError, check_layer, known, planned
from verify.battery.checks import CHECKS, NOT_APPLICABLE
from verify.battery.report import CheckResult, as_above, same_finding
from verify.checker.arguments import shown

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class LayerCheck:
    """One check of a layer, for a test: `check(layer)` raises LayerError, or SkipTest if it does not apply.

    `failed` has the results of the layer's checks of gradients that failed before, so that one bug is reported once.
    """

    name: str
    cases: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    expected: bool = False
    failed: list[CheckResult] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, layer: Any) -> None:
        """Run the check. An expected failure that does not apply passes, so that pytest reports it."""
        __tracebackhide__ = True
        report = check_layer(layer, self.cases, checks=[self.name], raise_on_failure=False, **self.options)
        (result,) = report.results
        if result.verdict != NOT_APPLICABLE and not report:
            raise LayerError(replace(report, results=(self._told_once(result),)))
        if result.verdict == NOT_APPLICABLE and not self.expected:
            raise SkipTest(result.note)

    def _told_once(self, result: CheckResult) -> CheckResult:
        """Return the result, or its short form if an earlier check of this layer found the same."""
        for first in self.failed:
            if first.check != result.check and same_finding(first, result):
                return as_above(result, first)
        self.failed.append(result)
        return result


def parametrize_with_checks(
    layers: Sequence[Any] | Mapping[str, Any],
    cases: Any,
    *,
    expected_failures: Mapping[str, Any] | None = None,
    **options: Any,
) -> pytest.MarkDecorator:
    """Return a pytest decorator that makes one test for each layer and check.

    The test function gets (layer, check) and calls `check(layer)`. `layers` is a sequence of layers, or maps names to
    layers. `cases` and `expected_failures` are those of `check_layer`, or map names of layers to them. An expected
    failure is a strict xfail with its reason. The other options are those of `check_layer`. Layers, cases and options
    that cannot be raise TypeError or ValueError here, once, and not in each test.
    """
    import pytest

    if not isinstance(layers, (Mapping, Sequence)):
        raise TypeError(f"layers must be a sequence of layers, or map names to them, got {shown(layers)}")
    by_name = dict(layers) if isinstance(layers, Mapping) else {layer_name(layer): layer for layer in layers}
    if not by_name or len(by_name) != len(layers):
        names = ", ".join(by_name) or "nothing"
        raise ValueError(f"layers need different names: give a mapping; got {len(layers)} layers called {names}")
    for refused, instead in _ELSEWHERE.items():
        if refused in options:
            raise TypeError(f"parametrize_with_checks takes no {refused}: {instead}")
    parameters = []
    for name, layer in by_name.items():
        own = _of(name, cases, by_name, "cases") if isinstance(cases, Mapping) else cases
        reasons = {} if expected_failures is None else expected_failures
        if isinstance(reasons, Mapping) and any(isinstance(reason, Mapping) for reason in reasons.values()):
            reasons = _of(name, reasons, by_name, "expected_failures")
        known(reasons, "expected_failures")
        plan, failed = planned(layer, own, **options), list[CheckResult]()
        for check in CHECKS:
            expected = check in reasons
            marks = [pytest.mark.xfail(reason=reasons[check], strict=True, raises=LayerError)] if expected else []
            one = LayerCheck(check, plan.cases, options, expected, failed)
            parameters.append(pytest.param(layer, one, id=f"{name}-{check}", marks=marks))
    return pytest.mark.parametrize(("layer", "check"), parameters)


# Options of `check_layer` that have another place here.
_ELSEWHERE = {
    "checks": "each check is a test of its own, so choose them by pytest -k",
    "raise_on_failure": "a test always raises",
}


def _of(name: str, mapping: Mapping[str, Any], layers: Mapping[str, Any], what: str) -> Any:
    """Return the entry of one layer in a mapping from names of layers."""
    if any(each not in layers for each in mapping) or (what == "cases" and name not in mapping):
        raise ValueError(f"{what} must map the layers' names, {', '.join(layers)}; got {', '.join(mapping)}")
    return mapping.get(name, {})
