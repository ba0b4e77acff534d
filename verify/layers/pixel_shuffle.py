"""The declaration of pixel_shuffle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import pixel_shuffle
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject


@st.composite
def pixel_shuffle_cases(draw: st.DrawFn) -> Case:
    """Valid calls on small integers, with factors from 1, no image, and images without rows."""
    factor, channels = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    images, height, width = draw(st.integers(0, 3)), draw(st.integers(0, 4)), draw(st.integers(1, 3))
    x = draw(strategies.integers((images, channels * factor**2, height, width)))
    return Case((x,), {"upscale_factor": factor})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 8, 2, 3)),
    factor: object = 2,
) -> Reject:
    return Reject(name, (x,), {"upscale_factor": factor}, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(4, 2\)", x=np.zeros((4, 2))),
    _reject("channels", r"the 8 channels of x must be a multiple of upscale_factor squared, 9 \(x: \(2, 8", factor=3),
    _reject("one factor", "the 6 channels of x must be a multiple of .* squared, 4", x=np.zeros((1, 6, 1, 1))),
    _reject("factor 0", "upscale_factor must be at least 1, got 0", factor=0),
    _reject("fractional factor", r"upscale_factor must be an integer, got 2\.0", TypeError, factor=2.0),
    _reject("boolean factor", "upscale_factor must be an integer, got True", TypeError, factor=True),
    _reject("two factors", r"upscale_factor must be an integer, got \(2, 2\)", TypeError, factor=(2, 2)),
    _reject(
        "integer x", "x must be a floating or complex array, got dtype int64", TypeError, x=np.zeros((1, 4, 1, 1), int)
    ),
    _reject("object x", "x must be a floating .* array, got dtype object", TypeError, x=np.zeros((1, 4, 1, 1), object)),
    _reject("list", "x must be a NumPy array, got list", TypeError, x=[[[[1.0]]]]),
)


def _bench(zoo: str, images: int, channels: int, size: int, factor: int, naive: bool = False) -> BenchCase:
    """Return the benchmark of square images that become `channels` channels."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.normal(size=(images, channels * factor**2, size, size)).astype(np.float32),)

    name = f"by {factor}, {channels * factor**2}x{size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"upscale_factor": factor}, naive)


def _torch(torch: Any, x: Any, *, upscale_factor: int) -> Any:
    """PyTorch's gradient of an empty array has the shape of y, and it refuses it itself."""
    return torch.nn.functional.pixel_shuffle(x, upscale_factor) if x.numel() else None


def _scope(bound: int) -> list[_scopes.Part]:
    """Every upscale_factor, number of images and of channels of y, and size of the image; the first and last from 0."""
    numbers, from_none = range(1, bound + 1), range(bound + 1)

    def sized(factor: int, sizes: tuple[int, ...]) -> list[Configuration]:
        images, channels, height, width = sizes
        shape = images, channels * factor**2, height, width
        return [Configuration((shape,), {"upscale_factor": factor})]

    return _scopes.crossed(numbers, list(itertools.product(from_none, numbers, from_none, from_none)), sized)


PIXEL_SHUFFLE = Layer(
    name="pixel_shuffle",
    module=pixel_shuffle,
    arguments="x: N C*r*r H W -> y: N C H*r W*r",
    structure="multilinear",
    cases=pixel_shuffle_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 4, 2, 32, 2, naive=True),
        _bench("super-resolution", 8, 3, 64, 3),
        _bench("super-resolution", 8, 64, 48, 2),
    ),
    source="Shi et al. 2016, arXiv:1609.05158",
    torch=_torch,
    onnx=("DepthToSpace",),
    scope=_scope,
)
