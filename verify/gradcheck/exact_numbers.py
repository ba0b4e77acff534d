"""Draws, and inner products without rounding: integers, and dyadic fractions, in floating point."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHUNK_BITS = 14
_MOST_SHIFT = 60


def mantissa_bits(dtype: np.dtype[Any]) -> int:
    """Differences of integers up to 2 to this power are exact."""
    return int(np.finfo(dtype).nmant)


def draw_integers(generator: np.random.Generator, shape: tuple[int, ...], bits: int, dtype: np.dtype[Any]) -> Array:
    """Integers, uniform on [-2^bits, 2^bits], as floating-point numbers."""
    return np.asarray(generator.integers(-(1 << bits), 1 << bits, shape, endpoint=True)).astype(dtype)


def signed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random signs times magnitudes in [1/2, 1): directions that are no integers, none of whose entries is small."""
    return np.asarray(generator.choice([-1.0, 1.0], shape) * generator.uniform(0.5, 1.0, shape))


def set_size(bits: int) -> int:
    """How many values `draw_integers` draws from."""
    return (2 << bits) + 1


def draw_gapped(generator: np.random.Generator, shapes: list[tuple[int, ...]], gap_bits: int) -> list[Array]:
    """Arrays whose entries, over all arrays, are 2^gap_bits apart and at least half of that from 0.

    In a random order, they are the odd multiples of 2^(gap_bits - 1) around 0.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    total = sum(sizes)
    order = generator.permutation(total) - total // 2
    values = (2 * order + 1) << (gap_bits - 1)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def dyadic_shift(values: Array) -> int:
    """The least s for which values * 2^s are integers; ValueError if none up to 60 serves."""
    wide = values.astype(np.float64)
    for shift in range(_MOST_SHIFT + 1):
        scaled = np.ldexp(wide, shift)
        if np.array_equal(scaled, np.rint(scaled)):
            return shift
    raise ValueError(f"not a multiple of 2^-{_MOST_SHIFT}")


def exact_dot(u: Array, v: Array) -> Fraction:
    """sum(u * v) over all entries, without rounding; both arrays real, finite and of one shape."""
    left, left_shift = _integers(u)
    right, right_shift = _integers(v)
    if left is None or right is None:
        pairs = zip(u.ravel().tolist(), v.ravel().tolist(), strict=True)
        return sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
    return Fraction(_integer_dot(left, right), 1 << (left_shift + right_shift))


def _integers(values: Array) -> tuple[Array | None, int]:
    """The values times 2^shift as int64, and the shift; None where int64 cannot hold them."""
    try:
        shift = dyadic_shift(values)
    except ValueError:
        return None, 0
    scaled = np.ldexp(values.astype(np.float64), shift).ravel()
    if scaled.size and np.abs(scaled).max() >= 2.0**62:
        return None, 0
    return scaled.astype(np.int64), shift


def _integer_dot(u: Array, v: Array) -> int:
    """sum(u * v) of int64 arrays as a Python integer.

    Chunks of 2^14 entries; the wider factor is cut into limbs short enough that no chunk's sum
    reaches 2^63, the sums are gathered in Python integers.
    """
    if _bits(u) < _bits(v):
        u, v = v, u
    limb = 62 - _CHUNK_BITS - _bits(v)
    if limb < 8:  # both wide: leave it to Python's integers
        return sum(a * b for a, b in zip(u.tolist(), v.tolist(), strict=True))
    total = 0
    for start in range(0, len(u), 1 << _CHUNK_BITS):
        chunk = slice(start, start + (1 << _CHUNK_BITS))
        rest, weight, place = np.abs(u[chunk]), np.sign(u[chunk]) * v[chunk], 0
        while rest.any():
            low = rest & ((1 << limb) - 1)
            total += int((low * weight).sum()) << place
            rest, place = rest >> limb, place + limb
    return total


def _bits(values: Array) -> int:
    return int(np.abs(values).max()).bit_length() if values.size else 0
