"""Algebraic laws that hold of a layer whoever wrote it: a rule that all versions misread alike breaks one here.

On integers everything but the softmax is exact, so both sides of a law are compared bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Implementation, linear
from verify import strategies
from verify.layers import LAYERS, Case
from verify.layers.softmax_cross_entropy import plain_cases

Array = NDArray[Any]

EPS = float(np.finfo(np.float64).eps)


def both(name: str) -> pytest.MarkDecorator:
    """Run a test for all versions of a layer."""
    return pytest.mark.parametrize("layer", LAYERS[name].implementations, ids=lambda version: f"{name}-{version.name}")


def cases(name: str) -> st.SearchStrategy[Case]:
    """Valid calls of a layer: the declared ones, or where a window slides quicker ones of the same geometry.

    Losses have a reduction alone. Their other options have laws of their own.
    """
    quicker = {"conv2d": convolutions, "max_pool2d": poolings, "softmax_cross_entropy": plain_cases}
    return quicker.get(name, LAYERS[name].cases)()


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    """Any geometry of conv2d, with entries that a drawn seed makes: the laws are about the geometry."""
    window, seed = draw(strategies.windows()), draw(seeds())
    groups, channels, filters = (draw(st.integers(1, 2)) for _ in range(3))
    x = some((draw(st.integers(0, 2)), groups * channels, *window.size), seed)
    w = some((groups * filters, channels, *window.kernel), seed + 1)
    b = some((groups * filters,), seed + 2) if draw(st.booleans()) else None
    return Case((x, w, b), {**window.options, "groups": groups})


@st.composite
def poolings(draw: st.DrawFn) -> Case:
    """Any geometry of max_pool2d, with entries that a drawn seed makes; nine values, so they tie."""
    window, seed = draw(strategies.windows(pooling=True)), draw(seeds())
    x = some((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *window.size), seed)
    return Case((x,), {**window.options, "kernel_size": window.kernel})


def seeds() -> st.SearchStrategy[int]:
    """What an array is drawn from, once its shape is known."""
    return st.integers(0, 2**32 - 1)


def some(shape: tuple[int, ...], seed: int) -> Array:
    """Small integers of this shape."""
    return np.random.default_rng(seed).integers(-4, 4, shape, endpoint=True).astype(np.float64)


def run(layer: Implementation, case: Case, seed: int) -> tuple[Array, Array, tuple[Any, ...]]:
    """y, a drawn dy, and the gradients."""
    y, cache = layer.forward(*case.arrays, **case.options)
    dy = some(y.shape, seed)
    return y, dy, layer.backward(dy, cache)


def same(got: Any, right: Any) -> None:
    """Equal in shape, dtype and every entry."""
    np.testing.assert_array_equal(got, right, strict=True)


def two(value: Any) -> tuple[Any, Any]:
    """An option as (height, width)."""
    return value if isinstance(value, tuple) else (value, value)


def sides(case: Case, kernel: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The padding option as ((top, bottom), (left, right))."""
    padding = case.options["padding"]
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(two(case.options["dilation"]), kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in reach)
    return tuple((side, side) if isinstance(side, int) else side for side in two(padding))


def zero_padded(x: Array, pads: tuple[tuple[int, int], ...]) -> Array:
    """x with zeros around its last two axes."""
    return np.pad(x, ((0, 0), (0, 0), *pads))


def cropped(x: Array, pads: tuple[tuple[int, int], ...]) -> Array:
    """x without the rim that `zero_padded` put around it."""
    (top, bottom), (left, right) = pads
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def spread(x: Array, steps: tuple[int, int]) -> Array:
    """The last two axes with zeros between their entries, so that these come `steps` apart."""
    height, width = ((size - 1) * step + 1 for size, step in zip(x.shape[-2:], steps, strict=True))
    wide = np.zeros((*x.shape[:-2], height, width))
    wide[..., :: steps[0], :: steps[1]] = x
    return wide


