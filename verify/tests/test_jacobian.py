"""Tests of the whole Jacobian in two calls: what it compares, what it falls back on, what it catches."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cnn_core import Implementation, conv2d, linear, relu, softmax_cross_entropy
from verify import gradcheck
from verify.checker.exact import Differences
from verify.checker.layer import LayerUnderTest

GENERATOR = np.random.default_rng(0)
X, W, B = (GENERATOR.normal(size=shape) for shape in ((2, 3, 6, 5), (4, 3, 3, 2), (4,)))


def _notes(certificate: Any) -> list[str]:
    return [result.note for result in certificate.arguments]


def test_every_entry_is_compared_where_images_do_not_mix() -> None:
    certificate = gradcheck(*conv2d.im2col[1:], (X, W, B), structure="multilinear", full_jacobian=True, seed=0)
    assert _notes(certificate) == ["every entry of its Jacobian, 64 x 90", "", ""]
    assert certificate.miss_probability is not None
    assert certificate.miss_probability <= 1e-9


@pytest.mark.parametrize("off", [1.0, 1e-12, np.nan])
def test_one_wrong_entry_for_one_output_is_named(off: float) -> None:
    def backward(dy: np.ndarray, cache: Any) -> Any:
        gradients: Any = conv2d.im2col.backward(dy, cache)
        dx, dw, db = gradients
        dx[:, 2, 3, 1] *= 1 + off * np.sign(dy[:, 1, 2, 1])
        return dx, dw, db

    certificate = gradcheck(
        conv2d.im2col.forward, backward, (X, W), structure="multilinear", full_jacobian=True, raise_on_failure=False
    )
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert (certificate.worst.argument, certificate.worst.index) == (0, (0, 2, 3, 1))
    if off == off:
        note = re.fullmatch(r"with (\S+) upstream at y\[0, 1, 2, 1\], 0 elsewhere", _notes(certificate)[0])
        assert note
        assert certificate.worst.analytic == certificate.worst.numeric * (1 + off * np.sign(float(note[1])))


def test_a_wrong_weight_gradient_fails_along_random_directions() -> None:
    def backward(dy: np.ndarray, cache: Any) -> Any:
        gradients: Any = conv2d.im2col.backward(dy, cache)
        dx, dw, db = gradients
        dw[1, 2, 0, 1] += 1
        return dx, dw, db

    certificate = gradcheck(
        conv2d.im2col.forward, backward, (X, W), structure="multilinear", full_jacobian=True, raise_on_failure=False
    )
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert (certificate.worst.argument, certificate.worst.index) == (1, (1, 2, 0, 1))


def _one_of_the_batch_negated(dy: np.ndarray, _: Any) -> Any:
    dx = 2 * dy
    dx[1, 0] *= -1
    return (dx,)


def _first_entry_of_the_batch_lost(dy: np.ndarray, _: Any) -> Any:
    dx = 2 * dy
    dx[0, 1:] = 0
    return (dx,)


def _what_has_zero_upstream_skipped_and_overlaps_assigned(dy: np.ndarray, shape: Any) -> Any:
    dx = np.zeros(shape, dy.dtype)
    for n, k in np.argwhere(dy):
        dx[n, k : k + 2] = dy[n, k]
    return (dx,)


def _only_the_largest_upstream(dy: np.ndarray, _: Any) -> Any:
    return (2 * dy * (np.abs(dy) == np.abs(dy).max(1, keepdims=True)),)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (2 * x + 1, None), _one_of_the_batch_negated),
        (lambda x: (2 * x + 1, None), _first_entry_of_the_batch_lost),
        (lambda x: (x[:, :-1] + x[:, 1:], x.shape), _what_has_zero_upstream_skipped_and_overlaps_assigned),
        (lambda x: (2 * x + 1, None), _only_the_largest_upstream),
    ],
    ids=lambda each: each.__name__.lstrip("_"),
)
def test_what_is_right_of_copies_with_one_entry_upstream_alone_is_wrong(forward: Any, backward: Any) -> None:
    arrays = (GENERATOR.normal(size=(4, 6)),)
    for seed in range(5):
        found = gradcheck(forward, backward, arrays, full_jacobian=True, seed=seed, raise_on_failure=False)
        assert found.verdict == "FAIL"


def test_it_falls_back_by_itself_where_images_mix() -> None:
    def forward(x: np.ndarray) -> Any:
        return x - x.mean(0, keepdims=True) * 2, None

    arrays = (np.ones((4, 3)),)
    certificate = gradcheck(
        forward,
        lambda dy, _: (dy - dy.mean(0, keepdims=True) * 2,),
        arrays,
        structure="multilinear",
        full_jacobian=True,
    )
    assert _notes(certificate) == [""]


@pytest.mark.parametrize("structure", ["auto", "analytic"])
@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (np.cumsum(x, 0), None), lambda dy, _: (np.cumsum(dy[::-1], 0)[::-1],)),
        (lambda x: (x + x[:1], None), lambda dy, _: (np.concatenate([dy.sum(0, keepdims=True) + dy[:1], dy[1:]]),)),
        (lambda x: (x + x[-1:], None), lambda dy, _: (np.concatenate([dy[:-1], dy.sum(0, keepdims=True) + dy[-1:]]),)),
    ],
    ids=["cumulative sum", "first image", "last image"],
)
def test_batches_that_mix_one_way_are_no_wrong_gradients(forward: Any, backward: Any, structure: str) -> None:
    for seed in range(5):
        arrays = (GENERATOR.normal(size=(4, 3, 5)),)
        certificate = gradcheck(forward, backward, arrays, structure=structure, full_jacobian=True, seed=seed)
        assert _notes(certificate) == [""]


@pytest.mark.parametrize("first", [0, -1])
def test_a_gradient_that_leaves_out_how_a_batch_mixes_is_wrong(first: int) -> None:
    arrays = (GENERATOR.normal(size=(4, 3, 5)),)
    for seed in range(5):
        assert not gradcheck(
            lambda x: (x + x[[first]], None),
            lambda dy, _: (1 * dy,),
            arrays,
            structure="multilinear",
            full_jacobian=True,
            seed=seed,
            raise_on_failure=False,
        )


@pytest.mark.parametrize("structure", ["auto", "analytic"])
def test_a_function_of_the_length_of_its_batch_is_no_wrong_gradient(structure: str) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        dx = np.zeros(x.shape, dy.dtype)
        dx[:, :2] = dy / len(x)
        return (dx,)

    arrays = (GENERATOR.normal(size=(4, 5)),)
    assert gradcheck(lambda x: (x[:, :2] / len(x), x), backward, arrays, structure=structure, full_jacobian=True)


def test_it_falls_back_where_another_array_goes_with_each_image() -> None:
    labels = np.array([1, 0, 2])
    arrays = (GENERATOR.normal(size=(3, 5)), labels)
    assert gradcheck(*softmax_cross_entropy.vectorized[1:], arrays, full_jacobian=True)


def test_analytic_functions_are_compared_entry_by_entry() -> None:
    def forward(x: np.ndarray) -> Any:
        e = np.exp(x - x.real.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), e / e.sum(1, keepdims=True)

    def backward(dy: np.ndarray, y: np.ndarray) -> Any:
        return (y * (dy - (dy * y).sum(1, keepdims=True)),)

    def diagonal(dy: np.ndarray, y: np.ndarray) -> Any:
        return (y * (1 - y) * dy,)

    arrays = (GENERATOR.normal(size=(3, 5)),)
    certificate = gradcheck(forward, backward, arrays, structure="analytic", full_jacobian=True)
    assert _notes(certificate) == ["every entry of its Jacobian, 5 x 5"]
    wrong = gradcheck(forward, diagonal, arrays, structure="analytic", full_jacobian=True, raise_on_failure=False)
    assert wrong.verdict == "FAIL"


@pytest.mark.parametrize("implementation", [relu.naive, relu.vectorized], ids=lambda each: each.name)
def test_what_is_not_affine_is_not_taken_for_it(implementation: Implementation) -> None:
    for seed in range(20):
        certificate = gradcheck(*implementation[1:], (np.ones((2, 1)),), full_jacobian=True, seed=seed)
        assert certificate.structure == "piecewise-linear"


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**-3, 2.0**3, 2.0**40])
def test_a_point_of_scaled_dy_is_as_exact(factor: float) -> None:
    def doubled(x: np.ndarray) -> Any:
        return 2 * x, None

    subject = LayerUnderTest(doubled, lambda dy, _: (2 * dy,), (np.ones((3, 2)),), None, None)
    arrays = (np.arange(6.0).reshape(3, 2),)
    point = Differences.draw(subject, arrays, 3, np.random.default_rng(0), below=4).scaled(factor)
    v = np.array([[1.0, -2.0], [4.0, 8.0], [-8.0, 16.0]])
    assert point.residual(0, v) == 0
    point.gradients[0][1, 1] *= 2
    assert point.residual(0, v) == -8 * Fraction(point.gradients[0][1, 1]) / 2


def test_linear_layers_of_any_leading_axes_pass() -> None:
    arrays = (np.ones((3, 2, 4)), np.ones((5, 4)), np.ones(5))
    for implementation in (linear.naive, linear.vectorized):
        certificate = gradcheck(*implementation[1:], arrays, structure="multilinear", full_jacobian=True)
        assert _notes(certificate) == ["every entry of its Jacobian, 10 x 8", "", ""]


def test_a_point_at_another_dy_is_as_exact() -> None:
    arrays = (np.arange(1.0, 7.0).reshape(2, 3),)
    subject = LayerUnderTest(lambda x: (2 * x, None), lambda dy, _: (2 * dy,), arrays, {}, None)
    dy = np.full((2, 3), 0.1)  # on another grid than what was drawn
    drawn = Differences.draw(subject, arrays, 3, np.random.default_rng(0), below=4)
    point = replace(drawn.at(arrays, dy), gradients={0: 2 * dy})
    assert point.residual(0, np.ones((2, 3))) == 0
    assert replace(point, gradients={0: 4 * dy}).residual(0, np.ones((2, 3))) == -12 * Fraction(0.1)
