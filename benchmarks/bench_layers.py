"""Benchmarks of every layer at the sizes of its declaration: all versions, bare matrix product, PyTorch, JAX.

All contenders are compared before they are timed, on the same arrays. Exact layers get small integers and must
agree in every entry. Other layers must agree within the tolerance that their declaration derives. Then the
contenders are timed in turn (`turns.py`), so that both times of a ratio come from the same minutes.

    pytest benchmarks/bench_layers.py [-k "conv2d and LeNet"] [--small]
"""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contenders import PASSES, Contender, by_size, contender, drawn, passes, versions
from benchmarks.memory import Gauge
from benchmarks.turns import REPLAY, Rounds, in_turns, keep
from verify.layers import LAYERS, BenchCase, Layer

Array = NDArray[Any]

_OURS_TO_READ = ("im2col", "vectorized", "fast")  # the loops take minutes under tracemalloc
_SMALL = 32  # a dry run and `--small` divide the number of images by this


class Prepared(NamedTuple):
    """A case whose contenders agree. `differences` has the largest difference of each from the fast version."""

    arrays: tuple[Array, ...]
    options: Mapping[str, Any]
    dy: Array
    contenders: Mapping[str, Contender]
    differences: Mapping[str, float]


def _parameters() -> list[tuple[str, str, str, str, str]]:
    return [
        (layer.name, case.zoo, case.name, direction, version)
        for layer in LAYERS.values()
        for case in layer.bench
        for direction in PASSES
        for version in versions(layer, case)
        if direction in passes(case, version)
    ]


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize(("layer", "zoo", "case", "direction", "version"), _parameters())
def test_layer(
    layer: str,
    zoo: str,
    case: str,
    direction: str,
    version: str,
    benchmark: BenchmarkFixture,
    dtype: str,
    small: bool,
    gauge: Gauge,
) -> None:
    ready = _prepared(layer, zoo, case, dtype, small)
    if version not in ready.contenders:
        pytest.skip(f"{version} has no such case, or nothing to do there")
    if not benchmark.enabled:  # a dry run only checks that they agree
        benchmark.pedantic(tuple)  # type: ignore[no-untyped-call]  # pytest-benchmark's gap
        return
    rounds = _timed(layer, zoo, case, direction, dtype, small)
    benchmark.group = f"{layer} {direction} {zoo}: {case}"
    flops = _flops(LAYERS[layer], direction, ready)
    call = ready.contenders[version].calls[direction]
    compared = layer == "conv2d" and not by_size(_case(layer, zoo, case))
    measured = compared and direction == "both" and version != "matmul"
    benchmark.extra_info.update(
        dtype=dtype,
        shape=ready.arrays[0].shape,
        groups=ready.options.get("groups", 1),
        bytes=_bytes(direction, ready),
        max_difference=ready.differences.get(version),
        extra_bytes=extra_bytes(call) if version in _OURS_TO_READ else None,
        extra_resident_bytes=_extra_resident(gauge, layer, zoo, case, dtype, version, ready) if measured else None,
        flops=flops,
        gflop_per_s=flops and flops / rounds[version].median / 1e9,
        share_of_matmul=rounds["matmul"].median / rounds[version].median if "matmul" in rounds else None,
    )
    keep(benchmark, rounds[version])


