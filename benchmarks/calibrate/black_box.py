"""Measures how often the true derivative lies within the tolerance of extrapolated differences, and its width."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.calibrate.zoo import ZOO, Known
from verify.checker.arguments import layer_under_test
from verify.checker.directions import signed
from verify.checker.extrapolation import SAFETY, Ladder
from verify.checker.line import Line
from verify.checker.point import Point


def ratio(known: Known, seed: int) -> tuple[float, float]:
    """Return true error / estimated error (before the safety factor), and tolerance / value."""
    generator = np.random.default_rng(seed)
    x = known.draw(generator)
    layer = layer_under_test(lambda x: (known.f(x), None), lambda dy, cache: (dy,), (x,), None, None)
    y = np.asarray(known.f(x))
    dy = signed(generator, y.shape)
    gradient = known.vjp(x, dy)
    line = Line(Point(layer, (x,), y, dy, {0: gradient}), 0, signed(generator, x.shape))
    found = Ladder(line).estimate()
    true = line.claimed()
    # The truth itself is rounded: of each of its products, and of the slope it is a product with.
    rounding = 16 * float(np.finfo(float).eps) * float((np.abs(gradient) * np.abs(line.v)).sum())
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
