# mypy: allow-untyped-decorators
"""verify.adapters.jax: functions and custom_vjp, in float64 whatever x64 says; wrong ones are named."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify.adapters import adapt
from verify.checker.certificate import Certificate, GradientMismatch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its import: not ours
    jax = pytest.importorskip("jax", reason="these are layers in JAX: pip install gradcert[oracle]")

from verify.adapters import jax as adapter

jnp = jax.numpy


def check(target: Any, *inputs: Any, options: Any = None, **settings: Any) -> Certificate:
    """A check that does not raise, seed 0."""
    return result_of(adapter.gradcheck, target, inputs, options, seed=0, **settings)


def drawn(*shape: int) -> Any:
    """Normal numbers, always the same, in float64."""
    return np.random.default_rng(0).standard_normal(shape)


def product(backward: Any) -> Any:
    """x @ w as a custom_vjp with this backward."""

    @jax.custom_vjp
    def made(x: Any, w: Any) -> Any:
        return x @ w

    made.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, dy: backward(dy, *saved))
    return made


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def scaled(x: Any, factor: Any, w: Any) -> Any:
    """factor * x @ w, with a factor that must be known."""
    return factor * (x @ w) if factor > 0 else x @ w


scaled.defvjp(
    lambda x, factor, w: (scaled(x, factor, w), (x, w)),
    lambda factor, saved, dy: (factor * dy @ saved[1].T, factor * saved[0].T @ dy),
)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_a_convolution_is_exact_in_float64(wrap: Any) -> None:
    def convolve(x: Any, w: Any, *, stride: int = 1) -> Any:
        return jax.lax.conv(x, w, (stride, stride), "SAME")

    certificate = check(wrap(functools.partial(convolve, stride=2)), drawn(2, 3, 6, 5), drawn(4, 3, 3, 3))
    assert (certificate.verdict, certificate.oracle) == ("PASS", "exact integers")
    assert certificate.miss_probability is not None
    options = check(convolve, drawn(2, 3, 6, 5), drawn(4, 3, 3, 3), options={"stride": 2})
    assert [result.name for result in options.arguments] == ["x", "w"]
    assert options.verdict == "PASS"


def test_a_wrong_custom_vjp_is_named_with_its_worst_entry() -> None:
    assert check(product(lambda dy, x, w: (dy @ w.T, x.T @ dy)), drawn(5, 4), drawn(4, 3)).verdict == "PASS"
    wrong = product(lambda dy, x, w: (dy @ w.T, (x.T @ dy).at[1, 0].multiply(1 + 1e-9)))
    with pytest.raises(GradientMismatch, match=r"dw \(4, 3\): FAIL, worst entry dw\[1, 0\]"):
        adapter.gradcheck(wrong, (drawn(5, 4), drawn(4, 3)), seed=0)


def test_float64_is_not_made_float32_where_x64_is_off() -> None:
    assert not jax.config.jax_enable_x64
    seen = []

    def spied(x: Any) -> Any:
        seen.append(x.dtype)
        return jnp.tanh(x)

    certificate = check(spied, drawn(4))
    assert (certificate.verdict, certificate.oracle) == ("PASS", "complex step")
    assert {str(dtype) for dtype in seen} == {"float64", "complex128"}
    assert certificate.detection_floor is not None
    assert certificate.detection_floor < 1e-9  # of float32 it could not be
    assert not jax.config.jax_enable_x64


def test_jax_arrays_are_taken_in_float64_where_they_could_be_nothing_else() -> None:
    rounded = product(lambda dy, x, w: (dy @ w.T, (x.T @ dy).astype(jnp.float32).astype(dy.dtype)))
    inputs = jnp.asarray(drawn(5, 4)), jnp.asarray(drawn(4, 3))
    assert inputs[0].dtype == jnp.float32
    assert check(rounded, *inputs).verdict == "FAIL"
    with jax.enable_x64(True):  # here float32 is a choice, in which that gradient is right
        assert check(rounded, *inputs).verdict == "PASS"
    assert check(rounded, *(np.asarray(each) for each in inputs)).verdict == "PASS"


def test_parameters_in_trees_have_the_names_of_their_branches() -> None:
    def network(params: Any, x: Any) -> Any:
        hidden = jnp.tanh(x @ params["layers"][0][0] + params["layers"][0][1])
        return hidden @ params["out"]

    params = {"layers": [(drawn(4, 3), drawn(3))], "out": drawn(3, 2)}
    certificate = check(network, params, drawn(5, 4))
    assert certificate.verdict == "PASS"
    names = ["params.layers.0.0", "params.layers.0.1", "params.out", "x"]
    assert [result.name for result in certificate.arguments] == names
    only = check(network, params, drawn(5, 4), wrt=["params.out"])
    assert [result.name for result in only.arguments] == ["params.out"]
    assert only.verdict == "PASS"


def test_arguments_that_are_not_differentiable_are_handed_on_as_they_are() -> None:
    certificate = check(scaled, drawn(5, 4), 3, drawn(4, 2))
    assert (certificate.verdict, [result.name for result in certificate.arguments]) == ("PASS", ["x", "w"])
    assert check(scaled, drawn(5, 4), 0.5, drawn(4, 2)).verdict == "PASS"
    known = check(scaled, drawn(5, 4), np.float64(3), drawn(4, 2))  # traced, it would not be known
    assert [result.name for result in known.arguments] == ["x", "w"]
    negative = check(scaled, drawn(5, 4), -2, drawn(4, 2))
    assert [result.verdict for result in negative.arguments] == ["FAIL", "FAIL"]
    held = check(lambda x, w: x @ w, drawn(5, 4), drawn(4, 2), nondiff_argnums=(1,))
    assert [result.name for result in held.arguments] == ["x"]
    with pytest.raises(ValueError, match="nondiff_argnums has 5, which is not a position in 1 inputs"):
        check(jnp.sin, drawn(3), nondiff_argnums=(5,))


def test_a_static_argument_may_be_left_to_its_default() -> None:
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def power(x: Any, exponent: int = 3) -> Any:
        return x**exponent

    power.defvjp(lambda x, exponent: (x**exponent, x), lambda exponent, x, dy: (exponent * x ** (exponent - 1) * dy,))
    assert check(power, drawn(3)).verdict == "PASS"
    assert check(power, drawn(3), 2).verdict == "PASS"


def test_what_is_no_function_or_no_dtype_of_numpy_is_named() -> None:
    with pytest.raises(TypeError, match="3 is not a function of arrays"):
        check(3, drawn(3))
    with pytest.raises(TypeError, match="NumPy has no bfloat16: check the layer in float32 or float64"):
        check(jnp.tanh, jnp.ones(2, jnp.bfloat16))


def test_integers_none_and_keys_are_handed_through() -> None:
    def noisy(x: Any, labels: Any, nothing: Any, key: Any) -> Any:
        assert nothing is None
        return x[labels] * jax.random.randint(key, (), 1, 9)

    certificate = check(noisy, drawn(4, 3), np.array([0, 2, 2]), None, jax.random.key(0))
    assert (certificate.verdict, [result.name for result in certificate.arguments]) == ("PASS", ["x"])


def test_of_several_results_all_floating_ones_are_checked() -> None:
    wrong = product(lambda dy, x, w: (dy @ w.T, 2 * x.T @ dy))
    certificate = check(lambda x, w: {"a": x.sum(), "b": wrong(x, w), "c": x.argmax()}, drawn(5, 4), drawn(4, 2))
    assert [result.verdict for result in certificate.arguments] == ["PASS", "FAIL"]
    with pytest.raises(TypeError, match="must return a floating array, or several, got int64"):
        check(lambda x: x.argmax(), drawn(3))


def test_inputs_of_which_none_is_an_array_are_named_by_what_they_are() -> None:
    with pytest.raises(ValueError, match=r"none of the inputs \(x str\) is an array"):
        check(lambda x: 2 * x, "text")


def test_of_a_complex_result_both_parts_are_checked() -> None:
    assert check(jax.jit(jnp.fft.rfft), drawn(3, 8)).verdict == "PASS"
    forgetful = jax.jit(lambda x: jnp.fft.rfft(x).real + 1j * jax.lax.stop_gradient(jnp.fft.rfft(x).imag))
    assert check(forgetful, drawn(3, 8)).verdict == "FAIL"


@pytest.mark.parametrize(
    ("backward", "code"),
    [
        (lambda dy, x, w: (dy @ w.T,), "gradient-count"),
        (lambda dy, x, w: (dy @ w.T, dy), "wrong-shape"),
        (lambda dy, x, w: (dy @ w.T, (x.T @ dy).astype(jnp.float32)), "wrong-dtype"),
        (lambda dy, x, w: (dy @ w.T, None), "zero"),  # JAX takes None for zero
    ],
)
def test_what_a_backward_may_not_return_is_a_fault(backward: Any, code: str) -> None:
    certificate = check(product(backward), drawn(5, 4), drawn(4, 3))
    assert certificate.verdict == "FAIL"
    assert [cause.code for cause in certificate.causes] == [code]


def test_two_forwards_and_two_backwards_do_not_disturb_each_other() -> None:
    pair = adapter.pair(lambda x: x * x)
    # jax.device_put shares the memory of an array that is aligned so.
    memory = np.zeros(16)
    start = -memory.ctypes.data % 64 // 8
    x = memory[start : start + 3]
    x[:] = drawn(3)
    y, cache = pair.forward(x)
    x[:] = 7  # a caller's own business
    pair.forward(x)
    (first,), (second,) = (pair.backward(np.ones_like(y), cache) for _ in range(2))
    np.testing.assert_array_equal(first, 2 * drawn(3))
    np.testing.assert_array_equal(first, second)


def test_adapt_knows_what_is_of_jax() -> None:
    for target in (scaled, drawn_in_jax, jax.jit(drawn_in_jax), jnp.sin):
        assert type(adapt(target).forward).__name__ == "Forward"
    assert [each.name for each in adapt(scaled).inputs] == ["x", "factor", "w"]


def drawn_in_jax(x: Any) -> Any:
    """A function of a module that imports JAX."""
    return x * 2


@pytest.mark.parametrize("inputs", [np.ones(3), 2.0])
def test_inputs_that_cannot_be_are_refused(inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"inputs must be a tuple, as in \(x,\), got"):
        adapter.gradcheck(jnp.sin, inputs)
    with pytest.raises(TypeError, match="is not a function of arrays"):
        adapter.pair(inputs)
