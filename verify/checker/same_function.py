"""Does a complex step differentiate the function that real arrays see?

A forward that drops imaginary parts (a cast, abs) has complex steps of zero, and a step of 1 is exact
for linear branches only. Plain central differences tell, entry by entry of y, at arrays moved a little
off their ties and zeros (less, or outward, where that leaves the domain):

    (f(u + h v) - f(u - h v)) / 2h  against  Im f(u + i s v) / s

This is no oracle: it has to tell another function from rounding, not a gradient from a gradient. So its tolerance,
relative to the slope, is 2^-22 in float64, and 2^-24 of the largest: above the truncation, of order h^2 with h =
2^-24, and the rounding of f, eps max(|f|, |a|) / h, which is added; and 2^-9 and 2^-16 for h = 2^-12 in float32. Of
an entry with a kink within the step, whose one-sided differences disagree, the slopes may differ by as much. What a
forward adds below that (a penalty of 10^-7 times abs) is not seen, and its gradient is called wrong only if
extrapolated differences do not agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from verify.checker.certificate import StructureError
from verify.checker.exact_numbers import Array, draw_integers, signed
from verify.checker.extrapolation import SAFETY, Extrapolated, Ladder
from verify.checker.layer import Arrays, LayerUnderTest, NoResult
from verify.checker.point import Point

# How far to move off ties, of the largest entry, and whether outward: the first at which all is finite is taken.
_MOVES = ((2.0**-9, False), (2.0**-13, False), (2.0**-13, True), (2.0**-17, False), (2.0**-17, True))
_LEVELS, _DIRECTIONS = 36, 12
_PLACES, _NOISY = 8, 16
# Roundings of a noisy entry of y count as far as it has more than three fifths of its digits: 2^20 of float64.
_SHARE_OF_DIGITS = 20 / 52


def check_same_function(subject: LayerUnderTest, k: int, v: Array, step: float, generator: np.random.Generator) -> None:
    """Raise StructureError unless Im f(a + i step v) / step is the derivative along v in argument k."""
    refused: StructureError | NoResult | None = None
    for size, outward in _MOVES:
        try:
            seen = _Seen.at(subject, k, v, step, _moved_off_ties(subject, k, size, generator, outward=outward))
        except (StructureError, NoResult) as error:  # beside the arrays given may lie the end of the domain
            refused = error
            continue
        if np.isfinite(seen.plain).all():
            break
    else:
        told = "what is beside these arrays is not finite"
        raise StructureError(f"plain differences in {subject.names[k]} tell nothing: {refused or told}")
    wrong = seen.wrong(subject, k)
    if wrong is not None:
        raise StructureError(
            f"the complex step does not differentiate this function in {subject.names[k]}: it gives "
            f"{seen.slopes[wrong]:.6g} where plain differences give {seen.plain[wrong]:.6g}"
        )


def _moved_off_ties(
    subject: LayerUnderTest, k: int, size: float, generator: np.random.Generator, *, outward: bool
) -> Arrays:
    array: Any = subject.arrays[k]
    signs = np.where(array.real < 0, -1.0, 1.0) if outward else generator.choice([-1.0, 1.0], array.shape)
    moves = size * _largest(array) * signs * generator.uniform(0.5, 1.0, array.shape)
    return subject.moved(subject.arrays, k, moves)


def _largest(array: Array) -> float:
    return max(1.0, float(np.abs(array).max()))


class _Seen(NamedTuple):
    """At some arrays: f, its slopes by the complex step and by plain differences, and how much these bend."""

    value: Array
    slopes: Array
    plain: Array
    bend: Array
    h: float

    @classmethod
    def at(cls, subject: LayerUnderTest, k: int, v: Array, step: float, arrays: Arrays) -> _Seen:
        longest = float(np.abs(v).max()) or 1.0
        array: Any = subject.arrays[k]
        h = (2.0**-12 if array.dtype == np.float32 else 2.0**-24) * _largest(array)
        there = subject.complex_value(arrays, k, step * v)
        ahead, behind = (
            subject.value(subject.moved(arrays, k, side * h / longest * v)).astype(np.float64) for side in (1, -1)
        )
        bend = np.abs(ahead - 2 * there.real + behind) / h
        return cls(there.real, there.imag / (step * longest), (ahead - behind) / (2 * h), bend, h)

    def wrong(self, subject: LayerUnderTest, k: int) -> tuple[int, ...] | None:
        """An entry of y whose slopes differ by more than the two methods do; None without any."""
        array: Any = subject.arrays[k]
        own, common = (2.0**-9, 2.0**-16) if array.dtype == np.float32 else (2.0**-22, 2.0**-24)
        unit = 8 * float(np.finfo(array.dtype).eps) / self.h
        # Of f's values, and of the arrays, which f may subtract from one another before its own are small.
        rounding = unit * max(float(np.abs(self.value).max(initial=0.0)), float(np.abs(array).max(initial=0.0)))
        slope = np.maximum(np.abs(self.slopes), np.abs(self.plain))
        margin = own * slope + common * slope.max(initial=0.0) + rounding
        kink, off = self.bend > margin, np.abs(self.plain - self.slopes)
        # Where every entry seems to have a kink, and slopes are off by more than all there are, this is noise, of more
        # than roundings of 1 (a y of zeros has none of its own). One loss of many relus may have a kink so near.
        most = np.abs(self.slopes).max(initial=0.0) + margin + unit
        if off.size and (kink & (off > most)).all():
            raise StructureError(f"plain differences in {subject.names[k]} tell nothing of what the complex step gives")
        found = np.argwhere(~(off <= np.maximum(margin, self.bend)))  # at a kink slopes differ by half of that
        return tuple(int(i) for i in found[0]) if len(found) else None


def check_feels_steps(point: Point, k: int, generator: np.random.Generator) -> tuple[Extrapolated, Ladder]:
    """Raise StructureError where y does not feel short steps in argument k: a difference of 0 convicts nobody then.

    Returns plain differences along a direction.
    """
    seer = Extrapolated(point.subject, point.arrays, point.y, point.dy, point.gradients)
    ladder = Ladder(seer, k, signed(generator, point.gradients[k].shape))
    ladder.extend(_LEVELS)
    if ladder.blind is not None:
        h = ladder.steps[ladder.blind]
        raise StructureError(
            f"y stays as it is at steps of {h:.2g} in {point.subject.names[k]}, but not at longer ones"
        )
    return seer, ladder


def is_constant(subject: LayerUnderTest, k: int, generator: np.random.Generator) -> bool:
    """Whether y stays as it is, but for roundings, wherever argument k is moved: its gradient is 0, not just small.

    So does that of a bias before a normalisation, or of what is added to all logits. What rounding does is seen by
    short moves from each place: where y depends on k they do as much less as they are shorter. Of 450 batch
    normalisations none was off by more than twice what its noisiest entry is, which counts up to 2^20 roundings of y,
    and in float32 up to 2^9, since more may be all of it.
    """
    array: Any = subject.arrays[k]
    eps = float(np.finfo(subject.dtype).eps)

    def moved(start: Array, size: float) -> Array:
        step = size * _largest(array) * generator.normal(size=array.shape)
        return np.asarray(start + step.astype(array.dtype))

    def value(place: Array) -> Array:
        return subject.value(subject.with_array(subject.arrays, k, place))

    places = [array, *(moved(array, 1.0) for _ in range(_PLACES))]
    try:
        values, beside = ([value(place) for place in of] for of in (places, [moved(p, eps**0.75) for p in places]))
    except NoResult:
        return False
    far, near = (np.abs(np.subtract(of, values)).max(axis=0) for of in ([values[0]] * len(values), beside))
    rounding = eps * np.abs(values).max(axis=0)
    noise = np.minimum(near.max(initial=0.0), eps**-_SHARE_OF_DIGITS * rounding)
    return bool((far <= _NOISY * (rounding + noise)).all())


def check_one_branch(point: Point, k: int, generator: np.random.Generator) -> None:
    """Raise StructureError where the complex step takes another branch for another direction."""
    if not is_one_branch(lambda v: point.slopes(k, v), point.gradients[k].shape, generator):
        raise StructureError(f"a tie at these arrays: the complex step in {point.subject.names[k]} is not linear")


def is_one_branch(slopes: Callable[[Array], Array], shape: tuple[int, ...], generator: np.random.Generator) -> bool:
    """Whether slopes add up, but for any rounding: NumPy's sort orders equal numbers by their imaginary parts.

    Where twice the way is not twice as far, the slope is no number (that of a square root at 0), and no branch. The
    median of three equal numbers seems to be linear along 23 in 100 pairs of directions.
    """

    off = largest = 0.0
    for _ in range(_DIRECTIONS):
        one, other = (draw_integers(generator, shape, 8, np.dtype(float)) for _ in range(2))
        part, rest, whole, twice = (slopes(v) for v in (one, other, one + other, 2 * one))
        even = np.abs(twice - 2 * part) <= 2.0**-9 * np.abs(part).max(initial=0.0)
        off = max(off, float(np.abs(whole - part - rest)[even].max(initial=0.0)))
        largest = max(largest, *(float(np.abs(each[even]).max(initial=0.0)) for each in (part, rest, whole)))
    return off <= 2.0**-9 * largest


def check_not_contradicted(point: Point, k: int, generator: np.random.Generator) -> None:
    """The same; and where plain differences agree with a gradient that the complex step calls wrong."""
    seer, ladder = check_feels_steps(point, k, generator)
    found = seer.estimate(ladder)
    doubt = SAFETY * found.error
    if abs(found.value - seer.claimed(k, ladder.v)) <= doubt < abs(point.residual(k, ladder.v)) / 2:
        raise StructureError(
            f"plain differences in {point.subject.names[k]} agree with the gradient, and the complex step does not"
        )
