"""Tests of the checker: it passes what is right, and each planted error fails, with its entry named."""

from __future__ import annotations

import json
import math
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnn_core import Implementation, conv2d, max_pool2d, relu, softmax_cross_entropy
from verify import Certificate, GradientMismatch, Inconclusive, StructureError, gradcheck
from verify.layers import LAYERS, Case, Layer

Sabotage = Callable[[Any, tuple[int, ...], str], Any]

BOTH = [
    pytest.param(layer, implementation, id=f"{layer.name}-{implementation.name}")
    for layer in LAYERS.values()
    for implementation in layer.implementations
]


def _one_entry_off(gradient: np.ndarray, index: tuple[int, ...], structure: str) -> np.ndarray:
    """By one unit where arithmetic is exact, else by 1e-9 of the largest entry."""
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

WRONG_FORMS = {
    "wrong-shape": lambda gradient: gradient[None],
    "wrong-dtype": lambda gradient: gradient.astype(np.float32),
    "no-gradient": lambda gradient: gradient.tolist(),
}


def _nonempty(data: st.DataObject, layer: Layer) -> tuple[Case, int]:
    """A case, and the position of one of its gradients, which has entries and depends on something."""
    case = data.draw(layer.cases(), label="case")
    positions = [k for k, a in enumerate(case.arrays) if a is not None and a.dtype == np.float64 and a.size]
    assume(positions and all(a is None or a.size for a in case.arrays))
    if layer.structure == "analytic":
        assume(case.arrays[0] is not None and case.arrays[0].shape[1] > 1)  # the gradient for one class is 0
    return case, data.draw(st.sampled_from(positions), label="position")


def _sabotaged(implementation: Implementation, which: int, change: Callable[[Any], Any]) -> Implementation:
    """The implementation with the gradient in place `which` changed."""

    def backward(dy: np.ndarray, cache: Any) -> Any:
        gradients = list(implementation.backward(dy, cache))
        gradients[which] = change(gradients[which])
        return tuple(gradients)

    return implementation._replace(backward=backward)


@pytest.mark.parametrize("sabotage", WRONG_NUMBERS, ids=lambda sabotage: sabotage.__name__.strip("_"))
@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@settings(max_examples=25)
@given(data=st.data())
def test_one_wrong_entry_fails_and_is_named(
    layer: Layer, implementation: Implementation, sabotage: Sabotage, data: st.DataObject
) -> None:
    case, position = _nonempty(data, layer)
    array = np.asarray(case.arrays[position])
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    wrong = _sabotaged(implementation, position, lambda gradient: sabotage(gradient, index, layer.structure))
    certificate = gradcheck(*wrong[1:], *case, structure=layer.structure, seed=1, raise_on_failure=False)
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert (certificate.worst.argument, certificate.worst.index) == (position, index)
    assert certificate.causes[0].code in ("unknown", "not-finite")
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(*wrong[1:], *case, structure=layer.structure, seed=1)
    name = layer.names[position]
    assert f"worst entry d{name}[{', '.join(map(str, index))}]" in str(caught.value)


@pytest.mark.parametrize("code", WRONG_FORMS)
@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@settings(max_examples=10)
@given(data=st.data())
def test_a_gradient_of_another_form_fails(
    layer: Layer, implementation: Implementation, code: str, data: st.DataObject
) -> None:
    case, position = _nonempty(data, layer)
    wrong = _sabotaged(implementation, position, WRONG_FORMS[code])
    certificate = gradcheck(*wrong[1:], *case, structure=layer.structure, raise_on_failure=False)
    assert certificate.verdict == "FAIL"
    assert [cause.code for cause in certificate.causes] == [code]
    assert certificate.causes[0].argument == layer.names[position]


@pytest.mark.parametrize("which", ["forward", "backward", "backward-dy"])
@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@settings(max_examples=10)
@given(data=st.data())
def test_writing_to_an_argument_fails_and_spoils_nothing(
    layer: Layer, implementation: Implementation, which: str, data: st.DataObject
) -> None:
    case, position = _nonempty(data, layer)
    before = [None if a is None else a.copy() for a in case.arrays]

    def forward(*arrays: Any, **options: Any) -> Any:
        y, cache = implementation.forward(*arrays, **options)
        if which == "forward":
            arrays[position].flat[0] += 1
        return y, (arrays, cache)

    def backward(dy: Any, cache: Any) -> Any:
        arrays, inner = cache
        gradients = implementation.backward(dy, inner)
        if which == "backward":
            arrays[position].flat[0] += 1
        if which == "backward-dy":
            dy *= 2
        return gradients

    certificate = gradcheck(forward, backward, *case, structure=layer.structure, raise_on_failure=False)
    assert certificate.verdict == "FAIL"
    assert [cause.code for cause in certificate.causes] == ["input-overwritten"]
    for now, then in zip(case.arrays, before, strict=True):
        assert then is None or np.array_equal(np.asarray(now), then)


