"""Mutants of softmax_cross_entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.calibrate.mutants._mutant import (
    Array,
    features_first,
    given,
    of_dy,
    only,
)
from verify.diagnosis.causes import CauseCode as C

_LOSS = "softmax_cross_entropy"


def _loss(name: str, code: C, wrong: Callable[[Array, Any, Array], Array]) -> None:
    """Add a mutant in which dx becomes wrong(dy, cache, right dx)."""
    given(name, _LOSS, code, 0, lambda dy, cache, right: wrong(dy, cache, right(dy, cache)[0]))


def _probabilities(x: Array) -> Array:
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


_loss("not averaged", C.BATCH_REDUCTION, lambda dy, cache, g: g * len(g) if cache.reduction == "mean" else g)
_loss("always averaged", C.BATCH_REDUCTION, lambda dy, cache, g: g / max(1, len(g)))
_loss("ce-mean-classes", C.CONSTANT_FACTOR, lambda dy, cache, g: g / g.shape[1])
_loss("softmax-copy", C.UPSTREAM_COPIED, lambda dy, cache, g: dy[:, None] + 0 * g if dy.ndim else g)
of_dy("ce-reduction", _LOSS, C.UPSTREAM_BROADCAST, 0, lambda dy: dy[:1] + 0 * dy if dy.ndim else dy)
of_dy("loss for dy = 1", _LOSS, C.UPSTREAM_IGNORED, 0, np.ones_like)
of_dy("loss of the last image", _LOSS, C.ONE_IMAGE_ONLY, 0, lambda dy: only(dy, (0,), -1) if dy.ndim else dy)
_loss("dx features first", C.FEATURES_BATCH_SWAPPED, lambda dy, cache, g: features_first(g))
_loss("logsoftmax-div", C.NOT_FINITE, lambda dy, cache, g: g / np.where(np.arange(g.shape[1]) == 0, 0.0, 1.0))
_loss(
    "the label's term missing",
    C.UNKNOWN,
    lambda dy, cache, g: _probabilities(cache.x) * (dy.reshape(-1, 1) if dy.ndim else dy),
)
_loss("an epsilon left out", C.SMALL_CONSTANT, lambda dy, cache, g: g * (1 - 1e-6 * np.cos(cache.x)))
_loss("softmax-axis0", C.NOT_LINEAR, lambda dy, cache, g: g - _probabilities(cache.x) + _probabilities(cache.x.T).T)