def turned(case: Case) -> Case:
    """A case with height and width exchanged in every array and option."""
    options = {key: value[::-1] if isinstance(value, tuple) else value for key, value in case.options.items()}
    arrays = tuple(array.swapaxes(2, 3) if array is not None and array.ndim == 4 else array for array in case.arrays)
    return Case(arrays, options)


@both("conv2d")
@given(case=cases("conv2d"), data=st.data())
def test_a_kernel_with_a_single_one_copies_the_tap_it_names(layer: Implementation, case: Case, data: Any) -> None:
    # With linearity in w this settles the whole forward: every w is a sum of such kernels.
    x, w, _ = case.arrays
    assert x is not None
    assert w is not None
    filters, channels, height, width = w.shape
    f, c, p, q = (data.draw(st.integers(0, size - 1)) for size in w.shape)
    one = np.zeros(w.shape)
    one[f, c, p, q] = 1
    y, _ = layer.forward(x, one, None, **case.options)
    (stride_h, stride_w), (dilation_h, dilation_w) = two(case.options["stride"]), two(case.options["dilation"])
    read = zero_padded(x, sides(case, (height, width)))[:, f // (filters // case.options["groups"]) * channels + c]
    read = read[:, p * dilation_h :: stride_h, q * dilation_w :: stride_w][:, : y.shape[2], : y.shape[3]]
    same(y[:, f], read)
    assert not np.delete(y, f, axis=1).any()


@both("conv2d")
@given(case=cases("conv2d"))
def test_the_identity_kernel_returns_its_input(layer: Implementation, case: Case) -> None:
    x = case.arrays[0]
    assert x is not None
    channels = x.shape[1]
    for w, groups in ((np.eye(channels)[:, :, None, None], 1), (np.ones((channels, 1, 1, 1)), channels)):
        same(layer.forward(x, w, groups=groups)[0], x)
    centre = np.zeros((channels, 1, 3, 3))
    centre[:, :, 1, 1] = 1
    same(layer.forward(x, centre, padding="same", dilation=case.options["dilation"], groups=channels)[0], x)


@both("conv2d")
@given(case=cases("conv2d"), rows=st.integers(0, 2), columns=st.integers(0, 2), seed=seeds())
def test_a_shifted_image_gives_a_shifted_convolution(
    layer: Implementation, case: Case, rows: int, columns: int, seed: int
) -> None:
    x, w, b = case.arrays
    assert x is not None
    stride_h, stride_w = two(case.options["stride"])
    options = {**case.options, "padding": "valid"}
    top, left = rows * stride_h, columns * stride_w
    # Wide enough for one window wherever the case had to pad for one.
    large = some((*x.shape[:2], x.shape[2] + top + 9, x.shape[3] + left + 9), seed)
    y, _ = layer.forward(large, w, b, **options)
    shifted, _ = layer.forward(large[:, :, top:, left:], w, b, **options)
    same(shifted, y[:, :, rows:, columns:])


@pytest.mark.parametrize(
    ("name", "layer"),
    [(name, version) for name in ("conv2d", "flatten", "linear") for version in LAYERS[name].implementations],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@given(data=st.data(), factor=st.integers(-3, 3), seed=seeds())
def test_the_forward_is_linear_in_each_argument_and_the_backward_in_dy(
    name: str, layer: Implementation, data: Any, factor: int, seed: int
) -> None:
    case = data.draw(cases(name))
    arrays = case.arrays
    y, cache = layer.forward(*arrays, **case.options)
    biased = [*arrays[:2], None] if len(arrays) == 3 else arrays
    for k, array in enumerate(arrays):
        if array is None:
            continue
        # y is linear in x and in w without the bias, and in the bias with x at 0.
        others = [np.zeros_like(arrays[0]), *arrays[1:]] if k == 2 else list(biased)
        change = some(array.shape, seed)
        parts = []
        for value in (array, change, array + factor * change):
            others[k] = value
            parts.append(layer.forward(*others, **case.options)[0])
        same(parts[2], parts[0] + factor * parts[1])
    dy, change = some(y.shape, seed), some(y.shape, seed + 1)
    pulled = [layer.backward(value, cache) for value in (dy, change, dy + factor * change)]
    for first, second, both_of_them in zip(*pulled, strict=True):
        if first is not None and second is not None:
            same(both_of_them, first + factor * second)


@both("conv2d")
@given(case=cases("conv2d"), seed=seeds())
def test_groups_are_convolutions_apart(layer: Implementation, case: Case, seed: int) -> None:
    x, w, b = case.arrays
    assert x is not None
    assert w is not None
    y, dy, (dx, dw, db) = run(layer, case, seed)
    groups = case.options["groups"]
    channels, filters = x.shape[1] // groups, w.shape[0] // groups
    for g in range(groups):
        of_x, of_w = slice(g * channels, (g + 1) * channels), slice(g * filters, (g + 1) * filters)
        apart, cache = layer.forward(
            x[:, of_x], w[of_w], None if b is None else b[of_w], **{**case.options, "groups": 1}
        )
        same(y[:, of_w], apart)
        alone = layer.backward(dy[:, of_w], cache)
        for got, right in zip((dx[:, of_x], dw[of_w], None if db is None else db[of_w]), alone, strict=True):
            same(got, right)


@both("conv2d")
@given(case=cases("conv2d"), seed=seeds())
def test_dilation_is_a_kernel_with_zeros_between_its_taps(layer: Implementation, case: Case, seed: int) -> None:
    x, w, b = case.arrays
    assert w is not None
    y, dy, (dx, dw, db) = run(layer, case, seed)
    steps = two(case.options["dilation"])
    wide, cache = layer.forward(x, spread(w, steps), b, **{**case.options, "dilation": 1})
    same(y, wide)
    wide_dx, wide_dw, wide_db = layer.backward(dy, cache)
    assert wide_dw is not None
    same(dx, wide_dx)
    same(dw, wide_dw[..., :: steps[0], :: steps[1]])
    same(db, wide_db)


@both("conv2d")
@given(case=cases("conv2d"), seed=seeds())
def test_a_stride_keeps_every_so_manyth_output(layer: Implementation, case: Case, seed: int) -> None:
    y, dy, gradients = run(layer, case, seed)
    steps = two(case.options["stride"])
    dense, cache = layer.forward(*case.arrays, **{**case.options, "stride": 1})
    same(y, dense[..., :: steps[0], :: steps[1]])
    upstream = np.zeros_like(dense)
    upstream[..., :: steps[0], :: steps[1]] = dy
    for got, right in zip(gradients, layer.backward(upstream, cache), strict=True):
        same(got, right)


@both("conv2d")
@given(case=cases("conv2d"), seed=seeds())
def test_padding_is_convolving_a_zero_padded_image(layer: Implementation, case: Case, seed: int) -> None:
    x, w, b = case.arrays
    assert x is not None
    assert w is not None
    y, dy, (dx, dw, db) = run(layer, case, seed)
    pads = sides(case, w.shape[2:])
    wide, cache = layer.forward(zero_padded(x, pads), w, b, **{**case.options, "padding": "valid"})
    same(y, wide)
    wide_dx, wide_dw, wide_db = layer.backward(dy, cache)
    assert wide_dx is not None
    same(dx, cropped(wide_dx, pads))
    same(dw, wide_dw)
    same(db, wide_db)


@both("conv2d")
@given(case=cases("conv2d"), seed=seeds())
def test_a_1x1_convolution_is_linear_over_the_channels(layer: Implementation, case: Case, seed: int) -> None:
    x, w, b = case.arrays
    assert x is not None
    assert w is not None
    w = some((len(w), x.shape[1]), seed)
    y, cache = layer.forward(x, w[:, :, None, None], b)
    flat, of_linear = linear.naive.forward(np.moveaxis(x, 1, -1), w, b)
    same(y, np.moveaxis(flat, -1, 1))
    dy = some(y.shape, seed)
    dx, dw, db = layer.backward(dy, cache)
    right_dx, right_dw, right_db = linear.naive.backward(np.moveaxis(dy, 1, -1), of_linear)
    assert dw is not None
    assert right_dx is not None
    same(dx, np.moveaxis(right_dx, -1, 1))
    same(dw[:, :, 0, 0], right_dw)
    same(db, right_db)


@both("conv2d")
@given(case=cases("conv2d"), seed=seeds())
def test_convolving_a_row_is_multiplying_polynomials(layer: Implementation, case: Case, seed: int) -> None:
    # A full convolution flips the kernel, cross-correlation does not: with w reversed the two agree.
    w = case.arrays[1]
    assert w is not None
    x, kernel = some((1, 1, 1, 7), seed), w[:1, :1, :1]
    reach = kernel.shape[3] - 1
    y, _ = layer.forward(x, kernel[..., ::-1], padding=((0, 0), (reach, reach)))
    same(y[0, 0, 0], np.convolve(x[0, 0, 0], kernel[0, 0, 0]))


@pytest.mark.parametrize(
    ("name", "layer"),
    [(name, version) for name in ("conv2d", "max_pool2d") for version in LAYERS[name].implementations],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@given(data=st.data())
def test_height_and_width_are_treated_alike(name: str, layer: Implementation, data: Any) -> None:
    case = data.draw(cases(name))
    y, _ = layer.forward(*case.arrays, **case.options)
    on_its_side, _ = layer.forward(*turned(case).arrays, **turned(case).options)
    same(on_its_side, y.swapaxes(2, 3))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (name, version)
        for name in ("conv2d", "flatten", "linear", "max_pool2d")
        for version in LAYERS[name].implementations
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@given(data=st.data(), seed=seeds())
def test_images_are_worked_one_by_one_and_their_weight_gradients_summed(
    name: str, layer: Implementation, data: Any, seed: int
) -> None:
    case = data.draw(cases(name))
    x, *others = case.arrays
    assert x is not None
    if x.ndim == 1:  # a single row of `linear` has no batch
        x = x[None]
    y, dy, (dx, *rest) = run(layer, Case((x, *others), case.options), seed)
    sums = [None if gradient is None else np.zeros_like(gradient) for gradient in rest]
    for n in range(len(x)):
        alone, cache = layer.forward(x[n : n + 1], *others, **case.options)
        same(alone, y[n : n + 1])
        alone_dx, *alone_rest = layer.backward(dy[n : n + 1], cache)
        same(alone_dx, dx[n : n + 1])
        sums = [None if part is None else part + gradient for part, gradient in zip(sums, alone_rest, strict=True)]
    for gradient, total in zip(rest, sums, strict=True):
        same(gradient, total)


@both("max_pool2d")
@given(case=cases("max_pool2d"), constant=st.integers(-5, 5), seed=seeds())
def test_pooling_follows_an_increasing_map_and_keeps_its_winners(
    layer: Implementation, case: Case, constant: int, seed: int
) -> None:
    (x,) = case.arrays
    assert x is not None
    y, dy, (dx,) = run(layer, case, seed)
    cache = layer.forward(x, **case.options)[1]
    for map_x, map_y in ((x + constant, y + constant), (3 * x, 3 * y), (x**3, y**3)):
        mapped, of_mapped = layer.forward(map_x, **case.options)
        same(mapped, map_y)
        same(of_mapped.indices, cache.indices)
        same(layer.backward(dy, of_mapped)[0], dx)


@both("max_pool2d")
@given(case=cases("max_pool2d"))
def test_of_two_taps_the_larger_and_the_smaller_make_the_sum(layer: Implementation, case: Case) -> None:
    # -max(-x) is the minimum: never above the maximum, and with two taps max + min = the sum of the two.
    (x,) = case.arrays
    assert x is not None
    assert (layer.forward(x, **case.options)[0] + layer.forward(-x, **case.options)[0] >= 0).all()
    row = x[:, :, :1]
    for dilation in range(1, min(x.shape[3], 4)):
        options = {"kernel_size": (1, 2), "stride": 1, "dilation": (1, dilation)}
        largest, smallest = layer.forward(row, **options)[0], -layer.forward(-row, **options)[0]
        same(largest + smallest, row[..., :-dilation] + row[..., dilation:])


@both("max_pool2d")
@given(case=cases("max_pool2d"))
def test_pooling_by_one_returns_its_input(layer: Implementation, case: Case) -> None:
    (x,) = case.arrays
    assert x is not None
    y, cache = layer.forward(x, kernel_size=1, dilation=case.options["dilation"])
    same(y, x)
    height, width = x.shape[2:]
    same(cache.indices, np.broadcast_to(np.arange(height * width).reshape(height, width), x.shape))
    same(layer.backward(x, cache)[0], x)


@both("max_pool2d")
@given(case=cases("max_pool2d"))
def test_pooling_a_plane_is_pooling_its_columns_and_then_its_rows(layer: Implementation, case: Case) -> None:
    (x,) = case.arrays
    kernel = two(case.options["kernel_size"])
    strides = two(case.options["stride"])
    pads, dilations = sides(case, kernel), two(case.options["dilation"])
    ceil_mode = case.options.get("ceil_mode", False)
    y = x
    for axis in (0, 1):
        alone: dict[str, list[Any]] = {"kernel_size": [1, 1], "stride": [1, 1], "padding": [(0, 0), (0, 0)]}
        alone["dilation"] = [1, 1]
        for name, values in zip(alone, (kernel, strides, pads, dilations), strict=True):
            alone[name][axis] = values[axis]
        y, _ = layer.forward(y, **{name: tuple(values) for name, values in alone.items()}, ceil_mode=ceil_mode)
    same(layer.forward(x, **case.options)[0], y)


@both("max_pool2d")
@given(case=cases("max_pool2d"))
def test_a_tie_is_settled_as_if_earlier_entries_were_a_little_larger(layer: Implementation, case: Case) -> None:
    (x,) = case.arrays
    assert x is not None
    plane = x.shape[2] * x.shape[3]
    earlier = np.arange(plane, 0, -1.0).reshape(x.shape[2:])
    tied, distinct = (layer.forward(values, **case.options)[1] for values in (x, x * (plane + 1) + earlier))
    same(tied.indices, distinct.indices)


@both("max_pool2d")
@given(case=cases("max_pool2d"), seed=seeds())
def test_every_upstream_gradient_arrives_where_its_index_points(layer: Implementation, case: Case, seed: int) -> None:
    (x,) = case.arrays
    assert x is not None
    y, dy, (dx,) = run(layer, case, seed)
    indices = layer.forward(x, **case.options)[1].indices
    arrived = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*y.shape):
        winner = (n, c, *divmod(indices[n, c, i, j], x.shape[3]))
        assert x[winner] == y[n, c, i, j]
        arrived[winner] += dy[n, c, i, j]
    same(dx, arrived)


@both("max_pool2d")
@given(case=cases("max_pool2d"))
def test_ceil_mode_only_adds_windows_at_the_end(layer: Implementation, case: Case) -> None:
    # The added windows see what they would see if the image went on with nothing large.
    (x,) = case.arrays
    assert x is not None
    whole = layer.forward(x, **{**case.options, "ceil_mode": True})[0]
    kernel = two(case.options["kernel_size"])
    reach = [d * (k - 1) for d, k in zip(two(case.options["dilation"]), kernel, strict=True)]
    pads = sides(case, kernel)
    wide = np.pad(
        x, ((0, 0), (0, 0), *((0, r + after) for r, (_, after) in zip(reach, pads, strict=True))), constant_values=-99
    )
    options = {**case.options, "padding": tuple((before, 0) for before, _ in pads), "ceil_mode": False}
    same(whole, layer.forward(wide, **options)[0][:, :, : whole.shape[2], : whole.shape[3]])


@both("relu")
@given(case=cases("relu"), factor=st.integers(1, 5), seed=seeds())
def test_relu_splits_a_number_into_its_positive_and_negative_part(
    layer: Implementation, case: Case, factor: int, seed: int
) -> None:
    (x,) = case.arrays
    assert x is not None
    y, dy, (dx,) = run(layer, case, seed)
    # Arithmetic on an array without axes leaves a NumPy scalar, which a layer does not take.
    negative, cache = layer.forward(np.asarray(-x))
    (negative_dx,) = layer.backward(dy, cache)
    assert negative_dx is not None
    assert (y - negative == x).all()
    assert (y + negative == np.abs(x)).all()
    same(layer.forward(y)[0], y)
    assert (layer.forward(np.asarray(factor * x))[0] == factor * y).all()
    # One of the two slopes is 1 and the other 0, but for x = 0, where both are 0.
    assert (dx + negative_dx == np.where(x == 0, 0, dy)).all()
    assert (dx * x == dy * y).all()


@both("flatten")
@given(case=cases("flatten"), seed=seeds())
def test_flatten_can_be_undone_by_its_backward(layer: Implementation, case: Case, seed: int) -> None:
    (x,) = case.arrays
    assert x is not None
    y, cache = layer.forward(x)
    same(layer.backward(y, cache)[0], x)
    same(y, layer.forward(y)[0])
    if x.ndim > 2:
        # Axis by axis: the last two as one, then the rest.
        same(y, layer.forward(x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]))[0])


