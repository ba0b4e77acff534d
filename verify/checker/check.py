"""Check a gradient: exactly where arithmetic is exact, within derived tolerances elsewhere.

This package needs NumPy alone, and knows nothing of cnn_core.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    ArgumentResult,
    Cause,
    Certificate,
    CheckError,
    GradientMismatch,
    Inconclusive,
    StructureError,
    Worst,
    worst_of,
)
from verify.checker.exact_numbers import Array
from verify.checker.layer import ContractError, ForwardRaised, LayerUnderTest, NoResult
from verify.checker.point import Findings
from verify.checker.references.at_ties import check_at_kinks
from verify.checker.references.complex_step import check_analytic
from verify.checker.references.differences import COARSEST_USEFUL, check_smooth
from verify.checker.references.exact_complex_step import check_branches
from verify.checker.references.multilinear import check_multilinear
from verify.checker.references.piecewise_linear import check_between_kinks
from verify.diagnosis.causes import find_causes
from verify.diagnosis.reproduction import reproduce

__all__ = [
    "ORACLES",
    "ArgumentResult",
    "Cause",
    "Certificate",
    "CheckError",
    "GradientMismatch",
    "Inconclusive",
    "StructureError",
    "Worst",
    "gradcheck",
]

# Structure -> the oracle that checks it, strongest first: the order in which "auto" tries them.
ORACLES = {
    "multilinear": "exact integers",
    "piecewise-linear": "exact gapped integers",
    "piecewise-multilinear": "exact complex integers",
    "analytic": "complex step",
    "smooth": "extrapolated differences",
}
# Of an error in one entry the complex step sees a half at least, along a direction of entries from 1/2 to 1; of errors
# in several, which may cancel, an eighth of the largest in one of its two directions.
_SUPPORT = 8


def gradcheck(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Sequence[Array | None]],
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    structure: str = "auto",
    wrt: Sequence[int] | None = None,
    seed: int | None = None,
    miss_probability: float = 1e-9,
    raise_on_failure: bool = True,
) -> Certificate:
    """Check that `backward` is the transposed derivative of `forward`, argument by argument.

    forward(*arrays, **options) returns (y, cache); backward(dy, cache) returns a tuple with one
    gradient for each floating array in order (None for an array that is None). Integer arrays
    are handed through. `wrt` holds the positions of the arrays to check (default: every floating
    one); the others are held as they are.

    `structure` says what is known of forward: "multilinear" (affine in each array of wrt),
    "piecewise-linear", "piecewise-multilinear" (a chain of such layers that takes complex128, at arrays
    of integers or short dyadic fractions), "analytic" (takes complex128) or "smooth"; "auto" tries them
    in this order. For the first only the shapes and dtypes of the arrays matter, their values are drawn.

    Returns a Certificate. Raises GradientMismatch for FAIL and Inconclusive for INCONCLUSIVE, unless
    `raise_on_failure` is False; StructureError (a ValueError) if the structure declared does not
    hold; TypeError or ValueError, quoting the values, for arguments that cannot be.

    Who is at fault decides the answer. What the caller hands over that cannot be is a TypeError or
    ValueError, and what a forward raises at the caller's own arrays and options, where it refuses the
    call, passes through with a note. What the layer does wrong when it is called is FAIL, with a cause,
    and GradientMismatch has a backward's exception as its `__cause__`. What goes wrong only at arrays
    that an oracle made speaks against that oracle, not against the layer: "auto" goes on to the next, a
    structure declared is a StructureError, and "smooth", which stays near the arrays given, is
    INCONCLUSIVE. So is a random forward under every structure that notices; it says so.
    """
    __tracebackhide__ = True  # pytest's tracebacks end where the caller calls
    if structure != "auto" and structure not in ORACLES:
        raise ValueError(f'structure must be "auto" or one of {", ".join(ORACLES)}, got {structure!r}')
    if not isinstance(miss_probability, (int, float, np.number)) or not 0 < miss_probability < 1:
        raise ValueError(f"miss_probability must lie between 0 and 1, got {miss_probability!r}")
    if seed is None:
        seed = secrets.randbits(32)
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a nonnegative integer, got {seed!r}")
    subject = LayerUnderTest(forward, backward, arrays, options, wrt)
    started = time.perf_counter()
    found, raised = _run(subject, structure, seed, miss_probability)
    certificate = Certificate(
        seed=seed,
        forward_calls=subject.calls["forward"],
        backward_calls=subject.calls["backward"],
        seconds=time.perf_counter() - started,
        **found,
    )
    if raise_on_failure and certificate.verdict != PASS:
        raise (GradientMismatch if certificate.verdict == FAIL else Inconclusive)(certificate) from raised
    return certificate


def _run(
    subject: LayerUnderTest, structure: str, seed: int, miss_probability: float
) -> tuple[dict[str, Any], BaseException | None]:
    """The fields of the certificate that the oracle decides, and the exception that led to them, if one did."""
    candidates = list(ORACLES) if structure == "auto" else [structure]
    reasons: list[str] = []
    weak: dict[str, Any] | None = None
    for candidate in candidates:
        probing = structure == "auto" and candidate != candidates[-1]
        problem: Exception
        try:
            with np.errstate(all="ignore" if probing else None):
                found = _apply(subject, candidate, np.random.default_rng(seed), miss_probability)
                hidden = _hidden(subject, found) if probing else 0.0
                if hidden:
                    weak = {**found, "reasons": tuple(reasons)}
                    reasons.append(
                        f"{candidate}, but rounding would hide an error of {hidden:.1g} of the largest entry"
                    )
                    continue
                if weak and (found["verdict"] == INCONCLUSIVE or _contradicts(weak, found)):
                    return weak, None
                return {**found, "reasons": tuple(reasons)}, None
        except (StructureError, NoResult) as error:
            problem = error
        except Exception as error:
            # A probe at integers far from the user's arrays may take our own arithmetic out of its range.
            if not probing:
                raise
            problem = error
        if weak and not probing:
            return weak, None
        # What goes wrong at the arrays given, too, is the layer's own; elsewhere it may be the domain's edge.
        own = subject.fault() if isinstance(problem, NoResult) or not probing else None
        if own is not None or not probing:
            found, raised = _convicted(subject, candidate, own) if own else _excused(subject, candidate, problem)
            return {**found, "reasons": tuple(reasons)}, raised
        kind = "" if isinstance(problem, (StructureError, NoResult)) else f"{type(problem).__name__}: "
        reasons.append(f"not {candidate}: {kind}{problem}")
    raise AssertionError("unreachable: the last candidate returns or raises")


def _hidden(subject: LayerUnderTest, found: dict[str, Any]) -> float:
    """The error that could hide, if so large that differences may do better: they tell a thousandth, in float64."""
    if found["verdict"] == FAIL or subject.dtype != np.float64:
        return 0.0
    floors = [result.detection_floor or 0.0 for result in found["arguments"] if result.verdict != PASS]
    return max([0.0, *(each for each in (*floors, *_floors(found["arguments"])) if each > COARSEST_USEFUL)])


def _contradicts(weak: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether differences call nothing wrong but what the complex step saw to be right, though it could not be sure.

    At enormous steps, as beside one large entry, they may differentiate another function.
    """
    seen = {result.position: result.error for result in weak["arguments"]}
    wrong = [result for result in found["arguments"] if result.verdict == FAIL]
    return bool(wrong) and all(seen[result.position] < result.error / _SUPPORT for result in wrong)


