"""Three bugs of a convolution whose heat maps look different, as pictures for the handbook."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cnn_core import conv2d
from verify.checker.certificate import Certificate
from verify.checker.check import gradcheck
from verify.museum import EXHIBITS
from verify.pictures.svg import svg

_RING = "#######  #.....#  #.....#  #.....#  #.....#  #.....#  #######"
_CROSS = "#.....#  .#...#.  ..#.#..  ...#...  ..#.#..  .#...#.  #.....#"
_SEVEN = "######.  ######.  ....##.  ...##..  ..##...  ..##...  ..##..."


class Example(NamedTuple):
    """A bug of the museum, the call that shows it, and the gradient to look at."""

    exhibit: str
    gradient: str
    arrays: tuple[Any, ...]
    options: dict[str, Any]


def _drawn(picture: str, ink: float = 8.0) -> Any:
    """A picture as numbers: `ink` where it is drawn, 1 elsewhere, so that no entry is 0."""
    return np.array([[ink if sign == "#" else 1.0 for sign in row] for row in picture.split()])


EXAMPLES = {
    "image-lost": Example(
        "conv-batch-assign", "w", (np.stack([_drawn(_RING), _drawn(_CROSS, 18.0)])[:, None], np.ones((1, 1, 7, 7))), {}
    ),
    "kernel-flipped": Example("conv-rot180", "x", (np.ones((1, 1, 7, 7)), _drawn(_SEVEN)[None, None]), {}),
    "edge-cropped": Example(
        "conv-asym-crop",
        "x",
        (np.ones((1, 1, 5, 5)), _drawn(_RING)[None, None]),
        {"padding": ((2, 0), (2, 0))},
    ),
}


def certificate(name: str) -> Certificate:
    """The FAIL of an example."""
    example = EXAMPLES[name]
    wrong = EXHIBITS[example.exhibit].mutate(conv2d.im2col)
    return gradcheck(wrong.forward, wrong.backward, example.arrays, example.options, seed=0, raise_on_failure=False)


def pictures() -> dict[str, str]:
    """The SVG of each example, by the name of its file."""
    return {f"{name}.svg": svg(certificate(name), [each.gradient]) for name, each in EXAMPLES.items()}
