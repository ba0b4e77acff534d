"""gradcheck(): the layer, a reference, the judge, the diagnosis, the certificate."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from verify.checker.arguments import layer_under_test
from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    ArgumentResult,
    Cause,
    Certificate,
    GradientMismatch,
    Inconclusive,
    worst_of,
)
from verify.checker.judge import Finding, judge
from verify.checker.layer import ContractError, ForwardRaised, LayerUnderTest, NoResult
from verify.checker.objections import kinks, rounding, steps, structure
from verify.checker.point import Array, StructureError
from verify.checker.reference import Reference
from verify.checker.references import at_ties, differences, multilinear
from verify.checker.references.complex_step import ComplexStep
from verify.checker.references.differences import Differences
from verify.checker.references.exact_complex_step import ExactComplexStep
from verify.checker.references.multilinear import Multilinear
from verify.checker.references.piecewise_linear import PiecewiseLinear
from verify.diagnosis.causes import find_causes
from verify.diagnosis.reproduction import reproduce

# Structure -> the name of what checks it, strongest first: the order in which "auto" tries them.
ORACLES = {
    "multilinear": "exact integers",
    "piecewise-linear": "exact gapped integers",
    "piecewise-multilinear": "exact complex integers",
    "analytic": "complex step",
    "smooth": "extrapolated differences",
}
# Of an error in one entry the complex step sees at least a half, along a direction of entries from 1/2 to 1. Of errors
# in several, which may cancel, it sees an eighth of the largest in one of its two directions.
_SUPPORT = 8


class Candidate(NamedTuple):
    """A structure, and the references that check it. Each lists its objections in the order in which they are asked."""

    structure: str
    references: Callable[[float], tuple[Reference, ...]]


_SMOOTH = (
    steps.plateaus,
    steps.contradictory,
    kinks.too_many,
    kinks.irregular,
    steps.too_steep,
    rounding.products_round,
    rounding.ulps_at_entry,
)
CANDIDATES = (
    Candidate(
        "multilinear",
        lambda miss: (
            Multilinear(miss, (multilinear.range_not_proved, structure.not_multilinear, rounding.backward_rounds)),
        ),
    ),
    Candidate(
        "multilinear",
        lambda miss: (Multilinear(miss, (structure.not_multilinear, rounding.backward_rounds), proved=True),),
    ),
    Candidate(
        "piecewise-linear",
        lambda miss: (
            # First at the arrays given: a function of another structure shows there, before it is believed elsewhere.
            at_ties.AtTies(
                miss,
                (
                    rounding.entries_round,
                    rounding.backward_rounds,
                    kinks.y_jumps,
                    kinks.irregular_at_ties,
                    steps.insensitive,
                    structure.not_piecewise_linear,
                ),
            ),
            PiecewiseLinear(miss, (structure.not_piecewise_linear, rounding.backward_rounds)),
            Differences(_SMOOTH, only_where=at_ties.rounding_crosses_a_kink),
        ),
    ),
    Candidate(
        "piecewise-multilinear",
        lambda miss: (ExactComplexStep(miss, (steps.insensitive, kinks.many_branches, rounding.backward_rounds)),),
    ),
    Candidate(
        "analytic",
        lambda miss: (
            ComplexStep((rounding.too_close, steps.differences_agree, kinks.many_branches, rounding.ulps_along)),
        ),
    ),
    Candidate("smooth", lambda miss: (Differences(_SMOOTH),)),
)


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

    Returns a Certificate. Raises GradientMismatch for FAIL and Inconclusive for INCONCLUSIVE, unless
    `raise_on_failure` is False. Raises StructureError (a ValueError) if the function does not have the structure
    declared, and TypeError or ValueError, quoting the values, for arguments that cannot be.

    Who is at fault decides the answer:

    - Arguments that cannot be are a TypeError or ValueError. What a forward raises at the caller's own arrays and
      options passes through with a note.
    - A layer that does wrong when it is called is FAIL, with a cause. GradientMismatch has the exception of a backward
      as its `__cause__`.
    - A call that goes wrong only at arrays that a reference made speaks against that reference. "auto" goes on to the
      next, and a structure declared is a StructureError. "smooth", which stays near the arrays given, is INCONCLUSIVE.
    - A random forward is INCONCLUSIVE under every structure that notices it.
    """
    __tracebackhide__ = True  # pytest's tracebacks end where the caller calls
    seed = _checked_settings(structure, miss_probability, seed)
    layer = layer_under_test(forward, backward, arrays, options, wrt)
    started = time.perf_counter()
    outcome = _outcome(layer, structure, seed, miss_probability)
    certificate = outcome.certificate(layer, seed, time.perf_counter() - started)
    if raise_on_failure and certificate.verdict != PASS:
        raise (GradientMismatch if certificate.verdict == FAIL else Inconclusive)(certificate) from outcome.raised
    return certificate