def _conv_arrays() -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=shape) for shape in ((2, 3, 5, 4), (4, 3, 3, 2), (4,)))


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda dy, cache: conv2d.im2col.backward(dy, cache)[:2], "backward returned 2 gradients for 3: x, w, b"),
        (lambda dy, cache: (*conv2d.im2col.backward(dy, cache), dy), "backward returned 4 gradients for 3: x, w, b"),
        (lambda dy, cache: conv2d.im2col.backward(dy, cache)[0], "backward must return a tuple, got ndarray"),
        (lambda dy, cache: (None, *conv2d.im2col.backward(dy, cache)[1:]), "dx is NoneType, not an array"),
    ],
)
def test_the_wrong_number_of_gradients_fails(backward: Callable[..., Any], message: str) -> None:
    with pytest.raises(GradientMismatch, match=message):
        gradcheck(conv2d.im2col.forward, backward, _conv_arrays(), structure="multilinear")


def _tied_cases() -> int:
    """10,000 in the profile `ci`, fewer in `quick`, 100,000 in `nightly`."""
    return min(settings().max_examples ** 2, 100_000)


@pytest.mark.parametrize("implementation", [max_pool2d.naive, max_pool2d.im2col], ids=lambda each: each.name)
def test_correct_pooling_of_tied_integers_never_fails(implementation: Implementation) -> None:
    for seed in range(_tied_cases()):
        generator = np.random.default_rng(seed)
        x = generator.integers(-1, 2, (1, 1, *generator.integers(2, 5, 2))).astype(np.float64)
        options = {"kernel_size": 2, "stride": int(generator.integers(1, 3))}
        assert gradcheck(
            *implementation[1:], (x,), options, structure="piecewise-linear", seed=seed, miss_probability=1e-3
        )


@pytest.mark.parametrize("implementation", [relu.naive, relu.vectorized], ids=lambda each: each.name)
def test_correct_relu_at_exact_zeros_never_fails(implementation: Implementation) -> None:
    for seed in range(_tied_cases()):
        x = np.random.default_rng(seed).integers(-1, 2, 5).astype(np.float64)
        assert gradcheck(*implementation[1:], (x,), structure="piecewise-linear", seed=seed, miss_probability=1e-3)


def _prelu(x: np.ndarray, slope: np.ndarray) -> Any:
    return np.where(x.real > 0, x, slope * x), (x, slope)


def _prelu_backward(dy: np.ndarray, cache: Any) -> Any:
    x, slope = cache
    return np.where(x > 0, dy, slope * dy), np.asarray(np.where(x > 0, 0, dy * x).sum())


def _maximum_backward(dy: np.ndarray, cache: Any) -> Any:
    x, y = cache
    return np.where(x >= y, dy, 0.0), np.where(x >= y, 0.0, dy)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_piecewise_linear_functions_of_two_arrays_pass_and_fail_as_they_should(dtype: type[np.floating]) -> None:
    x = np.array([1, 0, -2, 2, -1], dtype)
    for forward, backward, other in (
        (_prelu, _prelu_backward, np.asarray(0.25, dtype)),
        (lambda x, y: (np.maximum(x, y), (x, y)), _maximum_backward, np.array([1, 1, -2, 0, 0], dtype)),
    ):
        for seed in range(50):
            assert gradcheck(forward, backward, (x, other), structure="piecewise-linear", seed=seed)

        def wrong(dy: np.ndarray, cache: Any, right: Callable[..., Any] = backward) -> Any:
            dx, dother = right(dy, cache)
            return dx, dother + dtype(1)

        with pytest.raises(GradientMismatch):
            gradcheck(forward, wrong, (x, other), structure="piecewise-linear")


