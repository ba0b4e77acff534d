"""Layers in PyTorch: functions of tensors, modules with their parameters, and autograd.Function.

The gradient is that of autograd, so a torch.autograd.Function is checked as training uses it.

- Several results: all floating tensors of a returned tuple, list or dict are checked, as one vector. To check one of
  them, wrap the function in a lambda that picks it. If a result is complex, both parts are checked.
- Inputs without a connection to the result: autograd has no gradient for them. The adapter returns zero.
- None: if the backward of a Function returns None for a connected input, that is a fault.
- Writes to an input: a write that autograd does not see (no in-place operation, no mark_dirty) is a fault.
- Dtypes: tensors are checked in their own dtype. float64 leaves the most room for exact arithmetic.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from verify.adapters._pair import Forward, Input, Pair, check, check_inputs, made_of, positional
from verify.checker.certificate import Certificate
from verify.checker.layer import ContractError
from verify.checker.point import Array
from verify.entry import SECOND

# PyTorch's messages about a Function whose backward returns a wrong number of gradients or wrong shapes.
_WRONG_COUNT = "returned an incorrect number of gradients"
_WRONG_SHAPE = re.compile(r"returned an invalid gradient at index (\d+)")


def gradcheck(
    target: Any,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    wrt: Sequence[int | str] | None = None,
    **settings: Any,
) -> Certificate:
    """Check a function, a module or an autograd.Function at these inputs, and at the module's parameters.

    `inputs` are tensors, arrays and None. Anything else is passed unchanged. All parameters are checked. If some
    input tensors require a gradient, only these inputs are checked, as in torch.autograd.gradcheck. Otherwise every
    floating input is checked. `wrt` chooses other arrays, by position or name. `settings` are those of
    `verify.gradcheck`.
    """
    __tracebackhide__ = True
    check_inputs(inputs)
    tensors = {k: each for k, each in enumerate(inputs) if isinstance(each, torch.Tensor)}
    device = next((each.device for each in tensors.values()), "cpu")
    made = pair(target, device=device)
    required = [k for k, each in tensors.items() if each.requires_grad]
    if wrt is None and required:
        wrt = (*required, *range(len(inputs), len(inputs) + len(made.parameters)))
    arrays = [_array(each) if k in tensors else each for k, each in enumerate(inputs)]
    return check(made, arrays, options, wrt=wrt, **settings)


def pair(target: Any, *, device: Any = "cpu") -> Pair:
    """Return the pair (forward, backward) of arrays. The parameters of a module come after its inputs.

    The module itself does not change: its parameters and buffers are not written to. Parameters that do not require
    a gradient are fixed, like buffers. Parameters and buffers get a dtype at least as fine as that of the inputs.
    """
    if inspect.isclass(target) and issubclass(target, torch.nn.Module):
        target = made_of(target)
    parameters: dict[str, Array] = {}
    function_class = _function_class(target)
    if isinstance(target, torch.nn.Module):
        parameters = {name: _array(each) for name, each in target.named_parameters() if each.requires_grad}
        function, inputs = _of_module(target, list(parameters)), positional(target.forward)
    elif function_class is not None:
        function, inputs = _of_function_class(function_class)
    elif callable(target) and not inspect.isclass(target):
        function, inputs = target, positional(target)
    else:
        raise TypeError(f"{target!r} is not a function of tensors, an autograd.Function or an instance of nn.Module")

    def forward(*arrays: Any, **options: Any) -> tuple[Array, _Tape]:
        tape = _Tape.record(function, arrays, options, device)
        return _array(tape.y), tape

    def backward(dy: Array, tape: _Tape) -> tuple[Array | None, ...]:
        try:
            return _backward(dy, tape)
        except RuntimeError as error:
            fault = _fault(error, inputs if function_class is not None else ())
            if fault is None:
                raise
            raise fault from error

    made = "adapters.torch.pair(layer)" if str(device) == "cpu" else ""
    return Pair(Forward(forward, inputs, parameters, made, target), backward)


def __getattr__(name: str) -> Any:
    if name == "gradgradcheck":
        raise AttributeError(f"there is no {name}: for second derivatives {SECOND}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Tape(NamedTuple):
    """The cache of a forward: the arrays, their tensors as leaves and as passed to the function, and the result."""

    arrays: tuple[Any, ...]
    leaves: tuple[Any, ...]
    given: tuple[Any, ...]
    y: Any

    @classmethod
    def record(
        cls, function: Callable[..., Any], arrays: tuple[Any, ...], options: Mapping[str, Any], device: Any
    ) -> _Tape:
        """Call the function on copies of the arrays, as tensors, and return the tape."""
        with torch.enable_grad():
            leaves = tuple(_tensor(each, device) if isinstance(each, np.ndarray) else each for each in arrays)
            # Copies of the leaves, because autograd forbids in-place operations on a leaf.
            given = tuple(each.clone() if isinstance(each, torch.Tensor) else each for each in leaves)
            nodes = [getattr(each, "grad_fn", None) for each in given]
            y = _whole(
                function(*given, **options),
                real=any(
                    _is_floating(each) and not each.is_complex() for each in given if isinstance(each, torch.Tensor)
                ),
            )
        # A tensor with a declared in-place write has a new node now.
        declared = [getattr(each, "grad_fn", None) is not node for each, node in zip(given, nodes, strict=True)]
        kept = tuple(None if known else each for each, known in zip(given, declared, strict=True))
        tape = cls(arrays, leaves, kept, y)
        tape.write_back()
        return tape

    def write_back(self) -> None:
        """Copy undeclared writes from the tensors to their arrays, so that the checker finds them."""
        for array, tensor in zip(self.arrays, self.given, strict=True):
            if isinstance(tensor, torch.Tensor):
                _write_back(array, tensor)

    def connected(self) -> set[int]:
        """Return the identities of the leaves to which autograd connects y."""
        seen, open_ = set(), [self.y.grad_fn]
        found: set[int] = set()
        while open_:
            node = open_.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            found.add(id(getattr(node, "variable", None)))
            open_ += [following for following, _ in node.next_functions]
        return found


def _backward(dy: Array, tape: _Tape) -> tuple[Array | None, ...]:
    wanted = [each for each in tape.leaves if isinstance(each, torch.Tensor) and each.requires_grad]
    gradients: list[Any] = [None] * len(wanted)
    if tape.y.requires_grad and wanted:
        upstream = _tensor(dy, tape.y.device).detach()
        gradients = list(torch.autograd.grad(tape.y, wanted, upstream, retain_graph=True, allow_unused=True))
        _write_back(dy, upstream)
        tape.write_back()
    if any(each is None for each in gradients):
        connected = tape.connected()
        gradients = [
            torch.zeros_like(leaf) if gradient is None and id(leaf) not in connected else gradient
            for leaf, gradient in zip(wanted, gradients, strict=True)
        ]
    by_leaf = {id(leaf): gradient for leaf, gradient in zip(wanted, gradients, strict=True)}
    places = [leaf for leaf in tape.leaves if leaf is None or id(leaf) in by_leaf]
    return tuple(None if by_leaf.get(id(leaf)) is None else _array(by_leaf[id(leaf)]) for leaf in places)


def _fault(error: RuntimeError, inputs: tuple[Input, ...]) -> ContractError | None:
    """Return PyTorch's error about the gradients of a Function as a fault of the layer, or None for another error.

    The fault names the argument if its name is known.
    """
    if _WRONG_COUNT in str(error):
        return ContractError("gradient-count", None, None, str(error))
    invalid = _WRONG_SHAPE.search(str(error))
    if invalid is None:
        return None
    index = int(invalid[1])
    name = inputs[index].name if index < len(inputs) else None
    return ContractError("wrong-shape", None, name, f"d{name}: {error}" if name else str(error))


def _function_class(target: Any) -> Any:
    """Return the autograd.Function if the target is one, or the `apply` of one, else None."""
    owner = getattr(target, "__self__", None) if getattr(target, "__name__", None) == "apply" else target
    return owner if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function) else None


def _of_function_class(function: Any) -> tuple[Callable[..., Any], tuple[Input, ...]]:
    """Return `apply` as a function that takes keywords, and the arguments of forward without ctx."""
    parameters = list(inspect.signature(function.forward).parameters.values())
    if function.setup_context is torch.autograd.Function.setup_context:
        parameters = parameters[1:]
    signature = inspect.Signature(parameters)

    def applied(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        return function.apply(*bound.args, **bound.kwargs)

    return applied, positional(signature)


def _of_module(module: Any, names: list[str]) -> Callable[..., Any]:
    """Return the module as a function of its inputs and of the named parameters."""

    def function(*arguments: Any, **options: Any) -> Any:
        split = len(arguments) - len(names)
        inputs, state = arguments[:split], dict(zip(names, arguments[split:], strict=True))
        finest = [each.dtype.to_real() for each in arguments if isinstance(each, torch.Tensor) and _is_floating(each)]
        for name, fixed in (*module.named_parameters(), *module.named_buffers()):
            if name not in state:
                copy = fixed.detach().clone()
                for dtype in finest if copy.is_floating_point() else []:
                    copy = copy.to(torch.promote_types(copy.dtype, dtype))
                state[name] = copy
        return torch.func.functional_call(module, state, inputs, options)

    return function


def _whole(result: Any, *, real: bool) -> Any:
    """Return the only floating tensor of a result, or all of them as one vector.

    If `real`, a complex tensor is replaced by its real and imaginary parts.
    """
    tensors = [each for each in _flat(result) if _is_floating(each)]
    if real:
        tensors = [torch.stack([each.real, each.imag], dim=-1) if each.is_complex() else each for each in tensors]
    if not tensors:
        dtypes = ", ".join(str(each.dtype) for each in _flat(result)) or type(result).__name__
        raise TypeError(f"forward must return a floating tensor, or several, got {dtypes}")
    return tensors[0] if len(tensors) == 1 else torch.cat([each.reshape(-1) for each in tensors])


def _flat(result: Any) -> Iterator[Any]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, (tuple, list)):
        for each in result:
            yield from _flat(each)
    elif isinstance(result, Mapping):
        yield from _flat(list(result.values()))


def _tensor(array: Array, device: Any) -> Any:
    """Return a copy as a tensor, in the layout of the array if PyTorch supports it."""
    tensor = torch.from_numpy(np.array(array, order="K")).to(device)
    return tensor.requires_grad_(_is_floating(tensor))


def _array(tensor: Any) -> Array:
    if tensor.layout != torch.strided:
        text = "take its values, make the sparse tensor of them inside the function, and return values"
        raise TypeError(f"a sparse tensor ({tensor.layout}) is no array: {text} (docs/recipes.md)")
    if tensor.dtype == torch.bfloat16:
        raise TypeError("NumPy has no bfloat16: check the layer in float32 or float64")
    return np.array(tensor.numpy(force=True))


def _write_back(array: Array, tensor: Any) -> None:
    now = tensor.numpy(force=True)
    if not np.array_equal(now, array, equal_nan=now.dtype.kind in "fc"):
        array[...] = now


def _is_floating(tensor: Any) -> bool:
    return bool(tensor.is_floating_point() or tensor.is_complex())
