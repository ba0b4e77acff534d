"""The command `python -m verify check`, for a user's own layer."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import rich_click as click
from rich.console import Console

from verify.adapters import UnknownArgument, adapt, gradcheck, has_both, prepared
from verify.battery.battery import check_layer, known
from verify.battery.report import EXPECTED_FAILURE
from verify.checker.arguments import check_call
from verify.checker.candidates import ORACLES
from verify.checker.certificate import PASS
from verify.checker.point import StructureError
from verify.command import cases, output, targets
from verify.command.cases import Case
from verify.command.listing import layers_in, pair_with
from verify.command.pages import rows_page
from verify.command.run import ERROR, Row, exit_code
from verify.command.targets import Target, TargetError
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
@click.option("--init", metavar='"3, stride=2"', help="Make the instance of a class with these arguments.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=GRADIENT",
    help="An array of the layer, and the attribute in which backward leaves its gradient; repeatable.",
)
@click.option("--fixed", multiple=True, metavar="NAME", help="An array of the layer that has no gradient; repeatable.")
@click.option("--reset", metavar="NAME", help="Call this method before each backward, such as zero_grad.")
@click.option("--forward", metavar="NAME", help="The method (or the module's function) that is the forward.")
@click.option("--backward", metavar="NAME", help="The method (or the module's function) that is the backward.")
@click.option("--checks", is_flag=True, help="Run all checks of check_layer, not only that of the gradients.")
@click.option(
    "--batch",
    type=int,
    multiple=True,
    metavar="0",
    help="With --checks: also check an empty first axis of the array at this position.",
)
@click.option(
    "--expected-failure",
    "expected",
    multiple=True,
    metavar="CHECK=REASON",
    help="With --checks: this check fails on purpose, for this reason; repeatable.",
)
@click.option("--wrt", multiple=True, metavar="NAME", help="Check only this array, by name or position; repeatable.")
@output.seed_option
@click.option(
    "--miss-probability",
    type=output.Finite(0, 1, min_open=True, max_open=True),
    default=1e-9,
    show_default=True,
    help="The largest probability that a wrong gradient passes an exact check.",
)
@click.option("--explain", is_flag=True, help="Also say why stronger structures were passed over.")
@output.json_option
@output.html_option
def check(
    target: str,
    shapes: tuple[str, ...],
    arrays: str | None,
    options: tuple[str, ...],
    dtype: str,
    wrt: tuple[str, ...],
    seed: int,
    json_path: str | None,
    html_path: str | None,
    init: str | None,
    parameters: tuple[str, ...],
    fixed: tuple[str, ...],
    reset: str | None,
    forward: str | None,
    backward: str | None,
    checks: bool,
    explain: bool,
    batch: tuple[int, ...],
    expected: tuple[str, ...],
    **settings: Any,
) -> None:
    """Check the gradients of your own layer.

    The layer is MODULE:NAME or path/to/file.py:NAME. It can be a torch.autograd.Function, a torch.nn.Module,
    a jax.custom_vjp, or a function in PyTorch or JAX. It can also be a class or an instance with forward and backward.
    MODULE:FORWARD,BACKWARD names two functions. A file without a NAME lists what in it can be checked.

    Exit codes: 0 passed, 1 a gradient is wrong, 2 usage, 3 the forward raised, 4 inconclusive, 5 nothing was checked.
    """
    output.check_writable(json_path, html_path)
    settings.update(seed=seed, wrt=[int(each) if each.isdecimal() else each for each in wrt] or None)
    request = _Request(
        target, init, forward, backward, shapes, arrays, options, dtype, checks, explain, batch, expected, settings
    )
    if (batch or expected) and not checks:
        raise click.UsageError("--batch and --expected-failure are for the battery of checks: add --checks")
    # JSON must be alone on standard output, so a layer's own output goes to standard error.
    alone = contextlib.redirect_stdout(sys.stderr) if json_path == "-" else contextlib.nullcontext()
    with alone, _progress(target), arrays_not_at_hand() if arrays is None else contextlib.nullcontext():
        try:
            settings.update(_own(parameters, fixed, reset))
            rows = _rows(request)
        except TargetError as error:
            raise click.UsageError(str(error)) from error
        # A page asks the layer again, for each entry.
        page = None if html_path is None else rows_page(f"gradcert check {target}", rows, _summary(rows))
    _report(rows, output.console(json_path))
    code = exit_code(rows)
    if html_path is not None and page is not None:
        output.write_page(html_path, page)
    output.write(json_path, {"command": "check", "target": target, "seed": seed, "exit_code": code}, rows)
    sys.exit(code)


class _Request(NamedTuple):
    """What the command line asks for. `settings` are those of verify.adapters.gradcheck."""

    target: str
    init: str | None
    forward: str | None
    backward: str | None
    shapes: tuple[str, ...]
    arrays: str | None
    options: tuple[str, ...]
    dtype: str
    checks: bool
    explain: bool
    batch: tuple[int, ...]
    expected: tuple[str, ...]
    settings: dict[str, Any]


def _own(parameters: tuple[str, ...], fixed: tuple[str, ...], reset: str | None) -> dict[str, Any]:
    """Return the settings of a layer that keeps arrays in itself, if some are given."""
    found: dict[str, Any] = {"fixed": fixed} if fixed else {}
    if reset is not None:
        found["reset"] = reset
    if parameters:
        pairs = any("=" in each for each in parameters)
        if any(each.endswith("=") for each in parameters):
            raise TargetError(f"--parameter {' '.join(parameters)} names no attribute with the gradient, as in W=dW")
        found["parameters"] = cases.named(parameters, "--parameter") if pairs else parameters
    return found


def _rows(request: _Request) -> list[Row]:
    """Return a row for each case, or for each check. An exception in the user's code is also a row."""
    row = Row(request.target, "", request.settings["structure"])
    rows: list[Row] = []
    found: Target | None = None
    try:
        found = targets.load(request.target)
        if isinstance(found.layer, ModuleType) and not has_both(found.layer) and request.forward is None:
            return [_listed(request, found.layer)]
        found = targets.made(found, request.init, request.forward, request.backward)
        for case in _cases(found, request):
            row = Row(request.target, _described(case), request.settings["structure"])
            if request.checks:
                rows += _check_all(found, case, request, row)
            else:
                _check(found, case, request.settings, row, request.explain)
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


