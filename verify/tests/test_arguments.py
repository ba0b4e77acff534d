"""Arguments of gradcheck: wrong ones are refused in one sentence, unusual ones are accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import ARRAYS, STRUCTURES, product, product_back
from verify import GradientMismatch, gradcheck

ONE = (np.ones(3),)


class Tensor:
    """An object that NumPy can convert to an array."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.ones(3)


# Arguments, keywords -> the exception and its sentence.
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "forward": ((None, product_back, ARRAYS), {}, TypeError, "forward must be callable, got None"),
    "backward": ((product, "f", ARRAYS), {}, TypeError, "backward must be callable, got 'f'"),
    "one array": (
        (product, product_back, ONE[0]),
        {},
        TypeError,
        r"arrays must be a tuple of arrays, got one array of shape \(3,\)",
    ),
    "scalar": ((product, product_back, 3.0), {}, TypeError, "arrays must be a tuple of arrays, got float"),
    "generator": (
        (product, product_back, (a for a in ARRAYS)),
        {},
        TypeError,
        "arrays must be a tuple of arrays, got generator",
    ),
    "too few arrays": (
        (product, product_back, ARRAYS[:1]),
        {},
        TypeError,
        r"forward takes x, w; it cannot be called with 1 arrays and options \{\}: missing a required argument: 'w'",
    ),
    "unknown option": (
        (product, product_back, ARRAYS, {"strid": 2}),
        {},
        TypeError,
        r"forward takes x, w; it cannot .* options \{'strid': 2\}: got an unexpected keyword argument 'strid'",
    ),
    "options": (
        (product, product_back, ARRAYS, "stride"),
        {},
        TypeError,
        "options must map names to values, got 'stri",
    ),
    "option 0": (
        (product, product_back, ARRAYS, {0: 1}),
        {},
        TypeError,
        r"options must map names to values, got \{0: 1",
    ),
    "ints": (
        (product, product_back, (np.ones((2, 3), np.int64), 2)),
        {},
        ValueError,
        r"nothing to check: no floating array was given \(x int64 \(2, 3\), w int\)",
    ),
    "lists": (
        (product, product_back, ([1.0], [2.0])),
        {},
        ValueError,
        r"nothing to check: no floating array was given \(x list, w list\)",
    ),
    "NaN": (
        (product, product_back, (np.array([[0, np.nan, 0]]), ARRAYS[1])),
        {},
        ValueError,
        r"x\[0, 1\] is nan: arrays must be finite",
    ),
    "infinity": (
        (product, product_back, (ARRAYS[0], np.array([[-np.inf], [0], [0]]))),
        {},
        ValueError,
        r"w\[0, 0\] is -inf: arrays must be finite; `wrt` leaves out fixed arrays",
    ),
    "complex": (
        (product, product_back, (ARRAYS[0] + 0j, ARRAYS[1])),
        {},
        TypeError,
        "x is complex; gradients are checked at real arrays",
    ),
    "a tensor": (
        (product, product_back, (ARRAYS[0], Tensor())),
        {},
        TypeError,
        "arrays must be NumPy arrays, got Tensor: give its values as one, or check",
    ),
    "wrt a flag": (
        (product, product_back, ARRAYS),
        {"wrt": [True]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \[True\]",
    ),
    "wrt an int": (
        (product, product_back, ARRAYS),
        {"wrt": 0},
        TypeError,
        "wrt must be a sequence of positions, got 0",
    ),
    "wrt negative": (
        (product, product_back, ARRAYS),
        {"wrt": [-1]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \[-1\]",
    ),
    "wrt twice": (
        (product, product_back, ARRAYS),
        {"wrt": [0, 0]},
        ValueError,
        r"wrt must hold each position once, got \[0, 0\]",
    ),
    "wrt names": (
        (product, product_back, ARRAYS),
        {"wrt": ["x"]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \['x'\]",
    ),
    "wrt empty": ((product, product_back, ARRAYS), {"wrt": ()}, ValueError, "nothing to check: wrt is empty"),
    "seed": ((product, product_back, ARRAYS), {"seed": -1}, ValueError, "seed must be a nonnegative integer, got -1"),
    "wrt too large": (
        (product, product_back, ARRAYS),
        {"wrt": [2]},
        ValueError,
        r"wrt must hold positions in the 2 arrays, got \[2\]",
    ),
    "wrt of integers": (
        (product, product_back, (np.ones((2, 3), np.int64), ARRAYS[1])),
        {"wrt": [0]},
        TypeError,
        r"wrt=\[0\]: x is no floating array, but dtype int64",
    ),
    "miss probability 0": (
        (product, product_back, ARRAYS),
        {"miss_probability": 0},
        ValueError,
        "miss_probability must lie between 0 and 1, got 0",
    ),
    "miss probability": (
        (product, product_back, ARRAYS),
        {"miss_probability": "1"},
        ValueError,
        "miss_probability must lie between 0 and 1, got '1'",
    ),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("what", REFUSED)
def test_wrong_arguments_are_refused_in_one_sentence(what: str, structure: str) -> None:
    arguments, keywords, error, sentence = REFUSED[what]
    with pytest.raises(error, match=sentence):
        gradcheck(*arguments, structure=structure, **keywords)


def test_an_unknown_structure_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match=r"structure must be .* got 'linear'"):
        gradcheck(product, product_back, ARRAYS, structure="linear")


def test_wrt_may_be_a_range() -> None:
    assert gradcheck(product, product_back, ARRAYS, wrt=range(2))


@pytest.mark.parametrize("structure", ["auto", "multilinear", "analytic", "smooth"])
def test_a_list_of_arrays_no_options_and_numbers_are_accepted(structure: str) -> None:
    assert gradcheck(product, product_back, list(ARRAYS), None, structure=structure)
    assert gradcheck(
        lambda x, scale: (x * scale, (x, scale)),
        lambda dy, cache: (dy * cache[1], np.asarray((dy * cache[0]).sum())),
        (ARRAYS[0], 3.0),
        structure=structure,
    )


def test_arrays_of_another_byte_order_without_axes_or_without_entries_are_checked() -> None:
    def double(x: Any) -> Any:
        assert isinstance(x, np.ndarray)
        return 2 * x, None

    def backward(dy: Any, _: Any) -> Any:
        return (2 * dy,)

    for x in (np.ones(3, ">f8"), np.array(1.5), np.ones((0, 3))):
        assert gradcheck(double, backward, (x,))
    with pytest.raises(GradientMismatch, match=r"dx has shape \(7,\), x has \(0, 3\)"):
        gradcheck(double, lambda dy, _: (np.ones(7),), (np.ones((0, 3)),))
    refuses: Any = lambda x: 1 / 0  # noqa: E731
    with pytest.raises(ZeroDivisionError):
        gradcheck(refuses, backward, (np.ones((0, 3)),))
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(TypeError, match="at most float64 is checked"):
            gradcheck(double, backward, (np.ones(3, np.longdouble),))
