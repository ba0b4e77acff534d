"""unfold2d, fold2d, conv_transpose2d, pad2d, add and concat: values by hand, laws and extremes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_geometry import array
from test_known_values import Typed, both, image, pixels

from cnn_core import Implementation, conv2d
from cnn_core._geometry import sliding_axes
from verify import strategies
from verify.layers import LAYERS, Case

Array = NDArray[Any]

DIGITS = image([1, 10], [100, 1000])


@both("unfold2d")
def test_unfolding_lists_taps_by_row_and_windows_by_column(layer: Typed) -> None:
    # Windows 12/45 and 23/56. dx[0,1] = -1 of tap (0,0) + 2 of tap (0,1).
    call = layer(image([1, 2, 3], [4, 5, 6]), kernel_size=2)
    call.gives([[[1, 2], [2, 3], [4, 5], [5, 6]]])
    call.pulls([[[1, -1], [2, 0], [3, 1], [0, 5]]], image([1, 1, 0], [3, 1, 5]))


@both("unfold2d")
def test_unfolding_reads_its_options_as_height_then_width(layer: Typed) -> None:
    # A kernel of two rows; two windows along each axis.
    call = layer(image([1, 2], [3, 4], [5, 6]), kernel_size=(2, 1))
    call.gives([[[1, 2, 3, 4], [3, 4, 5, 6]]])
    # (0) 1 2 by two columns: one window. The channels come one after the other.
    call = layer([[[[1, 2]], [[3, 4]]]], kernel_size=(1, 2), padding=((0, 0), (1, 0)), stride=(1, 2))
    call.gives([[[0], [1], [0], [3]]])
    call.pulls([[[5], [6], [7], [8]]], [[[[6, 0]], [[8, 0]]]])
    # Taps three columns apart.
    call = layer(image([1, 2, 3, 4]), kernel_size=(1, 2), dilation=(1, 3))
    call.gives([[[1], [4]]])
    call.pulls([[[5], [7]]], image([5, 0, 0, 7]))


@both("fold2d")
def test_folding_sums_where_windows_overlap(layer: Typed) -> None:
    # The columns are 1 2/4 8 and 10 20/40 80, one step apart.
    call = layer([[[1, 10], [2, 20], [4, 40], [8, 80]]], output_size=(2, 3), kernel_size=2)
    call.gives(image([1, 12, 20], [4, 48, 80]))
    call.pulls(image([1, 2, 3], [4, 5, 6]), [[[1, 2], [2, 3], [4, 5], [5, 6]]])


@both("fold2d")
def test_folding_drops_the_padding_and_leaves_zeros_between_windows(layer: Typed) -> None:
    # One row of padding above, one column at the right: of the window only its lower left entry is left.
    call = layer([[[1], [2], [4], [8]]], output_size=1, kernel_size=2, padding=((1, 0), (0, 1)))
    call.gives(image([4]))
    call.pulls(image([3]), [[[0], [0], [3], [0]]])
    call = layer([[[5, 7]]], output_size=(1, 3), kernel_size=1, stride=(1, 2))
    call.gives(image([5, 0, 7]))
    call.pulls(image([1, 2, 3]), [[[1, 3]]])
    call = layer([[[1], [10]]], output_size=(1, 3), kernel_size=(1, 2), dilation=2)
    call.gives(image([1, 0, 10]))
    call.pulls(image([1, 2, 3]), [[[1], [3]]])


@both("fold2d")
def test_folding_keeps_channels_and_images_apart(layer: Typed) -> None:
    call = layer([[[3], [4]], [[5], [6]]], output_size=1, kernel_size=1)
    call.gives(pixels([3, 4], [5, 6]))
    call.pulls(pixels([1, 2], [3, 4]), [[[1], [2]], [[3], [4]]])


@both("conv_transpose2d")
def test_a_transposed_convolution_lays_its_kernel_at_every_entry(layer: Typed) -> None:
    # y[1,1] = 1*1000 + 2*100 + 3*10 + 4*1, and 5 everywhere. dx[0,0] = -1*1 + 1*1000, dw[0,0] = -1*1 + 4*1.
    call = layer(image([1, 2], [3, 4]), DIGITS, [5])
    call.gives(image([6, 17, 25], [108, 1239, 2045], [305, 3405, 4005]))
    dy = image([-1, 0, 0], [0, 1, 0], [0, 0, 0])
    call.pulls(dy, image([999, 100], [10, 1]), image([3, 3], [2, 1]), [0])


@both("conv_transpose2d")
def test_a_transposed_convolution_crops_by_padding_and_extends_behind(layer: Typed) -> None:
    # 1 10 100 at place 0 and 2 20 200 at place 2: 1 10 102 20 200.
    row, w = image([1, 2]), image([1, 10, 100])
    call = layer(row, w, stride=(1, 2))
    call.gives(image([1, 10, 102, 20, 200]))
    call = layer(row, w, [7], stride=(1, 2), output_padding=(0, 1))
    call.gives(image([8, 17, 109, 27, 207, 7]))
    call.pulls(image([0, 0, 0, 0, 0, 9]), image([0, 0]), image([0, 0, 0]), [9])
    call = layer(row, w, [7], stride=(1, 2), padding=(0, 1), output_padding=(0, 1))
    call.gives(image([17, 109, 27, 207]))
    # dx[0] = 10*1 + 100*2: its first product was cropped. dw[0] = 2*2.
    call.pulls(image([1, 2, 3, 4]), image([210, 432]), image([4, 7, 10]), [10])
    call = layer(row, image([1, 10]), padding=((0, 0), (0, 1)))
    call.gives(image([1, 12]))
    call.pulls(image([1, 2]), image([21, 2]), image([5, 2]), None)


@both("conv_transpose2d")
def test_a_transposed_convolution_spreads_by_stride_and_dilation_of_each_axis(layer: Typed) -> None:
    call = layer(image([1], [2]), image([3]), stride=(2, 1))
    call.gives(image([3], [0], [6]))
    call.pulls(image([1], [5], [-2]), image([3], [-6]), image([-3]), None)
    call = layer(image([1, 2]), image([1, 10]), dilation=(1, 2))
    call.gives(image([1, 2, 10, 20]))
    call.pulls(image([1, 2, 3, 4]), image([31, 42]), image([5, 11]), None)


@both("conv_transpose2d")
def test_a_transposed_convolution_gives_each_group_its_own_filters(layer: Typed) -> None:
    # w has its channels first: channel 0 has the filters 1 and 10.
    x, w = pixels([2, 3]), pixels([1, 10], [100, 1000])
    call = layer(x, w)
    call.gives(pixels([302, 3020]))
    call.pulls(pixels([1, -1]), pixels([-9, -900]), pixels([2, -2], [3, -3]), None)
    call = layer(x, w, groups=2)
    call.gives(pixels([2, 20, 300, 3000]))
    call.pulls(pixels([1, -1, 2, 1]), pixels([-9, 1200]), pixels([2, -2], [6, 3]), None)
    # Two channels a group: channels 0 and 1 make filter 0.
    call = layer(pixels([1, 2, 3, 4]), pixels([1], [10], [100], [1000]), [5, 6], groups=2)
    call.gives(pixels([26, 4306]))


@both("conv_transpose2d", [np.complex128])
def test_a_complex_transposed_convolution_conjugates_nothing(layer: Typed) -> None:
    call = layer(pixels([1j]), pixels([2 + 1j]), [3j])
    call.gives(pixels([-1 + 5j]))
    call.pulls(pixels([1 + 1j]), pixels([1 + 3j]), pixels([-1 + 1j]), [1 + 1j])


# mode -> y and dx of the row 1 2 3 with pads (2, 1), for dy = 1 2 3 4 5 6; then with (-1, 2), for dy = 1 2 3 4.
PADDED: dict[str, tuple[list[int], list[int], list[int], list[int]]] = {
    "constant": ([9, 9, 1, 2, 3, 9], [3, 4, 5], [2, 3, 9, 9], [0, 1, 2]),
    "reflect": ([3, 2, 1, 2, 3, 2], [3, 12, 6], [2, 3, 2, 1], [4, 4, 2]),
    "replicate": ([1, 1, 1, 2, 3, 3], [6, 4, 11], [2, 3, 3, 3], [0, 1, 9]),
    "circular": ([2, 3, 1, 2, 3, 1], [9, 5, 7], [2, 3, 2, 3], [0, 4, 6]),
}


@pytest.mark.parametrize(("arrays", "name"), [((None,), "z"), ((np.ones(2), None), r"others\[0\]")])
def test_nothing_is_no_array_to_put_behind(arrays: Any, name: str) -> None:
    for version in LAYERS["concat"].implementations:
        with pytest.raises(TypeError, match=f"^{name} must be a NumPy array, got NoneType$"):
            version.forward(np.ones(2), *arrays, axis=0)


@both("pad2d")
def test_circular_padding_goes_on_with_the_columns_that_are_not_cropped(layer: Typed) -> None:
    # Of 1 2 3 4 the first is cropped, and 2 3 come again. Then the last is cropped, and 2 3 come before.
    call = layer(image([1, 2, 3, 4]), pad=((0, 0), (-1, 2)), mode="circular")
    call.gives(image([2, 3, 4, 2, 3]))
    call.pulls(image([1, 2, 3, 4, 5]), image([0, 5, 7, 3]))
    call = layer(image([1, 2, 3, 4]), pad=((0, 0), (2, -1)), mode="circular")
    call.gives(image([2, 3, 1, 2, 3]))
    call.pulls(image([1, 2, 3, 4, 5]), image([3, 5, 7, 0]))


@pytest.mark.parametrize("mode", PADDED)
@both("pad2d")
def test_padding_of_a_row_and_of_a_column(layer: Typed, mode: str) -> None:
    wide, dx_wide, cropped, dx_cropped = PADDED[mode]
    options: dict[str, Any] = {"mode": mode, "value": 9} if mode == "constant" else {"mode": mode}
    for turned in (False, True):
        for pad, y, dx in (((2, 1), wide, dx_wide), ((-1, 2), cropped, dx_cropped)):
            x, right, dy, gradient = (
                np.array(row).reshape(1, 1, *((-1, 1) if turned else (1, -1)))
                for row in ([1, 2, 3], y, range(1, len(y) + 1), dx)
            )
            call = layer(x, pad=(pad, (0, 0)) if turned else ((0, 0), pad), **options)
            call.gives(right)
            call.pulls(dy, gradient)


@both("pad2d")
def test_padding_reads_a_pair_as_height_then_width(layer: Typed) -> None:
    call = layer(image([1, 2]), pad=(1, 0))
    call.gives(image([0, 0], [1, 2], [0, 0]))
    call.pulls(image([1, 2], [3, 4], [5, 6]), image([3, 4]))
    layer(image([1]), pad=1, value=-2).gives(image([-2, -2, -2], [-2, 1, -2], [-2, -2, -2]))


@both("pad2d")
def test_a_corner_of_the_padding_folds_back_along_both_axes(layer: Typed) -> None:
    # Reflected at the upper left: 4 3 4/2 1 2/4 3 4. The 4 collects its four copies.
    call = layer(image([1, 2], [3, 4]), pad=((1, 0), (1, 0)), mode="reflect")
    call.gives(image([4, 3, 4], [2, 1, 2], [4, 3, 4]))
    call.pulls(image([1, 2, 3], [4, 5, 6], [7, 8, 9]), image([5, 10], [10, 20]))


@both("pad2d")
def test_a_constant_before_and_a_crop_behind_leave_a_part_of_x(layer: Typed) -> None:
    call = layer(image([1, 2, 3, 4]), pad=((0, 0), (1, -2)))
    call.gives(image([0, 1, 2]))
    call.pulls(image([5, 6, 7]), image([6, 7, 0, 0]))


@both("pad2d")
def test_a_constant_side_may_crop_more_than_the_whole_image(layer: Typed) -> None:
    # PyTorch refuses it. Five constants, 1 2 3, and six cropped from behind.
    call = layer(image([1, 2, 3]), pad=((0, 0), (5, -6)), value=4)
    call.gives(image([4, 4]))
    call.pulls(image([7, 8]), image([0, 0, 0]))


@both("add")
def test_a_sum_repeats_axes_and_its_gradients_sum_over_them(layer: Typed) -> None:
    call = layer([[1, 2, 3]], [[10], [20]])
    call.gives([[11, 12, 13], [21, 22, 23]])
    call.pulls([[1, 2, 3], [4, 5, 6]], [[5, 7, 9]], [[6], [15]])
    # z lacks the first axis of x.
    call = layer([[1, 2], [3, 4], [5, 6]], [10, 20])
    call.gives([[11, 22], [13, 24], [15, 26]])
    call.pulls([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]], [9, 12])
    call = layer(3, [[1, 2]])
    call.gives([[4, 5]])
    call.pulls([[5, -7]], -2, [[5, -7]])
    call = layer(1, 2)
    call.gives(3)
    call.pulls(4, 4, 4)


@both("add")
def test_a_sum_that_nothing_reads_has_a_gradient_of_zero(layer: Typed) -> None:
    call = layer([7], np.zeros((2, 0)))
    call.gives(np.zeros((2, 0)))
    call.pulls(np.zeros((2, 0)), [0], np.zeros((2, 0)))


@both("concat")
def test_arrays_are_joined_in_their_order(layer: Typed) -> None:
    call = layer([[1], [2]], [[3, 4], [5, 6]], np.zeros((2, 0)), [[7], [8]], axis=1)
    call.gives([[1, 3, 4, 7], [2, 5, 6, 8]])
    call.pulls([[1, 2, 3, 4], [5, 6, 7, 8]], [[1], [5]], [[2, 3], [6, 7]], np.zeros((2, 0)), [[4], [8]])
    call = layer([[1, 2]], [[3, 4], [5, 6]], axis=-2)
    call.gives([[1, 2], [3, 4], [5, 6]])
    call.pulls([[1, 2], [3, 4], [5, 6]], [[1, 2]], [[3, 4], [5, 6]])


# Laws. All arrays are of integers, so both sides are equal.


def versions(*names: str) -> pytest.MarkDecorator:
    """Run a test for every pair of versions of these layers."""
    pairs = list(itertools.product(*(LAYERS[name].implementations for name in names)))
    return pytest.mark.parametrize("found", pairs, ids=lambda pair: "-".join(each.name for each in pair))


def some(shape: Sequence[int], seed: int = 0) -> Array:
    """Small integers of this shape."""
    return np.random.default_rng(seed).integers(-4, 5, tuple(shape)).astype(np.float64)


def same(got: Any, right: Any) -> None:
    """Equal in shape, dtype and every entry."""
    np.testing.assert_array_equal(got, right, strict=True)


@versions("unfold2d", "fold2d")
@given(case=LAYERS["unfold2d"].cases(), seed=st.integers(0, 99))
def test_unfolding_and_folding_are_adjoint(found: Any, case: Case, seed: int) -> None:
    unfold, fold = found
    x = array(case)
    columns, cache = unfold.forward(x, **case.options)
    dy = some(columns.shape, seed)
    folded, fold_cache = fold.forward(dy, output_size=x.shape[2:], **case.options)
    assert np.vdot(dy, columns) == np.vdot(folded, x)
    same(unfold.backward(dy, cache)[0], folded)
    same(fold.backward(x, fold_cache)[0], columns)


@versions("unfold2d")
@given(case=LAYERS["conv2d"].cases())
def test_a_convolution_is_its_filters_times_the_unfolded_image(found: Any, case: Case) -> None:
    x, w = array(case), array(case, 1)
    options = {key: value for key, value in case.options.items() if key != "groups"}
    w = np.repeat(w[:, :1], x.shape[1], axis=1)
    y, _ = conv2d.naive.forward(x, w, **options)
    columns, _ = found[0].forward(x, kernel_size=w.shape[2:], **options)
    same((w.reshape(len(w), columns.shape[1]) @ columns).reshape(y.shape), y)


@versions("unfold2d", "fold2d")
@given(case=LAYERS["unfold2d"].cases())
def test_folding_back_counts_the_windows_that_cover_an_entry(found: Any, case: Case) -> None:
    x, kernel = array(case), strategies.both(case.options["kernel_size"])
    rows, columns = sliding_axes(x.shape[2:], kernel, **{k: v for k, v in case.options.items() if k != "kernel_size"})
    counts = [
        [sum(axis.source(o, t) == place for o in range(axis.out) for t in range(axis.kernel)) for place in range(size)]
        for axis, size in zip((rows, columns), x.shape[2:], strict=True)
    ]
    unfolded, _ = found[0].forward(x, **case.options)
    folded, _ = found[1].forward(unfolded, output_size=x.shape[2:], **case.options)
    same(folded, x * np.multiply.outer(*(np.array(each, float) for each in counts)))


@versions("conv_transpose2d")
@given(case=LAYERS["conv_transpose2d"].cases())
def test_a_transposed_convolution_is_the_input_gradient_of_a_convolution(found: Any, case: Case) -> None:
    x, w, b = array(case), array(case, 1), case.arrays[2]
    y, cache = found[0].forward(x, w, b, **case.options)
    options = {key: value for key, value in case.options.items() if key != "output_padding"}
    _, of_conv = conv2d.naive.forward(y, w, **options)
    if of_conv.y_shape != x.shape:
        return  # an output_padding beyond the stride has room for one more window
    dx, _, _ = conv2d.naive.backward(x, of_conv)
    assert dx is not None
    same(y, dx if b is None else dx + b[:, None, None])
    # The gradient of x is that convolution itself. That of w pairs dy and x, as the convolution pairs x and dy.
    dy = some(y.shape)
    gradients = found[0].backward(dy, cache)
    convolved, of_dy = conv2d.naive.forward(dy, w, **options)
    same(gradients[0], convolved)
    same(gradients[1], conv2d.naive.backward(x, of_dy)[1])


@versions("conv_transpose2d")
@given(case=LAYERS["conv_transpose2d"].cases(), data=st.data())
def test_a_single_entry_lays_down_the_kernels_of_its_channel(found: Any, case: Case, data: st.DataObject) -> None:
    x, w, options = array(case), array(case, 1), dict(case.options)
    one = np.zeros((1, *x.shape[1:]))
    c, i, j = (data.draw(st.integers(0, size - 1)) for size in x.shape[1:])
    one[0, c, i, j] = 1
    groups = options["groups"]
    (sh, sv), (dh, dv) = strategies.both(options["stride"]), strategies.both(options["dilation"])
    (top, bottom), (left, right) = strategies.sides(options["padding"], w.shape[2:], (dh, dv))
    y, _ = found[0].forward(one, w, None, **options)
    yp = np.zeros((1, y.shape[1], y.shape[2] + top + bottom, y.shape[3] + left + right))
    first = c // (x.shape[1] // groups) * w.shape[1]
    for f, p, q in itertools.product(*map(range, w.shape[1:])):
        yp[0, first + f, i * sh + p * dh, j * sv + q * dv] = w[c, f, p, q]
    same(y, yp[:, :, top : yp.shape[2] - bottom, left : yp.shape[3] - right])


@versions("pad2d")
@given(case=LAYERS["pad2d"].cases())
def test_padding_a_turned_image_turns_the_padded_image(found: Any, case: Case) -> None:
    x, options = array(case), dict(case.options)
    (top, bottom), (left, right) = strategies.sides(options.pop("pad"))
    y, _ = found[0].forward(x, pad=((top, bottom), (left, right)), **options)
    same(found[0].forward(x[:, :, ::-1], pad=((bottom, top), (left, right)), **options)[0], y[:, :, ::-1])
    same(found[0].forward(x[..., ::-1], pad=((top, bottom), (right, left)), **options)[0], y[..., ::-1])
    same(found[0].forward(x.swapaxes(2, 3), pad=((left, right), (top, bottom)), **options)[0], y.swapaxes(2, 3))


@versions("pad2d")
@given(x=strategies.integers((2, 1, 4, 3)), before=st.integers(0, 2), after=st.integers(0, 2), seed=st.integers(0, 99))
def test_every_mode_continues_the_image_in_its_way(found: Any, x: Array, before: int, after: int, seed: int) -> None:
    pad = ((before, after), (0, 0))
    zeros, ones = np.zeros((2, 1, 9, 3)), np.ones((2, 1, 9, 3))
    edges = np.concatenate([ones * x[:, :, :1], x, ones * x[:, :, -1:]], axis=2)
    mirrored = np.concatenate([x[:, :, :0:-1], x, x[:, :, -2::-1]], axis=2)
    continued = {
        "constant": (np.concatenate([zeros + 7, x, zeros + 7], axis=2), 9),
        "replicate": (edges, 9),
        "reflect": (mirrored, 3),
        "circular": (np.concatenate([x, x, x], axis=2), 4),
    }
    for mode, (endless, origin) in continued.items():
        y, cache = found[0].forward(x, pad=pad, mode=mode, **({"value": 7} if mode == "constant" else {}))
        same(y, endless[:, :, origin - before : origin + 4 + after])
        # Cropping undoes it, and its gradients are adjoint: <dy, y(x) - y(0)> = <dx, x>.
        same(found[0].forward(y, pad=((-before, -after), (0, 0)), mode=mode)[0], x)
        dy = some(y.shape, seed)
        at_zero, _ = found[0].forward(0 * x, pad=pad, mode=mode, **({"value": 7} if mode == "constant" else {}))
        assert np.vdot(dy, y - at_zero) == np.vdot(found[0].backward(dy, cache)[0], x)


@versions("add")
@given(case=LAYERS["add"].cases(), seed=st.integers(0, 99))
def test_a_sum_commutes_and_with_zero_repeats(found: Any, case: Case, seed: int) -> None:
    x, z = array(case), array(case, 1)
    y, cache = found[0].forward(x, z)
    same(found[0].forward(z, x)[0], y)
    same(found[0].forward(x, np.zeros_like(z))[0], np.broadcast_to(x, y.shape))
    dy = some(y.shape, seed)
    for k, (each, gradient) in enumerate(zip((x, z), found[0].backward(dy, cache), strict=True)):
        # Every entry of dy is counted once, and <dy, y(v) - y(0)> = <gradient, v>.
        assert gradient.sum() == dy.sum()
        moved, still = ([np.zeros_like(x), np.zeros_like(z)] for _ in range(2))
        moved[k] = some(each.shape, seed + 1)
        assert np.vdot(dy, found[0].forward(*moved)[0] - found[0].forward(*still)[0]) == np.vdot(gradient, moved[k])


@versions("concat")
@given(case=LAYERS["concat"].cases())
def test_backward_of_what_was_joined_takes_it_apart(found: Any, case: Case) -> None:
    y, cache = found[0].forward(*case.arrays, **case.options)
    for given_array, gradient in zip(case.arrays, found[0].backward(y, cache), strict=True):
        same(gradient, given_array)
    # Joined one after the other it is the same, and along the first axis the bytes follow each other.
    step = array(case)
    for other in case.arrays[1:]:
        step, _ = found[0].forward(step, other, **case.options)
    same(step, y)
    axis = case.options["axis"]
    parts = [np.moveaxis(each, axis, 0) for each in case.arrays if each is not None]
    assert np.moveaxis(y, axis, 0).tobytes() == b"".join(part.tobytes() for part in parts)


# Extreme values.

FINFO = np.finfo(np.float64)
EXTREME = [
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    -1e308,
    1e4,
    float(FINFO.smallest_subnormal),
    -float(FINFO.tiny),
    -0.0,
    1,
]
ONE_STEP = {"stride": 1, "dilation": 1}
# layer -> shapes and options under which no sum has more than two terms: their order does not matter.
SMALL: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "unfold2d": (((1, 2, 2, 5),), {"kernel_size": (1, 2), "padding": (0, 1), **ONE_STEP}),
    "fold2d": (((1, 2, 10),), {"output_size": (2, 6), "kernel_size": (1, 2), "padding": 0, **ONE_STEP}),
    "conv_transpose2d": (((1, 1, 2, 5), (1, 1, 1, 2)), {"padding": (0, 1), **ONE_STEP}),
    "pad2d": (((1, 2, 2, 5),), {"pad": (0, 1), "mode": "circular"}),
    "add": (((2, 10), (10,)), {}),
    "concat": (((2, 5), (2, 1)), {"axis": 1}),
}


def extremes(shape: Sequence[int], turn: int, most: float) -> Array:
    """The extreme values, the finite ones up to `most`, in another order for each turn."""
    values = [min(max(each, -most), most) if math.isfinite(each) else each for each in EXTREME]
    found: Array = np.resize(np.roll(values, turn), tuple(shape))
    return found


def agree(got: Any, right: Any) -> None:
    """Equal in shape, dtype, and every entry, NaN and the sign of infinity included."""
    np.testing.assert_array_equal(np.asarray(got), np.asarray(right), strict=True)


@pytest.mark.parametrize("turn", range(len(EXTREME)))
@pytest.mark.parametrize("name", SMALL)
def test_extreme_values_go_the_same_way_in_all_versions_and_in_pytorch(name: str, turn: int) -> None:
    torch = pytest.importorskip("torch")
    shapes, options = SMALL[name]
    # A product that is rounded, or overflows, is another than one that is fused with the sum: no factor is 1e308.
    most = 2.0**1020 if name == "conv_transpose2d" else 1e308
    for position in range(len(shapes) + 1):  # the extremes in one array, at last in dy
        arrays = [extremes(s, turn, most) if k == position else some(s, k) for k, s in enumerate(shapes)]
        leaves = [torch.tensor(each, requires_grad=True) for each in arrays]
        bias = [None] if name == "conv_transpose2d" else []
        wanted = LAYERS[name].torch(torch, *leaves, *bias, **options)  # type: ignore[misc]
        dy = extremes(wanted.shape, turn, most) if position == len(shapes) else some(wanted.shape, 9)
        wanted.backward(torch.tensor(dy))
        for version in LAYERS[name].implementations:
            with np.errstate(all="ignore"):
                y, cache = version.forward(*arrays, **options)
                gradients = version.backward(dy, cache)
            agree(y, wanted.detach().numpy())
            for leaf, gradient in zip(leaves, gradients, strict=False):
                agree(gradient, leaf.grad.numpy())


@pytest.mark.parametrize("name", SMALL)
def test_an_infinite_entry_reaches_its_own_outputs_alone(name: str) -> None:
    shapes, options = SMALL[name]
    arrays = [some(s, k) + 5 for k, s in enumerate(shapes)]  # all entries are above 0, so no product is NaN
    for version in LAYERS[name].implementations:
        finite, _ = version.forward(*arrays, **options)
        for value in (math.inf, -math.inf, math.nan):
            changed = [arrays[0].copy(), *arrays[1:]]
            changed[0].flat[3] = value
            moved = arrays[0].copy()
            moved.flat[3] += 1
            touched = version.forward(moved, *arrays[1:], **options)[0] != finite
            y, _ = version.forward(*changed, **options)
            assert touched.any()
            assert not np.isfinite(y[touched]).any()
            agree(y[~touched], finite[~touched])


def test_an_infinite_weight_times_the_cropped_rim_is_nan() -> None:
    # dy is padded with zeros where y was cropped: inf * 0. PyTorch says so in float64, and skips the rim in float32.
    for version in LAYERS["conv_transpose2d"].implementations:
        x, w = np.ones((1, 1, 1, 2)), np.array([[[[math.inf, 1.0]]]])
        y, cache = version.forward(x, w, padding=((0, 0), (1, 0)))
        with np.errstate(invalid="ignore"):
            dx, _, _ = version.backward(np.ones(y.shape), cache)
        assert dx is not None
        assert np.isnan(dx[0, 0, 0, 0])
        assert dx[0, 0, 0, 1] == math.inf


EMPTY: dict[str, list[tuple[tuple[tuple[int, ...], ...], dict[str, Any], tuple[int, ...]]]] = {
    "unfold2d": [
        (((0, 2, 3, 4),), {"kernel_size": 2}, (0, 8, 6)),
        (((2, 0, 3, 4),), {"kernel_size": 2}, (2, 0, 6)),
        (((1, 1, 0, 1),), {"kernel_size": 1, "padding": 1}, (1, 1, 6)),
    ],
    "fold2d": [
        (((0, 8, 6),), {"output_size": (3, 4), "kernel_size": 2}, (0, 2, 3, 4)),
        (((2, 0, 6),), {"output_size": (3, 4), "kernel_size": 2}, (2, 0, 3, 4)),
    ],
    "conv_transpose2d": [
        (((0, 2, 3, 4), (2, 3, 2, 2), (3,)), {}, (0, 3, 4, 5)),
        (((2, 0, 3, 4), (0, 3, 2, 2), (3,)), {}, (2, 3, 4, 5)),
        (((2, 2, 3, 4), (2, 0, 2, 2), (0,)), {}, (2, 0, 4, 5)),
    ],
    "pad2d": [
        *((((0, 2, 3, 4),), {"pad": 1, "mode": mode}, (0, 2, 5, 6)) for mode in PADDED),
        *((((2, 0, 3, 4),), {"pad": 1, "mode": mode}, (2, 0, 5, 6)) for mode in PADDED),
        *((((2, 2, 3, 4),), {"pad": (0, -2), "mode": mode}, (2, 2, 3, 0)) for mode in PADDED),
        (((2, 2, 0, 4),), {"pad": 1}, (2, 2, 2, 6)),
    ],
    "add": [(((0, 3), (1,)), {}, (0, 3)), (((1, 3), (0, 1)), {}, (0, 3))],
    "concat": [(((0, 3), (0, 2)), {"axis": 1}, (0, 5)), (((0,), (0,), (0,)), {"axis": 0}, (0,))],
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_arrays_give_empty_or_zero_results(name: str) -> None:
    for shapes, options, wanted in EMPTY[name]:
        arrays = [np.ones(each) for each in shapes]
        for version in LAYERS[name].implementations:
            y, cache = version.forward(*arrays, **options)
            assert y.shape == wanted
            for given_array, gradient in zip(arrays, version.backward(np.ones_like(y), cache), strict=False):
                assert gradient is not None
                assert gradient.shape == given_array.shape


@pytest.mark.parametrize(
    ("name", "arrays", "options", "message"),
    [
        (
            "fold2d",
            (np.ones((1, 5, 4)),),
            {"output_size": (3, 4), "kernel_size": (2, 3)},
            "kernel_size (2, 3) needs a multiple of 6 rows, x has 5",
        ),
        (
            "conv_transpose2d",
            (np.ones((1, 1, 2, 2)), np.ones((1, 1, 2)), None),
            {},
            "w must have 4 axes (C F/groups kH kW), got shape (1, 1, 2)",
        ),
        (
            "conv2d",
            (np.ones((1, 1, 2, 2)), np.ones((1, 1, 2)), None),
            {},
            "w must have 4 axes (F C/groups kH kW), got shape (1, 1, 2)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, arrays: Any, options: Any, message: str) -> None:
    for version in LAYERS[name].implementations:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            version.forward(*arrays, **options)


@pytest.mark.parametrize("layer", LAYERS["pad2d"].implementations, ids=lambda each: each.name)
def test_the_largest_number_of_a_dtype_is_no_value_beyond_it(layer: Implementation) -> None:
    largest = float(np.finfo(np.float32).max)
    y, _ = layer.forward(np.ones((1, 1, 1, 1), np.float32), pad=((0, 0), (0, 1)), value=largest)
    assert y.tolist() == [[[[1.0, largest]]]]
    with pytest.raises(ValueError, match="is beyond dtype float32"):
        layer.forward(np.ones((1, 1, 1, 1), np.float32), pad=1, value=-1.1 * largest)
