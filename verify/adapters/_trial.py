"""One forward and one backward of a copy of a layer, and what a few calls more show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verify.adapters import _places
from verify.adapters._calls import Form, form_of, gradients_of
from verify.adapters._layer import PlainLayer
from verify.adapters._parameters import Group, groups_of, moved_array, that_matter
from verify.adapters._places import MISSING, Path, duplicate, is_floating
from verify.adapters._state import Snapshot


class Raised(Exception):
    """The layer raised where it is only tried: the check itself will say so."""


class Trial:
    """One forward and one backward of a copy, and what is known after them."""

    def __init__(self, layer: PlainLayer, inputs: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.layer, self.options = layer, options
        self.names = [each.name for each in layer.inputs] + [f"arg{k}" for k in range(len(layer.inputs), len(inputs))]
        self.inputs = [np.array(each) if isinstance(each, np.ndarray) else each for each in inputs]
        self.others = [_elsewhere(each, k) for k, each in enumerate(self.inputs)]
        self.kept: tuple[Path, ...] = ()
        self.random = False
        self.views: list[Group] = []
        self.work = duplicate(layer.target)
        self.start = Snapshot(self.work)
        self.reset(self.work)
        with _raised():
            returned = self.work.forward(*self.own(self.inputs), **options)
        self.middle = Snapshot(self.work)
        self.raw = returned
        self.form = form_of(self.work, returned, self.names, layer.spec.backward_options)
        self.form, self.returned = self.backward(returned)
        self.end = Snapshot(self.work)
        self.in_forward, self.in_backward = self.start.changed(self.middle), self.middle.changed(self.end)
        self.floating = [k for k, each in enumerate(self.inputs) if is_floating(each)]

    def own(self, inputs: Sequence[Any]) -> list[Any]:
        return [each.copy() if isinstance(each, np.ndarray) else each for each in inputs]

    def reset(self, root: Any, by: str | None = None) -> None:
        name = by or self.layer.spec.reset
        if name is not None:
            getattr(root, name)()

    def backward(self, returned: Any) -> tuple[Form, Any]:
        """What backward returns, and the form in which it was called; MISSING if it raises."""
        forms = [self.form]
        if self.form.upstream == "first" and self.form.results > 1:  # all upstream gradients in one tuple, perhaps
            forms.insert(0, replace(self.form, upstream="tuple"))
        for form in forms:
            root = duplicate(self.work) if form is not forms[-1] else self.work
            with contextlib.suppress(Exception):
                found = self.called(root, form, returned)
                if form is forms[-1] or self.fit_inputs(found):
                    if root is not self.work:
                        self.work = root
                    return form, found
        return forms[-1], MISSING

    def called(
        self, root: Any, form: Form, returned: Any, inputs: Sequence[Any] | None = None, scale: float = 1.0
    ) -> Any:
        results, cache = form.results_of(returned)
        y = form.y_of(results)
        dy = np.asarray(scale * np.random.default_rng(1).integers(1, 9, np.shape(y))).astype(np.real(y).dtype)
        given = dict(zip(self.names, inputs or self.inputs, strict=False))
        return form.call_backward(root.backward, dy, results, cache, given)

    def fit_inputs(self, returned: Any) -> bool:
        items = [each for each in gradients_of(returned, self.names, ())[0] if each is not None]
        arrays = [each for each in self.inputs if is_floating(each)]
        return bool(items) and all(np.shape(g) == a.shape for g, a in zip(items, arrays, strict=False))

    def results(self, root: Any, inputs: Sequence[Any], *, back: bool = False) -> list[np.ndarray]:
        """Copies of the results of a forward; nothing if it raises. With `back`, backward is called after it."""
        try:
            self.reset(root)
            returned = root.forward(*self.own(inputs), **self.options)
            results, _ = self.form.results_of(returned)
            copies = [np.array(each, np.result_type(each)) for each in self.form.checked(results)]
        except Exception:
            return []
        if back:
            with contextlib.suppress(Exception):
                self.called(root, self.form, returned, inputs)
        return copies

    def is_state(self, group: Group) -> bool:
        """Whether forward changes it, and must find it as it was to give the same y again."""
        return group.under(self.kept) and group.under(self.in_forward)

    def is_written(self, path: Path) -> bool:
        """Whether backward writes to the place."""
        return any(path[: len(each)] == each for each in self.in_backward)

    def stays(self, path: Path) -> bool:
        """Whether it may be what a first forward builds: a new value, or a flag or size that says it is built."""
        before = self.start.saved[path].value if path in self.start.saved else None
        return before is None or isinstance(before, (bool, int, str))

    def forward_of(self, root: Any, k: int) -> list[np.ndarray]:
        """The results at the inputs given, elsewhere, and elsewhere from another state."""
        for path in self.kept:
            self.start.restore(root, path)
            value = _places.read(root, path)
            if k == 2 and is_floating(value):
                _places.write(root, path, moved_array(value, (0.5, 0.25), np.random.default_rng(2)))
        return self.results(root, self.others if k else self.inputs)

    def depends(self, groups: Sequence[Group]) -> list[Group]:
        """The groups on which y depends."""
        by_state = [group for group in groups if group.under(self.kept)]
        rest = [group for group in groups if not group.under(self.kept)]
        tries = (3 if self.kept else 2) if self.forward_of(self.work, 1) else 1
        others = [group for group in groups_of(self.work) if all(group.array is not each.array for each in groups)]
        others = [group for group in others if not group.under(self.kept)]
        found = []
        if not self.random:
            found = that_matter(self.work, rest, others, lambda k: self.forward_of(self.work, k), tries)
        return [group for group in groups if group in by_state or group in found]

    def gradients(self, *forwards: Sequence[Any], reset: str = "first", by: str | None = None) -> list[np.ndarray]:
        """The gradients after these forwards, each made from the state given. `by` is the method that resets."""
        root = duplicate(self.layer.root)
        start = Snapshot(root)
        returned: Any = None
        for inputs in forwards:
            for path in self.kept:
                start.restore(root, path)
            if reset == "each" or (reset == "first" and inputs is forwards[0]):
                self.reset(root, by)
            returned = root.forward(*self.own(inputs), **self.options)
        if reset == "before backward":
            self.reset(root)
        found = self.called(root, self.form, returned, forwards[-1])
        items, by_name = gradients_of(found, self.names, [each.name for each in self.layer.parameters])
        places = [_places.read(root, each.gradient) for each in self.layer.parameters if each.gradient]
        return [np.array(each) for each in (*items, *by_name.values(), *places) if isinstance(each, np.ndarray)]


def _elsewhere(value: Any, k: int) -> Any:
    """Other inputs of the same kind: without zeros and ties."""
    if not is_floating(value):
        return value
    moved = value + np.random.default_rng(k).uniform(0.25, 1.0, value.shape)
    return np.asarray(moved).astype(value.dtype)


@contextlib.contextmanager
def _raised() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Raised from error
