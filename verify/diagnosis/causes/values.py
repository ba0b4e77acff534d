"""What a mistake makes of the true gradient's values, or of the contributions to each: entry by entry."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from verify.checker.layer import LayerUnderTest
from verify.checker.point import Array
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import FEWEST_WRONG, Evidence
from verify.diagnosis.causes.options import at_arrays

# A factor is one more rounding, in the fit and in the backward, of each product: 8 units in the last place.
_OF_A_FACTOR = 8
# Of five axes there are 120 orders.
_MOST_ORDERS_OF = 5
# (N - 1) / N is off by more than this for every N up to 999: a factor that stays N does not follow.
_FOLLOWS = 1e-3


def plain(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """Zero, the wrong sign, dy itself, a factor of the batch's size."""
    claimed, true, dy = evidence.claimed, evidence.true, evidence.point.dy
    if not claimed.any():
        if evidence.wrong >= FEWEST_WRONG:
            yield CauseCode.ZERO, "is zero everywhere"
        return
    if evidence.fits(-true):
        yield CauseCode.SIGN, "has the opposite sign"
        return
    for copied in _broadcasts(dy, claimed.shape):
        if evidence.fits(copied):
            yield CauseCode.UPSTREAM_COPIED, "is dy"
    if _follows_batch(evidence):
        yield from _of_batch(evidence)


