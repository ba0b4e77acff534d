"""The V-curve of a gradient: central differences along one direction, by their steps. Computed when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from verify.checker.directions import signed
from verify.checker.extrapolation import Ladder
from verify.checker.layer import LayerUnderTest
from verify.checker.line import Line
from verify.diagnosis.shown import at_the_arrays_given, with_small

# Steps from a quarter of the array's scale down to 2^-43 of it, about 1e-13. Rounding rules the last dozen.
_LEVELS = 42
# A choice: seconds for one curve of a slow layer, as long as for its map.
_MOST_SECONDS = 2.0


class Curve(NamedTuple):
    """Central differences along one direction: their steps, what each gives, what backward claims, the extrapolated."""

    steps: tuple[float, ...]
    differences: tuple[float, ...]
    claimed: float
    extrapolated: float


def curves(layer: LayerUnderTest) -> Mapping[str, Curve]:
    """The curve of each argument at the arrays given, for a small dy; none where y is not finite there."""
    own = at_the_arrays_given(layer)
    small = None if own is None else with_small(own, 0)
    if small is None:
        return {}
    found = {}
    for k in layer.wrt:
        shape, started = layer.arrays[k].shape, time.perf_counter()
        if not layer.arrays[k].size or k not in small.claimed or not np.isfinite(small.claimed[k]).all():
            continue
        line = Line(small, k, signed(np.random.default_rng(0), shape))
        pairs = []
        for level in range(_LEVELS):
            pairs.append((line.step(level), line.central(line.step(level))))
            if time.perf_counter() - started > _MOST_SECONDS:
                break
        known = [(h, difference) for h, difference in pairs if np.isfinite(difference)]
        steps, differences = tuple(h for h, _ in known), tuple(each for _, each in known)
        found[layer.names[k]] = Curve(steps, differences, line.claimed(), Ladder(line).estimate().value)
    return found
