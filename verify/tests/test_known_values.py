"""Numbers worked by hand, small enough to check by eye: what is wrong in both versions of a layer shows here.

Where weights are powers of ten, the digits of an output are the entries of x that its window read.
Every case runs in float32, float64 and complex128, and y and all gradients must keep that dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from cnn_core import Implementation
from verify.layers import LAYERS

Array = NDArray[Any]

DIGITS = np.array([[[[1, 10], [100, 1000]]]])
NAN, INF = math.nan, math.inf


def both(name: str, dtypes: Sequence[type] = (np.float32, np.float64, np.complex128)) -> pytest.MarkDecorator:
    """Run a test for both versions of a layer, in each dtype."""
    versions = [(version, dtype) for version in LAYERS[name].implementations for dtype in dtypes]
    ids = [f"{name}-{version.name}-{dtype.__name__}" for version, dtype in versions]
    return pytest.mark.parametrize(("layer", "dtype"), versions, ids=ids)


def image(*rows: Sequence[float]) -> Array:
    """One image of one channel."""
    return np.array([[rows]])


def expect(
    layer: Implementation,
    dtype: type,
    arrays: Sequence[ArrayLike | None],
    *,
    y: ArrayLike,
    dy: ArrayLike,
    gradients: Sequence[ArrayLike | None],
    **options: Any,
) -> Any:
    """Forward and backward give these very numbers, shapes and dtype; returns the cache."""
    given = [None if array is None else np.array(array, dtype) for array in arrays]
    actual, cache = layer.forward(*given, **options)
    np.testing.assert_array_equal(actual, np.array(y, dtype), strict=True)
    for gradient, right in zip(layer.backward(np.array(dy, dtype), cache), gradients, strict=True):
        if right is None:
            assert gradient is None
        else:
            assert gradient is not None
            np.testing.assert_array_equal(gradient, np.array(right, dtype), strict=True)
    return cache


# conv2d


@both("conv2d")
def test_convolution_does_not_flip_its_kernel(layer: Implementation, dtype: type) -> None:
    # y[0,0] = 1*1 + 2*2 + 4*3 + 5*4 + 10 = 47, and one step right adds 1 + 2 + 3 + 4, one step down three times that.
    # dx: dy = 1, -1, 2 each lay a copy of w at their window. dw[0,0] = 1*1 - 1*2 + 2*4, likewise the others.
    expect(
        layer,
        dtype,
        (image([1, 2, 3], [4, 5, 6], [7, 8, 9]), image([1, 2], [3, 4]), [10]),
        y=image([47, 57], [77, 87]),
        dy=image([1, -1], [2, 0]),
        gradients=(image([1, 1, -2], [5, 5, -4], [6, 8, 0]), image([7, 9], [13, 15]), [2]),
    )


@both("conv2d")
def test_convolution_pads_and_strides_each_side_by_its_own_amount(layer: Implementation, dtype: type) -> None:
    # One row of zeros above, two columns behind; stride 2 along the width leaves the fifth column unread:
    #   0 0 0 0 0        windows at rows 0, 1 and columns 0, 2
    #   1 2 3 0 0        dx[0,0] = 1*100 + 3*1: tap (1,0) of window (0,0), tap (0,0) of window (1,0)
    #   4 5 6 0 0        dw[1,0] = 1*1 - 2*3 + 3*4 + 4*6
    expect(
        layer,
        dtype,
        (image([1, 2, 3], [4, 5, 6]), DIGITS),
        y=image([2100, 300], [5421, 603]),
        dy=image([1, -2], [3, 4]),
        gradients=(image([103, 1030, -196], [300, 3000, 400]), image([15, 6], [31, 17]), None),
        stride=(1, 2),
        padding=((1, 0), (0, 2)),
    )


@both("conv2d")
def test_convolution_spreads_its_taps_by_the_dilation_of_each_axis(layer: Implementation, dtype: type) -> None:
    # Taps two rows apart: the middle row is never read, and has no gradient.
    x = image([1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 3])
    expect(
        layer,
        dtype,
        (x, DIGITS),
        y=image([1921, 2132, 3243]),
        dy=image([1, 0, -2]),
        gradients=(image([1, 10, -2, -20], [0, 0, 0, 0], [100, 1000, -200, -2000]), image([-5, -6], [5, -5]), None),
        dilation=(2, 1),
    )
    # Taps three columns apart as well: the four corners.
    expect(
        layer,
        dtype,
        (x, DIGITS),
        y=image([3941]),
        dy=image([2]),
        gradients=(image([2, 0, 0, 20], [0, 0, 0, 0], [200, 0, 0, 2000]), image([2, 8], [18, 6]), None),
        dilation=(2, 3),
    )


@both("conv2d")
def test_convolution_gives_each_group_its_own_channels_and_filters(layer: Implementation, dtype: type) -> None:
    # Channels 0 and 1 go to filter 0, channels 2 and 3 to filter 1.
    expect(
        layer,
        dtype,
        (np.reshape([1, 2, 3, 4], (1, 4, 1, 1)), np.reshape([1, 10, 100, 1000], (2, 2, 1, 1)), [5, 6]),
        y=np.reshape([26, 4306], (1, 2, 1, 1)),
        dy=np.reshape([1, -1], (1, 2, 1, 1)),
        gradients=(
            np.reshape([1, 10, -100, -1000], (1, 4, 1, 1)),
            np.reshape([1, 2, -3, -4], (2, 2, 1, 1)),
            [1, -1],
        ),
        groups=2,
    )
    # Depthwise with two filters a channel: filters 0 and 1 read channel 0, filters 2 and 3 channel 1.
    expect(
        layer,
        dtype,
        (np.reshape([2, 3], (1, 2, 1, 1)), np.reshape([1, 10, 100, 1000], (4, 1, 1, 1))),
        y=np.reshape([2, 20, 300, 3000], (1, 4, 1, 1)),
        dy=np.reshape([1, -1, 2, 1], (1, 4, 1, 1)),
        gradients=(np.reshape([-9, 1200], (1, 2, 1, 1)), np.reshape([2, -2, 6, 3], (4, 1, 1, 1)), None),
        groups=2,
    )


@both("conv2d")
def test_same_padding_puts_the_odd_zero_behind(layer: Implementation, dtype: type) -> None:
    # 1 2 3 (0): windows 12, 23, 3(0). In front it would be 10, 21, 32.
    row, pair, y, dx = [[1, 2, 3]], [[1, 10]], [[21, 32, 3]], [[1, 12, 23]]
    expect(
        layer,
        dtype,
        (image(*row), image(*pair)),
        y=image(*y),
        dy=image([1, 2, 3]),
        gradients=(image(*dx), image([14, 8]), None),
        padding="same",
    )
    column, pair, y, dx = ([[entry] for entry in line[0]] for line in (row, pair, y, dx))
    expect(
        layer,
        dtype,
        (image(*column), image(*pair)),
        y=image(*y),
        dy=image([1], [2], [3]),
        gradients=(image(*dx), image([14], [8]), None),
        padding="same",
    )
    # Two taps three apart need three zeros: one in front, two behind. (0) 1 2 3 4 (0 0): 0+3, 1+4, 2+0, 3+0.
    expect(
        layer,
        dtype,
        (image([1, 2, 3, 4]), image([1, 10])),
        y=image([30, 41, 2, 3]),
        dy=image([1, 2, 0, 0]),
        gradients=(image([2, 0, 10, 20]), image([2, 11]), None),
        padding="same",
        dilation=(1, 3),
    )


@both("conv2d")
def test_convolution_sums_over_images_and_keeps_them_apart(layer: Implementation, dtype: type) -> None:
    # 1x1 images: y = x w' + b, dx = dy w, dw = dy' x; image 0 is (1, 2), image 1 is (3, 4).
    expect(
        layer,
        dtype,
        (
            np.reshape([[1, 2], [3, 4]], (2, 2, 1, 1)),
            np.reshape([[1, 0], [0, 1], [1, 1]], (3, 2, 1, 1)),
            [10, 20, 30],
        ),
        y=np.reshape([[11, 22, 33], [13, 24, 37]], (2, 3, 1, 1)),
        dy=np.reshape([[1, 0, 2], [0, 1, -4]], (2, 3, 1, 1)),
        gradients=(
            np.reshape([[3, 2], [-4, -3]], (2, 2, 1, 1)),
            np.reshape([[1, 2], [3, 4], [-10, -12]], (3, 2, 1, 1)),
            [1, 1, -2],
        ),
    )


@both("conv2d")
def test_a_window_wholly_in_the_padding_yields_the_bias(layer: Implementation, dtype: type) -> None:
    # A 5 with two rings of zeros around it, read by a 1x1 kernel at every second place: only the middle sees it.
    expect(
        layer,
        dtype,
        (image([5]), image([3]), [1]),
        y=image([1, 1, 1], [1, 16, 1], [1, 1, 1]),
        dy=image([1, 2, 3], [4, -5, 6], [7, 8, 9]),
        gradients=(image([-15]), image([-25]), [35]),
        stride=2,
        padding=2,
    )


@both("conv2d")
def test_convolution_of_no_image_has_zero_weight_gradients(layer: Implementation, dtype: type) -> None:
    expect(
        layer,
        dtype,
        (np.zeros((0, 2, 4, 5)), np.ones((3, 2, 2, 2)), [1, 2, 3]),
        y=np.zeros((0, 3, 3, 4)),
        dy=np.zeros((0, 3, 3, 4)),
        gradients=(np.zeros((0, 2, 4, 5)), np.zeros((3, 2, 2, 2)), [0, 0, 0]),
    )


@both("conv2d", [np.complex128])
def test_complex_convolution_conjugates_nothing(layer: Implementation, dtype: type) -> None:
    # i (2 + i) = -1 + 2i; upstream i: dx = i w, dw = i i.
    expect(
        layer,
        dtype,
        (np.reshape(1j, (1, 1, 1, 1)), np.reshape(2 + 1j, (1, 1, 1, 1)), [3j]),
        y=np.reshape(-1 + 5j, (1, 1, 1, 1)),
        dy=np.reshape(1j, (1, 1, 1, 1)),
        gradients=(np.reshape(-1 + 2j, (1, 1, 1, 1)), np.reshape(-1, (1, 1, 1, 1)), [1j]),
    )


# max_pool2d


def expect_pool(
    layer: Implementation,
    dtype: type,
    x: Array,
    *,
    y: ArrayLike,
    indices: ArrayLike,
    dy: ArrayLike,
    dx: ArrayLike,
    **options: Any,
) -> None:
    """As `expect`, with the winners' indices."""
    cache = expect(layer, dtype, (x,), y=y, dy=dy, gradients=(dx,), **options)
    np.testing.assert_array_equal(cache.indices, np.array(indices, np.int64), strict=True)


