"""Other gradient checkers at the same exhibits: PyTorch's, JAX's, HIPS autograd's, and plain central differences.

Each gets a layer as its users would write it, and its own default step and tolerance:

- `torch` and `torch fast`: `torch.autograd.gradcheck` of a `torch.autograd.Function` in float64.
- `jax`: `jax.test_util.check_grads` of a `jax.custom_vjp`, reverse mode, first order, in float64.
- `autograd`: `autograd.test_util.check_grads` of a primitive with `defvjp`, reverse mode, first order.
- `numeric`: central differences of each entry with a step of 1e-5, as courses teach. It reports an error where
  |a - n| / (|a| + |n|) is above 1e-4, what Stanford's CS231n calls too much for functions with kinks.

A checker is asked at one ordinary call first: batch 1, square arrays of normal numbers, default options. Then at the
cases that gradcert draws, with normal numbers in their arrays: the integers drawn are often tied, where differences
mean nothing. A bug counts as seen where a checker objects or raises, and accepts the right layer.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_core import Implementation
from verify.checker.certificate import FAIL
from verify.checker.check import gradcheck
from verify.checker.layer import is_floating
from verify.checker.point import Array
from verify.diagnosis.reproduction import arrays_not_at_hand
from verify.layers import Case, Layer

_NUMERIC_STEP, _NUMERIC_MOST = 1e-5, 1e-4
# What a call needs, by layer: the shapes of an ordinary one, and the options that have no default.
_IMAGES: tuple[int, ...] = (1, 2, 6, 6)
_ORDINARY: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "add": (((3, 4), (3, 4)), {}),
    "conv2d": (((1, 2, 5, 5), (3, 2, 3, 3), (3,)), {}),
    "conv_transpose2d": (((1, 2, 4, 4), (2, 3, 3, 3), (3,)), {}),
    "linear": (((1, 4), (3, 4), (3,)), {}),
    "max_pool2d": ((_IMAGES,), {"kernel_size": 2}),
    "avg_pool2d": ((_IMAGES,), {"kernel_size": 2}),
    "adaptive_avg_pool2d": ((_IMAGES,), {"output_size": 2}),
    "adaptive_max_pool2d": ((_IMAGES,), {"output_size": 2}),
    "unfold2d": ((_IMAGES,), {"kernel_size": 2}),
    "fold2d": (((1, 8, 9),), {"output_size": 4, "kernel_size": 2}),
    "pad2d": ((_IMAGES,), {"pad": 1}),
    "pixel_shuffle": (((1, 4, 3, 3),), {"upscale_factor": 2}),
    "batch_norm2d": (((2, 2, 3, 3), (2,), (2,)), {}),
    "group_norm": (((1, 4, 3, 3), (4,), (4,)), {"num_groups": 1}),
    "instance_norm2d": (((1, 2, 3, 3), (2,), (2,)), {}),
    "layer_norm": (((1, 6), (6,), (6,)), {"normalized_shape": 6}),
    "rms_norm": (((1, 6), (6,)), {"normalized_shape": 6}),
    "dropout": (((1, 6),), {}),
}


class Answer(NamedTuple):
    """Whether a checker objects, or None if it could not be asked; the forwards and the seconds it took."""

    objects: bool | None
    forwards: int
    seconds: float


class Tally(NamedTuple):
    """What a checker did at one exhibit or right layer: at the ordinary call, and at the drawn cases."""

    ordinary: bool | None
    drawn: bool
    answers: Sequence[Answer]


Checker = Callable[[Layer, Implementation, Case, int], bool]


def available() -> dict[str, Checker]:
    """The checkers by name, of the libraries that are installed."""
    found: dict[str, Checker] = {"gradcert": _gradcert}
    for library, checkers in _BY_LIBRARY.items():
        if library == "numeric" or importlib.util.find_spec(library) is not None:
            found.update(checkers)
    return found


def of(names: Sequence[str]) -> dict[str, Checker]:
    """The checkers of these libraries, and gradcert. Raises ModuleNotFoundError if one is not installed."""
    missing = [name for name in names if name != "numeric" and importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"not installed: {', '.join(missing)}", name=missing[0])
    return {"gradcert": _gradcert, **{key: value for name in names for key, value in _BY_LIBRARY[name].items()}}


def ordinary(layer: Layer, seed: int) -> Case:
    """Return an ordinary call: normal numbers in float64, batch 1, square, default options. A batch norm needs two."""
    generator = np.random.default_rng(seed)
    if layer.name == "softmax_cross_entropy":
        return layer.complete((generator.normal(size=(1, 5)), generator.integers(0, 5, 1)), {})
    if layer.name == "mse_loss":
        return layer.complete(tuple(generator.normal(size=(1, 5)) for _ in range(2)), {})
    if layer.name == "dropout":
        return layer.complete((generator.normal(size=(1, 6)), generator.random((1, 6)) < 1 / 2), {})
    shapes, options = _ORDINARY.get(layer.name, ((_IMAGES,), {}))
    return layer.complete(tuple(generator.normal(size=shape) for shape in shapes), options)


def untied(layer: Layer, case: Case, seed: int) -> Case:
    """Return the case in float64, with normal numbers in the arrays that have a gradient."""
    generator, positions = np.random.default_rng(seed), layer.with_gradient(len(case.arrays))

    def other(k: int, array: Any) -> Any:
        if array is None or array.dtype.kind != "f":
            return array
        return np.asarray(generator.normal(size=array.shape) if k in positions else array, np.float64)

    return layer.complete(tuple(other(k, array) for k, array in enumerate(case.arrays)), case.options)


def ask(checker: Checker, layer: Layer, version: Implementation, case: Case, seed: int) -> Answer:
    """Ask a checker about a version at a case. Where it raises, as for empty arrays, it gives no answer."""
    forwards = 0

    def forward(*arrays: Any, **options: Any) -> Any:
        nonlocal forwards
        forwards += 1
        return version.forward(*arrays, **options)

    vars(forward)["__signature__"] = vars(version.forward).get("__signature__")
    started = time.perf_counter()
    objects: bool | None
    try:
        with np.errstate(all="ignore"):
            objects = not checker(layer, version._replace(forward=forward), case, seed)
    except Exception:  # of libraries that cannot be known: empty arrays, broken shapes, a backward that raises
        objects = None
    return Answer(objects, forwards, time.perf_counter() - started)


def tally(
    checker: Checker, layer: Layer, wrong: Implementation, right: Implementation, cases: Sequence[Case], seed: int
) -> Tally:
    """Ask a checker about a bug: at the ordinary call, and at drawn cases until it is seen there."""
    answers: list[Answer] = []

    def seen(case: Case, number: int) -> bool:
        """Whether the checker objects or raises, where it accepts the right layer."""
        answers.append(ask(checker, layer, wrong, case, number))
        return answers[-1].objects is not False and ask(checker, layer, right, case, number).objects is False

    first = seen(ordinary(layer, seed), seed)
    return Tally(first, any(seen(case, seed + number) for number, case in enumerate(cases)), answers)


def alarms(checker: Checker, layer: Layer, right: Implementation, cases: Sequence[Case], seed: int) -> list[Answer]:
    """Ask a checker about a right layer: the ordinary call first, then every drawn case."""
    calls = (ordinary(layer, seed), *cases)
    return [ask(checker, layer, right, case, seed + number) for number, case in enumerate(calls)]


def _gradcert(layer: Layer, version: Implementation, case: Case, seed: int) -> bool:
    with arrays_not_at_hand():
        found = gradcheck(version.forward, version.backward, *case, seed=seed, raise_on_failure=False)
    return found.verdict != FAIL


def _differentiable(layer: Layer, case: Case) -> list[int]:
    positions = layer.with_gradient(len(case.arrays))
    return [k for k in positions if case.arrays[k] is not None and is_floating(case.arrays[k])]


def _by_position(layer: Layer, case: Case, gradients: Sequence[Any]) -> dict[int, Any]:
    return dict(zip(layer.with_gradient(len(case.arrays)), gradients, strict=True))


def _torch(fast: bool) -> Checker:
    def check(layer: Layer, version: Implementation, case: Case, seed: int) -> bool:
        import torch

        positions = _differentiable(layer, case)

        class Wrapped(torch.autograd.Function):  # type: ignore[misc]
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                y, ctx.cache = version.forward(*_filled(case, positions, [t.numpy() for t in tensors]), **case.options)
                return torch.from_numpy(np.asarray(y))

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                by = _by_position(layer, case, version.backward(dy.numpy(), ctx.cache))
                return tuple(torch.from_numpy(np.asarray(by[k])) for k in positions)

        torch.manual_seed(seed)
        given = [torch.tensor(case.arrays[k], dtype=torch.float64, requires_grad=True) for k in positions]
        return bool(torch.autograd.gradcheck(Wrapped.apply, given, fast_mode=fast, raise_exception=False))

    return check


def _jax(layer: Layer, version: Implementation, case: Case, seed: int) -> bool:
    import jax
    from jax.test_util import check_grads

    positions = _differentiable(layer, case)
    arrays = [np.asarray(case.arrays[k], np.float64) for k in positions]
    y, _ = version.forward(*_filled(case, positions, arrays), **case.options)
    out = jax.ShapeDtypeStruct(np.shape(y), np.float64)

    def on_host(*given: Any) -> Any:
        return np.asarray(version.forward(*_filled(case, positions, given), **case.options)[0])

    def gradients_on_host(dy: Any, *given: Any) -> Any:
        _, cache = version.forward(*_filled(case, positions, given), **case.options)
        by = _by_position(layer, case, version.backward(np.asarray(dy), cache))
        return tuple(np.asarray(by[k]) for k in positions)

    with jax.enable_x64(True):

        @jax.custom_vjp  # type: ignore[untyped-decorator]
        def wrapped(*given: Any) -> Any:
            return jax.pure_callback(on_host, out, *given)

        def backward(given: Any, dy: Any) -> Any:
            shapes = tuple(jax.ShapeDtypeStruct(a.shape, np.float64) for a in given)
            return jax.pure_callback(gradients_on_host, shapes, dy, *given)

        wrapped.defvjp(lambda *given: (wrapped(*given), given), backward)
        try:
            check_grads(wrapped, tuple(jax.numpy.asarray(a) for a in arrays), order=1, modes=("rev",))
        except AssertionError:
            return False
    return True


def _autograd(layer: Layer, version: Implementation, case: Case, seed: int) -> bool:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    positions = _differentiable(layer, case)
    caches: dict[int, Any] = {}

    def forward(*given: Any) -> Any:
        y, cache = version.forward(*_filled(case, positions, given), **case.options)
        y = np.asarray(y)
        caches[id(y)] = (y, cache)
        return y

    wrapped = primitive(forward)

    def gradient(k: int) -> Callable[..., Any]:
        def maker(y: Any, *given: Any) -> Callable[[Any], Any]:
            return lambda dy: _by_position(layer, case, version.backward(np.asarray(dy), caches[id(y)][1]))[k]

        return maker

    defvjp(wrapped, *(gradient(k) for k in positions))
    np.random.seed(seed)  # noqa: NPY002 - autograd draws from NumPy's global generator
    arrays = [np.asarray(case.arrays[k], np.float64) for k in positions]
    try:
        check_grads(wrapped, tuple(range(len(arrays))), modes=["rev"], order=1)(*arrays)
    except AssertionError:
        return False
    return True


def _numeric(layer: Layer, version: Implementation, case: Case, seed: int) -> bool:
    y, cache = version.forward(*case.arrays, **case.options)
    dy = np.asarray(np.random.default_rng(seed).normal(size=y.shape))
    by = _by_position(layer, case, version.backward(dy, cache))
    for k in _differentiable(layer, case):
        slopes, claimed = np.zeros(np.shape(np.asarray(case.arrays[k]))), np.asarray(by[k])
        for place in np.ndindex(*slopes.shape):
            one, other = (_moved(version, case, k, place, step) for step in (_NUMERIC_STEP, -_NUMERIC_STEP))
            slopes[place] = ((one - other) * dy).sum() / (2 * _NUMERIC_STEP)
        if claimed.shape != slopes.shape:
            return False
        off = np.abs(claimed - slopes) / np.maximum(1e-8, np.abs(claimed) + np.abs(slopes))
        if not (off <= _NUMERIC_MOST).all():
            return False
    return True


def _moved(version: Implementation, case: Case, k: int, place: tuple[int, ...], step: float) -> Array:
    moved = np.array(case.arrays[k])
    moved[place] += step
    arrays = (moved if j == k else a for j, a in enumerate(case.arrays))
    return np.asarray(version.forward(*arrays, **case.options)[0])


def _filled(case: Case, positions: Sequence[int], given: Sequence[Any]) -> Iterator[Any]:
    by = dict(zip(positions, given, strict=True))
    return (np.asarray(by[k]) if k in by else a for k, a in enumerate(case.arrays))


_BY_LIBRARY: dict[str, dict[str, Checker]] = {
    "torch": {"torch": _torch(fast=False), "torch fast": _torch(fast=True)},
    "jax": {"jax": _jax},
    "autograd": {"autograd": _autograd},
    "numeric": {"numeric": _numeric},
}
LIBRARIES = tuple(_BY_LIBRARY)
