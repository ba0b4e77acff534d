"""Compare the ratios of a run with a baseline: `python -m benchmarks.compare RUN.json`.

The exit code is 1 if a ratio is worse than benchmarks/baseline.json allows. To store a baseline, take several
runs of the same code on the same machine:

    python -m benchmarks.compare --store RUN1.json RUN2.json RUN3.json

The baseline has the median of each ratio, and margins. A margin follows from the spread of ratios between the
stored runs:

- Ratios are pooled by contender (PyTorch, JAX, the bare product, the naive loops), because some are steadier
  than others. Let s be the standard deviation of a ratio's logarithm from run to run.
- The difference between a new run and one stored run is then normal with deviation sqrt(2) s.
- The margin is exp(z sqrt(2) s), where z is the normal quantile of 1 - 0.01/m for m ratios (Bonferroni).
  By chance, at most 1 % of comparisons have a ratio that is worse than its margin.
- A ratio whose stored runs differ by more than its margin is not normal. It gets that larger factor as margin.

Ratios do not depend on how fast a machine is at the moment. They do depend on the kind of machine, so a run on
another kind is refused. Each kind can have its own baseline: store it and compare with it by `--baseline FILE`.
Ratios that are only in the baseline or only in the run are listed.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import rich_click as click

from benchmarks.report.collect import NotARunError, ratios, read

BASELINE = Path(__file__).with_name("baseline.json")
_FALSE_ALARMS = 0.01
_FEWEST_RUNS = 3
# These facts and the kernel of the linear algebra library define a kind of machine.
_KIND = ("processor", "threads", "dtype")


class Baseline(NamedTuple):
    """The stored data: the machine, a margin for each contender, the ratios, and the ratios with a wider margin.

    Margins are factors.
    """

    machine: dict[str, str]
    margins: dict[str, float]
    ratios: dict[str, float]
    wider: dict[str, float]

    def allowed(self, what: str) -> float:
        """Return the largest ratio that is not called worse."""
        return self.ratios[what] * self.wider.get(what, self.margins[_over(what)])


class Comparison(NamedTuple):
    """The names of ratios that are slower than their margin (worst first), missing in the run, or not stored."""

    slower: list[str]
    missing: list[str]
    unknown: list[str]


def _over(what: str) -> str:
    """Return the contender in the name of a ratio."""
    return what.rpartition(" over ")[2]


def baseline(machine: Mapping[str, str], runs: Sequence[Mapping[str, float]]) -> Baseline:
    """Return the baseline of several runs.

    Raises ValueError for fewer than three runs, and for runs that measured different ratios.
    """
    if len(runs) < _FEWEST_RUNS:
        raise ValueError(f"a margin needs at least {_FEWEST_RUNS} runs, got {len(runs)}")
    names = sorted(runs[0])
    if odd := [what for run in runs for what in run.keys() ^ runs[0].keys()]:
        raise ValueError(f"{odd[0]!r} and {len(set(odd)) - 1} more are not in all runs")
    if not names:
        raise ValueError("the runs have no ratio")
    logarithms = {what: [math.log(run[what]) for run in runs] for what in names}
    quantile = statistics.NormalDist().inv_cdf(1 - _FALSE_ALARMS / len(names))
    margins = {}
    for over in sorted({_over(what) for what in names}):
        variance = statistics.fmean(statistics.variance(logarithms[what]) for what in names if _over(what) == over)
        margins[over] = math.exp(quantile * math.sqrt(2 * variance))
    spreads = {what: math.exp(max(own) - min(own)) for what, own in logarithms.items()}
    medians = {what: math.exp(statistics.median(own)) for what, own in logarithms.items()}
    wider = {what: spread for what, spread in spreads.items() if spread > margins[_over(what)]}
    return Baseline(dict(machine), margins, medians, wider)


def compare(stored: Baseline, measured: Mapping[str, float]) -> Comparison:
    """Return which ratios of the run are worse than stored, missing, or new."""
    common = [what for what in stored.ratios if what in measured]
    slower = [what for what in common if not measured[what] <= stored.allowed(what)]
    return Comparison(
        sorted(slower, key=lambda what: stored.allowed(what) / measured[what]),
        [what for what in stored.ratios if what not in measured],
        [what for what in measured if what not in stored.ratios],
    )


def of_another_kind(stored: Mapping[str, str], machine: Mapping[str, str]) -> list[str]:
    """Return each fact in which the kind of machine differs, with both values."""
    kinds = [
        {**{fact: of.get(fact) for fact in _KIND}, "kernel": of.get("linear algebra", "").rpartition("kernel ")[2]}
        for of in (stored, machine)
    ]
    return [
        f"{fact} {kinds[0][fact]!r}, here {kinds[1][fact]!r}" for fact in kinds[0] if kinds[0][fact] != kinds[1][fact]
    ]


def _margins(stored: Baseline) -> str:
    return "margins " + ", ".join(f"{margin:.2f} over {over}" for over, margin in stored.margins.items())


def report(stored: Baseline, measured: Mapping[str, float], found: Comparison) -> str:
    """Return the comparison in Markdown."""
    compared = len(stored.ratios) - len(found.missing)
    lines = [f"{compared} ratios compared with those of {stored.machine.get('processor')}, {_margins(stored)}"]
    if found.slower:
        lines += ["", "| slower than stored | stored | now | times | allowed |", "| --- | ---: | ---: | ---: | ---: |"]
        for what in found.slower:
            before, now = stored.ratios[what], measured[what]
            allowed = stored.allowed(what) / before
            lines.append(f"| {what} | {before:.3g} | {now:.3g} | {now / before:.2f} | {allowed:.2f} |")
    for names, how in ((found.missing, "stored, but not in this run"), (found.unknown, "in this run, but not stored")):
        if names:
            lines += ["", f"{len(names)} {how}:", *(f"- {name}" for name in names)]
    return "\n".join([*lines, "", f"{len(found.slower)} of {compared} slower"])


def _load(path: Path) -> Baseline:
    try:
        return Baseline(**json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        command = "python -m benchmarks.compare --store RUN1.json RUN2.json RUN3.json"
        raise click.UsageError(f"no baseline at {path}; to make one: {command}") from None
    except (ValueError, TypeError):
        raise click.UsageError(f"{path} is not a baseline") from None


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", is_flag=True, help="store these runs as the baseline")
@click.option("--baseline", "path", type=click.Path(path_type=Path), default=BASELINE, help="file of the baseline")
def main(runs: tuple[Path, ...], store: bool, path: Path) -> None:
    """Compare the ratios of one run with the baseline.

    RUNS are JSON files of pytest-benchmark. The exit code is 1 if a ratio is worse.
    """
    try:
        found = [read(each) for each in runs]
        if store:
            if hasty := [str(run) for run, each in zip(runs, found, strict=True) if "caution" in each.machine]:
                raise click.UsageError(f"{hasty[0]} has a few images and rounds only (--small): it measures nothing")
            made = baseline(found[0].machine, [ratios(each) for each in found])
            path.write_text(json.dumps(made._asdict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            click.echo(f"{path}: {len(made.ratios)} ratios, {_margins(made)}; {len(made.wider)} with more")
            return
    except (NotARunError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if len(found) > 1:
        raise click.UsageError(f"one run is compared, got {len(found)}; --store takes several")
    stored, measured = _load(path), ratios(found[0])
    if odd := of_another_kind(stored.machine, found[0].machine):
        own = "to store a baseline of this kind: --store RUN1.json RUN2.json RUN3.json --baseline FILE"
        raise click.UsageError(f"{path} comes from another kind of machine ({'; '.join(odd)}); {own}")
    compared = compare(stored, measured)
    click.echo(report(stored, measured, compared))
    nothing = len(compared.missing) == len(stored.ratios)
    if nothing:
        click.echo("nothing was compared", err=True)
    sys.exit(1 if compared.slower or nothing else 0)


if __name__ == "__main__":
    main()
