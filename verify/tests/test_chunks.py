"""Chunks and bit masks of the array versions: several chunks give what the naive version gives, masks what np.where."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import _chunks
from verify.layers import LAYERS, Layer

Array = NDArray[Any]

CHUNKED = [layer for layer in LAYERS.values() if "cnn_core._chunks" in inspect.getsource(layer.module)]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])


@pytest.mark.parametrize("layer", CHUNKED, ids=lambda layer: layer.name)
@given(data=st.data())
def test_chunks_of_few_entries_give_what_the_naive_version_gives(layer: Layer, data: st.DataObject) -> None:
    case = data.draw(layer.cases(), label="case")
    y, cache = layer.reference.forward(*case.arrays, **case.options)
    dy = np.asarray(np.random.default_rng(0).integers(-4, 5, y.shape)).astype(y.dtype)
    right = (y, *layer.reference.backward(dy, cache))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_chunks, "_CHUNK", data.draw(st.integers(1, 7), label="entries in a chunk"))
        found, known = layer.fast.forward(*case.arrays, **case.options)
        got = (found, *layer.fast.backward(dy, known))
    complete = layer.complete(case.arrays, case.options)
    allowed = layer.allowed(complete, y, dy, right[1:])
    for one, other, most in zip(right, got, allowed, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.shape == other.shape
            assert (np.abs(one - other) <= most).all()


@pytest.mark.parametrize(("shape", "expected"), [((10,), 4), ((3, 4), 3), ((5, 1), 2), ((0, 4), 0), ((3, 0), 1)])
def test_chunks_share_out_the_first_axis(
    shape: tuple[int, ...], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_chunks, "_CHUNK", 3)
    slices = list(_chunks.chunks(np.zeros(shape)))
    assert len(slices) == expected
    assert [k for here in slices for k in range(shape[0])[here]] == list(range(shape[0]))


@DTYPES
def test_masks_choose_as_where_does_whatever_the_bits_are(dtype: type) -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, 1e-310])
    first, second = (each.ravel().astype(dtype) for each in np.meshgrid(special, special))
    if np.iscomplexobj(first):
        first.imag, second.imag = second.real, first.real[::-1]
    condition = np.arange(first.size) % 3 == 0
    for found, right in (
        (_chunks.where(condition, first, second), np.where(condition, first, second)),
        (_chunks.keep(condition, first), np.where(condition, first, np.zeros((), dtype))),
    ):
        assert found.dtype == right.dtype
        assert found.tobytes() == right.tobytes()


@DTYPES
def test_arrays_of_any_layout_are_read_in_their_order(dtype: type) -> None:
    x: Array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for view in (x.T, x[:, ::2], x[..., ::-1], x[0, 0, ::2], x[0, 0, 0]):
        found = _chunks.in_chunks(lambda a, b: _chunks.keep(a.real > 2, a + b), view, view)
        np.testing.assert_array_equal(found, np.where(view.real > 2, 2 * view, 0))
        assert found.dtype == dtype
