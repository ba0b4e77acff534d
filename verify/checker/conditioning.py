"""What a gradient, and what differentiates the forward, are known to: both round, and amplify what rounds before.

An ulp in the arrays may move a gradient by far more than an ulp: a solution for an ill-conditioned matrix, a batch
norm of two images. So does the rounding inside. It is measured by moving the arrays, or by numbers of which all
products round otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from verify.checker.point import Array, Arrays, StructureError

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest

# No powers of two, so that products round otherwise; nothing overflows by them.
FACTORS = (0.75, 0.625, 0.875)
# A few draws of signs show how one ulp is amplified typically. The worst is more: with 16 in the place of 64, 3 of 100
# correct batch norms of two images failed.
MOST_AMPLIFIED = 64.0
# A disagreement of up to 8 tolerances neither passes nor fails: the conditioning is an estimate.
DOUBTFUL = 8.0
# What is added to k, see `gamma`.
_ELEMENTARY, _EXPONENTIAL = 32, 4


def moved_by_ulps(
    layer: LayerUnderTest,
    dy: Array,
    claimed: dict[int, Array],
    rng: np.random.Generator,
    draws: int,
    fixed: Sequence[int] | None = None,
    ulp: float | None = None,
) -> dict[int, Array]:
    """How far the gradients move, entry by entry, when the entries of the arrays move by an ulp or two.

    `ulp` is that of another dtype. Equal entries move together and zeros stay, so that no tie is broken and no kink
    crossed. If `fixed` is given, those arrays are moved as well, except whole numbers (labels, masks). Then half the
    distance between moved gradients counts, and not that from the gradients claimed: a backward that is wrong at the
    very arrays given is wrong.
    """
    epsilon = float(np.finfo(layer.dtype).eps) if ulp is None else ulp
    share = 1.0 if fixed is None else 0.5
    most = {k: np.zeros(gradient.shape) for k, gradient in claimed.items()}
    for draw in range(draws):
        arrays: Arrays = layer.arrays
        for k in (*layer.wrt, *(fixed or ())):
            distinct, place = np.unique(layer.arrays[k], return_inverse=True)
            movable = np.isfinite(distinct) & ((distinct != np.rint(distinct)) | (k in layer.wrt))
            with np.errstate(invalid="ignore"):
                moves = (epsilon * rng.choice([-1.0, 1.0], distinct.shape) * np.where(movable, distinct, 0))[place]
            arrays = layer.moved(arrays, k, moves.reshape(layer.arrays[k].shape))
        moved = layer.pull_back(arrays, dy, layer.value_and_cache(arrays)[1])
        if fixed is not None and draw == 0:
            claimed = moved
        with np.errstate(invalid="ignore"):  # a gradient that is not finite is dealt with elsewhere
            change = finite({k: share * np.abs(moved[k] - claimed[k]) for k in claimed})
        most = {k: np.maximum(most[k], change[k]) for k in claimed}
    return most


def finite(gradients: dict[int, Array]) -> dict[int, Array]:
    """The gradients with 0 for what is not finite."""
    return {k: np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0) for k, gradient in gradients.items()}


def gamma(layer: LayerUnderTest, y: Array) -> float:
    """gamma_k = k eps / (1 - k eps), what k roundings make of a number at most (Higham 2002, section 3.1).

    k is the sum of

    - the entries of the largest array: the longest sum there can be;
    - 32, for a handful of elementary functions of a few roundings each;
    - 4 max|a|: an exponential turns a rounding of its argument, relative eps |a|, into one of its value.
    """
    arrays = [layer.arrays[k] for k in layer.wrt]
    largest = max(float(np.abs(array).max(initial=0.0)) for array in arrays)
    k = max([y.size, *(array.size for array in arrays)]) + _ELEMENTARY + _EXPONENTIAL * largest
    unit = k * float(np.finfo(layer.dtype).eps)
    if unit >= 0.5:
        raise StructureError(f"{layer.dtype} is too coarse for sums of {k:.3g} roundings")
    return float(unit / (1 - unit))


def unsaturated(layer: LayerUnderTest, dy: Array, rng: np.random.Generator) -> dict[int, Array]:
    """The size of the gradients where nothing saturates or cancels: their roundings stand for those inside.

    The arrays are scaled to entries of at most 1, each times a number of [1/2, 1]. A zero becomes such a number of
    either sign. Equal entries would stay equal otherwise, and a gradient can vanish by symmetry: of a softmax of equal
    logits, say. The larger of two draws counts, one with all signs turned: gelu's slope is 0 at -0.75. A draw that the
    layer refuses is left out. If it refuses both, the arrays are scaled alone.
    """
    scaled = [_unit_scale(a) if k in layer.wrt else a for k, a in enumerate(layer.arrays)]
    own, found = rng.spawn(1)[0], dict[int, Array]()
    for sign in (1.0, -1.0):
        arrays = [sign * _uneven(a, own) if k in layer.wrt else a for k, a in enumerate(scaled)]
        try:
            gradients = finite(layer.pull_back(arrays, dy, layer.value_and_cache(arrays)[1]))
        except ValueError:  # a call that raises is one
            continue
        found = {k: np.maximum(np.abs(gradient), found.get(k, 0.0)) for k, gradient in gradients.items()}
    return found or finite(layer.pull_back(scaled, dy, layer.value_and_cache(scaled)[1]))


def _unit_scale(array: Array) -> Array:
    return np.asarray(array / max(1.0, float(np.abs(array).max(initial=0.0))))


def _uneven(array: Array, rng: np.random.Generator) -> Array:
    signs = np.where(array == 0, rng.choice([-1.0, 1.0], array.shape), 0.0)
    return np.asarray((array + signs) * rng.uniform(0.5, 1, array.shape), array.dtype)
