"""Bugs of pooling layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from verify.checker.point import Array
from verify.museum._exhibit import Exhibit


def _maxpool_assign(dy: Array, cache: Any, right: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    (dx,) = right
    assert dx is not None
    planes = (*dx.shape[:2], -1) if dx.size else (*dx.shape[:2], 0)
    wrong = np.zeros_like(dx).reshape(planes)
    if dx.size:
        np.put_along_axis(wrong, cache.indices.reshape(planes), dy.reshape(planes), axis=2)
    return (wrong.reshape(dx.shape),)


MAXPOOL_ASSIGN = Exhibit(
    slug="maxpool-assign",
    layer="max_pool2d",
    wrong="each window's gradient is assigned at its winner, not added: of several windows only the last counts",
    shows="one entry wins several windows: stride < kernel",
    source="Simple CNN using NumPy, part V; FluxML/NNlib.jl#205; jmschrei/tangermeme#95",
    backward=_maxpool_assign,
)
