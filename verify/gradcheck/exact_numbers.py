"""Draws, and inner products without rounding: integers, and dyadic fractions, in floating point."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Products that are added up in floating point, and what is left of 53 bits for a limb at least.
_ROW, _LEAST_LIMB = 128, 8
_LIMIT = 2.0**62
# Entries that stay in cache, with their limbs; from 128 KiB on an array is fresh memory each time (glibc's malloc).
CHUNK = 15 << 10


def mantissa_bits(dtype: np.dtype[Any]) -> int:
    """Differences of integers up to 2 to this power are exact."""
    return int(np.finfo(dtype).nmant)


def draw_integers(
    generator: np.random.Generator, shape: tuple[int, ...], bits: int, dtype: np.dtype[Any], unit: float = 1.0
) -> Array:
    """Integers, uniform on [-2^bits, 2^bits), times a unit, as floating-point numbers; bits < 64."""
    drawn = np.empty(shape, dtype)
    # Bits as the generator makes them, 64 at a time: `Generator.integers` takes twice as long.
    flat, raw, narrow = drawn.reshape(-1), generator.bit_generator.random_raw, bits < 32
    for start in range(0, flat.size, CHUNK):  # so that no second array as large is needed
        part = flat[start : start + CHUNK]
        if narrow:
            part[:] = raw((part.size + 1) // 2).view(np.int32)[: part.size] >> (31 - bits)
        else:
            part[:] = raw(part.size).view(np.int64) >> (63 - bits)
    if unit != 1:
        drawn *= drawn.dtype.type(unit)
    return drawn


def signed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random signs times magnitudes in [1/2, 1): directions that are no integers, none of whose entries is small."""
    return np.asarray(generator.choice([-1.0, 1.0], shape) * generator.uniform(0.5, 1.0, shape))


def draw_upstream(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Real upstream gradients: random signs, magnitudes in [8, 16). What clips them to [-1, 1], or cuts them, shows."""
    return np.asarray(16 * signed(generator, shape)).astype(dtype)


def set_size(bits: int) -> int:
    """How many values `draw_integers` draws from."""
    return 2 << bits


def draw_gapped(generator: np.random.Generator, shapes: list[tuple[int, ...]], gap_bits: int) -> list[Array]:
    """Arrays whose entries, over all arrays, are 3/4 of 2^gap_bits apart at least, and 3/8 from 0; gap_bits >= 3.

    In a random order, they are the odd multiples of 2^(gap_bits - 1) around 0, each moved by up to a quarter of that:
    about a round number a function that rounds is symmetric, and may pass for affine.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    total = sum(sizes)
    order = generator.permutation(total) - total // 2
    eighth = 1 << (gap_bits - 3)
    values = ((2 * order + 1) << (gap_bits - 1)) + generator.integers(-eighth, eighth, total, endpoint=True)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def small_bits(dtype: np.dtype[Any]) -> int:
    """Small upstream gradients are below 2 to the power of minus this: nothing rounds by that, nor underflows."""
    return min(32, int(np.finfo(dtype).maxexp) // 8)


def dyadic_shift(values: Array, most: int = 60) -> int:
    """The least s for which values * 2^s are integers; ValueError if none up to `most` serves."""
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
    if shift > most:
        raise ValueError(f"not a multiple of 2^-{most}")
    return shift


def exact_dot(u: Array, v: Array, likely_u: int = 0, likely_v: int = 0) -> Fraction:
    """sum(u * v) over all entries, without rounding; both arrays real, finite and of one shape.

    Each is likely of integers when multiplied by 2 to this power, which is tried first, to save a search.
    """
    flat, other = u.reshape(-1), v.reshape(-1)
    chunks = (slice(start, start + CHUNK) for start in range(0, flat.size, CHUNK))
    dots = (_chunk_dot(flat[chunk], other[chunk], likely_u, likely_v) for chunk in chunks)
    return sum(dots, Fraction(0))


def _chunk_dot(u: Array, v: Array, likely_u: int, likely_v: int) -> Fraction:
    left, left_shift, left_bits = _integers(u, likely_u)
    right, right_shift, right_bits = _integers(v, likely_v)
    if left is None or right is None:
        return _wide_dot(u, v)
    if left_bits < right_bits:
        left, left_bits, right, right_bits = right, right_bits, left, left_bits
    return Fraction(_integer_dot(left, left_bits, right, right_bits), 1 << (left_shift + right_shift))


def _wide_dot(u: Array, v: Array) -> Fraction:
    """The same of any finite numbers: Python's integers, shifted to the least exponent of all products."""
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        raise ValueError("not finite")
    (left, low), (right, high) = (np.frexp(each.astype(np.float64, copy=False)) for each in (u, v))
    exponents = low + high
    least = int(exponents.min())
    factors = (np.ldexp(each, 53).astype(np.int64).tolist() for each in (left, right))
    terms = zip(*factors, (exponents - least).tolist(), strict=True)
    return Fraction(sum(a * b << shift for a, b, shift in terms)) * Fraction(2) ** (least - 106)


def _integers(values: Array, likely: int) -> tuple[Array | None, int, int]:
    """The values times 2^shift, all integers, the shift, and their bits, at most 62; None where there is no such."""
    flat = values.astype(np.float64, copy=False)
    largest = float(max(flat.max(), -flat.min())) if flat.size else 0.0
    for shift in (likely, 0) if likely else (0,):
        if largest * 2.0**shift < _LIMIT:
            whole = flat * 2.0**shift if shift else flat
            if (np.rint(whole) == whole).all():
                return whole, shift, int(largest * 2.0**shift).bit_length()
    try:
        shift = dyadic_shift(values, most=1000)
    except ValueError:
        return None, 0, 0
    if not largest * 2.0**shift < _LIMIT:
        return None, 0, 0
    return np.ldexp(flat, shift), shift, int(largest * 2.0**shift).bit_length()


def _integer_dot(u: Array, u_bits: int, v: Array, v_bits: int) -> int:
    """sum(u * v) of integers in float64, of so many bits, u_bits >= v_bits: a sum of rows of _ROW products is exact.

    Where it would not be, the wider factor is cut in two, until all sums stay within 2^53.
    """
    limb = 53 - _ROW.bit_length() - v_bits
    if limb < _LEAST_LIMB:  # cut both
        half = v_bits // 2
        high = np.floor(v * 2.0**-half)
        low = _integer_dot(u, u_bits, v - high * 2.0**half, half)
        return low + (_integer_dot(u, u_bits, high, v_bits - half) << half)
    total, place = 0, 0
    while u_bits > limb:
        high = np.floor(u * 2.0**-limb)
        total += _sum_of_products(u - high * 2.0**limb, v) << place
        u, u_bits, place = high, u_bits - limb, place + limb
    return total + (_sum_of_products(u, v) << place)


def _sum_of_products(u: Array, v: Array) -> int:
    if len(u) <= _ROW:
        return int(u @ v)
    whole = len(u) // _ROW * _ROW
    rows = np.vecdot(u[:whole].reshape(-1, _ROW), v[:whole].reshape(-1, _ROW))
    return int(rows.astype(np.int64).sum()) + int(u[whole:] @ v[whole:])
