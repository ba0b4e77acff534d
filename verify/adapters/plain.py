"""Layers that take NumPy arrays: classes and instances that store the cache in themselves.

    class Linear:
        def forward(self, x): self.x = x; return x @ self.W + self.b
        def backward(self, dy): self.dW = self.x.T @ dy; self.db = dy.sum(0); return dy @ self.W.T

A deep copy of the instance is checked. The instance itself is not called, and stays as it is.

The parameters become arrays after the inputs. All places of the copy that refer to a parameter are set for each call.
They are found by moving arrays. Every floating array that the instance reaches is moved on a copy, and y changes or
not: attributes, dicts, lists, slots, nested layers, closures. An array on which y depends needs a gradient. Usual
names and containers are paired: dW, grad_W, weights_gradient, grads["W"], {"val": W, "grad": dW}. An array without a
gradient makes the check INCONCLUSIVE, and is named.

State that a layer keeps between calls is put back by one rule. Before each call those attributes are restored without
which the same call would give another y, and no others. These are hidden states and weights that backward updates. The
certificate lists them. Nothing else is restored. So the checker finds gradients that accumulate, and a cache that
belongs to another forward.

Other forms of forward and backward:

- Several results, (h, c), with backward(dh, dc): all are checked together, and each alone.
- A second argument that backward requires, such as learning_rate, gets 1.0. `backward_options` gives other values.
- An update inside backward: parameters={"w": "update"} checks what it subtracts from w, over its learning rate.
- backward() without dy: its gradient is for dy = 1, and is multiplied by dy. A y of several entries is summed.
- Gradients in a dict by name, or (dx, [dW, db]).

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

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from verify.adapters._layer import PlainLayer, Spec
from verify.adapters._learning import learn
from verify.adapters._pair import Forward, Pair, check, made_of, positional, refuse_tensors
from verify.adapters._parameters import groups_of
from verify.adapters._places import text
from verify.checker.arguments import shown
from verify.checker.certificate import Certificate
from verify.checker.point import Array


def gradcheck(
    target: Any,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    parameters: Sequence[str] | Mapping[str, str | None] | None = None,
    fixed: Sequence[str] = (),
    reset: str | None = None,
    backward_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Certificate:
    """Check a layer at these inputs and at its own parameters.

    The arguments are those of `pair`, the settings those of `verify.gradcheck`. `wrt` also takes names.
    """
    __tracebackhide__ = True
    made = pair(target, parameters, reset=reset, fixed=fixed, backward_options=backward_options)
    refuse_tensors(made, inputs)
    return check(made, inputs, options, **settings)


def pair(
    target: Any,
    parameters: Sequence[str] | Mapping[str, str | None] | None = None,
    *,
    reset: str | None = None,
    fixed: Sequence[str] = (),
    backward_options: Mapping[str, Any] | None = None,
) -> Pair:
    """Return the pair of an instance, of a class that can be made without arguments, or of an object of functions.

    `forward(*inputs, **options)` returns y. `backward(dy)` returns the gradient of the input, or a tuple with one
    gradient for each input. If backward also takes a cache, forward returns (y, cache). Pure functions of an object
    without floating arrays are used unchanged.

    `parameters` names those that are not found by themselves, in one of two forms. Names may be paths, such as
    "layers[0].W" or 'params["W"]'.

    - A dict maps each parameter to the place in which backward leaves its gradient: {"W": "dW"}. "a.dW + b.dW" is a
      sum, None a gradient that backward returns, and "update" what it subtracts from the parameter.
    - A sequence has the names of the parameters. Backward returns their gradients, in this order, after those of
      the inputs.

    `fixed` names arrays that have no gradient: ("running_mean",). A name of a container means all that is in it.

    `reset` names a method to call before each backward, such as zero_grad, for a layer that accumulates on purpose.
    If it also empties what backward needs, it is called before each forward, and a backward repeats its forward.

    `backward_options` are arguments of backward besides dy: {"learning_rate": 0.0}.

    Raises TypeError, quoting the target, for any other target. Raises ValueError for missing parameters.
    """
    if not (callable(getattr(target, "forward", None)) and callable(getattr(target, "backward", None))):
        instead = "name its methods, verify.adapters.gradcheck(layer, inputs, forward=NAME, backward=NAME)"
        raise TypeError(f"{shown(target)} has no methods forward and backward: {instead}")
    for what, names in (("parameters", parameters), ("fixed", fixed)):
        if isinstance(names, str):
            raise TypeError(
                f"{what} must be a sequence of names{', or a dict' * (what == 'parameters')}, got {names!r}"
            )
    if inspect.isclass(target) and not _is_pure(target):
        target = made_of(target)
    if not (parameters or fixed or reset or backward_options) and _is_pure(target):
        return Pair(target.forward, target.backward)
    if reset is not None and not callable(getattr(target, reset, None)):
        raise ValueError(f"{type(target).__name__} has no method {reset}, named by reset")
    spec = Spec(parameters, tuple(fixed), reset, backward_options)
    return _pair_of(PlainLayer(target, spec))


def _pair_of(layer: PlainLayer, alone: int | None = None) -> Pair:
    """The pair of a layer, or of one of its results alone."""

    def forward(*arrays: Any, **options: Any) -> tuple[Array, Any]:
        if not layer.learnt:
            learn(layer, arrays[: len(arrays) - len(layer.parameters)], options, discover=False)
        y, cache = layer.forward(*arrays, **options)
        return (y if alone is None else layer.form.checked(cache.results)[alone]), cache

    def backward(dy: Array, cache: Any, of: Sequence[str] = ()) -> tuple[Any, ...]:
        if alone is not None:
            parts = layer.form.checked(cache.results)
            zeros = [np.zeros(np.size(each), dy.dtype) for each in parts]
            dy = np.concatenate([*zeros[:alone], np.ravel(dy), *zeros[alone + 1 :]])
        return layer.backward(dy, cache, of)

    def at(inputs: Sequence[Any], options: Mapping[str, Any]) -> Pair:
        other = PlainLayer(layer.target, layer.spec)
        return _pair_of(other) if learn(other, inputs, options, discover=True) else _pair_of(layer)

    values = {each.name: each.value(layer.root) for each in layer.parameters}
    count = layer.results
    made = Forward(
        forward,
        layer.inputs,
        values,
        _made(layer) if alone is None else "",
        layer.target,
        layer.uncovered,
        at=None if layer.learnt else at,
        notes=lambda: dict(layer.remarks),
        ungraded=layer.ungraded,
        of=lambda names: functools.partial(backward, of=tuple(names)),
        instead=layer.instead,
        instance=lambda: layer.root,
        alone=[] if count == 1 or alone is not None else [functools.partial(_pair_of, layer, k) for k in range(count)],
    )
    return Pair(made, backward)


def _made(layer: PlainLayer) -> str:
    """The expression that makes the pair of `layer` again; empty if it needs what its first forward makes."""
    spec = layer.spec
    by_code, names = layer.placed_by_code, {each.name for each in layer.parameters}
    if by_code == {each.name: each.gradient for each in layer.parameters} and spec == Spec():
        return "adapters.plain.pair(layer)"
    known = [path for each in groups_of(layer.target) for path in each.paths]
    if not by_code.keys() <= names or not all(each.paths[0] in known for each in layer.parameters):
        return ""
    given = {text(each.paths[0]): None if each.gradient is None else text(each.gradient) for each in layer.parameters}
    wanted = [f"{given!r}"] if given else []
    wanted += [
        f"{name}={getattr(spec, name)!r}" for name in ("reset", "fixed", "backward_options") if getattr(spec, name)
    ]
    return f"adapters.plain.pair({', '.join(['layer', *wanted])})"


def _is_pure(target: Any) -> bool:
    """Return whether forward and backward are functions with a cache, of an object without floating arrays."""
    required = [each.name for each in positional(target.backward) if each.required]
    if inspect.isclass(target):
        kinds = (inspect.getattr_static(target, name) for name in ("forward", "backward"))
        static = all(isinstance(each, (staticmethod, classmethod)) for each in kinds)
        return static and len(required) >= 2
    if len(required) < 2 or inspect.ismodule(target):
        return len(required) >= 2
    bound = any(getattr(getattr(target, name), "__self__", None) is target for name in ("forward", "backward"))
    return not bound and not groups_of(target)
