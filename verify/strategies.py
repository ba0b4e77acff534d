"""Hypothesis strategies of valid arguments, for your layers and for this project's.

- `exact_integers`, `gapped_arrays`, `tied_arrays` and `reals` make arrays.
- `cotangents` makes upstream gradients.
- `windows` makes the geometry of a convolution or a pool, `transposed_windows` that of a transposed convolution.

They construct valid arguments and filter nothing. Up to 64 entries of an array are drawn one by one, and shrink.
The other entries follow from a drawn seed. An impossible request raises ValueError, quoting the values, when the
strategy is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

# The first 64 entries are drawn one by one, and shrink. The others follow from a drawn seed.
_DRAWN_ONE_BY_ONE = 64
# Neighbours in a gapped array are from 9/8 to 16/8 of the gap apart.
_EIGHTHS = 8


class Window(NamedTuple):
    """A sliding window that fits an image: the image's (H, W), the kernel, and the options of the call."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    options: dict[str, Any]


class _Axis(NamedTuple):
    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int


def exact_integers(shape: tuple[int, ...], most: int = 4, *, dtype: DTypeLike = np.float64) -> st.SearchStrategy[Array]:
    """Floating arrays of integers in [-most, most], whose sums and products are exact. They have many ties and zeros.

    Raises TypeError if `most` is not an integer. Raises ValueError if the dtype cannot represent every integer up to
    it. Shrinks to zeros.
    """
    kind, _ = _floating(dtype), _entries(shape)
    most = _whole(most)
    limit = 2 ** (np.finfo(kind).nmant + 1)
    if not 0 <= most <= limit:
        raise ValueError(f"most must lie in [0, {limit}], where integers are exact in {kind}, got {most!r}")
    return _arrays(
        shape,
        st.integers(-most, most),
        lambda generator, size: generator.integers(-most, most, size, endpoint=True),
        kind,
    )


integers = exact_integers


def reals(shape: tuple[int, ...], most: float = 4.0) -> st.SearchStrategy[Array]:
    """float64 arrays of real numbers in [-most, most].

    Raises ValueError if `most` is negative or not finite.
    """
    _check_number("most", most)
    if not 0 <= most < math.inf:
        raise ValueError(f"most must be at least 0 and finite, got {most!r}")
    _entries(shape)
    most = float(most)
    elements = st.floats(-most, most, allow_subnormal=False)
    return _arrays(shape, elements, lambda generator, size: generator.uniform(-most, most, size))


def gapped_arrays(
    shape: tuple[int, ...], gap: float = 1.0, *, dtype: DTypeLike = np.float64
) -> st.SearchStrategy[Array]:
    """Arrays whose entries are more than `gap` apart from each other and from zero, so at no kink of relu or max.

    Entries have either sign and any order. Their largest magnitude is 2 * gap * size. Raises ValueError if the gap
    is not positive, or if this range of gaps does not fit the dtype's mantissa. Shrinks to 9/8 gap, 18/8 gap, ...
    in order.
    """
    kind, size = _floating(dtype), _entries(shape)
    _check_number("gap", gap)
    if not 0 < gap < math.inf:
        raise ValueError(f"gap must be positive and finite, got {gap!r}")
    largest = 2.0 * gap * size
    # Rounding moves an entry by half its spacing. Neighbours are 9/8 of the gap apart and must stay beyond the gap.
    limits = np.finfo(kind)
    unit = gap / _EIGHTHS
    if not (largest * float(limits.eps) < unit and largest < float(limits.max) and unit > float(limits.tiny)):
        raise ValueError(f"{size} entries {gap!r} apart reach {largest:.6g}, where {kind} cannot resolve {unit:.6g}")
    return _gapped(shape, size, gap, kind)


@st.composite
def _gapped(draw: st.DrawFn, shape: tuple[int, ...], size: int, gap: float, dtype: np.dtype[Any]) -> Array:
    steps = draw(_arrays((size,), st.integers(1, _EIGHTHS), lambda g, n: g.integers(1, _EIGHTHS, n, endpoint=True)))
    below = draw(_arrays((size,), st.booleans(), lambda g, n: g.integers(0, 2, n))).astype(bool)
    values = np.zeros(size)
    for side, sign in ((~below, 1), (below, -1)):
        values[side] = sign * np.cumsum(_EIGHTHS + steps[side])
    if size <= _DRAWN_ONE_BY_ONE:
        values = values[draw(st.permutations(range(size)))] if size else values
    else:
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))).shuffle(values)
    return (values * (gap / _EIGHTHS)).astype(dtype).reshape(shape)


