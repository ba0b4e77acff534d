"""The type of a mutant, and the functions that make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_core import Implementation
from verify.diagnosis.causes import CauseCode as C
from verify.layers import LAYERS

Array = Any
Gradients = tuple[Any, ...]
Backward = Callable[[Array, Any], Gradients]


class Mutant(NamedTuple):
    """A wrong version of a layer's implementation, and the code of the cause it must get.

    If `battery`, the gradients are right in the calls of gradcheck, and only the contracts show the error.
    """

    name: str
    layer: str
    code: C
    mutate: Callable[[Implementation], Implementation]
    battery: bool = False


MUTANTS: list[Mutant] = []


def keeping(cache: Any, **changes: Any) -> Any:
    """The cache, as if its forward had kept other values."""
    return cache._replace(kept=cache.kept._replace(**changes))


def add(name: str, layer: str, code: C, wrong: Callable[[Array, Any, Backward], Gradients]) -> None:
    """Add a mutant whose backward is wrong(dy, cache, right), where `right` is the layer's own backward."""

    def mutate(implementation: Implementation) -> Implementation:
        def backward(dy: Array, cache: Any) -> Gradients:
            return tuple(wrong(dy, cache, implementation.backward))

        return implementation._replace(backward=backward)

    MUTANTS.append(Mutant(f"{layer}: {name}", layer, code, mutate))


def change(name: str, layer: str, code: C, which: int, change: Callable[[Array], Array]) -> None:
    """Add a mutant in which one gradient becomes change(gradient), unless it is None."""
    add(name, layer, code, lambda dy, cache, right: put(right(dy, cache), which, change))


def put(gradients: Sequence[Any], which: int, change: Callable[[Array], Array]) -> Gradients:
    """Return the gradients with one of them changed, unless it is None."""
    return tuple(change(g) if i == which and g is not None else g for i, g in enumerate(gradients))


def given(name: str, layer: str, code: C, which: int, wrong: Callable[[Array, Any, Backward], Array]) -> None:
    """Add a mutant in which one gradient becomes wrong(dy, cache, right)."""
    add(
        name,
        layer,
        code,
        lambda dy, cache, right: put(right(dy, cache), which, lambda g: np.asarray(wrong(dy, cache, right))),
    )


def of_dy(name: str, layer: str, code: C, which: int, change: Callable[[Array], Array]) -> None:
    """Add a mutant in which one gradient is computed from change(dy)."""
    given(name, layer, code, which, lambda dy, cache, right: right(np.array(change(dy), order="C"), cache)[which])


def whole(name: str, layer: str, code: C, mutate: Any, battery: bool = False) -> None:
    """Add the mutant mutate(implementation)."""
    MUTANTS.append(Mutant(f"{layer}: {name}", layer, code, mutate, battery))


def left_out(array: Array, axis: int) -> Array:
    """Return a copy with zeros in the last slice along an axis."""
    cut = array.copy()
    if cut.ndim > axis:
        np.moveaxis(cut, axis, 0)[-1:] = 0
    return cut


def only(array: Array, axes: tuple[int, ...], which: int) -> Array:
    """Return a copy with zeros everywhere except at one position along these axes."""
    kept = np.zeros_like(array)
    place = tuple(slice(which, which + 1 or None) if axis in axes else slice(None) for axis in range(array.ndim))
    kept[place] = array[place]
    return kept


def features_first(gradient: Array) -> Array:
    """Return the gradient as (features, N), reshaped to its own shape without a transpose."""
    if gradient.ndim < 2 or not gradient.size:
        return gradient
    return gradient.reshape(len(gradient), -1).T.reshape(gradient.shape).copy()


def rolled(array: Array, by: int, axis: int) -> Array:
    """Return the array rolled along an axis, if it has this axis."""
    return np.roll(array, by, axis) if array.ndim > axis else array


def shuffled(gradient: Array) -> Array:
    """Swap the first two of at least three slices. Swapping two of two is also a roll and a mirroring."""
    return gradient[[1, 0, *range(2, len(gradient))]] if len(gradient) > 2 else gradient


# Layer -> the number of its gradients.
GRADIENTS = {layer.name: len(layer.differentiable) for layer in LAYERS.values()}
EXACT = tuple(layer.name for layer in LAYERS.values() if layer.exact)