@both("max_pool2d")
def test_pooling_adds_the_gradients_of_overlapping_windows(layer: Implementation, dtype: type) -> None:
    # All four windows hold the 9: it collects 1 + 2 + 3 - 1. Assigning would leave -1.
    expect_pool(
        layer,
        dtype,
        image([1, 2, 3], [4, 9, 5], [7, 8, 6]),
        y=image([9, 9], [9, 9]),
        indices=image([4, 4], [4, 4]),
        dy=image([1, 2], [3, -1]),
        dx=image([0, 0, 0], [0, 5, 0], [0, 0, 0]),
        kernel_size=2,
        stride=1,
    )


@both("max_pool2d")
def test_the_first_tied_maximum_in_row_major_order_takes_all(layer: Implementation, dtype: type) -> None:
    # In the second plane the 7 at the right of row 0 comes before the 7 at the left of row 1.
    expect_pool(
        layer,
        dtype,
        np.array([[[[3, 3], [3, 3]], [[0, 7], [7, 0]]]]),
        y=[[[[3]], [[7]]]],
        indices=[[[[0]], [[1]]]],
        dy=[[[[5]], [[-2]]]],
        dx=[[[[5, 0], [0, 0]], [[0, -2], [0, 0]]]],
        kernel_size=2,
    )


