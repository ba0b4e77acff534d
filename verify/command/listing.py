"""What can be checked in a module: for a target without a NAME, and for one that is no layer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from verify.adapters import adapt, framework_of, likely, positional

# Parts of names that say which of two functions is the backward, or the forward. What is left must be the same.
_BACKWARD = re.compile("backward|backprop|bprop|bwd|derivative|gradient|grad|prime|vjp|pullback|^d(?=_)")
_FORWARD = re.compile("forward|fprop|fwd")


class Entry(NamedTuple):
    """Something that can be checked: its NAME, what it is, and the options that it needs."""

    name: str
    what: str
    options: str

    def line(self, place: str) -> str:
        """Return what to write for it."""
        return f"  {place}:{self.name}{self.options}    ({self.what})"


def layers_in(module: ModuleType) -> list[Entry]:
    """Return the layers that a module defines: classes, instances, functions of a framework, and pairs of functions."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_") and _is_own(value, module)}
    pairs = list(_pairs([name for name, value in own.items() if inspect.isfunction(value)]))
    paired = {name for pair in pairs for name in pair}
    found = [_entry(name, value) for name, value in own.items() if name not in paired]
    both = [Entry(f"{one},{two}", "two functions", _shapes(positional(own[one]))) for one, two in pairs]
    return [*filter(None, found), *both]


def pair_with(module: ModuleType, function: Any) -> str:
    """Return the NAME of the two functions of which this is one, "f,f_backward"; nothing for anything else."""
    name = getattr(function, "__name__", "")
    pairs = (each.name for each in layers_in(module) if each.what == "two functions")
    return next((pair for pair in pairs if name in pair.split(",")), "")


def _is_own(value: Any, module: ModuleType) -> bool:
    if inspect.ismodule(value):
        return False
    defined = value if hasattr(value, "__qualname__") else type(value)
    return getattr(defined, "__module__", None) == module.__name__ or framework_of(value) is not None


def _entry(name: str, value: Any) -> Entry | None:
    if framework_of(value) is None:
        forward, backward = likely(value)
        if inspect.isfunction(value) or forward is None or backward is None:
            return None
        renamed = {role: own for role, own in (("forward", forward), ("backward", backward)) if own != role}
        inputs = positional(getattr(value, forward))[1 if inspect.isclass(value) else 0 :]
        options = "".join(f" --{role} {own}" for role, own in renamed.items())
        return Entry(name, _kind(value), options + _made(value) + _shapes(inputs))
    try:
        return Entry(name, _kind(value), _made(value) + _shapes(adapt(value).inputs))
    except Exception:  # a class that cannot be made without arguments
        return Entry(name, _kind(value), _made(value) + " --shape ...")


def _kind(value: Any) -> str:
    if inspect.isclass(value):
        return "a class"
    return "a function" if inspect.isroutine(value) or hasattr(value, "__wrapped__") else "an instance"


def _made(value: Any) -> str:
    """Return the option --init for a class that needs arguments."""
    if not inspect.isclass(value) or "__init__" not in vars(value):
        return ""
    needed = [each.name for each in positional(value) if each.required]
    return f' --init "{", ".join(f"{name}=..." for name in needed)}"' if needed else ""


def _shapes(inputs: Any) -> str:
    return "".join(f" --shape {each.name}=..." for each in inputs if each.required) or " --shape 0=..."


def _pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names of functions that look like a forward and its backward."""
    backwards = {_left(_BACKWARD, name): name for name in names if _BACKWARD.search(name.lower())}
    for name in names:
        backward = backwards.get(_left(_FORWARD, name))
        if backward is not None and name not in backwards.values():
            yield name, backward


def _left(part: re.Pattern[str], name: str) -> str:
    return part.sub("", name.lower()).strip("_")
