"""Layers in the styles in which people write them, each right and with the mistakes that people make."""

from __future__ import annotations

from zoo import (
    activations,
    attributes,
    containers,
    demands,
    distances,
    images,
    learnt,
    losses,
    memory,
    models,
    names,
    pairs,
    recurrent,
    shapes,
    state,
    steps,
    updates,
)
from zoo._row import Draw, Row

__all__ = ["ZOO", "Draw", "Row"]

_FILES = (
    attributes,
    containers,
    models,
    state,
    updates,
    recurrent,
    steps,
    losses,
    distances,
    activations,
    learnt,
    images,
    shapes,
    memory,
    demands,
    pairs,
    names,
)
ZOO: tuple[Row, ...] = tuple(row for each in _FILES for row in each.ROWS)
