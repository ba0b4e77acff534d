"""The declarations of all layers: `LAYERS["conv2d"]`. Every module here that defines a Layer is found."""

from __future__ import annotations

import importlib
import pkgutil

from verify.layers._layer import BenchCase, Case, Configuration, Layer, Reject

__all__ = ["LAYERS", "BenchCase", "Case", "Configuration", "Layer", "Reject", "markdown_table"]


def _declared() -> dict[str, Layer]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{info.name}")
            found.update({layer.name: layer for layer in vars(module).values() if isinstance(layer, Layer)})
    return dict(sorted(found.items()))


LAYERS = _declared()


def markdown_table() -> str:
    """Return the README's table of layers, in Markdown."""
    rows = [("layer", "versions", "arrays", "structure", "source"), ("---",) * 5]
    for layer in LAYERS.values():
        versions = ", ".join(implementation.name for implementation in layer.implementations)
        rows.append((f"`{layer.name}`", versions, f"`{layer.arguments}`", layer.structure, layer.source))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
