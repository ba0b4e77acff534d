"""Measures how often the true derivative lies within the tolerance of extrapolated differences, and its width."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.calibrate.zoo import ZOO, Known
from verify.checker.exact_numbers import signed
from verify.checker.extrapolation import SAFETY, Extrapolated, Ladder
from verify.checker.layer import LayerUnderTest


def ratio(known: Known, seed: int) -> tuple[float, float]:
    """Return true error / estimated error (before the safety factor), and tolerance / value."""
    generator = np.random.default_rng(seed)
    x = known.draw(generator)
    subject = LayerUnderTest(lambda x: (known.f(x), None), lambda dy, cache: (dy,), (x,), None, None)
    y = np.asarray(known.f(x))
    dy = signed(generator, y.shape)
    point = Extrapolated(subject, (x,), y, dy, {0: known.vjp(x, dy)})
    v = signed(generator, x.shape)
    found = point.estimate(Ladder(point, 0, v))
    true = point.claimed(0, v)
    # The true value is rounded too: in each of its products, and in the slope of each product.
    rounding = 16 * float(np.finfo(float).eps) * float((np.abs(point.gradients[0]) * np.abs(v)).sum())
    return max(abs(found.value - true) - rounding, 0.0) / found.error, SAFETY * found.error / abs(true)


def measure(trials: int) -> dict[str, Any]:
    """Return the coverage over the zoo, with `trials` seeds for each function."""
    rows = {}
    for known in ZOO:
        found = np.array([ratio(known, seed) for seed in range(trials)])
        rows[known.name] = {
            "covered": int((found[:, 0] <= SAFETY).sum()),
            "worst error over estimate": float(found[:, 0].max()),
            "median relative tolerance": float(np.median(found[:, 1])),
        }
    covered = sum(row["covered"] for row in rows.values())
    return {
        "functions": len(ZOO),
        "cases": trials * len(ZOO),
        "covered": covered,
        "share": covered / (trials * len(ZOO)),
        "median relative tolerance": float(np.median([row["median relative tolerance"] for row in rows.values()])),
        "rows": rows,
    }
