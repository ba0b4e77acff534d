"""The type of an exhibit, and the decorators that make one of a function.

An exhibit is one of four kinds:

- `gradient`: backward is wrong. Decorate `wrong(dy, call)`, which returns the wrong gradients.
- `forward`: forward and backward are wrong alike. No gradient check can see it. Decorate `wrong(implementation)`,
  which returns the wrong implementation, and give a call whose y was worked by hand.
- `state`: backward depends on memory, on earlier calls or on layouts. Decorate `wrong(implementation)`.
- `equivalent`: it looks wrong and is right, and must not be caught. Decorate as `gradient`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode
from verify.layers import LAYERS

Gradients = tuple[Any, ...]
GRADIENT, FORWARD, STATE, EQUIVALENT = "gradient", "forward", "state", "equivalent"


class Value(NamedTuple):
    """A call whose y was worked by hand."""

    arrays: tuple[Any, ...]
    options: Mapping[str, Any]
    y: Any


class Exhibit(NamedTuple):
    """A historical bug, planted in one of our layers.

    `wrong` says what is wrong, `shows` when it shows. `silent`: it raised no exception. `code` is the cause
    that a FAIL should name first, if there is one. `value` is what reveals a forward bug.
    """

    slug: str
    layer: str
    kind: str
    wrong: str
    shows: str
    source: str
    mutate: Callable[[Implementation], Implementation]
    code: CauseCode | None = None
    silent: bool = True
    value: Value | None = None


class Call(NamedTuple):
    """A forward that was run: the layer's own version, the arrays, all options, y, and the version's cache."""

    layer: str
    version: Implementation
    arrays: tuple[Any, ...]
    options: dict[str, Any]
    y: Array
    cache: Any

    def right(self, dy: Array) -> Gradients:
        """The right gradients."""
        return self.version.backward(dy, self.cache)

    def instead(self, dy: Array, **wrong: Any) -> Gradients:
        """The right gradients, with those given by name in their place: `dw=...`. That of a missing array stays None.

        A gradient that is a function gets the right one.
        """
        layer = LAYERS[self.layer]
        names = [f"d{layer.names[min(k, len(layer.names) - 1)]}" for k in layer.with_gradient(len(self.arrays))]
        unknown = set(wrong) - set(names)
        if unknown:
            raise ValueError(f"{self.layer} has the gradients {', '.join(names)}, not {', '.join(sorted(unknown))}")

        def chosen(name: str, gradient: Any) -> Any:
            if gradient is None or name not in wrong:
                return gradient
            made = wrong[name](gradient) if callable(wrong[name]) else wrong[name]
            return np.array(made) if isinstance(made, np.ndarray) else made

        return tuple(chosen(*each) for each in zip(names, self.right(dy), strict=True))

    def elsewhere(self, dy: Array, *arrays: Any, **options: Any) -> Gradients:
        """The gradients for other arrays or options. dy lies in the leading corner of that y, cut or with zeros."""
        y, cache = self.version.forward(*(arrays or self.arrays), **{**self.options, **options})
        return self.version.backward(leading(dy, y.shape), cache)


def leading(array: Array, shape: tuple[int, ...]) -> Array:
    """Return zeros of this shape with the array in their leading corner, cut where it does not fit."""
    made = np.zeros(shape, array.dtype)
    corner = tuple(slice(min(sizes)) for sizes in zip(shape, array.shape, strict=True))
    made[corner] = array[corner]
    return made


def packed(array: Array) -> Array:
    """Return what is read from the array's first entry on, if it is taken for packed. At its end it begins anew."""
    first, (_, end) = array.__array_interface__["data"][0], np.lib.array_utils.byte_bounds(array)
    within = min(array.size, (end - first) // array.itemsize)
    return np.resize(np.lib.stride_tricks.as_strided(array, (within,), (array.itemsize,)), array.shape)


def gradient(
    slug: str,
    layer: str,
    *,
    wrong: str,
    shows: str,
    source: str,
    code: CauseCode | None = None,
    silent: bool = True,
    kind: str = GRADIENT,
) -> Callable[[Callable[[Array, Call], Gradients]], Exhibit]:
    """Make an exhibit of `function(dy, call)`, which returns the wrong gradients."""

    def exhibit(function: Callable[[Array, Call], Gradients]) -> Exhibit:
        def mutate(version: Implementation) -> Implementation:
            def forward(*arrays: Any, **options: Any) -> tuple[Array, Call]:
                y, cache = version.forward(*arrays, **options)
                return y, Call(layer, version, *LAYERS[layer].complete(arrays, options), y, cache)

            def backward(dy: Array, call: Call) -> Gradients:
                return tuple(function(dy, call))

            return version._replace(forward=_like(version.forward, forward), backward=backward)

        return Exhibit(slug, layer, kind, wrong, shows, source, mutate, code, silent)

    return exhibit


def equivalent(slug: str, layer: str, *, wrong: str, source: str) -> Callable[[Any], Exhibit]:
    """Make an exhibit of `function(dy, call)`, whose gradients look wrong and are right."""
    return gradient(slug, layer, wrong=wrong, shows="never: it changes nothing", source=source, kind=EQUIVALENT)


def forward(
    slug: str, layer: str, *, wrong: str, shows: str, source: str, value: Value
) -> Callable[[Callable[[Implementation], Implementation]], Exhibit]:
    """Make an exhibit of `function(version)`, which returns one whose forward and backward are wrong alike."""

    def exhibit(function: Callable[[Implementation], Implementation]) -> Exhibit:
        return Exhibit(slug, layer, FORWARD, wrong, shows, source, _wrapped(function), value=value)

    return exhibit


def state(
    slug: str, layer: str, *, wrong: str, shows: str, source: str, code: CauseCode | None = None, silent: bool = True
) -> Callable[[Callable[[Implementation], Implementation]], Exhibit]:
    """Make an exhibit of `function(version)`, which returns one that depends on memory, earlier calls or layouts."""

    def exhibit(function: Callable[[Implementation], Implementation]) -> Exhibit:
        return Exhibit(slug, layer, STATE, wrong, shows, source, _wrapped(function), code, silent)

    return exhibit


def after(
    version: Implementation, change: Callable[[Array, Call], Array], back: Callable[[Array, Call], Array]
) -> Implementation:
    """Return the version with its y changed, and dy taken back through that change: wrong alike.

    `change(y, call)` is linear in y, or a choice; `back(dy, call)` is its transpose. Each returns another array.
    """

    def forward(*arrays: Any, **options: Any) -> tuple[Array, Call]:
        y, cache = version.forward(*arrays, **options)
        call = Call("", version, arrays, options, y, cache)
        return change(y, call), call

    def backward(dy: Array, call: Call) -> Gradients:
        return call.right(back(dy, call))

    return version._replace(forward=forward, backward=backward)


def _wrapped(function: Callable[[Implementation], Implementation]) -> Callable[[Implementation], Implementation]:
    def mutate(version: Implementation) -> Implementation:
        made = function(version)
        return made._replace(forward=_like(version.forward, made.forward))

    return mutate


def _like(right: Callable[..., Any], wrong: Callable[..., Any]) -> Callable[..., Any]:
    """Give a wrong forward the right one's signature, by which arrays are named."""
    if wrong is not right:
        vars(wrong)["__signature__"] = vars(right)["__signature__"]
    return wrong
