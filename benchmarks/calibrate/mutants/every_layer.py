"""Mutants of every layer: wrong gradients, wrong types and shapes, state, and errors without a pattern."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.calibrate.mutants._mutant import (
    EXACT,
    GRADIENTS,
    Array,
    Gradients,
    add,
    change,
    keeping,
    of_dy,
    only,
    put,
    whole,
)
from cnn_core import Implementation
from verify.diagnosis.causes import CauseCode as C

# Errors that any gradient of any layer can have.
for _layer, _count in GRADIENTS.items():
    for _which in range(_count):
        change(f"gradient {_which} zero", _layer, C.ZERO, _which, np.zeros_like)
        change(f"gradient {_which} negated", _layer, C.SIGN, _which, np.negative)
    change("dx half as much again", _layer, C.CONSTANT_FACTOR, 0, lambda g: g * 1.5)
    change("dx not finite", _layer, C.NOT_FINITE, 0, lambda g: np.full_like(g, np.inf))
    change("dx as None", _layer, C.NO_GRADIENT, 0, lambda g: None)
    change("dx flat and one more", _layer, C.WRONG_SHAPE, 0, lambda g: np.append(g.ravel(), 0.0))
    change("dx in float32", _layer, C.WRONG_DTYPE, 0, lambda g: g.astype(np.float32))
    add("one gradient too many", _layer, C.GRADIENT_COUNT, lambda dy, cache, right: (*right(dy, cache), dy))
    whole(
        "no tuple",
        _layer,
        C.GRADIENT_COUNT,
        lambda i: i._replace(backward=lambda dy, cache: iter(i.backward(dy, cache))),
    )
for _layer in EXACT:
    of_dy("dx for dy = 1", _layer, C.UPSTREAM_IGNORED, 0, np.ones_like)
    of_dy("dx of the last image alone", _layer, C.ONE_IMAGE_ONLY, 0, lambda dy: only(dy, (0,), -1))


def _accumulating(implementation: Implementation) -> Implementation:
    """Adds gradients to a buffer that is never zeroed (pool-dirty-buffer)."""
    buffers: dict[Any, Array] = {}

    def backward(dy: Array, cache: Any) -> Gradients:
        def added(g: Array) -> Array:
            buffers[g.shape] = buffers.get(g.shape, 0) + g
            return buffers[g.shape].copy()

        return put(implementation.backward(dy, cache), 0, added)

    return implementation._replace(backward=backward)


def _random(implementation: Implementation) -> Implementation:
    generator = np.random.default_rng(0)

    def noisy(g: Array) -> Array:
        return g + generator.integers(1, 99, g.shape)

    return implementation._replace(backward=lambda dy, cache: put(implementation.backward(dy, cache), 0, noisy))


def _late(implementation: Implementation) -> Implementation:
    """Uses the cache of the previous forward."""
    caches: list[Any] = []

    def forward(*arrays: Any, **options: Any) -> Any:
        y, cache = implementation.forward(*arrays, **options)
        caches[:] = [*caches[-1:], cache]
        return y, (caches[0], cache)

    def backward(dy: Array, cache: Any) -> Gradients:
        before, own = cache
        try:
            return implementation.backward(dy, before)
        except (TypeError, ValueError, IndexError):  # of another shape
            return implementation.backward(dy, own)

    return implementation._replace(forward=forward, backward=backward)


def _latest(implementation: Implementation) -> Implementation:
    """Uses the cache of the latest forward, whichever it was (stale-cache)."""
    caches: list[Any] = []

    def forward(*arrays: Any, **options: Any) -> Any:
        y, cache = implementation.forward(*arrays, **options)
        caches[:] = [cache]
        return y, None

    return implementation._replace(forward=forward, backward=lambda dy, cache: implementation.backward(dy, caches[0]))


def _overwriting(implementation: Implementation) -> Implementation:
    def backward(dy: Array, cache: Any) -> Gradients:
        gradients = implementation.backward(dy, cache)
        dy *= 2
        return gradients

    return implementation._replace(backward=backward)


def _packed(implementation: Implementation) -> Implementation:
    """Reads dy in the order of its memory (conv-dout-strides, maxpool-dout-strides)."""

    def backward(dy: Array, cache: Any) -> Gradients:
        return implementation.backward(dy.ravel(order="K").reshape(dy.shape), cache)

    return implementation._replace(backward=backward)


def _arrays_packed(implementation: Implementation) -> Implementation:
    def backward(dy: Array, cache: Any) -> Gradients:
        return implementation.backward(dy, keeping(cache, x=cache.x.ravel(order="K").reshape(cache.x.shape)))

    return implementation._replace(backward=backward)


def _kept(implementation: Implementation) -> Implementation:
    """Returns a gradient that is a view of dy."""

    def backward(dy: Array, cache: Any) -> Gradients:
        return (dy.reshape(np.asarray(implementation.backward(dy, cache)[0]).shape),)

    return implementation._replace(backward=backward)


for _layer in GRADIENTS:
    if _layer in EXACT:  # by another oracle, gradients that vary by call are INCONCLUSIVE
        whole("accumulates", _layer, C.ACCUMULATES, _accumulating)
        whole("dx with noise", _layer, C.RANDOM, _random)
    whole("dy written to", _layer, C.INPUT_OVERWRITTEN, _overwriting)
for _layer in ("conv2d", "linear", "relu", "max_pool2d", "softmax_cross_entropy"):
    whole("the latest forward's cache", _layer, C.STALE_CACHE, _latest, battery=True)
for _layer in ("conv2d", "linear"):
    whole("the cache before", _layer, C.STALE_CACHE, _late)
    whole("x read in the order of its memory", _layer, C.LAYOUT, _arrays_packed, battery=True)
for _layer in ("conv2d", "linear", "max_pool2d", "relu"):
    whole("dy read in the order of its memory", _layer, C.DY_LAYOUT, _packed, battery=True)
whole("dx is a view of dy", "flatten", C.ALIASED, _kept, battery=True)


# Errors without a pattern.
def _integers_added(gradient: Array) -> Array:
    """Adds integers to two entries in five, including the first and the last."""
    generator = np.random.default_rng(gradient.size)
    errors = generator.integers(-9, 10, gradient.shape) * (generator.random(gradient.shape) < 0.4)
    errors.reshape(-1)[:1], errors.reshape(-1)[-1:] = 3, -5
    return gradient + errors


def _scattered(gradient: Array) -> Array:
    """Multiplies each entry by another integer."""
    return gradient * np.random.default_rng(gradient.size).integers(-9, 10, gradient.shape)


for _layer, _count in GRADIENTS.items():
    for _which in range(_count):
        change(f"gradient {_which} with scattered errors", _layer, C.UNKNOWN, _which, _scattered)
        change(f"gradient {_which} with integers added", _layer, C.NOT_LINEAR, _which, _integers_added)


def _raising(dy: Array, cache: Any, right: Any) -> Gradients:
    raise RuntimeError("out of tape")


def _y_alone(implementation: Implementation) -> Implementation:
    wrong: Any = lambda *arrays, **options: implementation.forward(*arrays, **options)[0]  # noqa: E731
    return implementation._replace(forward=wrong)


def _of_ones_twice(implementation: Implementation) -> Implementation:
    """Doubles dy where it is 1 or -1. gradcheck seldom draws these numbers, and the contracts often do."""

    def backward(dy: Array, cache: Any) -> Gradients:
        return implementation.backward(np.where(np.abs(dy) == 1, 2 * dy, dy), cache)

    return implementation._replace(backward=backward)


for _layer in ("conv2d", "linear", "flatten"):
    add("raises", _layer, C.RAISED, _raising)
    whole("y without a cache", _layer, C.FORWARD_RESULT, _y_alone)
    whole("dy of 1 counted twice", _layer, C.NOT_LINEAR, _of_ones_twice, battery=True)
