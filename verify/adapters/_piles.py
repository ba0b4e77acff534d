"""Forwards that pile up in a layer, and the method that empties it."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from verify.adapters import _places
from verify.adapters._names import canonical
from verify.adapters._pair import positional
from verify.adapters._parameters import Parameter
from verify.adapters._places import duplicate
from verify.adapters._state import Snapshot, same_results
from verify.adapters._trial import Trial
from verify.adapters._updates import UPDATE


def find_reset(trial: Trial) -> None:
    """Find out whether the method to call before backward empties what backward needs."""
    if trial.layer.spec.reset is None:
        return
    try:
        right = trial.gradients(trial.inputs)
    except Exception:
        return
    try:
        now = trial.gradients(trial.inputs, reset="before backward")
    except Exception:
        now = []
    trial.layer.replayed = not same_results(right, now)


def find_piles(trial: Trial) -> None:
    """Find out whether the gradient belongs to an earlier forward than the latest."""
    otherwise = _otherwise(trial, "each" if trial.layer.replayed else "first")
    if not otherwise:
        return
    grown = [
        _places.text(path)
        for path in trial.in_forward
        if path in trial.start.saved and isinstance(trial.start.saved[path].value, (list, dict, collections.deque))
    ]
    where = f" in {', '.join(grown)}" if grown else ""
    resets = [name for name in dir(trial.layer.target) if _is_reset(trial.layer.target, name)]
    resets = [name for name in resets if not _otherwise(trial, "each", name)]
    remedy = f". If it is emptied on purpose: reset={resets[0]!r}" if resets else ""
    trial.layer.stale = (
        f"forwards pile up{where}, and backward does not belong to the latest: after another forward "
        f"the same call {otherwise}{remedy}"
    )


def say_sums(trial: Trial) -> None:
    """Say which method empties the gradients that backward adds to, if a method does."""
    layer = trial.layer
    resets = [name for name in dir(layer.target) if _is_reset(layer.target, name)]
    if layer.spec.reset is not None or not resets:
        return
    left = [each for each in layer.parameters if each.gradient not in (None, UPDATE)]
    once, twice = _left_by(trial, left, 1), _left_by(trial, left, 2)
    summed = [each.name for k, each in enumerate(left) if not same_results(once[k : k + 1], twice[k : k + 1])]
    for name in resets if summed else ():
        emptied = [_left_by(trial, left, calls, name) for calls in (1, 2)]
        if emptied[0] and same_results(*emptied):
            text = f"backward adds to the gradient that is there. If that is on purpose: reset={name!r}"
            layer.remarks.update(dict.fromkeys(summed, text))
            return


def _left_by(trial: Trial, parameters: Sequence[Parameter], calls: int, reset: str | None = None) -> list[np.ndarray]:
    """What this many calls of forward and backward leave as gradients; nothing if they raise."""
    root = duplicate(trial.layer.root)
    start = Snapshot(root)
    try:
        for _ in range(calls):
            for path in trial.kept:
                start.restore(root, path)
            if reset is not None:
                getattr(root, reset)()
            trial.called(root, trial.form, root.forward(*trial.own(trial.inputs), **trial.options))
        return [np.array(_places.read(root, each.gradient or ())) for each in parameters]
    except Exception:
        return []


def _otherwise(trial: Trial, reset: str, by: str | None = None) -> str:
    """What the same call does after another forward, in words: nothing if it has the same gradient."""
    try:
        alone = trial.gradients(trial.inputs, reset=reset, by=by)
    except Exception:
        return "" if by is None else "raises"
    try:
        after = trial.gradients(trial.others, trial.inputs, reset=reset, by=by)
    except Exception:
        return _raises_again(trial, reset, by)
    return "" if same_results(alone, after) else "has another gradient"


def _raises_again(trial: Trial, reset: str, by: str | None) -> str:
    """Whether the second forward raises at the same inputs as well: then the others are not to blame."""
    try:
        trial.gradients(trial.inputs, trial.inputs, reset=reset, by=by)
    except Exception:
        return "raises"
    return ""


def _is_reset(target: Any, name: str) -> bool:
    words = ("zero", "reset", "clear", "flush", "empty")
    if name.startswith("__") or not any(word in canonical(name) for word in words):
        return False
    function = getattr(target, name, None)
    return callable(function) and not any(each.required for each in positional(function))