def tied_arrays(shape: tuple[int, ...], most: int = 2, *, dtype: DTypeLike = np.float64) -> st.SearchStrategy[Array]:
    """Arrays of integers in [-most, most] with at least two equal entries at random positions.

    Raises ValueError for fewer than two entries. Shrinks to zeros.
    """
    size = _entries(shape)
    if size < 2:
        raise ValueError(f"a tie needs two entries, shape {shape} has {size}")
    return st.builds(_tied, exact_integers(shape, most, dtype=dtype), _two_places(size))


def _tied(array: Array, places: tuple[int, int]) -> Array:
    array.flat[places[1]] = array.flat[places[0]]
    return array


def cotangents(shape: tuple[int, ...], most: int = 9, *, dtype: DTypeLike = np.float64) -> st.SearchStrategy[Array]:
    """Upstream gradients: integers in [-most, most], at least one positive and one negative, so never all equal.

    All ones hide errors. For example, those of a batch norm cancel to zero. An array of one entry is not zero.
    Raises ValueError if `most` is less than 1. Shrinks to 1, -1, 0, 0, ...
    """
    size = _entries(shape)
    most = _whole(most)
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most!r}")
    arrays, magnitudes = exact_integers(shape, most, dtype=dtype), st.integers(1, most)
    if size == 0:
        return arrays
    if size == 1:
        return st.builds(
            lambda array, m, sign: np.full_like(array, sign * m), arrays, magnitudes, st.sampled_from((1, -1))
        )
    return st.builds(_signed, arrays, _two_places(size), magnitudes, magnitudes)


def _signed(array: Array, places: tuple[int, int], positive: int, negative: int) -> Array:
    array.flat[places[0]], array.flat[places[1]] = positive, -negative
    return array


def _two_places(size: int) -> st.SearchStrategy[tuple[int, int]]:
    """Two different positions in range(size)."""
    pairs = st.tuples(st.integers(0, size - 1), st.integers(1, size - 1))
    return pairs.map(lambda pair: (pair[0], (pair[0] + pair[1]) % size))


def _check_number(name: str, value: float) -> None:
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r}")


def _whole(most: int) -> int:
    if not isinstance(most, (int, np.integer)):
        raise TypeError(f"most must be a whole number, got {most!r}")
    return int(most)


def _entries(shape: tuple[int, ...]) -> int:
    if not isinstance(shape, tuple) or not all(isinstance(side, (int, np.integer)) and side >= 0 for side in shape):
        raise ValueError(f"shape must be a tuple of sizes from 0 up, got {shape!r}")
    return int(math.prod(shape))


def _floating(dtype: DTypeLike) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind.kind != "f":
        raise ValueError(f"dtype must be real and floating, got {kind}")
    return kind


@st.composite
def _arrays(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    elements: st.SearchStrategy[float],
    fill: Callable[[np.random.Generator, int], Array],
    dtype: DTypeLike = np.float64,
) -> Array:
    """Draw the first entries one by one. A generator with a drawn seed fills the rest.

    A smaller array always needs fewer draws, so a large failing case can shrink to a small one.
    """
    size = int(math.prod(shape))
    array = np.zeros(size, dtype)
    few = min(size, _DRAWN_ONE_BY_ONE)
    if size > few:
        array[few:] = fill(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), size - few)
    array[:few] = draw(st.lists(elements, min_size=few, max_size=few))
    return array.reshape(shape)


@st.composite
def windows(draw: st.DrawFn, *, pooling: bool = False, dilated: bool = True) -> Window:
    """Windows for convolution or, with `pooling`, windows with padding of at most half the window and none empty.

    Without `dilated` the options have no dilation, as those of average pooling.
    The output size is drawn first, then kernel, stride, dilation and padding. The image size follows from them.
    Every corner case therefore occurs:

    - strides larger than the kernel
    - leftover rows at the end
    - 1x1 outputs
    - even kernels
    - windows wholly in the padding (for convolution)
    - with ceil_mode, windows that hang over the padding
    """
    form = draw(st.sampled_from(["valid", "same", "int", "pair", "sides"]))
    kernel, dilation, out = _two(draw, 1, 3), _two(draw, 1, 3 if dilated else 1), _two(draw, 1, 3)
    stride = (1, 1) if form == "same" else _two(draw, 1, 3)
    if pooling and form != "same" and draw(st.integers(0, 2)) == 0:
        stride = kernel  # the default of pools, and the most common call
    pads = [_pads(draw, form, kernel[a], dilation[a], pooling=pooling) for a in (0, 1)]
    if form == "int":
        least = min(side for pad in pads for side in pad)
        pads = [(least, least), (least, least)]
    ceil_mode = pooling and draw(st.booleans())
    least = min(1, draw(st.integers(0, 3))) if ceil_mode else 0  # otherwise few windows hang over
    axes = [_axis(draw, kernel[a], stride[a], dilation[a], pads[a], out[a], least, pooling=pooling) for a in (0, 1)]
    padding: Any = {
        "valid": "valid",
        "same": "same",
        "int": pads[0][0],
        "pair": (pads[0][0], pads[1][0]),
        "sides": tuple(pads),
    }[form]
    options = {"stride": _spelled(draw, stride), "padding": padding}
    if dilated:
        options["dilation"] = _spelled(draw, dilation)
    if ceil_mode:
        options["ceil_mode"] = True
    return Window((axes[0].size, axes[1].size), kernel, options)


