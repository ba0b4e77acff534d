"""The parameters of a layer, found by the names of their gradients and by what y depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from verify.adapters._calls import gradients_of
from verify.adapters._layer import PlainLayer, means
from verify.adapters._outside import outside
from verify.adapters._parameters import Group, Parameter, display_names, groups_of, paired, same_entries, sharing
from verify.adapters._places import MISSING, Path, parsed, read
from verify.adapters._remarks import say_ungraded, say_unpaired
from verify.adapters._trial import Trial
from verify.checker.certificate import Uncovered


def discover(trial: Trial, made: Sequence[Path]) -> list[Group]:
    """Find the parameters, and say which arrays matter and have no gradient. Return all that matter."""
    layer = trial.layer
    groups = groups_of(trial.work)
    layer.tried = [trial.work]
    named = layer.named(groups)
    layer.tried = []
    _check_fixed(layer, groups, [*trial.in_forward, *trial.in_backward])
    rest = _without(groups, [group for group, _ in named])
    free = [group for group in rest if not layer.is_fixed(group)]
    places = {path: saved.value for path, saved in trial.end.saved.items()}
    # A state and its gradient may belong to different calls: their names do not pair them.
    free = [group for group in free if not trial.is_state(group)]
    gradients = paired(free, places, trial.is_written)
    trial.views = sharing(rest, layer.target)
    likely = [group for k, group in enumerate(free) if k in gradients]
    # What forward writes may be a cache. Of views only one counts. Of these y must depend.
    certain = _without([group for group in likely if not group.under(trial.in_forward)], trial.views)
    depends = trial.depends(_without(rest, certain))
    found: list[tuple[Group, Path | None]] = [
        (group, gradients[k])
        for k, group in enumerate(free)
        if k in gradients and not (_without([group], certain) and _without([group], depends))
    ]
    found += _numbers(trial, places, [path for group, path in (*named, *found) for path in (*group.paths, path)])
    unpaired = _without(depends, [group for group, _ in found])
    unpaired = [group for group in unpaired if not layer.is_fixed(group)]
    returned = _returned(trial, unpaired, sum(gradient is None for _, gradient in named))
    layer.parameters = layer.made([*named, *returned, *found])
    layer.states = tuple(each.name for each in layer.parameters if trial.is_state(Group(each.paths, np.array(0))))
    say_unpaired(trial, _without(unpaired, [group for group, _ in returned]), places)
    say_ungraded(trial)
    fixed = [group for group in depends if layer.is_fixed(group)]
    layer.unchecked += [Uncovered(name, "fixed") for name in display_names(fixed, trial.names)]
    return [*depends, *(group for group, _ in named)]


def say_what_else_matters(trial: Trial) -> None:
    """Say which arrays matter beside the parameters that a pair has already."""
    layer = trial.layer
    layer.parameters = _where_they_are(trial)
    checked = [path for each in layer.parameters for path in (*each.paths, each.gradient) if path]
    rest = [group for group in groups_of(trial.work) if not group.under(checked) and not layer.is_fixed(group)]
    places = {path: saved.value for path, saved in trial.end.saved.items()}
    unpaired = trial.depends(rest)
    _returned(trial, unpaired, sum(each.gradient is None for each in layer.parameters), taken=False)
    numbers = [group for group, _ in _numbers(trial, places, checked)]
    say_unpaired(trial, [*unpaired, *numbers], places)


def _where_they_are(trial: Trial) -> tuple[Parameter, ...]:
    """The parameters of a pair, whose gradients backward leaves elsewhere than the code shows: grads["dW"]."""
    places = {path: saved.value for path, saved in trial.end.saved.items()}
    parameters = trial.layer.parameters
    absent = [each for each in parameters if each.gradient and read(trial.work, each.gradient) is MISSING]
    found = paired([Group(each.paths, each.value(trial.work)) for each in absent], places, trial.is_written)
    elsewhere = {absent[k].name: place for k, place in found.items()}
    return tuple(each._replace(gradient=elsewhere.get(each.name, each.gradient)) for each in parameters)


def say_what_is_outside(trial: Trial) -> None:
    """Say which arrays outside the layer y depends on. They are moved in place, and put back."""
    arrays = {name: array for name, array in outside(trial.layer.target).items() if array.flags.writeable}
    groups = {name: Group((), array) for name, array in arrays.items() if name not in trial.layer.spec.fixed}
    for group in trial.depends(list(groups.values())) if groups else ():
        name = next(name for name, each in groups.items() if each is group)
        remedy = f"Make it an attribute of the layer, or write fixed=({name!r},) if it has no gradient"
        trial.layer.unchecked.append(Uncovered(name, "y depends on it, and it lies outside the layer", remedy, True))


def _without(groups: Sequence[Group], others: Sequence[Group]) -> list[Group]:
    return [group for group in groups if all(group is not each for each in others)]


def _numbers(trial: Trial, places: Mapping[Path, Any], taken: Sequence[Path | None]) -> list[tuple[Group, Path]]:
    """The parameters that are floating numbers, not arrays: those whose gradient backward writes."""
    numbers = [
        Group((path,), np.array(float(saved.value)))
        for path, saved in trial.start.saved.items()
        if path not in taken and (type(saved.value) is float or isinstance(saved.value, np.floating))
    ]
    numbers = [each for each in numbers if not each.under(trial.in_forward) and not trial.layer.is_fixed(each)]
    slopes = {place: value for place, value in places.items() if place not in taken and trial.is_written(place)}
    return [(numbers[k], place) for k, place in paired(numbers, slopes).items()]


def _returned(trial: Trial, unpaired: Sequence[Group], known: int, *, taken: bool = True) -> list[tuple[Group, None]]:
    """The arrays whose gradients backward returns: by name, or after those of the inputs by their shapes.

    Unless they are taken, the gradients are left out of the check, and it is said in which order to name them.
    """
    if trial.returned is MISSING:
        return []
    names = display_names(unpaired, trial.names)
    items, by_name = gradients_of(trial.returned, [trial.names[k] for k in trial.floating], names)
    found: list[tuple[Group, None]] = [
        (group, None) for name, group in zip(names, unpaired, strict=True) if name in by_name
    ]
    extra = items[len(trial.floating) + known :]
    if len(items) == len(trial.inputs) and all(items[k] is None for k in range(len(items)) if k not in trial.floating):
        extra = []
    fits = [[group for group in unpaired if same_entries(np.shape(each), group.array.shape)] for each in extra]
    if not taken and found:
        trial.layer.most_gradients = len(trial.floating) + known
    if taken and extra and all(len(each) == 1 for each in fits) and len({id(each[0]) for each in fits}) == len(fits):
        return [*found, *((each[0], None) for each in fits)]
    if extra and any(fits):
        trial.layer.most_gradients = len(trial.floating) + known
    return found


def _check_fixed(layer: PlainLayer, groups: Sequence[Group], later: Sequence[Path]) -> None:
    for name in layer.spec.fixed:
        known = any(means(name, group) for group in groups) or name in outside(layer.target)
        if not known and read(layer.target, parsed(name)) is MISSING:
            own = [group for group in groups if not group.under(later)]
            names = ", ".join(display_names(own, ())) or "none"
            kind = type(layer.target).__name__
            raise ValueError(f"fixed holds {name!r}, which is none of the floating arrays of {kind}: {names}")
