"""Every layer, naive against fast: forward and backward of each case its declaration gives to time.

Validated, then timed: the two versions are compared on the very arrays they are timed on. Exact
layers, on small integers, must agree in every entry; the others within a tolerance derived here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from verify.layers import LAYERS, BenchCase, Layer

Array = NDArray[Any]

_PASSES = ("forward", "backward")
_EXACT = ("multilinear", "piecewise-linear")
_PRODUCTS = ("conv2d", "linear")  # the layers whose arithmetic is counted; the others only move entries
_NAIVE_ROUNDS = 3


class Timed(NamedTuple):
    """One version of one pass, ready to be timed; `arrays` are its arguments and its results."""

    call: Callable[[], Any]
    arrays: tuple[Array, ...]
    difference: float | None


def _parameters() -> list[tuple[str, str, str, str]]:
    return [
        (layer.name, direction, case.name, version)
        for layer in LAYERS.values()
        for case in layer.bench
        for direction in _PASSES
        for version in _versions(case)
    ]


def _versions(case: BenchCase) -> tuple[str, ...]:
    return ("naive", "fast") if case.naive else ("fast",)


@pytest.mark.parametrize(("layer", "direction", "case", "version"), _parameters())
def test_layer(
    layer: str,
    direction: str,
    case: str,
    version: str,
    benchmark: BenchmarkFixture,
    blas: dict[str, Any],
    pytestconfig: pytest.Config,
) -> None:
    dtype = pytestconfig.getoption("dtype")
    timed = _prepared(layer, case, dtype)[direction, version]
    benchmark.group = f"{layer} {direction} {case}"
    benchmark.extra_info.update(
        _work(LAYERS[layer], direction, timed.arrays),
        bytes=sum(array.nbytes for array in timed.arrays),
        max_difference=timed.difference,
        dtype=dtype,
        kernel=blas["kernel"],
        threads=blas["threads"],
    )
    if version == "fast":
        benchmark(timed.call)
    else:  # in a dry run the one that it was compared in is enough
        call = timed.call if benchmark.enabled else tuple
        benchmark.pedantic(call, rounds=_NAIVE_ROUNDS)  # type: ignore[no-untyped-call]  # pytest-benchmark's gap


@functools.cache  # one naive run a case, not one for each of its four timings
def _prepared(layer: str, case: str, dtype: str) -> Mapping[tuple[str, str], Timed]:
    (found,) = (each for each in LAYERS[layer].bench if each.name == case)
    return prepare(LAYERS[layer], found, np.dtype(dtype))


def prepare(layer: Layer, case: BenchCase, dtype: np.dtype[Any]) -> Mapping[tuple[str, str], Timed]:
    """Each (pass, version) of a case, ready to be timed; AssertionError unless the versions agree."""
    generator = np.random.default_rng(0)
    arrays = tuple(
        array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array for array in case.draw(generator)
    )
    y, _ = layer.fast.forward(*arrays, **case.options)
    exact = layer.structure in _EXACT
    dy = np.asarray(generator.integers(-4, 5, y.shape) if exact else generator.normal(size=y.shape)).astype(dtype)
    tolerances = dict.fromkeys(_PASSES, 0.0) if exact else _TOLERANCES[layer.name](arrays, y, dy)

    runs = {version: _run(implementation, arrays, case, dy) for version, implementation in _named(layer, case)}
    differences = {
        direction: _agreed(f"{layer.name} {direction}, {case.name}", results, tolerances[direction])
        for direction in _PASSES
        if len(results := [run[direction].results for run in runs.values()]) == 2
    }
    if exact:
        largest = _largest_partial_sum(layer, case, arrays, dy)
        limit = 2 / np.finfo(dtype).eps  # 2^24 in float32, 2^53 in float64
        assert largest < limit, f"{case.name}: partial sums up to {largest:g} are not exact in {dtype}"
    return {
        (direction, version): Timed(run.call, (*run.arguments, *run.results), differences.get(direction))
        for version, passes in runs.items()
        for direction, run in passes.items()
    }


class _Run(NamedTuple):
    call: Callable[[], Any]
    arguments: tuple[Array, ...]
    results: tuple[Array, ...]


def _named(layer: Layer, case: BenchCase) -> list[tuple[str, Any]]:
    both = zip(("naive", "fast"), layer.implementations, strict=True)
    return [(version, implementation) for version, implementation in both if version in _versions(case)]


def _run(implementation: Any, arrays: tuple[Array, ...], case: BenchCase, dy: Array) -> dict[str, _Run]:
    """Both passes of one version, run once."""
    forward = functools.partial(implementation.forward, *arrays, **case.options)
    y, cache = forward()
    backward = functools.partial(implementation.backward, dy, cache)
    kept = tuple(field for field in cache if isinstance(field, np.ndarray))
    return {
        "forward": _Run(forward, arrays, (y,)),
        "backward": _Run(backward, (dy, *kept), tuple(gradient for gradient in backward() if gradient is not None)),
    }


def _agreed(what: str, results: list[tuple[Array, ...]], tolerance: float) -> float:
    """The largest difference between the results of naive and fast; AssertionError if they disagree."""
    largest = 0.0
    for position, (naive, fast) in enumerate(zip(*results, strict=True)):
        said = [(array.shape, array.dtype) for array in (naive, fast)]
        assert said[0] == said[1], f"{what}: result {position} is {said[0]} by naive, {said[1]} by fast"
        difference = float(np.max(np.abs(naive - fast), initial=0.0))
        assert difference <= tolerance, f"{what}: result {position} differs by {difference:g}, tolerance {tolerance:g}"
        largest = max(largest, difference)
    return largest


def _largest_partial_sum(layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array) -> float:
    """A bound on every partial sum, in whatever order the sums are taken.

    A multilinear layer adds products: none of its partial sums exceeds the sum of their absolute
    values, which is what the layer makes of absolute values. A piecewise-linear one copies entries
    of x, and adds entries of dy.
    """
    if layer.structure == "piecewise-linear":
        return float(max(np.abs(arrays[0]).max(), np.abs(dy).sum(dtype=np.float64)))
    y, cache = layer.fast.forward(*(np.abs(array).astype(np.float64) for array in arrays), **case.options)
    gradients = layer.fast.backward(np.abs(dy).astype(np.float64), cache)
    return float(max(result.max() for result in (y, *gradients) if result is not None))


def _softmax_cross_entropy(arrays: tuple[Array, ...], y: Array, dy: Array) -> dict[str, float]:
    """Twice what rounding can do to one version; u = eps/2, and exp and log err by 4 ulp, E = 8 u.

    With d_c the distance of logit c from the largest, exp(-d_c) errs by (d_c + E)u of itself. As
    d exp(-d) < 1 and their sum s is at least 1, s errs by (E + 2C)u of itself. A loss, log s + d_label
    with both terms at least 0, errs by (E + 2C)u + (E + 2)u loss, and the mean of N by N u more of itself:
    at most gamma_k (1 + y). Of the upstream dy/N, a gradient is a probability, or a sum of C - 1: each
    product errs by (d_c + 2E + 2C + 3)u p_c, and with the C sums by (2E + 4C + 3)u: at most gamma_k dy/N.
    """
    images, classes = arrays[0].shape
    k = images + 4 * classes + 2 * 8 + 4
    unit = float(np.finfo(y.dtype).eps) / 2
    gamma = k * unit / (1 - k * unit)
    return {"forward": 2 * gamma * (1 + float(y)), "backward": 2 * gamma * float(np.abs(dy)) / images}


# Layers that are not exact, each with its derivation.
_TOLERANCES = {"softmax_cross_entropy": _softmax_cross_entropy}


def _work(layer: Layer, direction: str, arrays: tuple[Array, ...]) -> dict[str, int]:
    """Floating-point operations where a layer multiplies, entries read and written where it does not."""
    if layer.name not in _PRODUCTS:
        return {"entries_moved": sum(array.size for array in arrays)}
    # Forward (x, w, b, y), backward (dy, x, w, b, dx, dw, db): each entry of y is a sum of as many
    # products as one filter has weights, and the bias is one addition more.
    y, w = (arrays[3], arrays[1]) if direction == "forward" else (arrays[0], arrays[2])
    products = y.size * w[0].size
    return {"flops": (2 if direction == "forward" else 4) * products + y.size}
