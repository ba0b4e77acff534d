"""What an exhibit is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cnn_core import Implementation
from verify.checker.exact_numbers import Array


class Exhibit(NamedTuple):
    """A historical bug: which layer it is a mutation of, what is wrong, when it shows, who made it.

    `backward(dy, cache, right)` is the wrong backward; `right` is what the correct one returns.
    """

    slug: str
    layer: str
    wrong: str
    shows: str
    source: str
    backward: Callable[[Array, Any, tuple[Array | None, ...]], tuple[Array | None, ...]]

    def mutate(self, implementation: Implementation) -> Implementation:
        """The implementation with its backward replaced by the wrong one."""

        def backward(dy: Array, cache: Any) -> tuple[Array | None, ...]:
            return self.backward(dy, cache, implementation.backward(dy, cache))

        return implementation._replace(backward=backward)
