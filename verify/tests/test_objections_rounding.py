"""Objections of rounding: right gradients that round are no failure, wrong ones are not excused.

What a PASS says it would have caught is true.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnn_core import softmax_cross_entropy
from helpers import SEEDS, certificate_of, drawn, normalised, normalised_back, refuse_complex, relu, relu_back
from objection_rows import (
    Layer,
    Row,
    Table,
    all_rows,
    check_excuses_no_error,
    check_necessary,
    rows_with_a_right_layer,
    times,
)
from verify import Certificate, Inconclusive, StructureError, gradcheck
from verify.checker.objections import rounding
from verify.checker.point import Worst


def test_a_backward_that_rounds_is_not_taken_for_wrong() -> None:
    # dy / 49 * 49 differs from dy in the last bit. The forward computes with integers.
    def backward(dy: np.ndarray, _: Any) -> Any:
        return ((dy / 49) * 49,)

    dy = np.arange(1.0, 5000.0)
    assert ((dy / 49) * 49 != dy).any()
    with pytest.raises(StructureError, match="the backward rounds: dx"):
        gradcheck(lambda x: (x.copy(), None), backward, (np.zeros(64),), structure="multilinear", seed=0)


def test_a_saturated_softmax_is_inconclusive() -> None:
    x, labels = np.array([[60.0, 0.0, 0.0]]), np.array([0])
    with pytest.raises(Inconclusive, match="rounding hides this gradient"):
        gradcheck(
            *softmax_cross_entropy.vectorized[1:], (x, labels), {"reduction": "sum"}, structure="analytic", seed=0
        )


def test_noise_or_half_precision_behind_real_parts_is_not_taken_for_a_wrong_gradient() -> None:
    # The complex step is 0 there. Differences do not contradict it: noise or rounding hides the slope.
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
            assert certificate_of(forward, backward, (x,), seed=seed).verdict == "INCONCLUSIVE"


def normalised_by_c(x: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    refuse_complex(x, b)
    return normalised(x, b)


@SEEDS
@pytest.mark.parametrize("forward", [normalised, normalised_by_c])
def test_a_bias_that_a_normalisation_takes_away_has_a_gradient_of_0(forward: Any, seed: int) -> None:
    x, b = drawn(seed, 8, 3), drawn(seed + 1, 3)
    certificate = certificate_of(forward, normalised_back, (x, b), seed=seed)
    assert certificate.verdict == "PASS", certificate
    assert certificate.detection_floor is not None
    assert certificate.detection_floor < 1e-6  # the floor of dx: the note on b has its own
    assert certificate.arguments[1].note == "" or "0 to within" in certificate.arguments[1].note
    for wrong in (lambda dx: dx + 1e-3, lambda dx: np.full(3, 1e-6)):

        def back(dy: np.ndarray, cache: Any, wrong: Any = wrong) -> Any:
            return normalised_back(dy, cache)[0], wrong(dy.sum(0))

        off = certificate_of(forward, back, (x, b), seed=seed)
        assert [result.verdict for result in off.arguments] == ["PASS", "FAIL"], off


@SEEDS
@pytest.mark.parametrize("structure", ["analytic", "smooth", "auto"])
def test_a_gradient_that_is_small_at_these_arrays_alone_is_not_taken_for_0(structure: str, seed: int) -> None:
    x = 18 + 0.1 * np.abs(drawn(seed, 4))  # 1 - tanh(x)^2 is an ulp of 1 or two

    def tanh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.tanh(x)
        return y, y

    certificate = certificate_of(tanh, lambda dy, y: (dy * (1 - y * y),), (x,), seed=seed, structure=structure)
    assert certificate.verdict == "INCONCLUSIVE", certificate
    assert certificate.structure == ("smooth" if structure == "smooth" else "analytic")


@SEEDS
def test_differences_decide_where_the_complex_step_rounds_too_much(seed: int) -> None:
    x = 1e6 * (np.random.default_rng(seed).random((4, 5)) + 0.5)

    def logarithm(factor: float) -> Certificate:
        return certificate_of(lambda x: (np.log(x), x), lambda dy, x: (factor * dy / x,), (x,), seed=seed)

    right = logarithm(1)
    assert right.verdict == "PASS"
    assert right.structure == "smooth"
    assert right.detection_floor is not None
    assert right.detection_floor < 1e-6
    assert "analytic, but rounding would hide an error of" in right.explain()
    assert "rounding would hide" not in str(right)
    assert [logarithm(factor).verdict for factor in (1.0001, 1.01, 1.02, 1.1)] == ["FAIL"] * 4


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return softmax(q k' / 2) v. With large q and k each row takes one row of v."""
    refuse_complex(q, k, v)
    scores = q @ k.T / 2
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p @ v, (q, k, v, p)