@both("linear")
@given(case=cases("linear"), seed=seeds())
def test_linear_after_linear_is_linear_by_the_product(layer: Implementation, case: Case, seed: int) -> None:
    x, w, b = case.arrays
    assert x is not None
    assert w is not None
    same(layer.forward(x, np.eye(x.shape[-1]))[0], x)
    outer = some((3, len(w)), seed)
    product, _ = layer.forward(outer, np.ascontiguousarray(w.T))
    shift = None if b is None else layer.forward(b, outer)[0]
    same(layer.forward(layer.forward(x, w, b)[0], outer)[0], layer.forward(x, product, shift)[0])


@both("linear")
@given(case=cases("linear"), seed=seeds())
def test_linear_takes_leading_axes_as_so_many_rows(layer: Implementation, case: Case, seed: int) -> None:
    x, w, b = case.arrays
    assert x is not None
    assert w is not None
    y, dy, (dx, dw, db) = run(layer, case, seed)
    rows = math.prod(x.shape[:-1])
    flat, cache = layer.forward(x.reshape(rows, x.shape[-1]), w, b)
    same(y.reshape(flat.shape), flat)
    flat_dx, flat_dw, flat_db = layer.backward(dy.reshape(flat.shape), cache)
    same(dx.reshape(rows, x.shape[-1]), flat_dx)
    same(dw, flat_dw)
    same(db, flat_db)