def _all_ties_rewarded(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
    x, y = cache
    return (np.where(x == y, dy, 0.0),)


def test_rewarding_every_tie_fails_even_where_complex_numbers_are_refused() -> None:
    def forward(x: np.ndarray) -> Any:
        y = np.asarray([max(x.tolist())])
        return y, (x, y)

    x = np.array([3.0, 1.0, 3.0])
    for seed in range(20):
        certificate = gradcheck(
            forward, _all_ties_rewarded, (x,), structure="piecewise-linear", seed=seed, raise_on_failure=False
        )
        assert certificate.verdict == "FAIL"
        assert "at the arrays given" in str(certificate)


def test_a_relu_whose_derivative_at_zero_is_not_the_forwards_fails() -> None:
    x = np.array([0.0, 1.0, -1.0])
    ones = gradcheck(
        relu.vectorized.forward,
        lambda dy, cache: (np.where(cache.x >= 0, dy, 0.0),),
        (x,),
        structure="piecewise-linear",
        raise_on_failure=False,
    )
    assert ones.verdict == "FAIL"
    assert ones.worst is not None
    assert ones.worst.index == (0,)


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
    off = gradcheck(
        forward, lambda dy, cache: (backward(dy, cache)[0] * (1 + 1e-9),), (x,), seed=1, raise_on_failure=False
    )
    assert off.verdict == "FAIL"


@pytest.mark.parametrize("structure", ["multilinear", "piecewise-linear", "piecewise-multilinear", "analytic"])
def test_a_structure_that_does_not_hold_is_an_error(structure: str) -> None:
    def forward(x: np.ndarray) -> Any:
        return x.real**2 * np.abs(x), x

    with pytest.raises(StructureError):
        gradcheck(forward, lambda dy, x: (3 * dy * x * np.abs(x),), (np.array([1.5, -2.0]),), structure=structure)


@pytest.mark.parametrize("size", [65, 300])
@pytest.mark.parametrize("which", ["maximum of all", "first positive or 0"])
def test_a_function_that_bends_only_across_zero_is_not_multilinear(which: str, size: int) -> None:
    def forward(x: np.ndarray) -> Any:
        return (np.maximum(x[:1], 0), x) if which != "maximum of all" else (x.max(keepdims=True), x)

    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        dx = np.zeros_like(x)
        dx[0 if which != "maximum of all" else x.argmax()] = dy[0] * (which == "maximum of all" or x[0] > 0)
        return (dx,)

    for seed in range(100):
        with pytest.raises(StructureError, match="not affine in x"):
            gradcheck(forward, backward, (np.zeros(size),), structure="multilinear", seed=seed)


def test_a_zero_gradient_of_a_forward_that_drops_imaginary_parts_does_not_pass_as_analytic() -> None:
    with pytest.raises(StructureError, match="the complex step does not differentiate this function in x"):
        gradcheck(lambda x: (np.sin(x.real), x), lambda dy, x: (0 * dy,), (np.array([0.3]),), structure="analytic")


def test_a_forward_that_refuses_complex_arrays_is_not_analytic() -> None:
    def forward(x: np.ndarray) -> Any:
        return np.array([math.sin(e) for e in x.tolist()]), x

    with pytest.raises(StructureError, match="the forward refuses complex arrays: must be real number, not complex"):
        gradcheck(forward, lambda dy, x: (dy * np.cos(x),), (np.array([0.3]),), structure="analytic")


def test_a_backward_that_rounds_is_not_taken_for_wrong() -> None:
    # A fraction of 3 that rounds: 3 * dy / 3 is dy, but for the last bit; the forward stays in the integers.
    def backward(dy: np.ndarray, _: Any) -> Any:
        return ((dy / 49) * 49,)

    dy = np.arange(1.0, 5000.0)
    assert ((dy / 49) * 49 != dy).any()
    with pytest.raises(StructureError, match="the backward rounds: dx"):
        gradcheck(lambda x: (x.copy(), None), backward, (np.zeros(64),), structure="multilinear", seed=0)


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.real.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (np.exp(-x * x), x), lambda dy, x: (0 * dy,)),
        (lambda x: (np.tanh(x), x), lambda dy, x: (3 * dy / np.cosh(x) ** 2,)),
        (lambda x: (np.clip(x, -9, 9), x), lambda dy, x: (0 * dy,)),
        (lambda x: (np.maximum(x, 0), x), lambda dy, x: (1 * dy,)),
        (lambda x: (np.tanh(np.asarray(x.real)), x), lambda dy, x: (0 * dy,)),
        (lambda x: (_softmax(x), x), lambda dy, x: (2 * _softmax(x) * (dy - (dy * _softmax(x)).sum()),)),
    ],
    ids=["bell", "tanh", "clip", "relu", "real tanh", "softmax"],
)
def test_what_is_linear_only_far_away_is_not_believed(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> None:
    for seed in range(20):
        x = np.abs(np.random.default_rng(seed).normal(size=2)) * [1, -1]
        certificate = gradcheck(forward, backward, (x,), seed=seed, raise_on_failure=False)
        # Only the oracle for black boxes may be undecided.
        undecided = certificate.structure == "smooth" and certificate.verdict == "INCONCLUSIVE"
        assert undecided or certificate.verdict == "FAIL"


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
def test_what_is_right_at_simple_arrays_passes(
    forward: Callable[..., Any], backward: Callable[..., Any], x: np.ndarray
) -> None:
    for seed in range(20):
        assert gradcheck(forward, backward, (x,), seed=seed)


@pytest.mark.parametrize(
    "spoilt",
    [
        np.trunc,
        np.abs,
        lambda g: np.clip(g, -1, 1),
        lambda g: g.astype(np.float32),
        lambda g: np.where(np.abs(g) < 1e-3, 0, g),
    ],
    ids=["whole", "positive", "clipped", "float32", "cut off"],
)
@pytest.mark.parametrize(
    ("layer", "structure"),
    [
        ("flatten", "multilinear"),
        ("flatten", "piecewise-linear"),
        ("flatten", "piecewise-multilinear"),
        ("flatten", "analytic"),
        ("flatten", "smooth"),
        ("relu", "piecewise-linear"),
        ("relu", "auto"),
        ("max_pool2d", "piecewise-linear"),
        ("conv2d", "multilinear"),
    ],
)
def test_a_gradient_that_is_no_linear_function_of_dy_fails(
    layer: str, structure: str, spoilt: Callable[[Any], Any]
) -> None:
    # Each is the right gradient for some dy: cut to whole numbers for whole ones, clipped for small ones.
    right = LAYERS[layer].fast
    x = np.random.default_rng(0).normal(size=(2, 2, 5, 5))
    arrays = _conv_arrays() if layer == "conv2d" else (np.rint(64 * x) / 64,)
    options = {"kernel_size": 2} if layer == "max_pool2d" else {}
    wrong = _sabotaged(right, 0, lambda gradient: spoilt(gradient).astype(gradient.dtype))
    for seed in range(5):
        settings: Any = {"structure": structure, "seed": seed}
        assert gradcheck(*right[1:], arrays, options, **settings)
        with pytest.raises(GradientMismatch, match=r"worst entry dx\["):
            gradcheck(*wrong[1:], arrays, options, **settings)


def test_a_forward_that_reuses_its_buffer_is_judged_by_its_values() -> None:
    buffer = np.zeros((3, 2))

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        return np.matmul(x, w, out=buffer), (x, w)

    arrays = np.ones((3, 4)), np.ones((4, 2))
    assert gradcheck(forward, lambda dy, cache: (dy @ cache[1].T, cache[0].T @ dy), arrays, structure="multilinear")
    with pytest.raises(GradientMismatch):
        gradcheck(forward, lambda dy, cache: (0 * cache[0], 0 * cache[1]), arrays, structure="multilinear")


def test_a_backward_that_reuses_its_buffer_is_judged_by_its_values() -> None:
    buffer = np.zeros(4)

    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        np.multiply(dy, np.exp(x), out=buffer)
        return (buffer,)

    for structure in ("analytic", "smooth"):
        assert gradcheck(lambda x: (np.exp(x), x), backward, (np.linspace(-1, 1, 4),), structure=structure)


def _matrix_product(x: np.ndarray, w: np.ndarray) -> Any:
    return x @ w, (x, w)


def _matrix_product_backward(dy: np.ndarray, cache: Any) -> Any:
    x, w = cache
    return dy @ w.T, x.T @ dy


def test_a_large_check_takes_no_more_than_three_times_the_memory_of_its_arrays() -> None:
    arrays = np.ones((2000, 200)), np.ones((200, 200))
    size = sum(array.nbytes for array in arrays) + arrays[0].nbytes
    tracemalloc.start()
    certificate = gradcheck(_matrix_product, _matrix_product_backward, arrays, structure="multilinear")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert certificate
    assert peak <= 3 * size


@pytest.mark.parametrize("which", ["x", "dy"])
def test_writing_to_a_large_argument_fails(which: str) -> None:
    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        if which == "x":
            x[...] = x[::-1].copy()
        return x @ w, (x, w)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        dy[5, 5] *= -1
        return _matrix_product_backward(dy, cache)

    arrays = np.ones((2000, 200)), np.ones((200, 200))
    with pytest.raises(GradientMismatch, match=f"wrote to its argument {which}"):
        gradcheck(forward, backward, arrays, structure="multilinear", seed=0)


@pytest.mark.parametrize(("below", "above", "size"), [(1e-3, np.inf, "/2^20"), (0, 1e4, r" \* 2^20")])
@pytest.mark.parametrize("structure", ["analytic", "smooth"])
def test_a_backward_that_drops_small_gradients_or_clips_large_ones_fails(
    structure: str, below: float, above: float, size: str
) -> None:
    x = np.linspace(-1, 1, 4)
    certificate = gradcheck(lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (x,), structure=structure)
    assert "backward is linear in dy to the last bit" in str(certificate)

    def unfair(dy: np.ndarray, x: np.ndarray) -> Any:
        return (np.clip(np.where(np.abs(dy) < below, 0, dy), -above, above) * np.exp(x),)

    with pytest.raises(
        GradientMismatch, match=f"of -dy{size}: backward is not linear in dy".replace("^", r"\^")
    ) as found:
        gradcheck(lambda x: (np.exp(x), x), unfair, (x,), structure=structure)
    assert found.value.certificate.causes[0].code == "not-linear"


@pytest.mark.parametrize(("off", "verdict"), [(2.0**-30, "PASS"), (2.0**-20, "FAIL")])
@pytest.mark.parametrize("structure", ["analytic", "smooth"])
def test_bits_lost_as_dy_grows_are_told_and_convict_nobody(structure: str, off: float, verdict: str) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.exp(x) * (1 + off * (np.abs(dy) > 1000)),)

    arrays = (np.linspace(-1, 1, 4),)
    found = gradcheck(lambda x: (np.exp(x), x), backward, arrays, structure=structure, raise_on_failure=False)
    assert found.verdict == verdict
    if verdict == "PASS":
        assert "backward is linear in dy up to 9.3e-10 of its largest entry" in str(found)