def _checked_settings(structure: str, miss_probability: float, seed: int | None) -> int:
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
    causes: list[Cause] = field(default_factory=list)
    reproduction: str = ""
    missed: float | None = None
    reasons: tuple[str, ...] = ()
    raised: BaseException | None = None

    def certificate(self, layer: LayerUnderTest, seed: int, seconds: float) -> Certificate:
        """The certificate, with the work it took."""
        passed = self.verdict == PASS
        return Certificate(
            verdict=self.verdict,
            structure=self.structure,
            oracle=ORACLES[self.structure],
            seed=seed,
            arguments=self.arguments,
            causes=self.causes,
            miss_probability=self.missed if passed else None,
            detection_floor=max(self.floors, default=None) if passed and self.missed is None else None,
            forward_calls=layer.calls["forward"],
            backward_calls=layer.calls["backward"],
            seconds=seconds,
            reasons=self.reasons,
            reproduction=self.reproduction,
        )

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
            hidden = 0.0 if last else _undetectable_error(outcome, layer)
            if not hidden:
                return _chosen(outcome, fallback, tuple(reasons.values()))
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
        kind = "" if isinstance(problem, (StructureError, NoResult)) else f"{type(problem).__name__}: "
        reasons[candidate.structure] = f"not {candidate.structure}: {kind}{problem}"
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
    return Outcome(
        candidate.structure,
        FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS,
        arguments,
        _causes(found, kinks=candidate.structure == "piecewise-linear"),
        reproduce(found, worst_of(arguments)),
        max(missed) if missed else None,
    )


def _causes(found: Mapping[int, Finding], *, kinks: bool) -> list[Cause]:
    try:
        return find_causes(found, kinks=kinks)
    except ContractError as fault:  # it may well be why the gradient is wrong
        return [Cause(fault.code, fault.argument, str(fault))]


def _undetectable_error(outcome: Outcome, layer: LayerUnderTest) -> float:
    """The error that could hide, if differences may do better: in float64 they find a thousandth."""
    if outcome.verdict == FAIL or layer.dtype != np.float64:
        return 0.0
    undecided = [each.detection_floor or 0.0 for each in outcome.arguments if each.verdict != PASS]
    return max((each for each in (*undecided, *outcome.floors) if each > differences.COARSEST), default=0.0)


def _chosen(outcome: Outcome, fallback: Outcome | None, reasons: tuple[str, ...]) -> Outcome:
    """The outcome, or that of a complex step that could not be sure, if differences decide nothing against it.

    At enormous steps, as beside one large entry, differences may differentiate another function. What they call wrong
    does not count if the complex step saw it to be right.
    """
    if fallback is None:
        return replace(outcome, reasons=reasons)
    errors = {result.position: result.error for result in fallback.arguments}
    wrong = [result for result in outcome.arguments if result.verdict == FAIL]
    contradicted = wrong and all(errors[result.position] < result.error / _SUPPORT for result in wrong)
    return fallback if outcome.verdict == INCONCLUSIVE or contradicted else replace(outcome, reasons=reasons)


def _contract_failure(layer: LayerUnderTest, structure: str, fault: ContractError) -> Outcome:
    """FAIL, for a broken contract. What a forward raised at the caller's own arrays passes through, with a note."""
    raised = fault.__cause__
    if isinstance(fault, ForwardRaised) and raised is not None:
        raised.add_note(f"gradcheck: {fault}, options {layer.options!r}")
        raise raised
    positions = layer.wrt if fault.position is None else (fault.position,)
    cause = Cause(fault.code, fault.argument, str(fault))
    return Outcome(structure, FAIL, _same_for_all(layer, positions, FAIL, str(fault)), [cause], raised=raised)


def _cannot_decide(layer: LayerUnderTest, structure: str, problem: Exception) -> Outcome:
    """INCONCLUSIVE where the forward is random; StructureError otherwise."""
    remedy = "fix its randomness"
    if layer.is_random():
        note = f"two calls of the forward with the same arrays differ: {remedy}"
        return Outcome(structure, INCONCLUSIVE, _same_for_all(layer, layer.wrt, INCONCLUSIVE, note))
    if isinstance(problem, StructureError):
        raise problem
    if structure != "smooth":
        raise StructureError(f"{problem}, made for this structure") from problem.__cause__
    # Differences make no arrays of their own but such as may leave the domain.
    note = f"{problem}, but not when called again: {remedy}"
    arguments = _same_for_all(layer, layer.wrt, INCONCLUSIVE, note)
    return Outcome(structure, INCONCLUSIVE, arguments, raised=problem.__cause__)


def _same_for_all(
    layer: LayerUnderTest, positions: Sequence[int], verdict: str, note: str
) -> tuple[ArgumentResult, ...]:
    """One sentence that speaks for all of these arguments."""
    return tuple(
        ArgumentResult(k, layer.names[k], layer.arrays[k].shape, verdict, error=math.inf, note=note) for k in positions
    )
