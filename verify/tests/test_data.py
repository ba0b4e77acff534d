"""The data loaders: the digits, and IDX files made here."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from cnn_core._arguments import Array
from cnn_core.data import load_digits, load_idx, scaled

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def _idx(array: Array) -> bytes:
    """The array as an IDX file of unsigned bytes."""
    numbers = np.array([0x0800 + array.ndim, *array.shape], ">u4")
    return numbers.tobytes() + array.astype(np.uint8).tobytes()


def _content(seed: int = 0) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        IMAGES: generator.integers(0, 256, (5, 28, 28)),
        LABELS: np.array([0, 9, 3, 3, 1]),
        TEST_IMAGES: generator.integers(0, 256, (2, 28, 28)),
        TEST_LABELS: np.array([8, 2]),
    }


def _write(folder: Path, replaced: dict[str, bytes] | None = None, *, zipped: bool = False) -> Path:
    """A folder of the four files, good ones or with some replaced."""
    files = {name: _idx(array) for name, array in _content().items()} | (replaced or {})
    for name, data in files.items():
        (folder / f"{name}.gz" if zipped else folder / name).write_bytes(gzip.compress(data) if zipped else data)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_keep_every_pixel_and_label_in_its_place(tmp_path: Path, zipped: bool) -> None:
    dataset = load_idx(_write(tmp_path, zipped=zipped))
    content = _content()
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_images.shape == (5, 1, 28, 28)
    assert np.array_equal(dataset.train_images[:, 0], content[IMAGES])
    assert np.array_equal(dataset.train_labels, content[LABELS])
    assert np.array_equal(dataset.test_images[:, 0], content[TEST_IMAGES])
    assert np.array_equal(dataset.test_labels, content[TEST_LABELS])
    assert dataset.maximum == 255
    assert dataset.train_images.flags.writeable


def test_plain_file_is_preferred_to_its_gz(tmp_path: Path) -> None:
    _write(tmp_path, zipped=True)
    (tmp_path / LABELS).write_bytes(_idx(np.array([1, 2, 3, 4, 5])))
    assert load_idx(str(tmp_path)).train_labels.tolist() == [1, 2, 3, 4, 5]


def test_folder_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder"):
        load_idx(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"file: not a folder"):
        load_idx(tmp_path / "file")


@pytest.mark.parametrize("name", [IMAGES, LABELS, TEST_IMAGES, TEST_LABELS])
def test_missing_file_is_named_in_both_spellings(tmp_path: Path, name: str) -> None:
    (_write(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}: neither {name} nor {name}\.gz is there"):
        load_idx(tmp_path)


GOOD = _idx(_content()[IMAGES])
WRONG_MAGIC = "magic number 0x00000801, expected 0x00000803"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        pytest.param({IMAGES: _idx(np.zeros(40))}, f"{IMAGES}.*{WRONG_MAGIC}", id="images-magic"),
        pytest.param({TEST_LABELS: GOOD}, f"{TEST_LABELS}.*0x00000803, expected 0x00000801", id="labels-magic"),
        pytest.param({IMAGES: b""}, "truncated, expected a header of 16 bytes, found 0", id="nothing"),
        pytest.param({LABELS: GOOD[:7]}, "truncated, expected a header of 8 bytes, found 7", id="header"),
        pytest.param({IMAGES: GOOD[:-1]}, r": truncated, .* needs 3936 bytes, found 3935", id="truncated"),
        pytest.param({IMAGES: GOOD + b"\0"}, r": trailing bytes, \(5.* needs 3936 bytes, found 3937", id="trailing"),
        pytest.param({TEST_LABELS: _idx(np.zeros(3))}, "2 images, but 3 labels in .*t10k-labels", id="counts"),
        pytest.param({TEST_IMAGES: _idx(np.zeros((2, 28, 27)))}, r"\(28, 27\), .* needs \(28, 28\)", id="size"),
        pytest.param({TEST_LABELS: _idx(np.array([9, 10]))}, "must be 0 to 9, got 10 at 1", id="labels-range"),
    ],
)
def test_malformed_file_is_told_apart_with_its_values(
    tmp_path: Path, zipped: bool, replaced: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_idx(_write(tmp_path, replaced, zipped=zipped))


def test_no_images_at_all_are_refused(tmp_path: Path) -> None:
    empty = {TEST_IMAGES: _idx(np.zeros((0, 28, 28))), TEST_LABELS: _idx(np.zeros(0))}
    with pytest.raises(ValueError, match=f"{TEST_IMAGES}: no images"):
        load_idx(_write(tmp_path, empty))


def test_sizes_whose_product_overflows_are_a_truncation(tmp_path: Path) -> None:
    header = np.array([0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1], ">u4").tobytes()
    with pytest.raises(ValueError, match=f"truncated, .* needs {16 + (2**32 - 1) ** 3} bytes, found 16"):
        load_idx(_write(tmp_path, {IMAGES: header}))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"not gzip", id="no-gzip"),
        pytest.param(lambda content: content[:-9], id="cut-off"),
        pytest.param(lambda content: content[:-8] + bytes(8), id="checksum"),
        pytest.param(lambda content: content[:12] + b"\xff" * 40 + content[52:], id="stream"),
    ],
)
def test_corrupt_gzip_is_an_error_that_names_the_file(tmp_path: Path, damage: object) -> None:
    path = _write(tmp_path, zipped=True) / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=rf"{IMAGES}\.gz: not a readable gzip file: "):
        load_idx(tmp_path)


def test_scaling_reaches_one_and_keeps_the_images() -> None:
    images = np.array([0, 8, 16], np.uint8)
    for dtype in (np.float32, np.float64):
        result = scaled(images, 16, dtype)
        assert result.dtype == dtype
        assert result.tolist() == [0.0, 0.5, 1.0]
        assert scaled(images[:2], 16, dtype).tolist() == [0.0, 0.5]  # by the data set's maximum, not the batch's
    assert images.tolist() == [0, 8, 16]


def test_digits_are_the_sources_enlarged_and_framed_with_none_lost_or_in_both_parts() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn, an extra")
    source = datasets.load_digits()
    dataset = load_digits()
    images = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    assert images.dtype == np.uint8
    assert images.shape == (1797, 1, 28, 28)
    assert (images.min(), images.max(), dataset.maximum) == (0, 16, 16)
    expected = np.zeros((1797, 28, 28), np.uint8)
    expected[:, 2:26, 2:26] = np.kron(source.images, np.ones((3, 3)))
    ours = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
    assert ours == sorted((image.tobytes(), int(label)) for image, label in zip(expected, source.target, strict=True))


def test_split_of_the_digits_is_fixed_and_holds_out_a_fifth_of_every_class() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, an extra")
    first, second = load_digits(), load_digits()
    assert all(np.array_equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    held_out, all_of = (np.bincount(each) for each in (first.test_labels, np.concatenate([first[1], first[3]])))
    assert held_out.tolist() == (all_of // 5).tolist()
    # The accuracies that are published are those of this split.
    assert first.test_labels[:12].tolist() == [5, 9, 2, 4, 6, 7, 9, 3, 4, 6, 8, 5]
    # Neither part is sorted by class, and the test images come from the whole of the source.
    assert len(set(first.test_labels[:30].tolist())) > 5
    assert len(set(first.train_labels[:30].tolist())) > 5


def test_missing_scikit_learn_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "gradcert\[data\]", or pass --data FOLDER'):
        load_digits()
