"""Mutants: layers of this project with a backward that is wrong in a known way, and the cause they must get.

Some are the museum's bugs, named by their slugs. The others are the patterns of `verify.diagnosis.causes`.
If a mutation does not apply to a case, the gradient is right there.
"""

from benchmarks.calibrate.mutants import convolution, every_layer, linear, loss, museum, pooling
from benchmarks.calibrate.mutants._mutant import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant", "convolution", "every_layer", "linear", "loss", "museum", "pooling"]
