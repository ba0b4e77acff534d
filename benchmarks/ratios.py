"""How many times faster than naive is fast? `python -m benchmarks.ratios RESULT.json` prints it as a table.

RESULT.json is what `pytest benchmarks/bench_layers.py --benchmark-json=RESULT.json` wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import rich_click as click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH = 110


class Row(NamedTuple):
    """One pass of one case; medians in seconds, `naive` None where it takes too long to be timed."""

    layer: str
    case: str
    direction: str
    naive: float | None
    fast: float

    @property
    def ratio(self) -> float | None:
        return None if self.naive is None else self.naive / self.fast


class Report(NamedTuple):
    """What one run measured, and a line that says where and when."""

    ran_on: str
    rows: list[Row]


class NotAReportError(ValueError):
    """The file is not one run of the layers' benchmarks."""


def read(path: Path) -> Report:
    """The report in a JSON file of pytest-benchmark; NotAReportError says what is wrong with it."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        machine, benchmarks = dict(result["machine_info"]), list(result["benchmarks"])
    except (ValueError, KeyError, TypeError):
        raise NotAReportError(f"{path} is not the JSON of pytest-benchmark") from None
    medians: dict[tuple[str, str, str], dict[str, float]] = {}
    dtypes = set()
    for benchmark in benchmarks:
        try:
            layer, direction, case, version = (
                benchmark["params"][name] for name in ("layer", "direction", "case", "version")
            )
            medians.setdefault((layer, case, direction), {})[version] = benchmark["stats"]["median"]
            dtypes.add(benchmark["extra_info"]["dtype"])
        except (KeyError, TypeError):
            raise NotAReportError(f"{path}: {_name(benchmark)} is no benchmark of bench_layers.py") from None
    if not medians:
        raise NotAReportError(f"{path} holds no benchmark")
    for (layer, case, direction), versions in medians.items():
        if "fast" not in versions:
            raise NotAReportError(f"{path}: {layer} {direction}, {case}, was timed naive but not fast")
    rows = [Row(*key, versions.get("naive"), versions["fast"]) for key, versions in medians.items()]
    return Report(_ran_on(machine, sorted(dtypes), result.get("datetime", "")), rows)


def _name(benchmark: Any) -> str:
    return str(benchmark.get("fullname", "an entry")) if isinstance(benchmark, dict) else "an entry"


def _ran_on(machine: dict[str, Any], dtypes: list[str], when: str) -> str:
    blas = {"blas": "unknown BLAS", "version": "", "kernel": "unknown", "threads": "?", "numpy": "unknown"}
    blas.update(machine.get("blas", {}))
    parts = (
        machine.get("cpu", {}).get("brand_raw", machine.get("machine", "unknown machine")),
        "{threads} threads, {blas} {version}, kernel {kernel}, NumPy {numpy}".format(**blas),
        f"Python {machine.get('python_version', 'unknown')}",
        " and ".join(dtypes),
        when[:10],
    )
    return ", ".join(part for part in parts if part)


def table(report: Report) -> Table:
    """The rows for a person, a rule between layers."""
    shown = Table(box=SIMPLE_HEAD)
    for heading in ("layer", "case", "pass"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("naive", "fast", "naive / fast"):
        shown.add_column(heading, no_wrap=True, justify="right")
    last = ""
    for row in report.rows:
        if last and row.layer != last:
            shown.add_section()
        name = row.layer if row.layer != last else ""
        ratio = "" if row.ratio is None else _digits(row.ratio)
        shown.add_row(
            Text(name), Text(row.case), row.direction, _time(row.naive), _time(row.fast), Text(ratio, style="bold")
        )
        last = row.layer
    return shown


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not timed"
    unit, name = next(((unit, name) for unit, name in ((1, "s"), (1e-3, "ms")) if seconds >= unit), (1e-6, "µs"))
    return f"{_digits(seconds / unit)} {name}"


def _digits(value: float) -> str:
    """Three digits, or all of the integer part."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


@click.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(result: Path) -> None:
    """Print how many times faster than naive each fast layer ran, from the RESULT of one benchmark run."""
    try:
        report = read(result)
    except NotAReportError as error:
        raise click.UsageError(str(error)) from None
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(Text(report.ran_on))
    console.print(table(report))
    console.print("Medians of one run. Quote its ratios; the times themselves belong to this machine and this hour.")


if __name__ == "__main__":
    main()