def gamma(roundings: int) -> float:
    """The relative error of a number of roundings in a row (Higham 2002, lemma 3.1)."""
    return roundings * EPS / 2 / (1 - roundings * EPS / 2)


def loss_error(x: Array) -> float:
    """Bound on the error of one loss at these logits, in absolute terms.

    - exp(x - m) errs by |x - m| u for its argument and 2u for itself, and their sum by C u.
    - So the logarithm errs by (spread + 2 + C) u and 2u of itself.
    - m - x errs by spread u.
    - The last addition errs by u of the loss, which is at most spread + log C.
    """
    classes = x.shape[1]
    spread = float(np.ptp(x)) if x.size else 0.0
    return gamma(math.ceil(3 * spread + 3 * math.log(classes) + classes + 2))


@both("softmax_cross_entropy")
@given(case=cases("softmax_cross_entropy"), seed=seeds())
def test_adding_a_constant_to_a_row_of_logits_changes_nothing(layer: Implementation, case: Case, seed: int) -> None:
    # On integers the shift is exact, and so is what is left when the largest is taken off.
    x, labels = case.arrays
    assert x is not None
    x = some(x.shape, seed)
    shift = np.random.default_rng(seed).integers(-10_000, 10_000, (len(x), 1)).astype(np.float64)
    y, dy, (dx,) = run(layer, Case((x, labels), case.options), seed)
    shifted, cache = layer.forward(x + shift, labels, **case.options)
    same(shifted, y)
    same(layer.backward(dy, cache)[0], dx)


