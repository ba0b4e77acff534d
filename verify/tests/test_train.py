"""The trainer and its command line."""

from __future__ import annotations

import functools
import gzip
import inspect
import io
import itertools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_core import train as train_module
from cnn_core._arguments import Array, Implementation
from cnn_core.data import Dataset, load_digits, scaled
from cnn_core.network import Version, initial_parameters, tutorial_network
from cnn_core.optim import SGD, Adam, Optimizer
from cnn_core.train import Progress, _distorted, accuracy, train
from cnn_core.train import __main__ as train_main
from cnn_core.train.__main__ import main

UNIT_ROUNDOFF = 2.0**-53


def _dataset(images: int = 20, held_out: int = 6, maximum: int = 16) -> Dataset:
    generator = np.random.default_rng(1)
    draw = [generator.integers(0, maximum, (n, 1, 28, 28), np.uint8, True) for n in (images, held_out)]
    labels = [generator.integers(0, 10, n) for n in (images, held_out)]
    return Dataset(draw[0], labels[0], draw[1], labels[1], maximum)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Small random images as IDX files."""
    train_images, train_labels, test_images, test_labels, _ = _dataset(maximum=255)
    for part, images, labels in [("train", train_images, train_labels), ("t10k", test_images, test_labels)]:
        for name, array in [(f"{part}-images-idx3-ubyte", images[:, 0]), (f"{part}-labels-idx1-ubyte", labels)]:
            header = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return tmp_path


def _moved(parameters: tuple[Array, ...], relative: float, seed: int) -> tuple[Array, ...]:
    """Every entry larger or smaller by this relative amount."""
    generator = np.random.default_rng(seed)
    return tuple(w * (1 + relative * generator.choice([-1, 1], w.shape)) for w in parameters)


MOMENTUM = functools.partial(SGD, momentum=0.5)


@pytest.mark.parametrize(("optimizer", "rate"), [(MOMENTUM, 0.05), (Adam, 0.001)], ids=["sgd", "adam"])
def test_loss_curves_of_naive_and_fast_layers_do_not_part(
    optimizer: Callable[[float], Optimizer], rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _dataset(images=6)
    run = functools.partial(
        train, optimizer=optimizer, learning_rate=rate, batch_size=3, steps=3, seed=2, dtype=np.float64
    )
    naive = run(dataset, version="naive")
    fast = run(dataset, version="fast")
    # The versions differ by the order of their sums. The longest is dw's, over N * oH * oW products. Each sum is
    # within gamma_k of that of parameters moved by gamma_k (Higham 2002, section 3.1, backward errors). What such
    # a move does to the curve is measured, twice, and its largest effect is the tolerance.
    k = 3 * 24 * 24
    gamma = k * UNIT_ROUNDOFF / (1 - k * UNIT_ROUNDOFF)
    initial = initial_parameters
    moved = []
    for seed in (3, 4):
        monkeypatch.setattr(train_module, "initial_parameters", lambda *a, seed=seed: _moved(initial(*a), gamma, seed))
        moved.append(run(dataset).losses)
    tolerance = max(np.abs(np.subtract(losses, fast.losses)).max() for losses in moved)
    assert len(naive.losses) == len(fast.losses) == 3
    assert naive.losses[0] != naive.losses[2]
    # Thousands of sums in two orders cannot all round alike: if they did, one version ran twice.
    assert any(not np.array_equal(a, b) for a, b in zip(naive.parameters, fast.parameters, strict=True))
    assert 0 < tolerance < 1e-9  # rounding, where the losses themselves are of order 1
    assert np.abs(np.subtract(naive.losses, fast.losses)).max() <= tolerance


def test_a_run_is_the_steps_composed_by_hand() -> None:
    dataset = _dataset(images=5)
    result = train(dataset, optimizer=MOMENTUM, learning_rate=0.0625, epochs=2, batch_size=2, distortion=2, seed=3)
    generator = np.random.default_rng(3)
    parameters = initial_parameters(generator)
    state, network = MOMENTUM(1).init(parameters), tutorial_network("fast", loss="mean")
    losses: list[float] = []
    for _ in range(2):
        order = generator.permutation(5)
        for batch in (order[:2], order[2:4], order[4:]):
            x = np.zeros((len(batch), 1, 28, 28), np.float32)
            turn, zoom, down, right = generator.uniform(-2, 2, (4, len(batch)))
            for n, h, v in np.ndindex(len(batch), 28, 28):
                cosine, sine = (
                    np.exp(0.1 * zoom[n]) * np.cos(0.25 * turn[n]),
                    np.exp(0.1 * zoom[n]) * np.sin(0.25 * turn[n]),
                )
                row = int(np.rint(cosine * (h - 13.5) - sine * (v - 13.5) + 13.5 + 2 * down[n]))
                column = int(np.rint(sine * (h - 13.5) + cosine * (v - 13.5) + 13.5 + 2 * right[n]))
                if 0 <= row < 28 and 0 <= column < 28:
                    x[n, 0, h, v] = dataset.train_images[batch[n], 0, row, column] / np.float32(16)
            rate = 0.0625 * (1 - len(losses) / 6)
            loss, cache = network.forward(x, *parameters, dataset.train_labels[batch])
            _, *gradients = network.backward(np.ones((), np.float32), cache)
            parameters, state = MOMENTUM(rate).step(parameters, gradients, state)  # type: ignore[arg-type]
            losses.append(float(loss))
    assert result.losses == tuple(losses)
    assert all(np.array_equal(a, b) for a, b in zip(result.parameters, parameters, strict=True))
    assert all(array.dtype == np.float32 for array in result.parameters)
    assert len(result.train_accuracies) == len(result.test_accuracies) == 2
    assert result.test_accuracies[1] == accuracy(parameters, *dataset[2:])
    assert result.train_accuracies[1] == accuracy(parameters, *dataset[:2], dataset.maximum)


def test_accuracy_counts_every_image_once_over_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, parameters = _dataset(), initial_parameters(np.random.default_rng(4))
    logits, _ = tutorial_network("fast").forward(scaled(dataset.train_images, 16), *parameters)
    labels = logits.argmax(axis=1)
    labels[[2, 7, 19]] = (labels[[2, 7, 19]] + 1) % 10
    for block in (1024, 20, 7):
        monkeypatch.setattr(train_module, "_MEASURED", block)
        assert accuracy(parameters, dataset.train_images, labels, 16) == 17 / 20


def test_a_seed_settles_the_run_and_nothing_else_does() -> None:
    dataset = _dataset()
    before, state = [array.tobytes() for array in dataset[:4]], str(np.random.get_state())  # noqa: NPY002 - is it used?
    runs = [train(dataset, epochs=1, batch_size=8, seed=seed) for seed in (5, 5, 6)]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses != runs[2].losses
    assert [array.tobytes() for array in dataset[:4]] == before
    assert str(np.random.get_state()) == state  # noqa: NPY002


def test_every_step_is_reported_and_accuracies_at_the_ends_alone() -> None:
    heard: list[Progress] = []
    result = train(_dataset(), epochs=3, batch_size=8, steps=5, report=heard.append)
    assert [(p.epoch, p.step, p.steps, p.accuracies is None) for p in heard] == [
        (1, 1, 5, True),
        (1, 2, 5, True),
        (1, 3, 5, False),
        (2, 4, 5, True),
        (2, 5, 5, False),  # stopped early: measured all the same
    ]
    assert [p.loss for p in heard] == list(result.losses)
    assert [p.accuracies for p in heard if p.accuracies] == list(
        zip(result.train_accuracies, result.test_accuracies, strict=True)
    )


def test_a_run_that_stops_early_is_the_beginning_of_the_whole() -> None:
    whole, part = (train(_dataset(), epochs=2, batch_size=8, steps=steps) for steps in (None, 4))
    assert part.losses == whole.losses[:4]


def test_steps_beyond_the_epochs_are_not_taken() -> None:
    assert len(train(_dataset(), epochs=1, batch_size=8, steps=100).losses) == 3


def test_without_a_number_of_epochs_there_are_50() -> None:
    assert len(train(_dataset(1, 1), batch_size=1).losses) == 50


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"distortion": -1}, ValueError, "distortion must be between 0 and 100, got -1"),
        ({"distortion": 1e308}, ValueError, r"distortion must be between 0 and 100, got 1e\+308"),
        ({"distortion": float("nan")}, ValueError, "distortion must be between 0 and 100, got nan"),
        ({"learning_rate": -1.0}, ValueError, r"learning_rate must lie in \[0, inf\), got -1.0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
        ({"version": "quick"}, ValueError, "version must be"),
        ({"dtype": np.int64}, TypeError, "dtype must be floating or complex, got int64"),
        ({"learning_rate": 1e30, "epochs": 1}, FloatingPointError, "the loss is (nan|inf) at step 2"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train(_dataset(), **{"batch_size": 8, **options})


@pytest.mark.parametrize(("images", "held_out"), [(0, 6), (6, 0)])
def test_data_set_without_images_is_refused(images: int, held_out: int) -> None:
    with pytest.raises(ValueError, match=f"{images} images to train on and {held_out} to test on: need both"):
        train(_dataset(images, held_out))


def test_images_without_labels_of_their_own_are_refused() -> None:
    dataset = _dataset(6, 6)
    with pytest.raises(ValueError, match="6 train images have 5 labels"):
        train(dataset._replace(train_labels=dataset.train_labels[1:]))
    with pytest.raises(ValueError, match="6 test images have 5 labels"):
        train(dataset._replace(test_labels=dataset.test_labels[1:]))
    parameters = initial_parameters(np.random.default_rng(0))
    with pytest.raises(ValueError, match="0 images with 0 labels have no accuracy"):
        accuracy(parameters, dataset.test_images[:0], dataset.test_labels[:0], dataset.maximum)


@pytest.mark.parametrize("strength", [0.0, 100.0])
def test_any_distortion_that_may_be_leaves_images_of_finite_numbers(strength: float) -> None:
    assert np.isfinite(train(_dataset(), batch_size=4, steps=2, distortion=strength).losses).all()


@pytest.mark.long
def test_held_out_digits_are_not_classified_worse_than_promised() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, an extra")
    # What `python -m cnn_core.train` does; seeds 0 to 9 gave 97.5 to 98.9 %, seed 0 98.3 %.
    result = train(load_digits())
    assert len(result.test_accuracies) == 50
    assert result.test_accuracies[-1] >= 0.97


def test_command_line_tells_the_setup_and_the_accuracies(
    idx_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--epochs", "2", "--batch-size", "8", "--seed", "7", "--learning-rate", "0.01", "--steps", "5"]
    options += ["--distortion", "0.5"]
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(idx_folder), *options])
    assert main() == 0
    out, err = capsys.readouterr()
    heard: list[Progress] = []
    result = train(
        _dataset(maximum=255),
        learning_rate=0.01,
        epochs=2,
        batch_size=8,
        seed=7,
        steps=5,
        distortion=0.5,
        report=heard.append,
    )
    on_train, on_test, right = result.train_accuracies, result.test_accuracies, round(6 * result.test_accuracies[-1])
    assert out.splitlines() == [
        f"data:      {idx_folder}, 20 images to train on, 6 held out",
        "network:   18000 parameters, float32, fast layers",
        "training:  5 steps (2 epochs begun) in batches of 8, Adam, learning rate 0.01, distortion 0.5, seed 7",
        f"loss:      {result.losses[0]:.4f} at the first step, {result.losses[-1]:.4f} at the last",
        f"accuracy:  {on_train[-1]:.2%} on training images, {right / 6:.2%} on held-out images ({right} of 6)",
    ]
    assert err.splitlines() == [
        f"epoch {epoch}, step {step} of 5: loss {result.losses[step - 1]:.4f}, "
        f"accuracy {on_train[epoch - 1]:.2%} on training images, {on_test[epoch - 1]:.2%} on test images"
        for epoch, step in ((1, 3), (2, 5))
    ]
    assert any(each.accuracies and each.accuracies[0] != each.accuracies[1] for each in heard)


def test_command_is_run_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--steps", "0"])
    command = str(Path(str(train_module.__file__)).with_name("__main__.py"))
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(command, run_name="__main__")  # by its path: pytest, too, has its hands in the import
    assert exit_.value.code == 2


def test_options_reach_the_training_and_defaults_are_its_own(monkeypatch: pytest.MonkeyPatch, idx_folder: Path) -> None:
    asked: list[dict[str, Any]] = []

    def spy(dataset: Dataset, **options: Any) -> Any:
        assert dataset.maximum == 255  # the files, not scikit-learn's digits
        asked.append(options)
        raise FloatingPointError

    monkeypatch.setattr(train_main, "train", spy)
    data = ["--data", str(idx_folder)]
    assert main(data) == main([*data, "--distortion", "0", "--seed", "0"]) == main([*data, "--distortion", "100"]) == 3
    wanted = {"epochs": 50, "batch_size": 32, "steps": None, "learning_rate": 0.003, "distortion": 1.0, "seed": 0}
    for options, distortion in zip(asked, (1.0, 0.0, 100.0), strict=True):
        assert {name: options[name] for name in wanted} == {**wanted, "distortion": distortion}
        assert options["version"] == "fast"


def test_help_shows_the_command_its_purpose_and_all_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # narrow text is broken at hyphens
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0
    assert words.startswith("usage: python -m cnn_core.train [-h] [--data FOLDER] [--epochs N] [--batch-size N]")
    assert " Train the tutorial's network on real images. options:" in words
    for option in (
        "--data FOLDER four IDX files of the MNIST family (default: scikit-learn's digits) --",
        "--epochs N passes over the images (default: 50) --",
        "--batch-size N images per step (default: 32) --",
        "--steps N stop after N steps, if the epochs have not ended --",
        "--learning-rate RATE rate of Adam at the first step; it falls linearly to 0 (default: 0.003) --",
        "--distortion STRENGTH how much images are turned, zoomed and moved at random; 0: not at all (default: 1.0) --",
        "--seed N seed of weights and batches (default: 0) --",
    ):
        assert option in words
    assert words.endswith("--version {fast,naive} version of the layers (default: fast)")


def test_command_line_trains_the_naive_layers_on_the_digits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, an extra")
    asked: list[str] = []
    network = tutorial_network

    def spy(version: Version, **loss: Any) -> Implementation:
        asked.append(version)
        return network(version, **loss)

    monkeypatch.setattr(train_module, "tutorial_network", spy)
    assert main(["--version", "naive", "--steps", "1", "--batch-size", "2"]) == 0
    assert "naive" in asked
    out, _ = capsys.readouterr()
    assert "scikit-learn's digits, 1442 images to train on, 355 held out" in out
    assert "naive layers" in out


def test_progress_on_a_terminal_is_one_line_written_over(
    idx_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["--data", str(idx_folder), "--epochs", "1", "--batch-size", "8"]) == 0
    _, err = capsys.readouterr()
    heard: list[Progress] = []
    train(_dataset(maximum=255), epochs=1, batch_size=8, report=heard.append)
    lines = [f"epoch 1, step {each.step} of 3: loss {each.loss:.4f}" for each in heard]
    on_train, on_test = heard[-1].accuracies or (0, 0)
    lines[-1] += f", accuracy {on_train:.2%} on training images, {on_test:.2%} on test images"
    assert err == "".join("\r" + line.ljust(100) for line in lines) + "\n"


class _Screen(io.StringIO):
    """Shows what was written before the last flush."""

    shown = ""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def flush(self) -> None:
        self.shown = self.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_at_once(idx_folder: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    screen = _Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    assert main(["--data", str(idx_folder), "--epochs", "1", "--batch-size", "20"]) == 0
    assert "epoch 1, step 1 of 1" in screen.shown
    assert screen.shown == screen.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be at least 1, got 0"),
        (["--batch-size", "-3"], "argument --batch-size: must be at least 1, got -3"),
        (["--steps", "many"], "argument --steps: must be an integer, got 'many'"),
        (["--seed", "-1"], "argument --seed: must be at least 0, got -1"),
        (["--learning-rate", "-1"], r"argument --learning-rate: learning_rate must lie in [0, inf), got -1.0"),
        (["--learning-rate", "nan"], r"argument --learning-rate: learning_rate must lie in [0, inf), got nan"),
        (["--learning-rate", "fast"], "argument --learning-rate: could not convert string to float: 'fast'"),
        (["--distortion", "-1"], "argument --distortion: must be between 0 and 100, got -1"),
        (["--distortion", "100.5"], "argument --distortion: must be between 0 and 100, got 100.5"),
        (["--distortion", "much"], "argument --distortion: must be a number, got 'much'"),
        (["--version", "quick"], "argument --version: invalid choice: 'quick'"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_its_reason(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_unreadable_data_is_exit_code_2_without_a_traceback(
    idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(idx_folder / "nowhere")]) == 2
    assert capsys.readouterr() == ("", f"error: {idx_folder / 'nowhere'}: no such folder\n")
    labels = idx_folder / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(b"no gzip")
    assert main(["--data", str(idx_folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {labels}: not a readable gzip file")


def test_missing_scikit_learn_is_exit_code_2_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main([]) == 2
    assert 'error: the digits come with scikit-learn: pip install "gradcert[data]"' in capsys.readouterr().err


def test_divergence_is_exit_code_3_and_no_accuracy(idx_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(idx_folder), "--learning-rate", "1e30", "--batch-size", "8"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: the loss is ")
    assert "the learning rate is too high" in err


def test_by_default_there_are_fifty_epochs() -> None:
    assert inspect.signature(train).parameters["epochs"].default == 50


def test_one_image_has_an_accuracy() -> None:
    parameters = initial_parameters(np.random.default_rng(0))
    network = tutorial_network("fast")
    image = np.random.default_rng(1).integers(0, 256, (1, 1, 28, 28))
    logits, _ = network.forward(scaled(image, 255, parameters[0].dtype), *parameters)
    best = int(logits.argmax())
    assert accuracy(parameters, image, np.array([best]), 255) == 1.0
    assert accuracy(parameters, image, np.array([(best + 1) % 10]), 255) == 0.0


def test_an_image_that_is_not_square_is_distorted_about_its_own_middle() -> None:
    """Without a turn, a zoom and a move each pixel stays. What comes from outside is 0."""
    images = np.arange(1, 2 * 3 * 7 + 1).reshape(2, 1, 3, 7)
    assert np.array_equal(_distorted(images, 0.0, np.random.default_rng(0)), images)
    for shape, strength in itertools.product(((2, 1, 3, 7), (2, 1, 7, 3)), (1.0, 2.0, 4.0)):
        images = np.arange(1, 43).reshape(shape)
        turned = _distorted(images, strength, np.random.default_rng(1))
        around = ((0, 0), (0, 0), *(((9 - side) // 2, (9 - side) // 2) for side in shape[2:]))
        square = _distorted(np.pad(images, around), strength, np.random.default_rng(1))
        assert np.array_equal(turned, square[:, :, around[2][0] : 9 - around[2][0], around[3][0] : 9 - around[3][0]])
        assert turned[:, :, -2:].any()
