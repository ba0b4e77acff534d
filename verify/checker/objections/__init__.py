"""Why a claim outside its interval may not be called wrong: one function for each doubt.

Beside each stands a test of the right gradient that made it necessary, and of a wrong one that it must not excuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from verify.checker.point import Array, Point, Worst
from verify.checker.reference import Interval, Number, Reference

R = TypeVar("R", bound=Reference)


@dataclass
class Disagreement(Generic[R]):
    """A claim that lies outside its interval: what an objection is asked about."""

    reference: R
    point: Point
    k: int
    v: Array
    interval: Interval
    rng: np.random.Generator

    @property
    def name(self) -> str:
        """The argument's name."""
        return self.point.layer.names[self.k]

    @cached_property
    def excess(self) -> Number:
        """By how much the claim lies outside."""
        return self.interval.excess(self.reference.claim(self.point, self.k, self.v))

    @cached_property
    def index(self) -> tuple[int, ...]:
        """The index of a wrong entry."""
        return self.reference.locate(self.point, self.k, self.v, self.rng)

    @cached_property
    def worst(self) -> Worst:
        """Both values of that entry."""
        return self.reference.worst(self.point, self.k, self.index)


# Returns a reason why this cannot be decided, or None. Raises StructureError if the reference is the wrong one.
Objection = Callable[[Disagreement[Any]], str | None]
