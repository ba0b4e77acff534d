"""Bugs of padding."""

from __future__ import annotations

import numpy as np

from verify.checker.point import Array
from verify.museum._exhibit import Call, Gradients, gradient
from verify.strategies import sides


@gradient(
    "reflect-mixed",
    "pad2d",
    wrong="every entry of x reads the dy of its own copy, although the crop left some without one: the index, out of "
    "bounds, wraps around",
    shows='mode "reflect" with a negative pad',
    source="pytorch/pytorch#100793",
)
def _reflect_mixed(dy: Array, call: Call) -> Gradients:
    (x,) = call.arrays
    if call.options["mode"] != "reflect" or not dy.size:
        return call.right(dy)
    rows, columns = (_readers(size, *pad) for size, pad in zip(x.shape[2:], sides(call.options["pad"]), strict=True))
    return (np.ascontiguousarray(rows.astype(dy.dtype) @ dy @ columns.T.astype(dy.dtype)),)


def _readers(size: int, before: int, after: int) -> Array:
    """Return how often each entry of an axis reads each entry of dy, (size, size + before + after)."""
    out = size + before + after
    made = np.zeros((size, out))
    for position in range(out):
        t = position - before
        made[size - 1 - abs(size - 1 - abs(t)), position] += 1
    for entry in range(size):
        if not 0 <= entry + before < out:
            made[entry, (entry + before) % out] += 1
    return made
