"""Does a call give another answer when it is made again, or when an array is moved?"""

from __future__ import annotations

from typing import Any

import numpy as np

from verify.checker.directions import index_of
from verify.checker.layer import ContractError, LayerUnderTest, NoResult
from verify.checker.objections import Disagreement
from verify.checker.point import Array, Worst
from verify.checker.reference import asked_again

# In 450 batch normalisations a bias before it had a gradient of 0. None was off by more than twice its noisiest entry.
# 8 places then find it, and 16 times the noise is tolerated.
_PLACES, _NOISY = 8, 16
# Roundings of a noisy entry of y count as far as they leave it two fifths of its digits: 2^20 of them in float64.
_SHARE_OF_DIGITS = 20 / 52
# Between eps, which moves nothing, and its root, at which a slope of 1 shows.
_SHORT = 0.75
# Of a gradient that loses a tenth of its entries at random, 100 entries asked twice are all the same 2 times in 10^9.
# Fewer entries are asked more often; a single one, of a loss by a number, 16 times at most.
_ASKED_AGAIN, _MOST_REPEATS = 100, 16
# Say that y takes one of two values at random. It is one before a backward and the other after it, four times in a
# row, once in 4^4 times. The five calls of `is_random` are then alike once in 2^4.
_UPDATES = 4
NOT_REPEATED = "asked again, backward gives another gradient"
UPDATES = (
    "the forward gives another y after backward was called: backward changes what forward computes, such as its "
    "weights. Let it return gradients only, and update elsewhere"
)


def not_repeated(layer: LayerUnderTest, rng: np.random.Generator, known: int) -> Worst | str | None:
    """An entry that backward gives another value when it is asked again at the same arrays and dy, and both values.

    None if there is none, or if the forward is random; a sentence if backward changes what forward computes. Integers
    upstream are exact, but sums in another order, as threads make them, may round: that is no other value. `known` is
    how many calls lost no entry.
    """
    entries = max(1, sum(int(layer.arrays[k].size) for k in layer.wrt))
    repeats = min(_MOST_REPEATS, -(-_ASKED_AGAIN // entries) - known)
    if repeats <= 0:
        return None
    y, cache = layer.value_and_cache(layer.arrays)
    dy = np.asarray(rng.choice([-1, 1], y.shape) * rng.integers(1, 9, y.shape)).astype(y.dtype)
    first = layer.pull_back(layer.arrays, dy, cache)
    for _ in range(repeats):
        again, cache = layer.value_and_cache(layer.arrays)
        if not np.array_equal(again, y, equal_nan=True):
            return UPDATES if why_not_repeated(layer) == UPDATES else None
        for k, gradient in layer.pull_back(layer.arrays, dy, cache).items():
            with np.errstate(invalid="ignore"):
                off = np.abs(gradient - first[k], dtype=np.float64)
            largest = float(np.abs(first[k]).max(initial=0.0))
            rounding = y.size * float(np.finfo(layer.dtype).eps) * largest
            if (off > rounding).any():
                index = index_of(int(np.nan_to_num(off).argmax()), off.shape)
                random = layer.is_random() or _off_zeros(layer, rng).is_random()
                return None if random else Worst(k, index, float(gradient[index]), float(first[k][index]), 0)
    return None


def agrees_again(case: Disagreement[Any]) -> str | None:
    """A reason if forward and backward agree when both are called again: one call of the forward was another.

    A backward that is random alone is wrong: it gives another gradient beside the same y and the same derivative.
    """
    again, same = asked_again(case.point, case.point.dy)
    interval = case.reference.derivative(again, case.k, case.v)
    off, off_before = (interval.excess(case.reference.claim(p, case.k, case.v)) for p in (again, case.point))
    return why_not_repeated(again.layer) if off == 0 and (off_before == 0 or not same) else None


def _off_zeros(layer: LayerUnderTest, rng: np.random.Generator) -> LayerUnderTest:
    """The layer where no entry is 0: there y hides no mask."""
    arrays = list(layer.arrays)
    for k in layer.wrt:
        arrays[k] = np.where(arrays[k] == 0, rng.normal(size=arrays[k].shape), arrays[k]).astype(arrays[k].dtype)
    return layer.at(arrays, layer.wrt)


def why_not_repeated(layer: LayerUnderTest) -> str:
    """Why y is another when the forward is called again, as far as more calls tell, and what to do."""
    if not layer.is_random() and _backward_changes_y(layer):
        return UPDATES
    return (
        "two calls of the forward with the same arrays differ: fix its randomness (a seed set inside it, or what "
        "it draws as an array), or reset what it keeps between calls"
    )


def _backward_changes_y(layer: LayerUnderTest) -> bool:
    """Whether the forward gives the same y again, and after each backward another, by more than rounding."""
    try:
        for _ in range(_UPDATES):
            before = layer.value(layer.arrays)
            y, cache = layer.value_and_cache(layer.arrays)
            layer.pull_back(layer.arrays, np.arange(1, y.size + 1).reshape(y.shape).astype(y.dtype), cache)
            after = layer.value(layer.arrays)
            rounding = y.size * float(np.finfo(y.dtype).eps) * float(np.abs(y).max(initial=0.0))
            if not np.array_equal(before, y, equal_nan=True) or (np.abs(after - y) <= rounding).all():
                return False
    except ContractError:
        return False
    return True


def is_constant(layer: LayerUnderTest, k: int, rng: np.random.Generator) -> bool:
    """Whether y stays as it is, but for rounding, wherever argument k is moved: its gradient is 0, not just small.

    So it is with a bias before a normalisation, or with a number added to all logits. Short moves from each place show
    what rounding does: where y depends on k, they change it as much less as they are shorter.
    """
    array: Any = layer.arrays[k]
    eps = float(np.finfo(layer.dtype).eps)
    scale = max(1.0, float(np.abs(array).max()))

    def elsewhere() -> Array:
        """Numbers of the same signs: x / |x| is constant for either."""
        numbers = np.where(array == 0, scale * rng.normal(size=array.shape), array * rng.uniform(0.1, 2, array.shape))
        return np.asarray(numbers).astype(array.dtype)

    def near_by(start: Array) -> Array:
        step = eps**_SHORT * scale * rng.normal(size=array.shape)
        return np.asarray(start + step.astype(array.dtype))

    def value(place: Array) -> Array:
        return layer.value(layer.with_array(layer.arrays, k, place)).astype(np.float64)

    places = [array, *(elsewhere() for _ in range(_PLACES))]
    try:
        values, beside = ([value(place) for place in of] for of in (places, [near_by(p) for p in places]))
    except NoResult:
        return False
    far, near = (np.abs(np.subtract(of, values)).max(axis=0) for of in ([values[0]] * len(values), beside))
    rounding = eps * np.abs(values).max(axis=0)
    noise = np.minimum(near.max(initial=0.0), eps**-_SHARE_OF_DIGITS * rounding)
    return bool((far <= _NOISY * (rounding + noise)).all())
