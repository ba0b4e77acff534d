"""The samples of PyTorch's operator database, and a check of one of them."""

from __future__ import annotations

import itertools
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

SAMPLES, ENTRIES = 3, 500
# Of an operator's samples, most are shapes and options. Small ones come early.
_LOOKED_AT = 100
Sample = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


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


def samples(operator: Any) -> Iterator[Sample]:
    """Yield function, inputs and options of the first small samples that have a gradient."""
    import torch

    torch.manual_seed(0)
    made = operator.sample_inputs("cpu", torch.float64, requires_grad=True)
    found = 0
    for sample in itertools.islice(made, _LOOKED_AT):
        inputs = (sample.input, *sample.args)
        held = list(tensors((inputs, sample.kwargs)))
        small = sum(each.numel() for each in held) <= ENTRIES
        if not small or not any(each.requires_grad and each.numel() for each in held):
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


def tensors(value: Any) -> Iterator[Any]:
    """Yield the tensors in tuples, lists and dicts."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(each)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise _Timeout after this number of seconds."""

    def stop(*_: Any) -> None:
        raise _Timeout

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def checked(sample: Sample, seconds: float, seed: int = 0) -> Outcome:
    """Check one sample."""
    from verify.adapters import torch as adapter

    try:
        with limited(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = adapter.gradcheck(*sample, seed=seed, raise_on_failure=False)
    except _Timeout:
        return Outcome("timeout", f"more than {seconds:g} s")
    except (TypeError, ValueError) as error:
        return Outcome("refused", line(error))
    except Exception as error:
        return Outcome("error", line(error))
    return Outcome(certificate.verdict, "" if certificate else _why(certificate), certificate)


def line(error: Exception) -> str:
    """Return the first line of what an exception says."""
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