def scaled(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """A constant factor: the one that a largest entry has; it may be the batch's size, where no other batch tells."""
    factor = _factor(evidence)
    if factor is not None and not _equal(evidence, factor, -1):
        yield CauseCode.CONSTANT_FACTOR, f"is {_text(factor)} times the true gradient{_sizes(evidence, factor)}"
        if _follows_batch(evidence) is None:
            yield from _of_batch(evidence)


def _text(factor: float) -> str:
    """Six digits, or as many as tell it from 1."""
    return next((text for digits in (6, 10, 17) if float(text := f"{factor:.{digits}g}") != 1), "1")


def _of_batch(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """A factor that is the batch's size, or its inverse."""
    factor, batch = _factor(evidence), _batch(evidence)
    for one, why in (
        (
            batch,
            "is N times the true gradient, where N is the size of the batch: summed, not averaged, or counted N times",
        ),
        (1 / batch, "is 1 / N of the true gradient, where N is the size of the batch: averaged, not summed"),
    ):
        if batch > 1 and factor is not None and _equal(evidence, factor, one):
            yield CauseCode.BATCH_REDUCTION, why


def _batch(evidence: Evidence) -> int:
    arrays = [a for a in evidence.point.arrays if a is not None and np.ndim(a)]
    return len(evidence.point.y) if evidence.point.y.ndim else len(arrays[0]) if arrays else 1


def _follows_batch(evidence: Evidence) -> bool | None:
    """Whether a factor that is N, or 1 / N, is N - 1, or its inverse, without the last image; None if that cannot be.

    The images are those of all arrays whose first axis has N entries, or of the first of these alone.
    """
    if not any(_of_batch(evidence)):
        return None
    point, batch = evidence.point, _batch(evidence)
    of_batch = [j for j, array in enumerate(point.arrays) if np.ndim(array) and len(array) == batch]  # type: ignore[arg-type]
    for cut in (of_batch, of_batch[:1]):
        try:
            fewer = _of_fewer(evidence, cut)
        except Exception:  # these are no images, or the layer wants more of them
            continue
        inverse = abs(_factor(evidence) or 1.0) < 1
        return abs(fewer * (batch - 1) - 1 if inverse else fewer / (batch - 1) - 1) <= _FOLLOWS
    return None


def _of_fewer(evidence: Evidence, cut: list[int]) -> float:
    """The claim over the derivative, along a direction, where these arrays lack their last image."""
    point, k, own = evidence.point, evidence.k, evidence.point.layer
    arrays = tuple(a[:-1] if j in cut and a is not None else a for j, a in enumerate(point.arrays))
    layer = LayerUnderTest(own.forward, own.backward, arrays, own.options, own.names, own.wrt)
    layer.calls = own.calls  # a call counts as the layer's
    other = at_arrays(point, arrays, point.dy[:-1] if point.y.ndim else point.dy, layer)
    if other.y.shape != other.dy.shape:
        raise ValueError(f"y of shape {other.y.shape} for one image less than {point.y.shape}")
    claimed = layer.pull_back(arrays, other.dy, layer.value_and_cache(arrays)[1])[k]
    v = evidence.directions[0][:-1] if k in cut else evidence.directions[0]
    return float((claimed * v).sum()) / float((other.dy * evidence.slopes_at(other, k, v)).sum())


def reduced(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """The batch's sum or mean for each image; dy summed over other axes."""
    claimed, dy = evidence.claimed, evidence.point.dy
    if evidence.batched and np.array_equal(claimed, np.broadcast_to(claimed[:1], claimed.shape)):
        yield from _for_every_image(evidence)
    for count in range(1, dy.ndim + 1):
        for axes in itertools.combinations(range(dy.ndim), count):
            summed = dy.sum(axis=axes)
            if summed.size == claimed.size and evidence.fits(summed.reshape(claimed.shape)):
                yield CauseCode.NOT_REDUCED, f"is dy summed over its axes {axes}"


def _for_every_image(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """The batch's sum or mean, by the directions where not every entry is known."""
    true, count = evidence.true, len(evidence.true)
    for share, how in ((1, "sum"), (1 / count, "mean")):
        if evidence.whole:
            total = share * np.broadcast_to(true.sum(axis=0), true.shape)
            fits = evidence.fits(total, 0.0 if share == 1 else _rounding(evidence, total))
        else:
            fits = evidence.fits_elsewhere(
                evidence.point,
                evidence.k,
                lambda v, s=share: s * np.broadcast_to(v.sum(axis=0), v.shape),  # type: ignore[misc]
            )
        if fits:
            yield CauseCode.BATCH_REDUCTION, f"gives every image the {how} over the batch"


def rounded(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """Cut to whole numbers, or to float32."""
    true = evidence.true
    if evidence.fits(np.trunc(true)):
        yield CauseCode.TRUNCATED, "is the true gradient cut to whole numbers"
    with np.errstate(over="ignore"):
        single = true.astype(np.float32).astype(true.dtype)
    if evidence.claimed.dtype != np.float32 and evidence.fits(single):
        yield CauseCode.ROUNDED_TO_FLOAT32, "is the true gradient in float32"
    elif evidence.claimed.dtype == np.float64 and _computed_in_float32(evidence.claimed, true, single):
        yield CauseCode.ROUNDED_TO_FLOAT32, "holds numbers of float32 alone: it was summed in float32"


def _computed_in_float32(claimed: Array, true: Array, single: Array) -> bool:
    """Whether all entries are numbers of float32, of which the true ones are none, and half their digits are right."""
    known = ~np.isnan(true)
    with np.errstate(over="ignore"):
        of_float32 = bool((claimed.astype(np.float32) == claimed).all())
    off, largest = np.abs(claimed - true)[known].max(initial=0.0), np.abs(true[known]).max(initial=0.0)
    finer = np.count_nonzero((single != true) & known) >= FEWEST_WRONG
    return bool(of_float32 and finer and off <= np.sqrt(np.finfo(np.float32).eps) * largest)


def partial(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """Of all contributions dy_o J_oi to entry i, one: on the diagonal, or the first or last of several."""
    parts, y = evidence.parts, evidence.point.y
    if y.shape == evidence.claimed.shape:
        diagonal = parts.reshape(len(parts), -1)[np.arange(len(parts)), evidence.known]
        if evidence.fits(evidence.partial(diagonal)):
            yield CauseCode.DIAGONAL_ONLY, "is dy times the diagonal of the Jacobian"
    if y.ndim > _MOST_ORDERS_OF:
        return
    # A loop assigns what is summed over some axes of y already, such as the filters of a window, or the batch.
    for count in range(y.ndim):
        for summed in itertools.combinations(range(1, y.ndim + 1), count):
            by_loop = parts.sum(axis=summed).reshape(len(parts), -1)
            reached = (evidence.columns != 0).any(axis=summed).reshape(len(parts), -1)
            for which, order in (("last", slice(None, None, -1)), ("first", slice(None))):
                picked = reached[:, order].argmax(axis=1)
                alone = by_loop[:, order][np.arange(len(parts)), picked]
                if evidence.fits(evidence.partial(alone)):
                    yield CauseCode.OVERLAP_ASSIGNED, f"takes the {which} of an entry's contributions, not their sum"
                    return


def _broadcasts(dy: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """dy in this shape: itself, along trailing axes, along leading ones."""
    for view in (dy, dy.reshape(dy.shape + (1,) * max(0, len(shape) - dy.ndim))):
        try:
            yield np.broadcast_to(view, shape)
        except ValueError:  # it does not fit
            continue


def _factor(evidence: Evidence) -> float | None:
    """What the true gradient is multiplied by, if it is."""
    claimed, true = evidence.claimed, evidence.true
    largest = np.unravel_index(int(np.nan_to_num(np.abs(true)).argmax()), true.shape)
    if not true[largest] or not claimed[largest]:
        return None
    factor = float(claimed[largest]) / float(true[largest])
    return factor if evidence.fits(factor * true, _rounding(evidence, factor * true)) else None


def _sizes(evidence: Evidence, factor: float) -> str:
    """What of y or of the argument has as many entries as the factor, or its inverse, says."""
    for name, shape in (("y", evidence.point.y.shape), (evidence.point.layer.names[evidence.k], evidence.true.shape)):
        for count in range(1, len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), count):
                size = math.prod(shape[axis] for axis in axes)
                if size > 1 and (_equal(evidence, factor, size) or _equal(evidence, factor, 1 / size)):
                    return f"; {name} has {size} entries along its axes {axes}"
    return ""


def _equal(evidence: Evidence, one: float, other: float) -> bool:
    return abs(one / other - 1) <= _OF_A_FACTOR * float(np.finfo(evidence.claimed.dtype).eps)


def _rounding(evidence: Evidence, predicted: Array) -> Array:
    """Of a factor taken before or after the sums of y.size products (Higham 2002, section 3.1)."""
    eps = float(np.finfo(evidence.claimed.dtype).eps)
    terms = evidence.partial(np.abs(evidence.parts).reshape(len(evidence.known), -1).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.nan_to_num(np.abs(predicted) / np.abs(evidence.true), posinf=0.0)
    return np.asarray(
        np.nan_to_num(_OF_A_FACTOR * eps * np.abs(predicted) + evidence.point.y.size * eps * terms * scale)
    )
