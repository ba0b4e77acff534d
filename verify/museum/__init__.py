"""Gradient bugs of real code, planted in this project's layers.

`python -m verify museum` and the tests must catch every exhibit. Every module here that makes an Exhibit is found.
"""

from __future__ import annotations

import importlib
import pkgutil

from verify.museum._exhibit import EQUIVALENT, FORWARD, GRADIENT, STATE, Exhibit

__all__ = ["EQUIVALENT", "EXHIBITS", "FORWARD", "GRADIENT", "STATE", "Exhibit"]


def _exhibits() -> dict[str, Exhibit]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        found.update({each.slug: each for each in vars(module).values() if isinstance(each, Exhibit)})
    return found


EXHIBITS = _exhibits()
