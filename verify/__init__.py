"""Verification of gradients: `gradcheck` for any layer, and the declarations of this project's own.

What cnn_core calls forward and backward is here the function and its vector-Jacobian product (vjp):
backward maps a cotangent dy to J' dy, and a check compares it with J v for a tangent v.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify import adapters
    from verify.battery import LayerError, LayerReport, check_layer
    from verify.gradcheck import Certificate, GradientMismatch, Inconclusive, StructureError, gradcheck
    from verify.parametrize import parametrize_with_checks

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

_ELSEWHERE = {
    "LayerError": "verify.battery",
    "LayerReport": "verify.battery",
    "check_layer": "verify.battery",
    "parametrize_with_checks": "verify.parametrize",
}


class _Verify(ModuleType):
    """This package, all names of which are imported when they are used: pytest loads its plugin into every run."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of a subpackage binds its name here; of the two called gradcheck the function has it.
        super().__setattr__(name, value.gradcheck if name == "gradcheck" and isinstance(value, ModuleType) else value)

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "adapters":
            return importlib.import_module("verify.adapters")
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "verify.gradcheck")), name)


sys.modules[__name__].__class__ = _Verify
