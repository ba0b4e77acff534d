"""What is known of a wrong gradient: its true entries, and the forward's slopes along a few directions.

Two ways to test a prediction. Entry by entry, against the true gradient, J e_i weighed by dy, of all
entries or, of large arrays, of some. And at once: a gradient is J'^T dy' for whatever J' and dy' exactly if

    sum(claimed * v) == sum(dy' * J' v)        for every v.

Four random v of integers up to 64 decide. Where numbers are exact, a prediction that is wrong in one entry
holds along all four with probability at most 129^-4, below 4e-9 (Freivalds 1977). It costs one forward where
it fails, four where it holds, at any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from verify.checker.directions import index_of, signed, unit
from verify.checker.exact_numbers import draw_integers
from verify.checker.point import Array, Point, StructureError
from verify.checker.reference import Reference
from verify.diagnosis.causes.slopes import Slopes, economical, elementwise

# A prediction that is wrong in one entry holds along all four with probability (2 * 2^6 + 1)^-4, below 4e-9. Where
# rounding is tolerated, directions are no integers, and two do as well.
_DIRECTIONS, _DIRECTIONS_ROUNDED, _DIRECTION_BITS = 4, 2, 6
# Of several wrong gradients these are the entries known of all together, and the forwards for predictions of all. A
# choice: a check that passes has some 16 to 40 forwards, or 75 by extrapolated differences, and a FAIL ten times these.
MOST_ENTRIES, _MOST_FORWARDS = 64, 64
# Of a large y fewer: as many entries of y are kept in all, or what sixteen take: up to 128 MiB in float64.
_MOST_KEPT, _MOST_AT_ALL = 1 << 22, 1 << 24
# A choice: what several wrong gradients, or a large y, leave at least.
_FEWEST, _FEWEST_EXTRAPOLATED, _FEWEST_FORWARDS = 16, 4, 24
# Entries of y that forwards may compute for the causes of one argument: a large y has fewer forwards yet.
_MOST_WORK, _MOST_WORK_EXTRAPOLATED = 1 << 24, 1 << 25
# Two entries must be wrong, and speak for a cause: one alone is equal by chance too often.
FEWEST_WRONG = 2


class BudgetSpent(Exception):  # no error: what was found until then stands
    """So much work, and no more, goes into the causes of one argument."""


@dataclass
class _Budget:
    """How many forwards predictions may take, counted from the first of them."""

    forwards: int
    first: int | None = None


@dataclass(frozen=True)
class Evidence:
    """A wrong gradient of argument k at a point.

    `true` holds NaN where an entry is not known. `known` has the flat indices of the others, in order.
    `columns` is J e_i, one row for each of these. `slopes` is J v for each of `directions`.
    """

    reference: Reference
    point: Point
    k: int
    known: Array
    columns: Array
    true: Array
    directions: tuple[Array, ...]
    slopes: tuple[Array, ...]
    slopes_at: Slopes
    budget: _Budget

    @classmethod
    def gather(
        cls, reference: Reference, point: Point, k: int, index: tuple[int, ...], sharing: int = 1
    ) -> Evidence | None:
        """At a gradient that is wrong at an index; None where y is too large to know entries one by one.

        `sharing` is how many wrong gradients share the forwards. StructureError where the function leaves what the
        oracle can differentiate.
        """
        known = _chosen(reference, point, k, index, sharing)
        if known is None:
            return None
        shape = point.claimed[k].shape
        slopes_at, directions, slopes = _along_directions(reference, point, k)
        columns = elementwise(slopes_at, point, k)
        if columns is not None:
            known = np.arange(point.claimed[k].size)
        else:
            columns = np.array([slopes_at(point, k, unit(point, k, index_of(i, shape))) for i in known])
        true = np.full(shape, np.nan)
        true.flat[known] = weighed(point, columns)
        budget = _Budget(_forwards(reference, point, sharing))
        return cls(reference, point, k, known, columns, true, directions, slopes, slopes_at, budget)

    @property
    def claimed(self) -> Array:
        """What the backward says."""
        return self.point.claimed[self.k]

    @property
    def whole(self) -> bool:
        """Whether every entry of the true gradient is known."""
        return len(self.known) == self.claimed.size

    @property
    def wrong(self) -> int:
        """How many of the entries known are wrong."""
        return int(np.ma.filled(self.wrong_entries, False).sum())

    @property
    def wrong_entries(self) -> Any:
        """True where the claim is wrong, False where it is right, masked where the true gradient is not known."""
        wrong = ~self._close(self.true)
        return np.ma.array(wrong, mask=np.isnan(self.true))

    @property
    def parts(self) -> Array:
        """dy_o J_oi: the contributions, one row for each entry known."""
        return np.asarray(self.columns * self.point.dy)

    @property
    def batched(self) -> bool:
        """Whether the first axis is a batch that does not mix, as far as known: y[n] depends on entries [n] alone.

        Where y is a scalar nothing tells; by convention the first array has the batch.
        """
        shape, y = self.claimed.shape, self.point.y
        if not y.ndim:
            return self.k == 0 and len(shape) > 0
        if not shape or not y.ndim or shape[0] != len(y) or len(y) < 2:
            return False
        images = np.unravel_index(self.known, shape)[0]
        touched = np.array(self.columns.reshape(len(self.known), len(y), -1).any(axis=2))
        touched[np.arange(len(images)), images] = False
        return not touched.any()

    def partial(self, entries: Array) -> Array:
        """An array of these values at the entries known, NaN elsewhere."""
        whole = np.full(self.claimed.shape, np.nan)
        whole.flat[self.known] = entries
        return whole

    def fits(self, predicted: Array, rounding: Array | float = 0.0) -> bool:
        """Whether the claim is what is predicted, wherever that is known, at two entries that are wrong and more.

        A prediction that is zero where it is known says nothing.
        """
        if not self.agrees(predicted, rounding):
            return False
        known = ~np.isnan(predicted) & ~np.isnan(self.true)
        return bool(np.count_nonzero(known & ~self._close(self.true, rounding)) >= FEWEST_WRONG)

    def agrees(self, predicted: Array, rounding: Array | float = 0.0) -> bool:
        """Whether the claim is what is predicted, wherever that is known, at two entries that are not zero and more."""
        if predicted.shape != self.claimed.shape:
            return False
        known = ~np.isnan(predicted)
        if not self._close(predicted, rounding)[known].all():
            return False
        return bool(np.count_nonzero(predicted[known]) >= FEWEST_WRONG)

    def fits_upstream(self, dy: Array) -> bool:
        """Whether the claim is J^T dy for another dy."""
        pairs = zip(self.directions, self.slopes, strict=True)
        return bool(dy.any()) and all(self.reference.matches(self.point, self.k, v, dy, slopes) for v, slopes in pairs)

    def fits_elsewhere(self, other: Point, j: int, place: Callable[[Array], Array] = lambda v: v) -> bool:
        """Whether the claim is what `place` is the transpose of, made of another function's true gradient.

        That of argument j at the other point, for its dy: claimed = place^T(J'^T dy). Raises BudgetSpent where
        forwards have computed as many entries of y as they may.
        """
        self.spend()
        reference, point = self.reference, self.point
        return all(
            reference.matches(point, self.k, v, other.dy, self.slopes_at(other, j, place(v))) for v in self.directions
        )

    def spend(self) -> None:
        """Raise BudgetSpent where forwards have computed as many entries of y as they may."""
        calls = self.point.layer.calls["forward"]
        self.budget.first = calls if self.budget.first is None else self.budget.first
        if calls - self.budget.first >= self.budget.forwards:
            raise BudgetSpent

    def fits_places(self, places: Array) -> bool:
        """Whether claimed[i] is true[places[i]], flat, 0 for -1: by the entries known, then along the directions."""
        flat, taken = self.true.ravel(), places.ravel()
        predicted = np.where(taken < 0, 0.0, flat[taken]).reshape(self.claimed.shape)
        told = ~np.isnan(predicted)
        if not self._close(predicted)[told].all():
            return False
        if self.whole:
            return self.fits(predicted)
        return self.fits_elsewhere(self.point, self.k, lambda v: _sent_back(v, taken))

    def _close(self, expected: Array, rounding: Array | float = 0.0) -> Array:
        allowed = self.reference.allowed(self.point, self.k, np.nan_to_num(expected))
        return np.asarray(np.abs(self.claimed - expected) <= allowed + rounding)


def weighed(point: Point, columns: Array) -> Array:
    """sum(dy * J e_i) for each row."""
    return np.asarray((columns * point.dy).reshape(len(columns), -1).sum(axis=1))


def _sent_back(v: Array, places: Array) -> Array:
    """The transpose of taking entries at flat places: each v goes to the place it was taken from."""
    back = np.zeros_like(v)
    inside = places >= 0
    np.add.at(back.reshape(-1), places[inside], v.reshape(-1)[inside])
    return back


def _chosen(reference: Reference, point: Point, k: int, index: tuple[int, ...], sharing: int) -> Array | None:
    """Flat indices of the entries to know: all, or some at random and some on the lines through the wrong one."""
    gradient = point.claimed[k]
    if min(_FEWEST, gradient.size) * point.y.size > _MOST_AT_ALL:
        return None
    most = min(max(_FEWEST, MOST_ENTRIES // sharing), max(_FEWEST, _MOST_KEPT // max(point.y.size, 1)))
    if reference.forwards > 1:
        most = min(most, max(_FEWEST_EXTRAPOLATED, _work(reference, point) // (2 * reference.forwards)))
    if gradient.size <= most:
        return np.arange(gradient.size)
    generator = np.random.default_rng(0)
    known = set(generator.choice(gradient.size, most // 4, replace=False).tolist())
    claimed = np.flatnonzero(gradient)  # of a sparse gradient, which pooling has, most entries say little
    known.update(generator.choice(claimed, min(most // 4, claimed.size), replace=False).tolist())
    for axis in range(gradient.ndim):
        known.update(_line(gradient.shape, index, axis)[: most // (2 * gradient.ndim)].tolist())
    return np.array(sorted(known))


def _forwards(reference: Reference, point: Point, sharing: int) -> int:
    """How many forwards may be spent on predictions for one argument, beside those for its entries."""
    each = 4 if reference.forwards > 1 else 1
    return min(each * max(_FEWEST_FORWARDS, _MOST_FORWARDS // sharing), _work(reference, point))


def _work(reference: Reference, point: Point) -> int:
    """How many forwards may be spent on the causes of one argument of a large y."""
    work = _MOST_WORK_EXTRAPOLATED if reference.forwards > 1 else _MOST_WORK
    return work // max(point.y.size, 1)


def _line(shape: tuple[int, ...], index: tuple[int, ...], axis: int) -> Array:
    """The flat indices of the line along an axis through an entry, its ends first."""
    along = np.arange(shape[axis])
    along = along[np.argsort(np.minimum(along, along[::-1]), kind="stable")]
    line = np.broadcast_arrays(*index[:axis], along, *index[axis + 1 :])
    return np.asarray(np.ravel_multi_index(line, shape))


def _along_directions(
    reference: Reference, point: Point, k: int
) -> tuple[Slopes, tuple[Array, ...], tuple[Array, ...]]:
    """How slopes are taken, random directions, and the slopes along them."""
    generator = np.random.default_rng(1)
    shape, dtype = point.claimed[k].shape, point.claimed[k].dtype
    if not reference.exact:
        first, *others = (signed(generator, shape).astype(dtype) for _ in range(_DIRECTIONS_ROUNDED))
        slopes_at, known = economical(reference, point, k, first)
        return slopes_at, (first, *others), (known, *(slopes_at(point, k, v) for v in others))
    for bits in range(_DIRECTION_BITS, 1, -2):
        directions = tuple(draw_integers(generator, shape, bits, dtype) for _ in range(_DIRECTIONS))
        try:
            return reference.slopes, directions, tuple(reference.slopes(point, k, v) for v in directions)
        except StructureError:  # these leave the exact numbers: take smaller ones
            continue
    raise StructureError(f"no direction in {point.layer.names[k]} of {math.prod(shape)} entries is exact")
