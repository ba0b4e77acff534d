"""Does a complex step differentiate the function that real arrays see?

A forward that drops imaginary parts (a cast, abs) has complex steps of zero, and a step of 1 is exact for linear
branches only. Plain central differences show it, entry by entry of y, at arrays moved a little off their ties and
zeros (less, or outward, where that leaves the domain):

    (f(u + h v) - f(u - h v)) / 2h  against  Im f(u + i s v) / s

This is no reference: it has to tell another function from rounding, not a gradient from a gradient. So its margins are
wide. What a forward adds below them (a penalty of 10^-7 times abs) is not seen. Its gradient is called wrong only if
extrapolated differences do not agree with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from verify.checker.point import Array, Arrays, StructureError

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest

# How far to move off ties, of the largest entry, and whether outward: the first at which all is finite is taken.
_MOVES = ((2.0**-9, False), (2.0**-13, False), (2.0**-13, True), (2.0**-17, False), (2.0**-17, True))


class _Margins(NamedTuple):
    """The step h, and what slopes may differ by: relative to themselves, and to the largest slope.

    Both are above the truncation, of order h^2. The rounding of f, eps max(|f|, |a|) / h, is added.
    """

    h: float
    own: float
    common: float


# h is about the root of eps, where truncation and rounding of a difference meet; margins are 2^26 and 2^15 times h^2.
_DOUBLE, _SINGLE = _Margins(2.0**-24, 2.0**-22, 2.0**-24), _Margins(2.0**-12, 2.0**-9, 2.0**-16)
# Roundings of a difference of two values, each of a few operations.
_ROUNDINGS = 8


def check_consistent(layer: LayerUnderTest, k: int, v: Array, step: float, rng: np.random.Generator) -> None:
    """Raise StructureError unless Im f(a + i step v) / step is the derivative along v in argument k."""
    refused: ValueError | None = None
    for size, outward in _MOVES:
        try:
            seen = _Seen.at(layer, k, v, step, _moved_off_ties(layer, k, size, rng, outward=outward))
        except ValueError as error:  # beside the arrays given, the domain may end
            refused = error
            continue
        if np.isfinite(seen.plain).all():
            break
    else:
        text = refused or "what is beside these arrays is not finite"
        raise StructureError(f"plain differences in {layer.names[k]} tell nothing: {text}")
    wrong = seen.wrong(layer.names[k])
    if wrong is not None:
        raise StructureError(
            f"the complex step does not differentiate this function in {layer.names[k]}: it gives "
            f"{seen.slopes[wrong]:.6g} where plain differences give {seen.plain[wrong]:.6g}"
        )


def _moved_off_ties(layer: LayerUnderTest, k: int, size: float, rng: np.random.Generator, *, outward: bool) -> Arrays:
    array: Any = layer.arrays[k]
    signs = np.where(array.real < 0, -1.0, 1.0) if outward else rng.choice([-1.0, 1.0], array.shape)
    moves = size * _scale(array) * signs * rng.uniform(0.5, 1.0, array.shape)
    return layer.moved(layer.arrays, k, moves)


def _scale(array: Array) -> float:
    return max(1.0, float(np.abs(array).max()))


class _Seen(NamedTuple):
    """At some arrays: f, its slopes by the complex step and by plain differences, and how much these bend."""

    array: Array
    value: Array
    slopes: Array
    plain: Array
    bend: Array
    margins: _Margins

    @classmethod
    def at(cls, layer: LayerUnderTest, k: int, v: Array, step: float, arrays: Arrays) -> _Seen:
        longest = float(np.abs(v).max()) or 1.0
        array: Any = layer.arrays[k]
        margins = _SINGLE if array.dtype == np.float32 else _DOUBLE
        margins = margins._replace(h=margins.h * _scale(array))
        h = margins.h
        there = layer.complex_value(arrays, k, step * v)
        ahead, behind = (layer.value(layer.moved(arrays, k, s * h / longest * v)).astype(np.float64) for s in (1, -1))
        bend = np.abs(ahead - 2 * there.real + behind) / h
        return cls(array, there.real, there.imag / (step * longest), (ahead - behind) / (2 * h), bend, margins)

    def wrong(self, name: str) -> tuple[int, ...] | None:
        """An entry of y whose slopes differ by more than the two methods do; None without any."""
        unit = _ROUNDINGS * float(np.finfo(self.array.dtype).eps) / self.margins.h
        # Of f's values, and of the arrays, which f may subtract from one another before its own are small.
        rounding = unit * max(float(np.abs(self.value).max(initial=0.0)), float(np.abs(self.array).max(initial=0.0)))
        slope = np.maximum(np.abs(self.slopes), np.abs(self.plain))
        margin = self.margins.own * slope + self.margins.common * slope.max(initial=0.0) + rounding
        kink, off = self.bend > margin, np.abs(self.plain - self.slopes)
        # If every entry seems to have a kink, and slopes are off by more than all there are, this is noise. It is of
        # more than roundings of 1: a y of zeros has none of its own. One loss of many relus may have a kink so near.
        most = np.abs(self.slopes).max(initial=0.0) + margin + unit
        if off.size and (kink & (off > most)).all():
            raise StructureError(f"plain differences in {name} tell nothing of what the complex step gives")
        found = np.argwhere(~(off <= np.maximum(margin, self.bend)))  # at a kink slopes differ by half of that
        return tuple(int(i) for i in found[0]) if len(found) else None