def _listed(request: _Request, module: ModuleType) -> Row:
    """Return the row of a target without a NAME: what to write for each layer in the module."""
    entries = layers_in(module)
    if not entries:
        what = "classes with forward and backward, layers of PyTorch or JAX, or two functions such as f and f_backward"
        raise TargetError(f"{request.target} has nothing that could be checked: {what}")
    lines = [f"name what is to be checked in {request.target}:", *(each.line(request.target) for each in entries)]
    return Row(request.target, "", request.settings["structure"], verdict=NOTHING, message="\n".join(lines))


def _cases(target: Target, request: _Request) -> list[Case]:
    """Return the cases listed in the target's module, or one drawn case, each with the options of the command line."""
    given = {name: cases.literal(name, value) for name, value in cases.named(request.options, "--option").items()}
    shapes, arrays = request.shapes, request.arrays
    try:
        pair = adapt(target.layer, **{name: request.settings[name] for name in _OWN if name in request.settings})
    except (AttributeError, TypeError, ValueError) as error:
        if targets.came_to(error, target.module):
            raise
        if inspect.isfunction(target.layer) and (both := pair_with(target.module, target.layer)):
            place = request.target.rpartition(":")[0]
            raise TargetError(f"{target.layer.__name__} is one of two functions: write {place}:{both}") from error
        raise TargetError(_on_the_command_line(str(error))) from error
    if arrays is None:
        return [cases.draw(pair, cases.named(shapes, "--shape"), given, request.dtype, request.settings["seed"])]
    if shapes:
        raise TargetError(f"--shape {shapes[0]} draws arrays, --arrays {arrays} lists them: give one of the two")
    return [Case(case.inputs, {**case.options, **given}) for case in cases.listed(target, arrays)]


# Settings of a layer that keeps arrays in itself.
_OWN = ("parameters", "fixed", "reset")