def _convicted(
    subject: LayerUnderTest, structure: str, fault: ContractError
) -> tuple[dict[str, Any], BaseException | None]:
    """FAIL, for a contract broken; what a forward raised at the caller's own arrays passes through, with a note."""
    raised = fault.__cause__
    if isinstance(fault, ForwardRaised) and raised is not None:
        raised.add_note(f"gradcheck: {fault}, options {subject.options!r}")
        raise raised
    return _blamed(
        subject, structure, FAIL, subject.wrt if fault.position is None else (fault.position,), fault
    ), raised


def _excused(
    subject: LayerUnderTest, structure: str, problem: Exception
) -> tuple[dict[str, Any], BaseException | None]:
    """INCONCLUSIVE where the forward is random; else StructureError."""
    random = "fix its randomness"
    if subject.is_random():
        return _blamed(
            subject,
            structure,
            INCONCLUSIVE,
            subject.wrt,
            f"two calls of the forward with the same arrays differ: {random}",
        ), None
    if isinstance(problem, StructureError):
        raise problem
    if structure != "smooth":
        raise StructureError(f"{problem}, made for this structure") from problem.__cause__
    # It makes no arrays of its own but such as it expects to leave the domain.
    note = f"{problem}, but not when called again: {random}"
    return _blamed(subject, structure, INCONCLUSIVE, subject.wrt, note), problem.__cause__


