"""Draws, and inner products without rounding: integers, and dyadic fractions, in floating point."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MOST_BITS, _MOST_SHIFT = 62, 1000
# Entries that stay in cache, with their limbs; from 128 KiB on an array is fresh memory each time (glibc's malloc).
CHUNK = 15 << 10


class Grid(NamedTuple):
    """Of numbers that are integers times 2^-shift: |n| <= 2^bits where bits are told, else the shift is a guess."""

    shift: int = 0
    bits: int | None = None


UNKNOWN = Grid()


@functools.cache
def mantissa_bits(dtype: np.dtype[Any]) -> int:
    """Differences of integers up to 2 to this power are exact."""
    return int(np.finfo(dtype).nmant)


def draw_integers(
    generator: np.random.Generator, shape: tuple[int, ...], bits: int, dtype: np.dtype[Any], unit: float = 1.0
) -> Array:
    """Integers, uniform on [-2^bits, 2^bits), times a unit, as floating-point numbers; bits < 64."""
    size = math.prod(shape)
    if size <= CHUNK:
        drawn = _drawn(generator, size, bits).astype(dtype).reshape(shape)
    else:
        drawn = np.empty(shape, dtype)
        flat = drawn.reshape(-1)
        for start in range(0, size, CHUNK):  # so that no second array as large is needed
            part = flat[start : start + CHUNK]
            part[:] = _drawn(generator, part.size, bits)
    if unit != 1:
        drawn *= unit
    return drawn


def _drawn(generator: np.random.Generator, size: int, bits: int) -> Array:
    """The same as int32, or as int64. The generator makes 64 bits at a time: its `integers` takes twice as long."""
    raw = generator.bit_generator.random_raw
    if bits < 32:
        drawn = raw((size + 1) // 2).view(np.int32)[:size]
        drawn >>= 31 - bits
    else:
        drawn = raw(size).view(np.int64)
        drawn >>= 63 - bits
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


def grid_of(values: Array, likely: int = 0) -> Grid | None:
    """The grid the values lie on: with the likely shift if they do, else the least; None where 62 bits are too few."""
    flat, largest, fits, likely = values.reshape(-1), 0.0, True, max(likely, 0)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK].astype(np.float64, copy=False)
        largest = max(largest, float(np.maximum.reduce(np.abs(chunk))))
        if likely:
            chunk = chunk * 2.0**likely
        fits = fits and bool(np.logical_and.reduce(np.rint(chunk) == chunk))  # not of NaN
    if not largest < math.inf:
        return None
    if fits and (bits := _bits(largest, likely)) <= _MOST_BITS:
        return Grid(likely, bits)
    try:
        shift = dyadic_shift(values, _MOST_SHIFT)
    except ValueError:
        return None
    bits = _bits(largest, shift)
    return Grid(shift, bits) if bits <= _MOST_BITS else None


def _bits(largest: float, shift: int) -> int:
    """The least b for which largest * 2^shift <= 2^b."""
    mantissa, exponent = math.frexp(largest)
    return max(0, exponent + shift - (mantissa == 0.5))


def exact_dot(u: Array, v: Array, u_grid: Grid = UNKNOWN, v_grid: Grid = UNKNOWN) -> Fraction:
    """sum(u * v) over all entries, without rounding; both arrays real, finite and of one shape.

    Entries of whose grid no bits are told are looked at first.
    """
    flat, other = u.reshape(-1), v.reshape(-1)
    totals: dict[int, int] = {}
    rest: list[Fraction] = []
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        left, right = _integers(flat[part], u_grid), _integers(other[part], v_grid)
        if left is None or right is None:
            rest.append(_wide_dot(flat[part], other[part]))
            continue
        shift = left[2] + right[2]
        totals[shift] = totals.get(shift, 0) + _integer_dot(*left[:2], *right[:2])
    rest += [Fraction(total, 1 << shift) for shift, total in totals.items()]
    return rest[0] if len(rest) == 1 else sum(rest, Fraction(0))


def _integers(values: Array, grid: Grid) -> tuple[Array, int, int] | None:
    """The values times 2^shift, which are integers, their bits, and the shift; None where 62 bits are too few."""
    known = grid if grid.bits is not None else grid_of(values, grid.shift)
    if known is None or known.bits is None:
        return None
    wide = values.astype(np.float64, copy=False)
    return wide * 2.0**known.shift if known.shift else wide, known.bits, known.shift


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


def _integer_dot(u: Array, u_bits: int, v: Array, v_bits: int) -> int:
    """sum(u * v) of integers in float64, of so many bits, CHUNK of them at most.

    int64, which wraps around, gives the sum modulo 2^64. Floating point, in whatever order, gives it to within
    n^2 2^(u_bits + v_bits - 53) (Higham 2002, section 3.1): less than 2^63, so that together they tell it. Where
    that would be more, the wider factor is cut in two. einsum, as a BLAS would start threads for so little.
    """
    if u_bits < v_bits:
        u, u_bits, v, v_bits = v, v_bits, u, u_bits
    if 2 * CHUNK.bit_length() + u_bits + v_bits - 53 > 62:
        half = u_bits // 2
        high = np.floor(u * 2.0**-half)
        low = _integer_dot(u - high * 2.0**half, half, v, v_bits)
        return low + (_integer_dot(high, u_bits - half, v, v_bits) << half)
    near = int(np.einsum("i,i", u, v))
    wrapped = int(u.astype(np.int64) @ v.astype(np.int64))
    return near + (wrapped - near + (1 << 63)) % (1 << 64) - (1 << 63)
