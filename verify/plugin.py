"""The pytest plugin: a fixture `gradcheck`, a summary of all checks of a run, and properties for JUnit's XML.

If gradcert is installed, pytest loads this module into every run. So it imports only pytest until something is
checked. In a checkout that is not installed, load it with `-p verify.plugin`.
"""

from __future__ import annotations

import argparse
import itertools
import re
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verify.records import listening

if TYPE_CHECKING:
    from verify.checker.certificate import Certificate

# A row for each checked gradient, in plain types, because xdist's workers send the rows with the reports.
_Rows = dict[tuple[str, str, str], dict[str, Any]]
_ROWS = pytest.StashKey[_Rows]()
_WORST_FIRST = ("FAIL", "INCONCLUSIVE", "PASS")
# A choice: of more rows only those that did not pass are printed, unless pytest is verbose.
_MOST_LINES = 200
# A choice: names of files that people read. A checksum of the whole name tells tests apart.
_MOST_OF_A_NAME = 80
# The pages that this process has written.
_WRITTEN: set[str] = set()
_LEGEND = "miss: the probability that a wrong gradient passes; with <, the largest relative error that may pass"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--gradcert-seed` and the setting `gradcert_junit`."""
    seed = "Seed of every check by the fixture gradcheck (default: a seed derived from the test's name)."
    parser.getgroup("gradcert").addoption("--gradcert-seed", type=_seed, metavar="SEED", help=seed)
    html = "Write a page with heat maps for each check that did not pass, and an index of all checks, into this folder."
    parser.getgroup("gradcert").addoption("--gradcert-html", metavar="FOLDER", help=html)
    junit = "Record the results of checks as properties of the test (JUnit's xunit2 schema has none)."
    parser.addini("gradcert_junit", junit, type="bool", default=True)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a folder of `--gradcert-html` that cannot be written to, and a missing package, before any test."""
    if (folder := config.getoption("--gradcert-html")) is not None:
        from verify.pictures.page import needed

        try:
            needed("jinja2", "--gradcert-html")
            Path(folder).mkdir(parents=True, exist_ok=True)
        except (ModuleNotFoundError, OSError) as error:
            text = f"{error.strerror}: name a folder that can be written to" if isinstance(error, OSError) else error
            raise pytest.UsageError(f"--gradcert-html {folder!r}: {text}") from error


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, got {text!r}")
    return int(text)


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Gradcheck:
    """Return verify.gradcheck with a seed from the test's name, and those of the adapters: .torch, .jax and .plain."""
    # Not the node id, because xdist's loadgroup adds the group to it.
    path, _, name = request.node.location
    return Gradcheck(f"{path}::{name}", request.config.getoption("--gradcert-seed"))


class Gradcheck:
    """The fixture: `gradcheck(forward, backward, arrays)`, `gradcheck.torch(layer, inputs)`, `.jax` and `.plain`."""

    def __init__(self, test: str, seed: int | None) -> None:
        self._test, self._seed, self._calls = test, seed, itertools.count()

    def __call__(self, *arguments: Any, **settings: Any) -> Certificate:
        """Check two functions, as verify.gradcheck does."""
        __tracebackhide__ = True
        from verify.entry import gradcheck as check

        return check(*arguments, **self._seeded(settings))

    def torch(self, *arguments: Any, **settings: Any) -> Certificate:
        """Check a layer in PyTorch, as verify.adapters.torch.gradcheck does."""
        __tracebackhide__ = True
        return self._adapter("torch", arguments, settings)

    def jax(self, *arguments: Any, **settings: Any) -> Certificate:
        """Check a function in JAX, as verify.adapters.jax.gradcheck does."""
        __tracebackhide__ = True
        return self._adapter("jax", arguments, settings)

    def plain(self, *arguments: Any, **settings: Any) -> Certificate:
        """Check a class or an instance in NumPy, as verify.adapters.plain.gradcheck does."""
        __tracebackhide__ = True
        return self._adapter("plain", arguments, settings)

    def _adapter(self, name: str, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Certificate:
        __tracebackhide__ = True
        from verify import adapters

        certificate: Certificate = getattr(adapters, name).gradcheck(*arguments, **self._seeded(settings))
        return certificate

    def _seeded(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings with the seed of this call."""
        call = next(self._calls)
        if settings.get("seed") is not None:
            return settings
        return {**settings, "seed": zlib.crc32(f"{self._test} {call}".encode()) if self._seed is None else self._seed}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Collect the rows of all checks that the test makes, by the fixture or not."""
    rows = item.stash.setdefault(_ROWS, {})
    folder = item.config.getoption("--gradcert-html")
    with listening(lambda layer, result: _add(rows, layer, result, _page(folder, item.nodeid, result))):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the rows of a test to its last report. The message of a failed check is its first line."""
    rows = item.stash.get(_ROWS, {})
    if call.when == "teardown" and item.config.getini("gradcert_junit"):
        # This does what record_property does, without its warning about xunit2. The setting decides instead.
        item.user_properties += [
            (f"gradcheck {' '.join(key[:2])}", ", ".join(_cells(row))) for key, row in rows.items()
        ]
    report = yield
    if report.when == "teardown" and rows:
        vars(report)["gradcert"] = [(*key[:2], *_cells(row)) for key, row in rows.items()]
        vars(report)["gradcert_pages"] = [row.get("page", "") for row in rows.values()]
    crash = getattr(report.longrepr, "reprcrash", None)
    if call.excinfo is not None and crash is not None:
        crash.message = _headline(call.excinfo.value) or crash.message
    return report


def _headline(error: BaseException) -> str:
    """Return the first line of a failed check's certificate or report, or nothing for another exception."""
    found = (getattr(error, attribute, None) for attribute in ("certificate", "report"))
    result = next((each for each in found if each is not None), None)  # what did not pass is falsy
    if result is None or type(error).__module__ != "verify":
        return ""
    return str(getattr(result, "headline", None) or str(result).partition("\n")[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each checked gradient, if there is one."""
    reports = [report for some in terminalreporter.stats.values() for report in some if hasattr(report, "gradcert")]
    lines = [(report.nodeid, *row) for report in reports for row in report.gradcert]
    if (folder := terminalreporter.config.getoption("--gradcert-html")) is not None:
        _write_index(folder, lines, [page for report in reports for page in report.gradcert_pages])
    if not lines:
        return
    short = len(lines) > _MOST_LINES and not terminalreporter.config.get_verbosity()
    shown = [line for line in lines if line[3] != "PASS"] if short else lines
    terminalreporter.section("gradients checked")
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        terminalreporter.write_line("  ".join(cells).rstrip())
    if short:
        terminalreporter.write_line(f"and {len(lines) - len(shown)} that passed, listed by -v")
    terminalreporter.write_line(_LEGEND)


def _page(folder: str | None, test: str, result: Any) -> str:
    """Write the page of a check that did not pass, and return the name of its file; nothing if none is wanted."""
    if folder is None or result:
        return ""
    from verify.pictures.page import result_page

    stem = f"{re.sub(r'[^A-Za-z0-9]+', '-', test)[-_MOST_OF_A_NAME:].strip('-')}-{zlib.crc32(test.encode()):08x}"
    name = next(name for n in itertools.count(1) if (name := f"{stem}-{n}.html") not in _WRITTEN)
    _WRITTEN.add(name)
    Path(folder, name).write_text(result_page(result, test), encoding="utf-8")
    return name


def _write_index(folder: str, lines: list[tuple[str, ...]], pages: list[str]) -> None:
    """Write the page of all checks of the run, with links to those that did not pass."""
    from verify.pictures.page import index_page

    headings = ("test", "layer", "gradient or check", "verdict", "oracle", "miss", "checks", "seed")
    text = index_page(headings, lines, pages, [f"{_LEGEND[:1].upper()}{_LEGEND[1:]}."])
    Path(folder, "index.html").write_text(text, encoding="utf-8")


def _add(rows: _Rows, layer: Any, result: Any, page: str) -> None:
    """Add a certificate or a report of check_layer to the rows of a test; `page` is the file of one that failed."""
    from verify.adapters import layer_name
    from verify.checker.certificate import Certificate

    if isinstance(result, Certificate):
        _add_certificate(rows, layer_name(layer), result, page)
        return
    for each in result.results:
        row = rows.setdefault((result.layer, each.check, "check_layer"), {"checks": 0})
        cases = f"{each.cases} case{'' if each.cases == 1 else 's'}"
        row.update(checks=row["checks"] + 1, verdict=each.verdict, oracle=cases, seed=result.seed, page=page)


def _add_certificate(rows: _Rows, layer: str, certificate: Certificate, page: str) -> None:
    """Add a check to the rows. A row has the worst verdict and the weakest promise of its checks."""
    # If all gradients are right, but not all that y depends on is checked, the certificate alone is INCONCLUSIVE.
    alike = all(result.verdict == "PASS" for result in certificate.arguments)
    for result in certificate.arguments:
        row = rows.setdefault((layer, f"d{result.name}", certificate.oracle), {"checks": 0, "verdict": "PASS"})
        row["checks"] += 1
        row["page"] = row.get("page") or page
        verdict = certificate.verdict if alike else result.verdict
        if row["checks"] == 1 or _WORST_FIRST.index(verdict) < _WORST_FIRST.index(row["verdict"]):
            row.update(verdict=verdict, oracle=certificate.oracle, seed=certificate.seed)
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