@both("max_pool2d")
def test_the_last_nan_of_a_window_wins_over_every_number(layer: Implementation, dtype: type) -> None:
    # Three planes: NaN before infinity; two NaN in a column; NaN in the last place.
    expect_pool(
        layer,
        dtype,
        np.array([[[[NAN, INF], [1, 2]], [[NAN, 1], [NAN, 2]], [[INF, 1], [2, NAN]]]]),
        y=[[[[NAN]], [[NAN]], [[NAN]]]],
        indices=[[[[0]], [[2]], [[3]]]],
        dy=[[[[5]], [[-2]], [[3]]]],
        dx=[[[[5, 0], [0, 0]], [[0, 0], [-2, 0]], [[0, 0], [0, 3]]]],
        kernel_size=2,
    )


@both("max_pool2d")
def test_minus_infinity_everywhere_still_has_a_winner_inside_the_image(layer: Implementation, dtype: type) -> None:
    plane = image([-INF, -INF], [-INF, -INF])
    expect_pool(
        layer, dtype, plane, y=image([-INF]), indices=image([0]), dy=image([4]), dx=image([4, 0], [0, 0]), kernel_size=2
    )
    # Each window holds one entry of the image and three of the padding.
    expect_pool(
        layer,
        dtype,
        plane,
        y=plane,
        indices=image([0, 1], [2, 3]),
        dy=image([1, -2], [3, 4]),
        dx=image([1, -2], [3, 4]),
        kernel_size=2,
        padding=1,
    )


