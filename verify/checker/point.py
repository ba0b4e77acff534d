"""Where a gradient is compared with its forward, and one entry of that comparison: data alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

if TYPE_CHECKING:
    from verify.checker.layer import LayerUnderTest

Array = NDArray[Any]
Arrays = Sequence[Array | None]


class StructureError(ValueError):
    """The function does not have the structure that was declared, or that a reference needs."""

    __module__ = "verify"


@dataclass(frozen=True)
class Point:
    """The arrays, y = f(arrays), the upstream gradient dy, and the gradients that backward claims for it.

    `step` is how far an exact reference moves along a direction: a power of two. `elsewhere` is said of a wrong entry,
    which it has a place for, at arrays that are not like those given. The layer's domain may have ended there.
    """

    layer: LayerUnderTest
    arrays: Arrays
    y: Array
    dy: Array
    claimed: dict[int, Array]
    step: float = 1.0
    elsewhere: str = ""


class Worst(NamedTuple):
    """The worst entry found: position of the argument, index in it, both values, what was tolerated."""

    argument: int
    index: tuple[int, ...]  # type: ignore[assignment]  # hides tuple.index, which nobody asks a record for
    analytic: float
    numeric: float
    tolerance: float
