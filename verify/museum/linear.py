"""Bugs of linear layers and reshapes."""

from __future__ import annotations

from typing import Any

from verify.checker.point import Array
from verify.museum._exhibit import Exhibit


def _flatten_no_t(dy: Array, cache: Any, right: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    (dx,) = right
    assert dx is not None
    return (dy.T.reshape(dx.shape).copy(),)


FLATTEN_NO_T = Exhibit(
    slug="flatten-noT",
    layer="flatten",
    wrong="the gradient, (features, N), is reshaped to the images' shape without a transpose: it mixes images",
    shows="N > 1",
    source="Simple CNN using NumPy, parts V and VI (Adhok, Analytics Vidhya)",
    backward=_flatten_no_t,
)
