"""The V-curve: the error of a plain central difference against its step. Truncation falls, then rounding rises."""

from __future__ import annotations

import math
from collections.abc import Iterator

from verify.diagnosis.curve import Curve

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 430.0, 250.0, 62.0, 44.0, 30.0
# Half the last digit of float64: a difference that hits the value is drawn here.
_LEAST = 2.0**-53
# A choice: more labels of decades on an axis touch each other.
_MOST_LABELS = 7


def points(curve: Curve) -> list[tuple[float, float]]:
    """Steps, and by how much the difference at each is off, relative to the value."""
    scale = abs(curve.extrapolated) or 1.0
    pairs = zip(curve.steps, curve.differences, strict=True)
    return [(h, max(abs(d - curve.extrapolated) / scale, _LEAST)) for h, d in pairs]


def claim_error(curve: Curve) -> float:
    """By how much backward's claim along the same direction is off, relative to the value."""
    return max(abs(curve.claimed - curve.extrapolated) / (abs(curve.extrapolated) or 1.0), _LEAST)


def curve_text(curve: Curve) -> str:
    """What the curve shows, in words."""
    if not drawable(curve):
        return "No curve: the differences are not finite."
    step, least = min(points(curve), key=lambda point: point[1])
    return (
        f"Central differences along one random direction. The best plain step, {step:.1e}, is off by {least:.1e} of "
        f"the extrapolated value. Backward's claim is off by {claim_error(curve):.1e}."
    )


def drawable(curve: Curve) -> bool:
    """Whether there is a finite value to compare with, and a step."""
    return bool(curve.steps) and math.isfinite(curve.extrapolated) and math.isfinite(curve.claimed)


def curve_svg(curve: Curve) -> str:
    """The curve as SVG in the colours of the page; empty where nothing is finite."""
    if not drawable(curve):
        return ""
    found, claim = points(curve), claim_error(curve)
    x = _axis([h for h, _ in found], _LEFT, _WIDTH - 12)
    y = _axis([*(error for _, error in found), claim], _HEIGHT - _BOTTOM, _TOP)
    places = [(_at(x, h), _at(y, error)) for h, error in found]
    parts = [*_decades(x, "x"), *_decades(y, "y")]
    parts.append(f'<path class="line" d="M{" ".join(f"{a:.1f} {b:.1f}" for a, b in places)}"/>')
    parts += [f'<circle class="points" cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in places]
    level = _at(y, claim)
    parts.append(f'<path class="claim" d="M{_LEFT:g} {level:.1f}H{_WIDTH - 12:g}"/>')
    middle = (_LEFT + _WIDTH) / 2
    parts.append(f'<text x="{middle:g}" y="{level - 6:.1f}" text-anchor="middle">backward</text>')
    parts.append(f'<text x="{_WIDTH - 12:g}" y="{_HEIGHT - 6:g}" text-anchor="end">step</text>')
    parts.append('<text x="0" y="12">relative error of a central difference</text>')
    label = "Error of central differences against their step, and the error of what backward claims"
    view = f'viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}"'
    return f'<svg {view} role="img"><title>{label}</title>{"".join(parts)}</svg>'


# The first and the last decade of an axis, and the pixels where they lie.
_Axis = tuple[int, int, float, float]


def _axis(values: list[float], first: float, last: float) -> _Axis:
    low, high = (math.log10(each) for each in (min(values), max(values)))
    lowest = math.floor(low)
    return lowest, max(math.ceil(high), lowest + 1), first, last


def _at(axis: _Axis, value: float) -> float:
    low, high, first, last = axis
    return first + (math.log10(value) - low) / (high - low) * (last - first)


def _decades(axis: _Axis, which: str) -> Iterator[str]:
    low, high, *_ = axis
    for decade in range(low, high + 1, math.ceil((high - low) / _MOST_LABELS)):
        place = _at(axis, 10.0**decade)
        if which == "x":
            yield f'<path class="axis" d="M{place:.1f} {_TOP:g}V{_HEIGHT - _BOTTOM:g}"/>'
            yield f'<text x="{place:.1f}" y="{_HEIGHT - _BOTTOM + 16:g}" text-anchor="middle">1e{decade}</text>'
        else:
            yield f'<path class="axis" d="M{_LEFT:g} {place:.1f}H{_WIDTH - 12:g}"/>'
            yield f'<text x="{_LEFT - 6:g}" y="{place + 4:.1f}" text-anchor="end">1e{decade}</text>'
