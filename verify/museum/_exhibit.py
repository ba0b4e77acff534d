"""The type of an exhibit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cnn_core import Implementation
from verify.checker.point import Array


class Exhibit(NamedTuple):
    """A historical bug: the mutated layer, what is wrong, when it shows, and its source.

    `backward(dy, cache, right)` is the wrong backward, where `right` has the correct gradients.
    """

    slug: str
    layer: str
    wrong: str
    shows: str
    source: str
    backward: Callable[[Array, Any, tuple[Array | None, ...]], tuple[Array | None, ...]]

    def mutate(self, implementation: Implementation) -> Implementation:
        """Return the implementation with the wrong backward."""

        def backward(dy: Array, cache: Any) -> tuple[Array | None, ...]:
            return self.backward(dy, cache, implementation.backward(dy, cache))

        return implementation._replace(backward=backward)
