"""`python -m verify museum`: every exhibit, the check that sees it, and other gradient checkers beside it."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import rich_click as click
from rich.console import Console

from verify.command import jobs, output
from verify.command.executors import jobs_option
from verify.command.output import json_option, seed_option
from verify.command.run import verify_layer
from verify.evidence import hall, others, tables
from verify.evidence.tables import RIGHT, Compared, Row
from verify.layers import LAYERS, Case, Layer
from verify.museum import EXHIBITS, Exhibit
from verify.profiles import EXAMPLES


def exhibit_row(slug: str, version: str, examples: int, seed: int) -> Row:
    """Look at an exhibit in one version of its layer."""
    exhibit = EXHIBITS[slug]
    (chosen,) = (each for each in LAYERS[exhibit.layer].implementations if each.name == version)
    seen = hall.look(hall.planted(exhibit, chosen), examples, seed)
    return Row(
        slug, exhibit.layer, version, exhibit.kind, *seen[:3], exhibit.code.code if exhibit.code else "", seen[3]
    )


def right_row(layer: str, version: str, examples: int, seed: int) -> Row:
    """Look at a version of a layer without a bug in it."""
    (chosen,) = (each for each in LAYERS[layer].implementations if each.name == version)
    seen = hall.look(hall.clean(LAYERS[layer], chosen), examples, seed)
    return Row("", layer, version, RIGHT, seen.check, seen.cases, seen.cause, "", seen.message)


def compared(slug: str, libraries: tuple[str, ...], examples: int, seed: int) -> list[Compared]:
    """Ask each checker about an exhibit in the fast version of its layer."""
    exhibit = EXHIBITS[slug]
    layer = LAYERS[exhibit.layer]
    wrong, cases = exhibit.mutate(layer.fast), _cases(exhibit.layer, examples, seed)
    found = []
    for name, checker in others.of(libraries).items():
        tally = others.tally(checker, layer, wrong, layer.fast, cases, seed)
        found.append(_compared(name, slug, layer.name, tally.ordinary, int(tally.drawn), tally.answers))
    return found


def alarmed(layer: str, libraries: tuple[str, ...], examples: int, seed: int) -> list[Compared]:
    """Ask each checker about a right layer: at the ordinary call, at drawn cases, and at the same with their ties."""
    declared = LAYERS[layer]
    tied = _finite(declared, [declared.complete(*case) for case in hall.drawn(declared, examples, seed)])
    found = []
    for name, checker in others.of(libraries).items():
        answers = others.alarms(checker, declared, declared.fast, _cases(layer, examples, seed), seed)
        found.append(_compared(name, "", layer, answers[0].objects, _objections(answers[1:]), answers))
        answers = others.alarms(checker, declared, declared.fast, tied, seed)[1:]
        found.append(_compared(name, "as drawn", layer, None, _objections(answers), answers))
    return found


def _cases(layer: str, examples: int, seed: int) -> list[Case]:
    """Drawn cases with normal numbers, where y is finite."""
    declared = LAYERS[layer]
    return _finite(
        declared, [others.untied(declared, case, n) for n, case in enumerate(hall.drawn(declared, examples, seed))]
    )


def _finite(layer: Layer, cases: Sequence[Case]) -> list[Case]:
    """The cases where y is finite: a mean over nothing has no gradient that a checker could judge."""
    with np.errstate(all="ignore"):
        return [case for case in cases if np.isfinite(layer.fast.forward(*case.arrays, **case.options)[0]).all()]


def _objections(answers: Sequence[others.Answer]) -> int:
    return sum(answer.objects is True for answer in answers)


def _compared(
    checker: str, slug: str, layer: str, ordinary: bool | None, drawn: int, answers: Sequence[others.Answer]
) -> Compared:
    none = sum(answer.objects is None for answer in answers)
    forwards = statistics.median(answer.forwards for answer in answers)
    seconds = statistics.median(answer.seconds for answer in answers)
    return Compared(checker, slug, layer, ordinary, drawn, len(answers), none, forwards, seconds)


def _looks(chosen: Sequence[Exhibit], examples: int, seed: int) -> list[jobs.Job]:
    """The jobs: each exhibit in each version, and the right versions of the same layers."""
    found = [
        jobs.Job(f"{exhibit.slug} {version.name}", exhibit_row, (exhibit.slug, version.name, examples, seed))
        for exhibit in chosen
        for version in LAYERS[exhibit.layer].implementations
    ]
    for name in sorted({exhibit.layer for exhibit in chosen}):
        for version in LAYERS[name].implementations:
            found.append(jobs.Job(f"{name} {version.name}", right_row, (name, version.name, examples, seed)))
    return found


def _further(chosen: Sequence[Exhibit], examples: int, seeds: Iterable[int]) -> list[jobs.Job]:
    """The jobs of further seeds: each exhibit, and the right layers, in the fast version."""
    found = []
    for seed in seeds:
        for exhibit in chosen:
            arguments = exhibit.slug, LAYERS[exhibit.layer].fast.name, examples, seed
            found.append(jobs.Job(f"{exhibit.slug}, seed {seed}", exhibit_row, arguments))
        for name in sorted({exhibit.layer for exhibit in chosen}):
            found.append(jobs.Job(f"{name}, seed {seed}", right_row, (name, LAYERS[name].fast.name, examples, seed)))
    return found


def _asked(chosen: Sequence[Exhibit], libraries: tuple[str, ...], seed: int) -> list[jobs.Job]:
    """The jobs: every checker at each exhibit, and at each right layer."""
    arguments = libraries, EXAMPLES["quick"], seed
    found = [jobs.Job(exhibit.slug, compared, (exhibit.slug, *arguments)) for exhibit in chosen]
    return found + [jobs.Job(name, alarmed, (name, *arguments)) for name in sorted({each.layer for each in chosen})]


def _libraries(against: str | None) -> tuple[str, ...]:
    """Return the libraries to compare with. Raises a usage error for one that is unknown or not installed."""
    names = tuple(dict.fromkeys(name.strip() for name in against.split(","))) if against else ()
    for name in names:
        if name not in others.LIBRARIES:
            raise click.UsageError(f"--against {against}: {name!r} is none of {', '.join(others.LIBRARIES)}")
    try:
        others.of(names)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--against {against}: {error}") from error
    return names


def _in_full(exhibit: Exhibit, rows: Sequence[Row], examples: int, seed: int, console: Console) -> None:
    """Print the record of an exhibit, and what is said of it in the fast version at the smallest case."""
    console.print(f"\n[bold]{exhibit.slug}[/]: {exhibit.wrong}", highlight=False)
    console.print(f"layer: {exhibit.layer}; shows when: {exhibit.shows}; source: {exhibit.source}", highlight=False)
    message = rows[-1].message
    if rows[-1].check == tables.GRADIENTS:
        layer = LAYERS[exhibit.layer]
        message = verify_layer(layer, exhibit.mutate(layer.fast), examples, seed).message
    console.print(f"\n{message}", highlight=False, markup=False, soft_wrap=True)


@click.command()
@click.option(
    "--examples",
    type=click.IntRange(EXAMPLES["quick"]),
    default=EXAMPLES["ci"],
    show_default=True,
    help="Cases for each version. Too few cases may not show a bug.",
)
@click.option(
    "--slug",
    "slugs",
    multiple=True,
    type=click.Choice(tuple(EXHIBITS)),
    help="Show only this bug, and in full; repeatable.",
)
@click.option(
    "--against",
    metavar="LIBRARIES",
    help=f"Ask other checkers about the same exhibits: some of {','.join(others.LIBRARIES)}.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of seeds, counted from --seed. All but the first check only the fast version.",
)
@jobs_option
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write the results to this Markdown file."
)
@seed_option
@json_option
def museum(
    examples: int,
    slugs: tuple[str, ...],
    against: str | None,
    seeds: int,
    processes: int,
    markdown: Path | None,
    seed: int,
    json_path: str | None,
) -> None:
    """Plant bugs that real code had in our layers, and show which check sees each.

    The exit code is 0 if every bug is seen in every version and no right layer is accused, and 1 otherwise.
    """
    output.check_writable(json_path, markdown=markdown)
    libraries = _libraries(against)
    console = output.console(json_path)
    started = time.perf_counter()
    chosen = [EXHIBITS[slug] for slug in dict.fromkeys(slugs)] or list(EXHIBITS.values())
    rows = list(jobs.rows(_looks(chosen, examples, seed), processes))
    console.print(tables.table(rows))
    later = list(jobs.rows(_further(chosen, examples, range(seed + 1, seed + seeds)), processes)) if seeds > 1 else []
    for exhibit in chosen if slugs else ():
        _in_full(exhibit, [row for row in rows if row.slug == exhibit.slug], examples, seed, console)
    found: list[Compared] = []
    if libraries:
        found = [each for several in jobs.rows(_asked(chosen, libraries, seed), processes) for each in several]
        console.print(tables.beside(found, rows))
    for row in (*rows, *later):
        if row.kind == RIGHT and row.check:
            console.print(
                f"\n{row.layer}, {row.version}, has no bug, but {row.check} says:", style="bold", highlight=False
            )
            console.print(row.message, highlight=False, markup=False, soft_wrap=True)
    said = tables.summary(rows) + (tables.further(later, seeds - 1) if later else "")
    console.print(f"\n{said} ({time.perf_counter() - started:.0f} s)", highlight=False, soft_wrap=True)
    if markdown is not None:
        markdown.write_text(tables.page(rows, found, examples, seed, said), encoding="utf-8")
    code = 0 if all(row.as_it_should_be for row in (*rows, *later)) else 1
    settings = {"command": "museum", "seed": seed, "seeds": seeds, "examples": examples, "exit_code": code}
    output.write(json_path, settings, [*rows, *later, *found])
    sys.exit(code)
