"""The command `python -m verify check`, for a user's own layer."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich_click as click
from rich.console import Console

from verify.adapters import UnknownArgument, adapt, gradcheck
from verify.checker.arguments import check_call
from verify.checker.candidates import ORACLES
from verify.checker.point import StructureError
from verify.command import output, targets
from verify.command.run import ERROR, Row, exit_code
from verify.command.targets import Case, Target, TargetError
from verify.diagnosis.reproduction import arrays_not_at_hand

NOTHING = "NOTHING CHECKED"


@click.command()
@click.argument("target", metavar="MODULE:NAME")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=2,3,8", help="Draw an array of this shape; repeatable.")
@click.option(
    "--arrays", metavar="NAME", help="A list of (arrays, options) in the layer's module, or a function that returns it."
)
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="Pass this option to forward; repeatable."
)
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float64", show_default=True)
@click.option("--structure", type=click.Choice(["auto", *ORACLES]), default="auto", show_default=True)
@click.option("--wrt", multiple=True, metavar="NAME", help="Check only this array, by name or position; repeatable.")
@output.seed_option
@click.option(
    "--miss-probability",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-9,
    show_default=True,
    help="The largest probability that a wrong gradient passes an exact oracle.",
)
@click.option("--explain", is_flag=True, help="Also say why stronger oracles were passed over.")
@output.json_option
def check(
    target: str,
    shapes: tuple[str, ...],
    arrays: str | None,
    options: tuple[str, ...],
    dtype: str,
    wrt: tuple[str, ...],
    seed: int,
    json_path: str | None,
    explain: bool,
    **settings: Any,
) -> None:
    """Check the gradients of your own layer.

    The layer is MODULE:NAME or path/to/file.py:NAME. It can be a torch.autograd.Function, a torch.nn.Module,
    a jax.custom_vjp, or a function in PyTorch or JAX. It can also be a class or an instance with forward and backward.
    MODULE:FORWARD,BACKWARD names two functions.

    Exit codes: 0 passed, 1 a gradient is wrong, 2 usage, 3 the forward raised, 4 inconclusive, 5 nothing was checked.
    """
    output.check_writable(json_path)
    settings.update(seed=seed, wrt=[int(each) if each.isdecimal() else each for each in wrt] or None)
    # JSON must be alone on standard output, so a layer's own output goes to standard error.
    alone = contextlib.redirect_stdout(sys.stderr) if json_path == "-" else contextlib.nullcontext()
    with alone, _progress(target), arrays_not_at_hand() if arrays is None else contextlib.nullcontext():
        try:
            rows = _rows(target, lambda found: _cases(found, shapes, arrays, options, dtype, seed), settings, explain)
        except TargetError as error:
            raise click.UsageError(str(error)) from error
    _report(rows, output.console(json_path))
    code = exit_code(rows)
    output.write(json_path, {"command": "check", "target": target, "seed": seed, "exit_code": code}, rows)
    sys.exit(code)


def _rows(target: str, cases_of: Callable[[Target], list[Case]], settings: dict[str, Any], explain: bool) -> list[Row]:
    """Return a row for each case. An exception in the user's code is also a row."""
    row = Row(target, "", settings["structure"])
    rows: list[Row] = []
    found: Target | None = None
    try:
        found = targets.load(target)
        for case in cases_of(found):
            row = Row(target, _described(case), settings["structure"])
            _check(found, case, settings, row, explain)
            rows.append(row)
    except TargetError:
        raise
    # A module that calls sys.exit(0) must not count as passed.
    except (Exception, SystemExit) as error:
        row.verdict = ERROR
        module = None if found is None else found.module
        row.message = f"{type(error).__name__}: {error}\n  raised at {targets.where(error, module)}"
        rows.append(row)
    return rows


def _cases(
    target: Target, shapes: tuple[str, ...], arrays: str | None, options: tuple[str, ...], dtype: str, seed: int
) -> list[Case]:
    """Return the cases listed in the target's module, or one drawn case, each with the options of the command line."""
    given = {name: targets.literal(name, value) for name, value in targets.named(options, "--option").items()}
    try:
        pair = adapt(target.layer)
    except TypeError as error:
        raise TargetError(str(error)) from error
    if arrays is None:
        return [targets.draw(pair, targets.named(shapes, "--shape"), given, dtype, seed)]
    if shapes:
        raise TargetError(f"--shape {shapes[0]} draws arrays, --arrays {arrays} lists them: give one of the two")
    return [Case(case.inputs, {**case.options, **given}) for case in targets.listed(target, arrays)]


def _check(target: Target, case: Case, settings: dict[str, Any], row: Row, explain: bool) -> None:
    """Check one case, and write the result to the row."""
    started = time.perf_counter()
    bound, arrays, _ = adapt(target.layer).bound(case.inputs)
    try:
        check_call(*bound, arrays, case.options)
    except TypeError as error:
        raise TargetError(str(error)) from error
    try:
        certificate = gradcheck(target.layer, case.inputs, case.options, raise_on_failure=False, **settings)
    except UnknownArgument as error:
        raise TargetError(str(error)) from error
    except TypeError as error:
        if targets.came_to(error, target.module):
            raise
        raise TargetError(f"forward does not take this call: {error}") from error
    except StructureError as error:
        raise TargetError(f"--structure {settings['structure']} does not hold: {error}") from error
    except ValueError as error:
        if not str(error).startswith("nothing to check"):
            raise
        row.verdict, row.message = NOTHING, str(error)
        return
    text = certificate.explain() if explain else str(certificate)
    row.cases, row.structure, row.message = 1, certificate.structure, text
    row.add(certificate)
    if not certificate:
        row.fail(certificate, text)
    row.certificate = certificate
    row.seconds = time.perf_counter() - started


def _described(case: Case) -> str:
    """Return a case in one line: shapes, other inputs, and options."""
    inputs = (str(tuple(each.shape)) if hasattr(each, "shape") else repr(each) for each in case.inputs)
    return ", ".join([*inputs, *(f"{name}={value!r}" for name, value in case.options.items())])


def _report(rows: list[Row], console: Console) -> None:
    for row in rows:
        if len(rows) > 1:
            console.print(f"{row.layer} at {row.version}", style="bold", highlight=False, markup=False, soft_wrap=True)
        text = f"{row.verdict}: {row.message}" if row.certificate is None else row.message
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if not rows:
        console.print(f"{NOTHING}: the list of cases is empty", highlight=False)


@contextlib.contextmanager
def _progress(target: str) -> Iterator[None]:
    stderr = Console(stderr=True)
    if not stderr.is_terminal:
        yield
        return
    with stderr.status(f"checking {target}"):
        yield
