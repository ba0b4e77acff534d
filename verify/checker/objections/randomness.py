"""Does a call give another answer when it is made again, or when an array is moved?"""

from __future__ import annotations

from typing import Any

import numpy as np

from verify.checker.directions import index_of
from verify.checker.layer import LayerUnderTest, NoResult
from verify.checker.point import Array, Point

# Of 450 batch normalisations, in which a bias has a gradient of 0, none was off by more than twice its noisiest entry;
# 8 places then find it, and 16 times the noise is tolerated.
_PLACES, _NOISY = 8, 16
# Roundings of a noisy entry of y count as far as they leave it two fifths of its digits: 2^20 of them in float64.
_SHARE_OF_DIGITS = 20 / 52
# Between eps, which moves nothing, and its root, at which a slope of 1 shows.
_SHORT = 0.75


def why_not_repeated(layer: LayerUnderTest) -> str:
    """Why y is another when the forward is called again, as far as five more calls tell, and what to do."""
    if layer.is_random():
        return (
            "two calls of the forward with the same arrays differ: fix its randomness (a seed set inside it, or what "
            "it draws as an array), or reset what it keeps between calls"
        )
    return (
        "the forward gives another y after backward was called: backward changes what forward computes, such as its "
        "weights. Let it return gradients only, and update elsewhere"
    )


def where_not_repeated(point: Point, k: int) -> tuple[int, ...] | None:
    """Where a second call gives another gradient by most; None where it does not, or the forward is random."""
    if point.layer.is_random():
        return None
    _, cache = point.layer.value_and_cache(point.arrays)
    off = np.abs(point.layer.pull_back(point.arrays, point.dy, cache)[k] - point.claimed[k])
    return index_of(int(off.argmax()), off.shape) if off.any() else None


def is_constant(layer: LayerUnderTest, k: int, rng: np.random.Generator) -> bool:
    """Whether y stays as it is, but for rounding, wherever argument k is moved: its gradient is 0, not just small.

    So it is with a bias before a normalisation, or with a number added to all logits. Short moves from each place show
    what rounding does: where y depends on k, they change it as much less as they are shorter.
    """
    array: Any = layer.arrays[k]
    eps = float(np.finfo(layer.dtype).eps)
    scale = max(1.0, float(np.abs(array).max()))

    def moved(start: Array, size: float) -> Array:
        step = size * scale * rng.normal(size=array.shape)
        return np.asarray(start + step.astype(array.dtype))

    def value(place: Array) -> Array:
        return layer.value(layer.with_array(layer.arrays, k, place))

    places = [array, *(moved(array, 1.0) for _ in range(_PLACES))]
    try:
        values, beside = ([value(place) for place in of] for of in (places, [moved(p, eps**_SHORT) for p in places]))
    except NoResult:
        return False
    far, near = (np.abs(np.subtract(of, values)).max(axis=0) for of in ([values[0]] * len(values), beside))
    rounding = eps * np.abs(values).max(axis=0)
    noise = np.minimum(near.max(initial=0.0), eps**-_SHARE_OF_DIGITS * rounding)
    return bool((far <= _NOISY * (rounding + noise)).all())
