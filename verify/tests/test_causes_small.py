"""A small constant apart, several gradients in one sentence, and what a FAIL costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_core import conv2d, flatten, max_pool2d
from helpers import certificate_of
from verify.checker.certificate import Certificate
from verify.command.run import verify_layer
from verify.layers import LAYERS
from verify.museum import EXHIBITS
from verify.profiles import EXAMPLES

RNG = np.random.default_rng
X, W, B = RNG(0).normal(size=(5, 4)), RNG(1).normal(size=(4, 3)), RNG(2).normal(size=3)


def codes(found: Certificate) -> list[str]:
    assert found.verdict == "FAIL", found
    return [cause.code for cause in found.causes]


def log_of_softmax(x: Any) -> Any:
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return -np.log(p[:, 0] + 1e-6), p


def of_log_of_softmax(dy: Any, p: Any) -> Any:
    g = p.copy()
    g[:, 0] -= 1
    return (dy[:, None] * g,)


def norm(x: Any) -> Any:
    centred = x - x.mean(axis=0)
    return centred / np.sqrt((centred * centred).mean(axis=0) + 1e-5), centred


def of_norm(dy: Any, centred: Any) -> Any:
    inverse = 1 / np.sqrt((centred * centred).mean(axis=0))
    xhat = centred * inverse
    return (inverse * (dy - dy.mean(axis=0) - xhat * (dy * xhat).mean(axis=0)),)


def real_length(x: Any) -> Any:
    if np.iscomplexobj(x):
        raise TypeError("real numbers only")
    return np.sqrt((x * x).sum(axis=1) + 1e-4), x


EPSILONS: dict[str, Any] = {
    "log(p + 1e-6)": (log_of_softmax, of_log_of_softmax),
    "sqrt(var + 1e-5)": (norm, of_norm),
    "sqrt(x x + 1e-4), by differences": (
        real_length,
        lambda dy, x: ((dy / np.sqrt((x * x).sum(axis=1)))[:, None] * x,),
    ),
}


@pytest.mark.parametrize("name", EPSILONS)
def test_an_epsilon_left_out_is_a_small_constant_apart(name: str) -> None:
    for seed in range(3):
        forward, backward = EPSILONS[name]
        found = certificate_of(forward, backward, (X,), seed=seed)
        assert codes(found) == ["small-constant"], found
        assert "an epsilon of the forward that backward leaves out" in found.causes[0].explanation


def in_float32(dy: Any, x: Any) -> Any:
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    return ((dy * np.exp(np.sin(x)) * np.cos(x)).astype(float),)


@pytest.mark.parametrize(
    ("backward", "code"),
    [
        (in_float32, "rounded-to-float32"),
        (lambda dy, x: (dy * np.exp(np.sin(x)) * np.cos(x) * (1 + 1e-5),), "constant-factor"),
        (lambda dy, x: (dy * np.exp(np.sin(x)) * np.cos(x) + 1e-5,), "not-linear"),
        (lambda dy, x: (dy * np.exp(np.sin(x)) * (np.cos(x) + 0.3 * x**3),), "unknown"),
    ],
    ids=["float32 within", "factor", "without dy", "large"],
)
def test_neighbours_are_no_small_constant(backward: Any, code: str) -> None:
    found = certificate_of(lambda x: (np.exp(np.sin(x)), x), backward, (X,), seed=0)
    assert codes(found)[0] == code, found


def layer(f: Any) -> Any:
    return lambda x, w, b: (f(x @ w + b), (x, w, b))


def gradients(df: Any, change: Callable[[Any], Any] = lambda g: g) -> Any:
    def backward(dy: Any, cache: Any) -> Any:
        x, w, b = cache
        d = dy * df(x @ w + b)
        return tuple(change(g) for g in (d @ w.T, x.T @ d, d.sum(axis=0)))

    return backward


@pytest.mark.parametrize(
    ("f", "df"), [(lambda z: z, np.ones_like), (np.exp, np.exp), (lambda z: np.maximum(z.real, 0), lambda z: z > 0)]
)
def test_one_sentence_for_three_gradients(f: Any, df: Any) -> None:
    for change, code, words in (
        (np.negative, "sign", "each of dx, dw and db has the opposite sign"),
        (lambda g: 3 * g, "constant-factor", "each of dx, dw and db is 3 times"),
        (np.zeros_like, "zero", "each of dx, dw and db is zero everywhere"),
    ):
        found = certificate_of(layer(f), gradients(df, change), (X, W, B), seed=0)
        assert code in codes(found), found
        cause = next(each for each in found.causes if each.code == code)
        assert cause.argument is None
        assert cause.explanation.startswith(words), cause


def test_two_causes_of_two_gradients_are_two_sentences() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        dx, dw, db = gradients(np.exp)(dy, cache)
        return -dx, 2 * dw, db

    found = certificate_of(layer(np.exp), backward, (X, W, B), seed=0)
    assert [(cause.code, cause.argument) for cause in found.causes] == [("sign", "x"), ("constant-factor", "w")]


@pytest.mark.long
@pytest.mark.parametrize("slug", ["flatten-noT", "maxpool-assign"])
def test_an_exhibit_keeps_its_cause_when_the_case_shrinks(slug: str) -> None:
    exhibit, code = EXHIBITS[slug], {"flatten-noT": "features-batch-swapped", "maxpool-assign": "overlap-assigned"}
    implementation = exhibit.mutate(flatten.vectorized if exhibit.layer == "flatten" else max_pool2d.im2col)
    row = verify_layer(LAYERS[exhibit.layer], implementation, EXAMPLES["ci"], 0)
    assert row.certificate is not None
    assert row.certificate.causes[0].code == code[slug]


def test_a_failure_that_no_case_names_is_reported_all_the_same() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        (dx,) = flatten.vectorized.backward(dy, cache)
        wrong = np.array(dx)
        wrong.reshape(-1)[:1] += dy.reshape(-1)[:1]
        return (wrong,)

    row = verify_layer(LAYERS["flatten"], flatten.vectorized._replace(backward=backward), 20, 0)
    assert row.verdict == "FAIL"
    assert row.certificate is not None
    assert [cause.code for cause in row.certificate.causes] == ["unknown"]


def striped(gradient: Any) -> Any:
    """An error without a name: every third entry twice."""
    return gradient * (1 + (np.arange(gradient.size) % 3 == 0)).reshape(gradient.shape)


def real_sine(x: Any) -> Any:
    if np.iscomplexobj(x):
        raise TypeError("real numbers only")
    return np.sin(x), x


def real_exp(z: Any) -> Any:
    if np.iscomplexobj(z):
        raise TypeError("real numbers only")
    return np.exp(z)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    return y, y


# Layer, right gradients, arrays. The last is how many forwards a FAIL without a name may have beside ten times a PASS.
# The objections ask for these before the judge says FAIL: 56 for an argument that is multilinear, 180 for one that is
# analytic.
COSTS: dict[str, tuple[Any, Any, tuple[Any, ...], int]] = {
    "convolution": (
        lambda x, w, b: conv2d.im2col.forward(x, w, b, padding=1),
        conv2d.im2col.backward,
        (RNG(0).normal(size=(2, 5, 10, 10)), RNG(1).normal(size=(4, 5, 3, 3)), RNG(2).normal(size=4)),
        320,
    ),
    "softmax": (
        softmax,
        lambda dy, y: (y * (dy - (dy * y).sum(axis=1, keepdims=True)),),
        (RNG(0).normal(size=(10, 100)),),
        110,
    ),
    "relu": (
        lambda x: (np.where(x.real > 0, x, 0), x),
        lambda dy, x: (dy * (x > 0),),
        (np.round(3 * RNG(0).normal(size=(10, 100))),),
        0,
    ),
    "three by differences": (layer(real_exp), gradients(np.exp), (X, W, B), 0),
    "differences": (real_sine, lambda dy, x: (dy * np.cos(x),), (RNG(0).normal(size=(10, 100)),), 0),
}


@pytest.mark.parametrize("name", COSTS)
def test_a_fail_costs_at_most_ten_times_a_pass(name: str) -> None:
    forward, right, arrays, more = COSTS[name]
    passed = certificate_of(forward, right, arrays, seed=0)
    failed = certificate_of(forward, lambda dy, c: tuple(striped(g) for g in right(dy, c)), arrays, seed=0)
    assert passed.verdict == "PASS"
    assert codes(failed) == ["unknown"]  # every family has been asked
    assert failed.forward_calls <= 10 * passed.forward_calls + more
