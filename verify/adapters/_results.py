"""Each result of a function alone, beside all together.

A backward may be right when all its results are used, and wrong when one is. The upstream gradients of the others are
then None or zeros. Training uses results so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from verify.adapters._pair import Pair, check
from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Cause,
    Certificate,
    CheckError,
    GradientMismatch,
    Inconclusive,
)
from verify.checker.point import StructureError
from verify.entry import gradcheck
from verify.records import record, silently

# A choice: layers have a few results, and a check of each costs as much as that of all. Of more results, those after
# the first eight are checked alone only if their gradient is not, bit by bit, what it is when all are used.
MOST_ALONE = 8


class Answer(NamedTuple):
    """A certificate, and the exception of the layer that it tells of."""

    certificate: Certificate
    raised: BaseException | None = None

    def delivered(self, forward: Any, *, raise_on_failure: bool) -> Certificate:
        """Return the certificate of this forward, or raise it as `verify.gradcheck` does. It is recorded once."""
        __tracebackhide__ = True
        record(forward, self.certificate)
        if raise_on_failure and self.certificate.verdict != PASS:
            failed = self.certificate.verdict == FAIL
            raise (GradientMismatch if failed else Inconclusive)(self.certificate) from self.raised
        return self.certificate


def asked(
    pair: Pair,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None,
    wrt: Sequence[int] | None,
    settings: Mapping[str, Any],
) -> Answer:
    """Return what a check of the pair answers, whether it raises or not.

    What y depends on and no adapter can check matters here even if `wrt` chooses among what can be checked.
    """
    settings = {**settings, "raise_on_failure": True}
    bound, arrays, places = pair.bound(inputs, options)
    try:
        with silently():
            if wrt is None or not set(wrt) <= set(places):
                return Answer(check(pair, inputs, options, wrt=wrt, **settings))
            run = settings.pop("run", gradcheck)
            return Answer(run(*bound, arrays, options, wrt=[places.index(k) for k in wrt], **settings))
    except CheckError as error:
        return Answer(error.certificate, error.__cause__)


def one_by_one(
    ask: Callable[[int | None, int | None], Answer],
    results: Sequence[tuple[int, str]],
    agrees: Callable[[int], bool],
) -> Answer:
    """Return the worst answer of checks of all results together and of each alone.

    `ask(result, seed)` checks one result, or all for None. `results` holds the numbers and names of the results.
    `agrees(result)` says whether its gradient is the same, to the last bit, alone and beside the others.
    """
    whole = ask(None, None)
    if len(results) < 2 or _verdict(whole) == FAIL:
        return whole
    answers, worst = [whole], whole
    for place, (number, name) in enumerate(results):
        same = _agrees(agrees, number)
        if same and place >= MOST_ALONE:
            continue
        try:
            alone = ask(number, whole.certificate.seed)
        except StructureError:  # what holds for all results together need not be worth saying of one
            continue
        answers.append(alone)
        if _verdict(alone) == FAIL:
            worst = _said(alone, name)
            break
        if _verdict(alone) == INCONCLUSIVE and _verdict(worst) == PASS and not same:
            worst = _said(alone, name)
    return worst._replace(certificate=_together(worst.certificate, answers))


def agree(
    whole: Pair,
    alone: Pair,
    inputs: Sequence[Any],
    options: Mapping[str, Any],
    names: Sequence[tuple[int, str]],
    result: int,
) -> bool:
    """Whether the gradient of one result is the same alone, beside zeros, and in that of all results.

    Alone and beside zeros it must be the same to the last bit. What the result adds to the gradient of all of them
    rounds, and half the digits are enough: a check decides on what differs.
    """
    bound, arrays, _ = whole.bound(inputs)
    y, tape = bound.forward(*arrays, **options)
    single, of_single = alone.bound(inputs)[0].forward(*arrays, **options)
    start = sum(tape.sizes[: [k for k, _ in names].index(result)])
    place = slice(start, start + single.size)
    everything = np.random.default_rng(0).integers(1, 5, y.size).astype(y.dtype)
    own, others = np.zeros_like(everything), everything.copy()
    own[place], others[place] = everything[place], 0
    by_itself = alone.backward(own[place].reshape(single.shape).astype(single.dtype), of_single)
    beside, in_all, without = (whole.backward(each.reshape(y.shape), tape) for each in (own, everything, others))
    for a, b, c, d in zip(by_itself, beside, in_all, without, strict=True):
        if a is None or b is None or c is None or d is None:
            if not a is b is c is d:
                return False
            continue
        room = float(np.sqrt(np.finfo(a.dtype).eps)) * (np.abs(c).max(initial=0.0) + np.abs(d).max(initial=0.0))
        if not np.array_equal(a, b, equal_nan=True) or not (np.abs(c - d - a) <= room).all():
            return False
    return True


def _agrees(agrees: Callable[[int], bool], number: int) -> bool:
    try:
        return agrees(number)
    except Exception:  # the check of this result alone says what went wrong
        return False


def _verdict(answer: Answer) -> str:
    """Return the verdict on the gradients. What is not covered counts elsewhere."""
    verdicts = {result.verdict for result in answer.certificate.arguments}
    return next((each for each in (FAIL, INCONCLUSIVE) if each in verdicts), PASS)


def _said(answer: Answer, name: str) -> Answer:
    """Return the answer with the name of the result that it is about."""
    certificate = answer.certificate
    how = f"with {name} alone, where the upstream gradients of the others are undefined"
    arguments = tuple(
        each if each.verdict == PASS else each._replace(note="; ".join(filter(None, (how, each.note))))
        for each in certificate.arguments
    )
    causes = [Cause(each.code, each.argument, f"{each.explanation}, with {name} alone") for each in certificate.causes]
    return answer._replace(certificate=replace(certificate, arguments=arguments, causes=causes))


def _together(certificate: Certificate, answers: Sequence[Answer]) -> Certificate:
    """Return the certificate with the work of all checks, and the weakest of their promises."""
    all_of_them = [each.certificate for each in answers]
    weaker = {}
    if certificate:
        floors = [each.detection_floor for each in all_of_them if each.detection_floor is not None]
        missed = [each.miss_probability for each in all_of_them if each.miss_probability is not None]
        if certificate.detection_floor is not None:
            weaker["detection_floor"] = max(floors)
        if certificate.miss_probability is not None:
            weaker["miss_probability"] = max(missed)
    return replace(
        certificate,
        **weaker,  # type: ignore[arg-type]
        forward_calls=sum(each.forward_calls for each in all_of_them),
        backward_calls=sum(each.backward_calls for each in all_of_them),
        seconds=sum(each.seconds for each in all_of_them),
    )
