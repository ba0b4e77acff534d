"""The optimisers, against values computed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnn_core._arguments import Array
from cnn_core.optim import SGD, Adam, AdamState, Optimizer, SGDState

OPTIMIZERS = [
    pytest.param(SGD(0.5), id="sgd"),
    pytest.param(SGD(0.5, momentum=0.5), id="sgd-momentum"),
    pytest.param(Adam(0.5), id="adam"),
]


def _trajectory(optimizer: Optimizer, start: float, gradients: list[float]) -> list[float]:
    """The single parameter after each step."""
    parameters: tuple[Array, ...] = (np.array([start]),)
    state = optimizer.init(parameters)
    values = []
    for gradient in gradients:
        parameters, state = optimizer.step(parameters, (np.array([gradient]),), state)
        values.append(float(parameters[0][0]))
    return values


def _arrays(dtype: type[np.floating[Any]], seed: int) -> tuple[Array, ...]:
    generator = np.random.default_rng(seed)
    return tuple(generator.standard_normal(shape).astype(dtype) for shape in [(3, 2), (4,), ()])


def _memory(state: Any) -> Iterator[Array]:
    """Every array of a state."""
    for field in state:
        yield from field if isinstance(field, tuple) else ()


def test_sgd_steps_against_the_gradient_and_forgets_it() -> None:
    # Halves and quarters throughout: exact.
    assert _trajectory(SGD(0.5), 1.0, [0.5, -1.0, 0.0]) == [0.75, 1.25, 1.25]


def test_sgd_without_momentum_keeps_nothing() -> None:
    w = np.ones(3)
    assert SGD(0.5).init((w,)) == SGDState(())
    assert SGD(0.5).step((w,), (w,), SGDState(()))[1] == SGDState(())


def test_momentum_carries_over_and_is_not_dampened() -> None:
    # v = 1, then 0.5 * 1 + 2 = 2.5, then 0.5 * 2.5 + 0 = 1.25; w = 0 - 0.5 v, each time.
    assert _trajectory(SGD(0.5, momentum=0.5), 0.0, [1.0, 2.0, 0.0]) == [-0.5, -1.75, -2.375]


def test_adam_corrects_both_moments_for_their_start_at_zero() -> None:
    # With gradients 2, -2, 2 the corrected second moment is 4 at every step, and its root plus epsilon 4.
    # m = 1, -1/2, 3/4, corrected by 1 - 2^-t: 2, -2/3, 6/7. So w = 1 - 1/4, + 1/12, - 3/28.
    by_hand = [3 / 4, 5 / 6, 61 / 84]
    found = _trajectory(Adam(0.5, beta1=0.5, beta2=0.75, epsilon=2.0), 1.0, [2.0, -2.0, 2.0])
    # Fewer than 20 roundings lie on the longest path to w, of values at most 4 in magnitude.
    assert found == pytest.approx(by_hand, rel=0, abs=20 * 4 * 2.0**-53)


def test_adam_at_its_defaults_moves_by_the_rate_at_first() -> None:
    # The corrected moments are g and g^2, so the first step is r / (1 + epsilon / |g|), against g's sign.
    # Ten roundings lie on its path, two of them doubled by 1 - beta, which is exact, and the square root.
    expected = [-1e-3 / (1 + 1e-8 / 3), 1e-3 / (1 + 1e-8 / 1e-4)]
    found = [_trajectory(Adam(), 0.0, [gradient])[0] for gradient in (3.0, -1e-4)]
    assert found == pytest.approx(expected, rel=10 * 2.0**-52, abs=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_shape_of_no_parameter_change(optimizer: Optimizer, dtype: type[np.floating[Any]]) -> None:
    parameters = _arrays(dtype, 1)
    state = optimizer.init(parameters)
    for seed in (2, 3):
        parameters, state = optimizer.step(parameters, _arrays(dtype, seed), state)
    for array in (*parameters, *_memory(state)):
        assert isinstance(array, np.ndarray)
        assert array.dtype == dtype
    assert [array.shape for array in parameters] == [(3, 2), (4,), ()]


@pytest.mark.parametrize("optimizer", [SGD(np.float64(0.5)), SGD(0.5, np.float64(0.5)), Adam(*np.full(4, 0.5))])
def test_hyperparameters_of_another_precision_do_not_promote(optimizer: Optimizer) -> None:
    parameters = _arrays(np.float32, 4)
    updated, _ = optimizer.step(parameters, _arrays(np.float32, 5), optimizer.init(parameters))
    assert all(array.dtype == np.float32 for array in updated)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_is_written_to_and_nothing_is_shared(optimizer: Optimizer) -> None:
    parameters, gradients = _arrays(np.float64, 6), _arrays(np.float64, 7)
    state = optimizer.init(parameters)
    for _ in range(2):
        arguments = [*parameters, *gradients, *_memory(state)]
        before = [array.tobytes() for array in arguments]
        updated, new_state = optimizer.step(parameters, gradients, state)
        assert [array.tobytes() for array in arguments] == before
        for result in (*updated, *_memory(new_state)):
            assert not any(np.may_share_memory(result, array) for array in arguments)
        again, _ = optimizer.step(parameters, gradients, state)
        assert all(np.array_equal(a, b) for a, b in zip(updated, again, strict=True))
        parameters, state = updated, new_state


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_parameters_are_not_mixed_up(optimizer: Optimizer) -> None:
    parameters, gradients = _arrays(np.float64, 8), _arrays(np.float64, 9)
    together, _ = optimizer.step(parameters, gradients, optimizer.init(parameters))
    for w, g, updated in zip(parameters, gradients, together, strict=True):
        (alone,), _ = optimizer.step((w,), (g,), optimizer.init((w,)))
        assert np.array_equal(alone, updated)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(-0.1), ValueError, r"learning_rate must lie in \[0, inf\), got -0.1"),
        (lambda: SGD(math.inf), ValueError, r"learning_rate must lie in \[0, inf\), got inf"),
        (lambda: SGD(0.1, momentum=1), ValueError, r"momentum must lie in \[0, 1\), got 1"),
        (lambda: SGD("0.1"), TypeError, "learning_rate must be a number, got '0.1'"),  # type: ignore[arg-type]
        (lambda: SGD(True), TypeError, "learning_rate must be a number, got True"),
        (lambda: Adam(math.nan), ValueError, r"learning_rate must lie in \[0, inf\), got nan"),
        (lambda: Adam(beta1=1.0), ValueError, r"beta1 must lie in \[0, 1\), got 1.0"),
        (lambda: Adam(beta2=-0.5), ValueError, r"beta2 must lie in \[0, 1\), got -0.5"),
        (lambda: Adam(epsilon=-1e-8), ValueError, r"epsilon must lie in \[0, inf\), got -1e-08"),
    ],
)
def test_hyperparameters_that_cannot_be_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("parameters", "gradients", "error", "message"),
    [
        ([np.zeros(2)], [np.zeros(3)], ValueError, r"gradient 0 .* shape of its parameter, \(2,\), got \(3,\)"),
        ([np.zeros(2)], [np.zeros((2, 1))], ValueError, r"gradient 0 .* \(2,\), got \(2, 1\)"),
        ([np.zeros(2)], [np.zeros(2, np.float32)], TypeError, "gradient 0 .* parameter, float64, got float32"),
        ([np.zeros(2)], [None], TypeError, "gradient 0 .* parameter, float64, got NoneType"),
        ([np.zeros(2)], [[1.0, 2.0]], TypeError, "gradient 0 .* parameter, float64, got list"),
        ([np.zeros(2)], [], ValueError, "1 parameters need as many of gradient, got 0"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(
    optimizer: Optimizer, parameters: Any, gradients: Any, error: type[Exception], message: str
) -> None:
    state = optimizer.init(parameters)
    with pytest.raises(error, match=message):
        optimizer.step(parameters, gradients, state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("parameter", "found"), [(np.zeros(2, int), "int64"), (np.zeros(2, complex), "complex128"), ([0.0], "list")]
)
def test_parameters_that_are_not_floating_arrays_are_refused(optimizer: Optimizer, parameter: Any, found: str) -> None:
    with pytest.raises(TypeError, match=f"parameter 1 must be a floating array, got {found}"):
        optimizer.init([np.zeros(2), parameter])


@pytest.mark.parametrize(
    ("optimizer", "state", "error", "message"),
    [
        (SGD(0.1), AdamState(0, (), ()), TypeError, "state is a AdamState, this optimiser needs the SGDState"),
        (Adam(), SGDState(()), TypeError, "state is a SGDState, this optimiser needs the AdamState"),
        (SGD(0.1, 0.9), SGDState(()), ValueError, "1 parameters need as many of velocity, got 0"),
        (SGD(0.1, 0.9), SGDState((np.zeros(3),)), ValueError, r"velocity 0 .* \(2,\), got \(3,\)"),
        (Adam(), AdamState(0, (np.zeros(3),), (np.zeros(2),)), ValueError, r"first 0 .* \(2,\), got \(3,\)"),
        (Adam(), AdamState(0, (np.zeros(2),), (np.zeros(3),)), ValueError, r"second 0 .* \(2,\), got \(3,\)"),
    ],
)
def test_state_of_another_optimiser_is_refused(
    optimizer: Optimizer, state: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        optimizer.step([np.zeros(2)], [np.zeros(2)], state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_of_another_byte_order_are_refused(optimizer: Optimizer) -> None:
    swapped = np.ones(3, np.dtype(float).newbyteorder())
    with pytest.raises(TypeError, match=r"parameter 0 has dtype [<>]f8, of another byte order: cast it to float64"):
        optimizer.init((swapped,))
