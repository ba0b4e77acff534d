"""Backwards that are wrong in a known way: mutations of this project's layers, each with the cause it must be given.

The museum's bugs of these layers come first (their slugs are names here); the rest are the patterns that
`verify.diagnosis.causes` lists. A mutation that does not apply to a case leaves the gradient right there.
"""

from benchmarks.calibrate.mutants import convolution, every_layer, linear, loss, pooling
from benchmarks.calibrate.mutants._mutant import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant", "convolution", "every_layer", "linear", "loss", "pooling"]
