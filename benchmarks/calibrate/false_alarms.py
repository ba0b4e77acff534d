"""Counts false alarms: correct layers at their own cases, with ties, zeros and N = 0.

A tenth as many checks use the functions of `tied` in turn: right gradients at points where most kinks meet.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from benchmarks.calibrate.tied import TIED, Function
from cnn_core import Implementation
from verify import gradcheck
from verify.layers import LAYERS, Case, Layer


def measure(trials: int, seed: int = 0) -> dict[str, Any]:
    """Return the verdicts of at least `trials` checks, shared equally by all layers and versions."""
    versions = [(layer, each) for layer in LAYERS.values() for each in layer.implementations]
    share = -(-trials // len(versions))
    rows = {f"{layer.name}, {each.name}": _verdicts(layer, each, share, seed) for layer, each in versions}
    tied = -(-trials // (10 * len(TIED)))
    rows |= {f"at ties: {name}": _at_ties(function, tied, seed) for name, function in TIED.items()}
    return {
        "checks": sum(row["PASS"] + row["INCONCLUSIVE"] + row["FAIL"] for row in rows.values()),
        "FAIL": sum(row["FAIL"] for row in rows.values()),
        "rows": rows,
    }


def verdict_at_ties(function: Function, seed: int) -> str:
    """Return the verdict at images of three or four entries of -1, 0 and 1.

    With three or more entries the gradient of every chain is a generalized gradient.
    """
    generator = np.random.default_rng(seed)
    dtype = (np.float64, np.float32)[seed % 2]
    x = generator.integers(-1, 2, (generator.integers(1, 4), generator.integers(3, 5))).astype(dtype)
    with np.errstate(all="ignore"):
        return gradcheck(*function, (x,), seed=seed, raise_on_failure=False).verdict


def _at_ties(function: Function, count: int, seed: int) -> dict[str, int]:
    found = Counter(verdict_at_ties(function, each) for each in range(seed, seed + count))
    return {**{name: found[name] for name in ("PASS", "INCONCLUSIVE", "FAIL")}, "with N = 0": 0}


def _verdicts(layer: Layer, implementation: Implementation, count: int, seed: int) -> dict[str, int]:
    found: Counter[str] = Counter()

    @hypothesis_seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=layer.cases(), draw=st.integers(0, 2**32 - 1))
    def check(case: Case, draw: int) -> None:
        forward, backward = implementation[1:]
        certificate = gradcheck(forward, backward, *case, structure=layer.structure, seed=draw, raise_on_failure=False)
        found[certificate.verdict] += 1
        found["empty"] += any(a is not None and not a.size for a in case.arrays)

    check()
    return {**{name: found[name] for name in ("PASS", "INCONCLUSIVE", "FAIL")}, "with N = 0": found["empty"]}
