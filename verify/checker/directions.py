"""Directions along which a gradient is asked, and upstream gradients."""

from __future__ import annotations

import numpy as np

from verify.checker.point import Array, Point


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random signs times magnitudes in [1/2, 1): directions of which no entry is small."""
    return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape))


def draw_upstream(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Upstream gradients with random signs and magnitudes in [8, 16). A clip to [-1, 1] shows."""
    return np.asarray(16 * signed(rng, shape)).astype(dtype)


def unit(point: Point, k: int, index: tuple[int, ...]) -> Array:
    """The basis vector of one entry of argument k."""
    basis = np.zeros(point.layer.arrays[k].shape, point.layer.arrays[k].dtype)
    basis[index] = 1
    return basis


def restricted(direction: Array, coordinates: Array) -> Array:
    """The direction with all coordinates but these, in flat order, set to 0."""
    part = np.zeros_like(direction).ravel()
    part[coordinates] = direction.ravel()[coordinates]
    return part.reshape(direction.shape)


def index_of(coordinate: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of a flat coordinate, in Python's integers."""
    return tuple(int(i) for i in np.unravel_index(coordinate, shape))