def test_a_clip_of_large_gradients_fails_in_float32_too() -> None:
    def clipped(dy: np.ndarray, x: np.ndarray) -> Any:
        return (np.clip(dy, -1e4, 1e4) * np.exp(x),)

    x = np.linspace(-1, 1, 4, dtype=np.float32)
    assert gradcheck(lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (x,), structure="analytic")
    with pytest.raises(GradientMismatch, match=r"of -dy \* 2\^16: backward is not linear in dy"):
        gradcheck(lambda x: (np.exp(x), x), clipped, (x,), structure="analytic")


def test_what_overflows_when_dy_is_large_is_no_opinion() -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.exp(x),)

    arrays = (np.array([690.0, 704.0]),)  # exp(704) is 5e305
    assert gradcheck(lambda x: (np.exp(x), x), backward, arrays, structure="analytic")


def test_noise_or_half_precision_behind_real_parts_is_not_taken_for_a_wrong_gradient() -> None:
    # The complex step is 0 there, and plain differences, rounded away or drowned, do not contradict it.
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy / np.cosh(x) ** 2,)

    for seed in range(20):
        generator = np.random.default_rng(seed)
        x = np.rint(16 * generator.normal(size=1 + seed % 4)) / 16

        def noisy(x: np.ndarray, generator: np.random.Generator = generator) -> Any:
            return np.tanh(x.real) + 1e-3 * generator.normal(size=x.shape), x

        def half(x: np.ndarray) -> Any:
            return np.tanh(x.real.astype(np.float16)).astype(np.float64), x

        for forward in (noisy, half):
            assert gradcheck(forward, backward, (x,), seed=seed, raise_on_failure=False).verdict == "INCONCLUSIVE"


