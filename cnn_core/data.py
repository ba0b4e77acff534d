"""Training images of ten classes: scikit-learn's digits, or the IDX files of the MNIST family.

    scaled[n, 0, h, v] = images[n, 0, h, v] / maximum,  in [0, 1]

Shapes: images (N, 1, 28, 28), labels (N,). Images are uint8, as in the source, until `scaled` is called.
On integers the network can be verified without rounding.

An IDX file is a header of big-endian 32-bit integers, then one unsigned byte for each entry. The header is
a magic number (0x00000803 for images, 0x00000801 for labels) and the number of items. For images the
numbers of rows and columns follow.

Raises ModuleNotFoundError if scikit-learn is needed and missing.
Raises FileNotFoundError or NotADirectoryError for missing files.
Raises ValueError, quoting file and values, for unreadable files.
Sources: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", UCI repository (the
digits); LeCun, Cortes & Burges, "The MNIST database of handwritten digits" (the IDX format).
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cnn_core._arguments import Array
from cnn_core.network import CLASSES, IMAGE_SHAPE

_IMAGES, _LABELS = 0x00000803, 0x00000801


class Dataset(NamedTuple):
    """Training and test images with their labels. No pixel exceeds `maximum`."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    maximum: int


def scaled(images: Array, maximum: int, dtype: DTypeLike = np.float32) -> Array:
    """Return images / maximum in this dtype."""
    return images.astype(dtype) / maximum


def load_digits() -> Dataset:
    """Return the 1,797 digits of scikit-learn, 8x8 with values 0 to 16. A fifth of each class is for testing.

    Each pixel is enlarged threefold, to 24x24. Two rows and columns of zeros on each side frame the image.
    Every call makes the same split.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ModuleNotFoundError(
            'the digits come with scikit-learn: pip install "gradcert[data]", or pass --data FOLDER with IDX files'
        ) from error
    source = datasets.load_digits()
    small = source.images.astype(np.uint8)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))[:, None]
    train, test = _split(source.target)
    return Dataset(images[train], source.target[train], images[test], source.target[test], maximum=16)


def _split(labels: Array) -> tuple[Array, Array]:
    """Return indices to train on and to test on: a random fifth of each class, the same at every call."""
    generator = np.random.default_rng(0)
    shuffled = [generator.permutation(np.flatnonzero(labels == label)) for label in range(CLASSES)]
    test = np.concatenate([indices[: len(indices) // 5] for indices in shuffled])
    train = np.concatenate([indices[len(indices) // 5 :] for indices in shuffled])
    return np.sort(train), np.sort(test)


def load_idx(folder: str | os.PathLike[str]) -> Dataset:
    """Read the four IDX files of MNIST, or of a data set in its format, from a folder.

    The files are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`. Each may be plain or gzipped. A plain file is preferred to its `.gz`.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: not a folder")
    return Dataset(*_load_part(root, "train"), *_load_part(root, "t10k"), maximum=255)


def _load_part(root: Path, part: str) -> tuple[Array, Array]:
    images_path, labels_path = _find(root, f"{part}-images-idx3-ubyte"), _find(root, f"{part}-labels-idx1-ubyte")
    images, labels = _read(images_path, _IMAGES), _read(labels_path, _LABELS)
    if images.shape[1:] != IMAGE_SHAPE[1:]:
        raise ValueError(f"{images_path}: images are {images.shape[1:]}, the network needs {IMAGE_SHAPE[1:]}")
    if len(images) != len(labels):
        raise ValueError(f"{images_path}: {len(images)} images, but {len(labels)} labels in {labels_path}")
    if not len(images):
        raise ValueError(f"{images_path}: no images")
    wrong = np.flatnonzero(labels >= CLASSES)
    if wrong.size:
        raise ValueError(f"{labels_path}: labels must be 0 to {CLASSES - 1}, got {labels[wrong[0]]} at {wrong[0]}")
    return images[:, None], labels.astype(np.int64)


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{root}: neither {name} nor {name}.gz is there")


def _read(path: Path, magic: int) -> Array:
    """Return the array in an IDX file of unsigned bytes.

    Raises ValueError for another magic number and for a file that is too short or too long.
    """
    content = _content(path)
    axes = magic & 0xFF
    header = 4 * (1 + axes)
    if len(content) < header:
        raise ValueError(f"{path}: truncated, expected a header of {header} bytes, found {len(content)} bytes")
    found, *shape = (int(number) for number in np.frombuffer(content, ">u4", 1 + axes))
    if found != magic:
        raise ValueError(f"{path}: magic number 0x{found:08x}, expected 0x{magic:08x}")
    expected = header + math.prod(shape)
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "trailing bytes"
        raise ValueError(f"{path}: {problem}, {tuple(shape)} needs {expected} bytes, found {len(content)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a readable gzip file: {error}") from error
