"""The V-curve: the error of central differences against their step, and of differences of integers.

`python docs/pictures/v_curve.py` measures, prints the least error of each curve, and writes v_curve.svg beside this
file. The curves are medians of 25 draws of a 3x3 convolution from 2 to 3 channels on 8x8. The slope that is known is
computed in NumPy's longdouble.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DRAWS = 25
STEPS = tuple(2.0**k for k in range(-40, 11, 2))
_FEWEST_BITS = -20  # integers of up to 8 times 2^-20 and their products still fit the mantissa of float64


class Curve(NamedTuple):
    """A curve: its name, its class in the style of the picture, and the relative error at each step."""

    name: str
    style: str
    errors: dict[float, float]

    @property
    def best(self) -> tuple[float, float]:
        """The step of the least error, and that error."""
        return min(self.errors.items(), key=lambda item: item[1])


def convolution(x: Any, w: Any) -> Any:
    """A convolution in whatever dtype its arrays have."""
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("ncijpq,fcpq->nfij", windows, w)


def curved(x: Any, w: Any) -> Any:
    """A convolution, then tanh: central differences of it have a truncation error."""
    return np.tanh(convolution(x, w))


def error(f: Callable[..., Any], dtype: type, whole: bool, step: float) -> float:
    """The median relative error of a central difference along a random direction of w."""
    found = []
    for seed in range(DRAWS):
        generator = np.random.default_rng(seed)
        shapes = (2, 2, 8, 8), (3, 2, 3, 3), (3, 2, 3, 3), (2, 3, 6, 6)
        if whole:
            x, w, v, dy = (generator.integers(-8, 9, shape).astype(dtype) for shape in shapes)
        else:
            x, w, v, dy = (generator.normal(size=shape).astype(dtype) / 2 for shape in shapes)
        exact = [np.asarray(a, np.longdouble) for a in (x, w, v, dy)]
        inner = 1 - curved(exact[0], exact[1]) ** 2 if f is curved else 1
        slope = float((exact[3] * inner * convolution(exact[0], exact[2])).sum())
        h = dtype(step)
        moved = (f(x, w + h * v) - f(x, w - h * v)) / (2 * h)
        found.append(abs(float((np.asarray(dy, np.float64) * moved).sum()) - slope) / abs(slope))
    return float(np.median(found))


def measured() -> list[Curve]:
    """Measure all curves."""

    def over(f: Callable[..., Any], dtype: type, whole: bool, steps: tuple[float, ...]) -> dict[float, float]:
        return {step: error(f, dtype, whole, step) for step in steps}

    exact = tuple(step for step in STEPS if step >= 2.0**_FEWEST_BITS)
    return [
        Curve("conv, then tanh: float32", "single", over(curved, np.float32, False, STEPS)),
        Curve("conv, then tanh: float64", "double", over(curved, np.float64, False, STEPS)),
        Curve("conv alone: float32", "single straight", over(convolution, np.float32, False, STEPS)),
        Curve("conv alone: float64", "double straight", over(convolution, np.float64, False, STEPS)),
        Curve("conv alone, integers: exactly 0", "exact", over(convolution, np.float64, True, exact)),
    ]


WIDTH, HEIGHT = 560, 450
LEFT, RIGHT, TOP, BOTTOM, ZERO = 66, 24, 72, 350, 378
LEAST, MOST = -17, 1  # decades of the error
STYLE = """
  text { font: 16px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .back { fill: #ffffff }
  .grid { stroke: #d8dee4; stroke-width: 1 }
  path, .line { fill: none; stroke-width: 2.5 }
  .straight { stroke-dasharray: 7 5 }
  .single { stroke: #b35900 } text.single { fill: #9a4a00; stroke: none }
  .double { stroke: #0a58ca } text.double { fill: #0a58ca; stroke: none }
  .exact { stroke: #1a7f37; stroke-width: 5 } text.exact { fill: #17692e; stroke: none; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .back { fill: #161b22 } .grid { stroke: #30363d }
    .single { stroke: #f0a04b } text.single { fill: #f0a04b }
    .double { stroke: #79b8ff } text.double { fill: #79b8ff }
    .exact { stroke: #56d364 } text.exact { fill: #56d364 }
  }
"""
# Where each label stands: its step and its error, as powers of ten.
LABELS = {
    "conv, then tanh: float32": (-11.8, -3.4),
    "conv, then tanh: float64": (-11.8, -12.2),
    "conv alone: float32": (-1.9, -8.6),
    "conv alone: float64": (-7.6, -14.8),
}


def _x(step: float) -> float:
    span = math.log10(STEPS[-1] / STEPS[0])
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(step / STEPS[0]) / span


def _y(error_: float) -> float:
    decade = min(max(math.log10(error_), LEAST), MOST) if error_ else LEAST
    return TOP + (BOTTOM - TOP) * (MOST - decade) / (MOST - LEAST)


def picture(curves: list[Curve]) -> str:
    """Return the picture as SVG, readable on light and dark."""
    alt = "Error of central differences against their step: V-shaped in float64 and float32; exactly 0 for integers"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{alt}">',
        f"<title>{alt}</title><style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        '<text class="title" x="16" y="28">On integers a difference is exact, at any step</text>',
        '<text x="16" y="52">relative error of a slope, against the step h</text>',
    ]
    for decade in range(-16, 1, 4):
        y = _y(10.0**decade)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = "1" if not decade else f"1e{decade}"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 5:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<text x="{LEFT - 10}" y="{ZERO + 5}" text-anchor="end">0</text>')
    for decade in range(-12, 4, 3):
        label = "1" if not decade else f"1e{decade}" if decade < 0 else "1000"
        parts.append(f'<text x="{_x(10.0**decade):.1f}" y="{ZERO + 28}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{ZERO + 54}" text-anchor="middle">step h</text>')
    for curve in curves:
        if curve.style == "exact":
            assert not any(curve.errors.values()), curve
            ends = [_x(step) for step in (min(curve.errors), max(curve.errors))]
            parts.append(f'<line class="line exact" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{ZERO}" y2="{ZERO}"/>')
            parts.append(f'<text class="exact" x="{ends[0]:.1f}" y="{ZERO - 9}">{curve.name}</text>')
            continue
        points = " L".join(f"{_x(step):.1f},{_y(wrong):.1f}" for step, wrong in curve.errors.items())
        parts.append(f'<path class="{curve.style}" d="M{points}"/>')
        where = LABELS[curve.name]
        x, y = _x(10.0 ** where[0]), _y(10.0 ** where[1])
        parts.append(f'<text class="{curve.style.split()[0]}" x="{x:.1f}" y="{y:.1f}">{curve.name}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    found = measured()
    for each in found:
        print(f"{each.name:32}  least error {each.best[1]:.0e}, at a step of {each.best[0]:.0e}")
    Path(__file__).with_suffix(".svg").write_text(picture(found), encoding="utf-8")