def _apply(
    subject: LayerUnderTest, structure: str, generator: np.random.Generator, miss_probability: float
) -> dict[str, Any]:
    missed: float | None = None
    findings = Findings(subject)
    found = {"structure": structure, "oracle": ORACLES[structure]}
    try:
        if structure == "multilinear":
            if findings.undecided():
                missed = check_multilinear(findings, generator, miss_probability)
        elif structure == "piecewise-linear":
            # First at the arrays given: what is no such function shows there, before it is believed far away.
            missed = check_at_kinks(findings, generator, miss_probability)
            missed = max(missed, check_between_kinks(findings, generator, miss_probability))
        elif structure == "piecewise-multilinear":
            missed = check_branches(findings, generator, miss_probability)
        elif structure == "analytic":
            check_analytic(findings, generator)
        else:
            check_smooth(findings, generator)
        if not subject.calls["backward"]:  # nothing has entries
            y, cache = subject.value_and_cache(subject.arrays)
            subject.pull_back(subject.arrays, np.ones_like(y), cache)
    except NoResult:
        raise
    except ContractError as fault:
        return _convicted(subject, structure, fault)[0]
    arguments = tuple(findings.results.values())
    verdicts = {result.verdict for result in arguments}
    verdict = FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS
    return {
        **found,
        "verdict": verdict,
        "arguments": arguments,
        "causes": _causes(findings, kinks=structure == "piecewise-linear"),
        "reproduction": reproduce(findings, worst_of(arguments)),
        "miss_probability": missed if verdict == PASS else None,
        "detection_floor": max(_floors(arguments), default=None) if missed is None and verdict == PASS else None,
    }


def _causes(findings: Findings, *, kinks: bool) -> list[Cause]:
    try:
        return find_causes(findings, kinks=kinks)
    except ContractError as fault:  # of a gradient that is wrong, it may well be why
        return [fault.cause]


def _blamed(
    subject: LayerUnderTest, structure: str, verdict: str, positions: Sequence[int], why: ContractError | str
) -> dict[str, Any]:
    """The fields of a certificate in which one sentence speaks for these arguments."""
    arguments = tuple(
        ArgumentResult(k, subject.names[k], subject.arrays[k].shape, verdict, error=math.inf, note=str(why))
        for k in positions
    )
    causes = [why.cause] if isinstance(why, ContractError) else []
    found = {"structure": structure, "oracle": ORACLES[structure]}
    return {**found, "verdict": verdict, "arguments": arguments, "causes": causes}


def _floors(arguments: Sequence[ArgumentResult]) -> list[float]:
    """Those that say something: of entries at kinks, or of a gradient that is 0, the notes do."""
    return [floor for result in arguments if (floor := result.detection_floor) is not None and floor < 1]
