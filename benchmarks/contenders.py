"""The contenders of a case: our two versions, the bare matrix product, PyTorch and JAX in either layout.

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
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnn_core import Implementation
from verify.layers import BenchCase, Layer

Array = NDArray[Any]
Results = tuple[Array, ...]

PASSES = ("forward", "backward", "both")
PRODUCTS = ("conv2d", "linear")  # the layers that multiply; the others only move entries
_IMAGES = ("conv2d", "max_pool2d")  # the layers with a choice of layout
# flatten is not here, because in both libraries it is a view, and there is nothing to time.
_LIBRARIES = ("conv2d", "linear", "max_pool2d", "relu", "softmax_cross_entropy")


class Contender(NamedTuple):
    """The passes that are timed, and their results: y and then the gradients. The bare product has no results."""

    calls: Mapping[str, Callable[[], Any]]
    results: Results = ()


def versions(layer: Layer, case: BenchCase) -> tuple[str, ...]:
    """Return the names of a case's contenders on this machine. The loops are only compared with the fast version."""
    if case.naive:
        return ("naive", "fast")
    names = ["fast"] + ["matmul"] * (layer.name in PRODUCTS and not by_size(case))
    for library in ("torch",) if by_size(case) else ("torch", "jax"):
        if layer.name in _LIBRARIES and importlib.util.find_spec(library):
            names += [library, f"{library} channels_last"][: 2 if layer.name in _IMAGES else 1]
    return tuple(names)


def passes(case: BenchCase, version: str) -> tuple[str, ...]:
    """Return the passes that are timed for this version of a case.

    The loops have no "both". Cases of growing size and JAX have only "both". JAX takes up to a hundred times
    longer: its single passes would take half of the time of all benchmarks.
    """
    if by_size(case) or version.startswith("jax"):
        return PASSES[2:]
    return PASSES[:2] if version == "naive" else PASSES


def by_size(case: BenchCase) -> bool:
    """Return whether the case belongs to a series in which one size grows."""
    return case.zoo.startswith("by ")


def contender(version: str, layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array) -> Contender:
    """Return the contender of this name. Every pass has run once."""
    if version in ("naive", "fast"):
        return _ours(layer.reference if version == "naive" else layer.fast, case, arrays, dy)
    if version == "matmul":
        return _bare_product(layer, case, arrays, dy)
    library = {"torch": _torch, "jax": _jax}[version.split()[0]]
    return library(layer, case, arrays, dy, "channels_last" in version)


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

    F is the number of filters, K of taps, and M of windows in all images. There is one product for each group:

    - forward: (F x K) (K x M)
    - backward, dw: (F x M) (M x K)
    - backward, unfolded dx: (K x F) (F x M)

    A linear layer needs the same products.
    """
    w, groups = arrays[1], case.options.get("groups", 1)
    filters, taps, windows = len(w) // groups, w[0].size, dy.size // len(w)
    generator = np.random.default_rng(0)
    left, right, out = (
        generator.random((groups, *shape), np.float32).astype(dy.dtype)
        for shape in ((filters, taps), (taps, windows), (filters, windows))
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


def _torch(layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array, channels_last: bool) -> Contender:
    import torch

    f = torch.nn.functional
    function = {"softmax_cross_entropy": f.cross_entropy}.get(layer.name) or getattr(f, layer.name)

    def tensor(array: Array) -> Any:
        found = torch.from_numpy(array)
        return found.to(memory_format=torch.channels_last) if channels_last and array.ndim == 4 else found

    leaves = [tensor(array).requires_grad_(array.dtype.kind == "f") for array in arrays]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    upstream = tensor(np.asarray(dy))

    def forward() -> Any:
        with torch.no_grad():
            return function(*leaves, **case.options)

    taped = function(*leaves, **case.options)

    def backward() -> Any:
        return torch.autograd.grad(taped, wanted, upstream, retain_graph=True)

    def both() -> Any:
        y = function(*leaves, **case.options)
        return y, torch.autograd.grad(y, wanted, upstream)

    both()
    results = tuple(each.numpy() for each in (forward(), *backward()))
    return Contender({"forward": forward, "backward": backward, "both": both}, results)


def _jax(layer: Layer, case: BenchCase, arrays: tuple[Array, ...], dy: Array, channels_last: bool) -> Contender:
    import jax

    jax.config.update("jax_enable_x64", arrays[0].dtype == np.float64)
    function = functools.partial(_jax_function(layer.name, channels_last), **case.options)
    gradients = tuple(position for position, array in enumerate(arrays) if array.dtype.kind == "f")
    # Images to N H W C, filters to kH kW C F.
    axes = {0: (0, 2, 3, 1), 1: (2, 3, 1, 0)} if channels_last else {}

    def placed(array: Array, position: int) -> Any:
        return jax.device_put(np.transpose(array, axes[position]) if position in axes else array)

    given = [placed(array, position) for position, array in enumerate(arrays)]
    upstream = placed(dy, 0)

    def differentiated(*given: Any) -> Any:
        floating = tuple(given[position] for position in gradients)
        rest = given[len(gradients) :]  # labels come last
        return jax.vjp(lambda *floating: function(*floating, *rest), *floating)

    forward = jax.jit(function)
    taped = jax.jit(lambda *given: differentiated(*given)[1])(*given)
    backward = jax.jit(lambda pullback, upstream: pullback(upstream))

    def in_one(upstream: Any, *given: Any) -> Any:
        y, pullback = differentiated(*given)
        return y, pullback(upstream)

    both = jax.jit(in_one)
    calls = {
        "forward": lambda: jax.block_until_ready(forward(*given)),
        "backward": lambda: jax.block_until_ready(backward(taped, upstream)),
        "both": lambda: jax.block_until_ready(both(upstream, *given)),
    }
    calls["both"]()

    def read(result: Any, position: int) -> Array:
        array = np.asarray(result)
        return np.transpose(array, np.argsort(axes[position])) if position in axes else array

    y, found = calls["forward"](), calls["backward"]()
    return Contender(calls, (read(y, 0), *map(read, found, gradients)))


def _jax_function(name: str, channels_last: bool) -> Callable[..., Any]:
    import jax
    from jax import lax
    from jax import numpy as jnp

    def conv2d(x: Any, w: Any, b: Any = None, *, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        layout = ("NHWC", "HWIO", "NHWC") if channels_last else ("NCHW", "OIHW", "NCHW")
        sides = [(padding, padding)] * 2
        y = lax.conv_general_dilated(
            x, w, (stride, stride), sides, dimension_numbers=layout, feature_group_count=groups
        )
        return y if b is None else y + (b if channels_last else b[:, None, None])

    def max_pool2d(x: Any, *, kernel_size: int, stride: int, padding: int = 0) -> Any:
        def spread(side: Any, other: Any) -> tuple[Any, ...]:
            return (other, side, side, other) if channels_last else (other, other, side, side)

        sides = spread((padding, padding), (0, 0))
        return lax.reduce_window(x, -math.inf, lax.max, spread(kernel_size, 1), spread(stride, 1), sides)

    def softmax_cross_entropy(x: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1).mean()

    def linear(x: Any, w: Any, b: Any) -> Any:
        return x @ w.T + b

    functions: dict[str, Callable[..., Any]] = {
        "conv2d": conv2d,
        "max_pool2d": max_pool2d,
        "softmax_cross_entropy": softmax_cross_entropy,
        "linear": linear,
        "relu": jax.nn.relu,
    }
    return functions[name]
