"""Checks of the tutorial's network on real digits: the gradients of every parameter and of the input.

- Logits: the images are integers and the weights are rounded to multiples of 1/128. The tolerance is zero
  (structure "piecewise-multilinear").
- Loss: the images are scaled to [0, 1] and the weights are not rounded. The reference is the complex step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from cnn_core import Implementation
from cnn_core.data import Dataset, scaled
from cnn_core.network import PARAMETERS, Version, initial_parameters, tutorial_network
from verify.checker.certificate import Certificate
from verify.checker.check import gradcheck

# Fine enough for weights of about 0.1, and coarse enough for exact products.
_WEIGHT_UNIT = 2.0**-7

# More than one image, so that a gradient that mixes images is found. The naive loops take a minute for two.
BATCH: dict[Version, int] = {"naive": 2, "fast": 32}

Part = Literal["logits", "loss"]


def check_network(
    part: Part, version: Version, dataset: Dataset, seed: int, network: Implementation | None = None
) -> Certificate:
    """Check one part of the network on a random batch of test images, and return the certificate.

    `network` replaces the tutorial's network, for example by a mutant. It takes the same arrays.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(dataset.test_images), BATCH[version], replace=False)
    images, labels = dataset.test_images[chosen], dataset.test_labels[chosen]
    parameters = initial_parameters(generator, np.float64)
    arrays: tuple[Any, ...]
    if part == "logits":
        rounded = (np.rint(parameter / _WEIGHT_UNIT) * _WEIGHT_UNIT for parameter in parameters)
        arrays, structure = (images.astype(np.float64), *rounded), "piecewise-multilinear"
    else:
        arrays, structure = (scaled(images, dataset.maximum, np.float64), *parameters, labels), "analytic"
    network = network or tutorial_network(version, loss="mean" if part == "loss" else None)
    forward = _with_names(network.forward, ("x", *PARAMETERS, "labels")[: len(arrays)])
    return gradcheck(forward, network.backward, arrays, structure=structure, seed=seed, raise_on_failure=False)


def _with_names(forward: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """Return the forward with a signature that names its arrays for the report. A chain only has *arrays."""

    def named(*arrays: Any) -> Any:
        return forward(*arrays)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return named
