"""How a layer's forward and backward are called: one result or several, a cache or none, dy or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verify.adapters._names import canonical, is_gradient_of, is_rate, is_upstream
from verify.adapters._pair import positional
from verify.checker.certificate import Uncovered
from verify.checker.point import Array

# Any rate but 0 shows a gradient that backward computes after its own update.
RATE = 1.0


@dataclass(frozen=True)
class Form:
    """One way to call a layer.

    `results` is how many results forward returns, besides a cache. `upstream` says how backward takes their
    gradients: "one", "each" (an argument each), "tuple", "dict", "first" (that of the first result alone) or "none".
    A dict of results has `keys`.
    `extra` are backward's other arguments by name. Those in `given` are inputs of the same name.
    """

    takes_cache: bool = False
    results: int = 1
    upstream: str = "one"
    extra: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    notes: tuple[Uncovered, ...] = ()
    keys: tuple[Any, ...] = ()

    def results_of(self, returned: Any) -> tuple[tuple[Any, ...], Any]:
        """Return the results of a forward, and its cache."""
        if self.takes_cache:
            y, cache = returned
            return (_as_array(y),), cache
        if isinstance(returned, dict) and self.keys:
            return tuple(_as_array(returned[key]) for key in self.keys), None
        if self.results == 1:
            return (_as_array(returned),), None
        return tuple(_as_array(each) for each in returned), None

    def y_of(self, results: Sequence[Any]) -> Any:
        """Return the results as one y: end to end if there are several, their sum if backward takes no dy."""
        checked = self.checked(results)
        if len(checked) > 1:
            return np.concatenate([np.ravel(each) for each in checked])
        return checked[0].sum() if self.upstream == "none" and np.size(checked[0]) != 1 else checked[0]

    def checked(self, results: Sequence[Any]) -> list[Any]:
        """Return the results that are part of y: the floating ones, or the first."""
        if len(results) == 1 or self.upstream == "first":
            return list(results[:1])
        return [each for each in results if _floats(each)]

    def call_backward(
        self,
        backward: Callable[..., Any],
        dy: Array,
        results: Sequence[Any],
        cache: Any,
        inputs: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what backward returns for this dy. `more` are arguments that stand before those of `extra`."""
        extra = {**self.extra, **{name: inputs[name] for name in self.given}, **(more or {})}
        if self.upstream == "none":
            return backward(**extra)
        if self.takes_cache:
            return backward(dy, cache, **extra)
        if self.upstream in ("one", "first"):
            return backward(dy, **extra)
        parts = _split(dy, results)
        if self.upstream == "dict":
            return backward(dict(zip(self.keys, parts, strict=True)), **extra)
        return backward(tuple(parts), **extra) if self.upstream == "tuple" else backward(*parts, **extra)


def _as_array(result: Any) -> Any:
    return np.asarray(float(result)) if isinstance(result, (int, float)) and not isinstance(result, bool) else result


def _floats(result: Any) -> bool:
    return isinstance(result, (np.ndarray, np.generic)) and result.dtype.kind in "fc"


def _split(dy: Array, results: Sequence[Any]) -> list[Any]:
    """The upstream gradient of each result, None for one that is not floating."""
    parts: list[Any] = []
    start = 0
    for each in results:
        if not _floats(each):
            parts.append(None)
            continue
        size = np.size(each)
        parts.append(dy[start : start + size].reshape(np.shape(each)))
        start += size
    return parts


def form_of(layer: Any, returned: Any, input_names: Sequence[str], options: Mapping[str, Any] | None = None) -> Form:
    """Return how to call a layer whose forward returned this.

    A second required argument of backward is a cache only if forward returns two results, and if it is not named as
    an upstream gradient. Raises TypeError for an argument of which nothing is known.
    """
    options = dict(options or {})
    arguments = positional(layer.backward)
    required = [each.name for each in arguments if each.required and each.name not in options]
    keys = tuple(returned) if isinstance(returned, dict) else ()
    returned = [*returned.values()] if keys else returned
    count = len(returned) if isinstance(returned, (tuple, list)) else 1
    if not [each for each in arguments if each.name not in options] or (
        count == 1 and required and set(required) <= set(input_names) and not any(map(is_upstream, required))
    ):
        why = "backward takes none. Its gradient is for dy = 1, and was multiplied by dy"
        return Form(False, count, "none", options, tuple(required), (Uncovered("dy", why),))
    first, *others = [each.name for each in arguments if each.name not in options] or [""]
    unknown = [name for name in required if name != first]
    if (
        count == 2
        and not keys
        and len(unknown) == 1
        and not (is_upstream(unknown[0]) and _floats(_as_array(returned[1])))
    ):
        return Form(True, 1, "one", options)
    if count > 1 and len(others) >= count - 1 and all(map(is_upstream, others[: count - 1])):
        unknown = [name for name in unknown if name not in others[: count - 1]]
        upstream = "each"
    elif count > 1 and len(unknown) == count - 1 and not any(map(is_rate, unknown)):
        unknown, upstream = [], "each"
    else:
        upstream = "dict" if keys else "one" if count == 1 else "first"
    given = tuple(name for name in unknown if name in input_names)
    rates = [name for name in unknown if is_rate(name) and name not in given]
    unknown = [name for name in unknown if name not in (*given, *rates)]
    if unknown:
        kind, got = type(layer).__name__, "two results" if count == 2 else f"{count} results" if count > 1 else "one"
        values = ", ".join(f'"{name}": ...' for name in unknown)
        raise TypeError(
            f"backward of {kind} requires {', '.join(required)}. Forward returns {got}, so {unknown[0]} is no cache: "
            f"give its value by backward_options={{{values}}}"
        )
    notes = tuple(Uncovered(name, f"backward requires it: {RATE} was passed") for name in rates)
    return Form(False, count, upstream, {**options, **dict.fromkeys(rates, RATE)}, given, notes, keys)


def gradients_of(returned: Any, inputs: Sequence[str], names: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the gradients that backward returned: those in order, and those of parameters by name.

    A dict, or one inside a tuple, has gradients by name. A list inside a tuple is taken for its entries.
    """
    items: list[Any] = []
    named: dict[str, Any] = {}
    for each in returned if isinstance(returned, (tuple, list)) else (returned,):
        if isinstance(each, dict):
            named.update(each)
        elif isinstance(each, (tuple, list)):
            items.extend(each)
        else:
            items.append(each)
    found: dict[str, Any] = {}
    by_input: dict[str, Any] = {}
    for key, gradient in named.items():
        for target, known in ((by_input, inputs), (found, names)):
            name = next((name for name in known if _named(key, name)), None)
            if name is not None:
                target[name] = gradient
                break
    if by_input and not items:
        items = [by_input.get(name) for name in inputs]
    return items, found


def _named(key: Any, name: str) -> bool:
    return key == name or canonical(key) == canonical(name) or is_gradient_of(key, name)
