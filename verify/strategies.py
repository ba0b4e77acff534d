"""Hypothesis strategies of valid arguments. They construct; nothing is drawn and then thrown away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]

# So many entries are drawn, and shrink, by themselves; a seed that is drawn settles the others.
_DRAWN_ONE_BY_ONE = 64


class Window(NamedTuple):
    """A sliding window that fits an image: the image's (H, W), the kernel, and the options as a caller writes them."""

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


def integers(shape: tuple[int, ...], most: int = 4) -> st.SearchStrategy[Array]:
    """float64 arrays of integers in [-most, most]: small, so that ties and zeros abound."""
    return _arrays(
        shape, st.integers(-most, most), lambda generator, size: generator.integers(-most, most, size, endpoint=True)
    )


def reals(shape: tuple[int, ...], most: float = 4.0) -> st.SearchStrategy[Array]:
    """float64 arrays of real numbers in [-most, most]."""
    elements = st.floats(-most, most, allow_subnormal=False)
    return _arrays(shape, elements, lambda generator, size: generator.uniform(-most, most, size))


@st.composite
def _arrays(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    elements: st.SearchStrategy[float],
    fill: Callable[[np.random.Generator, int], Array],
) -> Array:
    """The first entries drawn one by one, the rest by a generator whose seed is drawn.

    A smaller array always takes fewer draws, so a large failing case can shrink to a small one.
    """
    size = int(np.prod(shape))
    array = np.zeros(size)
    few = min(size, _DRAWN_ONE_BY_ONE)
    if size > few:
        array[few:] = fill(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), size - few)
    array[:few] = draw(st.lists(elements, min_size=few, max_size=few))
    return array.reshape(shape)


@st.composite
def windows(draw: st.DrawFn, *, pooling: bool = False) -> Window:
    """Windows for convolution, or for pooling, where padding is at most half the window and no window is empty.

    The output size is drawn first, then kernel, stride, dilation and padding, and the image is what
    they leave: so strides beyond the kernel, rows left over at the end, 1x1 outputs, even kernels and
    windows wholly in the padding (for convolution) all come up.
    """
    form = draw(st.sampled_from(["valid", "same", "int", "pair", "sides"]))
    kernel, dilation, out = _two(draw, 1, 3), _two(draw, 1, 3), _two(draw, 1, 3)
    stride = (1, 1) if form == "same" else _two(draw, 1, 3)
    if pooling and form != "same" and draw(st.integers(0, 2)) == 0:
        stride = kernel  # the default of pools, and the commonest call
    pads = [_pads(draw, form, kernel[a], dilation[a], pooling=pooling) for a in (0, 1)]
    if form == "int":
        least = min(side for pad in pads for side in pad)
        pads = [(least, least), (least, least)]
    axes = [_axis(draw, kernel[a], stride[a], dilation[a], pads[a], out[a], pooling=pooling) for a in (0, 1)]
    padding: Any = {
        "valid": "valid",
        "same": "same",
        "int": pads[0][0],
        "pair": (pads[0][0], pads[1][0]),
        "sides": tuple(pads),
    }[form]
    options = {"stride": _spelled(draw, stride), "padding": padding, "dilation": _spelled(draw, dilation)}
    if pooling and draw(st.booleans()):
        options["ceil_mode"] = True
    return Window((axes[0].size, axes[1].size), kernel, options)


def _two(draw: st.DrawFn, low: int, high: int) -> tuple[int, int]:
    return draw(st.integers(low, high)), draw(st.integers(low, high))


def _spelled(draw: st.DrawFn, value: tuple[int, int]) -> Any:
    """One integer for two equal ones, at times."""
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
    draw: st.DrawFn, kernel: int, stride: int, dilation: int, pads: tuple[int, int], out: int, *, pooling: bool
) -> _Axis:
    before, after = pads
    leftover = draw(st.integers(0, stride - 1))
    size = (out - 1) * stride + dilation * (kernel - 1) + 1 + leftover - before - after
    # A window of a pool whose taps are no further apart than the image is long cannot jump over it.
    return _Axis(max(size, dilation if pooling else 1), kernel, stride, dilation, before, after)
