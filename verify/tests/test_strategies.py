"""The strategies themselves: what they promise holds for every draw, corners are reachable, and what they shrink to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from verify import strategies

SHAPES = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)
DTYPES = st.sampled_from([np.float64, np.float32])
LARGE = (3, 40)


def minimal(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool] = lambda _: True) -> Any:
    """What the strategy shrinks to, of all that meets the condition: NoSuchExample if nothing does."""
    phases = [Phase.generate, Phase.shrink]
    return find(strategy, condition, settings=settings(max_examples=2000, phases=phases, database=None))


def _closest(array: np.ndarray) -> float:
    """The least distance between two entries, or of one from zero."""
    points = np.sort(np.append(array.astype(np.float64).ravel(), 0.0))
    return float(np.diff(points).min(initial=np.inf))


@given(data=st.data(), shape=SHAPES | st.just(LARGE), dtype=DTYPES, gap=st.floats(1e-3, 1e3))
def test_gapped_arrays_keep_their_gaps(data: st.DataObject, shape: tuple[int, ...], dtype: Any, gap: float) -> None:
    array = data.draw(strategies.gapped_arrays(shape, gap, dtype=dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert _closest(array) > gap
    assert np.abs(array).max(initial=0) <= 2 * gap * array.size * (1 + np.finfo(dtype).eps)


@given(data=st.data(), shape=SHAPES | st.just(LARGE), dtype=DTYPES, most=st.integers(0, 2**24))
def test_exact_integers_are_integers_in_range(
    data: st.DataObject, shape: tuple[int, ...], dtype: Any, most: int
) -> None:
    array = data.draw(strategies.exact_integers(shape, most, dtype=dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert (np.rint(array) == array).all()
    assert np.abs(array).max(initial=0) <= most


@given(data=st.data(), shape=SHAPES | st.just(LARGE), dtype=DTYPES)
def test_cotangents_are_signed_and_never_all_equal(data: st.DataObject, shape: tuple[int, ...], dtype: Any) -> None:
    array = data.draw(strategies.cotangents(shape, dtype=dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    if array.size == 1:
        assert array != 0
    elif array.size:
        assert array.min() < 0 < array.max()
    assert np.abs(array).max(initial=0) <= 9


@given(data=st.data(), shape=array_shapes(max_dims=3, min_side=2, max_side=5) | st.just(LARGE), dtype=DTYPES)
def test_tied_arrays_have_a_tie(data: st.DataObject, shape: tuple[int, ...], dtype: Any) -> None:
    array = data.draw(strategies.tied_arrays(shape, 9, dtype=dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert len(np.unique(array)) < array.size


def test_what_they_shrink_to() -> None:
    assert minimal(strategies.exact_integers((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert minimal(strategies.gapped_arrays((3,), 8.0)).tolist() == [9, 18, 27]
    assert minimal(strategies.cotangents((4,))).tolist() == [1, -1, 0, 0]
    assert minimal(strategies.cotangents((1,))).tolist() == [1]
    assert minimal(strategies.tied_arrays((3,))).tolist() == [0, 0, 0]
    assert minimal(strategies.exact_integers((3,)), lambda a: bool((a > 2).any())).tolist() in (
        [0, 0, 3],
        [0, 3, 0],
        [3, 0, 0],
    )


CORNERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], bool]]] = {
    "gapped: all below zero": (strategies.gapped_arrays((4,)), lambda a: bool((a < 0).all())),
    "gapped: both signs, out of order": (
        strategies.gapped_arrays((4,)),
        lambda a: a[0] > 0 > a[1] and a[3] < a[2],
    ),
    "gapped: the largest first": (strategies.gapped_arrays((4,)), lambda a: a[0] == a.max() and a.min() > 0),
    "gapped: close, by 9/8 of the gap": (strategies.gapped_arrays((2,)), lambda a: _closest(a) == 1.125),
    "gapped: far, by twice the gap": (strategies.gapped_arrays((2,)), lambda a: _closest(a) == 2),
    "gapped, large: the largest is not the last": (strategies.gapped_arrays(LARGE), lambda a: a.argmax() < 100),
    "integers: the largest and the least": (
        strategies.exact_integers((2,), 4),
        lambda a: a.tolist() == [4, -4],
    ),
    "integers, large: a zero and a four": (
        strategies.exact_integers(LARGE),
        lambda a: 0 in a.ravel()[64:] and 4 in a.ravel()[64:],
    ),
    "cotangents: the negative one first": (strategies.cotangents((2,)), lambda a: a[0] < 0),
    "cotangents: no zero": (strategies.cotangents((4,)), lambda a: bool(a.all())),
    "cotangents: one entry below zero": (strategies.cotangents((1,)), lambda a: a[0] < 0),
    "tied: one tie only": (strategies.tied_arrays((3,)), lambda a: len(np.unique(a)) == 2),
    "tied: the tie is the maximum": (strategies.tied_arrays((3,)), lambda a: (a == a.max()).sum() == 2),
    "tied: first and last": (strategies.tied_arrays((3,)), lambda a: a[0] == a[2] != a[1]),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_corners_are_reachable(corner: str) -> None:
    strategy, condition = CORNERS[corner]
    assert condition(minimal(strategy, condition))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: strategies.gapped_arrays((3,), 0.0), "gap must be positive and finite, got 0.0"),
        (lambda: strategies.gapped_arrays((3,), float("nan")), "gap must be positive and finite, got nan"),
        (
            lambda: strategies.gapped_arrays((1 << 21,), 1.0, dtype=np.float32),
            r"2097152 entries 1.0 apart reach 4.1943e\+06, where float32 cannot resolve 0.125",
        ),
        (
            lambda: strategies.gapped_arrays((2,), 1e38, dtype=np.float32),
            r"2 entries 1e\+38 apart reach 4e\+38, where float32 cannot resolve 1.25e\+37",
        ),
        (lambda: strategies.gapped_arrays((2,), dtype=np.int64), "dtype must be real and floating, got int64"),
        (
            lambda: strategies.exact_integers((2,), 2**24 + 1, dtype=np.float32),
            r"most must lie in \[0, 16777216\], where integers are exact in float32, got 16777217",
        ),
        (lambda: strategies.exact_integers((2,), -1), r"most must lie in \[0, .*, got -1"),
        (lambda: strategies.exact_integers((2, -1)), r"shape must be a tuple of sizes from 0 up, got \(2, -1\)"),
        (lambda: strategies.cotangents(3), "shape must be a tuple of sizes from 0 up, got 3"),  # type: ignore[arg-type]
        (lambda: strategies.cotangents((3,), 0), "most must be at least 1, got 0"),
        (lambda: strategies.reals((2,), -1), "most must be at least 0 and finite, got -1"),
        (lambda: strategies.reals((2,), float("nan")), "most must be at least 0 and finite, got nan"),
        (lambda: strategies.reals(2), "shape must be a tuple of sizes from 0 up, got 2"),  # type: ignore[arg-type]
        (lambda: strategies.tied_arrays((1, 1)), r"a tie needs two entries, shape \(1, 1\) has 1"),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_values(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("strategy", [strategies.gapped_arrays, strategies.reals])
def test_a_bound_that_is_no_number_is_refused_when_called(strategy: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a number, got '1'"):
        strategy((2,), "1")


def test_numpy_s_integers_serve_as_sizes_and_bounds() -> None:
    two = np.int64(2)
    assert minimal(strategies.exact_integers((two,), two)).shape == (2,)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", [strategies.exact_integers, strategies.tied_arrays, strategies.cotangents])
def test_a_bound_of_integers_that_is_none_is_refused_when_called(strategy: Any) -> None:
    with pytest.raises(TypeError, match=r"most must be a whole number, got 2\.5"):
        strategy((2,), most=2.5)
