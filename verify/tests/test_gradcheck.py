"""The whole call: a wrong entry of any layer fails and is named, and the strongest reference is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import Implementation, conv2d
from helpers import SAMPLE, certificate_of, conv_arrays, nonempty, sabotaged
from verify import GradientMismatch, gradcheck
from verify.diagnosis.report import entry
from verify.layers import Layer

Sabotage = Callable[[Any, tuple[int, ...], str], Any]


def _one_entry_off(gradient: np.ndarray, index: tuple[int, ...], structure: str) -> np.ndarray:
    """Return the gradient with an entry off by 1 where arithmetic is exact, else by 1e-9 of the largest entry."""
    gradient[index] += 1e-9 * np.abs(gradient).max() if structure == "analytic" else 1
    return gradient


def _one_entry_off_by_a_billionth(gradient: np.ndarray, index: tuple[int, ...], structure: str) -> np.ndarray:
    if structure == "analytic":
        return _one_entry_off(gradient, index, structure)
    gradient[index] = gradient[index] * (1 + 1e-9) or 1e-9 * np.abs(gradient).max() or 1
    return gradient


def _one_entry_nan(gradient: np.ndarray, index: tuple[int, ...], structure: str) -> np.ndarray:
    gradient[index] = math.nan
    return gradient


def _one_entry_infinite(gradient: np.ndarray, index: tuple[int, ...], structure: str) -> np.ndarray:
    gradient[index] = -math.inf
    return gradient


WRONG_NUMBERS = [_one_entry_off, _one_entry_off_by_a_billionth, _one_entry_nan, _one_entry_infinite]


@pytest.mark.parametrize("sabotage", WRONG_NUMBERS, ids=lambda sabotage: sabotage.__name__.strip("_"))
@pytest.mark.parametrize(("layer", "implementation"), SAMPLE)
@settings(max_examples=settings().max_examples // 5)
@given(data=st.data())
def test_one_wrong_entry_fails_and_is_named(
    layer: Layer, implementation: Implementation, sabotage: Sabotage, data: st.DataObject
) -> None:
    case, position = nonempty(data, layer)
    array = np.asarray(case.arrays[position])
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    wrong = sabotaged(implementation, position, lambda gradient: sabotage(gradient, index, layer.structure))
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(*wrong[1:], *case, structure=layer.structure, seed=1)
    certificate = caught.value.certificate
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert (certificate.worst.argument, certificate.worst.index) == (position, index)
    # What is added is a term without dy. Of a single entry more fits.
    known = {"unknown", "not-finite", "not-linear", "upstream-ignored"}
    assert certificate.causes[0].code in known or array.size == 1
    name = layer.names[position]
    assert f"worst entry {entry(f'd{name}', index)}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "forward", "backward", "structure"),
    [
        ("linear", lambda x: (3 * x, None), lambda dy, _: (3 * dy,), "multilinear"),
        ("relu", lambda x: (np.maximum(x, 0), x), lambda dy, x: (dy * (x > 0),), "piecewise-linear"),
        ("tanh", lambda x: (np.tanh(x), x), lambda dy, x: (dy / np.cosh(x) ** 2,), "analytic"),
        ("real tanh", lambda x: (np.tanh(x.real), x), lambda dy, x: (dy / np.cosh(x) ** 2,), "smooth"),
        ("math.atan", lambda x: (np.array([math.atan(e) for e in x]), x), lambda dy, x: (dy / (1 + x * x),), "smooth"),
    ],
)
def test_auto_finds_the_strongest_structure(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any], structure: str
) -> None:
    x = np.random.default_rng(0).normal(size=7)
    certificate = gradcheck(forward, backward, (x,), seed=0)
    assert (certificate.structure, bool(certificate)) == (structure, True)
    off = certificate_of(forward, lambda dy, cache: (backward(dy, cache)[0] * (1 + 1e-9),), (x,), seed=1)
    assert off.verdict == "FAIL"


@pytest.mark.parametrize(
    ("forward", "backward", "x"),
    [
        (lambda x: (0.1 * x, None), lambda dy, _: (0.1 * dy,), np.ones((2, 3))),
        (lambda x: (np.tanh(x), x), lambda dy, x: (dy / np.cosh(x) ** 2,), np.zeros(4)),
        (lambda x: (x**3, x), lambda dy, x: (3 * dy * x * x,), np.zeros(4)),
        (lambda x: (1 / (1 + np.exp(-x)), x), lambda dy, x: (dy / (2 + np.exp(x) + np.exp(-x)),), np.array([0.3])),
    ],
    ids=["tenth", "tanh at 0", "cube at 0", "sigmoid"],
)
def test_a_right_gradient_passes_at_simple_arrays(
    forward: Callable[..., Any], backward: Callable[..., Any], x: np.ndarray
) -> None:
    for seed in range(20):
        assert gradcheck(forward, backward, (x,), seed=seed)


def test_wrt_checks_those_arrays_alone() -> None:
    wrong = sabotaged(conv2d.im2col, 1, lambda gradient: gradient + 1)
    arrays = tuple(np.rint(10 * array) for array in conv_arrays())
    assert gradcheck(*wrong[1:], arrays, wrt=[0, 2], structure="multilinear")
    with pytest.raises(GradientMismatch, match=r"worst entry dw\["):
        gradcheck(*wrong[1:], arrays, wrt=[1], structure="multilinear")
