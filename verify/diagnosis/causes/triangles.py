"""The gradient of a matrix, made symmetric or folded into one triangle.

eigvalsh and cholesky read one triangle of a matrix that they take for symmetric. Their gradient is that of a symmetric
matrix, and differences, which move one entry alone, do not see it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from verify.checker.point import Array
from verify.diagnosis.causes.codes import CauseCode
from verify.diagnosis.causes.evidence import Evidence


def _lower(matrix: Array) -> Array:
    return np.tril(matrix)


def _upper(matrix: Array) -> Array:
    return np.triu(matrix)


def _sum(matrix: Array) -> Array:
    return np.asarray(matrix + matrix.swapaxes(-1, -2))


def _mean(matrix: Array) -> Array:
    return np.asarray(_sum(matrix) / 2)


def _folded(matrix: Array) -> Array:
    """The matrix and its transpose, the diagonal once."""
    return np.asarray(np.where(np.eye(matrix.shape[-1], dtype=bool), matrix, _sum(matrix)))


# What is made of the true gradient, and in words; `_TRANSPOSES` has the transposes, by which directions are tested.
_MADE: tuple[tuple[Callable[[Array], Array], str], ...] = (
    (_mean, "the mean of the true gradient and its transpose: that of a symmetric matrix"),
    (_folded, "the sum of the true gradient and its transpose, the diagonal once: that of a symmetric matrix"),
    (_sum, "the sum of the true gradient and its transpose"),
    (lambda g: _lower(_folded(g)), "the true gradient with its upper triangle folded into the lower one"),
    (lambda g: _upper(_folded(g)), "the true gradient with its lower triangle folded into the upper one"),
    (_lower, "the lower triangle of the true gradient"),
    (_upper, "the upper triangle of the true gradient"),
)
_TRANSPOSES: tuple[Callable[[Array], Array], ...] = (
    _mean,
    _folded,
    _sum,
    lambda v: _folded(_lower(v)),
    lambda v: _folded(_upper(v)),
    _lower,
    _upper,
)


def symmetrised(evidence: Evidence) -> Iterator[tuple[CauseCode, str]]:
    """What is made of both triangles, where the last two axes are those of a square matrix."""
    true, claimed = evidence.true, evidence.claimed
    if true.ndim < 2 or true.shape[-1] != true.shape[-2] or true.shape[-1] < 2:
        return
    turned = true.swapaxes(-1, -2)
    eps = float(np.finfo(claimed.dtype).eps)
    for (make, what), transpose in zip(_MADE, _TRANSPOSES, strict=True):
        with np.errstate(invalid="ignore"):
            predicted = _known(make(true), true)
        rounding = np.nan_to_num(eps * (np.abs(true) + np.abs(turned)))
        if evidence.whole:
            fits = evidence.fits(predicted, rounding)
        else:
            fits = evidence.agrees(predicted, rounding) and evidence.fits_elsewhere(
                evidence.point, evidence.k, transpose
            )
        if fits:
            yield CauseCode.SYMMETRISED, f"is {what}"
            return


def _known(made: Array, true: Array) -> Array:
    """A triangle cut off is 0 even where the true entry is unknown: nothing is taken from it."""
    return np.where(np.isnan(true) & (made == 0), np.nan, made)
