"""Every layer declared, all versions: what is derived from its declaration."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty

import cnn_core
from cnn_core import Implementation
from cnn_core._arguments import Cache, implement
from helpers import BOTH
from verify import gradcheck
from verify.battery.contracts import CONTRACTS, Call
from verify.layers import LAYERS, Case, Layer, Reject

_PAIRS = [(layer, implementation) for layer in LAYERS.values() for implementation in layer.implementations]
EACH = [pytest.param(layer, id=layer.name) for layer in LAYERS.values()]
ARGUMENTS = [
    pytest.param(layer, implementation, position, id=f"{layer.name}-{implementation.name}-d{name}")
    for layer, implementation in _PAIRS
    for position, name in enumerate(layer.names)
    if name not in layer.constants
]

# Of 76 versions fewer cases each serve, where most show the same. `python -m verify` draws a hundred of each version.
SOME, FEW = (settings(max_examples=settings().max_examples // share) for share in (3, 5))


def _draw(data: st.DataObject, layer: Layer) -> Case:
    return data.draw(layer.cases(), label="case")


@pytest.mark.parametrize(("layer", "implementation", "position"), ARGUMENTS)
@SOME
@given(data=st.data())
def test_each_gradient_alone_agrees_with_differences(
    layer: Layer, implementation: Implementation, position: int, data: st.DataObject
) -> None:
    case = _draw(data, layer)
    if position >= len(case.arrays) or case.arrays[position] is None:
        return  # the bias, or a third array, not given: the case counts for the other arguments
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    # A PASS is the assertion: anything else raises.
    certificate = gradcheck(*implementation[1:], *case, structure=layer.structure, wrt=[position], seed=seed)
    assert certificate.structure == layer.structure


@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@SOME
@given(data=st.data())
def test_all_gradients_together_agree_with_differences_in_either_dtype(
    layer: Layer, implementation: Implementation, data: st.DataObject
) -> None:
    arrays, options = _draw(data, layer)
    dtype = data.draw(st.sampled_from([np.float64, np.float32]), label="dtype")
    cast = tuple(a.astype(dtype) if a is not None and a.dtype == np.float64 else a for a in arrays)
    certificate = gradcheck(*implementation[1:], cast, options, structure=layer.structure, seed=0)
    assert certificate.miss_probability is None or certificate.miss_probability <= 1e-9


@pytest.mark.parametrize("layer", [each for each in LAYERS.values() if each.exact], ids=lambda layer: layer.name)
@given(data=st.data())
def test_all_versions_agree_bit_for_bit_on_integers(layer: Layer, data: st.DataObject) -> None:
    arrays, options = _draw(data, layer)
    dtype = data.draw(st.sampled_from([np.float64, np.float32, np.complex128]), label="dtype")
    cast = [a if a is None or a.dtype.kind != "f" else a.astype(dtype) for a in arrays]
    naive, *others = (
        Call.of(each.forward, each.backward, cast, options, np.random.default_rng(0)) for each in layer.implementations
    )
    for other in others:
        assert np.array_equal(naive.y, other.y)
        assert naive.y.dtype == other.y.dtype
        for (name, right), (_, gradient) in zip(naive.gradients(), other.gradients(), strict=True):
            assert np.array_equal(right, gradient), name
        if hasattr(naive.cache, "indices"):
            assert np.array_equal(naive.cache.indices, other.cache.indices)


@pytest.mark.parametrize("layer", [each for each in LAYERS.values() if not each.exact], ids=lambda layer: layer.name)
@given(data=st.data())
def test_all_versions_agree_up_to_rounding_where_there_are_no_integers(layer: Layer, data: st.DataObject) -> None:
    arrays, options = _draw(data, layer)
    naive, *others = (
        Call.of(each.forward, each.backward, arrays, options, np.random.default_rng(0))
        for each in layer.implementations
    )
    gradients = tuple(naive.backward(naive.dy, naive.cache))
    allowed = layer.allowed(Case(arrays, options), naive.y, naive.dy, gradients)
    for other in others:
        found = (other.y, *other.backward(naive.dy, other.cache))
        for one, two, most in zip((naive.y, *gradients), found, allowed, strict=True):
            if one is None or two is None:
                assert one is two
                continue
            assert (
                (one == two) | (np.isnan(one) & np.isnan(two)) | (np.isfinite(most) & (np.abs(one - two) <= most))
            ).all()


@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@SOME
@given(data=st.data())
def test_every_contract_is_kept(layer: Layer, implementation: Implementation, data: st.DataObject) -> None:
    """A contract that is broken raises, and says which it is."""
    case = _draw(data, layer)
    seed = data.draw(st.integers(0, 99), label="seed")
    for contract in CONTRACTS.values():
        generator = np.random.default_rng(seed)
        contract(Call.of(*implementation[1:], *case, generator), generator)


REJECTS = [
    pytest.param(implementation, reject, id=f"{layer.name}-{implementation.name}-{reject.name}")
    for layer, implementation in _PAIRS
    for reject in layer.rejects
]


@pytest.mark.parametrize(("implementation", "reject"), REJECTS)
def test_bad_input_is_refused_with_its_values(implementation: Implementation, reject: Reject) -> None:
    with pytest.raises(reject.error, match=reject.message):
        implementation.forward(*reject.arrays, **reject.options)


@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@FEW
@given(data=st.data())
def test_bytes_in_another_order_are_refused(layer: Layer, implementation: Implementation, data: st.DataObject) -> None:
    case = _draw(data, layer)
    assert case.arrays[0] is not None
    swapped = case.arrays[0].astype(case.arrays[0].dtype.newbyteorder())
    with pytest.raises(TypeError, match=r"x has dtype [<>]f8, of another byte order: cast it to float64"):
        implementation.forward(swapped, *case.arrays[1:], **case.options)


@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@FEW
@given(data=st.data())
def test_half_precision_is_refused(layer: Layer, implementation: Implementation, data: st.DataObject) -> None:
    case = _draw(data, layer)
    assert case.arrays[0] is not None
    half = case.arrays[0].astype(np.float16)
    with pytest.raises(TypeError, match="x has dtype float16: take float32, float64, complex64 or complex128"):
        implementation.forward(half, *case.arrays[1:], **case.options)


@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@FEW
@given(data=st.data())
def test_an_array_of_another_dtype_than_x_is_refused(
    layer: Layer, implementation: Implementation, data: st.DataObject
) -> None:
    case = _draw(data, layer)
    for position in layer.with_gradient(len(case.arrays))[1:]:
        if (array := case.arrays[position]) is not None:
            mixed = [*case.arrays[:position], array.astype(np.float32), *case.arrays[position + 1 :]]
            name = layer.names[min(position, len(layer.names) - 1)]
            with pytest.raises(TypeError, match=rf"^{name}.* has dtype float32, but x has float64: cast one of them$"):
                implementation.forward(*mixed, **case.options)


@pytest.mark.parametrize("layer", EACH)
def test_a_failing_case_is_printed_with_the_layer_s_name_alone(layer: Layer) -> None:
    assert pretty(layer) == repr(layer) == f"LAYERS[{layer.name!r}]"


@pytest.mark.parametrize("layer", EACH)
@FEW
@given(data=st.data())
def test_a_cache_of_another_version_is_refused(layer: Layer, data: st.DataObject) -> None:
    arrays, options = _draw(data, layer)
    for mine, other in itertools.permutations(layer.implementations, 2):
        y, cache = other.forward(*arrays, **options)
        needs = f"and this backward needs that of {layer.name}.{mine.name}.forward"
        with pytest.raises(TypeError) as caught:
            mine.backward(np.zeros_like(y), cache)
        assert str(caught.value) == f"cache is {layer.name}.{other.name}, {needs}"
        with pytest.raises(TypeError) as caught:
            mine.backward(np.zeros_like(y), tuple(cache))
        assert str(caught.value) == f"cache is no layer's, but a tuple, {needs}"


def test_a_cache_has_the_attributes_of_what_it_keeps_but_for_hidden_ones() -> None:
    """Else NumPy would take a cache that keeps an array for this array: it asks for `__array_interface__`."""
    kept = np.arange(3.0)
    cache = Cache("layer.naive", (3,), kept.dtype, kept)
    assert cache.size == 3
    with pytest.raises(AttributeError) as caught:
        _ = cache.__array_interface__
    assert str(caught.value) == "__array_interface__"


@pytest.mark.parametrize(("layer", "implementation"), BOTH)
@FEW
@given(data=st.data())
def test_an_upstream_gradient_unlike_y_is_refused(
    layer: Layer, implementation: Implementation, data: st.DataObject
) -> None:
    arrays, options = _draw(data, layer)
    y, cache = implementation.forward(*arrays, **options)
    with pytest.raises(ValueError, match="dy must have the shape of y"):
        implementation.backward(np.zeros((*y.shape, 1)), cache)
    with pytest.raises(TypeError, match="dy must have the dtype of y, float64, got float32"):
        implementation.backward(np.zeros(y.shape, np.float32), cache)
    with pytest.raises(TypeError, match="dy must be a NumPy array of dtype float64, got float"):
        implementation.backward(1.0, cache)


@pytest.mark.parametrize("layer", EACH)
@FEW
@given(data=st.data())
def test_without_need_dx_there_is_no_dx_and_the_other_gradients_stay(layer: Layer, data: st.DataObject) -> None:
    arrays, options = _draw(data, layer)
    for each in layer.implementations:
        if "need_dx" in inspect.signature(each.backward).parameters:
            y, cache = each.forward(*arrays, **options)
            (_, *wanted), (dx, *others) = (each.backward(y, cache, need_dx=need) for need in (True, False))
            assert dx is None
            for right, gradient in zip(wanted, others, strict=True):
                np.testing.assert_array_equal(right, gradient)


def test_every_public_layer_is_declared() -> None:
    layers = {name for name in cnn_core.__all__ if hasattr(getattr(cnn_core, name), "naive")}
    assert layers == set(LAYERS)
    assert {layer.module for layer in LAYERS.values()} == {getattr(cnn_core, name) for name in layers}


@pytest.mark.parametrize("layer", EACH)
def test_the_declared_names_are_the_forwards(layer: Layer) -> None:
    for implementation in layer.implementations:
        parameters = inspect.signature(implementation.forward).parameters.values()
        assert tuple(each.name for each in parameters if each.kind is not each.KEYWORD_ONLY) == layer.names
        for function, name in ((implementation.forward, "forward"), (implementation.backward, "backward")):
            assert (function.__module__, function.__name__) == (layer.module.__name__, name)
            assert function.__qualname__ == f"{implementation.name}.{name}"
            assert function.__doc__


@pytest.mark.parametrize("layer", EACH)
def test_calls_that_do_not_fit_are_answered_with_the_layer_s_name_and_options(layer: Layer) -> None:
    parameters = inspect.signature(layer.reference.forward).parameters.values()
    several = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    arrays = [np.zeros((2, 2))] * len(layer.names)
    for implementation in layer.implementations:
        with pytest.raises(TypeError, match=rf"^{layer.name} takes x.*; it has no no_such_option=1$"):
            implementation.forward(*arrays, **layer.options, no_such_option=1)
        with pytest.raises(TypeError, match=rf"^{layer.name} takes x.* is missing$"):
            implementation.forward()
        if not several:
            with pytest.raises(TypeError, match=rf"^{layer.name} takes x.* by position, the last 'one too many'$"):
                implementation.forward(*arrays, "one too many", **layer.options)


def test_a_layer_is_called_by_the_last_name_of_its_module() -> None:
    def prepare(x: Any) -> Any:
        return x

    prepare.__module__ = "some.package.square"
    layer = implement("naive", prepare, lambda x: (x * x, x), lambda dy, x: (2 * dy * x,))
    with pytest.raises(TypeError, match=r"^square takes x by position; x is missing$"):
        layer.forward()


X = np.ones((1, 2))
LINEAR = "linear takes x, w, b by position"
CONV2D = "conv2d takes x, w, b by position and, by name, stride, padding, dilation, groups"


@pytest.mark.parametrize(
    ("layer", "arrays", "options", "message"),
    [
        ("conv2d", (X, X), {"strid": 1, "pad": X}, f"{CONV2D}; it has no strid=1, pad=an array of shape (1, 2)"),
        ("conv2d", (), {"stride": 1}, f"{CONV2D}; x, w is missing"),
        ("linear", (X, X, X[0], X), {}, f"{LINEAR}; got 4 by position, the last an array of shape (1, 2)"),
        ("linear", (X, X, X[0]), {"x": X}, f"{LINEAR}; an array is given twice"),
        ("concat", (X, X, X), {}, "concat takes x, z, *others by position and, by name, axis; axis is missing"),
    ],
)
def test_a_call_that_does_not_fit_is_answered_in_whole_sentences(
    layer: str, arrays: tuple[np.ndarray[Any, Any], ...], options: dict[str, Any], message: str
) -> None:
    for implementation in LAYERS[layer].implementations:
        with pytest.raises(TypeError) as caught:
            implementation.forward(*arrays, **options)
        assert str(caught.value) == message