@both("max_pool2d")
def test_padding_never_wins_against_very_negative_values(layer: Implementation, dtype: type) -> None:
    low = float(np.finfo(np.float32).min)
    expect_pool(
        layer,
        dtype,
        image([low, low / 2]),
        y=image([low, low / 2, low / 2]),
        indices=image([0, 1, 1]),
        dy=image([1, 2, 3]),
        dx=image([1, 5]),
        kernel_size=(3, 2),
        stride=1,
        padding=1,
    )


@both("max_pool2d")
def test_indices_count_along_the_unpadded_plane_of_each_channel(layer: Implementation, dtype: type) -> None:
    # Row of windows 0 reads the padding and row 0 of x, the next rows 0 and 1, the last row 1 and the padding.
    expect_pool(
        layer,
        dtype,
        np.array([[[[1, 2, 3], [4, 5, 6]], [[6, 5, 4], [3, 2, 1]]]]),
        y=[[[[2, 3], [5, 6], [5, 6]], [[6, 5], [6, 5], [3, 2]]]],
        indices=[[[[1, 2], [4, 5], [4, 5]], [[0, 1], [0, 1], [3, 4]]]],
        dy=[[[[1, 2], [3, 4], [5, 6]], [[1, -1], [2, -2], [3, -3]]]],
        dx=[[[[0, 1, 2], [0, 8, 10]], [[3, -3, 0], [3, -3, 0]]]],
        kernel_size=2,
        stride=1,
        padding=(1, 0),
    )


