"""Tests of how a failing case shrinks: to a small one of the same bug, and to no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from cnn_core import Implementation, linear, max_pool2d
from verify.command import run
from verify.command.run import Row, verify_layer
from verify.layers import LAYERS, Case, Layer


def _two_bugs(dy: Any, cache: Any) -> Any:
    """Transpose dw of a large w, negate dx for a smaller w, and be right for the smallest."""
    dx, dw = map(np.asarray, linear.vectorized.backward(dy, cache)[:2])
    if dw.size >= 9:
        return dx, dw.T.reshape(dw.shape).copy()
    return -dx if dw.size >= 6 else dx, dw


def _without_bias() -> st.SearchStrategy[Case]:
    sizes = st.tuples(st.integers(2, 5), st.integers(2, 4), st.integers(2, 4))
    return sizes.map(lambda s: Case((np.ones((s[0], s[1])), np.ones((s[2], s[1]))), {}))


LINEAR = replace(LAYERS["linear"], cases=_without_bias)
TWO_BUGS = linear.vectorized._replace(backward=_two_bugs)


def _assigned(dy: Any, cache: Any) -> Any:
    """Assign at overlapping windows instead of adding."""
    dx = np.zeros(cache.x_shape)
    for n, c, i, j in np.ndindex(*dy.shape):
        h, v = divmod(int(cache.indices[n, c, i, j]), cache.columns.size)
        dx[n, c, h, v] = dy[n, c, i, j]
    return (dx,)


def _pooled(shape: tuple[int, int]) -> Case:
    x = np.random.default_rng(0).permutation(shape[0] * shape[1]).reshape(1, 1, *shape).astype(float)
    return Case((x,), {"kernel_size": 2, "stride": 1})


def _windows() -> st.SearchStrategy[Case]:
    """Draw images, the simplest first: no windows overlap, two overlap, many overlap."""
    return st.sampled_from([(2, 2), (2, 3), (4, 3), (4, 4), (4, 5), (4, 6)]).map(_pooled)


ASSIGNED = max_pool2d.im2col._replace(backward=_assigned)
POOL = replace(LAYERS["max_pool2d"], cases=_windows)


@pytest.fixture
def causes_seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the first cause of every failure, shrinking included."""
    seen: list[str] = []
    kinds = run._kinds

    def listening(certificate: Any) -> Any:
        found = kinds(certificate)
        seen.append(found[0][0][1])
        return found

    monkeypatch.setattr(run, "_kinds", listening)
    return seen


def _rows(code: str, seen: list[str], wrong: Implementation, layer: Layer) -> Iterator[Row]:
    """Yield the rows of the seeds, of 20, of whose first failures most are named after this cause."""
    for seed in range(20):
        seen.clear()
        row = verify_layer(layer, wrong, 100, seed)
        if 2 * seen[: run._FAILURES].count(code) > run._FAILURES:
            yield row


def _ends(wrong: Implementation, layer: Layer, seeds: int) -> set[str]:
    """Return the causes at which shrinking ends, for this number of seeds."""
    certificates = [verify_layer(layer, wrong, 100, seed).certificate for seed in range(seeds)]
    return {each.causes[0].code for each in certificates if each is not None}


@pytest.mark.parametrize(("code", "case"), [("transposed", "x (2, 3), w (3, 3)"), ("sign", "x (2, 2), w (3, 2)")])
def test_a_bug_does_not_shrink_into_another(code: str, case: str, causes_seen: list[str]) -> None:
    row = next(_rows(code, causes_seen, TWO_BUGS, LINEAR))
    assert row.certificate is not None
    assert row.certificate.causes[0].code == code
    assert f"case: {case}" in row.message


@pytest.mark.long
def test_a_bug_meets_the_other_as_it_shrinks(causes_seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the guard that the test above needs, every case ends as the other bug."""
    next(_rows("transposed", causes_seen, TWO_BUGS, LINEAR))
    assert set(causes_seen) == {"transposed", "sign"}
    monkeypatch.setattr(run, "_kinds", lambda certificate: [((certificate.verdict, "any", None), "")])
    assert _ends(TWO_BUGS, LINEAR, 5) == {"sign"}


def test_a_bug_does_not_shrink_until_it_has_no_name(causes_seen: list[str]) -> None:
    row = next(_rows("overlap-assigned", causes_seen, ASSIGNED, POOL))
    assert row.certificate is not None
    assert row.certificate.causes[0].code == "overlap-assigned"
