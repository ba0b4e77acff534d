"""gradcheck(): the layer, a reference, the judge, the diagnosis, the certificate."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verify.checker.arguments import layer_under_test
from verify.checker.attempts import Outcome, outcome_of
from verify.checker.candidates import ORACLES
from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    ArgumentResult,
    Cause,
    Certificate,
    GradientMismatch,
    Inconclusive,
    Uncovered,
)
from verify.checker.layer import OF_ONE_GRADIENT, LayerUnderTest, is_floating
from verify.checker.objections.randomness import NOT_REPEATED, not_repeated
from verify.checker.point import Array, StructureError
from verify.diagnosis.curve import curves
from verify.diagnosis.diagnosis import NO_DIAGNOSIS
from verify.diagnosis.gradients import after_a_pass
from verify.diagnosis.later import Later


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

    `structure` says what is known of forward. "auto" tries them in this order:

    - "multilinear": affine in each array of wrt. Arrays are drawn; in one draw the zeros and ties of those given stay.
    - "piecewise-linear": affine between kinks. A FAIL holds at arrays with the signs and the order of those given.
    - "piecewise-multilinear": a chain of such layers that takes complex128, at integers or short dyadic fractions.
    - "analytic" (takes complex128) and "smooth" are checked at the arrays given: in float32, through float64.

    A forward may have a method `uncovered()`: it returns what the check left out, as `Uncovered`, once all is asked.

    Returns a Certificate. Raises GradientMismatch for FAIL and Inconclusive for INCONCLUSIVE, unless
    `raise_on_failure` is False. Raises StructureError, a ValueError, if the function lacks the structure declared.
    Who is at fault decides the answer:

    - Arguments that cannot be are a TypeError or ValueError. What a forward raises at the caller's own arrays and
      options passes through with a note.
    - A layer that does wrong when it is called is FAIL, with a cause. GradientMismatch has the exception of a backward
      as its `__cause__`.
    - A call that goes wrong only at arrays that a reference made speaks against that reference. "auto" goes on to the
      next. A declared structure is a StructureError. "smooth" stays near the arrays given: there it is INCONCLUSIVE.
    - A random forward is INCONCLUSIVE under every structure that notices it.
    """
    __tracebackhide__ = True  # pytest's tracebacks end where the caller calls
    seed = checked_settings(structure, miss_probability, seed)
    layer = layer_under_test(forward, backward, arrays, options, wrt)
    started = time.perf_counter()
    outcome = _judged(layer, structure, seed, miss_probability)
    certificate = _certificate(layer, outcome, seed, time.perf_counter() - started)
    if raise_on_failure and certificate.verdict != PASS:
        raise (GradientMismatch if certificate.verdict == FAIL else Inconclusive)(certificate) from outcome.raised
    return certificate


def _certificate(layer: LayerUnderTest, outcome: Outcome, seed: int, seconds: float) -> Certificate:
    uncovered = _uncovered(layer)
    incomplete = outcome.verdict == PASS and any(each.matters for each in uncovered)
    exact, passed = outcome.missed is not None, outcome.verdict == PASS
    draw = functools.partial(curves, layer) if outcome.structure == "smooth" else None
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
        later=Later(after_a_pass(layer) if passed else outcome.diagnosis.compare, draw),
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
    empty = Uncovered("y", "it has no entries at these shapes: any gradient of zeros is right")
    is_empty = 0 in next(iter(layer.y_shapes.values()), ()) and any(layer.arrays[k].size for k in layer.wrt)
    asked = getattr(layer.forward, "uncovered", None)
    return (*fixed, *whole, *[empty] * is_empty, *(asked() if asked else ()))


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


def _judged(layer: LayerUnderTest, structure: str, seed: int, miss_probability: float) -> Outcome:
    """The outcome for all arguments. One whose gradient breaks the contract is FAIL, and the others are judged."""
    broken: list[Outcome] = []
    wrt = layer.wrt
    while True:
        try:
            outcome = outcome_of(layer, structure, seed, miss_probability)
        except StructureError:
            if not broken:
                raise
            outcome = broken.pop()  # the others cannot be judged under the structure declared
            break
        of_one = outcome.contract and outcome.diagnosis.causes[0].code in OF_ONE_GRADIENT
        if not of_one or len(outcome.arguments) > 1 or len(layer.wrt) == 1:  # of several: nobody knows whose it is
            break
        broken.append(outcome)
        layer = layer.without(outcome.arguments[0].position)
    outcome = _repeatable(outcome, layer, np.random.default_rng(seed))
    found = tuple(
        each._replace(note="; ".join(filter(None, (each.note, layer.notes.get(each.position)))))
        for each in sorted(
            (*outcome.arguments, *(each.arguments[0] for each in broken)), key=lambda result: wrt.index(result.position)
        )
    )
    causes = [cause for each in (*broken, outcome) for cause in each.diagnosis.causes]
    if None in layer.notes:
        causes.append(Cause("input-overwritten", "dy", layer.notes[None]))
    verdict = FAIL if broken or None in layer.notes else outcome.verdict
    raised = next((each.raised for each in broken if each.raised), outcome.raised)
    diagnosis = outcome.diagnosis._replace(causes=causes)
    return replace(outcome, verdict=verdict, arguments=found, diagnosis=diagnosis, raised=raised)


def _repeatable(outcome: Outcome, layer: LayerUnderTest, rng: np.random.Generator) -> Outcome:
    """The outcome; FAIL if backward, asked again with nothing changed, gives another gradient."""
    if outcome.contract or not layer.wrt or "random" in {cause.code for cause in outcome.diagnosis.causes}:
        return outcome
    exact = outcome.verdict == PASS and outcome.missed is not None
    found = not_repeated(layer, rng, outcome.backwards if exact else 0)
    if isinstance(found, str):
        arguments = tuple(
            ArgumentResult(each.position, each.name, each.shape, INCONCLUSIVE, error=each.error, note=found)
            for each in outcome.arguments
        )
        return replace(outcome, verdict=INCONCLUSIVE, arguments=arguments, diagnosis=NO_DIAGNOSIS)
    if found is None or not {"accumulates", "stale-cache", "cache-overwritten"}.isdisjoint(
        cause.code for cause in outcome.diagnosis.causes
    ):
        return outcome
    arguments = tuple(
        each._replace(verdict=FAIL, worst=found, error=abs(found.analytic - found.numeric), note=NOT_REPEATED)
        if each.position == found.argument and each.verdict != FAIL
        else each
        for each in outcome.arguments
    )
    name = layer.names[found.argument]
    text = f"d{name} is another when backward is called again at the same arrays and dy"
    others = [cause for cause in outcome.diagnosis.causes if cause.code not in ("unknown", "not-linear")]
    causes = [Cause("random", name, text), *others]
    return replace(outcome, verdict=FAIL, arguments=arguments, diagnosis=outcome.diagnosis._replace(causes=causes))
