"""One structure after another: the outcome of the first whose references can differentiate the forward."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from verify.checker.candidates import CANDIDATES, Candidate
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS, ArgumentResult
from verify.checker.judge import Finding, judge, shown
from verify.checker.kink_search import COARSEST
from verify.checker.layer import ContractError, ForwardRaised, LayerUnderTest, NoResult, kinds
from verify.checker.objections.randomness import why_not_repeated
from verify.checker.objections.rounding import too_close, ulps_at_entry
from verify.checker.point import Array, StructureError
from verify.checker.references.widened import Widened, cancels, widened
from verify.diagnosis.diagnosis import NO_DIAGNOSIS, Diagnosis, cause_of, diagnose

# Of an error in one entry the complex step sees at least a half; of several that may cancel, an eighth of the largest.
_SUPPORT = 8
# The structures whose references draw arrays of their own: a gradient of 0 at the arrays given is none at those.
_DRAWN = ("multilinear", "piecewise-linear")
# Those whose references tolerate rounding.
_TOLERANT = ("analytic", "smooth")


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
    contract: bool = False  # whether a broken contract is all there is
    backwards: int = 0  # the calls of backward at this structure's points
    advised: bool = False  # whether differences were asked, too, as exact numbers cannot see the arrays given

    @property
    def floors(self) -> list[float]:
        """The detection floors. Of entries at kinks, and of a gradient of 0, the notes say more."""
        return [each.detection_floor for each in self.arguments if (each.detection_floor or math.inf) < 1]  # type: ignore[misc]


def outcome_of(layer: LayerUnderTest, structure: str, seed: int, miss_probability: float) -> Outcome:
    """The first outcome of a reference that can differentiate the forward.

    In float32 exact numbers come first: they tolerate nothing. Where they do not serve, the layer is checked in
    float64 at the same arrays, if it follows their dtype, and both gradients are compared.
    """
    candidates = [each for each in CANDIDATES if structure in ("auto", each.structure)]
    if layer.dtype != np.float64:
        exact = [each for each in candidates if each.structure not in _TOLERANT]
        with contextlib.suppress(StructureError):
            found = _tried(exact, layer, seed, miss_probability) if exact else None
            if found and found.verdict != INCONCLUSIVE and not found.advised:
                return found
        if len(exact) < len(candidates) and (wide := widened(layer)) is not None:
            return _compared(_tried(candidates, wide, seed, miss_probability), layer, wide, np.random.default_rng(seed))
    return _tried(candidates, layer, seed, miss_probability)


def _compared(outcome: Outcome, layer: LayerUnderTest, wide: LayerUnderTest, rng: np.random.Generator) -> Outcome:
    """The outcome in float64 for a layer in another dtype: if it passed, both gradients are compared."""
    how = "checked in float64, at the same arrays"
    if outcome.verdict != PASS:
        arguments = tuple(
            each._replace(note="; ".join(filter(None, (each.note, how if each.verdict != PASS else ""))))
            for each in outcome.arguments
        )
        return replace(outcome, arguments=arguments)
    found = judge([Widened(wide, (too_close, ulps_at_entry, cancels))], layer, rng)
    how = f"{how}; what backward gives in {layer.dtype} agrees"
    arguments = tuple(
        found[each.position].result
        if found[each.position].result.verdict != PASS
        else each._replace(
            detection_floor=found[each.position].result.detection_floor,
            note="; ".join(filter(None, (each.note, how))),
        )
        for each in outcome.arguments
    )
    return _with_causes(replace(outcome, arguments=arguments, missed=None), found)


def _tried(candidates: Sequence[Candidate], layer: LayerUnderTest, seed: int, miss_probability: float) -> Outcome:
    """The outcome of the first of these candidates that can differentiate the forward."""
    auto = len({each.structure for each in candidates}) > 1
    reasons: dict[str, str] = {}
    fallback: Outcome | None = None
    for candidate in candidates:
        last = candidate is candidates[-1]
        try:
            with np.errstate(all="ignore" if auto and not last else None):
                outcome = _asked(candidate, layer, np.random.default_rng(seed), miss_probability)
        except (StructureError, NoResult) as error:
            problem: Exception = error
        except Exception as error:
            # A probe at integers far from the user's arrays may take our own arithmetic out of its range.
            if not auto or last:
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
    references, before = candidate.references(miss_probability), layer.calls["backward"]
    try:
        found = judge(references, layer, rng)
        found |= {
            k: _at_other_arrays(candidate, layer, k, each, rng, miss_probability)
            for k, each in found.items()
            if each.blank
        }
    except NoResult:
        raise
    except ContractError as fault:
        return _contract_failure(layer, candidate.structure, fault)
    arguments = tuple(each.result for each in found.values())
    missed = [each.missed for each in references if each.missed is not None]
    advised = any(each.advised for each in references)
    backwards, miss = layer.calls["backward"] - before, max(missed) if missed else None
    outcome = Outcome(candidate.structure, PASS, arguments, missed=miss, backwards=backwards, advised=advised)
    return _with_causes(outcome, found)


def _with_causes(outcome: Outcome, found: Mapping[int, Finding]) -> Outcome:
    """The outcome with the verdict of its arguments and, of a FAIL, with the causes."""
    verdicts = {result.verdict for result in outcome.arguments}
    if FAIL not in verdicts:
        return replace(outcome, verdict=INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS)
    return replace(outcome, verdict=FAIL, diagnosis=diagnose(found, kinks=outcome.structure == "piecewise-linear"))


def _at_other_arrays(
    candidate: Candidate,
    layer: LayerUnderTest,
    k: int,
    before: Finding,
    rng: np.random.Generator,
    miss_probability: float,
) -> Finding:
    """Where the whole gradient is 0, as of x^2 at zeros, that says nothing of other arrays: there it is asked again."""
    result = before.result
    if result.verdict != PASS or not layer.arrays[k].size or candidate.structure in _DRAWN:
        return before
    other = layer.at([_moved(a, rng) if j in layer.wrt else a for j, a in enumerate(layer.arrays)], (k,))
    zero = f"d{result.name} is 0 as a whole at the arrays given"
    reason = f"{zero}, which says nothing of others: take arrays at which it is not"
    try:
        again = judge(candidate.references(miss_probability), other, rng)[k]
    except (StructureError, ContractError):
        again = Finding(result._replace(verdict=INCONCLUSIVE))
    if again.result.verdict == PASS:
        return Finding(again.result._replace(note="0 as a whole at the arrays given, and right at others"))
    if again.point and again.result.worst:
        reason = f"{zero}, and wrong at others: {shown(again.point, again.result.worst)}. Check it there"
    return Finding(result._replace(verdict=INCONCLUSIVE, detection_floor=None, note=reason))


def _moved(array: Array, rng: np.random.Generator) -> Array:
    """Other numbers of the same signs; what was 0 is so no more. Of short fractions they are short fractions again."""
    factors = rng.choice([0.5, 1.5], array.shape)
    scale = float(np.abs(array).max(initial=0.0)) or 1.0
    zeros = scale * rng.choice([-1.0, 1.0], array.shape) * factors
    return np.asarray(np.where(array == 0, zeros, factors * array)).astype(array.dtype)


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
        arrays = kinds(layer.names, layer.arrays)
        raised.add_note(f"gradcheck: forward raised this at arrays {arrays}, options {layer.options!r}")
        raise raised
    positions = layer.wrt if fault.position is None else (fault.position,)
    cause = cause_of(fault)
    arguments = _same_for_all(layer, positions, FAIL, cause.explanation)
    return Outcome(structure, FAIL, arguments, Diagnosis([cause]), raised=raised, contract=True)


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