@both("max_pool2d")
def test_ceil_mode_pools_what_is_left_over(layer: Implementation, dtype: type) -> None:
    row = image([1, 2, 3, 4, 5])
    expect_pool(
        layer,
        dtype,
        row,
        y=image([2, 4]),
        indices=image([1, 3]),
        dy=image([1, 2]),
        dx=image([0, 1, 0, 2, 0]),
        kernel_size=(1, 2),
    )
    expect_pool(
        layer,
        dtype,
        row,
        y=image([2, 4, 5]),
        indices=image([1, 3, 4]),
        dy=image([1, 2, 3]),
        dx=image([0, 1, 0, 2, 3]),
        kernel_size=(1, 2),
        ceil_mode=True,
    )


@both("max_pool2d")
def test_ceil_mode_adds_no_window_that_starts_behind_the_image(layer: Implementation, dtype: type) -> None:
    # (0) 1 2 3 4 (0), starts at 0, 3, 6: the third would start behind the padding, and 6 - 1 is past the image.
    expect_pool(
        layer,
        dtype,
        image([1, 2, 3, 4]),
        y=image([1, 4]),
        indices=image([0, 3]),
        dy=image([1, 2]),
        dx=image([1, 0, 0, 2]),
        kernel_size=(1, 2),
        stride=(1, 3),
        padding=(0, 1),
        ceil_mode=True,
    )
    # 1 2 3, starts at 0 and 3: the second holds nothing.
    expect_pool(
        layer,
        dtype,
        image([1, 2, 3]),
        y=image([2]),
        indices=image([1]),
        dy=image([1]),
        dx=image([0, 1, 0]),
        kernel_size=(1, 2),
        stride=(1, 3),
        ceil_mode=True,
    )


@both("max_pool2d")
def test_pooling_spreads_its_taps_and_strides_by_the_kernel(layer: Implementation, dtype: type) -> None:
    # Taps two apart: (9, 8), (1, 2), (8, 7).
    expect_pool(
        layer,
        dtype,
        image([9, 1, 8, 2, 7]),
        y=image([9, 2, 8]),
        indices=image([0, 3, 2]),
        dy=image([1, 2, 3]),
        dx=image([1, 0, 3, 2, 0]),
        kernel_size=(1, 2),
        stride=1,
        dilation=(1, 2),
    )
    # The default stride is the kernel, (1, 2), not its first or last entry.
    expect_pool(
        layer,
        dtype,
        image([1, 2, 3, 4], [8, 7, 6, 5]),
        y=image([2, 4], [8, 6]),
        indices=image([1, 3], [4, 6]),
        dy=image([1, 2], [3, 4]),
        dx=image([0, 1, 0, 2], [3, 0, 4, 0]),
        kernel_size=(1, 2),
    )


@both("max_pool2d")
def test_pooling_pads_each_side_by_its_own_amount(layer: Implementation, dtype: type) -> None:
    # One place in front: {1}, {2, 3}. One behind: {1, 2}, {3}.
    column, dy = image([1], [2], [3]), image([5], [-7])
    expect_pool(
        layer,
        dtype,
        column,
        y=image([1], [3]),
        indices=image([0], [2]),
        dy=dy,
        dx=image([5], [0], [-7]),
        kernel_size=(2, 1),
        padding=((1, 0), (0, 0)),
    )
    expect_pool(
        layer,
        dtype,
        column,
        y=image([2], [3]),
        indices=image([1], [2]),
        dy=dy,
        dx=image([0], [5], [-7]),
        kernel_size=(2, 1),
        padding=((0, 1), (0, 0)),
    )


@both("max_pool2d", [np.complex128])
def test_complex_maxima_are_chosen_by_real_part(layer: Implementation, dtype: type) -> None:
    # 2 - 9i beats 1 + 50i by its real part; its tie with 2 + 9i goes to the first.
    expect_pool(
        layer,
        dtype,
        np.array([[[[1 + 50j, 2 - 9j], [2 + 9j, -3]]]]),
        y=[[[[2 - 9j]]]],
        indices=[[[[1]]]],
        dy=[[[[1 - 1j]]]],
        dx=[[[[0, 1 - 1j], [0, 0]]]],
        kernel_size=2,
    )


