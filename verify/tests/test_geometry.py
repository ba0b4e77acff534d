"""Output sizes counted window by window, and proof that the strategies reach every corner they promise.

A size formula that is wrong is wrong for all versions of a layer, and a corner that is never drawn is never tested.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core._geometry import Axis, sliding_axes
from verify import strategies
from verify.layers import LAYERS, Case
from verify.strategies import Window

# size, kernel, stride, dilation, before, after
Numbers = tuple[int, int, int, int, int, int]


def fitting(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Count the windows whose every tap lies in the padded axis."""
    padded = ["pad"] * before + ["x"] * size + ["pad"] * after
    return sum(
        all(start + tap * dilation < len(padded) for tap in range(kernel)) for start in range(0, len(padded), stride)
    )


def fitting_or_overhanging(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Count the windows of ceil_mode: it starts before the image ends, and the one before it left something over."""
    padded = before + size + after
    starts = range(0, before + size, stride)
    return sum(start - stride + (kernel - 1) * dilation + 1 < padded for start in starts)


COUNTS: dict[bool, Callable[..., int]] = {False: fitting, True: fitting_or_overhanging}


def small_axes(ceil_mode: bool) -> Iterator[Numbers]:
    """Every axis within a small bound, the impossible ones included.

    ceil_mode is a pooling's, whose padding is at most half its window.
    """
    for numbers in itertools.product(range(6), range(1, 4), range(1, 4), range(1, 4), range(3), range(3)):
        _, kernel, _, dilation, before, after = numbers
        if not ceil_mode or 2 * max(before, after) <= (kernel - 1) * dilation + 1:
            yield numbers


def axes(rows: Numbers, columns: Numbers, padding: Any = None, *, ceil_mode: bool = False) -> tuple[Axis, Axis]:
    """sliding_axes of these numbers; padding is given as four sides unless said otherwise."""
    size, kernel, stride, dilation, *_ = zip(rows, columns, strict=True)
    sides = (rows[-2:], columns[-2:]) if padding is None else padding
    return sliding_axes(size, kernel, stride=stride, padding=sides, dilation=dilation, ceil_mode=ceil_mode)


@pytest.mark.parametrize("ceil_mode", COUNTS)
def test_an_output_size_counts_the_windows_that_fit(ceil_mode: bool) -> None:
    count = COUNTS[ceil_mode]
    possible = [numbers for numbers in small_axes(ceil_mode) if count(*numbers)]
    # Height and width from opposite ends of the list, so that one cannot stand in for the other.
    for rows, columns in zip(possible, reversed(possible), strict=True):
        height, width = axes(rows, columns, ceil_mode=ceil_mode)
        assert (height.out, width.out) == (count(*rows), count(*columns)), (rows, columns)


@pytest.mark.parametrize("ceil_mode", COUNTS)
def test_an_axis_on_which_no_window_fits_is_refused_by_name(ceil_mode: bool) -> None:
    count = COUNTS[ceil_mode]
    fine = (5, 1, 1, 1, 0, 0)
    for numbers in small_axes(ceil_mode):
        if not count(*numbers):
            with pytest.raises(ValueError, match="exceeds padded height"):
                axes(numbers, fine, ceil_mode=ceil_mode)
            with pytest.raises(ValueError, match="exceeds padded width"):
                axes(fine, numbers, ceil_mode=ceil_mode)


@pytest.mark.parametrize("ceil_mode", COUNTS)
def test_every_tap_reads_the_place_its_window_starts_at_and_so_many_steps_on(ceil_mode: bool) -> None:
    count = COUNTS[ceil_mode]
    for numbers in small_axes(ceil_mode):
        size, kernel, stride, dilation, before, after = numbers
        if not count(*numbers):
            continue
        axis, _ = axes(numbers, numbers, ceil_mode=ceil_mode)
        padded: list[int | None] = [None] * before + list(range(size)) + [None] * (reach(axis) - before - size)
        padded += [None] * (before + size + after - len(padded))
        for output, tap in itertools.product(range(axis.out), range(kernel)):
            place = axis.source(output, tap)
            assert padded[output * stride :][tap * dilation] == (place if 0 <= place < size else None)


def test_every_spelling_of_the_padding_means_its_four_sides() -> None:
    for rows, columns in itertools.product(itertools.product((5, 6), (2, 3), (1,), (1, 2), (0, 1), (0, 1)), repeat=2):
        (*_, top, bottom), (*_, left, right) = rows, columns
        spellings: list[Any] = [((top, bottom), (left, right)), [[top, bottom], [left, right]]]
        if (top, left) == (bottom, right):
            spellings.append((top, left))
            if top == left:
                spellings.extend([top, np.int64(top), "valid"] if top == 0 else [top, np.int64(top)])
        for padding in spellings:
            height, width = axes(rows, columns, padding)
            assert (height.before, height.after, width.before, width.after) == (top, bottom, left, right)
            assert (height.out, width.out) == (fitting(*rows), fitting(*columns))


@pytest.mark.parametrize(
    ("padding", "got"),
    [(-1, "-1"), ((0, -1), "(0, -1)"), (((0, 0), (0, -1)), "(0, -1)"), (((-1, 0), (0, 0)), "(-1, 0)")],
)
def test_a_negative_padding_is_refused_on_every_side(padding: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^padding must be at least 0, got {re.escape(got)}$"):
        axes((5, 1, 1, 1, 0, 0), (5, 1, 1, 1, 0, 0), padding)


def test_same_padding_keeps_every_size_and_puts_the_odd_place_behind() -> None:
    numbers = list(itertools.product(range(1, 6), range(1, 5), (1,), range(1, 4), (0,), (0,)))
    for rows, columns in zip(numbers, reversed(numbers), strict=True):
        for axis, given_numbers in zip(axes(rows, columns, "same"), (rows, columns), strict=True):
            assert axis.out == axis.size == given_numbers[0]
            assert axis.before + axis.after == (axis.kernel - 1) * axis.dilation
            assert axis.after - axis.before in (0, 1)


def reaches(strategy: st.SearchStrategy[Any], corner: Callable[[Any], bool]) -> bool:
    """Whether one of a few thousand draws is such a corner; the same draws every time."""
    quickly = settings(max_examples=2000, phases=[Phase.generate], database=None, deadline=None)
    return corner(find(strategy, corner, settings=quickly, random=Random(0)))


def placed(window: Window) -> tuple[Axis, Axis]:
    """The axes a window slides along."""
    return sliding_axes(window.size, window.kernel, **window.options)


def on_either_axis(corner: Callable[[Axis], bool]) -> Callable[[Window], bool]:
    """Whether height or width is such an axis."""
    return lambda window: any(corner(axis) for axis in placed(window))


def unequal(*fields: str) -> Callable[[Window], bool]:
    """Whether height and width differ in each of these."""
    return lambda window: all(len({getattr(axis, field) for axis in placed(window)}) == 2 for field in fields)


def leaves_rows_over(axis: Axis) -> bool:
    return axis.before + axis.size + axis.after > reach(axis)


def overhangs(axis: Axis) -> bool:
    return reach(axis) > axis.before + axis.size + axis.after


def reach(axis: Axis) -> int:
    """Where the last window ends in the padded axis."""
    return (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1


def lies_in_padding(axis: Axis) -> bool:
    return any(
        not any(0 <= axis.source(output, tap) < axis.size for tap in range(axis.kernel)) for output in range(axis.out)
    )


CORNERS: dict[str, Callable[[Window], bool]] = {
    "stride beyond the kernel": on_either_axis(lambda axis: axis.stride > axis.kernel),
    "windows that overlap": on_either_axis(lambda axis: axis.stride < axis.kernel and axis.out > 1),
    "leftover rows": on_either_axis(leaves_rows_over),
    "leftover rows of a plain window": on_either_axis(
        lambda axis: leaves_rows_over(axis) and axis.before == axis.after == 0 and min(axis.kernel, axis.out) > 1
    ),
    "leftover columns only": lambda window: [leaves_rows_over(axis) for axis in placed(window)] == [False, True],
    "1x1 output": lambda window: [axis.out for axis in placed(window)] == [1, 1],
    "1x1 kernel": lambda window: window.kernel == (1, 1),
    "even kernel": lambda window: window.kernel == (2, 2),
    "unequal sizes": unequal("size"),
    "unequal kernels": unequal("kernel"),
    "unequal strides": unequal("stride"),
    "unequal dilations": unequal("dilation"),
    "unequal padding": unequal("before", "after"),
    "all unequal": unequal("size", "kernel", "stride", "dilation", "before", "out"),
    "dilation": on_either_axis(lambda axis: axis.dilation > 1 and axis.kernel > 1),
    "dilation and stride": on_either_axis(lambda axis: min(axis.dilation, axis.stride, axis.kernel, axis.out) > 1),
    "more padding in front": on_either_axis(lambda axis: axis.before > axis.after),
    "more padding behind": on_either_axis(lambda axis: axis.before < axis.after),
    "padding on one side only": on_either_axis(lambda axis: axis.before == 0 < axis.after),
    "same": lambda window: window.options["padding"] == "same",
    "same, odd in total": lambda window: (
        window.options["padding"] == "same" and any(axis.before < axis.after for axis in placed(window))
    ),
    "valid": lambda window: window.options["padding"] == "valid",
    "padding as a number": lambda window: isinstance(window.options["padding"], int) and window.options["padding"] > 0,
    "padding as a pair": lambda window: (
        isinstance(window.options["padding"], tuple) and isinstance(window.options["padding"][0], int)
    ),
    "stride as a number": lambda window: isinstance(window.options["stride"], int) and window.options["stride"] > 1,
}
OF_CONVOLUTION = {
    "window wholly in the padding": on_either_axis(lies_in_padding),
    "padding wider than the kernel": on_either_axis(lambda axis: min(axis.before, axis.after) > axis.kernel),
}
OF_POOLING = {
    "ceil_mode": lambda window: window.options.get("ceil_mode", False),
    "ceil_mode with a window that overhangs": on_either_axis(overhangs),
    "ceil_mode along the height only": lambda window: [overhangs(axis) for axis in placed(window)] == [True, False],
    "padding of half the window": on_either_axis(
        lambda axis: 0 < 2 * axis.before == (axis.kernel - 1) * axis.dilation + 1
    ),
    "leftover rows without ceil_mode": lambda window: (
        not window.options.get("ceil_mode") and on_either_axis(leaves_rows_over)(window)
    ),
}


@pytest.mark.parametrize("corner", [*CORNERS, *OF_CONVOLUTION])
def test_windows_of_convolutions_reach(corner: str) -> None:
    assert reaches(strategies.windows(), {**CORNERS, **OF_CONVOLUTION}[corner])


@pytest.mark.parametrize("corner", [*CORNERS, *OF_POOLING])
def test_windows_of_poolings_reach(corner: str) -> None:
    assert reaches(strategies.windows(pooling=True), {**CORNERS, **OF_POOLING}[corner])


@given(window=strategies.windows(pooling=True))
def test_no_window_of_a_pooling_is_empty(window: Window) -> None:
    assert not on_either_axis(lies_in_padding)(window)


def array(case: Case, k: int = 0) -> NDArray[Any]:
    """An array that is always given."""
    found = case.arrays[k]
    assert found is not None
    return found


def shape(case: Case, k: int = 0) -> tuple[int, ...]:
    """Its shape."""
    return array(case, k).shape


def ties(case: Case) -> bool:
    """Whether a window of a pooling holds its maximum twice: another wins once later entries are a little larger."""
    x = array(case)
    plane = np.arange(x.shape[2] * x.shape[3], dtype=float).reshape(x.shape[2:])
    forward = LAYERS["max_pool2d"].fast.forward
    first, last = (forward(values, **case.options)[1].indices for values in (x, x * (plane.size + 1) + plane))
    return bool((first != last).any())


OF_LAYERS: dict[str, dict[str, Callable[[Case], bool]]] = {
    "conv2d": {
        "no image": lambda case: shape(case)[0] == 0,
        "one image": lambda case: shape(case)[0] == 1,
        "several images": lambda case: shape(case)[0] > 1,
        "one channel": lambda case: shape(case)[1] == 1,
        "one filter": lambda case: shape(case, 1)[0] == 1,
        "several of both, unequal": lambda case: 1 < shape(case)[1] != shape(case, 1)[0] > 1,
        "groups": lambda case: case.options["groups"] > 1 and shape(case, 1)[1] > 1,
        "depthwise": lambda case: case.options["groups"] == shape(case)[1] == shape(case, 1)[0] > 1,
        "depthwise, two filters a channel": lambda case: (
            1 < case.options["groups"] == shape(case)[1] < shape(case, 1)[0]
        ),
        "bias": lambda case: case.arrays[2] is not None,
        "no bias": lambda case: case.arrays[2] is None,
    },
    "max_pool2d": {
        "no image": lambda case: shape(case)[0] == 0,
        "one image": lambda case: shape(case)[0] == 1,
        "several images and channels": lambda case: min(shape(case)[:2]) > 1,
        "one channel": lambda case: shape(case)[1] == 1,
        "tied maxima": ties,
        "no tie": lambda case: shape(case)[0] > 0 and case.options["kernel_size"] != 1 and not ties(case),
        "default stride": lambda case: case.options["stride"] is None,
        "kernel as a number": lambda case: isinstance(case.options["kernel_size"], int),
    },
    "relu": {
        "scalar": lambda case: shape(case) == (),
        "nothing": lambda case: 0 in shape(case),
        "four axes": lambda case: len(shape(case)) == 4,
        "a zero among both signs": lambda case: set(np.sign(array(case)).flat) == {-1, 0, 1},
    },
    "flatten": {
        "one axis": lambda case: len(shape(case)) == 1,
        "five axes": lambda case: len(shape(case)) == 5,
        "no image": lambda case: shape(case)[0] == 0,
        "empty images": lambda case: shape(case)[0] > 1 and 0 in shape(case),
        "unequal axes": lambda case: min(shape(case)) > 1 and len({*shape(case)}) == len(shape(case)) > 2,
    },
    "linear": {
        "no leading axis": lambda case: len(shape(case)) == 1,
        "three leading axes": lambda case: len(shape(case)) == 4 and min(shape(case)[:3]) > 1,
        "no row": lambda case: 0 in shape(case),
        "one input": lambda case: shape(case, 1)[1] == 1,
        "one output": lambda case: shape(case, 1)[0] == 1,
        "unequal inputs and outputs": lambda case: 1 < shape(case, 1)[0] != shape(case, 1)[1] > 1,
        "bias": lambda case: case.arrays[2] is not None,
        "no bias": lambda case: case.arrays[2] is None,
    },
    "softmax_cross_entropy": {
        "no image": lambda case: shape(case)[0] == 0,
        "one image": lambda case: shape(case)[0] == 1,
        "one class": lambda case: shape(case)[0] > 1 and shape(case)[1] == 1,
        "first and last class": lambda case: {0, 2} <= set(array(case, 1).flat) and shape(case)[1] == 3,
        "mean of several": lambda case: case.options["reduction"] == "mean" and shape(case)[0] > 1,
        "sum of several": lambda case: case.options["reduction"] == "sum" and shape(case)[0] > 1,
        "none of several": lambda case: case.options["reduction"] == "none" and shape(case)[0] > 1,
    },
}


@pytest.mark.parametrize(("name", "corner"), [(name, corner) for name in OF_LAYERS for corner in OF_LAYERS[name]])
def test_cases_of_a_layer_reach(name: str, corner: str) -> None:
    assert reaches(LAYERS[name].cases(), OF_LAYERS[name][corner])


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_every_drawn_case_is_accepted(name: str, data: Any) -> None:
    case = data.draw(LAYERS[name].cases())
    for version in LAYERS[name].implementations:
        y, cache = version.forward(*case.arrays, **case.options)
        version.backward(np.array(y), cache)


@pytest.mark.parametrize("name", LAYERS)
def test_strategies_construct_and_throw_nothing_away(name: str) -> None:
    for source in (strategies, inspect.getmodule(LAYERS[name].cases)):
        assert source is not None
        tree = ast.walk(ast.parse(inspect.getsource(source)))
        used = {getattr(node, "attr", getattr(node, "id", None)) for node in tree}
        assert not used & {"filter", "assume", "reject"}
