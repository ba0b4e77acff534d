"""Training of the tutorial's network on real images. The command is `python -m cnn_core.train`.

    parameters, state = optimizer(rate[t]).step(parameters, gradient of the mean loss over batch t, state)
    rate[t] = learning_rate * (1 - t / T),  t = 0, ..., T - 1

Every epoch shuffles the training images and cuts them into batches. The last batch may be smaller.
Each time an image is used, it is turned, zoomed and moved a little at random. One seed determines the
initial parameters and every draw. T is the number of steps of all epochs, even if a run stops earlier.

Accuracy is the share of images whose largest logit is that of their label. It is measured after every
epoch, always with the fast layers. The naive layers would take minutes for a data set.

Raises TypeError or ValueError, quoting the values, for invalid options.
Raises FloatingPointError for a loss that is not finite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import DTypeLike

from cnn_core._arguments import Array
from cnn_core._options import whole_number
from cnn_core.data import Dataset, scaled
from cnn_core.network import Version, initial_parameters, tutorial_network
from cnn_core.optim import Adam, Optimizer

# The best of some twenty settings in 5-fold cross-validation on the training digits.
BATCH_SIZE = 32
LEARNING_RATE = 3e-3

# The largest turn (radians), zoom (logarithm of the factor) and move (pixels) of an image at distortion 1.
# Cross-validated on the training digits: 99.0 % on average over six runs. Moving alone gave 98.0 %.
_TURN, _ZOOM, _MOVE = 0.25, 0.1, 2.0
# The largest distortion. It zooms by up to e^10: images are empty, but positions still fit in 64-bit integers.
MOST_DISTORTION = 100.0

# Images in one forward of `accuracy`: enough to be fast, few enough for the activations to fit in memory.
_MEASURED = 1024


class Progress(NamedTuple):
    """The state of a training after a step. `accuracies` is (train, test) at the end of an epoch or run, else None."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracies: tuple[float, float] | None


class Result(NamedTuple):
    """The trained parameters, the loss of every step, and the accuracies after every epoch begun."""

    parameters: tuple[Array, ...]
    losses: tuple[float, ...]
    train_accuracies: tuple[float, ...]
    test_accuracies: tuple[float, ...]


def train(
    dataset: Dataset,
    *,
    optimizer: Callable[[float], Optimizer] = Adam,
    learning_rate: float = LEARNING_RATE,
    epochs: int = 50,
    batch_size: int = BATCH_SIZE,
    steps: int | None = None,
    distortion: float = 1.0,
    seed: int = 0,
    version: Version = "fast",
    dtype: DTypeLike = np.float32,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Train the tutorial's network and return its parameters, losses and accuracies.

    `optimizer` is called with the rate of each step, and `report` with the progress after each step.
    `steps` ends the training before all epochs are done.
    """
    epochs, batch_size = whole_number("epochs", epochs, 1), whole_number("batch_size", batch_size, 1)
    seed = whole_number("seed", seed, 0)
    if not 0 <= distortion <= MOST_DISTORTION:
        raise ValueError(f"distortion must be between 0 and {MOST_DISTORTION:g}, got {distortion!r}")
    images, labels = len(dataset.train_images), dataset.train_labels
    if not images or not len(dataset.test_images):
        raise ValueError(f"{images} images to train on and {len(dataset.test_images)} to test on: need both")
    for kind, several, of_them in (
        ("train", dataset.train_images, labels),
        ("test", dataset.test_images, dataset.test_labels),
    ):
        if len(several) != len(of_them):
            raise ValueError(f"{len(several)} {kind} images have {len(of_them)} labels: each needs one")
    per_epoch = math.ceil(images / batch_size)
    planned = epochs * per_epoch
    total = planned if steps is None else min(whole_number("steps", steps, 1), planned)
    network = tutorial_network(version, loss="mean")
    generator = np.random.default_rng(seed)
    parameters = initial_parameters(generator, dtype)
    state, upstream = optimizer(learning_rate).init(parameters), np.ones((), dtype)
    losses: list[float] = []
    accuracies: list[tuple[float, float]] = []
    for step, batch in enumerate(itertools.islice(_batches(images, batch_size, generator), total), 1):
        x = scaled(_distorted(dataset.train_images[batch], distortion, generator), dataset.maximum, dtype)
        rate = learning_rate * (1 - (step - 1) / planned)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow reaches the loss, which is checked
            loss, cache = network.forward(x, *parameters, labels[batch])
            _, *gradients = network.backward(upstream, cache, need_dx=False)
            # A gradient is None only for an array that was not given. All arrays are given.
            parameters, state = optimizer(rate).step(parameters, cast("list[Array]", gradients), state)
        losses.append(_finite(float(loss), step))
        ended = step == total or step % per_epoch == 0
        if ended:
            accuracies.append(_accuracies(parameters, dataset))
        report(Progress((step - 1) // per_epoch + 1, step, total, losses[-1], accuracies[-1] if ended else None))
    on_train, on_test = zip(*accuracies, strict=True)
    return Result(parameters, tuple(losses), on_train, on_test)


def accuracy(parameters: Sequence[Array], images: Array, labels: Array, maximum: int) -> float:
    """Return the share of images that the network classifies as labelled.

    images: (N, 1, 28, 28), integers up to `maximum`.
    """
    if not len(images) == len(labels) > 0:
        raise ValueError(f"{len(images)} images with {len(labels)} labels have no accuracy: each needs one")
    network = tutorial_network("fast")
    right = 0
    for start in range(0, len(images), _MEASURED):
        block = slice(start, start + _MEASURED)
        logits, _ = network.forward(scaled(images[block], maximum, parameters[0].dtype), *parameters)
        right += int(np.count_nonzero(logits.argmax(axis=1) == labels[block]))
    return right / len(images)


def _accuracies(parameters: Sequence[Array], dataset: Dataset) -> tuple[float, float]:
    train_images, train_labels, test_images, test_labels, maximum = dataset
    on_train = accuracy(parameters, train_images, train_labels, maximum)
    return on_train, accuracy(parameters, test_images, test_labels, maximum)


def _batches(images: int, batch_size: int, generator: np.random.Generator) -> Iterator[Array]:
    """Yield the indices of each batch, epoch after epoch, without end."""
    while True:
        order = generator.permutation(images)
        for start in range(0, images, batch_size):
            yield order[start : start + batch_size]


def _distorted(images: Array, strength: float, generator: np.random.Generator) -> Array:
    """Return each image (C, H, W) turned, zoomed and moved at random about its middle, and filled with zeros.

    The inverse map sends a pixel (h, v) to a point of the old image. The pixel takes the value nearest to that
    point, so integers stay integers.
    """
    count, size = len(images), images.shape[2:]
    turn, zoom, down, right = generator.uniform(-strength, strength, (4, count, 1, 1))
    middle = [(side - 1) / 2 for side in size]
    h, v = (axis - centre for axis, centre in zip(np.indices(size), middle, strict=True))
    cosine, sine = (np.exp(_ZOOM * zoom) * wave(_TURN * turn) for wave in (np.cos, np.sin))
    rows = np.rint(cosine * h - sine * v + middle[0] + _MOVE * down).astype(int)
    columns = np.rint(sine * h + cosine * v + middle[1] + _MOVE * right).astype(int)
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    picked = images[np.arange(count)[:, None, None], :, rows.clip(0, size[0] - 1), columns.clip(0, size[1] - 1)]
    return np.where(inside[:, None], np.moveaxis(picked, -1, 1), 0)


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {step}: the learning rate is too high")
    return loss