@both("max_pool2d")
def test_pooling_of_no_image_is_empty(layer: Implementation, dtype: type) -> None:
    empty = np.zeros((0, 2, 2, 1))
    x = np.zeros((0, 2, 4, 3))
    expect_pool(layer, dtype, x, y=empty, indices=empty, dy=empty, dx=x, kernel_size=2)


# relu


@both("relu")
def test_relu_is_zero_with_zero_slope_at_zero_and_passes_nan(layer: Implementation, dtype: type) -> None:
    x = [-2, -0.0, 0, 3, NAN, -INF, INF, np.finfo(np.float32).tiny]
    y = [0, 0, 0, 3, NAN, 0, INF, np.finfo(np.float32).tiny]
    cache = expect(layer, dtype, (x,), y=y, dy=[1, 2, 3, 4, 5, 6, 7, 8], gradients=([0, 0, 0, 4, 5, 0, 7, 8],))
    # An infinite upstream gradient stays out where the slope is 0: a product with a mask would be NaN.
    (dx,) = layer.backward(np.full(8, -INF, dtype), cache)
    np.testing.assert_array_equal(dx, np.array([0, 0, 0, -INF, -INF, 0, -INF, -INF], dtype), strict=True)
    assert not np.signbit(layer.forward(np.array(x[:4], dtype))[0].real).any()


@both("relu", [np.complex128])
def test_complex_relu_branches_on_the_real_part(layer: Implementation, dtype: type) -> None:
    expect(
        layer,
        dtype,
        ([1 - 3j, -1 + 3j, 2j],),
        y=[1 - 3j, 0, 0],
        dy=[1j, 2j, 3j],
        gradients=([1j, 0, 0],),
    )


@both("relu")
def test_relu_of_a_scalar_and_of_nothing_keeps_the_shape(layer: Implementation, dtype: type) -> None:
    expect(layer, dtype, (2.0,), y=2.0, dy=-3.0, gradients=(-3.0,))
    empty = np.zeros((0, 3))
    expect(layer, dtype, (empty,), y=empty, dy=empty, gradients=(empty,))


# flatten


