"""The checks of `check_layer` as pytest tests, one for each layer and check, as scikit-learn does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from verify.battery.battery import LayerError, adapted, check_layer, known, layer_name
from verify.battery.checks import CHECKS, NOT_APPLICABLE

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class LayerCheck:
    """One check of a layer, for a test: `check(layer)` raises LayerError, or SkipTest if it does not apply."""

    name: str
    cases: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    expected: bool = False

    def __call__(self, layer: Any) -> None:
        """Run the check. An expected failure that does not apply passes, so that pytest reports it."""
        __tracebackhide__ = True
        report = check_layer(layer, self.cases, checks=[self.name], raise_on_failure=False, **self.options)
        (result,) = report.results
        if result.verdict != NOT_APPLICABLE and not report:
            raise LayerError(report)
        if result.verdict == NOT_APPLICABLE and not self.expected:
            raise SkipTest(result.note)


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
    failure is a strict xfail with its reason. The other options are those of `check_layer`.
    """
    import pytest

    if not isinstance(layers, (Mapping, Sequence)):
        raise TypeError(f"layers must be a sequence of layers, or map names to them, got {layers!r}")
    by_name = dict(layers) if isinstance(layers, Mapping) else {layer_name(layer): layer for layer in layers}
    if not by_name or len(by_name) != len(layers):
        names = ", ".join(by_name) or "nothing"
        raise ValueError(f"layers need different names: give a mapping; got {len(layers)} layers called {names}")
    parameters = []
    for name, layer in by_name.items():
        adapted(layer)
        own = _of(name, cases, by_name, "cases") if isinstance(cases, Mapping) else cases
        reasons = {} if expected_failures is None else expected_failures
        if isinstance(reasons, Mapping) and any(isinstance(reason, Mapping) for reason in reasons.values()):
            reasons = _of(name, reasons, by_name, "expected_failures")
        known(reasons, "expected_failures")
        for check in CHECKS:
            expected = check in reasons
            marks = [pytest.mark.xfail(reason=reasons[check], strict=True, raises=LayerError)] if expected else []
            one = LayerCheck(check, own, options, expected)
            parameters.append(pytest.param(layer, one, id=f"{name}-{check}", marks=marks))
    return pytest.mark.parametrize(("layer", "check"), parameters)


def _of(name: str, mapping: Mapping[str, Any], layers: Mapping[str, Any], what: str) -> Any:
    """Return the entry of one layer in a mapping from names of layers."""
    if any(each not in layers for each in mapping) or (what == "cases" and name not in mapping):
        raise ValueError(f"{what} must map the layers' names, {', '.join(layers)}; got {', '.join(mapping)}")
    return mapping.get(name, {})
