"""The plans of the fast convolution: every one is right, every one is reached and taken, and memory stays bounded.

A plan only says how a convolution is cut up. So each is forced here on the small cases of the strategies,
those that `choose` keeps for large sizes included. So are the blocks of planes of the fast pooling.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import conv2d, max_pool2d
from cnn_core._blocked import conv2d as fast
from cnn_core._blocked import max_pool2d as pooling
from cnn_core._blocked.block import Layout, Scratch
from cnn_core._blocked.layouts import BatchInnermost, RowByRow, SlidingRows, WholeWindow
from cnn_core._blocked.plan import Plan, choose, filters_outweigh
from cnn_core._blocked.windows import fold, padded, planes, turned_axes
from cnn_core._geometry import Axis, sliding_axes
from verify.layers import LAYERS, Case

Array = NDArray[Any]
Geometry = tuple[Axis, Axis, int]

# So few images, rows of outputs and outputs at a time that small cases have several pieces, and a shorter last one.
LAYOUTS = WholeWindow(), RowByRow(), BatchInnermost(), SlidingRows()
PLANS = st.builds(
    Plan, st.integers(1, 3), st.integers(1, 3), st.sampled_from(LAYOUTS), st.sampled_from([1, 2, 3, 5, 1 << 18])
)
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: type(layout).__name__)


class Drawn(NamedTuple):
    """A case, and a plan to force on it."""

    case: Case
    plan: Plan


DRAWN = st.builds(Drawn, LAYERS["conv2d"].cases(), PLANS)


def given_arrays(case: Case) -> tuple[Array, Array, Array | None]:
    """x, w and b."""
    x, w, b = case.arrays
    assert x is not None
    assert w is not None
    return x, w, b


def geometry(case: Case) -> Geometry:
    """The axes along which the window slides, and the groups."""
    _, cache = conv2d.blocked.forward(*case.arrays, **case.options)
    return cache.rows, cache.columns, cache.groups


def same(name: str, right: Array, got: Array) -> None:
    """Equal in every bit that a number has."""
    assert got.dtype == right.dtype, name
    assert np.array_equal(right, got), name


@given(drawn=DRAWN, dtype=st.sampled_from([np.float64, np.float32, np.complex128]), seed=st.integers(0, 99))
def test_every_plan_agrees_with_naive_bit_for_bit_on_integers(drawn: Drawn, dtype: Any, seed: int) -> None:
    arrays, options = drawn.case
    case = Case(tuple(a if a is None else a.astype(dtype) for a in arrays), options)
    (x, w, b), axes, plan = given_arrays(case), geometry(case), drawn.plan
    y, cache = conv2d.naive.forward(x, w, b, **options)
    dy = np.random.default_rng(seed).integers(-9, 10, y.shape).astype(dtype)
    dx, dw, _ = conv2d.naive.backward(dy, cache)
    assert dx is not None
    assert dw is not None
    same("y", y, fast.correlate(x, w, b, *axes, plan))
    same("dw", dw, fast.filter_gradient(x, w, dy, *axes, plan))
    same("dx, folded", dx, fast.folded(dy, w, x.shape, *axes, plan))
    same("dx, turned", dx, fast.turned(dy, w, x.shape, *axes, plan))


@pytest.mark.parametrize("plan", [None, Plan(1, 1, RowByRow(), 1), Plan(2, 2, BatchInnermost(), 2)])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "padding"),
    [
        ((2, 0, 4, 5), (3, 0, 2, 2), 0),
        ((2, 3, 4, 5), (0, 3, 2, 2), 0),
        ((2, 3, 0, 5), (2, 3, 2, 2), 1),
        ((2, 3, 5, 0), (2, 3, 2, 2), 1),
    ],
    ids=["no channels", "no filters", "no rows", "no columns"],
)
def test_arrays_without_entries_are_no_trouble(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], padding: int, plan: Plan | None
) -> None:
    case = Case((np.ones(x_shape), np.ones(w_shape), np.ones(w_shape[0])), {"padding": padding})
    (x, w, b), axes = given_arrays(case), geometry(case)
    y, cache = conv2d.naive.forward(x, w, b, padding=padding)
    dx, dw, _ = conv2d.naive.backward(y, cache)
    assert dx is not None
    assert dw is not None
    same("y", y, fast.correlate(x, w, b, *axes, plan))
    same("dw", dw, fast.filter_gradient(x, w, y, *axes, plan))
    same("dx, folded", dx, fast.folded(y, w, x.shape, *axes, plan))
    same("dx, turned", dx, fast.turned(y, w, x.shape, *axes, plan))


@each_layout
@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        pytest.param((1, 1), 3, {"stride": 2, "padding": 1}, id="remainders without a row or a column"),
        pytest.param((5, 2), 5, {"stride": 4, "padding": 2}, id="remainders without a column"),
        pytest.param((4, 4), 3, {"padding": 6}, id="rows of outputs that read padding alone"),
        pytest.param((4, 4), 3, {"stride": 3, "padding": 9, "dilation": 2}, id="the same, with a stride"),
    ],
)
def test_windows_beside_the_image_agree_with_naive_bit_for_bit(
    size: tuple[int, int], kernel: int, options: dict[str, int], layout: Layout
) -> None:
    generator = np.random.default_rng(0)
    x, w = (generator.integers(-9, 10, shape).astype(float) for shape in ((3, 2, *size), (4, 2, kernel, kernel)))
    y, cache = conv2d.naive.forward(x, w, **options)
    dy = generator.integers(-9, 10, y.shape).astype(float)
    dx, dw, _ = conv2d.naive.backward(dy, cache)
    assert dx is not None
    assert dw is not None
    axes, plan = (cache.rows, cache.columns, cache.groups), Plan(2, 1, layout, 4)
    same("y", y, fast.correlate(x, w, None, *axes, plan))
    same("dw", dw, fast.filter_gradient(x, w, dy, *axes, plan))
    same("dx, folded", dx, fast.folded(dy, w, x.shape, *axes, plan))
    same("dx, turned", dx, fast.turned(dy, w, x.shape, *axes, plan))
    same("dx", dx, fast.input_gradient(dy, w, x.shape, *axes))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_filters_that_are_not_finite_spoil_what_they_touch_and_nothing_else(special: float, stride: int) -> None:
    x, w = np.ones((2, 2, 4, 4)), np.ones((2, 2, 3, 3))
    w[1, 0, 0, 2] = special
    results = []
    for version in (conv2d.naive, conv2d.blocked):
        with np.errstate(invalid="ignore"):
            y, cache = version.forward(x, w, stride=stride, padding=1)
            dy = np.random.default_rng(0).integers(1, 9, y.shape).astype(float)
            results.append((y, *version.backward(dy, cache)[:2]))
    for right, got in zip(*results, strict=True):
        assert np.array_equal(right, got, equal_nan=True)


@pytest.mark.parametrize("padding", [((0, 1), (0, 0)), ((0, 0), (0, 1)), ((1, 0), (0, 0)), ((0, 0), (1, 0)), 0])
@pytest.mark.parametrize("stride", [1, 2, (1, 2), (2, 1)])
def test_a_window_of_one_entry_may_be_padded_on_either_side_or_leave_entries_out(padding: Any, stride: Any) -> None:
    """With a stride and no padding dx is written through a view with gaps."""
    x, w = np.arange(24.0).reshape(1, 2, 3, 4), np.arange(1.0, 7.0).reshape(3, 2, 1, 1)
    y, cache = conv2d.naive.forward(x, w, padding=padding, stride=stride)
    found, known = conv2d.blocked.forward(x, w, padding=padding, stride=stride)
    same("y", y, found)
    for right, got in zip(conv2d.naive.backward(y, cache)[:2], conv2d.blocked.backward(y, known)[:2], strict=True):
        assert right is not None
        assert got is not None
        same("gradient", right, got)


def outputs(drawn: Drawn) -> int:
    """How many outputs a product of the plan makes, in its first block."""
    rows, columns, _ = geometry(drawn.case)
    return min(drawn.plan.images, len(given_arrays(drawn.case)[0])) * min(drawn.plan.outputs, rows.out) * columns.out


def on_rows(corner: Callable[[Plan, Axis], bool]) -> Callable[[Drawn], bool]:
    """Whether plan and height are such, and there is an image at all."""
    return lambda drawn: bool(given_arrays(drawn.case)[0].size) and corner(drawn.plan, geometry(drawn.case)[0])


def whole(plan: Plan) -> bool:
    """Whether a block has all entries of its windows."""
    return isinstance(plan.layout, WholeWindow)  # BatchInnermost is one


def remainders(axis: Axis) -> int:
    """How many of its strides' remainders a window touches."""
    return len({tap * axis.dilation % axis.stride for tap in range(axis.kernel)})