@both("flatten")
def test_flatten_reads_rows_first_and_leaves_images_apart(layer: Implementation, dtype: type) -> None:
    x = [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    rows = [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    expect(layer, dtype, (x,), y=rows, dy=rows, gradients=(x,))


@both("flatten")
def test_flatten_of_one_axis_and_of_empty_axes_keeps_the_batch(layer: Implementation, dtype: type) -> None:
    expect(layer, dtype, ([1, 2, 3],), y=[[1], [2], [3]], dy=[[4], [5], [6]], gradients=([4, 5, 6],))
    expect(
        layer, dtype, (np.zeros((0, 2, 3)),), y=np.zeros((0, 6)), dy=np.zeros((0, 6)), gradients=(np.zeros((0, 2, 3)),)
    )
    expect(
        layer, dtype, (np.zeros((2, 0, 3)),), y=np.zeros((2, 0)), dy=np.zeros((2, 0)), gradients=(np.zeros((2, 0, 3)),)
    )


# linear


@both("linear")
@pytest.mark.parametrize("lead", [(), (1,), (1, 1), (1, 1, 1)], ids=["none", "one", "two", "three"])
def test_linear_maps_the_last_axis_whatever_leads(layer: Implementation, dtype: type, lead: tuple[int, ...]) -> None:
    # y = (1*1 + 2*10 + 5, 1*100 + 2*1000 + 6, 1*3 - 2*1 + 7); dx[0] = 1*1 - 1*100 + 2*3; dw = dy x'.
    expect(
        layer,
        dtype,
        (np.reshape([1, 2], (*lead, 2)), [[1, 10], [100, 1000], [3, -1]], [5, 6, 7]),
        y=np.reshape([26, 2106, 8], (*lead, 3)),
        dy=np.reshape([1, -1, 2], (*lead, 3)),
        gradients=(np.reshape([-93, -992], (*lead, 2)), [[1, 2], [-1, -2], [2, 4]], [1, -1, 2]),
    )


@both("linear")
@pytest.mark.parametrize("lead", [(4,), (2, 2), (1, 4, 1)], ids=["one", "two", "three"])
def test_linear_sums_its_weight_gradients_over_all_leading_axes(
    layer: Implementation, dtype: type, lead: tuple[int, ...]
) -> None:
    # Four rows (1, 2), (3, 4), (5, 6), (7, 8) against w = (1, 10); dw = 1 (1,2) - 1 (3,4) + 2 (5,6) - 3 (7,8).
    expect(
        layer,
        dtype,
        (np.reshape([1, 2, 3, 4, 5, 6, 7, 8], (*lead, 2)), [[1, 10]]),
        y=np.reshape([21, 43, 65, 87], (*lead, 1)),
        dy=np.reshape([1, -1, 2, -3], (*lead, 1)),
        gradients=(np.reshape([1, 10, -1, -10, 2, 20, -3, -30], (*lead, 2)), [[-13, -14]], None),
    )


@both("linear")
def test_linear_of_no_image_has_zero_weight_gradients(layer: Implementation, dtype: type) -> None:
    expect(
        layer,
        dtype,
        (np.zeros((0, 2)), [[1, 10]], [5]),
        y=np.zeros((0, 1)),
        dy=np.zeros((0, 1)),
        gradients=(np.zeros((0, 2)), [[0, 0]], [0]),
    )


@both("linear", [np.complex128])
def test_complex_linear_conjugates_nothing(layer: Implementation, dtype: type) -> None:
    expect(layer, dtype, ([1j], [[2 + 1j]], [3j]), y=[-1 + 5j], dy=[1j], gradients=([-1 + 2j], [[-1]], [1j]))


# softmax_cross_entropy


def expect_loss(
    layer: Implementation,
    dtype: type,
    x: ArrayLike,
    labels: Sequence[int],
    *,
    y: ArrayLike,
    dy: ArrayLike,
    dx: ArrayLike,
    roundings: int = 4,
    **options: Any,
) -> None:
    """Loss and gradient, to so many relative roundings in each entry, in shape and dtype."""
    actual, cache = layer.forward(np.array(x, dtype), np.array(labels, np.int64), **options)
    (gradient,) = layer.backward(np.array(dy, dtype), cache)
    assert gradient is not None
    for got, value in ((actual, y), (gradient, dx)):
        right = np.array(value, dtype)
        assert isinstance(got, np.ndarray)
        assert (got.shape, got.dtype) == (right.shape, right.dtype)
        np.testing.assert_array_less(np.abs(got - right), roundings * np.finfo(dtype).eps * np.abs(right) + 1e-300)


LOG2 = math.log(2)


@both("softmax_cross_entropy")
def test_uniform_logits_lose_the_logarithm_of_the_classes(layer: Implementation, dtype: type) -> None:
    # Four equal logits: p = 1/4 each, whatever their level.
    expect_loss(
        layer,
        dtype,
        [[0, 0, 0, 0], [7, 7, 7, 7]],
        [0, 3],
        y=[2 * LOG2, 2 * LOG2],
        dy=[4, -8],
        dx=[[-3, 1, 1, 1], [-2, -2, -2, 6]],
        reduction="none",
    )
    expect_loss(layer, dtype, [[5]], [0], y=[0], dy=[3], dx=[[0]], reduction="none")


REDUCTIONS = {
    "none": ([LOG2, 2 * LOG2], [2, -4], [[1, -1], [3, -3]]),
    "sum": (3 * LOG2, 2, [[1, -1], [-1.5, 1.5]]),
    "mean": (1.5 * LOG2, 2, [[0.5, -0.5], [-0.75, 0.75]]),
}


@both("softmax_cross_entropy")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_reduction_sums_or_averages_over_all_images(layer: Implementation, dtype: type, reduction: str) -> None:
    # Image 0: p = (1/2, 1/2), label 1. Image 1: p = (1/4, 3/4), label 0, hence log 4. The mean is the default.
    y, dy, dx = REDUCTIONS[reduction]
    options = {} if reduction == "mean" else {"reduction": reduction}
    # log 3 comes rounded, which exp passes on: 8 rather than 4.
    expect_loss(layer, dtype, [[0, 0], [0, math.log(3)]], [1, 0], y=y, dy=dy, dx=dx, roundings=8, **options)


@both("softmax_cross_entropy")
def test_saturated_logits_beside_moderate_ones_make_no_nan(layer: Implementation, dtype: type) -> None:
    # exp(-2000) is 0: the right answer costs nothing, the wrong one 2000, and its neighbours log 2 as ever.
    expect_loss(
        layer,
        dtype,
        [[0, 0], [1000, -1000], [1000, -1000], [0, 0]],
        [0, 0, 1, 1],
        y=[LOG2, 0, 2000, LOG2],
        dy=[2, -3, 5, -7],
        dx=[[-1, 1], [0, 0], [5, -5], [-3.5, 3.5]],
        reduction="none",
    )


@both("softmax_cross_entropy")
def test_the_largest_logit_is_taken_off_row_by_row(layer: Implementation, dtype: type) -> None:
    # Less the largest of the whole batch, the second row would be exp(-800) = 0 twice, and 0 / 0.
    expect_loss(
        layer,
        dtype,
        [[800, 800], [0, 0], [-800, -800]],
        [0, 1, 0],
        y=[LOG2] * 3,
        dy=[2, 2, 2],
        dx=[[-1, 1], [1, -1], [-1, 1]],
        reduction="none",
    )


@both("softmax_cross_entropy")
def test_the_gradient_of_a_confident_prediction_does_not_cancel(layer: Implementation, dtype: type) -> None:
    # p = (1 - e^-40, e^-40) to rounding; computed as p - 1 the gradient at the label would be 0.
    small = math.exp(-40)
    x, labels = np.array([[40, 0]], dtype), np.array([0])
    y, cache = layer.forward(x, labels, reduction="sum")
    assert abs(y) <= np.finfo(dtype).eps
    (dx,) = layer.backward(np.array(1, dtype), cache)
    assert dx is not None
    np.testing.assert_allclose(dx, np.array([[-small, small]], dtype), rtol=4 * float(np.finfo(dtype).eps))


@both("softmax_cross_entropy")
def test_the_loss_of_no_image_is_zero_summed_and_nan_averaged(layer: Implementation, dtype: type) -> None:
    x, labels = np.zeros((0, 3), dtype), np.zeros(0, np.int64)
    for reduction, right in (("sum", np.zeros((), dtype)), ("none", np.zeros(0, dtype))):
        y, cache = layer.forward(x, labels, reduction=reduction)
        np.testing.assert_array_equal(y, right, strict=True)
        np.testing.assert_array_equal(layer.backward(right, cache)[0], x, strict=True)
    y, cache = layer.forward(x, labels)
    assert np.isnan(y)
    assert (y.shape, y.dtype) == ((), dtype)
    np.testing.assert_array_equal(layer.backward(np.ones((), dtype), cache)[0], x, strict=True)


@both("softmax_cross_entropy", [np.complex128])
def test_complex_logits_give_the_holomorphic_loss(layer: Implementation, dtype: type) -> None:
    # e^0 + e^(i pi/2) = 1 + i, whose logarithm is (log 2)/2 + i pi/4; p = (1 - i, 1 + i) / 2.
    expect_loss(
        layer,
        dtype,
        [[0, 0.5j * math.pi]],
        [0],
        y=0.5 * LOG2 + 0.25j * math.pi,
        dy=2,
        dx=[[-1 - 1j, 1 + 1j]],
        reduction="sum",
    )
