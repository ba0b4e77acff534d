"""What a certificate says of a layer beside the verdicts: what was not checked, and what to write so that it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from verify.adapters import _places
from verify.adapters._names import is_target
from verify.adapters._parameters import Group, display_names, paired, same_entries
from verify.adapters._places import MISSING, Path, duplicate, is_floating
from verify.adapters._trial import Trial
from verify.adapters._updates import rate_name
from verify.checker.certificate import Uncovered


def say_unpaired(trial: Trial, unpaired: Sequence[Group], places: Mapping[Path, Any]) -> None:
    """Say which arrays have no gradient though y depends on them, and what to write."""
    names = display_names(unpaired, trial.names)
    by_name = paired(unpaired, places, trial.is_written)
    for k, (group, name) in enumerate(zip(unpaired, names, strict=True)):
        likely = [by_name[k]] if k in by_name else _of_its_shape(trial, group, places)
        if trial.is_state(group) and k not in by_name:
            continue  # it is said that the layer keeps it
        gradient = _places.text(likely[0]) if likely else f"d{name.rpartition('.')[2]}"
        remedy = f"Write parameters={{{name!r}: {gradient!r}}} to say where backward leaves its gradient"
        why = "y depends on it, and no gradient of it was found"
        if trial.is_state(group):
            why = f"the layer keeps it between calls, and {gradient} may be its gradient"
        if trial.layer.most_gradients is not None:
            remedy = f"Write parameters={names!r} in the order that backward returns"
        elif group.under(trial.in_backward):
            why = "backward changes it, and so what forward computes: an update. No gradient of it was found"
            rate = rate_name(trial.work)
            if rate and not likely and _subtracts_multiples(trial, group):
                remedy = f"Write parameters={{{name!r}: 'update'}} to check what backward subtracts, over {rate}"
        remedy += f", or fixed=({name!r},) if it has none"
        if any(group is each for each in trial.views):
            why += ". It shares memory with another array of the layer, which a check does not follow"
            remedy = f"Let forward and backward read one of them, or write fixed=({name!r},)"
        trial.layer.unchecked.append(Uncovered(name, why, remedy, matters=True))


def _of_its_shape(trial: Trial, group: Group, places: Mapping[Path, Any]) -> list[Path]:
    """The places that backward writes to and that hold an array of the group's shape."""
    taken = [path for each in trial.layer.parameters for path in (*each.paths, each.gradient)]
    return [
        path
        for path, value in places.items()
        if trial.is_written(path)
        and path not in taken
        and path not in group.paths
        and is_floating(value)
        and same_entries(value.shape, group.array.shape)
    ]


def _subtracts_multiples(trial: Trial, group: Group) -> bool:
    """Whether backward subtracts twice as much for twice the dy, as no other rule than plain descent does."""
    steps = []
    for scale in (1.0, 2.0):
        root = duplicate(trial.work)
        try:
            returned = root.forward(*trial.own(trial.inputs), **trial.options)
            before = np.array(_places.read(root, group.paths[0]))
            trial.called(root, trial.form, returned, scale=scale)
        except Exception:
            return False
        steps.append(before - _places.read(root, group.paths[0]))
    # A difference of what is rounded to the precision of the weights, and a factor of 2.
    rounding = 4 * float(np.finfo(group.array.dtype).eps) * np.abs(group.array).max(initial=0.0)
    return bool(np.abs(steps[1] - 2 * steps[0]).max(initial=0.0) <= rounding + 1e-9 * np.abs(steps[1]).max(initial=0))


def say_ungraded(trial: Trial) -> None:
    """Say which inputs backward returns no gradient for."""
    layer = trial.layer
    if trial.returned is MISSING or not trial.floating:
        return
    names = [each.name for each in layer.parameters]
    own = layer.gradients(trial.returned, trial.inputs, np.array(1.0))[: len(trial.floating)]
    missing = [k for k, gradient in zip(trial.floating, own, strict=False) if gradient is None]
    if len(missing) == len(trial.floating) and not names:
        return
    layer.ungraded = tuple(trial.names[k] for k in missing)
    checked = [trial.names[k] for k in trial.floating if k not in missing] + names
    given = [each for each in own if each is not None]
    if missing and missing == trial.floating[len(given) :]:
        layer.instead = _other_owners(trial, given)
    for k in missing:
        remedy = f"Write wrt={checked!r} if it has none"
        other = next((list(each) for each in layer.instead if trial.names[k] in each), None)
        if other is not None:
            remedy += f", or wrt={other + names!r} if the gradient that backward returns is that of {', '.join(other)}"
        layer.unchecked.append(Uncovered(trial.names[k], "backward returns no gradient for it", remedy, True))


def _other_owners(trial: Trial, gradients: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """The names of other inputs, as many, whose shapes the gradients have: y_pred in forward(y, y_pred).

    An input that is named as a target is none: a gradient with the sign of that of y_true is wrong for y_pred.
    """
    shapes = [np.shape(each) for each in gradients]
    first, found = tuple(trial.floating[: len(shapes)]), []
    for places in itertools.combinations(trial.floating, len(shapes)):
        fits = [np.shape(trial.inputs[k]) for k in places] == shapes
        if places != first and fits and not any(is_target(trial.names[k]) for k in places if k not in first):
            found.append(tuple(trial.names[k] for k in places))
    return tuple(found)


def say_what_is_kept(trial: Trial) -> None:
    """Say what the layer keeps between calls."""
    layer = trial.layer
    paths = [path for each in layer.parameters for path in each.paths]
    said = {each.name for each in layer.unchecked}
    for path in trial.kept:
        name = _places.text(path)
        if name in said:
            continue
        if path in paths:
            why = "the layer changes it when it is called; each call was made with its value set"
        else:
            why = "the layer keeps it between calls; each call was made from the state given"
        layer.unchecked.append(Uncovered(name, why))


def say_results(trial: Trial) -> None:
    """Say which results have no gradient, or one that backward does not take."""
    form = trial.form
    results, _ = form.results_of(trial.raw)
    trial.layer.results = len(form.checked(results))
    if form.results == 1:
        return
    if form.upstream == "first":
        why = "backward takes one upstream gradient, that of result 0"
        trial.layer.unchecked += [Uncovered(f"result {k}", why) for k in range(1, form.results)]
    elif trial.layer.results < form.results:
        kinds = {k: getattr(each, "dtype", type(each).__name__) for k, each in enumerate(results)}
        whole = {k: kind for k, kind in kinds.items() if getattr(kind, "kind", "") not in ("f", "c")}
        trial.layer.unchecked += [Uncovered(f"result {k}", f"{kind} has no gradient") for k, kind in whole.items()]
