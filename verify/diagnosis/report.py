"""The text of a certificate: what, why, where, what was checked, what was not, and how to see it.

The first line begins with the verdict and a colon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from verify.diagnosis.wrong_entries import drawing

if TYPE_CHECKING:
    from verify.checker.certificate import ArgumentResult, Cause, Certificate, Shown

# Causes that were seen, and not inferred from numbers.
FACTS = (
    "raised",
    "wrong-shape",
    "wrong-dtype",
    "gradient-count",
    "no-gradient",
    "input-overwritten",
    "forward-result",
    "not-finite",
)
# Causes that show when a call is made again. One call alone may give the right numbers.
REPEATS = ("accumulates", "cache-overwritten", "stale-cache")
# A choice: more names make a line unreadable.
_MOST_NAMES = 8
# Numbers of a first line have six digits, or as many more as it takes to tell them apart.
_DIGITS, _MOST_DIGITS = 6, 17
# The difference of two numbers as printed is theirs to this share.
_SHARE = 0.1


def headline(certificate: Certificate) -> str:
    """The first line: the verdict, what it is about, and the numbers."""
    what = {"PASS": _passed, "FAIL": _failed}.get(certificate.verdict, _undecided)(certificate)
    return f"{certificate.verdict}: {' '.join(what.split())}"


def report(certificate: Certificate, *, timed: bool, explained: bool) -> str:
    """All lines."""
    first = headline(certificate)
    lines = [first, *causes_of(certificate, first), *_together(certificate)]
    for name, wrong in certificate.wrong_entries.items():
        if wrong is not None:
            lines += [f"  {line}" for line in drawing(f"d{name}", wrong)]
    lines += [line for result in certificate.arguments if (line := _sentence(certificate, result, first))]
    lines += [f"  not checked: {each.name if each.why in first else each}" for each in certificate.uncovered]
    if certificate.reproduction:
        where = f", {certificate.shown[0].where}" if certificate.shown else ""
        lines.append(f"  to reproduce{where}:")
        lines += [f"    {line}" for line in certificate.reproduction.splitlines()]
    lines.append(_how(certificate, timed=timed))
    if explained:
        lines += [f"  {reason}" for reason in certificate.reasons]
        lines += [] if certificate.reasons else ["  no stronger oracle was passed over"]
    return "\n".join(lines)


def several(names: Sequence[str], last: str = " and ") -> str:
    """The names in one phrase: "dx, dw and db"."""
    if len(names) > _MOST_NAMES:
        return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} others"
    return last.join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "nothing"


def differing(one: float, other: float) -> tuple[str, str]:
    """Two numbers in as few digits as tell them apart."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return repr(one), repr(other)
    for digits in range(_DIGITS, _MOST_DIGITS):
        shown = [float(f"{value:.{digits}g}") + 0.0 for value in (one, other)]  # no -0.0
        if abs((shown[0] - shown[1]) - (one - other)) <= _SHARE * abs(one - other):
            return _number(shown[0], digits), _number(shown[1], digits)
    return repr(one), repr(other)


def _number(value: float, digits: int) -> str:
    """A number that has these digits; a large one by its power of ten, and 0 without a sign."""
    return repr(value + 0.0) if abs(value) < 10**digits else f"{value:.{digits}g}"


def _passed(certificate: Certificate) -> str:
    names = several([f"d{result.name}" for result in certificate.arguments], ", ")
    return f"{names} ({certificate.oracle}: {promise(certificate)})"


def promise(certificate: Certificate) -> str:
    """What a PASS would have caught."""
    if not any(math.prod(result.shape) for result in certificate.arguments):
        return "no entries to compare; the call and the shapes of what it returns were checked"
    if certificate.miss_probability is not None:
        return f"a wrong gradient passes with probability at most {certificate.miss_probability:.1e}"
    if certificate.detection_floor is None:
        return "what is caught is said below"
    return f"an error above {certificate.detection_floor:.1e} of a gradient's largest entry is caught"


def _failed(certificate: Certificate) -> str:
    """What is wrong: first the gradient that the lines show, then the others."""
    wrong = [result for result in certificate.arguments if result.verdict == "FAIL"]
    compared = [result for result in wrong if result.worst is not None]
    facts = [cause.explanation for cause in certificate.causes if cause.code in FACTS]
    if not compared:
        return "; ".join(dict.fromkeys(facts or [result.note for result in wrong]))
    worst = certificate.shown[0].argument if certificate.shown else certificate.worst.argument  # type: ignore[union-attr]
    first = next(result for result in compared if result.position == worst)
    text = _wrong(certificate, first)
    if _only_repeats(certificate):
        text = certificate.causes[0].explanation
    others = [f"d{result.name}" for result in compared if result is not first]
    if others:
        text += f"; {several(others)} {'is' if len(others) == 1 else 'are'} wrong as well"
    for note in dict.fromkeys(result.note for result in wrong if result.worst is None):
        text += f"; {note}"
    return text


def _only_repeats(certificate: Certificate) -> bool:
    """Whether the numbers are of calls that were repeated: of no call that the reader could make."""
    return not certificate.shown and bool(certificate.causes) and certificate.causes[0].code in REPEATS


