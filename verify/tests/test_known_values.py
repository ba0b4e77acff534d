"""Numbers worked by hand, small enough to check by eye: what is wrong in all versions of a layer shows here.

Where weights are powers of ten, the digits of an output are the entries of x that its window read.
Every case runs in float32, float64 and complex128, and y and all gradients must keep that dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnn_core import Implementation, conv2d, relu
from verify.layers import LAYERS

Array = NDArray[Any]

NAN, INF, LOG2 = math.nan, math.inf, math.log(2)


@dataclass(frozen=True)
class Call:
    """One forward, of which the test says what it must have given."""

    layer: Implementation
    dtype: type
    y: Any
    cache: Any

    def gives(self, y: Any, roundings: int = 0) -> None:
        """The output is y."""
        self._agree(self.y, y, roundings)

    def picks(self, indices: Any) -> None:
        """The winners of max pooling are these."""
        np.testing.assert_array_equal(self.cache.indices, np.array(indices, np.int64), strict=True)

    def pulls(self, dy: Any, *gradients: Any, roundings: int = 0) -> None:
        """Backward maps dy to these gradients."""
        for gradient, right in zip(self.layer.backward(np.array(dy, self.dtype), self.cache), gradients, strict=True):
            if right is None:
                assert gradient is None
            else:
                self._agree(gradient, right, roundings)

    def _agree(self, got: Any, value: Any, roundings: int) -> None:
        """Check shape, dtype and value. The value may differ by `roundings` relative roundings."""
        right: Array = np.array(value, self.dtype)
        if not roundings:
            np.testing.assert_array_equal(got, right, strict=True)
            return
        assert isinstance(got, np.ndarray)
        assert (got.shape, got.dtype) == (right.shape, right.dtype)
        error, allowed = np.abs(got - right), roundings * np.finfo(self.dtype).eps * np.abs(right)
        assert (error <= allowed).all(), f"{got} is not {right}"


@dataclass(frozen=True)
class Typed:
    """A version of a layer, called with numbers that are given its dtype."""

    layer: Implementation
    dtype: type

    def __call__(self, *arrays: Any, labels: Sequence[int] | None = None, **options: Any) -> Call:
        given: list[Array | None] = [None if array is None else np.array(array, self.dtype) for array in arrays]
        if labels is not None:
            given.append(np.array(labels, np.int64))
        return Call(self.layer, self.dtype, *self.layer.forward(*given, **options))


def both(name: str, dtypes: Sequence[type] = (np.float32, np.float64, np.complex128)) -> pytest.MarkDecorator:
    """Run a test for all versions of a layer, in each dtype."""
    versions = [Typed(version, dtype) for version in LAYERS[name].implementations for dtype in dtypes]
    return pytest.mark.parametrize(
        "layer", versions, ids=lambda typed: f"{name}-{typed.layer.name}-{typed.dtype.__name__}"
    )


def image(*rows: Sequence[complex]) -> Array:
    """One image of one channel."""
    return np.array([[rows]])


def pixels(*images: Sequence[complex]) -> Array:
    """Images of one pixel, as their channels."""
    return np.array(images)[:, :, None, None]


DIGITS = image([1, 10], [100, 1000])


@both("conv2d")
def test_convolution_does_not_flip_its_kernel(layer: Typed) -> None:
    # y[0,0] = 1*1 + 2*2 + 4*3 + 5*4 + 10; a step right adds 1 + 2 + 3 + 4, a step down three times that.
    # dx: 1, -1 and 2 times w, each laid at its window. dw[0,0] = 1*1 - 1*2 + 2*4.
    call = layer(image([1, 2, 3], [4, 5, 6], [7, 8, 9]), image([1, 2], [3, 4]), [10], padding="valid")
    call.gives(image([47, 57], [77, 87]))
    call.pulls(image([1, -1], [2, 0]), image([1, 1, -2], [5, 5, -4], [6, 8, 0]), image([7, 9], [13, 15]), [2])


@both("conv2d")
def test_convolution_pads_and_strides_each_side_by_its_own_amount(layer: Typed) -> None:
    # A row of zeros above, two columns behind. Stride 2 along the width leaves the fifth column unread.
    #   0 0 0 0 0        windows at rows 0, 1 and columns 0, 2
    #   1 2 3 0 0        dx[0,0] = 1*100 + 3*1: tap (1,0) of window (0,0), tap (0,0) of window (1,0)
    #   4 5 6 0 0        dw[1,0] = 1*1 - 2*3 + 3*4 + 4*6
    call = layer(image([1, 2, 3], [4, 5, 6]), DIGITS, stride=(1, 2), padding=((1, 0), (0, 2)))
    call.gives(image([2100, 300], [5421, 603]))
    call.pulls(image([1, -2], [3, 4]), image([103, 1030, -196], [300, 3000, 400]), image([15, 6], [31, 17]), None)


@both("conv2d")
def test_convolution_reads_a_pair_as_height_then_width(layer: Typed) -> None:
    # One row of zeros above and below, none at the sides; two rows a step.
    call = layer(image([1, 2], [3, 4]), image([1, 10]), stride=(2, 1), padding=(1, 0))
    call.gives(image([0], [43]))
    call.pulls(image([5], [-2]), image([0, 0], [-2, -20]), image([-6, -8]), None)


@both("conv2d")
def test_convolution_spreads_its_taps_by_the_dilation_of_each_axis(layer: Typed) -> None:
    # Taps two rows apart: the middle row is never read and has no gradient.
    x = image([1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 3])
    call = layer(x, DIGITS, dilation=(2, 1))
    call.gives(image([1921, 2132, 3243]))
    dx = image([1, 10, -2, -20], [0, 0, 0, 0], [100, 1000, -200, -2000])
    call.pulls(image([1, 0, -2]), dx, image([-5, -6], [5, -5]), None)
    # Taps three columns apart as well: the four corners.
    call = layer(x, DIGITS, dilation=(2, 3))
    call.gives(image([3941]))
    call.pulls(image([2]), image([2, 0, 0, 20], [0, 0, 0, 0], [200, 0, 0, 2000]), image([2, 8], [18, 6]), None)


@both("conv2d")
def test_convolution_gives_each_group_its_own_channels_and_filters(layer: Typed) -> None:
    # Channels 0 and 1 go to filter 0, channels 2 and 3 to filter 1.
    call = layer(pixels([1, 2, 3, 4]), pixels([1, 10], [100, 1000]), [5, 6], groups=2)
    call.gives(pixels([26, 4306]))
    call.pulls(pixels([1, -1]), pixels([1, 10, -100, -1000]), pixels([1, 2], [-3, -4]), [1, -1])
    # Two filters a channel: 0 and 1 read channel 0, 2 and 3 read channel 1.
    call = layer(pixels([2, 3]), pixels([1], [10], [100], [1000]), groups=2)
    call.gives(pixels([2, 20, 300, 3000]))
    call.pulls(pixels([1, -1, 2, 1]), pixels([-9, 1200]), pixels([2], [-2], [6], [3]), None)


@both("conv2d")
def test_same_padding_puts_the_odd_zero_behind(layer: Typed) -> None:
    # 1 2 3 (0): the windows 12, 23, 3(0). With the zero in front they would be (0)1, 12, 23.
    call = layer(image([1, 2, 3]), image([1, 10]), padding="same")
    call.gives(image([21, 32, 3]))
    call.pulls(image([1, 2, 3]), image([1, 12, 23]), image([14, 8]), None)
    call = layer(image([1], [2], [3]), image([1], [10]), padding="same")
    call.gives(image([21], [32], [3]))
    call.pulls(image([1], [2], [3]), image([1], [12], [23]), image([14], [8]), None)
    # Two taps three apart need three zeros, one in front: (0) 1 2 3 4 (0 0) gives (0)3, 14, 2(0), 3(0).
    call = layer(image([1, 2, 3, 4]), image([1, 10]), padding="same", dilation=(1, 3))
    call.gives(image([30, 41, 2, 3]))
    call.pulls(image([1, 2, 0, 0]), image([2, 0, 10, 20]), image([2, 11]), None)


@both("conv2d")
def test_convolution_sums_over_images_and_keeps_them_apart(layer: Typed) -> None:
    # On single pixels y = x w' + b, dx = dy w, dw = dy' x, db = the columns of dy, summed.
    call = layer(pixels([1, 2], [3, 4]), pixels([1, 0], [0, 1], [1, 1]), [10, 20, 30])
    call.gives(pixels([11, 22, 33], [13, 24, 37]))
    dx, dw = pixels([3, 2], [-4, -3]), pixels([1, 2], [3, 4], [-10, -12])
    call.pulls(pixels([1, 0, 2], [0, 1, -4]), dx, dw, [1, 1, -2])


@both("conv2d")
def test_a_window_wholly_in_the_padding_yields_the_bias(layer: Typed) -> None:
    # A 5 inside two rings of zeros, read at every second place: only the middle window sees it.
    call = layer(image([5]), image([3]), [1], stride=2, padding=2)
    call.gives(image([1, 1, 1], [1, 16, 1], [1, 1, 1]))
    call.pulls(image([1, 2, 3], [4, -5, 6], [7, 8, 9]), image([-15]), image([-25]), [35])


@both("conv2d")
def test_convolution_of_no_image_has_zero_weight_gradients(layer: Typed) -> None:
    x, w, y = np.zeros((0, 2, 4, 5)), np.ones((3, 2, 2, 2)), np.zeros((0, 3, 3, 4))
    call = layer(x, w, [1, 2, 3])
    call.gives(y)
    call.pulls(y, x, 0 * w, [0, 0, 0])


@both("conv2d", [np.complex128])
def test_complex_convolution_conjugates_nothing(layer: Typed) -> None:
    # i (2 + i) + 3i, and for the upstream 1 + i: dx = (1 + i) (2 + i), dw = (1 + i) i.
    call = layer(pixels([1j]), pixels([2 + 1j]), [3j])
    call.gives(pixels([-1 + 5j]))
    call.pulls(pixels([1 + 1j]), pixels([1 + 3j]), pixels([-1 + 1j]), [1 + 1j])


@both("max_pool2d")
def test_pooling_adds_the_gradients_of_overlapping_windows(layer: Typed) -> None:
    # All four windows hold the 9: it collects 1 + 2 + 3 - 1. Assigned, not added, it would be -1.
    call = layer(image([1, 2, 3], [4, 9, 5], [7, 8, 6]), kernel_size=2, stride=1)
    call.gives(image([9, 9], [9, 9]))
    call.picks(image([4, 4], [4, 4]))
    call.pulls(image([1, 2], [3, -1]), image([0, 0, 0], [0, 5, 0], [0, 0, 0]))


@both("max_pool2d")
def test_the_first_tied_maximum_in_row_major_order_takes_all(layer: Typed) -> None:
    # In the second plane the 7 at the right of row 0 comes before the 7 at the left of row 1.
    call = layer([[[[3, 3], [3, 3]], [[0, 7], [7, 0]]]], kernel_size=2)
    call.gives(pixels([3, 7]))
    call.picks(pixels([0, 1]))
    call.pulls(pixels([5, -2]), [[[[5, 0], [0, 0]], [[0, -2], [0, 0]]]])


@both("max_pool2d")
def test_the_last_nan_of_a_window_wins_over_every_number(layer: Typed) -> None:
    # Four planes: NaN before infinity, NaN twice in a column, NaN in the last place, no NaN.
    call = layer([[[[NAN, INF], [1, 2]], [[NAN, 1], [NAN, 2]], [[INF, 1], [2, NAN]], [[1, 4], [3, 2]]]], kernel_size=2)
    call.gives(pixels([NAN, NAN, NAN, 4]))
    call.picks(pixels([0, 2, 3, 1]))
    dx = [[[[5, 0], [0, 0]], [[0, 0], [-2, 0]], [[0, 0], [0, 3]], [[0, 7], [0, 0]]]]
    call.pulls(pixels([5, -2, 3, 7]), dx)


@both("max_pool2d")
def test_the_cache_says_which_windows_the_winners_won(layer: Typed) -> None:
    _, cache = layer.layer.forward(np.zeros((1, 1, 5, 6)), kernel_size=(2, 3), stride=(1, 2))
    assert (cache.rows.size, cache.rows.kernel, cache.rows.stride, cache.rows.out) == (5, 2, 1, 4)
    assert (cache.columns.size, cache.columns.kernel, cache.columns.stride, cache.columns.out) == (6, 3, 2, 2)


@both("max_pool2d")
def test_minus_infinity_everywhere_still_has_a_winner_inside_the_image(layer: Typed) -> None:
    plane = image([-INF, -INF], [-INF, -INF])
    call = layer(plane, kernel_size=2)
    call.gives(image([-INF]))
    call.picks(image([0]))
    call.pulls(image([4]), image([4, 0], [0, 0]))
    # Each window holds one entry of the image and three of the padding.
    call = layer(plane, kernel_size=2, padding=1)
    call.gives(plane)
    call.picks(image([0, 1], [2, 3]))
    call.pulls(image([1, -2], [3, 4]), image([1, -2], [3, 4]))


@both("max_pool2d")
def test_padding_never_wins_against_very_negative_values(layer: Typed) -> None:
    low = float(np.finfo(np.float32).min)
    call = layer(image([low, low / 2]), kernel_size=(3, 2), stride=1, padding=1)
    call.gives(image([low, low / 2, low / 2]))
    call.picks(image([0, 1, 1]))
    call.pulls(image([1, 2, 3]), image([1, 5]))


@both("max_pool2d")
def test_indices_count_along_the_unpadded_plane_of_each_channel(layer: Typed) -> None:
    # The rows of windows read row 0 of x under the padding, rows 0 and 1, row 1 above the padding.
    x = [[[[1, 2, 3], [4, 5, 6]], [[6, 5, 4], [3, 2, 1]]]]
    call = layer(x, kernel_size=2, stride=1, padding=(1, 0))
    call.gives([[[[2, 3], [5, 6], [5, 6]], [[6, 5], [6, 5], [3, 2]]]])
    call.picks([[[[1, 2], [4, 5], [4, 5]], [[0, 1], [0, 1], [3, 4]]]])
    dy = [[[[1, 2], [3, 4], [5, 6]], [[1, -1], [2, -2], [3, -3]]]]
    call.pulls(dy, [[[[0, 1, 2], [0, 8, 10]], [[3, -3, 0], [3, -3, 0]]]])


@both("max_pool2d")
def test_ceil_mode_pools_what_is_left_over(layer: Typed) -> None:
    row = image([1, 2, 3, 4, 5])
    call = layer(row, kernel_size=(1, 2))
    call.gives(image([2, 4]))
    call.picks(image([1, 3]))
    call.pulls(image([1, 2]), image([0, 1, 0, 2, 0]))
    call = layer(row, kernel_size=(1, 2), ceil_mode=True)
    call.gives(image([2, 4, 5]))
    call.picks(image([1, 3, 4]))
    call.pulls(image([1, 2, 3]), image([0, 1, 0, 2, 3]))


@both("max_pool2d")
def test_ceil_mode_adds_no_window_that_starts_behind_the_image(layer: Typed) -> None:
    # (0) 1 2 3 4 (0): starts at places 0 and 3; 6 is behind it all.
    call = layer(image([1, 2, 3, 4]), kernel_size=(1, 2), stride=(1, 3), padding=(0, 1), ceil_mode=True)
    call.gives(image([1, 4]))
    call.picks(image([0, 3]))
    call.pulls(image([1, 2]), image([1, 0, 0, 2]))
    # (0) 1 2 (0): a start at 3 would be in the padding behind.
    call = layer(image([1, 2]), kernel_size=(1, 2), stride=(1, 3), padding=(0, 1), ceil_mode=True)
    call.gives(image([1]))
    call.picks(image([0]))
    call.pulls(image([3]), image([3, 0]))


@both("max_pool2d")
def test_pooling_spreads_its_taps_by_the_dilation_of_each_axis(layer: Typed) -> None:
    # Taps two apart: (9, 8), (1, 2), (8, 7).
    call = layer(image([9, 1, 8, 2, 7]), kernel_size=(1, 2), stride=1, dilation=(1, 2))
    call.gives(image([9, 2, 8]))
    call.picks(image([0, 3, 2]))
    call.pulls(image([1, 2, 3]), image([1, 0, 3, 2, 0]))


@both("max_pool2d")
def test_pooling_strides_by_its_kernel_unless_told(layer: Typed) -> None:
    # By (1, 2), neither by 1 nor by 2 along both axes. If a stride of (2, 1) is given, by that.
    x = image([1, 2, 3, 4], [8, 7, 6, 5])
    call = layer(x, kernel_size=(1, 2))
    call.gives(image([2, 4], [8, 6]))
    call.picks(image([1, 3], [4, 6]))
    call.pulls(image([1, 2], [3, 4]), image([0, 1, 0, 2], [3, 0, 4, 0]))
    call = layer(x, kernel_size=(1, 2), stride=(2, 1))
    call.gives(image([2, 3, 4]))
    call.picks(image([1, 2, 3]))
    call.pulls(image([1, 2, 3]), image([0, 1, 2, 3], [0, 0, 0, 0]))


@both("max_pool2d")
def test_pooling_pads_each_side_by_its_own_amount(layer: Typed) -> None:
    # One place above: {1}, {2, 3}. One below: {1, 2}, {3}.
    column = image([1], [2], [3])
    call = layer(column, kernel_size=(2, 1), padding=((1, 0), (0, 0)))
    call.gives(image([1], [3]))
    call.picks(image([0], [2]))
    call.pulls(image([5], [-7]), image([5], [0], [-7]))
    call = layer(column, kernel_size=(2, 1), padding=((0, 1), (0, 0)))
    call.gives(image([2], [3]))
    call.picks(image([1], [2]))
    call.pulls(image([5], [-7]), image([0], [5], [-7]))


@both("max_pool2d", [np.complex128])
def test_complex_maxima_are_chosen_by_real_part(layer: Typed) -> None:
    # 2 - 9i beats 1 + 50i, and comes before its equal 2 + 9i.
    call = layer(image([1 + 50j, 2 - 9j], [2 + 9j, -3]), kernel_size=2)
    call.gives(pixels([2 - 9j]))
    call.picks(pixels([1]))
    call.pulls(pixels([1 - 1j]), image([0, 1 - 1j], [0, 0]))


@both("max_pool2d")
def test_pooling_of_no_image_is_empty(layer: Typed) -> None:
    x, y = np.zeros((0, 2, 4, 3)), np.zeros((0, 2, 2, 1))
    call = layer(x, kernel_size=2)
    call.gives(y)
    call.picks(y)
    call.pulls(y, x)


@both("relu")
def test_relu_is_zero_with_zero_slope_at_zero_and_passes_nan(layer: Typed) -> None:
    tiny = float(np.finfo(np.float32).tiny)
    call = layer([-2, -0.0, 0, 3, NAN, -INF, INF, tiny])
    call.gives([0, 0, 0, 3, NAN, 0, INF, tiny])
    call.pulls([1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 4, 5, 0, 7, 8])
    # Where the slope is 0, an infinite upstream gradient leaves 0; a product with a mask would be NaN.
    call.pulls([-INF] * 8, [0, 0, 0, -INF, -INF, 0, -INF, -INF])


@both("relu")
def test_relu_of_a_negative_zero_is_plain_zero(layer: Typed) -> None:
    assert not np.signbit(layer([-2, -0.0, 0]).y.real).any()


@both("relu")
def test_relu_of_a_scalar_and_of_nothing_keeps_the_shape(layer: Typed) -> None:
    call = layer(2)
    call.gives(2)
    call.pulls(-3, -3)
    call = layer(np.zeros((0, 3)))
    call.gives(np.zeros((0, 3)))
    call.pulls(np.zeros((0, 3)), np.zeros((0, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_relu_of_more_entries_than_one_chunk_has(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_core._chunks._CHUNK", 7)
    x: NDArray[Any] = np.where(np.arange(30) % 3, 5, -5).astype(dtype)
    y, cache = relu.vectorized.forward(x)
    assert y.tolist() == [5 if k % 3 else 0 for k in range(30)]
    (dx,) = relu.vectorized.backward(np.arange(30).astype(dtype), cache)
    assert dx is not None
    assert dx.tolist() == [k if k % 3 else 0 for k in range(30)]


@both("relu", [np.complex128])
def test_complex_relu_branches_on_the_real_part(layer: Typed) -> None:
    call = layer([1 - 3j, -1 + 3j, 2j])
    call.gives([1 - 3j, 0, 0])
    call.pulls([1j, 2j, 3j], [1j, 0, 0])


@both("flatten")
def test_flatten_reads_rows_first_and_leaves_images_apart(layer: Typed) -> None:
    x = [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    call = layer(x)
    call.gives([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])
    call.pulls([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]], x)


@both("flatten")
def test_flatten_of_one_axis_and_of_empty_axes_keeps_the_batch(layer: Typed) -> None:
    call = layer([1, 2, 3])
    call.gives([[1], [2], [3]])
    call.pulls([[4], [5], [6]], [4, 5, 6])
    for shape, flat in (((0, 2, 3), (0, 6)), ((2, 0, 3), (2, 0))):
        call = layer(np.zeros(shape))
        call.gives(np.zeros(flat))
        call.pulls(np.zeros(flat), np.zeros(shape))


@both("linear")
@pytest.mark.parametrize("lead", [(), (1,), (1, 1), (1, 1, 1)], ids=["none", "one", "two", "three"])
def test_linear_maps_the_last_axis_whatever_leads(layer: Typed, lead: tuple[int, ...]) -> None:
    # y = (1*1 + 2*10 + 5, 1*100 + 2*1000 + 6, 1*3 - 2*1 + 7). dx[0] = 1*1 - 1*100 + 2*3. dw = dy' x.
    call = layer(np.reshape([1, 2], (*lead, 2)), [[1, 10], [100, 1000], [3, -1]], [5, 6, 7])
    call.gives(np.reshape([26, 2106, 8], (*lead, 3)))
    dx, dw = np.reshape([-93, -992], (*lead, 2)), [[1, 2], [-1, -2], [2, 4]]
    call.pulls(np.reshape([1, -1, 2], (*lead, 3)), dx, dw, [1, -1, 2])


@both("linear")
@pytest.mark.parametrize("lead", [(4,), (2, 2), (1, 4, 1)], ids=["one", "two", "three"])
def test_linear_sums_its_weight_gradients_over_all_leading_axes(layer: Typed, lead: tuple[int, ...]) -> None:
    # dw = 1 (1, 2) - 1 (3, 4) + 2 (5, 6) - 3 (7, 8).
    call = layer(np.reshape([1, 2, 3, 4, 5, 6, 7, 8], (*lead, 2)), [[1, 10]], [9])
    call.gives(np.reshape([30, 52, 74, 96], (*lead, 1)))
    dx = np.reshape([1, 10, -1, -10, 2, 20, -3, -30], (*lead, 2))
    call.pulls(np.reshape([1, -1, 2, -3], (*lead, 1)), dx, [[-13, -14]], [-1])


@both("linear")
def test_linear_of_no_image_has_zero_weight_gradients(layer: Typed) -> None:
    call = layer(np.zeros((0, 2)), [[1, 10]], [5])
    call.gives(np.zeros((0, 1)))
    call.pulls(np.zeros((0, 1)), np.zeros((0, 2)), [[0, 0]], [0])


@both("linear")
def test_linear_without_a_bias_reads_square_weights_row_by_row(layer: Typed) -> None:
    # Row 0 of w makes output 0. dx = 1 (1, 10) - 1 (100, 1000).
    call = layer([[1, 2]], [[1, 10], [100, 1000]])
    call.gives([[21, 2100]])
    call.pulls([[1, -1]], [[-99, -990]], [[1, 2], [-1, -2]], None)


@both("linear", [np.complex128])
def test_complex_linear_conjugates_nothing(layer: Typed) -> None:
    # The numbers of the convolution above.
    call = layer([1j], [[2 + 1j]], [3j])
    call.gives([-1 + 5j])
    call.pulls([1 + 1j], [1 + 3j], [[-1 + 1j]], [1 + 1j])


@both("softmax_cross_entropy")
def test_uniform_logits_lose_the_logarithm_of_the_classes(layer: Typed) -> None:
    # Four equal logits: p = 1/4 each, whatever their level. One logit: nothing to choose.
    call = layer([[0, 0, 0, 0], [7, 7, 7, 7]], labels=[0, 3], reduction="none")
    call.gives([2 * LOG2, 2 * LOG2], roundings=1)
    call.pulls([4, -8], [[-3, 1, 1, 1], [-2, -2, -2, 6]])
    call = layer([[5]], labels=[0], reduction="none")
    call.gives([0])
    call.pulls([3], [[0]])


# Image 0: p = (1/2, 1/2), label 1. Image 1: p = (1/4, 3/4), label 0, hence log 4.
REDUCTIONS: dict[str, tuple[Any, Any, Any]] = {
    "none": ([LOG2, 2 * LOG2], [2, -4], [[1, -1], [3, -3]]),
    "sum": (3 * LOG2, 2, [[1, -1], [-1.5, 1.5]]),
    "mean": (1.5 * LOG2, 2, [[0.5, -0.5], [-0.75, 0.75]]),
}


@both("softmax_cross_entropy")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_reduction_sums_or_averages_over_all_images(layer: Typed, reduction: str) -> None:
    y, dy, dx = REDUCTIONS[reduction]
    options = {} if reduction == "mean" else {"reduction": reduction}  # the mean is the default
    call = layer([[0, 0], [0, math.log(3)]], labels=[1, 0], **options)
    # An exponential, a sum, a logarithm or a quotient, a product; and log 3 came rounded.
    call.gives(y, roundings=6)
    call.pulls(dy, dx, roundings=6)


@both("softmax_cross_entropy")
def test_saturated_logits_beside_moderate_ones_make_no_nan(layer: Typed) -> None:
    # exp(-2000) is 0: the right answer costs nothing, the wrong one 2000, the neighbours log 2 as ever.
    call = layer([[0, 0], [1000, -1000], [1000, -1000], [0, 0]], labels=[0, 0, 1, 1], reduction="none")
    call.gives([LOG2, 0, 2000, LOG2], roundings=1)
    call.pulls([2, -3, 5, -7], [[-1, 1], [0, 0], [5, -5], [-3.5, 3.5]])


@both("softmax_cross_entropy")
def test_the_largest_logit_is_taken_off_row_by_row(layer: Typed) -> None:
    # Less the largest of the whole batch, rows 1 and 2 would be exp(-800) = 0 twice, and 0 / 0.
    call = layer([[800, 800], [0, 0], [-800, -800]], labels=[0, 1, 0], reduction="none")
    call.gives([LOG2, LOG2, LOG2], roundings=1)
    call.pulls([2, -4, 6], [[-1, 1], [-2, 2], [-3, 3]])


@both("softmax_cross_entropy")
def test_the_gradient_of_a_confident_prediction_does_not_cancel(layer: Typed) -> None:
    # p = (1 - e^-40, e^-40) to rounding; as p - 1 the gradient at the label would be 0.
    small = math.exp(-40)
    call = layer([[40, 0]], labels=[0], reduction="sum")
    assert 0 <= call.y.real <= np.finfo(layer.dtype).eps
    call.pulls(1, [[-small, small]], roundings=4)


@both("softmax_cross_entropy")
def test_the_loss_of_no_image_is_zero_summed_and_nan_averaged(layer: Typed) -> None:
    x = np.zeros((0, 3))
    for reduction, y, dy in (("none", [], []), ("sum", 0, 1), ("mean", NAN, 1)):
        call = layer(x, labels=[], reduction=reduction)
        call.gives(y)
        call.pulls(dy, x)


@both("softmax_cross_entropy", [np.complex128])
def test_complex_logits_give_the_holomorphic_loss(layer: Typed) -> None:
    # e^0 + e^(i pi/2) = 1 + i, whose logarithm is (log 2)/2 + i pi/4; p = (1 - i, 1 + i) / 2.
    call = layer([[0, 0.5j * math.pi]], labels=[0], reduction="sum")
    call.gives(0.5 * LOG2 + 0.25j * math.pi, roundings=4)
    call.pulls(2, [[-1 - 1j, 1 + 1j]], roundings=4)


def test_integers_of_numpy_are_integers() -> None:
    x, w = np.arange(36.0).reshape(1, 1, 6, 6), np.ones((1, 1, 2, 2))
    for version in (conv2d.naive, conv2d.im2col, conv2d.blocked):
        y, _ = version.forward(x, w, stride=np.int64(2), padding=(np.int8(1), np.uint32(0)))
        assert np.array_equal(y, version.forward(x, w, stride=2, padding=(1, 0))[0])
    with pytest.raises(TypeError, match=r"stride must be an integer or a pair of integers, got np\.float64\(2\.0\)"):
        conv2d.naive.forward(x, w, stride=np.float64(2))
