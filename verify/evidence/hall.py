"""Which check sees an exhibit, after how many cases, and what it names as the cause.

The checks are asked in turn, and the first that sees the bug is shown:

1. `gradients`: gradcheck at cases of the layer's strategy, as `python -m verify` asks.
2. a contract of the battery, by its name: layouts, second calls, the empty batch, one gradient alone.
3. `versions`: y and gradients of the naive and of the array version, at drawn cases and at 1,024 times their arrays.
4. `sizes`: gradcheck at the smallest size that is timed, for what wraps around or begins with a length.
5. `value`: y at the call that the exhibit worked by hand.
6. `PyTorch`: y at drawn cases, where it is installed.

A forward bug is planted in all versions alike. So 3 cannot see it, and one of 5 and 6 must.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed

from cnn_core import Implementation
from verify.battery.battery import check_layer
from verify.battery.checks import CHECKS
from verify.checker.certificate import FAIL
from verify.checker.check import gradcheck
from verify.diagnosis.causes import CauseCode
from verify.diagnosis.causes.together import likeliest
from verify.diagnosis.reproduction import arrays_not_at_hand
from verify.layers import LAYERS, Case, Layer
from verify.museum._exhibit import FORWARD, Exhibit

# A choice: the likeliest cause of the first eight failures is named. One case may be too small to tell causes apart.
_FAILURES = 8
# Far above the sums of drawn entries, and exact: exp overflows, and exponents that differ by 745 leave one of them 0.
_LARGE = 1024.0
# Values by hand have ten digits.
BY_HAND = 1e-9
_GRADIENTS = "all-gradients-together"
# From its eleventh case on Hypothesis repeats parts of earlier ones: of 100 convolutions 36 have shapes and options of
# their own, in runs of ten 85.
_RUN = 10


class Seen(NamedTuple):
    """The check that sees a bug, or "" if none does; the number of cases until then; the cause; what was said."""

    check: str
    cases: int
    cause: str = ""
    message: str = ""


class Planted(NamedTuple):
    """A version of a layer with a bug in it, and the version that others are compared with."""

    layer: Layer
    version: Implementation
    other: Implementation
    exhibit: Exhibit | None


def planted(exhibit: Exhibit, version: Implementation) -> Planted:
    """Plant the bug in one version; a forward bug in the other one too."""
    layer = LAYERS[exhibit.layer]
    other = layer.implementations[1] if version is layer.reference else layer.reference
    return Planted(layer, exhibit.mutate(version), exhibit.mutate(other) if exhibit.kind == FORWARD else other, exhibit)


def clean(layer: Layer, version: Implementation) -> Planted:
    """Return a version with no bug in it."""
    return Planted(layer, version, layer.implementations[1] if version is layer.reference else layer.reference, None)


def look(subject: Planted, examples: int, seed: int) -> Seen:
    """Ask the checks in turn. The first that sees a bug ends it."""
    cases = 0
    for check in (_gradients, _contracts, _versions, _sizes, _value, _pytorch):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of wrong layers, and PyTorch's remark on the speed of even kernels
            seen = check(subject, examples, seed)
        if seen.check:
            return seen._replace(cases=cases + seen.cases)
        cases += seen.cases
    return Seen("", cases)


def drawn(layer: Layer, examples: int, seed: int) -> Iterator[Case]:
    """Yield cases of the layer's strategy, the same for the same seed where the same modules are loaded."""
    for start in range(0, examples, _RUN):
        yield from _run(layer, min(_RUN, examples - start), seed * examples + start)


def _run(layer: Layer, examples: int, seed: int) -> list[Case]:
    found: list[Case] = []

    @hypothesis_seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=layer.cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def _gradients(subject: Planted, examples: int, seed: int) -> Seen:
    """Ask gradcheck at drawn cases. The likeliest cause of the first failures is named."""
    failures: list[list[tuple[str, str]]] = []
    first, message, count = 0, "", 0
    for count, case in enumerate(drawn(subject.layer, examples, seed), 1):
        with arrays_not_at_hand():
            found = gradcheck(
                *subject.version[1:],
                *case,
                structure=subject.layer.structure,
                seed=seed + count,
                raise_on_failure=False,
            )
        if found.verdict == FAIL:
            first, message = first or count, message or str(found)
            failures.append(
                [(cause.code, cause.explanation) for cause in found.causes] or [(CauseCode.UNKNOWN.code, "")]
            )
            if len(failures) >= _FAILURES:
                break
    if not first:
        return Seen("", count)
    named = [names for names in failures if names[0][0] != CauseCode.UNKNOWN.code]
    return Seen("gradients", first, likeliest(named or failures), message)


