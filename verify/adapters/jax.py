"""Layers in JAX: functions of arrays and of pytrees of arrays, with or without a custom_vjp.

The gradient is that of jax.vjp, so a custom_vjp is checked as training uses it.

- float64: JAX without x64 silently converts float64 to float32. This adapter checks float64 arrays in float64.
  A call with a 64-bit array runs under jax.enable_x64. The global setting jax_enable_x64 does not change.
- float32: if x64 is off, a JAX array can only be float32, so it is checked in float64. To check in float32, give
  NumPy arrays of float32.
- Several results: all floating arrays of a returned pytree are checked, as one vector. If a result is complex, both
  parts are checked.
- Speed: if JAX compiles a function at each call, as it does for lax.scan, pass jax.jit(function).
- None: JAX reads None from the backward of a custom_vjp as a gradient of zero.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from verify.adapters._pair import Forward, Input, Pair, check, check_inputs, positional
from verify.checker.arguments import argument_names
from verify.checker.certificate import Certificate
from verify.checker.layer import ContractError
from verify.checker.point import Array


class _Tape(NamedTuple):
    """The cache of a forward: the vjp, whether it has 64 bits, and the position of each gradient in its result."""

    vjp: Callable[[Any], Sequence[Any]]
    x64: bool
    order: tuple[int | None, ...]


class _Static(NamedTuple):
    """An argument that JAX must not look into."""

    value: Any


def gradcheck(
    target: Callable[..., Any],
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    nondiff_argnums: Sequence[int] | None = None,
    **settings: Any,
) -> Certificate:
    """Check a function at these inputs: arrays, pytrees of arrays, None and constants.

    The entry params["w"] of a pytree is named params.w. Arguments at the positions `nondiff_argnums` are passed
    unchanged. By default these are the positions of a custom_vjp. The settings are those of `verify.gradcheck`,
    and `wrt` also takes names.
    """
    __tracebackhide__ = True
    _check_callable(target)
    check_inputs(inputs)
    if nondiff_argnums is None:  # positions beyond the inputs keep their defaults
        nondiff_argnums = [k for k in getattr(target, "nondiff_argnums", ()) if k < len(inputs)]
    beyond = [k for k in nondiff_argnums if not 0 <= k < len(inputs)]
    if beyond:
        raise ValueError(f"nondiff_argnums has {beyond[0]}, which is not a position in {len(inputs)} inputs")
    opaque = [_Static(each) if k in nondiff_argnums else each for k, each in enumerate(inputs)]
    paths, tree = jax.tree_util.tree_flatten_with_path(opaque, is_leaf=_is_leaf)
    names = argument_names(target, len(inputs))
    leaves = [_as_numpy(leaf) for _, leaf in paths]

    def flat(*arguments: Any, **options: Any) -> Any:
        given = jax.tree_util.tree_unflatten(tree, arguments)
        return target(*(each.value if isinstance(each, _Static) else each for each in given), **options)

    arguments = tuple(Input(_name(names, path)) for path, _ in paths)
    itself = all(each is given for (_, each), given in zip(paths, inputs, strict=False)) and len(paths) == len(inputs)
    return check(_pair(flat, arguments, target, reproducible=itself), leaves, options, **settings)


def pair(target: Callable[..., Any]) -> Pair:
    """Return the pair (forward, backward) of a function of arrays. Only `gradcheck` takes pytrees and constants."""
    _check_callable(target)
    return _pair(target, positional(target), target, reproducible=True)


def _check_callable(target: Any) -> None:
    if not callable(target) or inspect.isclass(target):
        raise TypeError(f"{target!r} is not a function of arrays")


def _pair(function: Callable[..., Any], inputs: tuple[Input, ...], layer: Any, *, reproducible: bool) -> Pair:
    def forward(*arrays: Any, **options: Any) -> tuple[Array, _Tape]:
        x64 = any(isinstance(each, np.ndarray) and each.dtype in (np.float64, np.complex128) for each in arrays)
        with jax.enable_x64(x64 or jax.config.jax_enable_x64):
            given = [jnp.array(each) if isinstance(each, np.ndarray) else each for each in arrays]
            floating = [k for k, each in enumerate(given) if _is_floating(each)]

            def of_floating(*tensors: Any) -> Any:
                filled = list(given)
                for k, tensor in zip(floating, tensors, strict=True):
                    filled[k] = tensor
                return _whole(
                    function(*filled, **options),
                    real=any(_is_floating(each) and not _is_complex(each) for each in filled),
                )

            y, vjp = jax.vjp(of_floating, *(given[k] for k in floating))
            order = tuple(
                None if given[k] is None else floating.index(k) for k in range(len(given)) if _counts(given[k])
            )
        return np.array(y), _Tape(vjp, x64, order)

    made = "adapters.jax.pair(layer)" if reproducible else ""
    return Pair(Forward(forward, inputs, made=made, layer=layer), _backward)


def _backward(dy: Array, tape: _Tape) -> tuple[Array | None, ...]:
    with jax.enable_x64(tape.x64 or jax.config.jax_enable_x64):
        try:
            gradients = tape.vjp(jnp.array(dy))
        except (TypeError, ValueError) as error:
            fault = _fault(error)
            if fault is None:
                raise
            raise fault from error
    return tuple(None if place is None else np.array(gradients[place]) for place in tape.order)


def _fault(error: Exception) -> ContractError | None:
    """Return JAX's error about the gradients of a custom_vjp as a fault of the layer, or None for another error."""
    if "bwd rule must produce" not in str(error):
        return None
    code = "gradient-count" if "pytree" in str(error) else "wrong-shape"
    return ContractError(code, None, None, str(error))


def _whole(result: Any, *, real: bool) -> Any:
    """Return the only floating array of a result, or all of them as one vector.

    If `real`, a complex array is replaced by its real and imaginary parts.
    """
    leaves = jax.tree_util.tree_leaves(result)
    arrays = [jnp.asarray(each) for each in leaves if _is_floating(each)]
    if real:
        arrays = [jnp.stack([each.real, each.imag], axis=-1) if _is_complex(each) else each for each in arrays]
    if not arrays:
        dtypes = ", ".join(str(getattr(each, "dtype", type(each).__name__)) for each in leaves) or "nothing"
        raise TypeError(f"forward must return a floating array, or several, got {dtypes}")
    return arrays[0] if len(arrays) == 1 else jnp.concatenate([each.reshape(-1) for each in arrays])


def _is_floating(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.inexact))


def _is_complex(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.complexfloating))


def _counts(value: Any) -> bool:
    """Return whether backward has an entry for this value: a gradient, or None for an array that is not given."""
    return value is None or _is_floating(value)


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
