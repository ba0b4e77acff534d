"""Draws, and inner products without rounding: integers, and dyadic fractions, in floating point."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LIMB_BITS, _FEW = 8, 64
# Entries that stay in cache, with their integers and limbs.
CHUNK = 1 << 15
_MOST_SHIFT = 60


def mantissa_bits(dtype: np.dtype[Any]) -> int:
    """Differences of integers up to 2 to this power are exact."""
    return int(np.finfo(dtype).nmant)


def draw_integers(
    generator: np.random.Generator, shape: tuple[int, ...], bits: int, dtype: np.dtype[Any], unit: float = 1.0
) -> Array:
    """Integers, uniform on [-2^bits, 2^bits], times a unit, as floating-point numbers."""
    drawn = np.empty(shape, dtype)
    flat, narrow = drawn.reshape(-1), np.int32 if bits < 31 else np.int64
    for start in range(0, flat.size, CHUNK):  # so that no second array as large is needed
        part = flat[start : start + CHUNK]
        part[:] = generator.integers(-(1 << bits), 1 << bits, part.size, narrow, endpoint=True)
        if unit != 1:
            part *= drawn.dtype.type(unit)
    return drawn


def signed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random signs times magnitudes in [1/2, 1): directions that are no integers, none of whose entries is small."""
    return np.asarray(generator.choice([-1.0, 1.0], shape) * generator.uniform(0.5, 1.0, shape))


def draw_upstream(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Real upstream gradients: random signs, magnitudes in [8, 16). What clips them to [-1, 1], or cuts them, shows."""
    return np.asarray(16 * signed(generator, shape)).astype(dtype)


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
    wide = values.astype(np.float64, copy=False)
    if (np.rint(wide) == wide).all():
        return 0
    if not np.isfinite(wide).all():
        raise ValueError("not finite")
    mantissas, exponents = np.frexp(wide[wide != 0])
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    # Of each number, the place of its lowest bit.
    lowest = exponents - 54 + np.frexp((whole & -whole).astype(np.float64))[1]
    shift = max(0, -int(lowest.min()))
    if shift > _MOST_SHIFT:
        raise ValueError(f"not a multiple of 2^-{_MOST_SHIFT}")
    return shift


def exact_dot(u: Array, v: Array, likely: int = 0) -> Fraction:
    """sum(u * v) over all entries, without rounding; both arrays real, finite and of one shape.

    `likely` is the shift that likely makes integers of what is none: tried first, to save a search.
    """
    flat, other = u.reshape(-1), v.reshape(-1)
    chunks = (slice(start, start + CHUNK) for start in range(0, flat.size, CHUNK))
    return sum((_chunk_dot(flat[chunk], other[chunk], likely) for chunk in chunks), Fraction(0))


def _chunk_dot(u: Array, v: Array, likely: int) -> Fraction:
    left, left_shift, left_bits = _integers(u, likely)
    right, right_shift, right_bits = _integers(v, likely)
    if left is None or right is None:
        return _wide_dot(u, v)
    dot = _integer_dot(left, left_bits, right, right_bits)
    return Fraction(dot, 1 << (left_shift + right_shift))


def _wide_dot(u: Array, v: Array) -> Fraction:
    """The same of any finite numbers: Python's integers, shifted to the least exponent of all products."""
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        raise ValueError("not finite")
    (left, low), (right, high) = (np.frexp(each.astype(np.float64, copy=False)) for each in (u, v))
    exponents = low + high
    least = int(exponents.min())
    factors = (np.ldexp(each, 53).astype(np.int64).tolist() for each in (left, right))
    terms = zip(*factors, (exponents - least).tolist(), strict=True)
    total: int = sum(a * b << shift for a, b, shift in terms)
    return Fraction(total << max(least - 106, 0), 1 << max(106 - least, 0))


def _integers(values: Array, likely: int) -> tuple[Array | None, int, int]:
    """The values times 2^shift as int64, the shift, and how many bits they have; None where int64 cannot hold them."""
    flat = values.astype(np.float64, copy=False)
    largest = float(max(flat.max(), -flat.min())) if flat.size else 0.0
    for shift in {0, likely}:
        if largest * 2.0**shift < 2.0**62:
            scaled = flat * 2.0**shift if shift else flat
            whole = scaled.astype(np.int64)
            if (whole == scaled).all():
                return whole, shift, int(largest * 2.0**shift).bit_length()
    try:
        shift = dyadic_shift(values)
    except ValueError:
        return None, 0, 0
    if not largest * 2.0**shift < 2.0**62:
        return None, 0, 0
    return np.ldexp(flat, shift).astype(np.int64), shift, int(largest * 2.0**shift).bit_length()


def _integer_dot(u: Array, u_bits: int, v: Array, v_bits: int) -> int:
    """sum(u * v) of int64 arrays of so many bits as a Python integer.

    The wider factor is cut into limbs so short that no sum exceeds 2^62, their sums are gathered in Python
    integers; the limbs of a negative number are those of its two's complement. Where that leaves too short
    limbs, the arrays are halved.
    """
    if u_bits < v_bits:
        u, u_bits, v, v_bits = v, v_bits, u, u_bits
    limb = 62 - len(u).bit_length() - v_bits
    if limb < _LIMB_BITS:
        if len(u) <= _FEW:  # leave it to Python's integers
            return sum(a * b for a, b in zip(u.tolist(), v.tolist(), strict=True))
        half = len(u) // 2
        return _integer_dot(u[:half], u_bits, v[:half], v_bits) + _integer_dot(u[half:], u_bits, v[half:], v_bits)
    total, place = 0, 0
    while u_bits > limb:
        total += int((u & ((1 << limb) - 1)) @ v) << place
        u, u_bits, place = u >> limb, u_bits - limb, place + limb
    return total + (int(u @ v) << place)
