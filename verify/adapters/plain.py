"""Layers that take NumPy arrays: classes and instances that store the cache in themselves.

    class Linear:
        def forward(self, x): self.x = x; return x @ self.W + self.b
        def backward(self, dy): self.dW = self.x.T @ dy; self.db = dy.sum(0); return dy @ self.W.T

The checked parameters become arrays after the inputs. They are set on the instance for each forward and each
backward, and restored afterwards. No other state is restored. So the checker finds an instance that accumulates its
gradients, or whose second forward spoils the first backward.

A C function, `void cube(const double *x, double *y, int n)`, needs no adapter. Wrap it in a pair:

    doubles = numpy.ctypeslib.ndpointer(numpy.float64, flags="C_CONTIGUOUS")    # refuses float32 and complex arrays
    library = ctypes.CDLL("./libcube.so")
    library.cube.argtypes = library.cube_gradient.argtypes = [doubles, doubles, ctypes.c_int]

    def forward(x):
        x = numpy.ascontiguousarray(x)
        y = numpy.empty_like(x)
        library.cube(x, y, x.size)
        return y, x

    def backward(dy, x):
        dx = numpy.empty_like(x)
        library.cube_gradient(x, dx, x.size)
        return (dx * dy,)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from verify.adapters._pair import Forward, Pair, check, made_of, positional
from verify.checker.certificate import Certificate
from verify.checker.point import Array

# Names of the attribute with the gradient of W: dW, grad_W, W_grad.
_SPELLINGS = ("d{}", "grad_{}", "{}_grad")


class _Cache(NamedTuple):
    inputs: tuple[Any, ...]
    parameters: tuple[Any, ...]


class _Parameter(NamedTuple):
    """A parameter of an instance, with functions to read and write it and to read its gradient.

    `gradient` is None if backward returns the gradient.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], None]
    gradient: Callable[[], Any] | None


def gradcheck(
    target: Any,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    parameters: Sequence[str] | Mapping[str, str] | None = None,
    fixed: Sequence[str] = (),
    reset: str | None = None,
    **settings: Any,
) -> Certificate:
    """Check a layer at these inputs and at its own parameters.

    `parameters`, `fixed` and `reset` are those of `pair`. The settings are those of `verify.gradcheck`, and `wrt` also
    takes names.
    """
    return check(pair(target, parameters, fixed=fixed, reset=reset), inputs, options, **settings)


def pair(
    target: Any,
    parameters: Sequence[str] | Mapping[str, str] | None = None,
    *,
    fixed: Sequence[str] = (),
    reset: str | None = None,
) -> Pair:
    """Return the pair of an instance, of a class that can be made without arguments, or of an object of functions.

    `forward(*inputs, **options)` returns y. `backward(dy)` returns the gradient of the input, or a tuple with one
    gradient for each input. If backward also takes a cache, both are pure functions and are used unchanged.

    `parameters` has two forms:

    - A dict maps each parameter to the attribute in which backward leaves its gradient: {"W": "dW"}.
    - A sequence has the names of the parameters. Backward returns their gradients, in this order, after those of
      the inputs.

    By default, a floating array W is a parameter if its gradient has an attribute dW, grad_W or W_grad. The attribute
    must exist or appear in the code of the class. If there is none, the parameters are the entries of `params`, with
    gradients in `grads` (dicts or lists).

    `fixed` names arrays of the layer that are no parameters, such as running_mean.

    `reset` names a method to call before each backward, such as zero_grad, for a layer that accumulates on purpose.

    Raises TypeError, quoting the target, for any other target. Raises ValueError for missing parameters.
    """
    if not (callable(getattr(target, "forward", None)) and callable(getattr(target, "backward", None))):
        raise TypeError(f"{target!r} has no functions forward and backward")
    if inspect.isclass(target) and not _is_pure(target):
        target = made_of(target)
    if _is_pure(target):
        return Pair(target.forward, target.backward)
    found = tuple(_named(target, parameters) if parameters is not None else _found(target))
    found = tuple(each for each in found if each.name not in fixed)
    inputs, values = positional(target.forward), {each.name: np.array(each.read()) for each in found}

    def forward(*arrays: Any, **options: Any) -> tuple[Array, _Cache]:
        split = len(arrays) - len(found)
        with _set(found, arrays[split:]):
            y = target.forward(*arrays[:split], **options)
        return y, _Cache(arrays[:split], arrays[split:])

    def backward(dy: Array, cache: _Cache) -> tuple[Any, ...]:
        with _set(found, cache.parameters):
            if reset is not None:
                getattr(target, reset)()
            returned = target.backward(dy)
            gradients = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
            # Copies, because the next backward may write to the same arrays.
            left = tuple(_copy(each.gradient()) for each in found if each.gradient is not None)
        return gradients + left

    made = "adapters.plain.pair(layer)" if parameters is None and not fixed and reset is None else ""
    return Pair(Forward(forward, inputs, values, made, target), backward)


