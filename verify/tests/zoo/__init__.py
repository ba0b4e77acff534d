"""Layers in the styles in which people write them, each right and with the mistakes that people make."""

from __future__ import annotations

from zoo import activations, attributes, containers, images, losses, memory, names, pairs, recurrent, state
from zoo._row import Draw, Row

__all__ = ["ZOO", "Draw", "Row"]

_FILES = (attributes, containers, state, recurrent, losses, activations, images, memory, pairs, names)
ZOO: tuple[Row, ...] = tuple(row for each in _FILES for row in each.ROWS)