def _same(dy: np.ndarray, _: Any) -> Any:
    return (dy.copy(),)


def _zero(dy: np.ndarray, _: Any) -> Any:
    return (0 * dy,)


@pytest.mark.parametrize("shape", [(3, 4), (2,), (1,)], ids=str)
@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (np.floor, _zero, _same),
        (np.trunc, _zero, _same),
        (np.round, _zero, _same),
        (lambda x: np.round(8 * x) / 8, _zero, _same),
        (lambda x: x % 1, _same, _zero),
        (lambda x: x - 2 * np.round(x / 2), _same, _zero),
    ],
    ids=["floor", "trunc", "round", "round to eighths", "fraction", "minimum image"],
)
def test_what_jumps_at_whole_numbers_is_checked_where_the_arrays_are(
    function: Callable[[Any], Any], right: Callable[..., Any], wrong: Callable[..., Any], shape: tuple[int, ...]
) -> None:
    # On whole numbers, by whole steps, each of them is as linear as x or 0, which it is not elsewhere.
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=shape)
        assert gradcheck(lambda x: (function(x), None), right, (x,), seed=seed)
        assert not gradcheck(lambda x: (function(x), None), wrong, (x,), seed=seed, raise_on_failure=False)


def test_arrays_of_two_precisions_are_held_to_the_coarser() -> None:
    x, w = np.ones((3, 4), np.float32), np.ones((4, 2))

    def backward(dy: np.ndarray, cache: Any) -> Any:
        x, w = cache
        return (dy @ w.T).astype(np.float32), x.T @ dy

    def wrong(dy: np.ndarray, cache: Any) -> Any:
        dx, dw = backward(dy, cache)
        dx[1, 1] *= 1 + 2.0**-10
        return dx, dw

    for seed in range(10):
        assert gradcheck(lambda x, w: (x @ w, (x, w)), backward, (x, w), seed=seed)
        assert gradcheck(lambda x: (3 * x.astype(float), x), lambda dy, x: ((3 * dy).astype(x.dtype),), (x,), seed=seed)
        with pytest.raises(GradientMismatch, match=r"worst entry dx\[1, 1\]"):
            gradcheck(lambda x, w: (x @ w, (x, w)), wrong, (x, w), seed=seed)


def test_a_wrong_entry_in_float32_is_shown_beside_the_right_value() -> None:
    x = np.array([1, 2, 3], np.float32)

    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (2 * x * dy * np.array([1, 1, 2], np.float32),)

    worst = gradcheck(lambda x: (x * x, x), backward, (x,), seed=0, raise_on_failure=False).worst
    assert worst is not None
    assert worst.analytic == pytest.approx(2 * worst.numeric, rel=1e-6)  # a few roundings of a float32, 6e-8 each


def test_arrays_of_another_byte_order_without_axes_or_without_entries_are_checked() -> None:
    def double(x: Any) -> Any:
        assert isinstance(x, np.ndarray)
        return 2 * x, None

    def backward(dy: Any, _: Any) -> Any:
        return (2 * dy,)

    for x in (np.ones(3, ">f8"), np.array(1.5), np.ones((0, 3))):
        assert gradcheck(double, backward, (x,))
    with pytest.raises(GradientMismatch, match=r"dx has shape \(7,\), x has \(0, 3\)"):
        gradcheck(double, lambda dy, _: (np.ones(7),), (np.ones((0, 3)),))
    refuses: Any = lambda x: 1 / 0  # noqa: E731
    with pytest.raises(ZeroDivisionError):
        gradcheck(refuses, backward, (np.ones((0, 3)),))
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(TypeError, match="at most float64 is checked"):
            gradcheck(double, backward, (np.ones(3, np.longdouble),))


