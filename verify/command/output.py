"""Shared parts of the commands of `python -m verify`: options, the console, and JSON results."""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console

from verify.checker.certificate import finite
from verify.pictures.page import needed

# The width of the table without broken words.
WIDE = 116

seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every draw.")
json_option = click.option(
    "--json", "json_path", metavar="PATH", help="Also write the results as JSON; - writes only JSON to standard output."
)


class Finite(click.FloatRange):
    """A number of a range. FloatRange lets NaN pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value} is not a finite number.", param, ctx)


html_option = click.option(
    "--html", "html_path", metavar="PATH", help="Also write a page with heat maps of the gradients, for a browser."
)


def version() -> str:
    """Return the version that is installed, or of a checkout that of its pyproject.toml."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("gradcert")


def console(json_path: str | None) -> Console:
    """Return the console for people. A file or a pipe is as wide as the table."""
    stderr = json_path == "-"
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if terminal else WIDE)


def check_writable(json_path: str | None = None, html_path: str | None = None, markdown: Path | None = None) -> None:
    """Raise a usage error before the run if the results cannot be written to these paths, or no page can be made."""
    if html_path is not None:
        try:
            needed("jinja2", "--html")
        except ModuleNotFoundError as error:
            raise click.UsageError(str(error)) from error
    paths = (("--json", None if json_path == "-" else json_path), ("--html", html_path), ("--markdown", markdown))
    for option, path in paths:
        try:
            if path is not None:
                with Path(path).open("a", encoding="utf-8"):
                    pass
        except OSError as error:
            text = f"{option} {str(path)!r} cannot be written: {error.strerror}: name a file in a folder that exists"
            raise click.UsageError(text) from error


def write_page(html_path: str, page: str) -> None:
    """Write a page, and say so on standard error."""
    Path(html_path).write_text(page, encoding="utf-8")
    click.echo(f"the page: {html_path}", err=True)


def write(json_path: str | None, about: dict[str, Any], rows: Sequence[Any]) -> None:
    """Write the rows, each by its `to_dict()`, and the facts in `about` as JSON."""
    if json_path is None:
        return
    text = json.dumps(finite({**about, "rows": [row.to_dict() for row in rows]}), indent=1)
    if json_path == "-":
        click.echo(text)
    else:
        Path(json_path).write_text(text + "\n", encoding="utf-8")
