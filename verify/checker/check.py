"""gradcheck(): the layer, a reference, the judge, the diagnosis, the certificate."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verify.checker.arguments import layer_under_test
from verify.checker.candidates import CANDIDATES, ORACLES, Candidate
from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    ArgumentResult,
    Certificate,
    GradientMismatch,
    Inconclusive,
    Uncovered,
)
from verify.checker.judge import judge
from verify.checker.kink_search import COARSEST
from verify.checker.layer import ContractError, ForwardRaised, LayerUnderTest, NoResult, is_floating
from verify.checker.objections.randomness import why_not_repeated
from verify.checker.point import Array, StructureError
from verify.diagnosis.diagnosis import NO_DIAGNOSIS, Diagnosis, cause_of, diagnose

# Of an error in one entry the complex step sees at least a half; of several that may cancel, an eighth of the largest.
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

    forward(*arrays, **options) returns (y, cache). backward(dy, cache) returns a tuple with one gradient for each
    floating array in order (None for an array that is None). Integer arrays are handed through. `wrt` holds the
    positions of the arrays to check (default: every floating one); the others stay fixed.

    `structure` says what is known of forward: "multilinear" (affine in each array of wrt), "piecewise-linear",
    "piecewise-multilinear" (a chain of such layers that takes complex128, at arrays of integers or short dyadic
    fractions), "analytic" (takes complex128) or "smooth". "auto" tries them in this order. For the first only the
    shapes and dtypes of the arrays matter: their values are drawn.

    A forward may have a method `uncovered()`: it returns what the check left out, as `Uncovered`, once all is asked.

    Returns a Certificate. Raises GradientMismatch for FAIL and Inconclusive for INCONCLUSIVE, unless
    `raise_on_failure` is False. Raises StructureError (a ValueError) if the function does not have the structure
    declared, and TypeError or ValueError, quoting the values, for arguments that cannot be.

    Who is at fault decides the answer:

    - Arguments that cannot be are a TypeError or ValueError. What a forward raises at the caller's own arrays and
      options passes through with a note.
    - A layer that does wrong when it is called is FAIL, with a cause. GradientMismatch has the exception of a backward
      as its `__cause__`.
    - A call that goes wrong only at arrays that a reference made speaks against that reference. "auto" goes on to the
      next. A declared structure is a StructureError. "smooth" stays near the arrays given, and is INCONCLUSIVE.
    - A random forward is INCONCLUSIVE under every structure that notices it.
    """
    __tracebackhide__ = True  # pytest's tracebacks end where the caller calls
    seed = checked_settings(structure, miss_probability, seed)
    layer = layer_under_test(forward, backward, arrays, options, wrt)
    started = time.perf_counter()
    outcome = _outcome(layer, structure, seed, miss_probability)
    certificate = _certificate(layer, outcome, seed, time.perf_counter() - started)
    if raise_on_failure and certificate.verdict != PASS:
        raise (GradientMismatch if certificate.verdict == FAIL else Inconclusive)(certificate) from outcome.raised
    return certificate


def _certificate(layer: LayerUnderTest, outcome: Outcome, seed: int, seconds: float) -> Certificate:
    uncovered = _uncovered(layer)
    incomplete = outcome.verdict == PASS and any(each.matters for each in uncovered)
    exact, passed = outcome.missed is not None, outcome.verdict == PASS
    return Certificate(
        verdict=INCONCLUSIVE if incomplete else outcome.verdict,
        structure=outcome.structure,
        oracle=ORACLES[outcome.structure],
        seed=seed,
        arguments=outcome.arguments,
        miss_probability=outcome.missed if passed else None,
        detection_floor=max(outcome.floors, default=None) if passed and not exact else None,
        forward_calls=layer.calls["forward"],
        backward_calls=layer.calls["backward"],
        seconds=seconds,
        reasons=outcome.reasons,
        uncovered=uncovered,
        **outcome.diagnosis.fields(),
    )


def _uncovered(layer: LayerUnderTest) -> tuple[Uncovered, ...]:
    """The arrays that have no gradient or are fixed, and what an adapter says that it left out."""
    fixed = [Uncovered(layer.names[k], "fixed: wrt leaves it out") for k in layer.fixed]
    whole = [
        Uncovered(name, f"{array.dtype} has no gradient")
        for name, array in zip(layer.names, layer.arrays, strict=True)
        if isinstance(array, np.ndarray) and not is_floating(array)
    ]
    asked = getattr(layer.forward, "uncovered", None)
    return (*fixed, *whole, *(asked() if asked else ()))


def checked_settings(structure: str, miss_probability: float, seed: int | None) -> int:
    """The seed, drawn if none is given; ValueError for settings that cannot be."""
    if structure != "auto" and structure not in ORACLES:
        raise ValueError(f'structure must be "auto" or one of {", ".join(ORACLES)}, got {structure!r}')
    if not isinstance(miss_probability, (int, float, np.number)) or not 0 < miss_probability < 1:
        raise ValueError(f"miss_probability must lie between 0 and 1, got {miss_probability!r}")
    if seed is None:
        return secrets.randbits(32)
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a nonnegative integer, got {seed!r}")
    return int(seed)


@dataclass(frozen=True)
class Outcome:
    """What one structure's references found, or why they were not asked to the end."""

    structure: str
    verdict: str
    arguments: tuple[ArgumentResult, ...]
    diagnosis: Diagnosis = NO_DIAGNOSIS
    missed: float | None = None
    reasons: tuple[str, ...] = ()
    raised: BaseException | None = None

    @property
    def floors(self) -> list[float]:
        """The detection floors. Of entries at kinks, and of a gradient of 0, the notes say more."""
        return [each.detection_floor for each in self.arguments if (each.detection_floor or math.inf) < 1]  # type: ignore[misc]


