"""The contenders of a case: our versions, the bare matrix product, PyTorch and JAX.

All of them follow from the layer's declaration. Where its first array has the axes N C H W, both libraries are also
timed with the channels last.

Every contender gets its arrays in its own layout before it is timed. Each pass computes y or the gradients of
all arrays:

- Ours calls `forward` or `backward`.
- PyTorch's forward runs without a tape. Its backward is autograd's, over a tape that is kept.
- JAX's passes are compiled.
- The pass "both" is a forward and a backward in one call.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnn_core import Implementation
from verify.layers import BenchCase, Layer

Array = NDArray[Any]
Results = tuple[Array, ...]

PASSES = ("forward", "backward", "both")
_LIBRARIES = ("torch", "jax")


class Contender(NamedTuple):
    """The passes that are timed, and their results: y and then the gradients. The bare product has no results."""

    calls: Mapping[str, Callable[[], Any]]
    results: Results = ()


def versions(layer: Layer, case: BenchCase) -> tuple[str, ...]:
    """Return the names of a case's contenders on this machine. `fast` is the version to use, whatever its name is.

    The loops are compared with our other versions alone. Series in which one size grows have neither JAX nor a
    version that is only to be read.
    """
    ours = [each.name for each in layer.implementations[:-1]]
    if case.naive:
        return (*ours, "fast")
    names = ["fast"] if by_size(case) else [*ours[1:], "fast"] + ["matmul"] * (layer.products is not None)
    for library in _LIBRARIES[:1] if by_size(case) else _LIBRARIES:
        if getattr(layer, library) is not None and importlib.util.find_spec(library):
            names += [library, f"{library} channels_last"][: 1 + _has_images(layer)]
    return tuple(names)


def passes(case: BenchCase, version: str) -> tuple[str, ...]:
    """Return the passes that are timed for this version of a case.

    The loops have no "both". Cases of growing size, JAX and versions that are only to be read have only "both". JAX
    takes up to a hundred times longer: its single passes would take half of the time of all benchmarks.
    """
    if case.naive:
        return PASSES if version == "fast" else PASSES[:2]
    single = version in ("fast", "matmul") or version.startswith("torch")
    return PASSES if single and not by_size(case) else PASSES[2:]


def drawn(
    layer: Layer, case: BenchCase, dtype: np.dtype[Any], images: int
) -> tuple[tuple[Array, ...], Array, Any, Array]:
    """Return the arrays of a case, and y, the cache and dy of the fast version for them."""
    generator = np.random.default_rng(0)
    arrays = tuple(
        array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array
        for array in case.draw(generator, images)
    )
    y, cache = layer.fast.forward(*arrays, **case.options)
    dy = generator.integers(-4, 5, y.shape) if layer.exact else generator.normal(size=y.shape)
    return arrays, y, cache, np.asarray(dy).astype(dtype)


def by_size(case: BenchCase) -> bool:
    """Return whether the case belongs to a series in which one size grows."""
    return case.zoo.startswith("by ")


def _has_images(layer: Layer) -> bool:
    """Return whether the layer has a choice of layout."""
    return layer.axes[layer.names[0]] == "N C H W"


def contender(version: str, layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array) -> Contender | None:
    """Return the contender of this name, or None if a library has no such case, or nothing to do there.

    Every pass has run once.
    """
    if version == "matmul":
        return _bare_product(layer, case, arrays, dy)
    if version.startswith(_LIBRARIES):
        library = {"torch": _torch, "jax": _jax}[version.split()[0]]
        return library(layer, case, arrays, dy, "channels_last" in version)
    by_name = {each.name: each for each in layer.implementations}
    return _ours(layer.fast if version == "fast" else by_name[version], case, arrays, dy)


def _ours(implementation: Implementation, case: BenchCase, arrays: tuple[Array, ...], dy: Array) -> Contender:
    forward = functools.partial(implementation.forward, *arrays, **case.options)
    y, cache = forward()
    backward = functools.partial(implementation.backward, dy, cache)

    def both() -> Any:
        y, own = forward()
        return y, implementation.backward(dy, own)

    calls: dict[str, Callable[[], Any]] = {"forward": forward, "backward": backward, "both": both}
    return Contender(calls, (y, *(gradient for gradient in backward() if gradient is not None)))


def _bare_product(layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array) -> Contender:
    """Return the matrix products that every pass needs, of existing matrices.

    F is the number of w's slices, K of entries in one of them, and M of uses of each entry. There is one product for
    each group:

    - forward: (F x K) (K x M)
    - backward, dw: (F x M) (M x K)
    - backward, unfolded dx: (K x F) (F x M)

    For a convolution these are filters, taps, and windows in all images. A linear layer needs the same products. A
    transposed convolution needs the same three, and its forward is the last of them.
    """
    assert layer.products is not None
    w, groups = arrays[layer.names.index("w")], case.options.get("groups", 1)
    uses = layer.products(*layer.complete(arrays, case.options), dy) // w.size
    generator = np.random.default_rng(0)
    left, right, out = (
        generator.random((groups, *shape), np.float32).astype(dy.dtype)
        for shape in ((len(w) // groups, w[0].size), (w[0].size, uses), (len(w) // groups, uses))
    )
    dleft, dright = np.empty_like(left), np.empty_like(right)

    def forward() -> None:
        np.matmul(left, right, out=out)

    def backward() -> None:
        np.matmul(out, right.swapaxes(1, 2), out=dleft)
        np.matmul(left.swapaxes(1, 2), out, out=dright)

    def both() -> None:
        forward()
        backward()

    return Contender({"forward": forward, "backward": backward, "both": both})


def _torch(
    layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array, channels_last: bool
) -> Contender | None:
    import torch

    complete = layer.complete(arrays, case.options)

    def tensor(array: Array) -> Any:
        found = torch.from_numpy(array)
        return found.to(memory_format=torch.channels_last) if channels_last and array.ndim == 4 else found

    leaves = [None if array is None else tensor(array) for array in complete.arrays]
    wanted = [leaf.requires_grad_() for k in layer.with_gradient(len(leaves)) if (leaf := leaves[k]) is not None]
    upstream = tensor(np.asarray(dy))

    def function() -> Any:
        assert layer.torch is not None
        return layer.torch(torch, *leaves, **complete.options)

    def forward() -> Any:
        with torch.no_grad():
            return function()

    taped = function()
    if taped is None or any(taped.data_ptr() == leaf.data_ptr() for leaf in wanted):
        return None  # a view of an array takes no time

    def backward() -> Any:
        return torch.autograd.grad(taped, wanted, upstream, retain_graph=True, materialize_grads=True)

    def both() -> Any:
        y = function()
        return y, torch.autograd.grad(y, wanted, upstream, materialize_grads=True)

    both()
    results = tuple(each.numpy() for each in (forward(), *backward()))
    return Contender({"forward": forward, "backward": backward, "both": both}, results)


def _jax(layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array, channels_last: bool) -> Contender | None:
    """Return JAX's contender. With its channels last it is given arrays in that layout, which it transposes.

    XLA drops the transposes where its own layout has the channels last. A convolution so takes as long as one that is
    written for this layout: 125 ms both, 64->64 3x3 on 56x56, N = 8, where the other layout takes 147.
    """
    import jax

    jax.config.update("jax_enable_x64", arrays[0].dtype == np.float64)
    complete = layer.complete(arrays, case.options)
    # Labels, masks and indices are constants: a compiler of shapes may need their values.
    given = [k for k in layer.with_gradient(len(complete.arrays)) if complete.arrays[k] is not None]
    # Images to N H W C, filters to kH kW C F.
    orders = {"N C H W": (0, 2, 3, 1), "kH kW": (2, 3, 1, 0)} if channels_last else {}
    layout = {k: order for k, of in enumerate(layer.axes.values()) for end, order in orders.items() if of.endswith(end)}
    of_y = (0, 2, 3, 1) if channels_last and dy.ndim == 4 else None

    def placed(array: Any, order: tuple[int, ...] | None) -> Any:
        return jax.device_put(array if order is None else np.ascontiguousarray(np.transpose(array, order)))

    def function(*values: Any) -> Any:
        named: list[Any] = list(complete.arrays)
        for k, value in zip(given, values, strict=True):
            named[k] = value.transpose(np.argsort(layout[k])) if k in layout else value
        assert layer.jax is not None
        y = layer.jax(jax, *named, **complete.options)
        return y if y is None or of_y is None else y.transpose(of_y)

    inputs = [placed(complete.arrays[k], layout.get(k)) for k in given]
    upstream = placed(dy, of_y)

    def differentiated(*inputs: Any) -> Any:
        return jax.vjp(function, *inputs)

    if jax.eval_shape(function, *inputs) is None:
        return None
    forward = jax.jit(function)
    taped = jax.jit(lambda *inputs: differentiated(*inputs)[1])(*inputs)
    backward = jax.jit(lambda pullback, upstream: pullback(upstream))

    def in_one(upstream: Any, *inputs: Any) -> Any:
        y, pullback = differentiated(*inputs)
        return y, pullback(upstream)

    both = jax.jit(in_one)
    calls = {
        "forward": lambda: jax.block_until_ready(forward(*inputs)),
        "backward": lambda: jax.block_until_ready(backward(taped, upstream)),
        "both": lambda: jax.block_until_ready(both(upstream, *inputs)),
    }
    calls["both"]()

    def read(result: Any, order: tuple[int, ...] | None) -> Array:
        return np.asarray(result) if order is None else np.transpose(result, np.argsort(order))

    gradients = (read(each, layout.get(k)) for k, each in zip(given, calls["backward"](), strict=True))
    return Contender(calls, (read(calls["forward"](), of_y), *gradients))
