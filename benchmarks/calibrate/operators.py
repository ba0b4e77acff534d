"""Check PyTorch's operator database: `python -m benchmarks.calibrate.operators [--scale 0.1] [--operators norm]`.

The database is that of PyTorch's own tests. It needs the packages torch and expecttest. Of each operator with a
gradient, up to three samples of at most 500 entries are checked in float64. The first sample that passes is checked
again, with errors planted in one entry of one gradient.

It exits with 1 if an operator is called wrong that ALLOWED does not list, or if a planted error passes.
"""

from __future__ import annotations

import argparse
import itertools
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

SAMPLES, ENTRIES = 3, 500
# Of an operator's samples, most are shapes and options. Small ones come early.
_LOOKED_AT = 100
# Relative errors of one entry. At -1 the entry is zero.
ERRORS = (1e-6, 1e-3, -1.0)

# The operators that are called wrong, and why that is right.
ALLOWED = {
    "as_strided_scatter": "its backward is not that of overlapping strides",
    "nn.functional.max_unpool1d": "repeated indices: one of the entries is kept, and each gets its gradient",
    "nn.functional.max_unpool2d": "repeated indices: one of the entries is kept, and each gets its gradient",
    "nn.functional.max_unpool3d": "repeated indices: one of the entries is kept, and each gets its gradient",
    "normal": "its gradient is zero: the sample is taken as independent of mean and deviation",
    "nn.functional.hardsigmoid": "its backward takes 1/6 in float32",
    "native_group_norm": "it drops a term where only the mean or the deviation is used",
}


class _Timeout(BaseException):
    """A sample takes too long. No `except Exception` stops it."""


class Outcome(NamedTuple):
    """What a check of a sample says: a verdict, "refused", "error" or "timeout"; and why it is no PASS."""

    verdict: str
    reason: str = ""
    certificate: Any = None


def operators(pattern: str, scale: float) -> list[Any]:
    """Return the operators with a gradient whose name has the pattern, or an even part of them."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    known = [each for each in op_db if each.supports_autograd and each.supports_dtype(torch.float64, "cpu")]
    chosen = [each for each in known if re.search(pattern, each.formatted_name) or re.search(pattern, each.name)]
    return [each for k, each in enumerate(chosen) if int((k + 1) * scale) > int(k * scale)]


def samples(operator: Any) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
    """Yield function, inputs and options of the first small samples that have a gradient."""
    import torch

    torch.manual_seed(0)
    made = operator.sample_inputs("cpu", torch.float64, requires_grad=True)
    found = 0
    for sample in itertools.islice(made, _LOOKED_AT):
        inputs = (sample.input, *sample.args)
        tensors = list(_tensors((inputs, sample.kwargs)))
        entries = sum(each.numel() for each in tensors)
        if entries > ENTRIES or not any(each.requires_grad and each.numel() for each in tensors):
            continue
        yield _function(operator, sample), inputs, sample.kwargs
        found += 1
        if found == SAMPLES:
            return


def _function(operator: Any, sample: Any) -> Callable[..., Any]:
    """Return the operator as its own tests of gradients call it: some make their input symmetric first."""

    def function(*inputs: Any, **options: Any) -> Any:
        return sample.output_process_fn_grad(operator.gradcheck_wrapper(operator.op, *inputs, **options))

    return function


def _tensors(value: Any) -> Iterator[Any]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise _Timeout in the with block after this time."""

    def stop(*_: Any) -> None:
        raise _Timeout

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def checked(function: Any, inputs: tuple[Any, ...], options: dict[str, Any], seconds: float) -> Outcome:
    """Check one sample, seed 0."""
    from verify.adapters import torch as adapter

    try:
        with limited(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = adapter.gradcheck(function, inputs, options, seed=0, raise_on_failure=False)
    except _Timeout:
        return Outcome("timeout", f"more than {seconds:g} s")
    except (TypeError, ValueError) as error:
        return Outcome("refused", _line(error))
    except Exception as error:
        return Outcome("error", _line(error))
    return Outcome(certificate.verdict, "" if certificate else _why(certificate), certificate)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]


def _why(certificate: Any) -> str:
    """Return the worst entry, the notes and the causes in one line."""
    parts = [f"{certificate.structure}"]
    for result in certificate.arguments:
        if result.verdict != "PASS":
            worst = result.worst
            seen = f"d{result.name}{list(worst.index)} {worst.analytic!r} for {worst.numeric!r}" if worst else ""
            parts += [each for each in (seen or f"d{result.name}", result.note) if each]
    parts += [cause.code for cause in certificate.causes]
    parts += [f"not checked: {each}" for each in certificate.uncovered if each.matters]
    return "; ".join(parts)[:400]


