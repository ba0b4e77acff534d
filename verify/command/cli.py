"""The command line: `python -m verify [run]` and `layers`. The other commands are in files of their own."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.table import Table

from cnn_core.data import Dataset, load_digits, load_idx
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS
from verify.command import jobs, output
from verify.command.campaign import campaign
from verify.command.check import check
from verify.command.executors import jobs_option
from verify.command.jobs import NETWORK
from verify.command.museum import museum
from verify.command.output import html_option, json_option, seed_option
from verify.command.pages import miss, rows_page
from verify.command.run import ERROR, Row, exit_code
from verify.command.sweep import sweep
from verify.layers import LAYERS, markdown_page
from verify.profiles import EXAMPLES

_VERSIONS = ("naive", "im2col", "vectorized", "blocked", "fast")
_MISS = "miss, for each case: the probability that a wrong gradient passes"
_LEGEND = f"{_MISS}; with <, the largest relative error that may pass"
_COLOURS = {PASS: "green", FAIL: "bold red", INCONCLUSIVE: "yellow", ERROR: "bold red"}

_examples = click.option(
    "--examples", type=click.IntRange(1), default=EXAMPLES["ci"], show_default=True, help="Cases for each version."
)


class _Group(click.RichGroup):
    """A group whose exit code for Ctrl-C is 130, as in a shell, and not one of the documented codes."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command. For a layer in its place the error says what to write."""
        if ":" in args[0] or args[0].endswith(".py"):
            ctx.fail(f"{args[0]} is no command: to check your own layer, write `check {args[0]}`")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted: no verdict", err=True)
            ctx.exit(130)


class _Run(click.RichCommand):
    """The command `run`, which names the command `check` to whoever gives its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if any(error.option_name in each.opts for each in check.params):
                ctx.fail(f"{error.option_name} is an option of `check`: write `check path/to/file.py:NAME` before it")
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(output.version(), message="gradcert %(version)s")
def cli() -> None:
    """Verify that gradients are right, and state the errors that a check would miss.

    The default command is `run`. Exit codes: 0 all passed, 1 a gradient is wrong, 2 usage, 3 the run
    itself broke, 4 inconclusive, 5 nothing was checked, 130 interrupted.
    """


@cli.command(cls=_Run)
@click.option(
    "--layer", "layers", multiple=True, type=click.Choice([*LAYERS, NETWORK]), help="Run only this layer; repeatable."
)
@click.option(
    "--implementation",
    "implementations",
    multiple=True,
    type=click.Choice(_VERSIONS),
    help="Run only this version; `fast` is the fast version of each layer; repeatable.",
)
@_examples
@seed_option
@click.option(
    "--data", metavar="FOLDER", help="IDX files (as of MNIST) for the network (default: scikit-learn's digits)."
)
@jobs_option
@json_option
@html_option
def run(
    layers: tuple[str, ...],
    implementations: tuple[str, ...],
    examples: int,
    seed: int,
    data: str | None,
    processes: int,
    json_path: str | None,
    html_path: str | None,
) -> None:
    """Verify all versions of every layer, and the digit network on real images."""
    chosen = bool(layers)
    layers = tuple(dict.fromkeys(layers)) or (*LAYERS, NETWORK)
    if data is not None and NETWORK not in layers:
        raise click.UsageError(f"--data {data} is for the network, which --layer excludes: add --layer {NETWORK}")
    dataset = _load(data) if NETWORK in layers else None
    output.check_writable(json_path, html_path)
    console = output.console(json_path)
    console.print(f"gradcert: {examples} cases for each version, seed {seed}", highlight=False)
    started = time.perf_counter()
    for name in layers if chosen else ():
        if not jobs.wanted(name, implementations):
            text = f"{name} has no {' or '.join(implementations)}, but {', '.join(jobs.versions_of(name))}"
            console.print(text, highlight=False)
    rows = list(jobs.rows(jobs.jobs(layers, implementations, examples, seed, dataset), processes))
    seconds = time.perf_counter() - started
    _report(rows, console, seconds)
    code = exit_code(rows)
    if html_path is not None:
        facts = f"{examples} cases for each version, seed {seed}.", _LEGEND[:1].upper() + _LEGEND[1:] + "."
        page = rows_page("gradcert: every layer", rows, f"{_summary(rows)} in {seconds:.0f} s", facts)
        output.write_page(html_path, page)
    output.write(json_path, {"command": "run", "seed": seed, "examples": examples, "exit_code": code}, rows)
    sys.exit(code)


cli.add_command(campaign)
cli.add_command(check)
cli.add_command(museum)
cli.add_command(sweep)


@cli.command()
def layers() -> None:
    """Print the table of layers, in Markdown: docs/layers.md."""
    click.echo(markdown_page(), nl=False)


def main() -> None:
    """Run the command line. Without a command, it is `run`."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["run", *arguments]
    cli.main(arguments, prog_name="gradcert" if Path(sys.argv[0]).stem == "gradcert" else "python -m verify")


def _report(rows: list[Row], console: Console, seconds: float) -> None:
    if not rows:
        console.print("nothing was checked")
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for title in ("layer", "version", "structure", "oracle"):
        table.add_column(title, no_wrap=title in ("layer", "version"))
    for title in ("cases", "miss", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        colour = _COLOURS[row.verdict]
        table.add_row(
            row.layer,
            row.version,
            _wrapped(row.structure, console),
            _wrapped(row.oracle, console),
            str(row.cases),
            miss(row),
            f"{row.seconds:.1f} s",
            f"[{colour}]{row.verdict}[/]",
        )
    console.print(table)
    console.print(
        _LEGEND,
        style="dim",
        highlight=False,
    )
    for row in rows:
        if row.message:
            console.print(f"\n{row.layer}, {row.version}", style="bold", highlight=False)
            console.print(row.message, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\n{_summary(rows)} in {seconds:.0f} s", highlight=False)


def _wrapped(text: str, console: Console) -> str:
    """Return the text, broken at blanks and hyphens if the terminal is too narrow."""
    return text if console.width >= output.WIDE else "\n".join(textwrap.wrap(text, 11))


def _summary(rows: list[Row]) -> str:
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in _COLOURS}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing was checked"


def _load(folder: str | None) -> Dataset:
    try:
        return load_digits() if folder is None else load_idx(folder)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise click.UsageError(str(error)) from error
