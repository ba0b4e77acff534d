"""The pytest plugin: a fixture `gradcheck`, a summary of its checks, and properties for JUnit's XML.

If gradcert is installed, pytest loads this module into every run. So it imports only pytest until the fixture is
used. In a checkout that is not installed, load it with `-p verify.plugin`.
"""

from __future__ import annotations

import argparse
import itertools
import zlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from verify.checker.certificate import Certificate

# A row for each checked gradient, in plain types, because xdist's workers send the rows with the reports.
_Rows = dict[tuple[str, str, str], dict[str, Any]]
_ROWS = pytest.StashKey[_Rows]()
_WORST_FIRST = ("FAIL", "INCONCLUSIVE", "PASS")
_LEGEND = "miss: the probability that a wrong gradient passes; with <, the largest relative error that may pass"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--gradcert-seed` and the setting `gradcert_junit`."""
    seed = "Seed of every check by the fixture gradcheck (default: a seed derived from the test's name)."
    parser.getgroup("gradcert").addoption("--gradcert-seed", type=_seed, metavar="SEED", help=seed)
    junit = "Record results of the fixture gradcheck as properties of the test (JUnit's xunit2 schema has none)."
    parser.addini("gradcert_junit", junit, type="bool", default=True)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, got {text!r}")
    return int(text)


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Generator[Callable[..., Certificate], None, None]:
    """Return verify.gradcheck with a seed derived from the test's name. Its results are reported."""
    from verify.checker.certificate import CheckError
    from verify.checker.check import gradcheck as check

    rows = request.node.stash.setdefault(_ROWS, {})
    calls = itertools.count()
    # Not the node id, because xdist's loadgroup adds the group to it.
    path, _, name = request.node.location

    def recorded(forward: Any, backward: Any, arrays: Any, options: Any = None, **keywords: Any) -> Certificate:
        __tracebackhide__ = True
        asked, call = request.config.getoption("--gradcert-seed"), next(calls)
        if keywords.get("seed") is None:
            keywords["seed"] = zlib.crc32(f"{path}::{name} {call}".encode()) if asked is None else asked
        try:
            certificate = check(forward, backward, arrays, options, **keywords)
        except CheckError as error:
            _add(rows, forward, error.certificate)
            raise
        _add(rows, forward, certificate)
        return certificate

    yield recorded
    if request.config.getini("gradcert_junit"):
        # This does what record_property does, without its warning about xunit2. The setting decides instead.
        properties = [(f"gradcheck {' '.join(key[:2])}", ", ".join(_cells(row))) for key, row in rows.items()]
        request.node.user_properties.extend(properties)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the rows of a test to its last report."""
    report = yield
    if report.when == "teardown" and item.stash.get(_ROWS, None):
        rows = [(layer, gradient, *_cells(row)) for (layer, gradient, _), row in item.stash[_ROWS].items()]
        vars(report)["gradcert"] = rows
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each checked gradient, if there is one."""
    reports = [report for some in terminalreporter.stats.values() for report in some if hasattr(report, "gradcert")]
    if not reports:
        return
    lines = [(report.nodeid, *row) for report in reports for row in report.gradcert]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    terminalreporter.section("gradients checked")
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        terminalreporter.write_line("  ".join(cells).rstrip())
    terminalreporter.write_line(_LEGEND)


def _add(rows: _Rows, forward: Any, certificate: Certificate) -> None:
    """Add a check to the rows. A row has the worst verdict and the weakest promise of its checks."""
    layer = getattr(forward, "__qualname__", type(forward).__name__).split("<locals>.")[-1]
    for result in certificate.arguments:
        row = rows.setdefault((layer, f"d{result.name}", certificate.oracle), {"checks": 0, "verdict": "PASS"})
        row["checks"] += 1
        if row["checks"] == 1 or _WORST_FIRST.index(result.verdict) < _WORST_FIRST.index(row["verdict"]):
            row.update(verdict=result.verdict, oracle=certificate.oracle, seed=certificate.seed)
        if certificate:
            exact = certificate.miss_probability is not None
            promise = certificate.miss_probability if exact else result.detection_floor
            kind = "miss" if exact else "floor"
            row[kind] = max(row.get(kind, 0.0), float(promise or 0.0))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return verdict, oracle, promise, number of checks and seed as text.

    The seed is that of the first check that did not pass, or of the first check.
    """
    promise = "-"
    if row["verdict"] == "PASS" and ("miss" in row or "floor" in row):
        promise = f"miss {row['miss']:.0e}" if "miss" in row else f"miss <{row['floor']:.0e}"
    checks = f"{row['checks']} check{'s' if row['checks'] > 1 else ''}"
    return row["verdict"], row["oracle"], promise, checks, f"seed {row['seed']}"
