"""How people spell the gradient of a parameter, and where they keep it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from verify.adapters._places import Path, Step

# What stands before or after the name of a parameter in the name of its gradient. "dldw" is dL/dW.
_GRADIENT = ("grad", "grads", "gradient", "gradients", "delta", "deltas", "derivative", "derivatives", "deriv")
_BEFORE = ("d", "g", "dld", "dlossd", "djd", "ded", "dcostd", "nabla", "partial", "gradof", "gradientof", *_GRADIENT)
_AFTER = ("g", "d", "dot", *_GRADIENT)
# One parameter under two names: `weights` with `dW`.
_SYNONYMS = (
    {"w", "weight", "kernel", "filter", "matrix"},
    {"b", "bias", "biase"},
    {"gamma", "scale"},
    {"beta", "shift"},
)
# {"val": W, "grad": dW}, and objects with such attributes.
_PLAIN_VALUES = {"val", "value", "values", "data", "param", "parameter", "array"}
_VALUES = {"w", "weight", "weights", "x", "p", "theta", "v", *_PLAIN_VALUES}
_SLOPES = {"d", "g", "dval", "dvalue", "ddata", "dw", *_GRADIENT}
# Attributes with the gradients of all parameters.
_CONTAINERS = {"dparams", "dparam", "dparameters", "paramgrads", "paramsgrad", "paramgradients", "gradparams"}
_CONTAINERS |= {"dtheta", "dweights", "derivs", *_GRADIENT}
PARAMETERS = {"params", "parameters", "param", "weights", "theta", "parameter", "trainable"}
# A second required argument of a backward that updates.
_RATES = {"learningrate", "learnrate", "lr", "alpha", "eta", "step", "stepsize", "rate", "lrate", "learning"}

_TARGETS = {"t", "y", "gt", "actual", "expected", "desired", "onehot", "gold"}


@functools.lru_cache(maxsize=4096)
def canonical(name: Any) -> str:
    """Return the name in lower case, without underscores and without the prefix of a private name."""
    return re.sub(r"[\W_]", "", re.sub(r"^_[A-Za-z0-9]+__", "", str(name))).lower()


def is_rate(name: str) -> bool:
    """Return whether an argument of this name is a learning rate."""
    return canonical(name) in _RATES


def is_upstream(name: str) -> bool:
    """Return whether an argument of this name is an upstream gradient: dc, grad_c, delta."""
    short = canonical(name)
    gradient = short.startswith("d") and not short.startswith(("data", "dim", "dict", "dtype", "drop", "dilation"))
    return (
        gradient
        or (short[:1] == "g" and len(short) < 4)
        or any(each in short for each in ("grad", "delta", "upstream", "cotangent"))
    )


def is_target(name: str) -> bool:
    """Return whether an argument of this name is what a loss compares with: y_true, targets, labels. It is fixed."""
    short = canonical(name)
    return short in _TARGETS or any(each in short for each in ("true", "truth", "target", "label"))


def is_gradient_of(gradient: Any, name: Any) -> bool:
    """Return whether the first is a usual spelling of the gradient of the second: dW, W_grad, weights_gradient."""
    return any(_spelled(canonical(gradient), each) for each in _numbers(canonical(name)))


def is_gradient_of_synonym(gradient: Any, name: Any) -> bool:
    """Return whether the first is the gradient of another name of the second: dW of weights."""
    roots = {each for group in _SYNONYMS if _numbers(canonical(name)) & group for each in group}
    return any(_spelled(canonical(gradient), number) for each in roots for number in _numbers(each))


def _spelled(gradient: str, name: str) -> bool:
    if not name or gradient == name:
        return False
    before = gradient.endswith(name) and gradient.removesuffix(name) in _BEFORE
    return before or (gradient.startswith(name) and gradient.removeprefix(name) in _AFTER)


def _numbers(name: str) -> set[str]:
    """The name, singular and plural."""
    forms = {name, f"{name}s"}
    if len(name) > 2:
        forms |= {name.removesuffix("s"), name.removesuffix("es"), f"{name}es"}
    return forms


@functools.lru_cache(maxsize=4096)
def likeness(parameter: Path, gradient: Path) -> int | None:
    """Return how well a place fits as that of a parameter's gradient, 0 best, or None if it does not."""
    if parameter == gradient or not gradient:
        return None
    return min(_fits(parameter, gradient), default=None)


def _fits(parameter: Path, gradient: Path) -> Iterator[int]:
    for k, step in enumerate(parameter):
        if _keys(parameter[:k]) != _keys(gradient[:k]) or len(gradient) <= k:
            return
        other, rest, others = gradient[k], parameter[k + 1 :], gradient[k + 1 :]
        if other.key == step.key:
            continue
        if not rest and not others:  # W and dW side by side
            if is_gradient_of(other.key, step.key):
                yield 0
            elif canonical(step.key) in _VALUES and canonical(other.key) in _SLOPES:
                yield 1
            elif is_gradient_of_synonym(other.key, step.key):
                yield 4
        named = is_gradient_of(other.key, step.key)
        if named or canonical(other.key) in _CONTAINERS:  # params and grads side by side
            yield from (2 - named + each for each in _same_rest(rest, others))
        if canonical(other.key) in _CONTAINERS and not rest and len(others) == 1:  # W beside grads["W"]
            yield from (2 + each for each in _same_rest((step,), others))


def _same_rest(parameter: Path, gradient: Path) -> Iterator[int]:
    if not parameter or len(parameter) != len(gradient) or _keys(parameter[:-1]) != _keys(gradient[:-1]):
        return
    name, other = parameter[-1].key, gradient[-1].key
    if name == other or canonical(name) == canonical(other) != "":
        yield 0
    elif is_gradient_of(other, name):
        yield 1
    elif is_gradient_of_synonym(other, name):
        yield 4


def _keys(path: tuple[Step, ...]) -> tuple[Any, ...]:
    return tuple(each.key for each in path)


def short_name(path: Path) -> Any:
    """Return the name of a parameter inside a usual container: W of params["W"], of W["val"] and of W.value."""
    keys = [each.key for each in path]
    if len(keys) > 1 and canonical(keys[-1]) in _PLAIN_VALUES and isinstance(keys[-2], str) and path[-1].kind != "cell":
        keys = keys[:-1]
    if len(keys) == 2 and canonical(keys[0]) in PARAMETERS and isinstance(keys[1], str):
        keys = keys[1:]
    return keys[0] if len(keys) == 1 else None
