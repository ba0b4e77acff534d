# mypy: allow-untyped-decorators
"""verify.adapters.jax: calls are compiled where that changes nothing; results are checked together and each alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify.checker.certificate import Certificate

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


def cube(factor: int) -> Any:
    """x^3, whose gradient is right for a factor of 3."""

    @jax.custom_vjp
    def made(x: Any) -> Any:
        return x**3

    made.defvjp(lambda x: (x**3, x), lambda x, dy: (factor * x**2 * dy,))
    return made


def two(backward: Any) -> Any:
    """sin(x) and x^2, with a backward that sees which upstream gradients are undefined."""

    @jax.custom_vjp
    def made(x: Any) -> Any:
        return jnp.sin(x), x * x

    def undefined(gradient: Any) -> Any:
        return None if isinstance(gradient, jax.custom_derivatives.SymbolicZero) else gradient

    def forward(x: Any) -> Any:
        return (jnp.sin(x.value), x.value**2), x.value

    made.defvjp(forward, lambda x, dy: (backward(x, *map(undefined, dy)),), symbolic_zeros=True)
    return made


def right_of_two(x: Any, ds: Any, dq: Any) -> Any:
    """Right for any upstream gradient."""
    return (0 if ds is None else ds * jnp.cos(x)) + (0 if dq is None else 2 * x * dq)


# Forms that jit compiles, and forms that it cannot trace; each is x^3 of the function under test, in effect.
FORMS = {
    "plain": lambda f: f,
    "scan": lambda f: lambda x: jax.lax.scan(lambda carry, row: (carry, f(row)), 0.0, x)[1],
    "if on values": lambda f: lambda x: f(x) if x.sum() < 1e9 else x,
    "NumPy inside": lambda f: lambda x: f(x) * np.sign(np.asarray(jax.lax.stop_gradient(x)).max() ** 2 + 1),
    "loop while": lambda f: lambda x: f(x) if [k for k in range(3) if x[0, 0] == x[0, 0]] else x,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_jit_traces_and_what_it_cannot_is_checked_alike(form: Any) -> None:
    assert check(form(cube(3)), drawn(2, 3)).verdict == "PASS"
    assert check(form(cube(2)), drawn(2, 3)).verdict == "FAIL"


def test_python_runs_a_function_a_few_times_only() -> None:
    calls = []

    def counted(x: Any) -> Any:
        calls.append(x.dtype)
        return cube(2)(x)

    certificate = check(counted, drawn(2, 3))
    assert certificate.verdict == "FAIL"
    # Two calls that must agree, and a trace for each dtype and each of the shapes that a diagnosis makes.
    assert len(calls) < certificate.forward_calls / 4


def test_masks_and_labels_are_known_to_a_compiled_function() -> None:
    mask = drawn(2, 3) > 0
    for function, array in ((lambda x, m: 2 * x[m], mask), (lambda x, k: x[:, : int(k)] * 2, np.array(2))):
        assert check(function, drawn(2, 3), array).verdict == "PASS"


@pytest.mark.parametrize(
    "draw", [lambda g: g.normal(), lambda g: float(g.integers(0, 100)), lambda g: g.normal(size=(2, 3))]
)
def test_a_random_function_is_not_compiled_and_is_inconclusive(draw: Any) -> None:
    generator = np.random.default_rng(0)
    assert check(lambda x: x * draw(generator), drawn(2, 3)).verdict == "INCONCLUSIVE"
    fixed = draw(np.random.default_rng(0))
    assert check(lambda x: x * fixed, drawn(2, 3)).verdict == "PASS"


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda f: lambda x: (f(x), x.argmax()), "result 1 (no gradient: int64)"),
        (lambda f: lambda x: {"loss": f(x), "hits": x > 0}, 'result["hits"] (no gradient: bool)'),
        (lambda f: lambda x: (3.5, [f(x)]), "result 0 (no gradient: float)"),
    ],
)
def test_a_result_without_gradient_is_left_out_and_said(layer: Any, said: str) -> None:
    right = check(layer(cube(3)), drawn(4))
    assert (right.verdict, [str(each) for each in right.uncovered]) == ("PASS", [said])
    assert check(layer(cube(2)), drawn(4)).verdict == "FAIL"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, ds, dq: right_of_two(x, ds, dq) if dq is not None else 0 * x,
        lambda x, ds, dq: right_of_two(x, ds, dq) * (1 if dq is not None else 2),
        lambda x, ds, dq: right_of_two(x, ds, dq) if dq is not None else ds[0],
    ],
    ids=["zero", "twice", "shape"],
)
def test_a_backward_that_is_wrong_with_one_result_alone_fails(wrong: Any) -> None:
    assert check(two(right_of_two), drawn(4)).verdict == "PASS"
    certificate = check(two(wrong), drawn(4))
    assert certificate.verdict == "FAIL"
    assert "with result 0 alone" in certificate.arguments[0].note
    assert check(lambda x: two(wrong)(x)[1], drawn(4)).verdict == "PASS"


@pytest.mark.parametrize(
    ("wrt", "names"), [(["p"], ["p.b", "p.w"]), ([0], ["p.b", "p.w"]), (["p.w", "x"], ["p.w", "x"])]
)
def test_wrt_takes_a_leaf_or_all_of_an_argument(wrt: Any, names: list[str]) -> None:
    params = {"w": drawn(3), "b": 2 * drawn(3)}
    certificate = check(lambda p, x: p["w"] * x + p["b"], params, drawn(3), wrt=wrt)
    assert (certificate.verdict, [result.name for result in certificate.arguments]) == ("PASS", names)


def test_arrays_that_jax_may_not_look_into_are_listed() -> None:
    certificate = check(lambda x, w: x @ w, drawn(2, 3), drawn(3, 2), nondiff_argnums=(1,))
    assert [str(each) for each in certificate.uncovered] == ["w (fixed: one of nondiff_argnums)"]
    assert certificate.verdict == "PASS"
