"""Forwards that pile up in a layer, and the method that empties it."""

from __future__ import annotations

import collections
from typing import Any

from verify.adapters import _places
from verify.adapters._names import canonical
from verify.adapters._pair import positional
from verify.adapters._state import same_results
from verify.adapters._trial import Trial


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
    if _is_of_the_latest(trial, "each" if trial.layer.replayed else "first"):
        return
    grown = [
        _places.text(path)
        for path in trial.in_forward
        if path in trial.start.saved and isinstance(trial.start.saved[path].value, (list, dict, collections.deque))
    ]
    where = f" in {', '.join(grown)}" if grown else ""
    resets = [name for name in dir(trial.layer.target) if _is_reset(trial.layer.target, name)]
    resets = [name for name in resets if _is_of_the_latest(trial, "each", name)]
    remedy = f". If it is emptied on purpose: reset={resets[0]!r}" if resets else ""
    trial.layer.stale = (
        f"forwards pile up{where}, and backward does not belong to the latest: after another forward "
        f"the same call has another gradient{remedy}"
    )


def _is_of_the_latest(trial: Trial, reset: str, by: str | None = None) -> bool:
    try:
        alone = trial.gradients(trial.inputs, reset=reset, by=by)
        after = trial.gradients(trial.others, trial.inputs, reset=reset, by=by)
    except Exception:
        return by is None
    return same_results(alone, after)


def _is_reset(target: Any, name: str) -> bool:
    words = ("zero", "reset", "clear", "flush", "empty")
    if name.startswith("__") or not any(word in canonical(name) for word in words):
        return False
    function = getattr(target, name, None)
    return callable(function) and not any(each.required for each in positional(function))
