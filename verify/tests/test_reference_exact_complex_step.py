"""The reference of the exact complex step: complex numbers show the branch that forward takes at a tie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import median, median_back
from verify import StructureError, gradcheck


def _lenient_sign(x: np.ndarray) -> tuple[Any, Any]:
    """Return the sign of the real part."""
    return np.sign(x.real) + 0 * x, x


@pytest.mark.parametrize("seed", range(4))
def test_a_branch_shown_by_complex_numbers_decides_where_one_sided_slopes_cannot(seed: int) -> None:
    x = np.array([0.0, 1, -2])
    assert gradcheck(_lenient_sign, lambda dy, x: (0 * dy,), (x,), seed=seed).structure == "piecewise-linear"


# With seeds 0 and 1 both directions agree with the entry that forward takes.
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_sort_by_imaginary_parts_is_no_branch(seed: int) -> None:
    with pytest.raises(StructureError, match="a tie at these arrays: the complex step in x is not linear"):
        gradcheck(median, median_back, (np.zeros(3),), structure="piecewise-multilinear", seed=seed)
