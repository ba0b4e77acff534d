"""Why a gradient is wrong: which transformation of the true gradient equals the claimed one.

The true gradient is built column by column, J e_i for every entry, where there are few enough; a cause is
named only if what it predicts equals what the backward claims, as exactly as the oracle can tell, and if
more than one entry speaks for it. It is a guess, and printed as one.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from verify.gradcheck.certificate import Cause
from verify.gradcheck.exact_numbers import Array
from verify.gradcheck.kinks import AtKinks
from verify.gradcheck.point import Findings, Point

# A forward for each entry: so many and no more.
_MOST_ENTRIES = 512


class CauseCode(enum.Enum):
    """What may be wrong with a gradient; `meaning` is its sentence."""

    ZERO = "zero", "The gradient is zero where the true one is not."
    SIGN = "sign", "It has the opposite sign."
    CONSTANT_FACTOR = (
        "constant-factor",
        "It is a constant times the true one: a mean over the batch missing, say.",
    )
    TRANSPOSED = "transposed", "Its axes are permuted."
    FEATURES_BATCH_SWAPPED = "features-batch-swapped", "It was reshaped from (features, N) as if it were (N, features)."
    FLIPPED = "flipped", "It is mirrored in its last two axes."
    KERNEL_NOT_FLIPPED = "kernel-not-flipped", "It is the true one for another array mirrored in its last two axes."
    SHIFTED = "shifted", "It is the true one moved along an axis: padding cropped at the wrong end, say."
    REMAINDER_LOST = (
        "remainder-lost",
        "Its last slices along an axis are zero, all else is right: rows left over.",
    )
    ONE_IMAGE_ONLY = "one-image-only", "Of the batch one image alone counts."
    OVERLAP_ASSIGNED = "overlap-assigned", "Of several contributions to an entry one alone counts: assigned, not added."
    DIAGONAL_ONLY = "diagonal-only", "Of the Jacobian the diagonal alone counts."
    UPSTREAM_COPIED = "upstream-copied", "It is dy."
    UPSTREAM_IGNORED = "upstream-ignored", "It does not depend on dy."
    ALL_TIES_REWARDED = "all-ties-rewarded", "At ties, each entry gets what it would get alone."
    GRADIENTS_SWAPPED = "gradients-swapped", "It is the gradient of another argument."
    TRUNCATED = "truncated", "It is cut to whole numbers."
    ROUNDED_TO_FLOAT32 = "rounded-to-float32", "It went through float32."
    ACCUMULATES = "accumulates", "A second backward gives something else."
    GRADIENT_COUNT = "gradient-count", "Too few or too many gradients, or no tuple of them."
    NO_GRADIENT = "no-gradient", "What should be a gradient is no array."
    WRONG_SHAPE = "wrong-shape", "It has another shape than its argument."
    WRONG_DTYPE = "wrong-dtype", "It has another dtype than its argument."
    RAISED = "raised", "The backward raised an exception."
    FORWARD_RESULT = "forward-result", "The forward returned no real floating y with its cache, of one shape."
    INPUT_OVERWRITTEN = "input-overwritten", "The forward or the backward wrote to an argument."
    UNKNOWN = "unknown", "None of these."
    NOT_FINITE = "not-finite", "It holds NaN or an infinity."

    def __init__(self, code: str, meaning: str) -> None:
        self.code, self.meaning = code, meaning


def cause_table() -> str:
    """All codes in Markdown."""
    rows = [f"| `{each.code}` | {each.meaning} |" for each in CauseCode]
    return "\n".join(["| cause | meaning |", "| --- | --- |", *rows])


def find_causes(findings: Findings) -> list[Cause]:
    """The causes of what failed, likeliest first; "unknown" where nothing fits."""
    causes = []
    for k, result in findings.results.items():
        if result.worst is None:
            continue
        if not math.isfinite(result.worst.analytic):
            text = f"d{result.name}: the gradient is not finite"
            causes.append(Cause(CauseCode.NOT_FINITE.code, result.name, text))
            continue
        guesses = _guesses(findings.points[k], k)
        text = f"d{result.name}: the gradient disagrees with the differences"
        causes += [Cause(code.code, result.name, f"d{result.name} {why}") for code, why in guesses] or [
            Cause(CauseCode.UNKNOWN.code, result.name, text)
        ]
    return causes


def _guesses(point: Point, k: int) -> list[tuple[CauseCode, str]]:
    """The causes whose prediction is what the backward claims, simplest first."""
    claimed = point.gradients[k]
    if not 2 <= claimed.size <= _MOST_ENTRIES or not np.isfinite(claimed).all():
        return []
    columns = _columns(point, k)
    true = _weighed(point, columns).reshape(claimed.shape)
    if isinstance(point, AtKinks) and not np.array_equal(columns, -_columns(point, k, side=-1)):
        fits = point.agree(k, claimed, true) and np.count_nonzero(true) > 1
        return [(CauseCode.ALL_TIES_REWARDED, "is what each entry would get alone at a tie")] if fits else []
    if np.count_nonzero(claimed != true) < 2:
        return []
    found = [(CauseCode.ACCUMULATES, "is another when backward is called again")] if _accumulates(point, k) else []
    for code, why, predicted in _predictions(point, k, true, columns):
        enough = code is CauseCode.ZERO or np.count_nonzero(predicted) > 1
        if predicted.shape == claimed.shape and enough and point.agree(k, claimed, predicted):
            found.append((code, why))
    return found[:3]


def _columns(point: Point, k: int, side: int = 1) -> Array:
    """J e_i, one row for each entry i of argument k; at kinks, to one side."""
    shape = point.gradients[k].shape if k in point.gradients else point.subject.arrays[k].shape
    return np.array([point.slopes(k, side * point.unit(k, index)) for index in np.ndindex(*shape)])


def _weighed(point: Point, columns: Array) -> Array:
    return np.asarray((columns * point.dy).reshape(len(columns), -1).sum(axis=1), point.dy.dtype)


def _predictions(point: Point, k: int, true: Array, columns: Array) -> Iterator[tuple[CauseCode, str, Array]]:
    """What each cause would make of the true gradient."""
    claimed = point.gradients[k]
    yield CauseCode.ZERO, "is zero", np.zeros_like(true)
    yield CauseCode.SIGN, "has the opposite sign", -true
    yield CauseCode.UPSTREAM_COPIED, "is dy", point.dy
    largest = np.unravel_index(int(np.abs(true).argmax()), true.shape)
    factor = float(claimed[largest]) / float(true[largest] or 1)
    if factor not in (0, 1, -1):
        note = _batch_note(factor, point)
        yield CauseCode.CONSTANT_FACTOR, f"is {factor:.6g} times the true gradient{note}", factor * true
    yield from _rearranged(true)
    yield from _of_other_arrays(point, k)
    yield from _partial(point, true, columns)
    yield CauseCode.TRUNCATED, "is the true gradient cut to whole numbers", np.trunc(true)
    yield CauseCode.ROUNDED_TO_FLOAT32, "is the true gradient in float32", true.astype(np.float32).astype(true.dtype)
    if _ignores_upstream(point, k):
        yield CauseCode.UPSTREAM_IGNORED, "does not change with dy", claimed


def _batch_note(factor: float, point: Point) -> str:
    batch = point.y.shape[0] if point.y.ndim else 1
    return f"; the batch is of {batch}" if batch > 1 and factor in (batch, 1 / batch) else ""


def _rearranged(true: Array) -> Iterator[tuple[CauseCode, str, Array]]:
    for axes in itertools.permutations(range(true.ndim)):
        moved = true.transpose(axes)
        if axes != tuple(range(true.ndim)) and moved.shape == true.shape:
            yield CauseCode.TRANSPOSED, f"has its axes in the order {axes}", moved
    if true.ndim > 1 and len(true) > 1:
        why = "is (features, N), reshaped without a transpose"
        yield CauseCode.FEATURES_BATCH_SWAPPED, why, true.reshape(len(true), -1).T.reshape(true.shape)
    if true.ndim > 1:
        yield CauseCode.FLIPPED, "is mirrored in its last two axes", true[..., ::-1, ::-1]
    for axis in range(true.ndim):
        for lost in range(1, true.shape[axis]):
            cut = true.copy()
            np.moveaxis(cut, axis, 0)[-lost:] = 0
            yield CauseCode.REMAINDER_LOST, f"lacks the last {lost} along axis {axis}", cut
        for by in {-2, -1, 1, 2} if true.shape[axis] > 2 else ():
            yield CauseCode.SHIFTED, f"is moved by {by} along axis {axis}", _moved(true, axis, by)
            yield CauseCode.SHIFTED, f"is rolled by {by} along axis {axis}", np.roll(true, by, axis)


def _moved(true: Array, axis: int, by: int) -> Array:
    moved = np.roll(true, by, axis)
    np.moveaxis(moved, axis, 0)[slice(0, by) if by > 0 else slice(by, None)] = 0
    return moved


def _of_other_arrays(point: Point, k: int) -> Iterator[tuple[CauseCode, str, Array]]:
    for j, name in enumerate(point.subject.names):
        array = point.arrays[j]
        if j == k or j not in point.subject.wrt or array is None or array.ndim < 2:
            continue
        flipped = np.ascontiguousarray(array[..., ::-1, ::-1])
        other = point.at(point.subject.with_array(point.arrays, j, flipped), point.dy)
        right = _weighed(other, _columns(other, k)).reshape(point.gradients[k].shape)
        yield CauseCode.KERNEL_NOT_FLIPPED, f"is the true gradient for {name} mirrored in its last two axes", right
        if array.shape == point.gradients[k].shape and array.size <= _MOST_ENTRIES:
            theirs = _weighed(point, _columns(point, j)).reshape(array.shape)
            yield CauseCode.GRADIENTS_SWAPPED, f"is d{name}", theirs


def _partial(point: Point, true: Array, columns: Array) -> Iterator[tuple[CauseCode, str, Array]]:
    """Of all contributions dy_o J_oi to entry i, some."""
    parts = columns * point.dy
    if point.y.shape == true.shape:
        diagonal = parts.reshape(true.size, -1).diagonal().reshape(true.shape)
        yield CauseCode.DIAGONAL_ONLY, "is dy times the diagonal of the Jacobian", diagonal
    if point.y.ndim and len(point.y) > 1:
        for image in range(len(point.y)):
            alone = parts[:, image].reshape(true.size, -1).sum(axis=1).reshape(true.shape)
            yield CauseCode.ONE_IMAGE_ONLY, f"counts image {image} of the batch alone", alone
    if point.y.ndim == 4:  # a window's place: all its channels together
        by_window = np.moveaxis(parts, 2, -1).sum(axis=-1)
        yield from _assigned(true, by_window.reshape(true.size, -1))
    yield from _assigned(true, parts.reshape(true.size, -1))


def _assigned(true: Array, parts: Array) -> Iterator[tuple[CauseCode, str, Array]]:
    ends: tuple[tuple[str, Callable[[Array], Array]], ...] = (("last", lambda p: p[:, ::-1]), ("first", lambda p: p))
    for which, order in ends:
        ordered = order(parts)
        chosen = ordered[np.arange(len(ordered)), (ordered != 0).argmax(axis=1)]
        why = f"takes the {which} of an entry's contributions, not their sum"
        yield CauseCode.OVERLAP_ASSIGNED, why, chosen.reshape(true.shape)


def _again(point: Point, k: int, factor: float) -> Array:
    _, cache = point.subject.value_and_cache(point.arrays)
    return point.subject.pull_back(point.arrays, point.dy * point.dy.dtype.type(factor), cache)[k]


def _ignores_upstream(point: Point, k: int) -> bool:
    return bool(np.array_equal(_again(point, k, 2.0), point.gradients[k]))


def _accumulates(point: Point, k: int) -> bool:
    _, cache = point.subject.value_and_cache(point.arrays)
    first, second = (point.subject.pull_back(point.arrays, point.dy, cache)[k].copy() for _ in range(2))
    return not np.array_equal(first, second)
