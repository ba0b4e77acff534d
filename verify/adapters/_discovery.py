"""The parameters of a layer, found by the names of their gradients and by what y depends on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verify.adapters._calls import gradients_of
from verify.adapters._layer import PlainLayer, means
from verify.adapters._parameters import Group, display_names, groups_of, paired, same_entries, sharing
from verify.adapters._places import MISSING, Path
from verify.adapters._remarks import say_ungraded, say_unpaired
from verify.adapters._trial import Trial
from verify.checker.certificate import Uncovered


def discover(trial: Trial, made: Sequence[Path]) -> list[Group]:
    """Find the parameters, and say which arrays matter and have no gradient. Return all that matter."""
    layer = trial.layer
    groups = groups_of(trial.work)
    named = layer.named(groups)
    _check_fixed(layer, groups, [*trial.in_forward, *trial.in_backward])
    rest = [group for group in groups if all(group is not each for each, _ in named)]
    places = {path: saved.value for path, saved in trial.end.saved.items()}
    gradients = paired(rest, places, trial.is_written)
    views = trial.views = sharing(rest, layer.target)
    own = [
        k
        for k in gradients
        if not rest[k].under(trial.in_forward)
        and not layer.is_fixed(rest[k])
        and all(rest[k] is not each for each in views)
    ]
    asked = [rest[k] for k in range(len(rest)) if k not in own]
    depends = trial.depends(asked)
    numbers = [
        Group((path,), np.array(float(saved.value)))
        for path, saved in trial.start.saved.items()
        if type(saved.value) is float or isinstance(saved.value, np.floating)
    ]
    numbers = [each for each in numbers if not each.under(trial.in_forward) and not layer.is_fixed(each)]
    numbers = [each for each in numbers if all(each.paths[0] not in group.paths for group, _ in named)]
    slopes = {place: value for place, value in places.items() if trial.is_written(place)}
    of_numbers = paired(numbers, slopes)
    found: list[tuple[Group, Path | None]] = [
        (group, gradients[k])
        for k, group in enumerate(rest)
        if k in gradients and (k in own or any(group is each for each in depends))
    ]
    found += [(numbers[k], place) for k, place in of_numbers.items() if place not in gradients.values()]
    paired_groups = [group for group, _ in found]
    unpaired = [each for each in depends if all(each is not one for one in paired_groups)]
    unpaired = [each for each in unpaired if not layer.is_fixed(each)]
    returned = _returned(trial, unpaired, sum(gradient is None for _, gradient in named))
    unpaired = [each for each in unpaired if all(each is not one for one, _ in returned)]
    layer.parameters = layer.made([*named, *returned, *found])
    say_unpaired(trial, unpaired, [*places])
    say_ungraded(trial)
    fixed = [group for group in depends if layer.is_fixed(group)]
    for name in display_names(fixed, trial.names):
        layer.unchecked.append(Uncovered(name, "fixed"))
    return [*depends, *(group for group, _ in named)]


def _returned(trial: Trial, unpaired: Sequence[Group], known: int) -> list[tuple[Group, None]]:
    """The arrays whose gradients backward returns: by name, or after those of the inputs by their shapes."""
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
    if extra and all(len(each) == 1 for each in fits) and len({id(each[0]) for each in fits}) == len(fits):
        return [*found, *((each[0], None) for each in fits)]
    if extra and any(fits):
        trial.layer.most_gradients = len(trial.floating) + known
    return found


def _check_fixed(layer: PlainLayer, groups: Sequence[Group], later: Sequence[Path]) -> None:
    for name in layer.spec.fixed:
        if not any(means(name, group) for group in groups):
            own = [group for group in groups if not group.under(later)]
            known = ", ".join(display_names(own, ())) or "none"
            kind = type(layer.target).__name__
            raise ValueError(f"fixed holds {name!r}, which is none of the floating arrays of {kind}: {known}")
