"""Numbers on which floating point does not round: integers, short dyadic fractions, and their inner products."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np

from verify.checker.point import Array

# Of a mantissa, the bits that fractions leave free. A number that was rounded to fill the mantissa looks that short
# with probability 2^-7.
GUARD_BITS = 6
# 20 bits for one factor and 20 for the other leave 12 of float64's 52 for sums of 4,096 products.
MOST_BITS = 20
# Upstream gradients get up to 30 bits: more than the 24 of a float32, so a backward that computes in float32 shows.
WIDE_BITS = 30
# int64 holds 62 bits and a sign; the least exponent of a normal float64 is -1022.
_INTEGER_BITS, _MOST_SHIFT = 62, 1000
# Entries summed at once: with the integers made of them they stay in the cache, and bound `_integer_dot`'s rounding.
_CHUNK = 15 << 10


@functools.cache
def mantissa_bits(dtype: np.dtype[Any]) -> int:
    """Differences of integers up to 2 to this power are exact."""
    return int(np.finfo(dtype).nmant)


def draw_integers(
    rng: np.random.Generator, shape: tuple[int, ...], bits: int, dtype: np.dtype[Any], unit: float = 1.0
) -> Array:
    """Integers, uniform on [-2^bits, 2^bits), times a unit, as floating-point numbers; bits < 32."""
    drawn = rng.integers(-1 << bits, 1 << bits, shape, dtype=np.int32 if bits < 31 else np.int64).astype(dtype)
    if unit != 1:
        drawn *= drawn.dtype.type(unit)
    return np.asarray(drawn)


def draw_gapped(rng: np.random.Generator, shapes: list[tuple[int, ...]], gap_bits: int) -> list[Array]:
    """Arrays whose entries are at least 3/4 of 2^gap_bits apart, and 3/8 of it from 0; gap_bits >= 3.

    In a random order, they are the odd multiples of 2^(gap_bits - 1), each moved by up to a quarter of that. Without
    these moves a function that rounds would be symmetric about every entry, and pass for affine.
    """
    sizes = [math.prod(shape) for shape in shapes]
    total = sum(sizes)
    order = rng.permutation(total) - total // 2
    eighth = 1 << (gap_bits - 3)
    values = ((2 * order + 1) << (gap_bits - 1)) + rng.integers(-eighth, eighth, total, endpoint=True)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def dyadic_shift(values: Array, most: int = 60) -> int:
    """The least s for which values * 2^s are integers; ValueError if none up to `most` serves."""
    flat = values.reshape(-1)
    parts = (flat[start : start + _CHUNK].astype(np.float64, copy=False) for start in range(0, flat.size, _CHUNK))
    shift = max((_shift(part) for part in parts), default=0)
    if shift > most:
        raise ValueError(f"not a multiple of 2^-{most}")
    return shift


def _shift(values: Array) -> int:
    if np.array_equal(np.rint(values), values):
        return 0
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    mantissas, exponents = np.frexp(values[values != 0])
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    # Of each number, the place of its lowest bit.
    lowest = exponents - 54 + np.frexp((whole & -whole).astype(np.float64))[1]
    return max(0, -int(lowest.min()))


def integer_bits(values: Array, shift: int) -> int:
    """The least b with |values| * 2^shift <= 2^b."""
    mantissa, exponent = math.frexp(float(np.abs(values).max(initial=0.0)))
    return max(0, exponent + shift - (mantissa == 0.5))


def exact_dot(u: Array, v: Array) -> Fraction:
    """sum(u * v) over all entries, without rounding; both arrays real, finite and of one shape."""
    left, right = u.reshape(-1), v.reshape(-1)
    total = Fraction(0)
    for start in range(0, left.size, _CHUNK):
        one, other = _integers(left[start : start + _CHUNK]), _integers(right[start : start + _CHUNK])
        if one is None or other is None:
            total += _wide_dot(left[start : start + _CHUNK], right[start : start + _CHUNK])
        else:
            total += Fraction(_integer_dot(*one[:2], *other[:2]), 1 << (one[2] + other[2]))
    return total


def _integers(values: Array) -> tuple[Array, int, int] | None:
    """The values times 2^shift, which are integers, their bits, and the shift; None where 62 bits do not hold them."""
    wide = values.astype(np.float64, copy=False)
    largest = float(np.abs(wide).max())
    if not largest < math.inf:
        raise ValueError("not finite")
    shift = _shift(wide)
    mantissa, exponent = math.frexp(largest)
    bits = max(0, exponent + shift - (mantissa == 0.5))
    if bits > _INTEGER_BITS or shift > _MOST_SHIFT:
        return None
    return (wide * 2.0**shift if shift else wide), bits, shift


def _wide_dot(u: Array, v: Array) -> Fraction:
    """The inner product of any finite numbers, in Python's integers: all products share the least exponent."""
    (left, low), (right, high) = (np.frexp(each.astype(np.float64, copy=False)) for each in (u, v))
    exponents = low + high
    least = int(exponents.min())
    factors = (np.ldexp(each, 53).astype(np.int64).tolist() for each in (left, right))
    terms = zip(*factors, (exponents - least).tolist(), strict=True)
    return Fraction(sum(a * b << shift for a, b, shift in terms)) * Fraction(2) ** (least - 106)


def _integer_dot(u: Array, u_bits: int, v: Array, v_bits: int) -> int:
    """sum(u * v) of at most _CHUNK integers in float64, which have at most u_bits and v_bits.

    int64, which wraps around, gives the sum modulo 2^64. Floating point, in any order, is off by at most
    n^2 2^(u_bits + v_bits - 53) (Higham 2002, section 3.1). If that is less than 2^63, the two together determine the
    sum. Otherwise u is cut in two. einsum, since a BLAS would start threads for so little.
    """
    if 2 * _CHUNK.bit_length() + u_bits + v_bits - 53 > 62:
        half = u_bits // 2
        high = np.floor(u * 2.0**-half)
        low = _integer_dot(u - high * 2.0**half, half, v, v_bits)
        return low + (_integer_dot(high, u_bits - half, v, v_bits) << half)
    near = int(np.einsum("i,i", u, v))
    wrapped = int(u.astype(np.int64) @ v.astype(np.int64))
    return near + (wrapped - near + (1 << 63)) % (1 << 64) - (1 << 63)
