"""A few calls of a copy show how a layer is called, what it keeps between calls, and what y depends on."""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verify.adapters import _places
from verify.adapters._calls import Form, form_of, gradients_of
from verify.adapters._layer import PlainLayer, means
from verify.adapters._names import canonical
from verify.adapters._pair import positional
from verify.adapters._parameters import (
    Group,
    display_names,
    groups_of,
    moved_array,
    paired,
    same_entries,
    sharing,
    that_matter,
)
from verify.adapters._places import MISSING, Path, duplicate, is_floating
from verify.adapters._state import Snapshot, kept_between_calls, same_results
from verify.adapters._updates import rate_name
from verify.checker.certificate import Uncovered


class _Raised(Exception):
    """The layer raised where it is only tried: the check itself will say so."""


def learn(layer: PlainLayer, inputs: Sequence[Any], options: Mapping[str, Any], *, discover: bool) -> bool:
    """Learn about a layer from calls at these inputs, and return whether it could be called.

    If `discover`, its parameters are found again: by their names, and by what y depends on.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            _Trial(layer, inputs, options).report(discover)
        except _Raised:
            return False
    layer.learnt = True
    return True


class _Trial:
    """One forward and one backward of a copy, and what is known after them."""

    def __init__(self, layer: PlainLayer, inputs: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.layer, self.options = layer, options
        self.names = [each.name for each in layer.inputs] + [f"arg{k}" for k in range(len(layer.inputs), len(inputs))]
        self.inputs = [np.array(each) if isinstance(each, np.ndarray) else each for each in inputs]
        self.others = [_elsewhere(each, k) for k, each in enumerate(self.inputs)]
        self.kept: tuple[Path, ...] = ()
        self.work = duplicate(layer.target)
        self.start = Snapshot(self.work)
        self._reset(self.work)
        with _raised():
            returned = self.work.forward(*self._own(self.inputs), **options)
        self.middle = Snapshot(self.work)
        self.raw = returned
        self.form = form_of(self.work, returned, self.names, layer.spec.backward_options)
        self.form, self.returned = self._backward(returned)
        self.end = Snapshot(self.work)
        self.in_forward, self.in_backward = self.start.changed(self.middle), self.middle.changed(self.end)
        self.floating = [k for k, each in enumerate(self.inputs) if is_floating(each)]

    def _own(self, inputs: Sequence[Any]) -> list[Any]:
        return [each.copy() if isinstance(each, np.ndarray) else each for each in inputs]

    def _reset(self, root: Any, by: str | None = None) -> None:
        name = by or self.layer.spec.reset
        if name is not None:
            getattr(root, name)()

    def _backward(self, returned: Any) -> tuple[Form, Any]:
        """What backward returns, and the form in which it was called; MISSING if it raises."""
        forms = [self.form]
        if self.form.upstream == "first" and self.form.results > 1:  # all upstream gradients in one tuple, perhaps
            forms.insert(0, replace(self.form, upstream="tuple"))
        for form in forms:
            root = duplicate(self.work) if form is not forms[-1] else self.work
            with contextlib.suppress(Exception):
                found = self._called(root, form, returned)
                if form is forms[-1] or self._fit_inputs(found):
                    if root is not self.work:
                        self.work = root
                    return form, found
        return forms[-1], MISSING

    def _called(
        self, root: Any, form: Form, returned: Any, inputs: Sequence[Any] | None = None, scale: float = 1.0
    ) -> Any:
        results, cache = form.results_of(returned)
        y = form.y_of(results)
        dy = np.asarray(scale * np.random.default_rng(1).integers(1, 9, np.shape(y))).astype(np.real(y).dtype)
        given = dict(zip(self.names, inputs or self.inputs, strict=False))
        return form.call_backward(root.backward, dy, results, cache, given)

    def _fit_inputs(self, returned: Any) -> bool:
        items = [each for each in gradients_of(returned, self.names, ())[0] if each is not None]
        arrays = [each for each in self.inputs if is_floating(each)]
        return bool(items) and all(np.shape(g) == a.shape for g, a in zip(items, arrays, strict=False))

    def _results(self, root: Any, inputs: Sequence[Any], *, back: bool = False) -> list[np.ndarray]:
        """Copies of the results of a forward; nothing if it raises. With `back`, backward is called after it."""
        try:
            self._reset(root)
            returned = root.forward(*self._own(inputs), **self.options)
            results, _ = self.form.results_of(returned)
            copies = [np.array(each, np.result_type(each)) for each in self.form.checked(results)]
        except Exception:
            return []
        if back:
            with contextlib.suppress(Exception):
                self._called(root, self.form, returned, inputs)
        return copies

    # What is learnt

    def report(self, discover: bool) -> None:
        """Write into the layer what is known."""
        layer, work = self.layer, self.work
        changed = self.start.changed(self.end)
        found = kept_between_calls(work, self.start, changed, lambda: self._results(work, self.inputs, back=True))
        self.random, self.kept = found is None, found or ()
        made = [path for path in changed if path not in self.kept and self._stays(path)]
        for path in changed:
            if path not in made:
                self.start.restore(work, path)
        layer.form, layer.unchecked = self.form, [*self.form.notes]
        if discover:
            matter = self._discover(made)
            if any(group.under(made) for group in matter):  # parameters that the first forward makes
                layer.root = duplicate(work)
                layer.start = Snapshot(layer.root)
        layer.kept = self.kept
        self._say_what_is_kept()
        self._say_results()
        self._find_reset()
        if not self.random and self.returned is not MISSING and not layer.stale:
            self._find_piles()

    def _is_written(self, path: Path) -> bool:
        """Whether backward writes to the place."""
        return any(path[: len(each)] == each for each in self.in_backward)

    def _stays(self, path: Path) -> bool:
        """Whether it may be what a first forward builds: a new value, or a flag or size that says it is built."""
        before = self.start.saved[path].value if path in self.start.saved else None
        return before is None or isinstance(before, (bool, int, str))

    def _forward_of(self, root: Any, k: int) -> list[np.ndarray]:
        """The results at the inputs given, elsewhere, and elsewhere from another state."""
        for path in self.kept:
            self.start.restore(root, path)
            value = _places.read(root, path)
            if k == 2 and is_floating(value):
                _places.write(root, path, moved_array(value, (0.5, 0.25), np.random.default_rng(2)))
        return self._results(root, self.others if k else self.inputs)

    def _depends(self, groups: Sequence[Group]) -> list[Group]:
        """The groups on which y depends."""
        by_state = [group for group in groups if group.under(self.kept)]
        rest = [group for group in groups if not group.under(self.kept)]
        tries = (3 if self.kept else 2) if self._forward_of(self.work, 1) else 1
        others = [group for group in groups_of(self.work) if all(group.array is not each.array for each in groups)]
        others = [group for group in others if not group.under(self.kept)]
        found = []
        if not self.random:
            found = that_matter(self.work, rest, others, lambda k: self._forward_of(self.work, k), tries)
        return [group for group in groups if group in by_state or group in found]

    def _discover(self, made: Sequence[Path]) -> list[Group]:
        """Find the parameters, and say which arrays matter and have no gradient. Return all that matter."""
        layer = self.layer
        groups = groups_of(self.work)
        named = layer.named(groups)
        _check_fixed(layer, groups, [*self.in_forward, *self.in_backward])
        rest = [group for group in groups if all(group is not each for each, _ in named)]
        places = {path: saved.value for path, saved in self.end.saved.items()}
        gradients = paired(rest, places, self._is_written)
        views = self.views = sharing(rest, layer.target)
        own = [
            k
            for k in gradients
            if not rest[k].under(self.in_forward)
            and not layer.is_fixed(rest[k])
            and all(rest[k] is not each for each in views)
        ]
        asked = [rest[k] for k in range(len(rest)) if k not in own]
        depends = self._depends(asked)
        numbers = [
            Group((path,), np.array(float(saved.value)))
            for path, saved in self.start.saved.items()
            if type(saved.value) is float or isinstance(saved.value, np.floating)
        ]
        numbers = [each for each in numbers if not each.under(self.in_forward) and not layer.is_fixed(each)]
        numbers = [each for each in numbers if all(each.paths[0] not in group.paths for group, _ in named)]
        slopes = {place: value for place, value in places.items() if self._is_written(place)}
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
        returned = self._returned(unpaired, sum(gradient is None for _, gradient in named))
        unpaired = [each for each in unpaired if all(each is not one for one, _ in returned)]
        layer.parameters = layer.made([*named, *returned, *found])
        self._say_unpaired(unpaired, [*places])
        self._say_ungraded()
        fixed = [group for group in depends if layer.is_fixed(group)]
        for name in display_names(fixed, self.names):
            layer.unchecked.append(Uncovered(name, "fixed"))
        return [*depends, *(group for group, _ in named)]

    def _returned(self, unpaired: Sequence[Group], known: int) -> list[tuple[Group, None]]:
        """The arrays whose gradients backward returns: by name, or after those of the inputs by their shapes."""
        if self.returned is MISSING:
            return []
        names = display_names(unpaired, self.names)
        items, by_name = gradients_of(self.returned, [self.names[k] for k in self.floating], names)
        found: list[tuple[Group, None]] = [
            (group, None) for name, group in zip(names, unpaired, strict=True) if name in by_name
        ]
        extra = items[len(self.floating) + known :]
        if len(items) == len(self.inputs) and all(
            items[k] is None for k in range(len(items)) if k not in self.floating
        ):
            extra = []
        fits = [[group for group in unpaired if same_entries(np.shape(each), group.array.shape)] for each in extra]
        if extra and all(len(each) == 1 for each in fits) and len({id(each[0]) for each in fits}) == len(fits):
            return [*found, *((each[0], None) for each in fits)]
        if extra and any(fits):
            self.layer.most_gradients = len(self.floating) + known
        return found

    # What is said

    def _say_unpaired(self, unpaired: Sequence[Group], places: Sequence[Path]) -> None:
        layer = self.layer
        checked = [path for each in layer.parameters for path in (*each.paths, each.gradient)]
        written = [path for path in places if self._is_written(path)]
        for group, name in zip(unpaired, display_names(unpaired, self.names), strict=True):
            shape = group.array.shape
            likely = [
                path
                for path in written
                if path not in checked
                and path not in group.paths
                and is_floating(value := self.end.saved[path].value)
                and same_entries(value.shape, shape)
            ]
            gradient = _places.text(likely[0]) if likely else f"d{name.rpartition('.')[2]}"
            remedy = f"Write parameters={{{name!r}: {gradient!r}}} to say where backward leaves its gradient"
            why = "y depends on it, and no gradient of it was found"
            if layer.most_gradients is not None:
                remedy = f"Write parameters={display_names(unpaired, self.names)!r} in the order that backward returns"
            if group.under(self.in_backward):
                why = "backward changes it, and so what forward computes: an update. No gradient of it was found"
                rate = rate_name(self.work)
                if rate and not likely and layer.most_gradients is None and self._subtracts_multiples(group):
                    remedy = f"Write parameters={{{name!r}: 'update'}} to check what backward subtracts, over {rate}"
            elif group.under(self.kept):
                continue  # state, of which the layer says that it is kept
            remedy += f", or fixed=({name!r},) if it has none"
            if any(group is each for each in self.views):
                why += ". It shares memory with another array of the layer, which a check does not follow"
                remedy = f"Let forward and backward read one of them, or write fixed=({name!r},)"
            layer.unchecked.append(Uncovered(name, why, remedy, matters=True))

    def _subtracts_multiples(self, group: Group) -> bool:
        """Whether backward subtracts twice as much for twice the dy, as no other rule than plain descent does."""
        steps = []
        for scale in (1.0, 2.0):
            root = duplicate(self.work)
            try:
                returned = root.forward(*self._own(self.inputs), **self.options)
                before = np.array(_places.read(root, group.paths[0]))
                self._called(root, self.form, returned, scale=scale)
            except Exception:
                return False
            steps.append(before - _places.read(root, group.paths[0]))
        # A difference of what is rounded to the precision of the weights, and a factor of 2.
        rounding = 4 * float(np.finfo(group.array.dtype).eps) * np.abs(group.array).max(initial=0.0)
        return bool(
            np.abs(steps[1] - 2 * steps[0]).max(initial=0.0) <= rounding + 1e-9 * np.abs(steps[1]).max(initial=0)
        )

    def _say_ungraded(self) -> None:
        """Say which inputs backward returns no gradient for."""
        layer = self.layer
        if self.returned is MISSING or not self.floating:
            return
        names = [each.name for each in layer.parameters]
        own = layer.gradients(self.returned, self.inputs, np.array(1.0))[: len(self.floating)]
        missing = [k for k, gradient in zip(self.floating, own, strict=False) if gradient is None]
        if len(missing) == len(self.floating) and not names:
            return
        layer.ungraded = tuple(self.names[k] for k in missing)
        checked = [self.names[k] for k in self.floating if k not in missing] + names
        for k in missing:
            remedy = f"Write wrt={checked!r} if it has none"
            layer.unchecked.append(Uncovered(self.names[k], "backward returns no gradient for it", remedy, True))

    def _say_what_is_kept(self) -> None:
        layer = self.layer
        paths = [path for each in layer.parameters for path in each.paths]
        said = {each.name for each in layer.unchecked}
        for path in self.kept:
            name = _places.text(path)
            if name in said:
                continue
            if path in paths:
                why = "the layer changes it when it is called; each call was made with its value set"
            else:
                why = "the layer keeps it between calls; each call was made from the state given"
            layer.unchecked.append(Uncovered(name, why))

    def _say_results(self) -> None:
        form = self.form
        results, _ = form.results_of(self.raw)
        self.layer.results = len(form.checked(results))
        if form.results == 1:
            return
        if form.upstream == "first":
            why = "backward takes one upstream gradient, that of result 0"
            self.layer.unchecked += [Uncovered(f"result {k}", why) for k in range(1, form.results)]
        elif self.layer.results < form.results:
            kinds = {k: getattr(each, "dtype", type(each).__name__) for k, each in enumerate(results)}
            whole = {k: kind for k, kind in kinds.items() if getattr(kind, "kind", "") not in ("f", "c")}
            self.layer.unchecked += [Uncovered(f"result {k}", f"{kind} has no gradient") for k, kind in whole.items()]

    # Forwards that pile up

    def _gradients(self, *forwards: Sequence[Any], reset: str = "first", by: str | None = None) -> list[np.ndarray]:
        """The gradients after these forwards, each made from the state given. `by` is the method that resets."""
        root = duplicate(self.layer.root)
        start = Snapshot(root)
        returned: Any = None
        for inputs in forwards:
            for path in self.kept:
                start.restore(root, path)
            if reset == "each" or (reset == "first" and inputs is forwards[0]):
                self._reset(root, by)
            returned = root.forward(*self._own(inputs), **self.options)
        if reset == "before backward":
            self._reset(root)
        found = self._called(root, self.form, returned, forwards[-1])
        items, by_name = gradients_of(found, self.names, [each.name for each in self.layer.parameters])
        places = [_places.read(root, each.gradient) for each in self.layer.parameters if each.gradient]
        return [np.array(each) for each in (*items, *by_name.values(), *places) if isinstance(each, np.ndarray)]

    def _find_reset(self) -> None:
        """Find out whether the method to call before backward empties what backward needs."""
        if self.layer.spec.reset is None:
            return
        try:
            right = self._gradients(self.inputs)
        except Exception:
            return
        try:
            now = self._gradients(self.inputs, reset="before backward")
        except Exception:
            now = []
        self.layer.replayed = not same_results(right, now)

    def _find_piles(self) -> None:
        """Find out whether the gradient belongs to an earlier forward than the latest."""
        if self._is_of_the_latest("each" if self.layer.replayed else "first"):
            return
        grown = [
            _places.text(path)
            for path in self.in_forward
            if path in self.start.saved and isinstance(self.start.saved[path].value, (list, dict, collections.deque))
        ]
        where = f" in {', '.join(grown)}" if grown else ""
        resets = [name for name in dir(self.layer.target) if _is_reset(self.layer.target, name)]
        resets = [name for name in resets if self._is_of_the_latest("each", name)]
        remedy = f". If it is emptied on purpose: reset={resets[0]!r}" if resets else ""
        self.layer.stale = (
            f"forwards pile up{where}, and backward does not belong to the latest: after another forward "
            f"the same call has another gradient{remedy}"
        )

    def _is_of_the_latest(self, reset: str, by: str | None = None) -> bool:
        try:
            alone = self._gradients(self.inputs, reset=reset, by=by)
            after = self._gradients(self.others, self.inputs, reset=reset, by=by)
        except Exception:
            return by is None
        return same_results(alone, after)


def _is_reset(target: Any, name: str) -> bool:
    words = ("zero", "reset", "clear", "flush", "empty")
    if name.startswith("__") or not any(word in canonical(name) for word in words):
        return False
    function = getattr(target, name, None)
    return callable(function) and not any(each.required for each in positional(function))


def _elsewhere(value: Any, k: int) -> Any:
    """Other inputs of the same kind: without zeros and ties."""
    if not is_floating(value):
        return value
    moved = value + np.random.default_rng(k).uniform(0.25, 1.0, value.shape)
    return np.asarray(moved).astype(value.dtype)


def _check_fixed(layer: PlainLayer, groups: Sequence[Group], later: Sequence[Path]) -> None:
    for name in layer.spec.fixed:
        if not any(means(name, group) for group in groups):
            own = [group for group in groups if not group.under(later)]
            known = ", ".join(display_names(own, ())) or "none"
            kind = type(layer.target).__name__
            raise ValueError(f"fixed holds {name!r}, which is none of the floating arrays of {kind}: {known}")


@contextlib.contextmanager
def _raised() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _Raised from error
