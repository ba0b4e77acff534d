"""Mutants that are bugs of the museum: of each layer those whose cause no mutant of it has yet."""

from __future__ import annotations

from benchmarks.calibrate.mutants import convolution, every_layer, linear, loss, pooling
from benchmarks.calibrate.mutants._mutant import MUTANTS, whole
from verify.museum import EXHIBITS, GRADIENT, STATE

__all__ = ["convolution", "every_layer", "linear", "loss", "pooling"]

_HAVE = {(mutant.layer, mutant.code) for mutant in MUTANTS}
for _exhibit in EXHIBITS.values():
    if _exhibit.code and _exhibit.kind in (GRADIENT, STATE) and (_exhibit.layer, _exhibit.code) not in _HAVE:
        whole(_exhibit.slug, _exhibit.layer, _exhibit.code, _exhibit.mutate, battery=_exhibit.kind == STATE)