def _wrong(certificate: Certificate, result: ArgumentResult) -> str:
    """How many entries of a gradient are wrong, if that is known, and one of them by its numbers."""
    name, wrong = f"d{result.name}", certificate.wrong_entries.get(result.name)
    text = f"{name} is wrong"
    if wrong is not None and (looked_at := int(np.ma.count(wrong))) > min(1, wrong.size - 1):
        entries = f"{wrong.size} entr{'y' if wrong.size == 1 else 'ies'}"
        of = entries if looked_at == wrong.size else f"the {looked_at} entries looked at"
        text += f" in {int(np.ma.filled(wrong, False).sum())} of {of}"
    return f"{text}{_numbers(certificate, result) or f': {result.note}'}"


def _numbers(certificate: Certificate, result: ArgumentResult) -> str:
    """One wrong entry, or several together: what they are and should be. Empty where that is not known."""
    name, worst = f"d{result.name}", result.worst
    for shown in certificate.shown:
        if shown.argument == result.position:
            return f"; {_shown(name, shown)}"
    if worst is None or _only_repeats(certificate):
        return ""
    if worst.analytic == worst.numeric or abs(worst.analytic - worst.numeric) <= worst.tolerance:
        return ""
    is_, should_be = differing(worst.analytic, worst.numeric)
    if not math.isfinite(worst.numeric):
        return f"; {entry(name, worst.index)} is {is_}"
    return f"; {entry(name, worst.index)} is {is_} and should be {should_be}"


def entry(name: str, index: tuple[int, ...]) -> str:
    """An entry by its index: "dw[1, 0]", or the bare name of an array without axes."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _shown(name: str, shown: Shown) -> str:
    entries = [entry(name, index) for index in shown.indices]
    nearest = min(max(shown.low, shown.claimed), shown.high)
    is_, bound = differing(shown.claimed, nearest)
    if len(entries) == 1 and shown.low == shown.high:
        return f"{entries[0]} is {is_} and should be {bound}"
    if shown.low != shown.high:
        most = "at most" if shown.claimed > nearest else "at least"
        bound = f"{most} {bound}"
    if len(entries) == 1:
        return f"{entries[0]} is {is_} and may be {bound}"
    who = several(entries)
    return f"{who} together claim {is_} and may claim {bound}"


def _undecided(certificate: Certificate) -> str:
    """Which gradient could not be decided, why, and what to do; or what was not checked."""
    undecided = [result for result in certificate.arguments if result.verdict == "INCONCLUSIVE"]
    if undecided:
        note = undecided[0].note
        names = several([f"d{result.name}" for result in undecided if result.note == note])
        others = several([f"d{result.name}" for result in undecided if result.note != note])
        also = "" if others == several([]) else f"; nor could {others}"
        return f"{names} could not be decided: {note}{also}"
    missing = [each for each in certificate.uncovered if each.matters]
    whys = list(dict.fromkeys(each.why for each in missing))
    names, remedies = several([each.name for each in missing]), dict.fromkeys(each.remedy for each in missing)
    were = "was" if len(missing) == 1 else "were"
    each = "each: " if len(missing) > 1 else ""
    return f"{names} {were} not checked ({each}{whys[0]}). {'. '.join(filter(None, remedies))}".rstrip(". ")


def causes_of(certificate: Certificate, first: str = "") -> Iterator[str]:
    """The causes; a guess is said to be one. What the first line says already is not repeated."""
    causes: dict[tuple[str, str], list[Cause]] = {}
    for cause in certificate.causes:
        causes.setdefault((cause.code, _without_name(cause)), []).append(cause)
    for (code, why), alike in causes.items():
        kind = "cause" if code in (*FACTS, "unknown") else "likely cause (a guess)"
        if " ".join(alike[0].explanation.split()) in first or code == "not-finite":
            yield f"  {kind}: {code}"
        elif len(alike) > 1:
            yield f"  {kind}: {code}: {several([f'd{cause.argument}' for cause in alike])}: each {why}"
        else:
            yield f"  {kind}: {code}: {alike[0].explanation}"


def _without_name(cause: Cause) -> str:
    return cause.explanation.removeprefix(f"d{cause.argument} ")


def _together(certificate: Certificate) -> Iterator[str]:
    """One sentence where several gradients are wrong."""
    wrong = [f"d{result.name}" for result in certificate.arguments if result.worst and result.verdict == "FAIL"]
    if len(wrong) > 1:
        all_of = "all gradients" if len(wrong) == len(certificate.arguments) else several(wrong)
        yield f"  {all_of} are wrong together: look first at what they share, such as dy or what forward kept"


def _sentence(certificate: Certificate, result: ArgumentResult, first: str) -> str:
    """The line of one argument, without what the first line says."""
    notes = [note for note in (result.note, *result.second_opinions) if note and " ".join(note.split()) not in first]
    if result.verdict == "FAIL" and result.worst is None and not notes:
        return ""
    text = f"  d{result.name} {result.shape}: {result.verdict}"
    if result.worst is not None and result.worst.analytic != result.worst.numeric:
        text += f", worst entry {entry(f'd{result.name}', result.worst.index)}"
        numbers = _numbers(certificate, result)
        text += "" if numbers in first else numbers
    return text + (f" ({'; '.join(notes)})" if notes else "")


def _how(certificate: Certificate, *, timed: bool) -> str:
    """What was asked how often; and the promise, where the first line does not have it."""
    work = f"{certificate.forward_calls} forwards, {certificate.backward_calls} backwards"
    work += f", {max(certificate.seconds, 1e-3):.2g} s" if timed else ""
    known = certificate.miss_probability is not None or certificate.detection_floor is not None
    promised = f"{promise(certificate)}; " if known and certificate.verdict != "PASS" else ""
    return f"  checked by {certificate.oracle} ({certificate.structure}), seed {certificate.seed}: {promised}{work}"
