"""What the declarations of activations share: arrays of any shape, bad input, the sizes to time, tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Reject

# exp, expm1, log1p and tanh are within 4 ulp, or E u with E = 8 and u = eps/2. NumPy's own tests allow 3.5 ulp at most
# (numpy/_core/tests/data/umath-validation-set-*.csv, test_umath_accuracy.py).
E = 8


@st.composite
def with_zeros(draw: st.DrawFn) -> Array:
    """Real numbers in [-4, 4] of any shape. Some are 0 or -0.

    Differences cannot distinguish a gradient that underflows from zero, so saturated entries are tested by values.
    """
    x = draw(_shapes().flatmap(strategies.reals))
    if x.size:
        places = draw(st.lists(st.integers(0, x.size - 1), max_size=3))
        x.flat[places] = draw(st.sampled_from((0.0, -0.0)))
    return x


def off_halves() -> st.SearchStrategy[Array]:
    """Odd multiples of 2^-11 in [-4, 4], of any shape. They are exact in float32, and no multiples of a half.

    Where the slope jumps, an ulp more is another gradient, and the checker cannot decide. At 0 an ulp is nothing.
    """
    halves = _shapes().flatmap(lambda shape: strategies.integers(shape, 2**12 - 1))
    return halves.map(lambda n: np.asarray((2 * n + 1) / 2**11))


def _shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


def cases(x: st.SearchStrategy[Array], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
    """Valid calls with one array and these options."""
    return st.builds(Case, st.tuples(x), st.fixed_dictionaries(options))


def rejects(*numbers: str) -> tuple[Reject, ...]:
    """Bad arrays, and bad values of the options that are numbers."""
    x = (np.zeros(3),)
    return (
        Reject("integer x", (np.zeros(3, np.int64),), {}, TypeError, "x must be a floating .* array, got dtype int64"),
        Reject("object x", (np.zeros(3, object),), {}, TypeError, "x must be a floating .* array, got dtype object"),
        Reject("number", (1.0,), {}, TypeError, "x must be a NumPy array, got float"),
        *(
            Reject(f"{name}: {value!r}", x, {name: value}, error, f"{name} must be {what}, got {value!r}")
            for name in numbers
            for value, error, what in (
                ("1", TypeError, "a number"),
                (True, TypeError, "a number"),
                (None, TypeError, "a number"),
                (np.nan, ValueError, "finite"),
                (-np.inf, ValueError, "finite"),
            )
        ),
    )


def bench(options: Mapping[str, Any] | None = None) -> tuple[BenchCase, ...]:
    """The sizes of relu, with normal numbers."""
    return (
        bench_case("small enough for loops", 16, 8, 32, options, naive=True),
        bench_case("tutorial", 128, 2, 24, options),
        bench_case("VGG on CIFAR", 32, 64, 32, options),
        bench_case("ResNet-50", 8, 64, 112, options),
    )


def bench_case(
    zoo: str,
    images: int,
    channels: int,
    size: int,
    options: Mapping[str, Any] | None = None,
    *,
    more: Any = lambda generator, x: (),
    naive: bool = False,
    whole: bool = False,
) -> BenchCase:
    """One size to time. `more(generator, x)` draws the arrays after x. If `whole`, x has integers: an exact layer."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        shape = images, channels, size, size
        x = (generator.integers(-99, 100, shape) if whole else generator.normal(size=shape)).astype(np.float32)
        return (x, *more(generator, x))

    return BenchCase(f"{channels}x{size}x{size}, N = {images}", zoo, images, draw, options or {}, naive)


def twice(k: Any, scale: Array) -> Array:
    """Twice gamma_k of this scale, for an error of k u (Higham 2002, section 3.1).

    A subnormal result may be 0: JAX flushes it.
    """
    limits = np.finfo(scale.dtype)
    ku = k * float(limits.eps) / 2
    return np.asarray(2 * ku / (1 - ku) * np.abs(scale) + float(limits.tiny))