@both("softmax_cross_entropy")
@given(case=cases("softmax_cross_entropy"), seed=seeds())
def test_gradient_rows_of_the_softmax_sum_to_zero(layer: Implementation, case: Case, seed: int) -> None:
    x = case.arrays[0]
    assert x is not None
    _, _, (dx,) = run(layer, case, seed)
    # The entry at the label is a sum of C - 1 others, each of which took two roundings on either side.
    allowed = gamma(x.shape[1] + 4)
    for row in dx:
        assert abs(math.fsum(row)) <= allowed * math.fsum(np.abs(row))


@both("softmax_cross_entropy")
@given(case=cases("softmax_cross_entropy"))
def test_probabilities_of_all_labels_sum_to_one(layer: Implementation, case: Case) -> None:
    x = case.arrays[0]
    assert x is not None
    losses = [layer.forward(x, np.full(len(x), label), reduction="none")[0] for label in range(x.shape[1])]
    # The errors of the losses are relative ones of the probabilities; exp and the sum add C + 2 roundings.
    allowed = loss_error(x) * (1 + loss_error(x)) + gamma(x.shape[1] + 2)
    assert (np.abs(np.exp(-np.array(losses)).sum(axis=0) - 1) <= allowed).all()


@both("softmax_cross_entropy")
@given(x=st.integers(0, 4).flatmap(lambda images: strategies.reals((images, 2), 30.0)), seed=seeds())
def test_of_two_classes_the_loss_is_a_softplus_and_the_gradient_a_sigmoid(
    layer: Implementation, x: Array, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, len(x))
    images = np.arange(len(x))
    y, dy, (dx,) = run(layer, Case((x, labels), {"reduction": "none"}), seed)
    margin = x[images, labels] - x[images, 1 - labels]
    assert (np.abs(y - np.logaddexp(0, -margin)) <= 2 * loss_error(x)).all()
    wrong = dy / (1 + np.exp(margin))
    # The margin errs by |margin| u here, and there; the rest are exp (2u), sum, quotient and product, twice.
    allowed = gamma(math.ceil(2 * (np.abs(margin).max(initial=0.0) + 6))) * np.abs(wrong)
    assert (np.abs(dx[images, labels] + wrong) <= allowed).all()
    assert (np.abs(dx[images, 1 - labels] - wrong) <= allowed).all()


