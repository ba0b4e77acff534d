"""The arrays and options at which the project's layers are checked.

NumPy draws them, not Hypothesis: a frozen verdict needs arrays that no other version of a library changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Case(NamedTuple):
    """The arguments of one call: positional arrays, and options."""

    arrays: tuple[Any, ...]
    options: dict[str, Any]


# Shape of x, shape of w, whether there is a bias, options. Sizes within a case differ wherever the layer allows.
_CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, Any]], ...] = (
    ((2, 3, 6, 5), (4, 3, 3, 2), True, {}),
    ((3, 2, 7, 5), (4, 2, 3, 3), True, {"stride": 2, "padding": 1}),
    ((2, 4, 6, 7), (6, 2, 2, 3), True, {"groups": 2, "padding": (0, 2)}),
    ((3, 2, 8, 6), (3, 2, 3, 2), False, {"dilation": (2, 1), "stride": (1, 2)}),
    ((2, 2, 5, 6), (3, 2, 2, 4), True, {"padding": ((0, 1), (2, 1))}),
    ((2, 3, 5, 4), (2, 3, 4, 2), True, {"padding": "same"}),
    ((2, 6, 5, 4), (6, 1, 2, 2), True, {"groups": 6, "stride": 3, "padding": 2}),
    ((0, 3, 5, 4), (2, 3, 3, 2), True, {}),
)
_POOLINGS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 6, 4), {"kernel_size": 2}),
    ((2, 2, 7, 5), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((3, 2, 6, 5), {"kernel_size": (2, 3), "stride": 1}),
    ((2, 2, 7, 6), {"kernel_size": 2, "stride": 3, "dilation": 2}),
    ((2, 1, 5, 8), {"kernel_size": (3, 2), "stride": (2, 1), "ceil_mode": True}),
    ((0, 2, 4, 4), {"kernel_size": 2}),
)
_LINEARS = (
    ((3, 5), (4, 5), True),
    ((4, 2), (4, 2), True),
    ((2, 3), (3, 3), True),
    ((2, 3, 4), (5, 4), False),
    ((0, 3), (2, 3), True),
)
_SHAPES = ((3, 4), (2, 3, 4, 5), (5, 2, 3), (0, 4))
_LOSSES = ((4, 5, "mean"), (5, 3, "sum"), (3, 6, "none"))


def covered() -> tuple[str, ...]:
    """Return the names of the layers that have cases."""
    return tuple(sorted(_CASES))


def cases(layer: str) -> list[Case]:
    """Return each configuration of a layer with whole numbers, which have ties and zeros, and with normal ones."""
    return [case for whole in (True, False) for case in _CASES[layer](_Draw(whole))]


class _Draw:
    """Draws arrays from a seed of its own."""

    def __init__(self, whole: bool) -> None:
        self.whole, self.generator = whole, np.random.default_rng(15)

    def __call__(self, *shape: int) -> Array:
        if self.whole:
            return self.generator.integers(-4, 5, shape).astype(float)
        return np.asarray(self.generator.normal(size=shape))


def _convolutions(draw: _Draw) -> Iterator[Case]:
    for x, w, bias, options in _CONVOLUTIONS:
        yield Case((draw(*x), draw(*w), draw(w[0]) if bias else None), options)


def _poolings(draw: _Draw) -> Iterator[Case]:
    for x, options in _POOLINGS:
        yield Case((draw(*x),), options)


def _linears(draw: _Draw) -> Iterator[Case]:
    for x, w, bias in _LINEARS:
        yield Case((draw(*x), draw(*w), draw(w[0]) if bias else None), {})


def _entrywise(draw: _Draw) -> Iterator[Case]:
    for shape in _SHAPES:
        yield Case((draw(*shape),), {})


def _losses(draw: _Draw) -> Iterator[Case]:
    for images, classes, reduction in _LOSSES:
        labels = draw.generator.integers(0, classes, images)
        yield Case((draw(images, classes), labels), {"reduction": reduction})


# The layers whose verdicts are frozen. Verdicts of the checker need no more: each structure is among them.
_CASES = {
    "conv2d": _convolutions,
    "max_pool2d": _poolings,
    "linear": _linears,
    "relu": _entrywise,
    "flatten": _entrywise,
    "softmax_cross_entropy": _losses,
}