@each_layout
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2, "padding": 1}], ids=str)
def test_blocks_of_one_image_agree_with_naive_bit_for_bit(layout: Layout, options: dict[str, int]) -> None:
    generator = np.random.default_rng(0)
    x, w = (generator.integers(-9, 10, shape).astype(float) for shape in ((2, 3, 9, 8), (4, 3, 3, 2)))
    y, cache = conv2d.naive.forward(x, w, **options)
    dy = generator.integers(-9, 10, y.shape).astype(float)
    dx, dw, _ = conv2d.naive.backward(dy, cache)
    assert dx is not None
    assert dw is not None
    axes, plan = (cache.rows, cache.columns, cache.groups), Plan(1, 3, layout, 5)
    same("y", y, fast.correlate(x, w, None, *axes, plan))
    same("dw", dw, fast.filter_gradient(x, w, dy, *axes, plan))
    same("dx, folded", dx, fast.folded(dy, w, x.shape, *axes, plan))
    same("dx, turned", dx, fast.turned(dy, w, x.shape, *axes, plan))


@each_layout
@pytest.mark.parametrize("stride", [1, 2])
def test_more_filters_than_outputs_agree_with_naive_bit_for_bit(layout: Layout, stride: int) -> None:
    generator = np.random.default_rng(0)
    x, w = (generator.integers(-9, 10, shape).astype(float) for shape in ((2, 3, 4, 5), (40, 3, 3, 2)))
    y, cache = conv2d.naive.forward(x, w, stride=stride, padding=1)
    dy = generator.integers(-9, 10, y.shape).astype(float)
    dx, dw, _ = conv2d.naive.backward(dy, cache)
    assert dx is not None
    assert dw is not None
    axes = cache.rows, cache.columns, cache.groups
    plan = Plan(2, 4, layout, 1 << 18)
    assert filters_outweigh(len(w), len(x), *axes[:2]) == (stride == 2)
    same("y", y, fast.correlate(x, w, None, *axes, plan))
    same("dw", dw, fast.filter_gradient(x, w, dy, *axes, plan))
    same("dx", dx, fast.input_gradient(dy, w, x.shape, *axes))


