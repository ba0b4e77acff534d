"""The zoo: a right layer passes, at the latest with what its text advises, and a wrong twin never does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify import Certificate, adapters
from zoo import ZOO, Draw, Row

# The other seeds, and float32, take long.
DRAWS: list[tuple[int, Any]] = [(0, np.float64)]
MORE = [(1, np.float32), *((seed, dtype) for seed in range(2, 10) for dtype in (np.float64, np.float32))]


def _cases(draws: list[tuple[int, Any]]) -> list[Any]:
    return [
        pytest.param(row, seed, dtype, id=f"{row.name}-{dtype.__name__}-{seed}")
        for row in ZOO
        for seed, dtype in draws
        if row.single or dtype is np.float64
    ]


def _certificates(row: Row, make: Any, seed: int, dtype: Any) -> list[Certificate]:
    """The certificate of a layer and, if that is INCONCLUSIVE, the one with the remedy.

    A layer that adds up, or piles up, until it is reset is a FAIL, which names the reset.
    """
    found: list[Certificate] = []
    for more in ({}, row.remedy):
        if not found or found[0].verdict == "INCONCLUSIVE" or "reset" in more:
            draw = Draw(seed, dtype)
            layer = make(draw)
            settings = {**row.call, **more, "seed": seed}
            found.append(result_of(adapters.gradcheck, layer, row.inputs(draw), **settings))
    return found


def _assert_decided(row: Row, seed: int, dtype: Any) -> None:
    for mistake, make in {"": row.right, **row.wrong}.items():
        first, *others = _certificates(row, make, seed, dtype)
        last = others[-1] if others else first
        if "reset" in row.remedy:
            assert (first.verdict, first.causes[0].code in ("accumulates", "stale-cache")) == ("FAIL", True), first
        if others:
            assert all(f"{name}=" in str(first) for name in row.remedy), f"no such advice in\n{first}"
        if mistake:
            assert last.verdict == "FAIL", f"{mistake}:\n{last}"
            assert "FAIL" in {each.verdict for each in last.arguments}, f"{mistake}:\n{last}"
            assert last.worst is not None or last.causes[0].code == "wrong-shape", f"{mistake}:\n{last}"
        elif row.overwrites:
            assert [cause.code for cause in last.causes] == ["input-overwritten"], last
            assert {each.verdict for each in last.arguments} == {"PASS"}, last
        else:
            assert last.verdict == "PASS", last


@pytest.mark.parametrize(("row", "seed", "dtype"), _cases(DRAWS))
def test_a_right_layer_passes_and_its_wrong_twins_fail(row: Row, seed: int, dtype: Any) -> None:
    _assert_decided(row, seed, dtype)


@pytest.mark.long
@pytest.mark.parametrize(("row", "seed", "dtype"), _cases(MORE))
def test_other_draws_decide_alike(row: Row, seed: int, dtype: Any) -> None:
    _assert_decided(row, seed, dtype)


def test_the_zoo_is_large_and_each_layer_has_a_wrong_twin() -> None:
    assert len(ZOO) == len({row.name for row in ZOO}) >= 40
    assert all(row.wrong for row in ZOO)