def test_none_in_the_place_of_an_integer_array_is_taken_as_pytorch_means_it() -> None:
    def backward(dy: np.ndarray, cache: Any) -> Any:
        indices, weight = cache
        dweight = np.zeros_like(weight)
        np.add.at(dweight, indices, dy)
        return None, dweight

    arrays = np.array([0, 2, 2]), np.ones((4, 2))
    assert gradcheck(lambda indices, weight: (weight[indices], (indices, weight)), backward, arrays)


def test_a_batch_norm_of_few_images_is_not_called_wrong() -> None:
    def forward(x: np.ndarray) -> Any:
        centred = x - x.mean(0)
        scale = 1 / np.sqrt((centred * centred).mean(0) + 1e-5)
        return centred * scale, (centred * scale, scale)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        y, scale = cache
        return (scale * (dy - dy.mean(0) - y * (dy * y).mean(0)),)

    for shape in ((2, 16), (8, 4)):
        for seed in range(50):
            x = np.random.default_rng(seed).normal(size=shape)
            assert gradcheck(forward, backward, (x,), structure="analytic", seed=seed)
            off = gradcheck(
                forward, lambda dy, c: (backward(dy, c)[0] * (1 + 1e-7),), (x,), seed=seed, raise_on_failure=False
            )
            assert off.verdict != "PASS"


def test_a_saturated_softmax_is_inconclusive_not_wrong() -> None:
    x, labels = np.array([[60.0, 0.0, 0.0]]), np.array([0])
    with pytest.raises(Inconclusive, match="rounding hides this gradient"):
        gradcheck(
            *softmax_cross_entropy.vectorized[1:], (x, labels), {"reduction": "sum"}, structure="analytic", seed=0
        )


def test_an_overflowing_forward_is_inconclusive() -> None:
    with np.errstate(over="ignore"), pytest.raises(Inconclusive, match="y is not finite"):
        gradcheck(
            lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (np.array([1000.0]),), structure="analytic"
        )


def _abs_of_floats(x: np.ndarray) -> Any:
    return np.array([0.1 * math.fabs(e) for e in x]), x


@pytest.mark.parametrize("at_zero", [-0.1, 0.03, 0.1])
def test_at_a_kink_of_a_black_box_the_claim_may_lie_between_the_one_sided_derivatives(at_zero: float) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.where(x == 0, at_zero, 0.1 * np.sign(x)),)

    certificate = gradcheck(_abs_of_floats, backward, (np.array([0.0, 1.0, -2.0]),), structure="smooth")
    assert "1 of 3 entries at kinks" in str(certificate)
    assert certificate.detection_floor is not None
    assert certificate.detection_floor < 1e-9  # of the entries that are at no kink


@pytest.mark.parametrize("at_zero", [-0.1001, 0.2])
def test_at_a_kink_of_a_black_box_the_claim_may_not_lie_outside(at_zero: float) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.where(x == 0, at_zero, 0.1 * np.sign(x)),)

    certificate = gradcheck(
        _abs_of_floats, backward, (np.array([1.0, 0.0, -2.0]),), structure="smooth", raise_on_failure=False
    )
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert certificate.worst.index == (1,)


def test_a_kink_does_not_hide_a_wrong_entry_elsewhere() -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * np.array([0.1, 0.0, -0.1 - 1e-9]),)

    certificate = gradcheck(
        _abs_of_floats, backward, (np.array([1.0, 0.0, -2.0]),), structure="smooth", raise_on_failure=False
    )
    assert certificate.verdict == "FAIL"
    assert certificate.worst is not None
    assert certificate.worst.index == (2,)


def test_a_certificate_says_everything_in_json_and_survives_pickling() -> None:
    arrays = _conv_arrays()
    certificate = gradcheck(*conv2d.im2col[1:], arrays, {"padding": 1}, seed=5)
    assert certificate.verdict == "PASS"
    assert certificate.seed == 5
    assert certificate.worst is None
    assert certificate.miss_probability is not None
    assert certificate.miss_probability <= 1e-9
    assert [result.name for result in certificate.arguments] == ["x", "w", "b"]
    plain = json.loads(certificate.to_json())
    assert plain["arguments"][1]["shape"] == [4, 3, 3, 2]
    assert plain["forward_calls"] == certificate.forward_calls > 0
    wrong = _sabotaged(conv2d.im2col, 1, lambda gradient: gradient * math.nan)
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(*wrong[1:], arrays)
    assert not caught.value.certificate
    assert json.loads(caught.value.certificate.to_json())["worst"]["analytic"] == "nan"
    assert isinstance(pickle.loads(pickle.dumps(caught.value)).certificate, Certificate)


