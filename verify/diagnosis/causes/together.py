"""Several gradients that are wrong in one way: said once. Several failures of one mistake: named as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from verify.checker.certificate import Cause
from verify.diagnosis.causes.codes import CauseCode

Name = TypeVar("Name", bound=Hashable)


class Guess(NamedTuple):
    """A cause of one argument's gradient: what it says, and what speaks for it."""

    code: CauseCode
    argument: str
    why: str
    seen: str = ""


def together(guesses: Iterable[Guess]) -> list[Cause]:
    """The causes in order, those of several arguments that say the same as one, whose argument is None."""
    groups: dict[tuple[CauseCode, str], list[Guess]] = {}
    for each in guesses:
        groups.setdefault((each.code, each.why), []).append(each)
    return [_cause(code, why, group) for (code, why), group in groups.items()]


def _cause(code: CauseCode, why: str, group: list[Guess]) -> Cause:
    if len(group) == 1:
        name, seen = group[0].argument, group[0].seen
        return Cause(code.code, name, f"d{name} {why}" + (f" ({seen})" if seen else ""))
    *others, last = (f"d{each.argument}" for each in group)
    seen = "; ".join(f"d{each.argument}: {each.seen}" for each in group if each.seen)
    text = f"each of {', '.join(others)} and {last} {why}"
    return Cause(code.code, None, text + (f" ({seen})" if seen else ""))


def likeliest(failures: Sequence[Sequence[tuple[Name, str]]]) -> Name:
    """Of what is named first in some failure, the name that explains most of them.

    Each failure has its names in order, at least one, each with its sentence. In a small case another mistake may
    predict the same gradient and be named first. But the mistake that was made is named in most cases, and mostly says
    the same: a factor that changes from case to case is no constant factor. So a name counts once for each failure
    that has it, and once more for each that has its commonest sentence. Of equals the one first most often is taken.
    """
    first = Counter(names[0][0] for names in failures)
    named = Counter(name for names in failures for name in dict.fromkeys(name for name, _ in names))
    said = Counter(pair for names in failures for pair in dict.fromkeys(names))
    alike = {name: max(count for (other, _), count in said.items() if other == name) for name in first}
    return max(first, key=lambda name: (named[name] + alike[name], first[name]))
