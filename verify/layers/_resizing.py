"""Cases of layers that change the size of an image: adaptive pools and up-sampling."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Reject

# Fractions below and above 1, whole numbers, and floats that no fraction of small numbers is.
_FACTORS = (1 / 3, 0.5, 0.7, 1.0, 1.25, 1.3, 1.5, 2.0, 2.5, 3.0)


@st.composite
def adaptive_cases(draw: st.DrawFn, arrays: Callable[[tuple[int, ...]], st.SearchStrategy[Array]]) -> Case:
    """Valid calls of an adaptive pool: bins that divide the image, overlap, repeat entries, and None for its size."""
    spans = [_span(draw) for _ in range(2)]
    x = draw(arrays((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *(size for size, _ in spans))))
    given = tuple(None if out == size and draw(st.booleans()) else out for size, out in spans)
    output_size = given[0] if given[0] == given[1] is not None and draw(st.booleans()) else given
    return Case((x,), {"output_size": output_size})


def _span(draw: st.DrawFn) -> tuple[int, int]:
    """Return the size of an axis and the number of its bins. One size in two is a multiple of the other."""
    out = draw(st.integers(1, 5))
    if draw(st.booleans()):
        return out * draw(st.integers(1, 3 if out < 3 else 2)), out
    return draw(st.integers(1, 6)), out


@st.composite
def scaled_cases(draw: st.DrawFn, arrays: Callable[[tuple[int, ...]], st.SearchStrategy[Array]]) -> Case:
    """Valid calls of an up-sampling, by size or by factor: larger, smaller, by whole numbers or not."""
    sizes = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    x = draw(arrays((draw(st.integers(0, 2)), draw(st.integers(1, 2)), *sizes)))
    if draw(st.booleans()):
        outs = tuple(
            size * draw(st.integers(1, 3)) if draw(st.booleans()) else draw(st.integers(1, 6)) for size in sizes
        )
        return Case((x,), {"size": outs[0] if outs[0] == outs[1] and draw(st.booleans()) else outs})
    factors = tuple(draw(st.sampled_from([f for f in _FACTORS if size * f >= 1])) for size in sizes)
    alike = [f for f in _FACTORS if min(sizes) * f >= 1]
    return Case((x,), {"scale_factor": draw(st.sampled_from(alike)) if draw(st.booleans()) else factors})


def steps(x: Any, options: dict[str, Any]) -> list[tuple[int, int, Fraction]]:
    """Return the size, the output size and the step of the height and of the width."""
    sizes = x.shape[2:]
    if options.get("size") is not None:
        outs = strategies.both(options["size"])
        return [(size, out, Fraction(size, out)) for size, out in zip(sizes, outs, strict=True)]
    given = options["scale_factor"]
    factors = given if isinstance(given, tuple) else (given, given)
    return [
        (size, math.floor(size * factor), 1 / Fraction(factor).limit_denominator(1000))
        for size, factor in zip(sizes, factors, strict=True)
    ]


_COMMON: tuple[tuple[str, object, type[Exception], str], ...] = (
    ("rank of x", np.zeros((5, 6)), ValueError, r"x must have 4 axes \(N C H W\), got shape \(5, 6\)"),
    ("no row", np.zeros((1, 1, 0, 2)), ValueError, "x must have at least one row and one column, got H=0, W=2"),
    ("integer x", np.zeros((1, 1, 2, 2), int), TypeError, "x must be a floating or complex array, got dtype int64"),
    ("object x", np.zeros((1, 1, 2, 2), object), TypeError, "x must be a floating or complex array, got dtype object"),
    ("list", [[[[1.0]]]], TypeError, "x must be a NumPy array, got list"),
)


def _rejects(common: dict[str, Any], *options: tuple[str, dict[str, Any], type[Exception], str]) -> tuple[Reject, ...]:
    """Return calls with a bad x, and calls with bad options."""
    x = np.zeros((2, 3, 5, 6))
    return (
        *(Reject(name, (bad,), common, error, message) for name, bad, error, message in _COMMON),
        *(Reject(name, (x,), given, error, message) for name, given, error, message in options),
    )


ADAPTIVE_REJECTS = _rejects(
    {"output_size": 1},
    ("negative size", {"output_size": (2, -1)}, ValueError, r"output_size must be at least 0, got \(2, -1\)"),
    ("fractional size", {"output_size": 1.5}, TypeError, r"output_size must be an integer, or .*, got 1\.5"),
    ("boolean size", {"output_size": True}, TypeError, "output_size must be an integer, or .*, got True"),
    ("no size", {"output_size": None}, TypeError, "output_size must be an integer, or a pair .*, got None"),
    ("three sizes", {"output_size": (1, 2, 3)}, TypeError, r"output_size must be .*, got \(1, 2, 3\)"),
)
SCALED_REJECTS = _rejects(
    {"size": 1},
    ("neither", {}, ValueError, "give either size or scale_factor, got size=None and scale_factor=None"),
    ("both", {"size": 4, "scale_factor": 2}, ValueError, "either size or scale_factor, got size=4 and scale_factor=2"),
    ("size 0", {"size": (2, 0)}, ValueError, r"size must be at least 1, got \(2, 0\)"),
    ("fractional size", {"size": 1.5}, TypeError, r"size must be an integer or a pair of integers, got 1\.5"),
    ("boolean size", {"size": True}, TypeError, "size must be an integer or a pair of integers, got True"),
    (
        "nothing left",
        {"scale_factor": 0.18},
        ValueError,
        r"scale_factor=0\.18 leaves nothing of H=5, W=6: \(0, 1\)",
    ),
    ("factor 0", {"scale_factor": (1, 0)}, ValueError, r"scale_factor must be positive and finite, got \(1, 0\)"),
    ("no factor", {"scale_factor": math.nan}, ValueError, "scale_factor must be positive and finite, got nan"),
    ("endless factor", {"scale_factor": math.inf}, ValueError, "scale_factor must be positive and finite, got inf"),
    ("boolean factor", {"scale_factor": True}, TypeError, "scale_factor must be a number or a pair .*, got True"),
    ("factor in words", {"scale_factor": "2"}, TypeError, "scale_factor must be a number or a pair .*, got '2'"),
    ("three factors", {"scale_factor": (1, 2, 3)}, TypeError, r"scale_factor must be .*, got \(1, 2, 3\)"),
)


def bench(zoo: str, images: int, channels: int, side: int, *, naive: bool = False, **options: Any) -> BenchCase:
    """Return the benchmark of square images."""

    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, side, side)).astype(np.float32),)

    how = ", ".join(f"{name}={value}" for name, value in options.items())
    return BenchCase(f"{how} on {channels}x{side}x{side}, N = {images}", zoo, images, draw, options, naive)


def adaptive_scope(bound: int) -> list[_scopes.Part]:
    """Every size of an image, with every output size from 0 and None, and every number of images and channels."""
    numbers = range(1, bound + 1)
    axes = list(itertools.product(numbers, (*range(bound + 1), None)))
    several = [(1, 1), *_scopes.batches(bound)]

    def sized(rows: tuple[int, int | None], columns: tuple[int, int | None]) -> Iterator[Configuration]:
        for images, channels in several:
            x = images, channels, rows[0], columns[0]
            yield Configuration((x,), {"output_size": (rows[1], columns[1])})

    return _scopes.crossed(axes, axes, sized)


def scaled_scope(bound: int, **options: tuple[Any, ...]) -> list[_scopes.Part]:
    """Every size of an image, with every size of y or every scale factor, and every number of images and channels.

    The factors are fractions of two numbers up to the bound. `options` are further ones, with all their values.
    """
    numbers = range(1, bound + 1)
    factors = sorted({one / other for one, other in itertools.product(numbers, repeat=2)})
    by_size = list(itertools.product(numbers, numbers))
    by_factor = [(size, factor) for size, factor in itertools.product(numbers, factors) if size * factor >= 1]
    several = [(1, 1), *_scopes.batches(bound)]

    def scaled(rows: tuple[int, Any], columns: tuple[int, Any], name: str) -> Iterator[Configuration]:
        for (images, channels), values in itertools.product(several, itertools.product(*options.values())):
            x = images, channels, rows[0], columns[0]
            yield Configuration((x,), {name: (rows[1], columns[1]), **dict(zip(options, values, strict=True))})

    kinds = ((by_size, "size"), (by_factor, "scale_factor"))
    return [part for axes, name in kinds for part in _scopes.crossed(axes, axes, functools.partial(scaled, name=name))]