@functools.lru_cache(maxsize=1)  # the tests of one case follow each other
def _prepared(layer: str, zoo: str, case: str, dtype: str, small: bool) -> Prepared:
    found = _case(layer, zoo, case)
    images = max(1, found.images // _SMALL) if small else found.images
    return prepare(LAYERS[layer], found, np.dtype(dtype), images)


def _case(layer: str, zoo: str, case: str) -> BenchCase:
    (found,) = (each for each in LAYERS[layer].bench if (each.zoo, each.name) == (zoo, case))
    return found


@functools.lru_cache(maxsize=1)
def _timed(layer: str, zoo: str, case: str, direction: str, dtype: str, small: bool) -> dict[str, Rounds]:
    ready = _prepared(layer, zoo, case, dtype, small).contenders
    calls = {name: each.calls[direction] for name, each in ready.items() if direction in each.calls}
    return in_turns(calls, seconds=0 if small else 1)


def prepare(layer: Layer, case: BenchCase, dtype: np.dtype[Any], images: int) -> Prepared:
    """Return the contenders of a case for a batch of `images`, or raise AssertionError if they disagree."""
    arrays, y, cache, dy = drawn(layer, case, dtype, images)
    gradients = layer.fast.backward(dy, cache)
    complete = layer.complete(arrays, case.options)
    allowed, count = layer.allowed(complete, y, dy, gradients), len(complete.arrays)
    names = ("y", *(f"d{layer.names[min(k, len(layer.names) - 1)]}" for k in layer.with_gradient(count)))
    # A list: a layer of any number of arrays has several gradients of one name.
    results = zip(names, (y, *gradients), allowed, strict=True)
    right = [(name, result, most) for name, result, most in results if result is not None]
    contenders = {}
    for version in versions(layer, case):
        made = contender(version, layer, case, arrays, dy)
        if made is not None:
            kept = {direction: made.calls[direction] for direction in passes(case, version)}
            contenders[version] = made._replace(calls=kept)
    differences = {
        version: _agreed(f"{layer.name}, {case.name}", version, each.results, right)
        for version, each in contenders.items()
        if each.results and version != "fast"
    }
    if layer.exact:
        largest = _largest_partial_sum(layer, case, arrays, dy, cache)
        limit = 2 / np.finfo(dtype).eps  # 2^24 in float32, 2^53 in float64
        assert largest < limit, f"{case.name}: partial sums up to {largest:g} are not exact in {dtype}"
    return Prepared(arrays, case.options, dy, contenders, differences)


def _agreed(what: str, version: str, results: tuple[Array, ...], right: Sequence[tuple[str, Array, Any]]) -> float:
    """Return the largest difference from the results of the fast version, or raise AssertionError."""
    largest = 0.0
    for (name, fast, most), other in zip(right, results, strict=True):
        said = [(array.shape, array.dtype) for array in (other, fast)]
        assert said[0] == said[1], f"{what}: {name} is {said[0]} by {version}, {said[1]} by fast"
        differences = np.abs(other - fast)
        difference = float(np.max(differences, initial=0.0))
        tolerance = float(np.max(most, initial=0.0))
        assert (differences <= most).all(), (
            f"{what}: {name} of {version} differs by {difference:g}, tolerance {tolerance:g}"
        )
        largest = max(largest, difference)
    return largest


def _largest_partial_sum(layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array, cache: Any) -> float:
    """Return a bound on every partial sum, for any order of summation.

    A multilinear layer adds products. No partial sum exceeds the sum of their absolute values, which is the
    result of the layer at the absolute values of its arrays. A piecewise-linear layer is asked at its own arrays,
    because others may choose otherwise. It copies entries of x, and each entry of dx is a sum of entries of dy.
    """
    if layer.structure == "piecewise-linear":
        results = (*arrays, *layer.fast.backward(np.abs(dy), cache))
    else:
        fixed = [k not in layer.with_gradient(len(arrays)) for k in range(len(arrays))]
        positive = [a if same else np.abs(a).astype(np.float64) for a, same in zip(arrays, fixed, strict=True)]
        y, cache = layer.fast.forward(*positive, **case.options)
        results = (y, *layer.fast.backward(np.abs(dy).astype(np.float64), cache))
    return max(float(np.abs(result).max(initial=0.0)) for result in results if result is not None)


def _bytes(direction: str, ready: Prepared) -> int:
    """Return the bytes of the arguments and results of a pass, which it must read and write at least once."""
    y, *gradients = ready.contenders["fast"].results
    given = sum(array.nbytes for array in ready.arrays)
    forward, backward = given + y.nbytes, given + ready.dy.nbytes + sum(gradient.nbytes for gradient in gradients)
    return {"forward": forward, "backward": backward, "both": forward + backward}[direction]


def _flops(layer: Layer, direction: str, ready: Prepared) -> int | None:
    """Return the number of floating-point operations, or None for a layer that does not multiply.

    A product is added to a sum, so it is two operations. The gradients dw and dx need the same number of products
    each. A bias needs one more addition for each entry of y, and of dy.
    """
    if layer.products is None:
        return None
    products = layer.products(*layer.complete(ready.arrays, ready.options), ready.dy)
    bias = ready.dy.size * (len(ready.arrays) > 2)
    forward, backward = 2 * products + bias, 4 * products + bias
    return int({"forward": forward, "backward": backward, "both": forward + backward}[direction])


def extra_bytes(call: Callable[[], Any]) -> int:
    """Return the peak memory of a call in bytes, without its arguments and results. The run is not timed."""
    tracemalloc.start()
    try:
        results = call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return max(0, peak - sum(array.nbytes for array in _results(results)))


def _extra_resident(
    gauge: Gauge, layer: str, zoo: str, case: str, dtype: str, version: str, ready: Prepared
) -> int | None:
    """Return the peak growth of a process by a forward and backward, without the results."""
    images = len(ready.arrays[0])
    peak = gauge.peak(layer=layer, zoo=zoo, case=case, images=images, dtype=dtype, version=version)
    results = sum(array.nbytes for array in ready.contenders["fast"].results)
    return None if peak is None else max(0, peak - results)


def _results(returned: Any) -> list[Array]:
    """Return y and the gradients among the returned objects. The cache counts as extra memory."""
    if isinstance(returned, np.ndarray):
        return [returned]
    if type(returned) is not tuple:
        return []
    return [array for each in returned for array in _results(each)]