def outweighed(drawn: Drawn) -> bool:
    """Whether a group has more filters than the batch has outputs, and there are some."""
    (x, w, _), (rows, columns, groups) = given_arrays(drawn.case), geometry(drawn.case)
    return bool(x.size) and filters_outweigh(len(w) // groups, len(x), rows, columns)


CORNERS: dict[str, Callable[[Drawn], bool]] = {
    "no image": lambda drawn: len(given_arrays(drawn.case)[0]) == 0,
    "several blocks of images, the last shorter": lambda drawn: (
        len(given_arrays(drawn.case)[0]) % drawn.plan.images > 0
        and len(given_arrays(drawn.case)[0]) > drawn.plan.images
    ),
    "several bands of rows, the last shorter": on_rows(
        lambda plan, rows: rows.out > plan.outputs and rows.out % plan.outputs > 0
    ),
    "bands that overlap in x": on_rows(
        lambda plan, rows: rows.out > plan.outputs and (rows.kernel - 1) * rows.dilation >= rows.stride
    ),
    "several images, the batch innermost": lambda drawn: (
        drawn.plan.layout.batch_innermost and min(drawn.plan.images, len(given_arrays(drawn.case)[0])) > 1
    ),
    "rows that slide, of several images": on_rows(
        lambda plan, rows: (
            isinstance(plan.layout, SlidingRows) and plan.images > 1 and rows.kernel > 1 and plan.outputs > 1 < rows.out
        )
    ),
    "rows that slide, with a stride": on_rows(
        lambda plan, rows: (
            isinstance(plan.layout, SlidingRows) and rows.kernel > 1 < rows.stride and plan.outputs > 1 < rows.out
        )
    ),
    "rows that slide, dilated": on_rows(
        lambda plan, rows: (
            isinstance(plan.layout, SlidingRows) and rows.kernel > 1 < rows.dilation and plan.outputs > 1 < rows.out
        )
    ),
    "several images, the batch outside": lambda drawn: (
        not drawn.plan.layout.batch_innermost and min(drawn.plan.images, len(given_arrays(drawn.case)[0])) > 1
    ),
    "all rows in one product": on_rows(lambda plan, rows: whole(plan) and rows.kernel > 1),
    "a product for each row": on_rows(lambda plan, rows: isinstance(plan.layout, RowByRow) and rows.kernel > 1),
    "a product for each row, of several remainders": on_rows(
        lambda plan, rows: isinstance(plan.layout, RowByRow) and remainders(rows) > 1
    ),
    "a product for each row, whose remainder not all rows share": on_rows(
        lambda plan, rows: isinstance(plan.layout, RowByRow) and 1 < remainders(rows) < rows.kernel
    ),
    "several tiles": lambda drawn: 1 < drawn.plan.tile < outputs(drawn) and outputs(drawn) % drawn.plan.tile == 0,
    "several tiles and a rest": lambda drawn: drawn.plan.tile < outputs(drawn) and outputs(drawn) % drawn.plan.tile > 0,
    "one tile": lambda drawn: 0 < outputs(drawn) < drawn.plan.tile,
    "an image multiplied where it lies": lambda drawn: (
        outputs(drawn) > 0
        and isinstance(drawn.plan.layout, WholeWindow)
        and drawn.plan.images == 1
        and all(a.kernel == a.stride == 1 for a in geometry(drawn.case)[:2])
    ),
    "a stride that divides neither taps nor padding, folded": on_rows(
        lambda plan, rows: remainders(rows) > 1 and rows.before % rows.stride > 0
    ),
    "a remainder that no tap reaches, so that dx is 0 there": on_rows(
        lambda plan, rows: remainders(rows) < min(rows.stride, rows.size)
    ),
    "a remainder that several taps reach, turned round": on_rows(
        lambda plan, rows: rows.stride > 1 and remainders(rows) < rows.kernel
    ),
    "filters more than the outputs, taken as they lie": lambda drawn: (
        whole(drawn.plan) and outweighed(drawn) and given_arrays(drawn.case)[1][0].size > 1
    ),
    "filters more than the outputs, in another order": lambda drawn: not whole(drawn.plan) and outweighed(drawn),
    "nothing to pad": lambda drawn: all(a.before == a.after == 0 for a in geometry(drawn.case)[:2]),
    "one filter a group": lambda drawn: len(given_arrays(drawn.case)[1]) == geometry(drawn.case)[2],
    "depthwise": lambda drawn: given_arrays(drawn.case)[1].shape[1] == 1 and geometry(drawn.case)[2] > 1,
    "dy cropped, where x was padded beyond the window": on_rows(
        lambda plan, rows: rows.stride == 1 and rows.before > (rows.kernel - 1) * rows.dilation
    ),
}


# Of some 2,000 cases one is such: it takes seconds to find, and has a test of its own above.
RARE = ("filters more than the outputs, taken as they lie", "filters more than the outputs, in another order")


@pytest.mark.parametrize(
    "corner", [pytest.param(each, marks=[pytest.mark.long] * (each in RARE), id=each) for each in CORNERS]
)
def test_cases_and_plans_reach(corner: str) -> None:
    quickly = settings(max_examples=5000, phases=[Phase.generate], database=None, deadline=None)
    assert find(DRAWN, CORNERS[corner], settings=quickly, random=Random(0))


# (N, C, H, W), (F, C/groups, kH, kW), options
Sizes = tuple[tuple[int, int, int, int], tuple[int, int, int, int], dict[str, int]]

TAKEN: dict[str, tuple[Callable[[Plan, int], bool], Sizes]] = {
    "tiles": (lambda plan, _: plan.tile < 1 << 18, ((64, 3, 32, 32), (64, 3, 3, 3), {"padding": 1})),
    "no tiles": (lambda plan, _: plan.tile == 1 << 18, ((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1})),
    "stacked, as there are so many filters": (
        lambda plan, _: whole(plan) and plan.images == 8,
        ((8, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
    ),
    "stacked": (lambda plan, _: whole(plan), ((8, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3})),
    "shifted": (
        lambda plan, _: isinstance(plan.layout, RowByRow),
        ((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ),
    "batch inner": (
        lambda plan, _: isinstance(plan.layout, BatchInnermost),
        ((8, 512, 14, 14), (512, 512, 3, 3), {"stride": 2, "padding": 1}),
    ),
    "rows that slide": (lambda plan, _: isinstance(plan.layout, SlidingRows), ((128, 6, 14, 14), (16, 6, 5, 5), {})),
    "rows that slide, of one channel": (
        lambda plan, _: isinstance(plan.layout, SlidingRows),
        ((128, 1, 28, 28), (2, 1, 5, 5), {}),
    ),
    "batch outside": (
        lambda plan, _: not plan.layout.batch_innermost,
        ((64, 3, 32, 32), (64, 3, 3, 3), {"padding": 1}),
    ),
    "an image": (lambda plan, _: plan.images == 1, ((8, 256, 56, 56), (64, 256, 1, 1), {})),
    "some images": (lambda plan, _: 1 < plan.images < 64, ((64, 512, 7, 7), (2048, 512, 1, 1), {})),
    "all images": (lambda plan, _: plan.images == 8, ((8, 512, 7, 7), (512, 512, 3, 3), {"padding": 1})),
    "bands": (lambda plan, rows: plan.outputs < rows, ((1, 64, 512, 512), (64, 64, 3, 3), {"padding": 1})),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_sizes_in_use_take_every_kind_of_plan(kind: str) -> None:
    holds, (x, w, options) = TAKEN[kind]
    stride, padding = options.get("stride", 1), options.get("padding", 0)
    rows, columns = sliding_axes(x[2:], w[2:], stride=stride, padding=padding, dilation=1)
    assert holds(choose(x[0], (1, *w), rows, columns, 4), rows.out)


@given(drawn=DRAWN)
def test_blocks_are_the_outputs_cut_up(drawn: Drawn) -> None:
    rows, _, _ = geometry(drawn.case)
    seen = np.zeros((len(given_arrays(drawn.case)[0]), rows.out), int)
    for block in drawn.plan.blocks(len(seen), rows):
        assert block.layout is drawn.plan.layout
        assert block.rows > 0
        seen[block.images, block.outputs] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_contraction_adds_up_every_part_and_every_tile(parts: int, length: int) -> None:
    """Up to three tiles of two outputs, with a rest and without."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-9, 10, (2, parts, rows, length)).astype(float) for rows in (3, 5))
    total = fast._contraction(a, b, Scratch(a.dtype), 2)
    assert np.array_equal(total, np.einsum("grmp,grkp->gmk", a, b))


@given(case=LAYERS["conv2d"].cases())
def test_the_taps_of_each_remainder_make_an_axis_of_dy(case: Case) -> None:
    """Its windows end where its padding ends, and all axes together have the entries and the taps of x's."""
    for axis in geometry(case)[:2]:
        turned = turned_axes(axis)
        for entries, taps, of_dy in turned:
            assert of_dy.padded == (of_dy.kernel - 1) * of_dy.dilation + of_dy.out
            assert len(range(axis.size)[entries]) == of_dy.out
            assert len(range(axis.kernel)[taps]) == of_dy.kernel
        assert sorted(k for _, taps, _ in turned for k in range(axis.kernel)[taps]) == list(range(axis.kernel))


@given(drawn=DRAWN, seed=st.integers(0, 99))
def test_unfold_and_fold_are_adjoint_block_by_block(drawn: Drawn, seed: int) -> None:
    (x, _, _), (rows, columns, groups) = given_arrays(drawn.case), geometry(drawn.case)
    generator = np.random.default_rng(seed)
    for block in drawn.plan.blocks(len(x), rows):
        xp = padded(planes(x, groups, rows.size, columns.size), block, rows, columns, Scratch(x.dtype))
        layout, innermost = block.layout, block.layout.batch_innermost
        together = block._replace(layout=BatchInnermost() if innermost else WholeWindow())
        xp_together = padded(planes(x, groups, rows.size, columns.size), together, rows, columns, Scratch(x.dtype))
        (unfolded,) = together.layout.unfold(xp_together, together, rows, columns, Scratch(x.dtype))
        channels, outs = xp[0].shape[1], (block.rows, columns.out, xp[0].shape[-1])
        dunfolded = generator.integers(-9, 10, (groups, channels, rows.kernel, columns.kernel, *outs)).astype(float)
        # P of `unfolded` lies as the block does: the batch inside, or before the columns.
        ordered = dunfolded if innermost else dunfolded.swapaxes(-1, -2)
        dx = np.zeros_like(x)
        fold(dunfolded, planes(dx, groups, rows.size, columns.size), block, rows, columns, Scratch(x.dtype))
        assert (unfolded * ordered.reshape(unfolded.shape)).sum() == (x * dx).sum()
        # K runs over (c, p, q) of a whole window, over (q, c) of each of its rows, and over (p, q, c) if rows slide.
        each = layout.unfold(xp, block, rows, columns, Scratch(x.dtype))
        by_tap = unfolded.reshape(groups, channels, rows.kernel, columns.kernel, block.rows, outs[1] * outs[2])
        if isinstance(layout, SlidingRows):
            expected = [by_tap.transpose(0, 4, 2, 3, 1, 5)]
        elif isinstance(layout, RowByRow):
            expected = [by_tap[:, :, p].swapaxes(1, 2) for p in range(rows.kernel)]
        else:
            expected = [unfolded]
        for right, operand in zip(expected, each, strict=True):
            same("columns", right.reshape(operand.shape), operand)


@given(drawn=DRAWN)
def test_filters_become_matrices_and_matrices_filters_again(drawn: Drawn) -> None:
    (_, w, _), (rows, _, groups), layout = given_arrays(drawn.case), geometry(drawn.case), drawn.plan.layout
    grouped = fast.by_group(w, groups)
    matrices = layout.filters(grouped)
    assert len(matrices) == layout.products(rows)
    same("filters", grouped, layout.as_filters(matrices[:, :, 0], grouped.shape))


def memory(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and the most bytes that it took beside that."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        results = call()
        held = sum(array.nbytes for array in results if isinstance(array, np.ndarray))
        return results, tracemalloc.get_traced_memory()[1] - before - held
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        pytest.param((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}, id="3x3"),
        pytest.param((256, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}, id="3x3 on 256", marks=pytest.mark.long),
        pytest.param((1, 16, 512, 512), (16, 16, 3, 3), {"padding": 1}, id="3x3 on a large image"),
        pytest.param((8, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}, id="7x7/2"),
        pytest.param((16, 512, 14, 14), (512, 512, 3, 3), {"stride": 2, "padding": 1}, id="3x3/2, many channels"),
        pytest.param((8, 256, 56, 56), (64, 256, 1, 1), {}, id="1x1"),
        pytest.param((512, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}, id="5x5, few channels"),
        pytest.param((64, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64}, id="depthwise"),
    ],
)
def test_memory_beside_arguments_and_results_is_bounded(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], options: dict[str, int]
) -> None:
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(shape, np.float32) for shape in (x_shape, w_shape))
    (y, cache), forward = memory(lambda: conv2d.blocked.forward(x, w, w[:, 0, 0, 0].copy(), **options))
    _, backward = memory(lambda: conv2d.blocked.backward(y, cache))
    assert max(forward, backward) <= 64 << 20, f"forward {forward / 2**20:.1f} MiB, backward {backward / 2**20:.1f} MiB"


def pooled_alike(x: Array, dy_seed: int, **options: Any) -> None:
    """Both versions of max pooling give the same y, winners and gradient, NaN and all."""
    (y, cache), (expected, known) = (each.forward(x, **options) for each in (max_pool2d.blocked, max_pool2d.naive))
    assert np.array_equal(y, expected, equal_nan=True)
    assert np.array_equal(cache.indices, known.indices)
    dy = np.random.default_rng(dy_seed).integers(-9, 10, y.shape).astype(x.dtype)
    gradients: Any = (*max_pool2d.naive.backward(dy, known), *max_pool2d.blocked.backward(dy, cache))
    same("dx", *gradients)


@given(
    case=LAYERS["max_pool2d"].cases(),
    block=st.sampled_from([1, 100, 700, 1 << 20]),
    dtype=st.sampled_from([np.float32, np.float64, np.complex128]),
    special=st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=9),
    seed=st.integers(0, 99),
)
def test_blocks_of_planes_agree_with_naive_bit_for_bit(
    case: Case, block: int, dtype: type, special: list[float], seed: int
) -> None:
    (drawn,) = case.arrays
    assert drawn is not None
    x: Array = drawn.astype(dtype)
    if x.size:
        x.flat[np.random.default_rng(seed).integers(0, x.size, len(special))] = special
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "_BLOCK_BYTES", block)
        pooled_alike(x, seed, **case.options)


@pytest.mark.parametrize("kernel_size", [(1, 255), (1, 256), (257, 1), (16, 16), (17, 20)])
def test_windows_of_more_taps_than_a_byte_numbers(kernel_size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).integers(-99, 100, (1, 2, 257, 259)).astype(np.float32)
    pooled_alike(x, 0, kernel_size=kernel_size, stride=(20, 20))