def test_the_same_seed_gives_the_same_certificate() -> None:
    one, two = (gradcheck(*conv2d.im2col[1:], _conv_arrays(), seed=3).to_dict() for _ in range(2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


@pytest.mark.parametrize("asked", [1e-3, 1e-9, 1e-30])
def test_the_miss_probability_asked_for_is_kept(asked: float) -> None:
    certificate = gradcheck(*relu.vectorized[1:], (np.zeros(3),), miss_probability=asked)
    assert certificate.miss_probability is not None
    assert certificate.miss_probability <= asked


def test_wrt_checks_those_arrays_alone() -> None:
    wrong = _sabotaged(conv2d.im2col, 1, lambda gradient: gradient + 1)
    arrays = tuple(np.rint(10 * array) for array in _conv_arrays())
    assert gradcheck(*wrong[1:], arrays, wrt=[0, 2], structure="multilinear")
    with pytest.raises(GradientMismatch, match=r"worst entry dw\["):
        gradcheck(*wrong[1:], arrays, wrt=[1], structure="multilinear")


@pytest.mark.parametrize(
    ("error", "message", "arguments", "keywords"),
    [
        (ValueError, "structure must be .* got 'linear'", ((np.zeros(2),),), {"structure": "linear"}),
        (ValueError, "miss_probability must lie between 0 and 1, got 0", ((np.zeros(2),),), {"miss_probability": 0}),
        (ValueError, r"wrt must hold positions in the 1 arrays, got \[1\]", ((np.zeros(2),),), {"wrt": [1]}),
        (ValueError, "nothing to check: none of the 1 arrays is floating", ((np.zeros(2, int),),), {}),
        (TypeError, r"wrt=\[0\]: x is no floating array, but dtype int64", ((np.zeros(2, np.int64),),), {"wrt": [0]}),
        (TypeError, "x is complex; gradients are checked at real arrays", ((np.zeros(2, complex),),), {}),
        (TypeError, r"arrays must be a tuple of arrays, got one array of shape \(2,\)", (np.zeros(2),), {}),
        (ValueError, r"x\[1\] is nan: arrays must be finite", ((np.array([0, np.nan]),),), {}),
    ],
)
def test_bad_arguments_are_refused_with_their_values(
    error: type[Exception], message: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        gradcheck(*relu.vectorized[1:], *arguments, **keywords)


def _norm_of_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x / np.linalg.norm(x, axis=-1, keepdims=True), x  # of complex numbers np.linalg.norm takes |x|


def _right_by_rows(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return (dy / norm - x * (dy * x).sum(-1, keepdims=True) / norm**3,)


def _softmax_of_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = np.exp(x)
    p = p / p.sum(1, keepdims=True)
    return p, p


def _entropy_and_norm(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (p * np.log(p)).sum() + np.linalg.norm(p) ** 2, p


def _refuses_negative(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.real.min() < 0:
        raise ValueError("x must be >= 0")
    return x**2, x


def _large_and_abs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([1e6 * x[:2] ** 2, np.abs(x[2:])]), x


def _large_and_abs_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (np.concatenate([2e6 * x[:2] * dy[:2], dy[2:] * np.sign(x[2:])]),)


def _penalised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (x**2).sum() + 1e-6 * np.abs(x).sum(), x


_DRAWN = np.random.default_rng(0).normal(size=(3, 4))
_SMALL_P = np.array([0.9, 0.0999, 0.0001])
_FAR = np.array([3.0, 2, 1, 5, -4, 1e6])
_SINGLE = np.concatenate([np.linspace(0.5, 5.5, 10), np.linspace(-300, 300, 30)]).astype(np.float32)
_CLIPPED = (
    lambda x: (np.clip(x, 0, 6), x),
    lambda dy, x: (dy * ((x > 0) & (x < 6)),),
    lambda dy, x: (0 * dy,),
)

# name: forward, the right backward, a wrong one, x, options. Each wrong one passed once, or its right one failed.
_ONCE_MISTAKEN: dict[str, tuple[Any, Any, Any, np.ndarray, dict[str, Any]]] = {
    "complex numbers take another norm": (
        _norm_of_rows,
        _right_by_rows,
        lambda dy, x: (dy / np.linalg.norm(x, axis=-1, keepdims=True),),
        _DRAWN,
        {},
    ),
    "the first image's cache for all": (
        _softmax_of_rows,
        lambda dy, p: (p * (dy - (dy * p).sum(1, keepdims=True)),),
        lambda dy, p: (p[:1] * (dy - (dy * p[:1]).sum(1, keepdims=True)),),
        _DRAWN,
        {},
    ),
    "clipped beyond small integers": (
        lambda x: (np.clip(x, -128, 127), x),
        lambda dy, x: (dy * (np.abs(x + 0.5) < 127.5),),
        lambda dy, x: (dy,),
        100 * _DRAWN,
        {},
    ),
    "cut off below small integers": (
        lambda x: (np.where(np.abs(x) > 0.5, x, 0), x),
        lambda dy, x: (dy * (np.abs(x) > 0.5),),
        lambda dy, x: (dy,),
        _DRAWN,
        {},
    ),
    "rounded, in float32": (
        lambda x: (np.floor(x), x),
        lambda dy, x: (0 * dy,),
        lambda dy, x: (dy,),
        (3 * _DRAWN).astype(np.float32),
        {},
    ),
    "not analytic in an output smaller than others": (
        _large_and_abs,
        _large_and_abs_back,
        lambda dy, x: (np.concatenate([2e6 * x[:2] * dy[:2], 0 * dy[2:]]),),
        _DRAWN,
        {},
    ),
    "not analytic by little": (
        _penalised,
        lambda dy, x: (dy * (2 * x + 1e-6 * np.sign(x)),),
        lambda dy, x: (dy * (2 * x + 1e-3 * np.sign(x)),),
        _DRAWN,
        {},
    ),
    "not analytic, near the end of its domain": (
        _entropy_and_norm,
        lambda dy, p: (dy * (np.log(p) + 1 + 2 * p),),
        lambda dy, p: (dy * (np.log(p) + 1),),
        _SMALL_P,
        {},
    ),
    "at the end of its domain": (
        _refuses_negative,
        lambda dy, x: (2 * dy * x,),
        lambda dy, x: (dy * x,),
        np.array([0.0, 1, 2]),
        {},
    ),
    "a kink nearer than the grid of a far entry": (*_CLIPPED, _FAR, {}),
    "a kink nearer than the grid of float32": (*_CLIPPED, _SINGLE, {}),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", _ONCE_MISTAKEN)
def test_what_was_mistaken_once_is_told_right_from_wrong(name: str, seed: int) -> None:
    forward, right, wrong, x, options = _ONCE_MISTAKEN[name]
    found, missed = (
        gradcheck(forward, backward, (x,), seed=seed, raise_on_failure=False, **options) for backward in (right, wrong)
    )
    assert found.verdict != "FAIL", found
    assert missed.verdict != "PASS", missed


@pytest.mark.parametrize("seed", range(20))
def test_the_complex_step_differentiates_a_confident_softmax(seed: int) -> None:
    """Its loss is small, a difference of numbers that are not: plain differences round by these."""
    x = np.array([[3.23009285, -3.90753739]])
    labels = np.array([0])
    options = {"reduction": "sum"}
    assert gradcheck(*softmax_cross_entropy.vectorized[1:], (x, labels), options, structure="analytic", seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_floor_is_not_linear_among_whole_numbers_of_float32_either(seed: int) -> None:
    x = np.arange(12, dtype=np.float32)
    with pytest.raises(StructureError, match="not affine in x"):
        gradcheck(lambda x: (np.floor(x), x), lambda dy, x: (dy,), (x,), structure="piecewise-linear", seed=seed)


@pytest.mark.parametrize("seed", range(8))
def test_the_end_of_a_domain_does_not_keep_the_complex_step_from_a_function(seed: int) -> None:
    x = np.array([0.0, 1, 2])
    assert gradcheck(_refuses_negative, lambda dy, x: (2 * dy * x,), (x,), seed=seed).structure == "analytic"


def test_integers_that_do_not_fit_are_said_to_be_too_few() -> None:
    with pytest.raises(StructureError, match=r"even small integers leave the 8.39e\+06 that float32 holds exactly"):
        gradcheck(
            lambda x: (np.float32(2**25) * x, None),
            lambda dy, _: (np.float32(2**25) * dy,),
            (_DRAWN.astype(np.float32),),
            structure="multilinear",
            seed=0,
        )


@pytest.mark.parametrize("seed", range(3))
def test_a_backward_that_gives_random_numbers_is_wrong_even_where_rounding_would_hide_it(seed: int) -> None:
    generator = np.random.default_rng(seed)
    certificate = gradcheck(
        lambda x: (np.sin(x), x),
        lambda dy, x: (dy * (generator.random(x.shape) > 0.5) * 2 * np.cos(x),),
        (_DRAWN,),
        seed=seed,
        raise_on_failure=False,
    )
    assert certificate.verdict == "FAIL"


def test_a_wrong_gradient_of_float32_is_not_taken_for_one_that_is_not_linear() -> None:
    def backward(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
        dx = dy * (1 - y * y)
        dx[0] *= np.float32(1.5)
        dx[1] *= 2
        return (dx,)

    x = np.random.default_rng(7).normal(size=12).astype(np.float32)
    certificate = gradcheck(lambda x: (np.tanh(x),) * 2, backward, (x,), seed=0, raise_on_failure=False)
    assert certificate.verdict == "FAIL"
    assert "not-linear" not in [cause.code for cause in certificate.causes]


def test_a_mask_that_loses_one_entry_of_few_bits_is_never_missed() -> None:
    generator = np.random.default_rng(1)
    _, x, w = (generator.uniform(0.3, 0.9, 5).astype(np.float32) for _ in range(3))

    def backward(dy: np.ndarray, cache: Any) -> tuple[np.ndarray, np.ndarray]:
        x, w = cache
        mask = (np.abs(x) < 1).astype(x.dtype)
        mask[2] = 0
        return dy * mask * w, dy * np.clip(x, -1, 1)

    def forward(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, Any]:
        return np.clip(x, -1, 1) * w, (x, w)

    # Seeds that one draw of five bits let pass.
    for seed in (1390, 1799, 1938):
        assert gradcheck(forward, backward, (x, w), seed=seed, raise_on_failure=False).verdict == "FAIL"
