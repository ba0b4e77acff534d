"""What the declarations of the normalizations share: their arrays, and the tolerance of a normalized layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from verify import strategies
from verify.layers._layer import Array

# Roundings beside those of the sums. A difference from the mean has at most 6, also in the form
# x (r w) + (b - mean r w) of some libraries. The rest has a square, a square root, a quotient and two products.
_ROUNDINGS = 8


def eighths(shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Arrays of multiples of 1/8 in [-4, 4]. Their sums are exact, so a constant array has a variance of exactly 0.

    The order of the terms does not change a sum then. No product of such numbers is subnormal.
    """
    return strategies.integers(shape, 32).map(lambda array: array / 8)


class Drawn(NamedTuple):
    """The eps of a case, and the strategy of its arrays."""

    eps: float | None
    arrays: Callable[[tuple[int, ...]], st.SearchStrategy[Array]]


def drawn(n: int, small: tuple[float | None, ...] = (1e-5, 1e-3)) -> st.SearchStrategy[Drawn]:
    """An eps for statistics of n entries, and arrays whose gradients are above their rounding for it.

    A gradient has no component along the normalized entries h but for a share of eps / (variance + eps). With two
    entries it has no other. With zeros and ties dy w is easily along h, so such arrays have an eps of at least 1/8:
    that share is 1/130 or more. A `small` eps, with at least three entries, has multiples of 1/8 near normal numbers
    from a drawn seed, where dy w is along h by accident only.
    """
    large = st.builds(Drawn, st.sampled_from([0.125, 0.5, 2.0]), st.just(eighths))
    return large | st.builds(Drawn, st.sampled_from(small), st.just(_normal)) if n > 2 else large


def _normal(shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(lambda seed: np.asarray(np.rint(8 * np.random.default_rng(seed).normal(size=shape)) / 8))


def maybe(strategy: st.SearchStrategy[Array]) -> st.SearchStrategy[Array | None]:
    """An array, or None."""
    return st.none() | strategy


class Errors(NamedTuple):
    """How far two right versions of a normalization may differ, entry by entry. Those of dw and db are summed yet."""

    y: Array
    dx: Array
    dw: Array
    db: Array


def errors(
    x: Array,
    w: Array | float,
    b: Array | float,
    dy: Array,
    eps: float,
    axes: tuple[int, ...],
    *,
    centred: bool = True,
    fixed: tuple[Array, Array] | None = None,
    summed: int,
) -> Errors:
    """Twice the largest rounding error of one version of y = w h + b, h = (x - mean) r, r = (variance + eps)^(-1/2).

    Sums run over `axes`, w and b broadcast against x. `fixed` holds a mean and a variance that are given. Without
    `centred` the mean is 0. The letters:

    - u is eps/2 of the dtype, and gamma_k = k u / (1 - k u) (Higham 2002, section 3.1).
    - n is the number of entries of a sum, and k = n + 8.
    - X is the largest |x| and |mean| of a sum, and s = 1/r.

    The errors:

    1. The mean has an error of at most gamma_n X. Then z = x - mean has one of at most D = gamma_k X. It consists of
       an error that is common to all z, and of u |z|. A given mean leaves the second, and D = gamma_8 X.
    2. The divisor s is the root mean square of the vector of all z, extended by sqrt(eps). A norm moves by no more
       than its vector, so s has an error of at most D + gamma_k s. Relative to s this is rho = D/s + gamma_k. A given
       variance leaves gamma_8.
    3. The quotient h = z/s has an error of at most H = (D/s + (rho + 2u) |h|) / (1 - rho). Division by 1 - rho bounds
       the terms of second order. The term D/s = gamma_k X/s is the conditioning. Digits are lost where x is large
       beside its deviation.
    4. The error of y is at most |w| H + gamma_3 (|w h| + |b|).
    5. Let g = w dy. The mean of g has an error of at most gamma_k mean|g|. The mean of g h has one of at most
       mean(|g| H) + gamma_k mean|g h|.
    6. Let q = g - mean(g) - h mean(g h). It has an error Q, which is at most
       gamma_k (|g| + mean|g| + |h| mean|g h|) + H |mean(g h)| + |h| mean(|g| H).
       Some libraries compute mean(g h) as r (mean(g x) - mean(x) mean(g)). They lose gamma_k X/s mean|g| more, times
       |h|.
    7. The error of dx = q/s is at most (Q + (rho + 2u) |q|) / (s (1 - rho)).
    8. A term of dw has an error of at most |dy| H. Their sum adds gamma_k of the sum of |dy h|. Here k = `summed` + 8
       counts the terms. For db it is gamma_k of the sum of |dy|.
    """
    if not x.size:
        return Errors(*np.zeros((4, *x.shape)))
    unit = float(np.finfo(x.dtype).eps) / 2
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    w, b = np.asarray(w, np.float64), np.asarray(b, np.float64)
    n = int(np.prod([x.shape[axis] for axis in axes]))
    with np.errstate(all="ignore"):
        mean = x.mean(axis=axes, keepdims=True) if centred else np.zeros(())
        variance = np.square(x - mean).mean(axis=axes, keepdims=True)
        if fixed is not None:
            mean, variance = (each.astype(np.float64) for each in fixed)
        of_mean = _gamma(_ROUNDINGS if fixed is not None else n + _ROUNDINGS, unit)
        s = np.sqrt(variance + eps)
        h = (x - mean) / s
        largest = np.maximum(np.abs(x).max(axis=axes, keepdims=True, initial=0.0), np.abs(mean))
        condition = of_mean * largest / s if centred else np.zeros_like(s)
        rho = (condition if fixed is None else 0) + of_mean
        rest = np.where(rho < 1, 1 - rho, 0)
        of_h = (condition + (rho + 2 * unit) * np.abs(h)) / rest
        of_y = np.abs(w) * of_h + _gamma(3, unit) * (np.abs(w * h) + np.abs(b))
        g = w * dy
        size, component = _mean(np.abs(g), axes), _mean(g * h, axes)
        of_component = _mean(np.abs(g) * of_h, axes) + of_mean * _mean(np.abs(g * h), axes) + condition * size
        if fixed is not None:
            q, of_q = g, of_mean * np.abs(g)
        else:
            q = g - (_mean(g, axes) if centred else 0) - h * component
            of_q = of_mean * (np.abs(g) + size + np.abs(h) * _mean(np.abs(g * h), axes))
            of_q = of_q + of_h * np.abs(component) + np.abs(h) * of_component
        of_dx = (of_q + (rho + 2 * unit) * np.abs(q)) / (s * rest)
        of_sum = _gamma(summed + _ROUNDINGS, unit)
        of_dw = np.abs(dy) * of_h + of_sum * np.abs(dy * h)
    shape = np.broadcast_shapes(x.shape, of_y.shape)
    return Errors(*(2 * np.broadcast_to(each, shape) for each in (of_y, of_dx, of_dw, of_sum * np.abs(dy))))


def _gamma(k: int, unit: float) -> float:
    return k * unit / (1 - k * unit)


def _mean(array: Array, axes: tuple[int, ...]) -> Any:
    return array.mean(axis=axes, keepdims=True)
