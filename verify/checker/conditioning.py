"""What a gradient, and what differentiates the forward, are known to: both round, and amplify what rounds before.

An ulp in the arrays may move a gradient by far more than an ulp (a solution for an ill-conditioned matrix, a batch norm
of two images), and so does the rounding inside. It is measured, not guessed: by moving the arrays, or by numbers of
which all products round otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verify.checker.certificate import ArgumentResult
from verify.checker.exact_numbers import Array
from verify.checker.extrapolation import MOST_LEVELS, SAFETY, Extrapolated
from verify.checker.layer import Arrays, LayerUnderTest, NoResult

# So many times, where a slope grows as steps are halved nine times.
_STEEPER = 2.0**9
# So many roundings may be left of terms that cancel, and more than a few are; one of float32 is 2^29 of float64.
_ROUNDED, _LAST_BITS = 2.0**24, 2.0**10
# No powers of two, so that products round otherwise; nothing overflows by them.
FACTORS = (0.75, 0.625, 0.875)
# A few draws of signs show how one ulp is amplified typically. The worst is more: with 16 in the place of 64,
# 3 of 100 correct batch norms of two images failed; it is a margin, not yet calibrated.
MOST_AMPLIFIED = 64.0
_DRAWS = 8


def moved_by_ulps(
    subject: LayerUnderTest,
    dy: Array,
    gradients: dict[int, Array],
    generator: np.random.Generator,
    draws: int,
    held: Sequence[int] | None = None,
) -> dict[int, Array]:
    """How far the gradients move, entry by entry, when the entries of the arrays move by an ulp or two.

    Equal entries move together and zeros stay, so that no tie is broken and no kink crossed. Where arrays that are
    held are told, they move, too, but for whole numbers, which may be labels, or a mask; and how far gradients are from
    one another counts, by half, not from those given: a backward that is wrong at the very arrays given is wrong.
    """
    epsilon, share = float(np.finfo(subject.dtype).eps), 1.0 if held is None else 0.5
    most = {k: np.zeros(gradient.shape) for k, gradient in gradients.items()}
    for draw in range(draws):
        arrays: Arrays = subject.arrays
        for k in (*subject.wrt, *(held or ())):
            distinct, place = np.unique(subject.arrays[k], return_inverse=True)
            movable = distinct * (
                np.isfinite(distinct) & (distinct != np.rint(distinct)) if k not in subject.wrt else 1
            )
            moves = (epsilon * generator.choice([-1.0, 1.0], distinct.shape) * movable)[place]
            arrays = subject.moved(arrays, k, moves.reshape(subject.arrays[k].shape))
        moved = subject.pull_back(arrays, dy, subject.value_and_cache(arrays)[1])
        if held is not None and draw == 0:
            gradients = moved
        with np.errstate(invalid="ignore"):  # a gradient that is not finite is dealt with elsewhere
            change = finite({k: share * np.abs(moved[k] - gradients[k]) for k in gradients})
        most = {k: np.maximum(most[k], change[k]) for k in gradients}
    return most


def finite(gradients: dict[int, Array]) -> dict[int, Array]:
    """The same with 0 for what is not finite."""
    return {k: np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0) for k, gradient in gradients.items()}


def why_in_doubt(
    point: Extrapolated, k: int, result: ArgumentResult, along: float, generator: np.random.Generator
) -> str | None:
    """Why a claim that differences call wrong may be right, if it may; all is looked for at the worst entry.

    A function may be as steep as claimed within the shortest step alone: x / max(|x|, eps) is, at 0. Backward may
    round by as much as it is off, where large terms cancel: then the gradient of 3/4 dy over 3/4, of which all products
    round otherwise, has another entry there, by more than the last bits. That such rounding is small, beside dy y / a,
    is asked, too: a backward that computes in float32 is wrong. Or an ulp in the arrays, held ones included, may move
    that entry by so much, and all entries by as much as the gradient is off `along` a direction; but not where none
    moves: a backward that gives random numbers is wrong.
    """
    worst, name, array = result.worst, point.subject.names[k], point.arrays[k]
    if worst is None or array is None:
        return None
    h = point.step(k, MOST_LEVELS)
    ahead, behind = point.differences(k, point.unit(k, worst.index), h)
    steep = point.weigh(ahead - behind) / (2 * h)
    if _STEEPER * abs(worst.numeric) < abs(steep) <= 2 * abs(worst.analytic) and steep * worst.analytic > 0:
        told = f"differences say {worst.numeric:.3g}, and {steep:.3g} at the shortest step, {h:.2g}"
        return f"y changes too fast beside {name}[{', '.join(map(str, worst.index))}]: {told}; move it"
    entries = [float(point.scaled(factor).gradients[k][worst.index]) / factor for factor in FACTORS]
    rounded = max(abs(entry - worst.analytic) for entry in entries)
    scale = float(np.abs(point.dy).max()) * float(np.abs(point.y).max()) / (float(np.abs(array).max()) or 1.0)
    eps = float(np.finfo(array.dtype).eps)
    if max(result.error / SAFETY, _LAST_BITS * eps * abs(worst.analytic)) <= rounded <= _ROUNDED * eps * scale:
        return f"off by {result.error:.2g}, and backward rounds by {rounded:.2g}: take arrays of moderate size"
    same = point.scaled(1.0).gradients[k][worst.index] == point.gradients[k][worst.index]
    try:
        moved = moved_by_ulps(point.subject, point.dy, point.gradients, generator, _DRAWS, point.subject.held)[k]
    except NoResult:  # at the edge of the domain
        return None
    amplified = MOST_AMPLIFIED * float(moved[worst.index])
    explained = along <= MOST_AMPLIFIED * float(moved.sum())
    if same and explained and result.error <= amplified:
        return f"off by {result.error:.2g}, an ulp in the arrays moves the gradient by up to {amplified:.2g}"
    return None
