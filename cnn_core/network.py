"""A chain of layers, which is a layer again, and the network of the tutorial this project grew from.

    y = f_k(... f_2(f_1(x, a_1...), a_2...) ..., a_k...)
    dy_(i-1), da_i... = backward_i(dy_i)  for i = k, ..., 1, with dy_k = dy and dx = dy_0

Each step takes the result of the step before and `arrays` further arrays (parameters, labels).
The arrays of the chain are x and then those of each step, in order. Its gradients are dx and then the
gradients of these arrays. A gradient without an array (db if no b is passed) is dropped.

The tutorial's network, for images (N, 1, 28, 28) and ten classes, with the shape after each step:

    conv2d 2 x 5x5, no bias  (N, 2, 24, 24)    relu    max_pool2d 2x2  (N, 2, 12, 12)    flatten  (N, 288)
    linear  (N, 60)    relu    linear  (N, 10)    [softmax_cross_entropy  ()]

Raises ValueError for a chain without steps and for a wrong number of arrays.
Raises TypeError for a cache of another chain. Errors of the layers pass through.

Sources: Griewank & Walther 2008, "Evaluating derivatives", section 3.2 (the reverse mode); He et al.
2015, "Delving deep into rectifiers", arXiv:1502.01852, equation 10 (the initial weights).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cnn_core import conv2d, flatten, linear, max_pool2d, relu, softmax_cross_entropy
from cnn_core._arguments import Array, Gradients, Implementation, check_cache
from cnn_core._options import whole_number

Version = Literal["naive", "fast"]

CLASSES = 10
IMAGE_SHAPE = (1, 28, 28)

# The parameters of the tutorial's network, in the order of its arguments. Linear weights are (out, in).
PARAMETERS: Mapping[str, tuple[int, ...]] = {
    "conv_w": (2, 1, 5, 5),
    "fc1_w": (60, 288),
    "fc1_b": (60,),
    "fc2_w": (CLASSES, 60),
    "fc2_b": (CLASSES,),
}


class Step(NamedTuple):
    """A layer of a chain, its options, and the number of arrays it takes after the first."""

    layer: Implementation
    arrays: int = 0
    options: Mapping[str, Any] = {}


class _Cache(NamedTuple):
    """The values that the forward of a chain keeps: name and steps of the chain, and the cache of each step."""

    name: str
    steps: tuple[Step, ...]
    caches: tuple[Any, ...]


def chain(name: str, steps: Iterable[Step]) -> Implementation:
    """Return one layer that runs the steps in order.

    `forward(x, *arrays) -> (y, cache)` takes no options. `backward(dy, cache) -> (dx, *gradients)`.
    Training does not need dx. With `need_dx=False` dx is None, and it is not computed if the first step has
    this option.
    """
    steps = tuple(steps)
    if not steps:
        raise ValueError(f"chain {name!r} must have at least one step")
    counts = [whole_number("arrays", step.arrays, 0) for step in steps]
    spares = "need_dx" in inspect.signature(steps[0].layer.backward).parameters

    def forward(x: Array, *arrays: Array | None) -> tuple[Array, _Cache]:
        """Compute (y, cache) from (x, *arrays)."""
        if len(arrays) != sum(counts):
            raise ValueError(
                f"chain {name!r} takes {sum(counts)} arrays after x ({counts}, step by step), got {len(arrays)}"
            )
        y, rest, caches = x, iter(arrays), []
        for step, count in zip(steps, counts, strict=True):
            y, cache = step.layer.forward(y, *(next(rest) for _ in range(count)), **step.options)
            caches.append(cache)
        return y, _Cache(name, steps, tuple(caches))

    def backward(dy: Array, cache: _Cache, *, need_dx: bool = True) -> Gradients:
        """Compute (dx, *gradients) from dy."""
        caches = _own(cache, name, steps)
        upstream: Array | None = dy
        gradients: Gradients = ()
        for position, (step, count) in reversed(list(enumerate(zip(steps, counts, strict=True)))):
            options = {"need_dx": need_dx} if spares and position == 0 else {}
            upstream, *further = step.layer.backward(upstream, caches[position], **options)
            gradients = (*further[:count], *gradients)
        return upstream if need_dx else None, *gradients

    return Implementation(name, forward, backward)


def _own(cache: _Cache, name: str, steps: tuple[Step, ...]) -> tuple[Any, ...]:
    """Return the caches of the steps, or raise TypeError if another chain made them."""
    cache = check_cache(cache, _Cache)
    if (cache.name, cache.steps) != (name, steps):
        raise TypeError(
            f"cache is of the chain {cache.name!r} ({len(cache.steps)} steps), "
            f"this backward needs that of its own forward, {name!r} ({len(steps)} steps)"
        )
    return cache.caches


def tutorial_network(version: Version, *, loss: Literal["mean", "sum"] | None = None) -> Implementation:
    """Return the tutorial's network, of naive or of fast layers.

    Its arrays are x and PARAMETERS, in order. Without `loss`, y is the logits. With `loss`, the last array is
    the labels, and y is the cross-entropy with this reduction.
    """
    if version not in ("naive", "fast"):
        raise ValueError(f'version must be "naive" or "fast", got {version!r}')
    if loss not in (None, "mean", "sum"):
        raise ValueError(f'loss must be None, "mean" or "sum", got {loss!r}')
    activation, connected = Step(getattr(relu, version)), Step(getattr(linear, version), 2)
    steps = [
        Step(getattr(conv2d, version), 1),
        activation,
        Step(getattr(max_pool2d, version), options={"kernel_size": 2, "stride": 2}),
        Step(getattr(flatten, version)),
        connected,
        activation,
        connected,
    ]
    if loss is not None:
        steps.append(Step(getattr(softmax_cross_entropy, version), 1, {"reduction": loss}))
    return chain(f"tutorial_network({version!r}, loss={loss!r})", steps)


def initial_parameters(generator: np.random.Generator, dtype: DTypeLike = np.float32) -> tuple[Array, ...]:
    """Return initial PARAMETERS: weights normal with variance 2 / fan-in, biases zero.

    The draws are made in float64 and rounded, so that a seed gives the same network in every dtype.
    Raises TypeError for a dtype that is not floating or complex.
    """
    if not np.issubdtype(dtype, np.inexact):
        raise TypeError(f"dtype must be floating or complex, got {np.dtype(dtype)}")
    return tuple(_initial(shape, generator).astype(dtype) for shape in PARAMETERS.values())


def _initial(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    if len(shape) == 1:
        return np.zeros(shape)
    return generator.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