def _on_the_command_line(sentence: str) -> str:
    """Return a sentence with what to write on the command line in the place of Python."""
    sentence = re.sub(r'\b(forward|backward)="(\w+)"', r"--\1 \2", sentence)
    sentence = re.sub(r"\bparameters=\{'([^']+)': '([^']+)'\}", r"--parameter \1=\2", sentence)
    names = r"\bparameters=[\[(]('[^'\])]+'(?:, '[^'\])]+')*),?[\])]"
    sentence = re.sub(
        names, lambda found: " ".join(f"--parameter {n}" for n in re.findall("'(.+?)'", found[1])), sentence
    )
    sentence = re.sub(r"\bfixed=\('([^']+)',\)", r"--fixed \1", sentence)
    return sentence.replace("give an instance:", 'give its arguments, as in --init "3, stride=2":')


def _check(target: Target, case: Case, settings: dict[str, Any], row: Row, explain: bool) -> None:
    """Check one case, and write the result to the row."""
    started = time.perf_counter()
    try:
        with _refused(target, settings["structure"]):
            call = prepared(target.layer, case.inputs, case.options, **settings)
            check_call(*call[:4])
    except ValueError as error:
        ours = not isinstance(error, TargetError) and not targets.came_to(error, target.module)
        if ours and not str(error).startswith("nothing to check"):
            raise TargetError(str(error)) from error
        if not ours:
            raise
    try:
        with _refused(target, settings["structure"], during="forward does not take this call: "):
            certificate = gradcheck(target.layer, case.inputs, case.options, raise_on_failure=False, **settings)
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


@contextlib.contextmanager
def _refused(target: Target, structure: str, during: str = "") -> Iterator[None]:
    """Turn a refusal of the call into a TargetError. What the user's own code raises passes through."""
    try:
        yield
    except UnknownArgument as error:
        raise TargetError(str(error)) from error
    except TypeError as error:
        if targets.came_to(error, target.module):
            raise
        raise TargetError(f"{during}{error}") from error
    except StructureError as error:
        raise TargetError(f"--structure {structure} does not hold: {error}") from error


def _check_all(target: Target, case: Case, request: _Request, row: Row) -> list[Row]:
    """Run all checks at one case, and return a row for each. The report is the message of the first."""
    expected = cases.named(request.expected, "--expected-failure")
    settings = {**request.settings, "batch": request.batch, "expected_failures": expected}
    with _refused(target, request.settings["structure"]):
        try:
            known(expected, "--expected-failure")
            report = check_layer(target.layer, [tuple(case)], raise_on_failure=False, **settings)
        except ValueError as error:
            if targets.came_to(error, target.module):
                raise
            raise TargetError(str(error)) from error
    rows = []
    for result in report.results:
        passed = result.verdict in (PASS, EXPECTED_FAILURE)
        rows.append(replace(row, version=result.check, oracle="-", cases=int(passed), verdict=result.verdict))
    rows[0].message = str(report)
    return rows


def _described(case: Case) -> str:
    """Return a case in one line: shapes, other inputs, and options."""
    inputs = (str(tuple(each.shape)) if hasattr(each, "shape") else repr(each) for each in case.inputs)
    return ", ".join([*inputs, *(f"{name}={value!r}" for name, value in case.options.items())])


def _report(rows: list[Row], console: Console) -> None:
    told = [row for row in rows if row.message]
    for row in told:
        if len(told) > 1:
            console.print(f"{row.layer} at {row.version}", style="bold", highlight=False, markup=False, soft_wrap=True)
        alone = row.certificate is not None or row.verdict not in (ERROR, NOTHING)
        text = _on_the_command_line(row.message if alone else f"{row.verdict}: {row.message}")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if not rows:
        console.print(f"{NOTHING}: the list of cases is empty", highlight=False)


def _summary(rows: list[Row]) -> str:
    """How many cases, or checks of the battery, have which verdict."""
    return ", ".join(f"{count} {verdict}" for verdict, count in Counter(row.verdict for row in rows).items())


@contextlib.contextmanager
def _progress(target: str) -> Iterator[None]:
    stderr = Console(stderr=True)
    if not stderr.is_terminal:
        yield
        return
    with stderr.status(f"checking {target}"):
        yield
