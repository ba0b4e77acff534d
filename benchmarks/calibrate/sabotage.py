"""Measures the checker on spoilt forwards with right gradients: false alarms, and the floors printed with a PASS.

The forward of a known function gets noise, computes in float32, ignores short steps, or overflows near the
arrays. The gradient stays right, so a FAIL is a false alarm. After a PASS the check is repeated with one entry of the
gradient off by 1.1 times the printed floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibrate.zoo import ZOO, Known
from verify import gradcheck

Array = NDArray[Any]
Forward = Callable[[Array], Array]
PLANTED = 1.1


def _noise(f: Forward, generator: np.random.Generator) -> Forward:
    size = 10.0 ** generator.uniform(-10, -3)
    return lambda x: f(x) + size * generator.normal(size=np.shape(f(x)))


def _fixed_noise(f: Forward, generator: np.random.Generator) -> Forward:
    """Adds noise that depends only on x."""
    size = 10.0 ** generator.uniform(-10, -3)

    def forward(x: Array) -> Array:
        y = f(x)
        return np.asarray(y + size * np.random.default_rng(list(x.tobytes())).normal(size=y.shape))

    return forward


def _single(f: Forward, generator: np.random.Generator) -> Forward:
    return lambda x: f(x.astype(np.float32)).astype(np.float64)


def _single_within(f: Forward, generator: np.random.Generator) -> Forward:
    """Computes in float64 and rounds y to float32."""
    return lambda x: f(x).astype(np.float32).astype(np.float64)


def _step_blind(f: Forward, generator: np.random.Generator) -> Forward:
    """Rounds its argument to a grid of at most a thousandth of its smallest entry.

    On a coarser grid it would be a different function.
    """
    fineness = 2.0 ** int(generator.integers(-30, -9))
    grid: list[float] = []

    def forward(x: Array) -> Array:
        grid[:] = grid or [fineness * float(np.abs(x).min())]
        return f(np.rint(x / grid[0]) * grid[0])

    return forward


def _overflow(f: Forward, generator: np.random.Generator) -> Forward:
    """Returns infinity beyond a distance from the arrays of its first call."""
    reach = 10.0 ** generator.uniform(-9, 0)
    start: list[Array] = []

    def forward(x: Array) -> Array:
        start[:] = start or [x.copy()]
        return f(x) if np.abs(x - start[0]).max() <= reach else np.full_like(f(x), np.inf)

    return forward


SABOTAGE: dict[str, Callable[[Forward, np.random.Generator], Forward]] = {
    "noise": _noise,
    "noise that repeats": _fixed_noise,
    "float32 inside": _single,
    "float32 result": _single_within,
    "step-blind": _step_blind,
    "overflow": _overflow,
}


def check(known: Known, kind: str, seed: int) -> tuple[str, bool | None]:
    """Return the verdict on the right gradient and, after a PASS, whether an error above its floor was caught."""
    generator = np.random.default_rng(seed)
    x = known.draw(generator)
    structure = ("smooth", "auto")[seed % 2]

    def verdict(off: float) -> Any:
        forward = SABOTAGE[kind](known.f, np.random.default_rng(seed))
        forward(x)  # its first call has the given arrays, whatever arrays an oracle draws

        def backward(dy: Array, cache: Array) -> tuple[Array]:
            dx = np.asarray(known.vjp(cache, dy))
            dx[seed % dx.size] += off * np.abs(dx).max()
            return (dx,)

        with np.errstate(all="ignore"):
            return gradcheck(
                lambda x: (forward(x), x.copy()), backward, (x,), structure=structure, seed=seed, raise_on_failure=False
            )

    first = verdict(0.0)
    if first.verdict != "PASS" or first.detection_floor is None or not 0 < first.detection_floor < np.inf:
        return first.verdict, None
    return first.verdict, verdict(PLANTED * first.detection_floor).verdict == "FAIL"


def measure(trials: int) -> dict[str, Any]:
    """Return the results of `trials` checks. Kinds of sabotage and functions take turns."""
    rows = {}
    for kind in SABOTAGE:
        verdicts: Counter[str] = Counter()
        caught: Counter[bool] = Counter()
        for seed in range(trials // len(SABOTAGE)):
            verdict, honoured = check(ZOO[seed % len(ZOO)], kind, seed)
            verdicts[verdict] += 1
            if honoured is not None:
                caught[honoured] += 1
        rows[kind] = {
            **{name: verdicts[name] for name in ("PASS", "INCONCLUSIVE", "FAIL")},
            "planted above the floor": caught.total(),
            "caught": caught[True],
        }
    total = sum(row["PASS"] + row["INCONCLUSIVE"] + row["FAIL"] for row in rows.values())
    planted = sum(row["planted above the floor"] for row in rows.values())
    return {
        "checks": total,
        "share of FAIL": sum(row["FAIL"] for row in rows.values()) / total,
        "share caught above the floor": sum(row["caught"] for row in rows.values()) / max(planted, 1),
        "rows": rows,
    }
