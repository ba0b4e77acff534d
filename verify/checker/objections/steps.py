"""Do plain differences side with the gradient, or does y not change at short steps at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verify.checker.directions import signed, unit
from verify.checker.extrapolation import MOST_LEVELS, SAFETY, Ladder
from verify.checker.line import Line
from verify.checker.point import StructureError
from verify.checker.reference import Disagreement

if TYPE_CHECKING:
    from verify.checker.references.differences import Differences

# Down to steps of 2^-37 of the arrays' scale, at which float32 inside a float64 forward has long stopped moving y.
_LEVELS = 36
# A function as steep as claimed within the shortest step alone is so many times less steep nine halvings earlier.
_STEEPER = 2.0**9


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
    if seen.insensitive_step is None or case.reference.is_wrong_off_plateaus(case.point, case.k, case.rng):
        return None
    text = f"y is flat at steps of {seen.insensitive_step:.2g}, or insensitive to them"
    return f"{text}: move the arrays, or compute in float64 throughout"


def contradictory(case: Disagreement[Differences]) -> str | None:
    """Along another direction the gradient is right: what f is uncertain by shows better in two."""
    if case.reference.seen[case.k].wrong_along_all:
        return None
    return "the differences contradict each other: right along one direction, wrong along another"


def too_steep(case: Disagreement[Differences]) -> str | None:
    """Within the shortest step alone y may be as steep as claimed: x / max(|x|, eps) is, at 0."""
    worst, point = case.worst, case.point
    line = Line(point, case.k, unit(point, case.k, case.index))
    h = line.step(MOST_LEVELS)
    ahead, behind = line.changes(h)
    steep = line.weigh(ahead - behind) / (2 * h)
    if not (_STEEPER * abs(worst.numeric) < abs(steep) <= 2 * abs(worst.analytic) and steep * worst.analytic > 0):
        return None
    text = f"differences say {worst.numeric:.3g}, and {steep:.3g} at the shortest step, {h:.2g}"
    return f"y changes too fast beside {case.name}[{', '.join(map(str, worst.index))}]: {text}; move it"
