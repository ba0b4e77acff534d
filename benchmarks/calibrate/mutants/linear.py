"""Mutants of linear. Some have a counterpart for conv2d."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.calibrate.mutants._mutant import (
    Array,
    Backward,
    Gradients,
    add,
    change,
    features_first,
    given,
    keeping,
    of_dy,
    only,
    shuffled,
)
from verify.diagnosis.causes import CauseCode as C

_DX, _DW, _DB = 0, 1, 2
change("dw transposed", "linear", C.TRANSPOSED, _DW, lambda g: g.T.reshape(g.shape).copy())
given(
    "dx by w, not by its transpose",
    "linear",
    C.TRANSPOSED,
    _DX,
    lambda dy, cache, right: right(dy, keeping(cache, w=np.ascontiguousarray(cache.w.T).reshape(cache.w.shape)))[0],
)
change("dw over N", "linear", C.CONSTANT_FACTOR, _DW, lambda g: g / 7)
given(
    "dw averaged over the batch",
    "linear",
    C.BATCH_REDUCTION,
    _DW,
    lambda dy, cache, right: right(dy, cache)[1] / len(dy),
)
of_dy("dw of the last image", "linear", C.ONE_IMAGE_ONLY, _DW, lambda dy: only(dy, (0,), -1) if dy.ndim > 1 else dy)
of_dy("db of the first image", "linear", C.ONE_IMAGE_ONLY, _DB, lambda dy: only(dy, (0,), 0) if dy.ndim > 1 else dy)
change("dw cut to whole numbers", "linear", C.TRUNCATED, _DW, np.trunc)
change("dw through float32", "linear", C.ROUNDED_TO_FLOAT32, _DW, lambda g: g.astype(np.float32).astype(g.dtype))


def _swapped(dy: Array, cache: Any, right: Backward) -> Gradients:
    dx, dw, db = right(dy, cache)
    return (dw, dx, db) if dx.shape == dw.shape else (dx, dw, db)


add("dx and dw swapped", "linear", C.GRADIENTS_SWAPPED, _swapped)


def _diagonal(dy: Array, cache: Any, right: Backward) -> Array:
    return dy * np.diag(cache.w) if cache.w.shape[0] == cache.w.shape[1] else right(dy, cache)[0]


given("dx by w's diagonal", "linear", C.DIAGONAL_ONLY, _DX, _diagonal)
given(
    "db over other axes",
    "linear",
    C.NOT_REDUCED,
    _DB,
    lambda dy, cache, right: (
        None
        if cache.b is None
        else dy.sum(axis=tuple(range(1, dy.ndim)))
        if dy.ndim > 1 and len(dy) == dy.shape[-1]
        else right(dy, cache)[2]
    ),
)
change("dw symmetrised", "linear", C.SYMMETRISED, _DW, lambda g: g + g.T if g.shape[0] == g.shape[1] else g)
change("dx features first", "linear", C.FEATURES_BATCH_SWAPPED, _DX, features_first)
change("outputs of dw shuffled", "linear", C.PERMUTED, _DW, shuffled)
change(
    "inputs of dx shuffled", "linear", C.PERMUTED, _DX, lambda g: np.moveaxis(shuffled(np.moveaxis(g, -1, 0)), 0, -1)
)
given(
    "linear-updated-W",
    "linear",
    C.NOT_LINEAR,
    _DX,
    lambda dy, cache, right: right(dy, keeping(cache, w=cache.w - 3 * right(dy, cache)[1]))[0],
)
