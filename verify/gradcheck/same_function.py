"""Does a complex step differentiate the function that real arrays see?

A forward that drops imaginary parts (a cast, abs) has complex steps of zero, and a step of 1 is exact
for linear branches only. Plain central differences tell, entry by entry of y, at arrays moved a little
off their ties and zeros:

    (f(u + h v) - f(u - h v)) / 2h  against  Im f(u + i s v) / s

This is no oracle: it has to tell another function from rounding, not a gradient from a gradient. So
its tolerance, relative to the largest slope, is 2^-16 in float64: above the truncation, of order h^2
with h = 2^-24, and the rounding of f, eps |f| / h, which is added; and 2^-9 for h = 2^-12 in float32.
Entries whose one-sided differences disagree by more have a kink within the step, and are passed over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from verify.gradcheck.certificate import StructureError
from verify.gradcheck.exact_numbers import Array, signed
from verify.gradcheck.point import Point
from verify.gradcheck.richardson import Extrapolated, Ladder
from verify.gradcheck.subject import Subject

_OFF_TIES = 2.0**-9
_LEVELS = 36


def check_same_function(subject: Subject, k: int, v: Array, step: float, generator: np.random.Generator) -> None:
    """Raise StructureError unless Im f(a + i step v) / step is the derivative along v in argument k."""
    array: Any = subject.arrays[k]
    largest = max(1.0, float(np.abs(array).max()))
    signs = generator.choice([-1.0, 1.0], array.shape) * generator.uniform(0.5, 1.0, array.shape)
    off_ties = subject.moved(subject.arrays, k, _OFF_TIES * largest * signs)
    longest = float(np.abs(v).max()) or 1.0
    single = array.dtype == np.float32
    h, tolerance = (2.0**-12, 2.0**-9) if single else (2.0**-24, 2.0**-16)
    h *= largest
    there = subject.complex_value(off_ties, k, step * v)
    slopes = there.imag / (step * longest)
    ahead, behind = (
        subject.value(subject.moved(off_ties, k, side * h / longest * v)).astype(np.float64) for side in (1, -1)
    )
    plain = (ahead - behind) / (2 * h)
    rounding = 8 * float(np.finfo(array.dtype).eps) * np.abs(there.real).max(initial=0.0) / h
    margin = tolerance * max(np.abs(slopes).max(initial=0.0), np.abs(plain).max(initial=0.0)) + rounding
    kink = np.abs(ahead - 2 * there.real + behind) / h > margin
    # What is not finite at the arrays moved (a logarithm of what became negative) tells nothing.
    finite, off = np.isfinite(plain), np.abs(plain - slopes)
    # That every entry has a kink so near, and a slope of its own there, is improbable: this is noise, of more than
    # roundings of 1 (a y of zeros has none of its own).
    if finite.any() and (kink & (off > margin + 8 * float(np.finfo(array.dtype).eps) / h))[finite].all():
        raise StructureError(f"plain differences in {subject.names[k]} tell nothing of what the complex step gives")
    wrong = finite & ~kink & ~(off <= margin)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise StructureError(
            f"the complex step does not differentiate this function in {subject.names[k]}: it gives "
            f"{slopes[index]:.6g} where plain differences give {plain[index]:.6g}"
        )


def check_feels_steps(point: Point, k: int, generator: np.random.Generator) -> None:
    """Raise StructureError where y does not feel short steps in argument k: a difference of 0 convicts nobody then."""
    seer = Extrapolated(point.subject, point.arrays, point.y, point.dy, point.gradients)
    ladder = Ladder(seer, k, signed(generator, point.gradients[k].shape))
    ladder.extend(_LEVELS)
    if ladder.blind is not None:
        h = ladder.steps[ladder.blind]
        raise StructureError(
            f"y stays as it is at steps of {h:.2g} in {point.subject.names[k]}, but not at longer ones"
        )