def attention_back(dy: np.ndarray, cache: Any, wrong: float = 0.0) -> tuple[np.ndarray, ...]:
    q, k, v, p = cache
    # These terms should cancel, but each is rounded first.
    scores = p * (dy @ v.T - (dy * (p @ v)).sum(1, keepdims=True)) / 2 + wrong
    return scores @ k, scores.T @ q, p.T @ dy


@SEEDS
def test_the_rounding_of_backward_itself_is_no_failure(seed: int) -> None:
    arrays = [1000 * drawn(seed + i, 5, 4) for i in range(3)]
    certificate = certificate_of(attention, attention_back, arrays, seed=seed)
    assert certificate.verdict != "FAIL", certificate
    wrong = certificate_of(attention, lambda dy, cache: attention_back(dy, cache, 1e-9), arrays, seed=seed)
    assert wrong.verdict == "FAIL", wrong


def solved(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    y = np.linalg.solve(a, b)
    return y, (a, y)


def solved_back(dy: np.ndarray, cache: Any, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    a, y = cache
    db = factor * np.linalg.solve(a.T, dy)
    return -np.outer(db, y), db


def ill_conditioned(seed: int, condition: float, size: int = 5) -> np.ndarray:
    left, right = (np.linalg.qr(drawn(seed + i, size, size))[0] for i in (1, 2))
    return np.asarray(left * np.geomspace(1, 1 / condition, size) @ right)


@SEEDS
@pytest.mark.parametrize(
    ("condition", "wrt", "structure"),
    [(1e7, (1,), "auto"), (1e9, (1,), "auto"), (1e9, None, "auto"), (1e11, None, "auto"), (1e9, (1,), "smooth")],
)
def test_an_ulp_of_an_ill_conditioned_matrix_is_no_failure(
    condition: float, wrt: Any, structure: str, seed: int
) -> None:
    def verdict(factor: float) -> str:
        arrays = ill_conditioned(seed, condition), drawn(seed, 5)
        back = partial(solved_back, factor=factor)
        found = certificate_of(solved, back, arrays, structure=structure, wrt=wrt, seed=seed)
        return found.verdict

    assert verdict(1) != "FAIL"
    assert verdict(1.01) == "FAIL"


@SEEDS
@pytest.mark.parametrize("factor", [0, 1, 2, -1])
def test_pure_rounding_in_float32_is_not_taken_for_a_constant(factor: int, seed: int) -> None:
    arrays = np.vander(np.linspace(0.1, 1, 8)).astype(np.float32), drawn(seed, 8).astype(np.float32)
    back = partial(solved_back, factor=factor)
    assert certificate_of(solved, back, arrays, wrt=(0,), seed=seed).verdict != "PASS"


@SEEDS
def test_a_backward_wrong_at_the_given_arrays_alone_fails(seed: int) -> None:
    given = drawn(seed, 4, 5)

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * np.cos(x) * (1.1 if np.array_equal(x, given) else 1),)

    assert certificate_of(lambda x: (np.sin(x), x), backward, (given,), seed=seed, structure="smooth").verdict == "FAIL"


@SEEDS
def test_a_fixed_array_at_the_end_of_its_domain_excuses_no_error(seed: int) -> None:
    def forward(x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        refuse_complex(x)
        if p > 0.7:
            raise ValueError("p must be 0.7 at most")
        return p * np.sin(x), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 0.71 * dy * np.cos(x), np.asarray((dy * np.sin(x)).sum())

    found = certificate_of(forward, backward, (drawn(seed, 5), np.array(0.7)), wrt=(0,), seed=seed)
    assert (found.verdict, found.arguments[0].note) == ("FAIL", "")


def kernel(size: int) -> np.ndarray:
    """Return the covariance matrix of a Gaussian process at times in [0, 1]."""
    times = np.linspace(0, 1, size)
    return np.asarray(np.exp(-((times[:, None] - times) ** 2) / 0.08) + 1e-6 * np.eye(size))


@SEEDS
def test_the_rounding_of_a_closed_over_matrix_is_tolerated_and_no_error_above_it(seed: int) -> None:
    matrix = kernel(40)

    def certificate(off: float) -> Certificate:
        def backward(dy: np.ndarray, _: Any) -> tuple[np.ndarray]:
            dx = np.linalg.solve(matrix, dy)
            dx[np.argmax(np.abs(dx))] *= 1 + off
            return (dx,)

        return certificate_of(lambda x: (np.linalg.solve(matrix, x), None), backward, (drawn(seed, 40),), seed=seed)

    right = certificate(0)
    assert right.verdict == "PASS", right
    assert right.detection_floor is not None
    assert right.detection_floor < 1e-5
    assert certificate(right.detection_floor).verdict == "FAIL"


def _centred_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    """Return dx of a relu. Each entry is rounded at the size of the sum of dy."""
    third = dy.sum() / 3
    return (((dy - third) + third) * (x > 0),)


def _by_49(dy: np.ndarray, _: Any) -> tuple[np.ndarray]:
    return ((dy / 49) * 49,)


def _sine_back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
    return (dy * np.cos(x),)


_SOLVE = ill_conditioned(0, 1e9), drawn(0, 5)
_LARGE = [1000 * drawn(1 + i, 5, 4) for i in range(3)]
ROWS: Table = {
    # 1e3 / cosh(30)^2 is 10^-23, and tanh(30) is 1 exactly.
    ("rounding.lost_in_y", "piecewise-linear"): Row(
        right=Layer(
            lambda x: (np.tanh(1e3 * x), x),
            lambda dy, x: (1e3 * dy / np.cosh(np.clip(1e3 * x, -300, 300)) ** 2,),
            (np.array([0.03125, -1.3, 0.6]),),
        ),
        wrong=Layer(relu, times(1 + 1e-12, relu_back(1)), (drawn(0, 10),)),
    ),
    ("rounding.backward_rounds", "multilinear"): Row(
        right=Layer(lambda x: (x.copy(), None), _by_49, (np.zeros(64),)),
        wrong=Layer(lambda x: (x.copy(), None), times(1 + 1e-12, _by_49), (np.zeros(64),)),
    ),
    ("rounding.ulps_along", "analytic"): Row(
        right=Layer(solved, solved_back, _SOLVE),
        wrong=Layer(solved, partial(solved_back, factor=1.01), _SOLVE),
        seeds=range(3),
        wrt=(1,),
    ),
    ("rounding.ulps_at_entry", "smooth"): Row(
        right=Layer(solved, solved_back, _SOLVE),
        wrong=Layer(solved, partial(solved_back, factor=1.01), _SOLVE),
        seeds=range(3),
        wrt=(1,),
    ),
    ("rounding.products_round", "smooth"): Row(
        right=Layer(attention, attention_back, _LARGE),
        wrong=Layer(attention, partial(attention_back, wrong=1e-9), _LARGE),
        seeds=(1,),
    ),
}


@pytest.mark.parametrize(("name", "structure", "row"), rows_with_a_right_layer(ROWS))
def test_a_right_gradient_fails_without_the_objection(name: str, structure: str, row: Row) -> None:
    check_necessary(name, structure, row)


@pytest.mark.parametrize(("name", "structure", "row"), all_rows(ROWS))
def test_the_objection_does_not_excuse_a_wrong_gradient(name: str, structure: str, row: Row) -> None:
    check_excuses_no_error(name, structure, row)


def _bias_of_one(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[Any, Any]:
    """Return the layer normalisation of single entries: x - mean(x) is 0, so it is b."""
    return np.broadcast_to(b, x.shape).astype(x.dtype), (x, w)


def _of_mean(dy: np.ndarray, cache: Any, left: float = 0.0) -> Any:
    """The mean of dy w is summed in parts, so that rounding is left of dx."""
    w = cache[1]
    g = 316.2 * dy * w
    dx = g - (0.1 * g + 0.2 * g + 0.7 * g)
    return dx + left * g, np.zeros_like(w), dy.sum(axis=0)


def _of_fused(dy: np.ndarray, cache: Any, left: float = 0.0) -> Any:
    """The normalised x is not 0: dw is linear in dy, and what rounding leaves of x."""
    x = cache[0]
    normalised = 316.2 * x - (31.62 * x + 63.24 * x + 221.34 * x) + left * x
    return np.zeros_like(x), (dy * normalised).sum(axis=0), dy.sum(axis=0)


def _of_both(dy: np.ndarray, cache: Any, left: float = 0.0) -> Any:
    return _of_mean(dy, cache, left)[0], *_of_fused(dy, cache)[1:]


@pytest.mark.parametrize("backward", [_of_mean, _of_fused, _of_both])
@pytest.mark.parametrize("rows", [1, 4])
def test_what_rounding_leaves_of_a_gradient_of_0_is_no_error(backward: Any, rows: int) -> None:
    arrays = drawn(0, rows, 1), drawn(1, 1), drawn(2, 1)
    for seed in range(5):
        assert certificate_of(_bias_of_one, backward, arrays, seed=seed).verdict == "PASS"
        for left in (1.0, 1e-3, 1e-7):
            wrong = certificate_of(_bias_of_one, partial(backward, left=left), arrays, seed=seed)
            assert wrong.verdict == "FAIL", left


_WHOLE: dict[str, Layer] = {
    "relu": Layer(relu, _centred_back, (np.append(drawn(0, 11), 0.0),)),
    "twice": Layer(lambda x: (2 * x, 0 * x + 1), times(2, _centred_back), (drawn(1, 20),)),
    "many": Layer(lambda x: (2 * x, 0 * x + 1), times(2, _centred_back), (drawn(2, 40, 30),)),
    "float32": Layer(relu, _centred_back, (drawn(3, 20).astype(np.float32),)),
}


@pytest.mark.parametrize("name", _WHOLE)
def test_a_backward_that_rounds_at_the_size_of_the_sum_of_dy_is_not_wrong(name: str) -> None:
    for seed in range(12):
        assert certificate_of(*_WHOLE[name], seed=seed).verdict != "FAIL"


@pytest.mark.parametrize("name", _WHOLE)
def test_what_rounding_does_not_explain_is_wrong(name: str) -> None:
    forward, back, arrays = _WHOLE[name]
    factor = 1 + 1e-9 if arrays[0].dtype == np.float64 else 1 + 1e-4
    for seed in range(6):
        assert certificate_of(forward, times(factor, back), arrays, seed=seed).verdict == "FAIL"


def test_the_sentence_has_the_error_and_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "_products_round_by", lambda case: 0.5)
    case: Any = SimpleNamespace(worst=Worst(0, (0,), 3.0, 1.0, 0.0))
    said = rounding.products_round(case)
    assert said is not None
    assert said.startswith("off by 2, and backward rounds by 0.5, as large terms cancel")
