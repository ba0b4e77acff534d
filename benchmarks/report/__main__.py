"""Write the page and the Markdown summary of a run: `python -m benchmarks.report RUN.json`."""

from __future__ import annotations

from pathlib import Path

import jinja2
import rich_click as click

from benchmarks.report.answers import headlines
from benchmarks.report.collect import NotARunError, Run, read
from benchmarks.report.sections import sections
from benchmarks.report.tables import Table, digits


def page(run: Run) -> str:
    """Return the run as one HTML file that needs no other file."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html.j2")
    return template.render(run=run, headlines=headlines(run), sections=sections(run), digits=digits)


def markdown(run: Run) -> str:
    """Return the headlines and every table that the page does not fold, in Markdown."""
    lines = ["# Benchmarks", "", *(f"- {name}: {fact}" for name, fact in run.machine.items()), ""]
    for each in headlines(run):
        lines += [f"**{each.figure} {each.what}.** {each.meaning}", ""]
    for section in sections(run):
        shown = [table for name, table in section.tables.items() if not name or section.title == "Against the loops"]
        if shown:
            lines += [f"## {section.title}", "", section.text, ""]
            for table in shown:
                lines += [*_markdown(table), ""]
    return "\n".join(lines)


def _markdown(table: Table) -> list[str]:
    aligned = ["---" if position < table.labels else "---:" for position in range(len(table.headings))]
    return [f"| {' | '.join(row)} |" for row in (table.headings, aligned, *table.rows)]


@click.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(result: Path) -> None:
    """Write report.html and report.md beside RESULT, the JSON of pytest-benchmark, and print the summary."""
    try:
        run = read(result)
    except NotARunError as error:
        raise click.UsageError(str(error)) from None
    summary = markdown(run)
    result.with_name("report.md").write_text(summary, encoding="utf-8")
    result.with_name("report.html").write_text(page(run), encoding="utf-8")
    click.echo(summary)
    click.echo(f"the page: {result.with_name('report.html')}")


if __name__ == "__main__":
    main()
