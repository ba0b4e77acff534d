"""Pools, unpooling and up-sampling: values worked by hand, laws, extreme values beside PyTorch, and corners reached.

The laws hold of a layer whoever wrote it: a rule that all versions misread alike breaks one here.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_geometry import array, reaches, shape
from test_known_values import INF, NAN, Call, Typed, both, image, pixels
from test_laws import turned

from cnn_core import Implementation, conv2d, max_pool2d
from cnn_core._resizing import Scaled, _step, bins, scaled_axes
from verify import strategies
from verify.layers import LAYERS, Case

Array = NDArray[Any]

NAMES = (
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "max_unpool2d",
    "pixel_shuffle",
    "upsample_bilinear2d",
    "upsample_nearest2d",
)
VERSIONS = [
    pytest.param(name, version, id=f"{name}-{version.name}")
    for name in NAMES
    for version in LAYERS[name].implementations
]


def versions(name: str) -> pytest.MarkDecorator:
    """Run a test for all versions of a layer."""
    return pytest.mark.parametrize("layer", LAYERS[name].implementations, ids=lambda each: f"{name}-{each.name}")


def unpool(layer: Typed, x: Any, indices: Any, **options: Any) -> Call:
    """Call max_unpool2d."""
    values: Array = np.array(x, layer.dtype)
    return Call(layer.layer, layer.dtype, *layer.layer.forward(values, np.array(indices, np.int64), **options))


@both("avg_pool2d")
def test_an_average_is_of_its_window_and_shares_its_gradient(layer: Typed) -> None:
    # (1 + 2 + 4 + 5)/4 = 3. Shares of dy: 1, -2 and 3, each laid at its window.
    call = layer(image([1, 2, 3], [4, 5, 6], [7, 8, 9]), kernel_size=2, stride=1)
    call.gives(image([3, 4], [6, 7]))
    call.pulls(image([4, -8], [12, 0]), image([1, -1, -2], [4, 2, -2], [3, 3, 0]))


@both("avg_pool2d")
def test_the_padding_counts_unless_told_and_a_divisor_replaces_the_count(layer: Typed) -> None:
    # 0 1 | 2 3: of the first window one entry is x's.
    options: dict[str, Any] = {"kernel_size": (1, 2), "padding": (0, 1)}
    call = layer(image([1, 2, 3]), **options)
    call.gives(image([0.5, 2.5]))
    call.pulls(image([2, 4]), image([1, 2, 2]))
    call = layer(image([1, 2, 3]), **options, count_include_pad=False)
    call.gives(image([1, 2.5]))
    call.pulls(image([2, 4]), image([2, 2, 2]))
    for include in (True, False):
        call = layer(image([1, 2, 3]), **options, count_include_pad=include, divisor_override=-4)
        call.gives(image([-0.25, -1.25]))
        call.pulls(image([2, 4]), image([-0.5, -1, -1]))


@both("avg_pool2d")
def test_what_a_window_of_ceil_mode_has_beyond_the_padding_is_never_counted(layer: Typed) -> None:
    # 0 1 2 3 | 6 0 and beyond: the second window starts at 3 and has three taps in the padded row.
    options: dict[str, Any] = {"kernel_size": (1, 4), "stride": (1, 3), "padding": (0, 1), "ceil_mode": True}
    call = layer(image([1, 2, 3, 6]), **options)
    call.gives(image([1.5, 3]))
    call.pulls(image([12, 6]), image([3, 3, 5, 2]))
    call = layer(image([1, 2, 3, 6]), **options, count_include_pad=False)
    call.gives(image([2, 4.5]))
    call.pulls(image([12, 6]), image([4, 4, 7, 3]))
    # Without ceil_mode there is one window.
    layer(image([1, 2, 3, 6]), **{**options, "ceil_mode": False}).gives(image([1.5]))


@both("avg_pool2d")
def test_average_pooling_pads_each_side_by_its_own_amount(layer: Typed) -> None:
    column = image([1], [2], [3])
    call = layer(column, kernel_size=(2, 1), padding=((1, 0), (0, 0)))
    call.gives(image([0.5], [2.5]))
    call.pulls(image([2], [-4]), image([1], [-2], [-2]))
    call = layer(column, kernel_size=(2, 1), padding=((0, 1), (0, 0)))
    call.gives(image([1.5], [1.5]))
    call.pulls(image([2], [-4]), image([1], [1], [-2]))
    # An odd total of padding puts the larger half behind.
    call = layer(image([2, 4, 6]), kernel_size=(1, 2), stride=1, padding="same")
    call.gives(image([3, 5, 3]))


@both("adaptive_avg_pool2d")
def test_adaptive_averages_are_of_bins_that_may_overlap(layer: Typed) -> None:
    # Of five entries three bins: (2, 4), (4, 6, 8), (8, 10).
    call = layer(image([2, 4, 6, 8, 10]), output_size=(1, 3))
    call.gives(image([3, 6, 9]))
    call.pulls(image([2, 3, 4]), image([1, 2, 1, 3, 2]))
    # Of two entries three bins: (1), (1, 2), (2).
    call = layer(image([1, 2]), output_size=(1, 3))
    call.gives(image([1, 1.5, 2]))
    call.pulls(image([1, 2, 3]), image([2, 4]))


@both("adaptive_avg_pool2d")
def test_an_output_size_is_height_then_width_and_none_keeps_an_axis(layer: Typed) -> None:
    x = image([1, 2, 3, 4], [5, 6, 7, 8])
    call = layer(x, output_size=(1, 2))
    call.gives(image([3.5, 5.5]))
    call.pulls(image([4, 8]), image([1, 1, 2, 2], [1, 1, 2, 2]))
    call = layer(x, output_size=(None, 1))
    call.gives(image([2.5], [6.5]))
    layer(x, output_size=(None, None)).gives(x)
    layer(x, output_size=1).gives(image([4.5]))


@both("adaptive_max_pool2d")
def test_adaptive_maxima_are_first_in_row_major_order_and_add_their_gradients(layer: Typed) -> None:
    # (1, 7), (7, 3, 7), (7, 2): entry 1 wins two bins.
    call = layer(image([1, 7, 3, 7, 2]), output_size=(1, 3))
    call.gives(image([7, 7, 7]))
    call.picks(image([1, 1, 3]))
    call.pulls(image([1, 2, 3]), image([0, 3, 0, 3, 0]))
    call = layer(image([1, 2, 6, 4], [8, 7, 6, 5]), output_size=(1, 2))
    call.gives(image([8, 6]))
    call.picks(image([4, 2]))
    call.pulls(image([1, 2]), image([0, 0, 2, 0], [1, 0, 0, 0]))


@both("adaptive_max_pool2d")
def test_the_last_nan_of_a_bin_wins_and_among_infinities_the_first(layer: Typed) -> None:
    call = layer(image([1, NAN, 3, NAN, INF]), output_size=1)
    call.gives(image([NAN]))
    call.picks(image([3]))
    call.pulls(image([2]), image([0, 0, 0, 2, 0]))
    call = layer(image([-INF, -INF]), output_size=1)
    call.picks(image([0]))
    # Planes with no NaN, with two that lie elsewhere counted from the end, and with one.
    planes = [[[[1, 4, 2, 3]], [[NAN, NAN, 3, 5]], [[NAN, 7, 8, 6]]]]
    call = layer(planes, output_size=1)
    call.gives([[[[4]], [[NAN]], [[NAN]]]])
    call.picks([[[[1]], [[1]], [[0]]]])


@both("adaptive_max_pool2d", [np.complex128])
def test_complex_adaptive_maxima_are_chosen_by_real_part(layer: Typed) -> None:
    call = layer(image([1 + 50j, 2 - 9j], [2 + 9j, -3]), output_size=1)
    call.gives(pixels([2 - 9j]))
    call.picks(pixels([1]))
    call.pulls(pixels([1 - 1j]), image([0, 1 - 1j], [0, 0]))


@pytest.mark.parametrize("name", ["adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_no_bin_is_an_empty_output_and_a_zero_gradient(name: str) -> None:
    for version in LAYERS[name].implementations:
        for output_size, expected in (((0, 2), (2, 3, 0, 2)), ((1, 0), (2, 3, 1, 0))):
            y, cache = version.forward(np.ones((2, 3, 4, 5)), output_size=output_size)
            (dx,) = version.backward(y, cache)
            assert y.shape == expected
            np.testing.assert_array_equal(dx, np.zeros((2, 3, 4, 5)), strict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give kernel_size or output_size, got neither"),
        ({"output_size": 4, "stride": 2}, "stride=2 and padding=0 need a kernel_size, got None"),
        ({"output_size": 4, "padding": (0, 1)}, "stride=None and padding=(0, 1) need a kernel_size, got None"),
        ({"output_size": 4, "padding": -1}, "padding must be at least 0, got -1"),
        ({"output_size": (4, 0)}, "output_size must be at least 1, got (4, 0)"),
        (
            {"kernel_size": 1, "padding": (1, 0)},
            "the output would be -1x2 (H=1, W=2, kernel_size=1, stride=(1, 1), padding=(1, 0))",
        ),
        ({"kernel_size": 2, "output_size": (2, 0)}, "output_size must be at least 1, got (2, 0)"),
    ],
)
@versions("max_unpool2d")
def test_an_output_size_that_cannot_be_is_refused(layer: Implementation, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer.forward(np.ones((1, 1, 1, 2)), np.array([[[[0, 1]]]]), **options)


@both("max_unpool2d")
def test_unpooling_lays_each_entry_at_its_index(layer: Typed) -> None:
    call = unpool(layer, image([1, 2], [3, 4]), image([1, 2], [12, 15]), kernel_size=2)
    call.gives(image([0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]))
    call.pulls(np.arange(16).reshape(1, 1, 4, 4), image([1, 2], [12, 15]))


@both("max_unpool2d")
def test_of_entries_with_one_index_the_last_is_kept_and_has_the_gradient(layer: Typed) -> None:
    call = unpool(layer, image([1, 2], [3, 4]), image([5, 0], [5, 5]), output_size=(2, 3))
    call.gives(image([2, 0, 0], [0, 0, 4]))
    call.pulls(image([7, 0, 0], [0, 0, 9]), image([0, 7], [0, 9]))


@both("max_unpool2d")
def test_an_unpooled_size_undoes_kernel_stride_and_padding(layer: Typed) -> None:
    zeros = np.zeros((1, 1, 2, 3))
    for options, size in (
        ({"kernel_size": 2}, (4, 6)),
        ({"kernel_size": (3, 2)}, (6, 6)),
        ({"kernel_size": 3, "stride": (1, 2)}, (4, 7)),
        ({"kernel_size": 3, "stride": 2, "padding": (1, 0)}, (3, 7)),
        ({"kernel_size": 2, "output_size": (5, 7)}, (5, 7)),
        ({"output_size": 9}, (9, 9)),
    ):
        assert unpool(layer, zeros, zeros, **options).y.shape[2:] == size


@both("upsample_nearest2d")
def test_the_nearest_entry_is_the_one_in_front(layer: Typed) -> None:
    # 3/5 an output: at 0, 0.6, 1.2, 1.8, 2.4.
    call = layer(image([1, 2, 3]), size=(1, 5))
    call.gives(image([1, 1, 2, 2, 3]))
    call.pulls(image([1, 2, 3, 4, 5]), image([3, 7, 5]))
    # 3/2 an output: at 0 and 1.5; the last entry is left out.
    call = layer(image([1, 2, 3]), size=(1, 2))
    call.gives(image([1, 2]))
    call.pulls(image([4, 5]), image([4, 5, 0]))
    call = layer(image([1, 2], [3, 4]), size=(2, 3))
    call.gives(image([1, 1, 2], [3, 3, 4]))


@both("upsample_nearest2d")
def test_a_scale_factor_sets_the_step_not_only_the_size(layer: Typed) -> None:
    # Three outputs 1/1.3 apart: at 0, 0.77 and 1.54. By their number alone they would be one apart.
    layer(image([1, 2, 3]), scale_factor=(1, 1.3)).gives(image([1, 1, 2]))
    layer(image([1, 2, 3]), scale_factor=(2, 1)).gives(image([1, 2, 3], [1, 2, 3]))
    # 0.1 is 1/10, although the float is more.
    layer(np.arange(20).reshape(1, 1, 1, 20), scale_factor=(1, 0.1)).gives(image([0, 10]))


@both("upsample_bilinear2d")
def test_outer_edges_are_aligned_unless_corners_are(layer: Typed) -> None:
    # At -1/4 (moved to 0), 1/4, 3/4, 5/4 (moved to 1). dx[0] = 4 + 3/4*8 + 1/4*12.
    call = layer(image([1, 5]), size=(1, 4))
    call.gives(image([1, 2, 4, 5]))
    call.pulls(image([4, 8, 12, 16]), image([13, 27]))
    # At 0, 1/4, 1/2, 3/4, 1. dx[0] = 4 + 3/4*8 + 1/2*12 + 1/4*16.
    call = layer(image([1, 5]), size=(1, 5), align_corners=True)
    call.gives(image([1, 2, 3, 4, 5]))
    call.pulls(image([4, 8, 12, 16, 20]), image([20, 40]))


@both("upsample_bilinear2d")
def test_a_smaller_image_is_read_between_its_entries(layer: Typed) -> None:
    call = layer(image([1, 2, 3, 4]), size=(1, 2))
    call.gives(image([1.5, 3.5]))
    call.pulls(image([2, 4]), image([1, 1, 2, 2]))
    call = layer(image([1, 2, 3, 4]), size=(1, 2), align_corners=True)
    call.gives(image([1, 4]))
    call.pulls(image([2, 4]), image([2, 0, 0, 4]))


@both("upsample_bilinear2d")
def test_both_axes_are_interpolated_at_their_own_places(layer: Typed) -> None:
    x = image([0, 4], [8, 12])
    layer(x, size=3, align_corners=True).gives(image([0, 2, 4], [4, 6, 8], [8, 10, 12]))
    # One row with aligned corners is the first, with aligned edges the middle.
    call = layer(x, size=(1, 3), align_corners=True)
    call.gives(image([0, 2, 4]))
    call.pulls(image([2, 4, 8]), image([4, 10], [0, 0]))
    # Two products and their sum twice, and the weights 1/6 and 5/6, which are rounded.
    layer(x, size=(1, 3)).gives(image([4, 6, 8]), roundings=6)
    # A factor of 1.25 makes two rows, 4/5 apart: at max(0, -1/10) and 7/10.
    layer(image([0, 10]), scale_factor=(1, 1.25)).gives(image([0, 7]), roundings=6)


@both("upsample_bilinear2d", [np.float32, np.float64])
def test_an_infinite_neighbour_of_weight_zero_makes_nan_unless_the_size_stays(layer: Typed) -> None:
    with np.errstate(invalid="ignore"):
        # One row: h = g. The first column is 1 * 1 + 0 * inf where there is a second one beside it.
        layer(image([1, INF]), size=1, align_corners=True).gives(image([NAN]))
        layer(image([1, INF]), size=(1, 2)).gives(image([1, NAN]))


@both("pixel_shuffle")
def test_channels_become_pixels_rows_first(layer: Typed) -> None:
    x = np.array([[[[1, 2]], [[3, 4]], [[5, 6]], [[7, 8]]]])
    y = image([1, 3, 2, 4], [5, 7, 6, 8])
    call = layer(x, upscale_factor=2)
    call.gives(y)
    call.pulls(y, x)
    # Each output channel has four channels in a row.
    call = layer(pixels([1, 2, 3, 4, 5, 6, 7, 8]), upscale_factor=2)
    call.gives(np.array([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]]))


def test_bins_cover_an_axis_and_are_as_even_as_can_be() -> None:
    for size in range(1, 12):
        for out in range(1, 15):
            rows, columns = bins((out, 1), (size, 3))
            assert [*columns[0]] == [0, 1, 2]
            assert (rows[0].start, rows[-1].stop) == (0, size)
            for o, each in enumerate(rows):
                # Entry h covers [h, h + 1) of the axis; a bin has all that meet its out-th part.
                part = Fraction(o * size, out), Fraction((o + 1) * size, out)
                assert [*each] == [h for h in range(size) if h < part[1] and h + 1 > part[0]]


def test_places_are_those_of_the_formula_in_exact_numbers() -> None:
    for size in range(1, 9):
        for out in range(1, 12):
            axis, _ = scaled_axes((size, 1), size=(out, 1), scale_factor=None)
            for i, nearest in enumerate(axis.nearest()):
                assert nearest * out <= i * size < (nearest + 1) * out
            for i, (first, second, far) in enumerate(axis.between(align_corners=True)):
                assert (first + far) * max(1, out - 1) == i * (size - 1) * (out > 1)
                assert second - first in (0, 1)
                assert 0 <= far < 1
                assert far == 0 or second > first
            for i, (first, _, far) in enumerate(axis.between(align_corners=False)):
                # Distances from both ends add up: output i is as far from the start as out - 1 - i from the end.
                mirrored = (out - i - Fraction(1, 2)) * Fraction(size, out) - Fraction(1, 2)
                assert first + far == max(Fraction(0), size - 1 - mirrored)


@pytest.mark.parametrize(("factor", "step"), [(0.1, 10), (1 / 3, 3), (1.1, Fraction(10, 11)), (2.3, Fraction(10, 23))])
def test_a_float_that_was_rounded_stands_for_its_fraction(factor: float, step: Fraction) -> None:
    rows, columns = scaled_axes((100, 100), size=None, scale_factor=(factor, np.float64(factor)))
    assert rows == columns == Scaled(100, math.floor(100 * factor), Fraction(step))


def close(name: str, case: Case, got: Any, right: Any, dy: Array, position: int) -> None:
    """Equal, or as near as the declaration says of two right versions: of y (0) or dx (1)."""
    y = LAYERS[name].reference.forward(*case.arrays, **case.options)[0]
    allowed = LAYERS[name].allowed(case, y, dy, (None,))[position]
    assert (got.shape, got.dtype) == (right.shape, right.dtype)
    assert (np.abs(got - right) <= allowed).all()


@pytest.mark.parametrize(("name", "layer"), VERSIONS)
@given(data=st.data())
def test_height_and_width_can_be_exchanged(name: str, layer: Implementation, data: st.DataObject) -> None:
    case = data.draw(LAYERS[name].cases())
    other = turned(case)
    if name == "max_unpool2d":  # the indices count along rows
        y, _ = layer.forward(*case.arrays, **case.options)
        h, v = np.divmod(array(other, 1), y.shape[3])
        other = Case((other.arrays[0], v * y.shape[2] + h), other.options)
        if any(len(np.unique(plane)) < plane.size for plane in array(case, 1).reshape(-1, *shape(case)[2:])):
            return  # which entry is the last depends on the order of rows
    if name == "pixel_shuffle":  # so do the channels
        r = case.options["upscale_factor"]
        images, channels, *sizes = shape(other)
        x = array(other).reshape(images, channels // r**2, r, r, *sizes).swapaxes(2, 3).reshape(shape(other))
        other = Case((x,), other.options)
    (y, cache), (y2, cache2) = (layer.forward(*each.arrays, **each.options) for each in (case, other))
    dy = np.random.default_rng(0).integers(-4, 5, y.shape).astype(float)
    close(name, case, y2.swapaxes(2, 3), y, dy, 0)
    (dx,), (dx2,) = layer.backward(dy, cache), layer.backward(dy.swapaxes(2, 3), cache2)
    assert dx is not None
    assert dx2 is not None
    if name == "pixel_shuffle":
        dx2 = dx2.reshape(images, channels // r**2, r, r, *sizes).swapaxes(2, 3).reshape(dx2.shape)
    if name != "adaptive_max_pool2d":  # which of two equals is the first depends on the order of rows
        close(name, case, dx2.swapaxes(2, 3), dx, dy, 1)


@pytest.mark.parametrize(("name", "layer"), VERSIONS)
@given(data=st.data())
def test_every_plane_is_computed_alone(name: str, layer: Implementation, data: st.DataObject) -> None:
    case = data.draw(LAYERS[name].cases())
    y, cache = layer.forward(*case.arrays, **case.options)
    dy = np.random.default_rng(0).integers(-4, 5, y.shape).astype(float)
    (dx,) = layer.backward(dy, cache)
    assert dx is not None
    group = case.options.get("upscale_factor", 1) ** 2
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            of_x, of_y = (slice(n, n + 1), slice(c * group, (c + 1) * group)), (slice(n, n + 1), slice(c, c + 1))
            alone = Case(tuple(each[of_x] for each in case.arrays if each is not None), case.options)
            one, kept = layer.forward(*alone.arrays, **alone.options)
            close(name, alone, one, y[of_y], dy[of_y], 0)
            close(name, alone, layer.backward(dy[of_y], kept)[0], dx[of_x], dy[of_y], 1)


@versions("avg_pool2d")
@given(window=strategies.windows(pooling=True, dilated=False), data=st.data())
def test_a_sum_of_windows_is_a_convolution_with_ones(
    layer: Implementation, window: strategies.Window, data: st.DataObject
) -> None:
    window.options.pop("ceil_mode", None)
    x = data.draw(strategies.integers((2, 2, *window.size)))
    y, cache = layer.forward(x, kernel_size=window.kernel, divisor_override=1, **window.options)
    sums, kept = conv2d.naive.forward(x, np.ones((2, 1, *window.kernel)), groups=2, **window.options)
    np.testing.assert_array_equal(y, sums, strict=True)
    dy = np.random.default_rng(0).integers(-4, 5, y.shape).astype(float)
    np.testing.assert_array_equal(layer.backward(dy, cache)[0], conv2d.naive.backward(dy, kept)[0], strict=True)


@versions("avg_pool2d")
@given(window=strategies.windows(pooling=True, dilated=False))
def test_an_average_of_entries_alone_keeps_a_constant(layer: Implementation, window: strategies.Window) -> None:
    x = np.full((1, 1, *window.size), 6.0)
    options = {"kernel_size": window.kernel, **window.options}
    y, _ = layer.forward(x, **options, count_include_pad=False)
    np.testing.assert_array_equal(y, np.full(y.shape, 6.0), strict=True)
    # With its padding an average is the share of entries among the taps in the padded image.
    padded = np.pad(np.ones_like(x[0, 0]), strategies.sides(options["padding"], window.kernel))
    taps, _ = layer.forward(np.ones((1, 1, *padded.shape)), **{**options, "padding": 0}, divisor_override=1)
    entries, _ = layer.forward(padded[None, None], **{**options, "padding": 0}, divisor_override=1)
    y, _ = layer.forward(x, **options)
    rows, columns = y.shape[2:]
    inside, _ = layer.forward(np.ones_like(x), **options, divisor_override=1)
    np.testing.assert_array_equal(y, 6 * inside / taps[:, :, :rows, :columns], strict=True)
    assert entries.shape == taps.shape


@pytest.mark.parametrize("size", [(6, 4), (9, 5), (3, 8)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_bins_that_divide_the_image_are_windows(size: tuple[int, int], factor: int) -> None:
    x = np.random.default_rng(0).integers(-4, 5, (2, 3, size[0] * factor, size[1])).astype(float)
    kernel = (factor, 1)
    for adaptive, pool in (("adaptive_avg_pool2d", "avg_pool2d"), ("adaptive_max_pool2d", "max_pool2d")):
        for version in LAYERS[adaptive].implementations:
            y, cache = version.forward(x, output_size=size)
            right, kept = LAYERS[pool].reference.forward(x, kernel_size=kernel)
            np.testing.assert_array_equal(y, right, strict=True)
            np.testing.assert_array_equal(
                version.backward(y, cache)[0], LAYERS[pool].reference.backward(y, kept)[0], strict=True
            )
            if pool == "max_pool2d":
                np.testing.assert_array_equal(cache.indices, kept.indices, strict=True)


@versions("adaptive_avg_pool2d")
@given(data=st.data())
def test_an_adaptive_average_loses_nothing_of_dy_and_keeps_a_constant(
    layer: Implementation, data: st.DataObject
) -> None:
    case = data.draw(LAYERS["adaptive_avg_pool2d"].cases())
    y, cache = layer.forward(np.full(shape(case), 6.0), **case.options)
    np.testing.assert_array_equal(y, np.full(y.shape, 6.0), strict=True)
    # dy is a multiple of the size of every bin, so that its shares are integers.
    dy = np.random.default_rng(0).integers(-4, 5, y.shape) * float(math.factorial(5) ** 2 * 6**2)
    (dx,) = layer.backward(dy, cache)
    assert dx is not None
    assert dx.sum() == dy.sum()


@versions("adaptive_max_pool2d")
@given(data=st.data())
def test_an_adaptive_maximum_is_the_entry_at_its_index_and_the_largest_of_its_bin(
    layer: Implementation, data: st.DataObject
) -> None:
    case = data.draw(LAYERS["adaptive_max_pool2d"].cases())
    x = array(case)
    y, cache = layer.forward(x, **case.options)
    flat = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    found = np.take_along_axis(flat, cache.indices.reshape(*x.shape[:2], y.shape[2] * y.shape[3]), axis=2)
    np.testing.assert_array_equal(found.reshape(y.shape), y, strict=True)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            bin_ = x[
                :,
                :,
                math.floor(i * x.shape[2] / y.shape[2]) : math.ceil((i + 1) * x.shape[2] / y.shape[2]),
                math.floor(j * x.shape[3] / y.shape[3]) : math.ceil((j + 1) * x.shape[3] / y.shape[3]),
            ]
            np.testing.assert_array_equal(y[:, :, i, j], bin_.max(axis=(2, 3)))


@versions("max_unpool2d")
@given(window=strategies.windows(pooling=True, dilated=False), data=st.data())
def test_unpooling_a_pool_keeps_its_maxima_where_they_were(
    layer: Implementation, window: strategies.Window, data: st.DataObject
) -> None:
    x = 9 + data.draw(strategies.integers((2, 2, *window.size)))
    y, pooled = max_pool2d.naive.forward(x, kernel_size=window.kernel, **window.options)
    back, cache = layer.forward(y, pooled.indices, output_size=window.size)
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    assert (back != 0).sum() == sum(len(np.unique(plane)) for plane in pooled.indices.reshape(4, -1))
    # dx is dy at the maxima. Of windows with one maximum the last has it, so the sum counts each maximum once.
    (dx,) = layer.backward(x, cache)
    assert dx is not None
    assert dx.sum() == back.sum()


@versions("max_unpool2d")
@given(data=st.data())
def test_a_gradient_of_unpooling_is_what_a_change_of_one_entry_moves(
    layer: Implementation, data: st.DataObject
) -> None:
    case = data.draw(LAYERS["max_unpool2d"].cases())
    x, indices = array(case), array(case, 1)
    y, cache = layer.forward(x, indices, **case.options)
    dy = np.random.default_rng(0).integers(-4, 5, y.shape).astype(float)
    (dx,) = layer.backward(dy, cache)
    assert dx is not None
    for position in np.ndindex(x.shape):
        moved = x.copy()
        moved[position] += 1
        assert dx[position] == (dy * (layer.forward(moved, indices, **case.options)[0] - y)).sum()


@versions("upsample_nearest2d")
@given(shape=st.tuples(*[st.integers(1, 3)] * 4), factors=st.tuples(*[st.integers(1, 4)] * 2), data=st.data())
def test_up_sampling_by_whole_factors_repeats_entries(
    layer: Implementation, shape: tuple[int, ...], factors: tuple[int, int], data: st.DataObject
) -> None:
    x = data.draw(strategies.integers(shape))
    right = np.kron(x, np.ones(factors))
    y, cache = layer.forward(x, scale_factor=factors)
    np.testing.assert_array_equal(y, right, strict=True)
    np.testing.assert_array_equal(layer.forward(x, size=right.shape[2:])[0], right, strict=True)
    dy = np.random.default_rng(0).integers(-4, 5, y.shape).astype(float)
    blocks = dy.reshape(*shape[:3], factors[0], shape[3], factors[1])
    np.testing.assert_array_equal(layer.backward(dy, cache)[0], blocks.sum(axis=(3, 5)), strict=True)


@versions("upsample_bilinear2d")
@pytest.mark.parametrize("corners", [True, False])
@given(sizes=st.tuples(*[st.integers(1, 5)] * 2), outs=st.tuples(*[st.integers(1, 9)] * 2))
def test_a_plane_through_three_points_stays_a_plane(
    layer: Implementation, corners: bool, sizes: tuple[int, int], outs: tuple[int, int]
) -> None:
    h, v = np.indices(sizes).astype(float)
    y, cache = layer.forward((1 + 2 * h - 3 * v)[None, None], size=outs, align_corners=corners)
    places = []
    for size, out in zip(sizes, outs, strict=True):
        if corners:
            places.append(np.linspace(0, size - 1, out))
        else:
            places.append(np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1))
    right = 1 + np.add.outer(2 * places[0], -3 * places[1])
    # The places and the weights are right to some units of 9, the values to some units of 27.
    np.testing.assert_allclose(y[0, 0], right, rtol=0, atol=64 * 27 * np.finfo(float).eps)
    # The weights of an output sum to 1.
    (dx,) = layer.backward(np.ones_like(y), cache)
    assert dx is not None
    np.testing.assert_allclose(dx.sum(), y.size, rtol=64 * np.finfo(float).eps)


@versions("upsample_bilinear2d")
@given(data=st.data())
def test_a_mirrored_image_is_interpolated_to_a_mirrored_one(layer: Implementation, data: st.DataObject) -> None:
    case = data.draw(LAYERS["upsample_bilinear2d"].cases())
    options = {"align_corners": case.options["align_corners"], "size": case.options.get("size", (3, 5))}
    case = Case(case.arrays, options)
    x = array(case)
    y, _ = layer.forward(x, **options)
    if options["align_corners"] and 1 in y.shape[2:]:
        return  # a single output is the first entry, and not the middle
    mirrored, _ = layer.forward(x[:, :, ::-1, ::-1].copy(), **options)
    close("upsample_bilinear2d", case, mirrored[:, :, ::-1, ::-1], y, y, 0)


@versions("pixel_shuffle")
@given(data=st.data())
def test_every_phase_of_a_shuffled_image_is_one_channel(layer: Implementation, data: st.DataObject) -> None:
    case = data.draw(LAYERS["pixel_shuffle"].cases())
    r = case.options["upscale_factor"]
    y, cache = layer.forward(*case.arrays, **case.options)
    for p in range(r):
        for q in range(r):
            np.testing.assert_array_equal(y[:, :, p::r, q::r], array(case)[:, p * r + q :: r * r], strict=True)
    np.testing.assert_array_equal(layer.backward(y, cache)[0], array(case), strict=True)


# For each option: a call, and other values that change its output. x counts up in a plane of 4x6, or 4 channels.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, tuple[Any, ...]]]] = {
    "adaptive_avg_pool2d": ({"output_size": 2}, {"output_size": (1, (2, 1), (None, 2), (None, None))}),
    "adaptive_max_pool2d": ({"output_size": 2}, {"output_size": (1, (2, 1), (None, 2), (None, None))}),
    "avg_pool2d": (
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {
            "kernel_size": (2, (3, 2)),
            "stride": (1, None, (2, 1)),
            "padding": ("valid", (1, 0), ((0, 1), (1, 1))),
            "ceil_mode": (True,),
            "count_include_pad": (False,),
            "divisor_override": (2, -9),
        },
    ),
    "max_unpool2d": (
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": (2, (3, 2)), "stride": (None, 1, (2, 1)), "padding": (1, (1, 0)), "output_size": ((10, 13),)},
    ),
    "pixel_shuffle": ({"upscale_factor": 2}, {"upscale_factor": (1,)}),
    "upsample_bilinear2d": (
        {"size": (5, 7)},
        {"size": (5, (7, 5)), "scale_factor": (1.3, (1.5, 2)), "align_corners": (True,)},
    ),
    "upsample_nearest2d": ({"size": (5, 7)}, {"size": (5, (7, 5)), "scale_factor": (0.7, (1.5, 2))}),
}


@pytest.mark.parametrize(("name", "layer"), VERSIONS)
def test_every_option_changes_the_output(name: str, layer: Implementation) -> None:
    base, changes = OPTIONS[name]
    parameters = inspect.signature(layer.forward).parameters.values()
    assert {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} == set(changes)
    x = np.arange(4 * 4 * 6).reshape(1, 4, 4, 6).astype(float)
    arrays = (x, np.tile(np.arange(24).reshape(4, 6), (1, 4, 1, 1))) if name == "max_unpool2d" else (x,)
    before, _ = layer.forward(*arrays, **base)
    for option, values in changes.items():
        seen = [before]
        for value in values:
            options = {**base, option: value}
            if option == "scale_factor":
                del options["size"]
            y, _ = layer.forward(*arrays, **options)
            assert not any(np.array_equal(y, other) for other in seen), (option, value)
            seen.append(y)


def specials() -> Iterator[Array]:
    """Planes with one kind of extreme value among numbers, and of one alone."""
    generator = np.random.default_rng(0)
    for value in (NAN, INF, -INF, 1e308, -1e308, 5e-324, -0.0):
        x = generator.integers(-4, 5, (2, 4, 5, 4)).astype(float)
        x[generator.random(x.shape) < 0.2] = value
        yield x
        yield np.full((1, 4, 3, 2), value)
    yield np.full((1, 4, 1, 1), 3.0)
    yield np.zeros((0, 4, 3, 2))


def _extreme_options() -> Iterator[tuple[str, dict[str, Any]]]:
    for output_size in (1, (2, 3), (None, 4)):
        yield "adaptive_avg_pool2d", {"output_size": output_size}
        yield "adaptive_max_pool2d", {"output_size": output_size}
    yield "avg_pool2d", {"kernel_size": 1, "padding": 0}
    yield "avg_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}
    yield "avg_pool2d", {"kernel_size": 2, "padding": 1, "ceil_mode": True, "count_include_pad": True}
    for size in (1, (5, 4), (7, 9), (3, 2)):
        yield "upsample_nearest2d", {"size": size}
        for corners in (True, False):
            yield "upsample_bilinear2d", {"size": size, "align_corners": corners}
    yield "pixel_shuffle", {"upscale_factor": 2}


@pytest.mark.parametrize(("name", "options"), [*_extreme_options()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_values_propagate_as_in_pytorch(name: str, options: dict[str, Any], dtype: type) -> None:
    torch = pytest.importorskip("torch")
    layer = LAYERS[name]
    for special in specials():
        with np.errstate(all="ignore"):
            x: Array = special.astype(dtype)
            assert layer.torch is not None
            leaf = torch.tensor(x, requires_grad=True)
            right = layer.torch(torch, leaf, **dict(options))
            if right is None:
                continue
            dy = np.resize(x if x.size else np.zeros(1, dtype), right.shape)
            right.backward(torch.tensor(dy))
            for version in layer.implementations:
                y, cache = version.forward(x, **options)
                (dx,) = version.backward(dy, cache)
                for got, expected, given in ((y, right.detach().numpy(), x), (dx, leaf.grad.numpy(), dy)):
                    assert got is not None
                    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
                    # Sums of finite numbers may overflow in one order and not in another.
                    overflows = np.isfinite(given).all() and np.abs(given).max(initial=0) > 1e30
                    for kind in () if overflows else (np.isnan, np.isposinf, np.isneginf):
                        np.testing.assert_array_equal(kind(got), kind(expected), err_msg=f"{version.name} {options}")
                    both_finite = np.isfinite(got) & np.isfinite(expected)
                    scale = float(np.abs(np.where(np.isfinite(given), given, 0)).max(initial=0.0))
                    # At most 64 roundings of sums of at most 64 terms, and of one subnormal.
                    allowed = 4096 * float(np.finfo(dtype).eps) * scale + 64 * float(np.finfo(dtype).smallest_subnormal)
                    assert (np.abs(got - expected)[both_finite] <= allowed).all(), (version.name, options, special)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_million_entries_are_averaged_within_the_error_of_their_sum(dtype: type) -> None:
    x: Array = np.random.default_rng(0).random((1, 1, 1000, 1000)).astype(dtype)
    exact = math.fsum(x.reshape(-1).tolist()) / x.size
    # Rows and columns are added one after another: 2000 additions, of positive numbers, and a quotient.
    allowed = 2002 * float(np.finfo(dtype).eps) * exact
    for name, options in (("adaptive_avg_pool2d", {"output_size": 1}),):
        y, _ = LAYERS[name].fast.forward(x, **options)
        assert abs(float(y.item()) - exact) <= allowed


def test_pytorch_s_gradient_of_repeated_indices_is_not_that_of_its_output() -> None:
    torch = pytest.importorskip("torch")
    x, indices, dy = image([1, 2]), image([1, 1]), image([0, 5, 0, 0])
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.max_unpool2d(leaf, torch.tensor(indices), (1, 2))
    y.backward(torch.tensor(dy, dtype=torch.float64))
    assert y.tolist() in (image([0, 2, 0, 0]).tolist(), image([0, 1, 0, 0]).tolist())  # its threads race
    assert leaf.grad.tolist() == image([5, 5]).tolist()
    for version in LAYERS["max_unpool2d"].implementations:
        got, cache = version.forward(x.astype(float), indices, kernel_size=(1, 2))
        assert got.tolist() == image([0, 2, 0, 0]).tolist()
        (dx,) = version.backward(dy.astype(float), cache)
        assert dx is not None
        assert dx.tolist() == image([0, 5]).tolist()  # no change of the first entry moves y


def test_pytorch_misplaces_a_row_whose_place_is_a_whole_number() -> None:
    torch = pytest.importorskip("torch")
    x = np.arange(26.0).reshape(1, 1, 26, 1)
    found = torch.nn.functional.interpolate(torch.tensor(x), size=(22, 1)).flatten().tolist()
    for version in LAYERS["upsample_nearest2d"].implementations:
        y = version.forward(x, size=(22, 1))[0].reshape(-1).tolist()
        assert y == [i * 26 // 22 for i in range(22)]
        assert [(i, a, b) for i, (a, b) in enumerate(zip(y, found, strict=True)) if a != b] == [(11, 13.0, 12.0)]


@pytest.mark.parametrize(
    ("name", "mode", "right"), [("upsample_nearest2d", "nearest", 0.0), ("upsample_bilinear2d", "bilinear", 7.0)]
)
def test_pytorch_ignores_a_factor_that_leaves_the_size(name: str, mode: str, right: float) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([0.0, 10.0]).reshape(1, 1, 2, 1)
    found = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=(1.25, 1.0), mode=mode)
    assert found.flatten().tolist() == [0, 10]
    for version in LAYERS[name].implementations:
        y, _ = version.forward(x, scale_factor=(1.25, 1))
        np.testing.assert_allclose(y.reshape(-1), [0, right], rtol=4 * np.finfo(float).eps)


def option(name: str, *values: Any) -> Callable[[Case], bool]:
    """Whether an option has one of these values."""
    return lambda case: case.options.get(name, "absent") in values


def repeats(case: Case) -> bool:
    """Whether a plane has an index twice."""
    planes = array(case, 1).reshape(-1, max(1, math.prod(shape(case)[2:])))
    return any(len(np.unique(plane)) < plane.size for plane in planes)


def grows(case: Case) -> tuple[bool, bool]:
    """Whether the output is higher, and whether it is wider."""
    y, _ = LAYERS["upsample_nearest2d"].fast.forward(
        array(case), **{name: value for name, value in case.options.items() if name != "align_corners"}
    )
    return y.shape[2] > shape(case)[2], y.shape[3] > shape(case)[3]


def outs(case: Case) -> list[tuple[int, int]]:
    """The size and the number of bins, of the height and the width."""
    given = case.options["output_size"]
    given = given if isinstance(given, tuple) else (given, given)
    return [(size, size if out is None else out) for size, out in zip(shape(case)[2:], given, strict=True)]


IMAGES: dict[str, Callable[[Case], bool]] = {
    "no image": lambda case: shape(case)[0] == 0,
    "several images and channels": lambda case: min(shape(case)[:2]) > 1,
    "one channel": lambda case: shape(case)[1] == 1,
    "one entry": lambda case: array(case).size == 1,
    "unequal sizes": lambda case: min(shape(case)[2:]) > 1 and shape(case)[2] != shape(case)[3],
}
ADAPTIVE: dict[str, Callable[[Case], bool]] = {
    **IMAGES,
    "bins that overlap": lambda case: any(1 < out < size and size % out for size, out in outs(case)),
    "bins that repeat entries": lambda case: any(out > size for size, out in outs(case)),
    "bins that touch": lambda case: all(1 < out < size and size % out == 0 for size, out in outs(case)),
    "one bin": lambda case: [out for _, out in outs(case)] == [1, 1] and min(shape(case)[2:]) > 1,
    "None for both": option("output_size", (None, None)),
    "None for the width only": lambda case: (
        isinstance(case.options["output_size"], tuple)
        and [out is None for out in case.options["output_size"]] == [0, 1]
    ),
    "a number": lambda case: isinstance(case.options["output_size"], int),
    "odd sizes": lambda case: shape(case)[2] % 2 == shape(case)[3] % 2 == 1 and min(shape(case)[2:]) > 1,
}
SCALED: dict[str, Callable[[Case], bool]] = {
    **IMAGES,
    "size as a number": lambda case: isinstance(case.options.get("size"), int),
    "size as a pair": lambda case: isinstance(case.options.get("size"), tuple),
    "factor as a number": lambda case: isinstance(case.options.get("scale_factor"), float),
    "unequal factors": lambda case: len({*np.atleast_1d(case.options.get("scale_factor", 1))}) == 2,
    "higher and narrower": lambda case: grows(case) == (True, False) and shape(case)[3] > 1,
    "larger": lambda case: grows(case) == (True, True) and min(shape(case)) > 1,
    "a fraction": lambda case: case.options.get("scale_factor") in (1.3, 0.7, 1 / 3),
    "one row of several": lambda case: shape(case)[2] > 1 and np.atleast_1d(case.options.get("size", 0))[0] == 1,
}
CORNERS: dict[str, dict[str, Callable[[Case], bool]]] = {
    "adaptive_avg_pool2d": ADAPTIVE,
    "adaptive_max_pool2d": ADAPTIVE,
    "avg_pool2d": {
        **IMAGES,
        "default stride": option("stride", None),
        "kernel as a number": lambda case: isinstance(case.options["kernel_size"], int),
        "padding not counted": lambda case: not case.options["count_include_pad"] and case.options["padding"] == 1,
        "ceil_mode": option("ceil_mode", True),
        "ceil_mode, padded, counted": lambda case: (
            case.options.get("ceil_mode", False) and case.options["padding"] == 1 and case.options["count_include_pad"]
        ),
        "divisor of 3": option("divisor_override", 3),
        "negative divisor": option("divisor_override", -2),
        "no divisor": option("divisor_override", "absent"),
        "same": option("padding", "same"),
    },
    "max_unpool2d": {
        **IMAGES,
        "repeated indices": repeats,
        "no index twice, several": lambda case: not repeats(case) and array(case).size > 4,
        "int32": lambda case: array(case, 1).dtype == np.int32,
        "default size": option("output_size", "absent"),
        "size alone": option("kernel_size", "absent"),
        "size and window": lambda case: {"kernel_size", "output_size"} <= set(case.options),
        "default stride": option("stride", None),
        "padding": option("padding", 1),
        "stride beyond the kernel": lambda case: (
            case.options.get("stride") is not None
            and bool(np.any(np.greater(case.options["stride"], case.options["kernel_size"])))
        ),
    },
    "pixel_shuffle": {
        **{name: corner for name, corner in IMAGES.items() if name != "one channel"},
        "factor 1": option("upscale_factor", 1),
        "factor 3, two channels": lambda case: case.options["upscale_factor"] == 3 and shape(case)[1] == 18,
        "no row": lambda case: shape(case)[2] == 0 < shape(case)[0],
    },
    "upsample_bilinear2d": {
        **SCALED,
        "corners": option("align_corners", True),
        "edges": option("align_corners", False),
        "corners and a factor": lambda case: case.options["align_corners"] and "scale_factor" in case.options,
    },
    "upsample_nearest2d": SCALED,
}


@pytest.mark.long
@pytest.mark.parametrize(("name", "corner"), [(name, corner) for name in CORNERS for corner in CORNERS[name]])
def test_cases_of_a_layer_reach(name: str, corner: str) -> None:
    assert reaches(LAYERS[name].cases(), CORNERS[name][corner])


@given(window=strategies.windows(pooling=True, dilated=False))
def test_windows_of_an_average_have_no_dilation(window: strategies.Window) -> None:
    assert set(window.options) - {"ceil_mode"} == {"stride", "padding"}


def test_the_step_of_a_factor_is_the_nearest_fraction_to_the_factor_or_to_its_inverse() -> None:
    """A factor above 1 is the fraction, one below 1 has the step as the fraction: neither has a larger denominator."""
    factor = 1.7320508
    above, below = _step(factor), _step(1 / factor)
    assert above == 1 / below
    assert above.numerator <= 2**20 < above.denominator
    assert _step(1.0) == 1


@pytest.mark.parametrize("factor", [(0.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (1.0, math.inf), (math.nan, 1.0)])
@pytest.mark.parametrize("name", ["upsample_nearest2d", "upsample_bilinear2d"])
def test_factors_that_cannot_be_are_refused(name: str, factor: tuple[float, float]) -> None:
    for version in LAYERS[name].implementations:
        with pytest.raises(
            ValueError, match=f"^{re.escape(f'scale_factor must be positive and finite, got {factor!r}')}$"
        ):
            version.forward(np.ones((1, 1, 2, 2)), scale_factor=factor)


@versions("max_unpool2d")
def test_an_image_without_rows_has_no_places(layer: Implementation) -> None:
    x = np.ones((1, 1, 0, 2))
    with pytest.raises(ValueError, match=r"^x must have at least one row and one column, got H=0, W=2$"):
        layer.forward(x, x.astype(int), kernel_size=2)