@both("softmax_cross_entropy")
@given(case=cases("softmax_cross_entropy"), upstream=st.integers(-4, 4))
def test_sum_and_mean_are_those_of_the_losses(layer: Implementation, case: Case, upstream: int) -> None:
    x, labels = case.arrays
    assert x is not None
    images = len(x)
    losses, cache = layer.forward(x, labels, reduction="none")
    (total, of_sum), (mean, of_mean) = (layer.forward(x, labels, reduction=name) for name in ("sum", "mean"))
    allowed = gamma(images + 1) * float(np.abs(losses).sum())
    assert abs(total - math.fsum(losses)) <= allowed
    if images:
        assert abs(mean - math.fsum(losses) / images) <= allowed / images
    dy = np.array(upstream, np.float64)
    same(layer.backward(dy, of_sum)[0], layer.backward(np.full(images, dy), cache)[0])
    if images:
        same(layer.backward(dy, of_mean)[0], layer.backward(np.full(images, dy / images), cache)[0])


@both("softmax_cross_entropy")
@given(case=cases("softmax_cross_entropy"), seed=seeds())
def test_a_class_that_cannot_be_changes_nothing(layer: Implementation, case: Case, seed: int) -> None:
    x, labels = case.arrays
    assert x is not None
    y, dy, (dx,) = run(layer, case, seed)
    wide, cache = layer.forward(np.hstack([x, np.full((len(x), 1), -1000.0)]), labels, **case.options)
    same(wide, y)
    (wide_dx,) = layer.backward(dy, cache)
    assert wide_dx is not None
    same(wide_dx[:, :-1], dx)
    assert not wide_dx[:, -1].any()
