"""A few calls of a copy show how a layer is called, what it keeps between calls, and what y depends on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from verify.adapters._discovery import discover as discover_parameters
from verify.adapters._discovery import say_what_else_matters, say_what_is_outside
from verify.adapters._layer import PlainLayer
from verify.adapters._piles import find_piles, find_reset, say_sums
from verify.adapters._places import MISSING, duplicate
from verify.adapters._remarks import say_results, say_what_is_kept
from verify.adapters._state import Snapshot, kept_between_calls
from verify.adapters._trial import Raised, Trial


def learn(layer: PlainLayer, inputs: Sequence[Any], options: Mapping[str, Any], *, discover: bool) -> bool:
    """Learn about a layer from calls at these inputs, and return whether it could be called.

    If `discover`, its parameters are found again: by their names, and by what y depends on.
    """
    # A layer may draw from the global generator, and then draws as if it had not been tried.
    generator = np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            _report(Trial(layer, inputs, options), discover)
        except Raised:
            return False
        finally:
            np.random.set_state(generator)  # noqa: NPY002
    layer.learnt = True
    return True


def _report(trial: Trial, discover: bool) -> None:
    """Write into the layer what is known."""
    layer, work = trial.layer, trial.work
    changed = trial.start.changed(trial.end)
    found = kept_between_calls(work, trial.start, changed, lambda: trial.results(work, trial.inputs, back=True))
    trial.random, trial.kept = found is None, found or ()
    made = [path for path in changed if path not in trial.kept and trial.stays(path)]
    for path in changed:
        if path not in made:
            trial.start.restore(work, path)
    layer.form, layer.unchecked = trial.form, [*trial.form.notes]
    if discover:
        matter = discover_parameters(trial, made)
        if any(group.under(made) for group in matter):  # parameters that the first forward makes
            layer.root = duplicate(work)
            layer.start = Snapshot(layer.root)
    else:
        say_what_else_matters(trial)
    say_what_is_outside(trial)
    layer.kept = trial.kept
    say_what_is_kept(trial)
    say_results(trial)
    find_reset(trial)
    if not trial.random and trial.returned is not MISSING and not layer.stale:
        find_piles(trial)
        if not layer.stale:
            say_sums(trial)
