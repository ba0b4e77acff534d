"""The command `python -m cnn_core.train`: trains the tutorial's network on real images.

The exit code is 0 for success, 2 for unreadable data or wrong usage, and 3 for a training that diverges. The results
go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence

from cnn_core.data import Dataset, load_digits, load_idx
from cnn_core.network import PARAMETERS
from cnn_core.optim import Adam
from cnn_core.train import BATCH_SIZE, LEARNING_RATE, MOST_DISTORTION, Progress, Result, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    The code is 0 for success, 2 for unreadable data or wrong usage, and 3 for a training that diverges.
    """
    options = _parser().parse_args(arguments)
    try:
        dataset = load_digits() if options.data is None else load_idx(options.data)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        result = train(
            dataset,
            learning_rate=options.learning_rate,
            epochs=options.epochs,
            batch_size=options.batch_size,
            steps=options.steps,
            distortion=options.distortion,
            seed=options.seed,
            version=options.version,
            report=_show,
        )
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(_summary(options, dataset, result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnn_core.train", description="Train the tutorial's network on real images."
    )
    add = parser.add_argument
    add("--data", metavar="FOLDER", help="four IDX files of the MNIST family (default: scikit-learn's digits)")
    add("--epochs", type=_at_least(1), default=50, metavar="N", help="passes over the images (default: %(default)s)")
    add(
        "--batch-size",
        type=_at_least(1),
        default=BATCH_SIZE,
        metavar="N",
        help="images per step (default: %(default)s)",
    )
    add("--steps", type=_at_least(1), metavar="N", help="stop after N steps, if the epochs have not ended")
    add(
        "--learning-rate",
        type=_learning_rate,
        default=LEARNING_RATE,
        metavar="RATE",
        help="rate of Adam at the first step; it falls linearly to 0 (default: %(default)s)",
    )
    add(
        "--distortion",
        type=_distortion,
        default=1.0,
        metavar="STRENGTH",
        help="how much images are turned, zoomed and moved at random; 0: not at all (default: %(default)s)",
    )
    add("--seed", type=_at_least(0), default=0, metavar="N", help="seed of weights and batches (default: %(default)s)")
    add("--version", choices=("fast", "naive"), default="fast", help="version of the layers (default: %(default)s)")
    return parser


def _at_least(minimum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {number}")
        return number

    return read


def _distortion(text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 <= strength <= MOST_DISTORTION:
        raise argparse.ArgumentTypeError(f"must be between 0 and {MOST_DISTORTION:g}, got {text}")
    return strength


def _learning_rate(text: str) -> float:
    try:
        return Adam(float(text)).learning_rate
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _show(progress: Progress) -> None:
    """Print the progress to standard error: one line for each epoch, or on a terminal one line that is overwritten."""
    epoch, step, steps, loss, accuracies = progress
    line = f"epoch {epoch}, step {step} of {steps}: loss {loss:.4f}"
    if accuracies is not None:
        line += f", accuracy {accuracies[0]:.2%} on training images, {accuracies[1]:.2%} on test images"
    if sys.stderr.isatty():
        print(f"\r{line:<100}", end="\n" if step == steps else "", file=sys.stderr, flush=True)
    elif accuracies is not None:
        print(line, file=sys.stderr, flush=True)


def _summary(options: argparse.Namespace, dataset: Dataset, result: Result) -> str:
    source = "scikit-learn's digits" if options.data is None else options.data
    held_out, parameters = len(dataset.test_labels), sum(math.prod(shape) for shape in PARAMETERS.values())
    return "\n".join(
        [
            f"data:      {source}, {len(dataset.train_labels)} images to train on, {held_out} held out",
            f"network:   {parameters} parameters, float32, {options.version} layers",
            f"training:  {len(result.losses)} steps ({len(result.test_accuracies)} epochs begun) in batches of "
            f"{options.batch_size}, Adam, learning rate {options.learning_rate}, "
            f"distortion {options.distortion}, seed {options.seed}",
            f"loss:      {result.losses[0]:.4f} at the first step, {result.losses[-1]:.4f} at the last",
            f"accuracy:  {result.train_accuracies[-1]:.2%} on training images, "
            f"{result.test_accuracies[-1]:.2%} on held-out images "
            f"({round(result.test_accuracies[-1] * held_out)} of {held_out})",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
