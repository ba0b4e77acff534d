"""Verification of gradients: `gradcheck` for any layer, and the declarations of this project's own.

What cnn_core calls forward and backward is here the function and its vector-Jacobian product (vjp):
backward maps a cotangent dy to J' dy, and a check compares it with J v for a tangent v.
"""

from verify import adapters
from verify.gradcheck import Certificate, GradientMismatch, Inconclusive, StructureError, gradcheck

__all__ = ["Certificate", "GradientMismatch", "Inconclusive", "StructureError", "adapters", "gradcheck"]
