"""Layers in JAX: functions of arrays and of pytrees of arrays, with or without a custom_vjp.

The gradient is that of jax.vjp, so a custom_vjp is checked as training uses it.

- float64: JAX without x64 silently converts float64 to float32. This adapter checks float64 arrays in float64.
  A call with a 64-bit array runs under jax.enable_x64. The global setting jax_enable_x64 does not change.
- float32: if x64 is off, a JAX array can only be float32, so it is checked in float64. To check in float32, give
  NumPy arrays of float32.
- Several results: all floating arrays of a returned pytree are checked, together as one vector and each alone. If a
  result is complex, both parts are checked. Integer results have no gradient, and the certificate says so.
- Speed: calls are compiled by jax.jit. Functions that it cannot trace are called as they are. So are functions that
  differ between two calls, because a compiled one is random no more.
- None: JAX reads None from the backward of a custom_vjp as a gradient of zero.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from verify.adapters._jax_call import Caller, Results, Tape, is_floating
from verify.adapters._pair import Forward, Input, Pair, check_inputs, positional
from verify.adapters._results import Answer, agree, asked, one_by_one
from verify.adapters._tree import positions
from verify.checker.arguments import argument_names
from verify.checker.certificate import Certificate, Uncovered
from verify.checker.layer import ContractError
from verify.checker.point import Array


class _Static(NamedTuple):
    """An argument that JAX must not look into."""

    value: Any


def gradcheck(
    target: Callable[..., Any],
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    nondiff_argnums: Sequence[int] | None = None,
    wrt: Sequence[int | str] | None = None,
    raise_on_failure: bool = True,
    **settings: Any,
) -> Certificate:
    """Check a function at these inputs: arrays, pytrees of arrays, None and constants.

    The entry params["w"] of a pytree is named params.w. Arguments at the positions `nondiff_argnums` are passed
    unchanged. By default these are the positions of a custom_vjp. `wrt` chooses arrays by the position or name of their
    argument, or by their own name. The settings are those of `verify.gradcheck`.
    """
    __tracebackhide__ = True
    _check_callable(target)
    check_inputs(inputs)
    static = _static_positions(target, nondiff_argnums, len(inputs))
    opaque = [_Static(each) if k in static else each for k, each in enumerate(inputs)]
    paths, tree = jax.tree_util.tree_flatten_with_path(opaque, is_leaf=_is_leaf)
    arguments = argument_names(target, len(inputs))
    names = [_name(arguments, path) for path, _ in paths]
    values = [_as_numpy(leaf) for _, leaf in paths]
    owners = [path[0].idx for path, _ in paths]
    chosen = None if wrt is None else positions(wrt, names, owners, arguments)

    def flat(*given: Any, **options: Any) -> Any:
        whole = jax.tree_util.tree_unflatten(tree, given)
        return target(*(each.value if isinstance(each, _Static) else each for each in whole), **options)

    itself = all(each is given for (_, each), given in zip(paths, inputs, strict=False)) and len(paths) == len(inputs)
    fixed = tuple(
        Uncovered(arguments[k], "fixed: one of nondiff_argnums")
        for k in static
        if any(map(is_floating, jax.tree_util.tree_leaves(inputs[k])))
    )

    def made(result: int | None) -> tuple[Pair, Results]:
        return _pair(flat, tuple(map(Input, names)), target, result, fixed, reproducible=itself)

    whole, results = made(None)
    pairs: dict[int | None, Pair] = {None: whole}

    def ask(result: int | None, seed: int | None) -> Answer:
        known = settings if seed is None else {**settings, "seed": seed}
        return asked(pairs.setdefault(result, made(result)[0]), values, options, chosen, known)

    def agrees(result: int) -> bool:
        alone = pairs.setdefault(result, made(result)[0])
        return agree(whole, alone, values, options or {}, results.names, result)

    return one_by_one(ask, results.names, agrees).delivered(whole.forward, raise_on_failure=raise_on_failure)


def pair(target: Callable[..., Any], *, result: int | None = None) -> Pair:
    """Return the pair (forward, backward) of a function of arrays. Only `gradcheck` takes pytrees and constants.

    `result` is the number of the only result to take.
    """
    _check_callable(target)
    return _pair(target, positional(target), target, result)[0]


def _check_callable(target: Any) -> None:
    if not callable(target) or inspect.isclass(target):
        raise TypeError(f"{target!r} is not a function of arrays")


def _static_positions(target: Any, nondiff_argnums: Sequence[int] | None, count: int) -> list[int]:
    """Return the positions of arguments that are passed unchanged. ValueError if one is beyond the inputs."""
    if nondiff_argnums is None:  # positions beyond the inputs keep their defaults
        return [k for k in getattr(target, "nondiff_argnums", ()) if k < count]
    beyond = [k for k in nondiff_argnums if not 0 <= k < count]
    if beyond:
        raise ValueError(f"nondiff_argnums has {beyond[0]}, which is not a position in {count} inputs")
    return list(nondiff_argnums)


def _pair(
    function: Callable[..., Any],
    inputs: tuple[Input, ...],
    layer: Any,
    result: int | None,
    fixed: tuple[Uncovered, ...] = (),
    *,
    reproducible: bool = True,
) -> tuple[Pair, Results]:
    results = Results(result)
    caller = Caller(function, results)

    def forward(*arrays: Any, **options: Any) -> tuple[Array, Tape]:
        return caller.record(arrays, options)

    def uncovered() -> tuple[Uncovered, ...]:
        return (*fixed, *results.uncovered)

    only = "" if result is None else f", result={result}"
    made = f"adapters.jax.pair(layer{only})" if reproducible else ""
    return Pair(Forward(forward, inputs, made=made, layer=layer, uncovered=uncovered), _backward), results


def _backward(dy: Array, tape: Tape) -> tuple[Array | None, ...]:
    try:
        return tape.gradients(dy)
    except (TypeError, ValueError) as error:
        fault = _fault(error)
        if fault is None:
            raise
        raise fault from error


def _fault(error: Exception) -> ContractError | None:
    """Return JAX's error about the gradients of a custom_vjp as a fault of the layer, or None for another error."""
    if "bwd rule must produce" not in str(error):
        return None
    code = "gradient-count" if "pytree" in str(error) else "wrong-shape"
    return ContractError(code, None, None, str(error))


def _is_leaf(value: Any) -> bool:
    return value is None or isinstance(value, _Static)


def _as_numpy(leaf: Any) -> Any:
    """Return a JAX array as a NumPy array, in float64 if x64 is off. Anything else, such as a key, is unchanged."""
    if not isinstance(leaf, jax.Array) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return leaf
    if leaf.dtype == jnp.bfloat16:
        raise TypeError("NumPy has no bfloat16: check the layer in float32 or float64")
    array = np.array(leaf)
    return array.astype(np.float64) if array.dtype == np.float32 and not jax.config.jax_enable_x64 else array


def _name(names: Sequence[str], path: Sequence[Any]) -> str:
    """Return the argument's name with the path to the leaf: params.w."""
    rest = jax.tree_util.keystr(tuple(path[1:]), simple=True, separator=".")
    return ".".join(filter(None, (names[path[0].idx], rest)))
