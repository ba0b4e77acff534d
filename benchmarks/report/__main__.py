"""Write the page and the Markdown summary of a run: `python -m benchmarks.report RUN.json`.

`--publish FOLDER` also writes the run as a folder of the handbook.
"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

try:
    import jinja2
    import matplotlib  # noqa: F401  (the figures need it: said here, before they are imported)
except ModuleNotFoundError as missing:
    message = f'the report needs {missing.name}: pip install "gradcert[report]"'
    raise ModuleNotFoundError(message, name=missing.name) from None

from benchmarks.report import tables
from benchmarks.report.answers import goals, headlines
from benchmarks.report.collect import NotARunError, Run, read
from benchmarks.report.drawing import DARK, LIGHT
from benchmarks.report.publish import SmallRunError, publish
from benchmarks.report.sections import GOALS, sections
from benchmarks.report.tables import Table


def page(run: Run) -> str:
    """Return the run as one HTML file that needs no other file."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html.j2")
    return template.render(
        run=run,
        headlines=headlines(run),
        sections=sections(run),
        roofs=tables.roofs(run),
        goals=goals(run),
        goals_text=GOALS,
        light=LIGHT,
        dark=DARK,
    )


def markdown(run: Run) -> str:
    """Return the headlines, the answers of the figures and every table that the page does not fold, in Markdown."""
    lines = ["# Benchmarks", "", *(f"- {name}: {fact}" for name, fact in run.machine.items()), ""]
    for each in headlines(run):
        lines += [f"**{each.figure} {each.what}.** {each.meaning}", ""]
    for section in sections(run):
        shown = [table for name, table in section.tables.items() if not name or section.title == "Against the loops"]
        if shown or section.figures:
            lines += [f"## {section.title}", "", section.text, ""]
            lines += [f"**{figure.title}**\n" for figure in section.figures]
            for table in shown:
                lines += [*_markdown(table), ""]
    lines += ["## What was aimed at", "", GOALS, "", *_markdown(goals(run)), ""]
    return "\n".join(lines)


def _markdown(table: Table) -> list[str]:
    aligned = ["---" if position < table.labels else "---:" for position in range(len(table.headings))]
    return [f"| {' | '.join(row)} |" for row in (table.headings, aligned, *table.rows)]


@click.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--publish", "folder", type=click.Path(file_okay=False, path_type=Path), help="write the run to FOLDER")
def main(result: Path, folder: Path | None) -> None:
    """Write report.html and report.md beside RESULT, the JSON of pytest-benchmark, and print the summary."""
    try:
        run = read(result)
    except NotARunError as error:
        raise click.UsageError(str(error)) from None
    summary, whole = markdown(run), page(run)
    result.with_name("report.md").write_text(summary, encoding="utf-8")
    result.with_name("report.html").write_text(whole, encoding="utf-8")
    click.echo(summary)
    click.echo(f"the page: {result.with_name('report.html')}")
    if folder is not None:
        try:
            written = publish(run, whole, folder)
        except SmallRunError as error:
            raise click.UsageError(str(error)) from None
        click.echo(f"published: {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
