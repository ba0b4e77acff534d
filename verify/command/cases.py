"""The arrays and options for `python -m verify check`: drawn by their shapes, or listed in the layer's module."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verify.adapters import Input, Pair
from verify.command.targets import Target, TargetError, attribute

# 8 GiB of float64.
_MOST_ENTRIES = 1 << 30


class Case(NamedTuple):
    """One call: the inputs by position (arrays and others), and the options by name."""

    inputs: tuple[Any, ...]
    options: dict[str, Any]


def literal(name: str, text: str) -> Any:
    """Return the value of a Python literal, or a bare word as a string."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        if text.isidentifier():
            return text
        raise TargetError(f"--option {name}={text}: {text!r} is neither a Python literal nor a word") from None


# An option that takes NAME=VALUE, and how it is written.
_EXAMPLES = {
    "--shape": "--shape x=2,3,8,8",
    "--option": "--option stride=2",
    "--parameter": "--parameter W=dW",
    "--expected-failure": '--expected-failure gradients-alias-nothing="a view"',
}


def named(given: Iterable[str], what: str) -> dict[str, str]:
    """Return the values of NAME=VALUE by name. Each name may occur once."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise TargetError(f"{what} {each!r} is not NAME=VALUE, as in {_EXAMPLES[what]}")
        if name in found:
            raise TargetError(f"{what} {name} is given twice: {found[name]} and {value}")
        found[name] = value
    return found


def draw(pair: Pair, shapes: Mapping[str, str], options: Mapping[str, Any], dtype: str, seed: int) -> Case:
    """Return a case with arrays of these shapes, by name or position among the forward's inputs.

    The entries are normal numbers rounded to sixteenths: typical values, and short fractions for exact arithmetic.
    An option that the forward takes before its last array is passed by position.
    """
    generator, left = np.random.default_rng(seed), dict(options)
    places = {_place(pair, name): _shape(name, shape) for name, shape in shapes.items()}
    if len(places) < len(shapes):
        raise TargetError(f"--shape names one argument twice: {', '.join(shapes)}")
    inputs, beyond = list(pair.inputs), max(places, default=-1) + 1
    inputs += [Input(f"arg{k}") for k in range(len(inputs), beyond)]
    missing = [
        each.name for k, each in enumerate(inputs) if each.required and k not in places and each.name not in left
    ]
    if missing or not places:
        raise TargetError(f"--shape is missing for {' and '.join(missing) or 'every array'}: {takes(pair)}")
    filled: list[Any] = []
    for k, each in enumerate(inputs[:beyond]):
        if k in places:
            filled.append(np.asarray(np.rint(16 * generator.standard_normal(places[k])) / 16, dtype))
        else:
            filled.append(left.pop(each.name, each.default))
    return Case(tuple(filled), left)


def takes(pair: Pair) -> str:
    """Return a description of the forward's arguments."""
    names = [each.name if each.required else f"{each.name} (optional)" for each in pair.inputs]
    text = f"the forward takes {', '.join(names) or 'arrays by position, 0=..., 1=...'}"
    own = [f"{name} {array.shape}" for name, array in pair.parameters.items()]
    return f"{text}; it has its own parameters {', '.join(own)}" if own else text


def _place(pair: Pair, name: str) -> int:
    names = [each.name for each in pair.inputs]
    if name in names:
        return names.index(name)
    if name.isdecimal() and (int(name) < len(names) or not names):
        return int(name)
    raise TargetError(f"--shape {name}=... names none of the arrays: {takes(pair)}")


def _shape(name: str, text: str) -> tuple[int, ...]:
    sizes = [each.strip() for each in text.split(",") if each.strip()]
    if not all(each.isdecimal() for each in sizes):
        raise TargetError(f"--shape {name}={text} is not a shape: sizes are whole numbers, as in {name}=2,3,8,8")
    if math.prod(map(int, sizes)) > _MOST_ENTRIES:
        raise TargetError(f"--shape {name}={text} has {math.prod(map(int, sizes)):.3g} entries: too many to draw")
    return tuple(map(int, sizes))


def listed(target: Target, name: str) -> list[Case]:
    """Return the cases of a list in the module, or of a function that returns one, by its name.

    Each case is (arrays, options) or only the arrays.
    """
    value = attribute(target.module, name)
    try:
        each_case = list(value() if callable(value) else value)
    except TypeError as error:
        text = f"--arrays {name} is neither a list of cases nor a function without arguments: {error}"
        raise TargetError(text) from error
    found = []
    for k, each in enumerate(each_case):
        arrays, options = each, {}
        if isinstance(each, Sequence) and len(each) == 2 and isinstance(each[1], Mapping):
            arrays, options = each
        if not isinstance(arrays, (tuple, list)):
            what = type(arrays).__name__
            raise TargetError(f"{name}[{k}] is a {what}, neither (arrays, options) nor a tuple of arrays")
        found.append(Case(tuple(arrays), dict(options)))
    return found
