"""Verification of gradients: `gradcheck` for any layer, and the declarations of this project's layers.

cnn_core says forward and backward. This package says function and vector-Jacobian product (vjp). Backward maps
a cotangent dy to J' dy. A check compares this with J v for a tangent v.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify import adapters
    from verify.battery.battery import LayerError, LayerReport, check_layer
    from verify.battery.parametrize import parametrize_with_checks
    from verify.checker.certificate import Certificate, GradientMismatch, Inconclusive
    from verify.checker.point import StructureError
    from verify.entry import gradcheck

__all__ = [
    "Certificate",
    "GradientMismatch",
    "Inconclusive",
    "LayerError",
    "LayerReport",
    "StructureError",
    "adapters",
    "check_layer",
    "gradcheck",
    "parametrize_with_checks",
]

_HOME = {
    "Certificate": "verify.checker.certificate",
    "GradientMismatch": "verify.checker.certificate",
    "Inconclusive": "verify.checker.certificate",
    "LayerError": "verify.battery.battery",
    "LayerReport": "verify.battery.battery",
    "StructureError": "verify.checker.point",
    "check_layer": "verify.battery.battery",
    "gradcheck": "verify.entry",
    "parametrize_with_checks": "verify.battery.parametrize",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use, because pytest loads this package's plugin into every run."""
    if name == "adapters":
        return importlib.import_module("verify.adapters")
    if name == "gradgradcheck":
        text = "for second derivatives check the layer (x, dy) -> dx, as docs/recipes/second_order.md shows"
        raise AttributeError(f"there is no {name}: {text}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