def _is_pure(target: Any) -> bool:
    """Return whether backward takes a cache: it has two required arguments besides self."""
    if inspect.isclass(target):
        kinds = (inspect.getattr_static(target, name) for name in ("forward", "backward"))
        if not all(isinstance(each, (staticmethod, classmethod)) for each in kinds):
            return False
    return sum(each.required for each in positional(target.backward)) >= 2


def _named(instance: Any, parameters: Sequence[str] | Mapping[str, str]) -> Iterator[_Parameter]:
    """Yield the parameters that the caller named."""
    if isinstance(parameters, str):
        raise TypeError(f"parameters must be a sequence of names, or a dict, got {parameters!r}")
    for name in parameters:
        if not _is_floating(getattr(instance, name, None)):
            what = type(getattr(instance, name)).__name__ if hasattr(instance, name) else "no such attribute"
            raise ValueError(f"parameter {name!r} of {type(instance).__name__} must be a floating array, got {what}")
        yield _attribute(instance, name, parameters[name] if isinstance(parameters, Mapping) else None)


def _found(instance: Any) -> Iterator[_Parameter]:
    """Yield the attributes that have a gradient or, if there are none, the entries of `params`."""
    written = _mentioned(type(instance))
    own = [name for name, value in vars(instance).items() if _is_floating(value)]
    pairs = [(name, spelling.format(name)) for name in own for spelling in _SPELLINGS]
    pairs = [(name, gradient) for name, gradient in pairs if hasattr(instance, gradient) or gradient in written]
    if pairs:
        for name, gradient in pairs:
            yield _attribute(instance, name, gradient)
        return
    params = getattr(instance, "params", None)
    if isinstance(params, (dict, list)) and (hasattr(instance, "grads") or "grads" in written):
        for key in params if isinstance(params, dict) else range(len(params)):
            if _is_floating(params[key]):
                yield _entry(instance, key)


def _mentioned(kind: type) -> set[str]:
    """Return the names in the code of a class and of its base classes."""
    functions = (value for each in kind.__mro__ for value in vars(each).values() if hasattr(value, "__code__"))
    return {name for function in functions for name in function.__code__.co_names}


def _attribute(instance: Any, name: str, gradient: str | None) -> _Parameter:
    read = None if gradient is None else lambda: getattr(instance, gradient, None)
    return _Parameter(name, lambda: getattr(instance, name), lambda value: setattr(instance, name, value), read)


def _entry(instance: Any, key: Any) -> _Parameter:
    def gradient() -> Any:
        grads = instance.grads  # read each time, because backward may replace it
        present = key in grads if isinstance(grads, dict) else key < len(grads)
        return grads[key] if present else None

    name = key if isinstance(key, str) else f"params[{key!r}]"
    return _Parameter(
        name, lambda: instance.params[key], lambda value: instance.params.__setitem__(key, value), gradient
    )


@contextmanager
def _set(parameters: Sequence[_Parameter], values: Sequence[Any]) -> Iterator[None]:
    """Give the parameters these values inside the with block."""
    before = [each.read() for each in parameters]
    try:
        for each, value in zip(parameters, values, strict=True):
            each.write(value)
        yield
    finally:
        for each, value in zip(parameters, before, strict=True):
            each.write(value)


def _copy(gradient: Any) -> Any:
    return gradient.copy() if isinstance(gradient, np.ndarray) else gradient


def _is_floating(value: Any) -> bool:
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.inexact)
