"""Causes that lie in the axes of an array: both triangles of a matrix, height and width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core import conv2d, max_pool2d
from helpers import certificate_of
from verify.checker.certificate import Certificate

RNG = np.random.default_rng
A = RNG(0).normal(size=(4, 4))
A = A @ A.T + 4 * np.eye(4)


def codes(found: Certificate) -> list[str]:
    assert found.verdict == "FAIL", found
    return [cause.code for cause in found.causes]


def lower(x: Any) -> Any:
    """A quadratic form that reads the lower triangle of a matrix that it takes for symmetric."""
    read = np.tril(x) + np.swapaxes(np.tril(x, -1), -1, -2)
    return read @ read, read


def of_read(dy: Any, read: Any) -> Any:
    return dy @ read.swapaxes(-1, -2) + read.swapaxes(-1, -2) @ dy


def true_of_lower(dy: Any, read: Any) -> Any:
    g = of_read(dy, read)
    return np.tril(g) + np.tril(g.swapaxes(-1, -2), -1)


def eigenvalues(x: Any) -> Any:
    values, vectors = np.linalg.eigh(x)
    return values, vectors


def mean(g: Any) -> Any:
    return (g + g.swapaxes(-1, -2)) / 2


SYMMETRISED: dict[str, Any] = {
    "eigvalsh": (eigenvalues, lambda dy, v: ((v * dy) @ v.T,), A),
    "lower, the mean": (lower, lambda dy, read: (mean(true_of_lower(dy, read)),), A),
    "lower, folded up": (lower, lambda dy, read: (true_of_lower(dy, read).swapaxes(-1, -2).copy(),), A),
    "a product, one triangle": (lambda x: (x @ x, x), lambda dy, x: (np.tril(of_read(dy, x)),), A),
    "a product, both added": (lambda x: (x @ x, x), lambda dy, x: (2 * mean(of_read(dy, x)),), A),
    "a stack": (lower, lambda dy, read: (mean(true_of_lower(dy, read)),), RNG(2).normal(size=(2, 3, 3))),
    "large": (lower, lambda dy, read: (mean(true_of_lower(dy, read)),), RNG(2).normal(size=(12, 12))),
}


@pytest.mark.parametrize("name", SYMMETRISED)
def test_a_gradient_of_both_triangles_is_symmetrised(name: str) -> None:
    forward, backward, x = SYMMETRISED[name]
    expected = "transposed" if name == "lower, folded up" else "symmetrised"
    assert expected in codes(certificate_of(forward, backward, (x,), seed=0))


@pytest.mark.parametrize(
    ("change", "code"),
    [(lambda g: g.T.copy(), "transposed"), (lambda g: 2 * g, "constant-factor"), (lambda g: -g, "sign")],
    ids=["transposed", "twice", "sign"],
)
def test_neighbours_are_not_symmetrised(change: Any, code: str) -> None:
    found = certificate_of(lambda x: (x @ x, x), lambda dy, x: (change(of_read(dy, x)),), (A,), seed=0)
    assert codes(found)[0] == code
    assert "symmetrised" not in codes(found)


SHAPES = ((2, 2, 6, 5), (3, 2, 3, 2), (3,))
ARRAYS = tuple(RNG(3).normal(size=shape) for shape in SHAPES)
STEPS = {"stride": (2, 1), "padding": (1, 0)}


def conv_with(changed: dict[str, Any]) -> Any:
    """A backward of another stride or padding, where that fits the y of the forward."""

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        y, other = conv2d.im2col.forward(x, w, None, **{**STEPS, **changed})
        wide = np.zeros_like(y)
        both = tuple(slice(min(sizes)) for sizes in zip(y.shape, dy.shape, strict=True))
        wide[both] = dy[both]
        return conv2d.im2col.backward(wide, other)[0], conv2d.im2col.backward(wide, other)[1]

    return backward


def conv(x: Any, w: Any, **options: Any) -> Any:
    return conv2d.im2col.forward(x, w, None, **options)[0], (x, w)


@pytest.mark.parametrize("changed", [{"stride": (1, 2)}, {"padding": (0, 1)}], ids=str)
def test_an_option_with_height_and_width_exchanged_is_named(changed: dict[str, Any]) -> None:
    found = certificate_of(conv, conv_with(changed), ARRAYS[:2], STEPS, seed=0)
    assert "height-width-exchanged" in codes(found), found


def test_an_array_with_height_and_width_exchanged_is_named() -> None:
    def of_dx(dy: Any, cache: Any) -> Any:
        dx, dw, db = conv2d.im2col.backward(dy, cache)
        return np.asarray(dx).swapaxes(2, 3).reshape(SHAPES[0]), dw, db

    def of_kernel(dy: Any, cache: Any) -> Any:
        turned = cache._replace(kept=cache.kept._replace(w=cache.w.swapaxes(2, 3).reshape(cache.w.shape)))
        return conv2d.im2col.backward(dy, turned)[0], *conv2d.im2col.backward(dy, cache)[1:]

    def of_dy(dy: Any, cache: Any) -> Any:
        return conv2d.im2col.backward(dy.swapaxes(2, 3).reshape(dy.shape), cache)

    for backward in (of_dx, of_kernel, of_dy):
        found = certificate_of(conv2d.im2col.forward, backward, ARRAYS, STEPS, seed=0)
        assert codes(found)[0] == "height-width-exchanged", found


def test_a_loop_over_the_height_that_ends_at_the_width_is_named() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        seen = dy.copy()
        seen[:, :, dy.shape[3] :] = 0
        return max_pool2d.im2col.backward(seen, cache)

    x = RNG(0).permutation(2 * 8 * 5).reshape(1, 2, 8, 5).astype(float)
    found = certificate_of(max_pool2d.im2col.forward, backward, (x,), {"kernel_size": 2, "stride": 1}, seed=0)
    assert "height-width-exchanged" in codes(found)


def test_two_axes_of_no_image_are_transposed() -> None:
    """Attention: the last two axes are positions and features."""

    def backward(dy: Any, cache: Any) -> Any:
        q, k = cache
        return (dy @ k).swapaxes(2, 3).reshape(q.shape), dy.swapaxes(2, 3) @ q

    q, k = RNG(0).normal(size=(2, 2, 3, 5, 4))
    found = certificate_of(lambda q, k: (q @ k.swapaxes(2, 3), (q, k)), backward, (q, k), seed=0)
    assert codes(found) == ["transposed"]
