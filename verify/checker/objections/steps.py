"""Do plain differences side with the gradient, or does y not change at short steps at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from verify.checker.directions import signed, unit
from verify.checker.extrapolation import MOST_LEVELS, SAFETY, SURE, Ladder
from verify.checker.kink_search import COARSEST
from verify.checker.line import Line
from verify.checker.objections import Disagreement
from verify.checker.objections.randomness import why_not_repeated
from verify.checker.point import Array, StructureError
from verify.checker.reference import with_upstream

if TYPE_CHECKING:
    from verify.checker.kink_search import Seen
    from verify.checker.references.differences import Differences

# Down to steps of 2^-37 of the arrays' scale, at which float32 inside a float64 forward has long stopped moving y.
_LEVELS = 36
# A function as steep as claimed within the shortest step alone is 2^9 times less steep nine halvings earlier.
_STEEPER = 2.0**9
# So often flat entries of y are left out, and others found to be flat.
_PLATEAUS = 4
# A hundred roundings are no rounding, and a hundredth is no change.
_NOISY = 100


def insensitive(case: Disagreement[Any]) -> None:
    """Raise StructureError where short steps do not move y, and longer ones do: a difference of 0 is no derivative."""
    _plain(case)


def differences_agree(case: Disagreement[Any]) -> None:
    """Raise StructureError where y is insensitive, or plain differences agree with the gradient."""
    ladder = _plain(case)
    found = ladder.estimate()
    doubt = SAFETY * found.error
    line = ladder.line
    off = abs(float(case.reference.offset(case.point, case.k, line.v)))
    if abs(found.value - line.claimed()) <= doubt < off / 2:
        raise StructureError(f"plain differences in {case.name} agree with the gradient, and the complex step does not")


def _plain(case: Disagreement[Any]) -> Ladder:
    """Plain differences along a random direction; StructureError where y is insensitive along it."""
    ladder = Ladder(Line(case.point, case.k, signed(case.rng, case.v.shape)))
    ladder.extend(_LEVELS)
    if ladder.insensitive is not None:
        h = ladder.steps[ladder.insensitive]
        raise StructureError(f"y stays as it is at steps of {h:.2g} in {case.name}, but not at longer ones")
    return ladder


def plateaus(case: Disagreement[Differences]) -> str | None:
    """y is flat at short steps, and longer ones are too coarse. But off its flat entries the gradient may be wrong."""
    seen = case.reference.seen[case.k]
    if seen.insensitive_step is None or _is_wrong_off_plateaus(case):
        return None
    text = f"y is flat at steps of {seen.insensitive_step:.2g}, or insensitive to them"
    return f"{text}: move the arrays, or compute in float64 throughout"


def _is_wrong_off_plateaus(case: Disagreement[Differences]) -> bool:
    """Whether the gradient is wrong even with nothing upstream of the entries of y that are flat at short steps."""
    reference, point, k = case.reference, case.point, case.k
    before, found = reference.seen[k], False
    for _ in range(_PLATEAUS):
        point = with_upstream(point, _without(point.dy, reference.seen[k].flat))
        if not point.dy.any() or not np.isfinite(point.claimed[k]).all():
            break
        directions = reference.directions(point, k, case.rng)
        outside = [reference.derivative(point, k, v).excess(reference.claim(point, k, v)) for v in directions]
        seen = reference.seen[k]
        if seen.insensitive_step is None:
            found = any(outside) and seen.is_sharp and seen.kinked is not None
            break
    reference.seen[k] = before
    return found


def _without(dy: Array, flat: Array | None) -> Array:
    return dy if flat is None else np.where(flat, 0, dy).astype(dy.dtype)


def long_steps_agree(case: Disagreement[Differences]) -> str | None:
    """At long steps the gradient is right, and short ones say something else, of which they are as sure.

    So it is where a part of y is in float32: short steps do not move it, and the rest of y hides that.
    """
    seen = case.reference.seen[case.k]
    found = next((e for v, e in zip(seen.directions, seen.estimates, strict=True) if v is case.v), None)
    if found is None:  # at a kink
        return None
    ladder = Ladder(Line(case.point, case.k, case.v))
    ladder.estimate()
    if not ladder.says_what_is_claimed(found, SURE)[: found.level].any():
        return None
    text = "the differences at long steps agree with the gradient, and those at short steps do not"
    return f"{text}: move {case.name}, or compute in float64 throughout"


def short_steps_agree(case: Disagreement[Differences]) -> str | None:
    """At short steps the gradient is right, at three lengths in a row, and longer ones say something else.

    So it is beside one large entry, which makes all steps long: y may be affine there, and curved nearer the arrays.
    Where y is flat at short steps these say nothing.
    """
    ladder = Ladder(Line(case.point, case.k, case.v))
    found = ladder.estimate()
    ladder.extend(MOST_LEVELS)
    says = ladder.says_what_is_claimed(found, SURE)[found.level + 1 :]
    if ladder.insensitive is not None or not (says[:-2] & says[1:-1] & says[2:]).any():
        return None
    text = "the differences at short steps agree with the gradient, and those at long steps do not"
    return f"{text}: take arrays of one size"


def too_steep(case: Disagreement[Differences]) -> str | None:
    """Within the shortest step alone y may be as steep as claimed: x / max(|x|, eps) is, at 0."""
    worst, point = case.worst, case.point
    line = Line(point, case.k, unit(point, case.k, case.index))
    h = line.step(MOST_LEVELS)
    steep = line.central(h)
    if not (_STEEPER * abs(worst.numeric) < abs(steep) <= 2 * abs(worst.analytic) and steep * worst.analytic > 0):
        return None
    text = f"differences say {worst.numeric:.3g}, and {steep:.3g} at the shortest step, {h:.2g}"
    return f"y changes too fast beside {case.name}[{', '.join(map(str, worst.index))}]: {text}; move it"


def too_many(case: Disagreement[Differences]) -> str | None:
    """More entries are at kinks than can be asked one by one."""
    if case.reference.seen[case.k].kinked is not None:
        return None
    return "too many entries are at kinks: take arrays with fewer"


def irregular(case: Disagreement[Differences]) -> str | None:
    """Where y is not regular, extrapolated one-sided derivatives do not bound what may be claimed."""
    seen = case.reference.seen[case.k]
    if seen.search(case.point, case.k).is_regular(seen.kinked or [], seen.directions[0], case.rng):
        return None
    text = f"one-sided derivatives in {case.name} do not tell what may be claimed at its kinks"
    return f"{text}, as at a median of equal numbers: take arrays off them"


def remedy(line: Line, seen: Seen) -> str:
    """Why differences are known no better here, and what would help."""
    point, name = line.point, line.point.layer.names[line.k]
    noise, rounding = max(each.noise for each in seen.estimates), line.rounding()
    if line.repeated:
        return why_not_repeated(point.layer)
    note = f"(differences in {name} are off by up to {seen.tolerance:.2g}, beside slopes of {seen.slope:.2g})"
    ladder = Ladder(line)
    ladder.estimate()
    # At the two shortest steps y changes by as much: noise would differ, and what a slope adds halves.
    for one, two in (ladder.ahead[-2:], ladder.behind[-2:]):
        if abs(one) > _NOISY * rounding and abs(one - two) <= abs(one) / _NOISY:
            return f"y jumps at the arrays given: move {name} off the jump {note}"
    if noise > _NOISY * rounding:
        return f"f is uncertain by {noise:.2g}: let the forward compute in float64 throughout {note}"
    given, y = point.claimed[line.k].dtype, point.y.dtype
    if given != np.float64:
        return f"{given} is too coarse for differences: check with arrays of float64 {note}"
    if y != np.float64:
        return f"y is {y}, too coarse for differences, and {name} is float64: let forward compute in float64 {note}"
    if max(seen.largest, seen.slope) * line.step(0) * COARSEST < rounding:
        text = f"so small a gradient is lost in the rounding of y, whose entries reach {np.abs(point.y).max():.2g}"
        return f"{text}: leave out of y what does not depend on {name}, or let forward take complex numbers {note}"
    return f"differences are too coarse here: take arrays away from kinks and poles, of moderate size {note}"