def _contracts(subject: Planted, examples: int, seed: int) -> Seen:
    """Ask every other check of the battery at drawn cases."""
    layer = subject.layer
    cases = [case for case in drawn(layer, examples, seed) if all(a is None or a.size for a in case.arrays)]
    batch = [k for k, axes in enumerate(layer.axes.values()) if axes.startswith("N ")]
    report = check_layer(
        (subject.version.forward, subject.version.backward),
        cases[: max(1, examples // 4)],
        structure=layer.structure,
        batch=batch,
        checks=[name for name in CHECKS if name != _GRADIENTS],
        seed=seed,
        raise_on_failure=False,
    )
    for result in report.results:
        if result.verdict == FAIL:
            return Seen(result.check, result.cases, result.codes[0] if result.codes else "", result.note)
    return Seen("", max(result.cases for result in report.results))


def _sizes(subject: Planted, examples: int, seed: int) -> Seen:
    """Ask gradcheck at the smallest size that is timed."""
    bench = min(subject.layer.bench, key=lambda each: sum(a.size for a in _drawn_for(each, seed)))
    case = Case(
        tuple(a.astype(float) if a.dtype.kind == "f" else a for a in _drawn_for(bench, seed)), dict(bench.options)
    )
    found = gradcheck(*subject.version[1:], *case, structure=subject.layer.structure, seed=seed, raise_on_failure=False)
    cause = found.causes[0].code if found.causes else ""
    return Seen("sizes", 1, cause, str(found)) if found.verdict == FAIL else Seen("", 1)


def _drawn_for(bench: Any, seed: int) -> tuple[Any, ...]:
    return tuple(bench.draw(np.random.default_rng(seed), bench.images))


def _versions(subject: Planted, examples: int, seed: int) -> Seen:
    """Compare y and gradients with another version's, at drawn cases, and where their arrays are large."""
    count = 0
    for drawn_case in drawn(subject.layer, examples, seed):
        for case in (
            drawn_case,
            _large(subject.layer, drawn_case, np.float64),
            _large(subject.layer, drawn_case, np.float32),
        ):
            count += 1
            if what := differs(subject, case, seed + count):
                cause = CauseCode.NOT_FINITE.code if "finite" in what else ""
                return Seen("versions", count, cause, what)
    return Seen("", count)


def _large(layer: Layer, case: Case, dtype: type) -> Case:
    positions = layer.with_gradient(len(case.arrays))
    made = (
        a if a is None or a.dtype.kind != "f" else np.asarray(a * _LARGE if k in positions else a).astype(dtype)
        for k, a in enumerate(case.arrays)
    )
    return Case(tuple(made), case.options)


def differs(subject: Planted, case: Case, seed: int) -> str:
    """Return which result differs by more than two right versions may; empty if none does."""
    y, cache = subject.other.forward(*case.arrays, **case.options)
    dy = np.asarray(np.random.default_rng(seed).integers(-4, 5, y.shape)).astype(y.dtype)
    right = (y, *subject.other.backward(dy, cache))
    try:
        found, cache = subject.version.forward(*case.arrays, **case.options)
        given = (found, *subject.version.backward(dy, cache))
    except Exception as error:  # a bug may raise, and that is seen too
        return f"{type(error).__name__}: {error}"
    allowed = subject.layer.allowed(subject.layer.complete(*case), y, dy, right[1:])
    for position, (one, two, most) in enumerate(zip(given, right, allowed, strict=True)):
        name = f"gradient {position - 1}" if position else "y"
        if one is None or two is None:
            if one is not two:
                return name
            continue
        equal = (one == two) | (np.isnan(one) & np.isnan(two)) if one.shape == two.shape else np.False_
        if not np.isfinite(one).all() and np.isfinite(two).all():
            return f"{name} is not finite, the other version's is"
        if one.shape != two.shape or not (equal | (np.abs(one - two) <= most)).all():
            return f"{name} is not the other version's"
    return ""


def _value(subject: Planted, examples: int, seed: int) -> Seen:
    """Compare y with that of the call that was worked by hand."""
    value = None if subject.exhibit is None else subject.exhibit.value
    if value is None:
        return Seen("", 0)
    y, _ = subject.version.forward(*value.arrays, **value.options)
    if y.shape == np.shape(value.y) and np.allclose(y, value.y, rtol=BY_HAND, atol=0):
        return Seen("", 1)
    return Seen("value", 1, "", f"y is {y.tolist()}, by hand it is {np.asarray(value.y).tolist()}")


def _pytorch(subject: Planted, examples: int, seed: int) -> Seen:
    """Compare y with PyTorch's at drawn cases, where it is installed."""
    layer = subject.layer
    if layer.torch is None or importlib.util.find_spec("torch") is None:
        return Seen("", 0)
    import torch

    count = 0
    for count, drawn_case in enumerate(drawn(layer, examples, seed), 1):
        case = layer.complete(*drawn_case)
        tensors = (None if a is None else torch.tensor(a) for a in case.arrays)
        expected = layer.torch(torch, *tensors, **case.options)
        if expected is None:
            continue
        y, _ = subject.version.forward(*case.arrays, **case.options)
        right = expected.detach().numpy()
        if y.shape != right.shape:
            return Seen("PyTorch", count, "", f"y has shape {y.shape}, PyTorch's has {right.shape}")
        naive, cache = layer.reference.forward(*case.arrays, **case.options)
        gradients = layer.reference.backward(np.zeros_like(naive), cache)
        most = layer.allowed(case, naive, np.zeros_like(naive), gradients)[0]
        if not ((y == right) | (np.isnan(y) & np.isnan(right)) | (np.abs(y - right) <= most)).all():
            return Seen("PyTorch", count, "", "y is not PyTorch's")
    return Seen("", count)