def _outcome(layer: LayerUnderTest, structure: str, seed: int, miss_probability: float) -> Outcome:
    """The first outcome of a reference that can differentiate the forward."""
    candidates = [each for each in CANDIDATES if structure in ("auto", each.structure)]
    reasons: dict[str, str] = {}
    fallback: Outcome | None = None
    for candidate in candidates:
        last = candidate is candidates[-1]
        try:
            with np.errstate(all="ignore" if structure == "auto" and not last else None):
                outcome = _asked(candidate, layer, np.random.default_rng(seed), miss_probability)
        except (StructureError, NoResult) as error:
            problem: Exception = error
        except Exception as error:
            # A probe at integers far from the user's arrays may take our own arithmetic out of its range.
            if structure != "auto" or last:
                raise
            problem = error
        else:
            hidden = 0.0 if last or outcome.missed is not None else _undetectable_error(outcome, layer)
            if not hidden:
                outcome = replace(outcome, reasons=tuple(reasons.values()))
                return _less_doubtful(outcome, fallback) if fallback else outcome
            fallback = replace(outcome, reasons=tuple(reasons.values()))
            text = f"but rounding would hide an error of {hidden:.1g} of the largest entry"
            reasons[candidate.structure] = f"{candidate.structure}, {text}"
            continue
        if last and fallback:
            return fallback
        # What goes wrong at the arrays given as well is the layer's own fault. Elsewhere the domain may end.
        fault = layer.fault() if isinstance(problem, NoResult) or last else None
        if fault is not None or last:
            found = (
                _contract_failure(layer, candidate.structure, fault)
                if fault
                else _cannot_decide(layer, candidate.structure, problem)
            )
            return replace(found, reasons=tuple(reasons.values()))
        known = isinstance(problem, (StructureError, NoResult))
        reasons[candidate.structure] = f"not {candidate.structure}: {problem if known else repr(problem)}"
    raise AssertionError("unreachable: the last candidate returns or raises")


def _asked(candidate: Candidate, layer: LayerUnderTest, rng: np.random.Generator, miss_probability: float) -> Outcome:
    """Ask the judge, then the diagnosis."""
    references = candidate.references(miss_probability)
    try:
        found = judge(references, layer, rng)
    except NoResult:
        raise
    except ContractError as fault:
        return _contract_failure(layer, candidate.structure, fault)
    arguments = tuple(each.result for each in found.values())
    verdicts = {result.verdict for result in arguments}
    missed = [each.missed for each in references if each.missed is not None]
    outcome = Outcome(candidate.structure, PASS, arguments, missed=max(missed) if missed else None)
    if FAIL not in verdicts:
        return replace(outcome, verdict=INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS)
    return replace(outcome, verdict=FAIL, diagnosis=diagnose(found, kinks=candidate.structure == "piecewise-linear"))


def _undetectable_error(outcome: Outcome, layer: LayerUnderTest) -> float:
    """The error that could hide, if differences may do better: in float64 they find a thousandth."""
    if outcome.verdict == FAIL or layer.dtype != np.float64:
        return 0.0
    undecided = [each.detection_floor or 0.0 for each in outcome.arguments if each.verdict != PASS]
    return max((each for each in (*undecided, *outcome.floors) if each > COARSEST), default=0.0)


def _less_doubtful(outcome: Outcome, fallback: Outcome) -> Outcome:
    """The outcome, or that of a complex step that could not be sure, if differences decide nothing against it.

    At enormous steps, beside one large entry, what differences call wrong does not count if the complex step agrees.
    """
    errors = {result.position: result.error for result in fallback.arguments}
    wrong = [result for result in outcome.arguments if result.verdict == FAIL]
    contradicted = wrong and all(errors[result.position] < result.error / _SUPPORT for result in wrong)
    return fallback if outcome.verdict == INCONCLUSIVE or contradicted else outcome


def _contract_failure(layer: LayerUnderTest, structure: str, fault: ContractError) -> Outcome:
    """FAIL, for a broken contract. What a forward raised at the caller's own arrays passes through, with a note."""
    raised = fault.__cause__
    if isinstance(fault, ForwardRaised) and raised is not None:
        raised.add_note(f"gradcheck: {fault}, options {layer.options!r}")
        raise raised
    positions = layer.wrt if fault.position is None else (fault.position,)
    cause = cause_of(fault)
    arguments = _same_for_all(layer, positions, FAIL, cause.explanation)
    return Outcome(structure, FAIL, arguments, Diagnosis([cause]), raised=raised)


def _cannot_decide(layer: LayerUnderTest, structure: str, problem: Exception) -> Outcome:
    """INCONCLUSIVE where the forward is random; StructureError otherwise."""
    if layer.is_random():
        note = why_not_repeated(layer)
        return Outcome(structure, INCONCLUSIVE, _same_for_all(layer, layer.wrt, INCONCLUSIVE, note))
    if isinstance(problem, StructureError):
        raise problem
    if structure != "smooth":
        raise StructureError(f"{problem}, made for this structure") from problem.__cause__
    # Differences make no arrays of their own but such as may leave the domain.
    arguments = _same_for_all(
        layer, layer.wrt, INCONCLUSIVE, f"{problem}, but not when called again: fix its randomness"
    )
    return Outcome(structure, INCONCLUSIVE, arguments, raised=problem.__cause__)


def _same_for_all(layer: LayerUnderTest, wrt: Sequence[int], verdict: str, note: str) -> tuple[ArgumentResult, ...]:
    """One sentence that speaks for all of these arguments."""
    places = [(k, layer.names[k], layer.arrays[k].shape) for k in wrt]
    return tuple(ArgumentResult(*place, verdict, error=math.inf, note=note) for place in places)
