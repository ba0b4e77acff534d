"""Mutants of flatten, max_pool2d and relu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.calibrate.mutants._mutant import (
    Array,
    Gradients,
    add,
    change,
    features_first,
    keeping,
    left_out,
    of_dy,
    only,
    rolled,
    whole,
)
from cnn_core import Implementation, max_pool2d
from verify.diagnosis.causes import CauseCode as C
from verify.museum import EXHIBITS

whole("flatten-noT", "flatten", C.FEATURES_BATCH_SWAPPED, EXHIBITS["flatten-noT"].mutate)
change(
    "dx read in columns", "flatten", C.TRANSPOSED, 0, lambda g: g.reshape(len(g), -1).reshape(g.shape, order="F").copy()
)
change("dx's last slices lost", "flatten", C.REMAINDER_LOST, 0, lambda g: left_out(g, g.ndim - 1))
change("dx rolled", "flatten", C.SHIFTED, 0, lambda g: rolled(g, 1, g.ndim - 1))
change("images summed", "flatten", C.BATCH_REDUCTION, 0, lambda g: g.sum(axis=0, keepdims=True) + 0 * g)
whole("maxpool-assign", "max_pool2d", C.OVERLAP_ASSIGNED, EXHIBITS["maxpool-assign"].mutate)


def _pool(wrong: Callable[[Array, Array, Any, dict[str, Any], Array], Array]) -> Callable[..., Implementation]:
    """Return a mutation whose backward is wrong(dy, x, cache, options, right dx)."""

    def mutate(implementation: Implementation) -> Implementation:
        def forward(x: Array, **options: Any) -> Any:
            y, cache = implementation.forward(x, **options)
            return y, (x, cache, options)

        def backward(dy: Array, kept: Any) -> Gradients:
            x, cache, options = kept
            (right,) = implementation.backward(dy, cache)
            return (np.asarray(wrong(dy, x, cache, options, right)),)

        return implementation._replace(forward=forward, backward=backward)

    return mutate


def _by_rule(reward: Callable[[Array], Array]) -> Callable[..., Array]:
    """Return a dx in which the maxima of each window share dy by the rule `reward`."""

    def wrong(dy: Array, x: Array, cache: Any, options: Any, right: Array) -> Array:
        dx = np.zeros_like(right)
        for n, c, i, j in np.ndindex(*dy.shape):
            taps = max_pool2d._window(i, j, cache.rows, cache.columns)
            values = np.array([x[n, c, h, v] for h, v in taps])
            for (h, v), share in zip(taps, reward(values == values.max()), strict=True):
                dx[n, c, h, v] += dy[n, c, i, j] * share
        return dx

    return wrong


def _last(tied: Array) -> Array:
    reward = np.zeros(len(tied))
    reward[np.flatnonzero(tied)[-1]] = 1
    return reward


def _in_padding(flat: bool) -> Callable[..., Array]:
    """Return a dx that uses the winner's position in the padded plane (maxpool-pad-coord).

    The position is the pair of coordinates or, if `flat`, the flat index. Positions outside x are dropped.
    """

    def wrong(dy: Array, x: Array, cache: Any, options: Any, right: Array) -> Array:
        rows, columns = cache.rows, cache.columns
        dx = np.zeros_like(right)
        for n, c, i, j in np.ndindex(*dy.shape):
            h, v = divmod(int(cache.indices[n, c, i, j]), columns.size)
            h, v = h + rows.before, v + columns.before
            if flat:
                place = h * (columns.before + columns.size + columns.after) + v
                h, v = divmod(place, columns.size)
            if h < rows.size and v < columns.size:
                dx[n, c, h, v] += dy[n, c, i, j]
        return dx

    return wrong


def _strideless(dy: Array, x: Array, cache: Any, options: Any, right: Array) -> Array:
    """Return dx for the winners of windows at stride 1."""
    if options.get("padding") == "same" or options.get("ceil_mode"):
        return right
    _, close = max_pool2d.im2col.forward(x, **{**options, "stride": 1})
    indices = close.indices[:, :, : dy.shape[2], : dy.shape[3]]
    if indices.shape != dy.shape:
        return right
    return np.asarray(max_pool2d.im2col.backward(dy, keeping(close, indices=indices)._replace(y_shape=dy.shape))[0])


whole("maxpool-ties-all", "max_pool2d", C.ALL_TIES_REWARDED, _pool(_by_rule(lambda tied: tied)))
whole("the last maximum wins", "max_pool2d", C.WRONG_TIE_WINNER, _pool(_by_rule(_last)))
whole("maxima share", "max_pool2d", C.WRONG_TIE_WINNER, _pool(_by_rule(lambda tied: tied / tied.sum())))
whole("maxpool-pad-coord", "max_pool2d", C.WINNER_IN_PADDING, _pool(_in_padding(flat=False)))
whole("padded flat index", "max_pool2d", C.WINNER_IN_PADDING, _pool(_in_padding(flat=True)))
whole("windows at stride 1", "max_pool2d", C.STRIDE_IGNORED, _pool(_strideless))
of_dy("maxpool-early-return", "max_pool2d", C.ONE_POSITION_ONLY, 0, lambda dy: only(dy, (2, 3), 0))
of_dy("maxpool-hw-args", "max_pool2d", C.HEIGHT_WIDTH, 0, lambda dy: dy.swapaxes(2, 3).reshape(dy.shape))
of_dy("the last row of windows lost", "max_pool2d", C.REMAINDER_LOST, 0, lambda dy: left_out(dy, 2))
change("dx's H and W swapped", "max_pool2d", C.HEIGHT_WIDTH, 0, lambda g: g.swapaxes(2, 3).reshape(g.shape).copy())
change("dx one column right", "max_pool2d", C.SHIFTED, 0, lambda g: rolled(g, 1, 3))
add("leaky-slope0", "relu", C.UPSTREAM_COPIED, lambda dy, cache, right: (dy.copy(),))
add("relu-at-0", "relu", C.WRONG_SIDE_OF_KINK, lambda dy, cache, right: (np.where(cache.x >= 0, dy, 0),))
add(
    "half at 0",
    "relu",
    C.WRONG_SIDE_OF_KINK,
    lambda dy, cache, right: (np.where(cache.x == 0, dy / 2, np.where(cache.x > 0, dy, 0)),),
)
change("dx features first", "relu", C.FEATURES_BATCH_SWAPPED, 0, features_first)
add("mask of dy", "relu", C.MASK_OF_UPSTREAM, lambda dy, cache, right: (np.where(dy > 0, dy, 0),))
add("mask inverted", "relu", C.UNKNOWN, lambda dy, cache, right: (np.where(cache.x > 0, 0 * dy, dy),))