@st.composite
def transposed_windows(draw: st.DrawFn) -> Window:
    """Windows for transposed convolution: `size` is that of x, and the options include output_padding.

    Padding crops what the windows cover by less than all of it, so every output has an entry. Corners that occur:

    - strides larger than the kernel, which leave gaps
    - output_padding up to the stride or the dilation
    - entries of x whose window is cropped wholly
    - 1x1 outputs
    """
    form = draw(st.sampled_from(["valid", "same", "int", "pair", "sides"]))
    size, kernel, dilation = _two(draw, 1, 3), _two(draw, 1, 3), _two(draw, 1, 3)
    stride = (1, 1) if form == "same" else _two(draw, 1, 3)
    extra_h, extra_v = (draw(st.integers(0, max(stride[a], dilation[a]) - 1)) for a in (0, 1))
    extra = (extra_h, extra_v)
    spare = [(size[a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + extra[a] for a in (0, 1)]
    if form == "int":
        spare = [min(spare)] * 2
    if form == "sides":
        before = [draw(st.integers(0, min(4, most))) for most in spare]
        after = [draw(st.integers(0, min(4, most - cut))) for most, cut in zip(spare, before, strict=True)]
        padding: Any = tuple(zip(before, after, strict=True))
    else:
        cut = [draw(st.integers(0, min(4, most // 2))) for most in spare]
        padding = {"int": cut[0], "pair": tuple(cut)}.get(form, form)
    options = {
        "stride": _spelled(draw, stride),
        "padding": padding,
        "output_padding": _spelled(draw, extra),
        "dilation": _spelled(draw, dilation),
    }
    return Window(size, kernel, options)


def both(option: int | tuple[int, int]) -> tuple[int, int]:
    """An option of a window, for the height and the width."""
    return (option, option) if isinstance(option, int) else option


def sides(
    padding: Any, kernel: tuple[int, ...] = (1, 1), dilation: tuple[int, ...] = (1, 1)
) -> tuple[tuple[int, int], tuple[int, int]]:
    """A padding as ((top, bottom), (left, right)). "same" depends on the window."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        height, width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return (height // 2, height - height // 2), (width // 2, width - width // 2)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return both(rows), both(columns)


def _two(draw: st.DrawFn, low: int, high: int) -> tuple[int, int]:
    return draw(st.integers(low, high)), draw(st.integers(low, high))


def _spelled(draw: st.DrawFn, value: tuple[int, int]) -> Any:
    """Return two equal integers sometimes as one integer."""
    return value[0] if value[0] == value[1] and draw(st.booleans()) else value


def _pads(draw: st.DrawFn, form: str, kernel: int, dilation: int, *, pooling: bool) -> tuple[int, int]:
    reach = dilation * (kernel - 1)
    if form == "valid":
        return 0, 0
    if form == "same":
        return reach // 2, reach - reach // 2
    most = min(3, (reach + 1) // 2) if pooling else 3
    before = draw(st.integers(0, most))
    return before, draw(st.integers(0, most)) if form == "sides" else before


def _axis(
    draw: st.DrawFn,
    kernel: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    out: int,
    least: int,
    *,
    pooling: bool,
) -> _Axis:
    before, after = pads
    leftover = draw(st.integers(min(least, stride - 1), stride - 1))
    size = (out - 1) * stride + dilation * (kernel - 1) + 1 + leftover - before - after
    # If the dilation is at most the image size, no window of a pool can skip the whole image.
    return _Axis(max(size, dilation if pooling else 1), kernel, stride, dilation, before, after)