def _changing(index: int, factor: float) -> Any:
    """Return the identity whose backward multiplies one entry of the gradient."""
    import torch

    function_class: Any = torch.autograd.Function

    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    def backward(ctx: Any, dy: Any) -> Any:
        dx = dy.clone(memory_format=torch.contiguous_format)
        dx.view(-1)[index] *= factor
        return dx

    return type("Changed", (function_class,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def planted(function: Any, which: Any, index: int, error: float) -> Callable[..., Any]:
    """Return the function with a relative error in one entry of the gradient of the tensor number `which`."""
    changed = _changing(index, 1 + error)

    def wrong(*inputs: Any, **options: Any) -> Any:
        count = itertools.count()

        def visit(value: Any) -> Any:
            import torch

            if isinstance(value, torch.Tensor):
                return changed.apply(value) if next(count) == which else value
            if isinstance(value, (tuple, list)):
                return type(value)(map(visit, value))
            return {key: visit(each) for key, each in value.items()} if isinstance(value, dict) else value

        inputs, options = visit(inputs), visit(options)
        return function(*inputs, **options)

    return wrong


def place_of_largest(function: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, int, Any] | None:
    """Return the number of a tensor, its entry with the largest gradient, and the index of this. None without one."""
    import torch

    tensors = list(_tensors((inputs, options)))
    wanted = [(k, each) for k, each in enumerate(tensors) if each.requires_grad and each.numel()]
    results = [each for each in _tensors(function(*inputs, **options)) if each.requires_grad]
    torch.manual_seed(1)
    upstream = [torch.randn_like(each) for each in results]
    gradients = torch.autograd.grad(results, [each for _, each in wanted], upstream, allow_unused=True)
    sizes = [0.0 if each is None else float(each.abs().max()) for each in gradients]
    best = int(np.argmax(sizes))
    if not sizes[best] > 0:
        return None
    index = int(gradients[best].abs().reshape(-1).argmax())
    return wanted[best][0], index, tuple(map(int, np.unravel_index(index, wanted[best][1].shape)))


def main(arguments: list[str] | None = None) -> int:
    """Check the operators, print what is found, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate.operators", description=__doc__)
    parser.add_argument("--operators", default="", metavar="PATTERN", help="a regular expression in the names")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the operators (default: 1, all of them)")
    parser.add_argument("--seconds", type=float, default=30.0, help="the time limit of a sample (default: 30)")
    parser.add_argument("--no-errors", action="store_true", help="plant no errors")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.scale <= 1:
        parser.error(f"--scale {chosen.scale}: must lie between 0 and 1")
    try:
        listed = operators(chosen.operators, chosen.scale)
    except ModuleNotFoundError as error:
        print(f"operators: skipped, needs {error.name}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    verdicts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    unexpected = 0
    for operator in listed:
        right = []
        name = operator.formatted_name
        for sample in _prepared(operator):
            outcome = checked(*sample, chosen.seconds)
            verdicts[outcome.verdict] += 1
            if outcome.verdict != "PASS":
                allowed = ALLOWED.get(operator.name) if outcome.verdict == "FAIL" else None
                unexpected += outcome.verdict == "FAIL" and allowed is None
                text = f"{outcome.verdict} {name}: {outcome.reason}"
                print(text + (f" (known: {allowed})" if allowed else ""), flush=True)
            else:
                right.append((sample, outcome.certificate))
        if right and not chosen.no_errors:
            _plant(name, *right[0], chosen.seconds, errors)
    minutes = (time.perf_counter() - started) / 60
    print(f"{len(listed)} operators, {verdicts.total()} samples, {minutes:.1f} minutes: {dict(verdicts)}")
    print(f"planted errors: {dict(errors)}")
    named, found = errors["right entry named"], errors["FAIL"]
    return int(bool(unexpected or errors["missed"] or (found and named < 0.99 * found)))


def _prepared(operator: Any) -> Iterator[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    try:
        yield from samples(operator)
    except Exception as error:  # some samples need packages or devices that are not there
        print(f"no samples of {operator.formatted_name}: {_line(error)}", flush=True)


def _plant(
    name: str, sample: tuple[Any, tuple[Any, ...], dict[str, Any]], right: Any, seconds: float, errors: Counter[str]
) -> None:
    """Plant errors in a sample that passed, and count which are found."""
    try:
        place = place_of_largest(*sample)
    except Exception as error:
        print(f"no error planted in {name}: {_line(error)}", flush=True)
        return
    if place is None:
        errors["zero gradient"] += 1
        return
    which, flat, index = place
    for size in ERRORS:
        if abs(size) <= (right.detection_floor or 0.0):
            errors["below the promise"] += 1
            continue
        outcome = checked(planted(sample[0], which, flat, size), *sample[1:], seconds)
        if outcome.verdict == "FAIL":
            worst = outcome.certificate.worst
            named = worst is not None and tuple(worst.index) == index
            errors["FAIL"] += 1
            errors["right entry named"] += named
            if not named:
                print(f"other entry named, {name}, {size:g} in {list(index)}: {outcome.reason}", flush=True)
        else:
            errors["timeout" if outcome.verdict == "timeout" else "missed"] += 1
            print(f"missed: {name}, {size:g} in {list(index)}: {outcome.verdict} {outcome.reason}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
