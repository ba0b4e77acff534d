"""What a row of the zoo says: a right layer, its wrong twins, and how the layer is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Draw:
    """Draws of one seed and one precision: `draw(3, 4)` is an array of normal numbers."""

    def __init__(self, seed: int, dtype: Any) -> None:
        self.generator, self.dtype = np.random.default_rng(seed), np.dtype(dtype)

    def __call__(self, *shape: int) -> np.ndarray:
        return self.generator.normal(size=shape).astype(self.dtype)

    def positive(self, *shape: int) -> np.ndarray:
        """Draw numbers between 1/2 and 3/2."""
        return self.generator.uniform(0.5, 1.5, shape).astype(self.dtype)

    def coarse(self, *shape: int) -> np.ndarray:
        """Draw small whole numbers, as floating ones: with zeros and ties."""
        return self.generator.integers(-2, 3, shape).astype(self.dtype)

    def labels(self, count: int, classes: int) -> np.ndarray:
        """Draw a class for each of `count`."""
        return self.generator.integers(0, classes, count)

    def one_hot(self, count: int, classes: int) -> np.ndarray:
        """Draw a class for each of `count`, as a row with one 1."""
        return np.asarray(np.eye(classes, dtype=self.dtype)[self.labels(count, classes)])


Maker = Callable[[Draw], Any]


@dataclass(frozen=True)
class Row:
    """A right layer, and the same layer with the mistakes that people make, each in plain English.

    `remedy` is what the text of an INCONCLUSIVE advises to write, without which nobody can decide. `call` is written
    in every check, such as the names of the methods. `single` says that the layer computes in the precision of its
    arrays. `overwrites` says that the right one writes to dy, which alone is a FAIL.
    """

    name: str
    right: Maker
    wrong: Mapping[str, Maker]
    inputs: Callable[[Draw], tuple[Any, ...]]
    remedy: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    single: bool = True
    overwrites: bool = False


def pair(forward: Callable[..., Any], backward: Callable[..., Any]) -> Maker:
    """Return a maker of two functions, which own no arrays."""
    return lambda draw: (forward, backward)
