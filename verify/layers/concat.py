"""The declaration of concat."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import concat
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


@st.composite
def concat_cases(draw: st.DrawFn) -> Case:
    """Valid calls: two to four arrays of one to four axes, along any axis from either end; some are empty."""
    rank = draw(st.integers(1, 4))
    place = draw(st.integers(0, rank - 1))
    shape = [draw(st.integers(0, 3)) for _ in range(rank)]
    arrays = []
    for _ in range(draw(st.integers(2, 4))):
        shape[place] = draw(st.integers(0, 3))
        arrays.append(draw(strategies.integers(tuple(shape))))
    return Case(tuple(arrays), {"axis": place - rank * draw(st.booleans())})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    arrays: tuple[object, ...] = (np.zeros((2, 3)), np.zeros((2, 3))),
    **options: object,
) -> Reject:
    return Reject(name, arrays, {"axis": 1, **options}, error, message)


_REJECTS = (
    _reject(
        "sizes",
        r"z has shape \(3, 3\), x has \(2, 3\): they may differ in axis 1 alone",
        arrays=(np.zeros((2, 3)), np.zeros((3, 3))),
    ),
    _reject(
        "sizes of the third",
        r"others\[0\] has shape \(2, 4\), x has \(2, 3\): they may differ in axis 0 alone",
        arrays=(np.zeros((2, 3)), np.zeros((1, 3)), np.zeros((2, 4))),
        axis=-2,
    ),
    _reject(
        "ranks",
        r"z has shape \(2,\), x has \(2, 3\): they may differ in axis 1 alone",
        arrays=(np.zeros((2, 3)), np.zeros(2)),
    ),
    _reject("scalars", r"x must have at least one axis, got shape \(\)", arrays=(np.zeros(()), np.zeros(())), axis=0),
    _reject("axis beyond", r"axis must be below the 2 axes of x, got 2 \(x: \(2, 3\)\)", axis=2),
    _reject("axis before", "axis must be at least -2, got -3", axis=-3),
    _reject("fractional axis", r"axis must be an integer, got 1\.0", TypeError, axis=1.0),
    _reject("boolean axis", "axis must be an integer, got True", TypeError, axis=True),
    _reject(
        "one array",
        r"concat takes x, z, \*others by position and, by name, axis; z is missing",
        TypeError,
        arrays=(np.zeros((2, 3)),),
    ),
    _reject(
        "a list of arrays",
        "x must be a NumPy array, got list",
        TypeError,
        arrays=([np.zeros((2, 3)), np.zeros((2, 3))], np.zeros((2, 3))),
    ),
    _reject(
        "integer array",
        r"others\[0\] must be a floating .* got dtype int64",
        TypeError,
        arrays=(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3), np.int64)),
    ),
    _reject(
        "object x", "x must be a floating .* dtype object", TypeError, arrays=(np.zeros(3, object), np.zeros(3)), axis=0
    ),
    _reject(
        "mixed dtypes",
        "z has dtype float32, but x has float64",
        TypeError,
        arrays=(np.zeros((2, 3)), np.zeros((2, 3), np.float32)),
    ),
    Reject(
        "no axis",
        (np.zeros(3), np.zeros(3)),
        {},
        TypeError,
        r"concat takes x, z, \*others by position and, by name, axis; axis is missing",
    ),
    _reject("unknown option", "by name, axis; it has no dim=1", TypeError, dim=1),
    _reject("others by name", r"by name, axis; it has no others=\(\)", TypeError, others=()),
)


def _bench(zoo: str, images: int, channels: tuple[int, ...], size: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shapes = [(images, each, size, size) for each in channels]
        return tuple(generator.integers(-99, 100, shape).astype(np.float32) for shape in shapes)

    name = f"{' + '.join(map(str, channels))} channels of {size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"axis": 1}, naive)


def _torch(torch: Any, *arrays: Any, axis: int) -> Any:
    return torch.cat([array for array in arrays if array is not None], axis)


CONCAT = Layer(
    name="concat",
    module=concat,
    arguments="x: ...; z: ...; others: ... -> y: ...",
    structure="multilinear",
    cases=concat_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 16, (8, 4), 16, naive=True),
        _bench("U-Net", 8, (64, 64), 56),
        _bench("Inception", 8, (64, 128, 32, 32), 28),  # block 3a of GoogLeNet, arXiv:1409.4842, table 1
    ),
    source="Ronneberger et al. 2015, arXiv:1505.04597; torch.cat",
    torch=_torch,
    jax=lambda jax, *arrays, axis: jax.numpy.concatenate(arrays, axis),
    onnx=("Concat",),
)
