"""The gradient of a parameter that backward updates, out of what it subtracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.adapters import _places
from verify.adapters._calls import RATE
from verify.adapters._names import is_rate
from verify.adapters._pair import positional
from verify.adapters._parameters import Parameter
from verify.adapters._places import Path, Step, read, walk, write

# In place of the place of a gradient: backward subtracts it from the parameter, times its learning rate.
UPDATE: Path = (Step("attribute", "update"),)
# W - rate * dW rounds to the precision of the larger one. So for each entry the first of these rates counts that makes
# rate * dW the larger one. Beside 2^30 dW an exact check leaves W 23 of 53 bits, more than it draws. The last ones are
# for the smallest dy: linearity is asked at 2^-36 dy.
_RATES = (1.0, 2.0**30, 2.0**60, 2.0**90)


def rate_of(root: Any) -> tuple[str | None, Path | None]:
    """Return the learning rate of a layer: the name of an argument of backward, or the path of an attribute."""
    arguments = [each.name for each in positional(root.backward)[1:] if is_rate(each.name)]
    if arguments:
        return arguments[0], None
    for path, value in walk(root):
        if isinstance(value, (float, int)) and not isinstance(value, bool) and is_rate(str(path[-1].key)):
            return None, path
    return None, None


def subtracted(
    root: Any,
    parameters: Sequence[Parameter],
    values: Sequence[Any],
    call: Callable[[Mapping[str, Any]], Any],
) -> tuple[Any, list[np.ndarray]]:
    """Return what backward returns, and what it subtracts from each parameter, over the rate.

    `call(more)` calls backward from the same state each time, with these arguments more.
    """
    argument, place = rate_of(root)
    if argument is None and place is None:
        names = ", ".join(each.name for each in parameters)
        raise ValueError(f"backward has no learning rate, neither as an argument nor as an attribute: fix {names}")
    before = None if place is None else read(root, place)
    found = [np.zeros_like(value) for value in values]
    known = [np.zeros(np.shape(value), bool) for value in values]
    returned: Any = None
    for rate in _RATES:
        if place is not None:
            write(root, place, rate)
        with np.errstate(over="ignore", invalid="ignore"):
            now = call({} if argument is None else {argument: rate})
            returned = now if rate == RATE else returned
            steps = [value - read(root, each.paths[0]) for value, each in zip(values, parameters, strict=True)]
            found = [np.where(done, old, step / rate) for done, old, step in zip(known, found, steps, strict=True)]
            known = [
                done | (np.abs(step) >= np.abs(value)) for done, step, value in zip(known, steps, values, strict=True)
            ]
        if place is not None:
            write(root, place, before)
        if all(done.all() for done in known):
            break
    return returned, found


def rate_name(root: Any) -> str:
    """Return the learning rate of a layer as Python writes it, or nothing."""
    argument, place = rate_of(root)
    return argument or ("" if place is None else _places.text(place))
