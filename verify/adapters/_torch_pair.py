"""The pair of arrays of a function, a module or an autograd.Function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from verify.adapters._pair import Forward, Input, Pair, made_of, positional
from verify.adapters._torch_closure import modules, tensor_names
from verify.adapters._torch_tape import Results, Tape
from verify.adapters._torch_values import array_of, is_floating
from verify.adapters._tree import leaves, mapped
from verify.checker.certificate import Uncovered
from verify.checker.layer import ContractError
from verify.checker.point import Array

# PyTorch's messages about a Function whose backward returns a wrong number of gradients or wrong shapes.
_WRONG_COUNT = "returned an incorrect number of gradients"
_WRONG_SHAPE = re.compile(r"returned an invalid gradient at index (\d+)")


class Target(NamedTuple):
    """A layer as a function of its inputs and then its parameters.

    `fixed` are its parameters and buffers that have no gradient. Its parameters are replaced `within` a run.
    """

    layer: Any
    function: Callable[..., Any]
    inputs: tuple[Input, ...]
    parameters: Mapping[str, Array] = {}
    fixed: tuple[Uncovered, ...] = ()
    within: Callable[[Sequence[Any], Callable[[], Any]], Any] = lambda _, run: run()

    @classmethod
    def of(cls, layer: Any, given: Sequence[Any] = ()) -> Target:
        """Return the target of a function, a module or an autograd.Function. TypeError for anything else.

        The parameters of modules that a function uses, or that are `given` to it, are its own.
        """
        if inspect.isclass(layer) and issubclass(layer, torch.nn.Module):
            layer = made_of(layer)
        function_class = function_class_of(layer)
        if function_class is not None:
            return cls(layer, *_of_function_class(function_class))
        if isinstance(layer, torch.nn.Module):
            return cls._of_modules(layer, layer, positional(layer.forward), {"": layer})
        if callable(layer) and not inspect.isclass(layer):
            made = cls(layer, layer, positional(layer))
            used = modules(layer)
            for name, each in zip(made.names(len(given)), given, strict=True):
                used |= {path: leaf for path, leaf in leaves(each, name) if isinstance(leaf, torch.nn.Module)}
            return cls._of_modules(layer, _Around(layer, used), made.inputs, used) if used else made
        raise TypeError(f"{layer!r} is not a function of tensors, an autograd.Function or an instance of nn.Module")

    @classmethod
    def _of_modules(cls, layer: Any, module: Any, inputs: tuple[Input, ...], used: Mapping[str, Any]) -> Target:
        """Return the target of a module, or of a function that uses modules, with the parameters of these."""
        places = _Around.places(used) if isinstance(module, _Around) else {"": ""}

        def named(listed: str) -> list[tuple[str, str, Any]]:
            """The names for the certificate, those in the module, and the tensors, each tensor once."""
            seen: set[int] = set()
            found = []
            for name, each in used.items():
                for path, tensor in getattr(each, listed)():
                    if id(tensor) not in seen:
                        seen.add(id(tensor))
                        found.append((*(".".join(filter(None, (head, path))) for head in (name, places[name])), tensor))
            return found

        owned = named("named_parameters")
        differentiated = [each for each in owned if each[2].requires_grad]
        state = [*owned, *named("named_buffers")]
        fixed = [Uncovered(name, "fixed: requires_grad is False") for name, _, each in owned if not each.requires_grad]
        fixed += [Uncovered(name, "fixed: a buffer") for name, _, each in named("named_buffers") if is_floating(each)]
        arrays = {name: _exact(each) for name, _, each in differentiated}
        own = [path for _, path, _ in differentiated]
        rest = {path: each for _, path, each in state if path not in own}
        made = _OfModule(module, own, rest)
        return cls(layer, made.function, inputs, arrays, tuple(fixed), made.within)

    def names(self, count: int) -> tuple[str, ...]:
        """Return the names of `count` inputs."""
        return tuple(self.inputs[k].name if k < len(self.inputs) else f"arg{k}" for k in range(count))


def made_pair(
    target: Target,
    results: Results,
    *,
    device: Any,
    like: Sequence[Any] | None,
    keywords: Mapping[str, Any] | None,
    differentiated: frozenset[int] | None = None,
) -> Pair:
    """Return the pair of the arrays that a target takes, or of those that `like` and `keywords` hold."""
    function, inputs = target.function, target.inputs
    if like is not None:
        function, inputs = _of_nested(target, like, keywords or {})
    outside: list[Uncovered] = []

    def forward(*arrays: Any, **options: Any) -> tuple[Array, Tape]:
        known = bool(results.names)
        tape = Tape.record(function, arrays, options, device, results, differentiated)
        if not known:
            outside.extend(_outside(target, tape))
        return array_of(tape.y), tape

    def backward(dy: Array, tape: Tape) -> tuple[Array | None, ...]:
        try:
            return tuple(target.within(tape.leaves, lambda: tape.gradients(dy)))
        except RuntimeError as error:
            fault = _fault(error, inputs if function_class_of(target.layer) is not None else ())
            if fault is None:
                raise
            raise fault from error

    def uncovered() -> tuple[Uncovered, ...]:
        return (*results.uncovered, *target.fixed, *outside)

    made = _made(device, like, keywords, results.only)
    return Pair(Forward(forward, inputs, target.parameters, made, target.layer, uncovered), backward)


def _made(device: Any, like: Any, keywords: Any, result: int | None) -> str:
    """Return the expression that makes the pair of `layer`, or nothing if no line of Python can."""
    if str(device) != "cpu":
        return ""
    text = "adapters.torch.pair(layer"
    for name, given in (("like", like), ("keywords", keywords)):
        if given:
            template = mapped(given, "", lambda _, leaf: ... if isinstance(leaf, (torch.Tensor, np.ndarray)) else leaf)
            shown = repr(template).replace("Ellipsis", "...")
            try:
                eval(shown, {"__builtins__": {}})
            except Exception:  # a constant that repr does not show
                return ""
            text += f", {name}={shown}"
    return text + (")" if result is None else f", result={result})")


def _of_nested(
    target: Target, like: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Input, ...]]:
    """Return the target as a function of the arrays that its inputs and keywords hold, and their names."""

    def is_place(value: Any) -> bool:
        return value is ... or isinstance(value, (torch.Tensor, np.ndarray))

    def function(*arguments: Any, **options: Any) -> Any:
        split = len(arguments) - len(target.parameters)
        arrays = iter(arguments[:split])
        given = mapped((tuple(like), dict(keywords)), "", lambda _, leaf: next(arrays) if is_place(leaf) else leaf)
        return target.function(*given[0], *arguments[split:], **given[1], **options)

    named = [*zip(target.names(len(like)), like, strict=True), *keywords.items()]
    inputs = [Input(path) for name, each in named for path, leaf in leaves(each, name) if is_place(leaf)]
    return function, tuple(inputs)


def _outside(target: Target, tape: Tape) -> list[Uncovered]:
    """Return the tensors that y depends on, that require a gradient, and that are no input."""
    known = {id(each) for each in tape.leaves}
    found = {id(each): each for each in tape.variables() if id(each) not in known}
    names = tensor_names(target.layer) if found else {}
    remedy = "Pass it as an input, or let it require no gradient: requires_grad_(False)"
    found_names = {key: names.get(key, f"a tensor of shape {tuple(each.shape)}") for key, each in found.items()}
    return [Uncovered(name, "requires a gradient but is no input", remedy, True) for name in found_names.values()]


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


def function_class_of(target: Any) -> Any:
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


class _Around(torch.nn.Module):  # type: ignore[misc]
    """A function with the modules that it uses, as one module. Its parameters are theirs."""

    def __init__(self, function: Callable[..., Any], used: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = (function,)  # in a tuple, a module is no submodule twice
        for name, place in self.places(used).items():
            self.add_module(place, used[name])

    @staticmethod
    def places(used: Mapping[str, Any]) -> dict[str, str]:
        """Return the names under which the modules are kept, which have no dots."""
        return {name: f"used{k}" for k, name in enumerate(used)}

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.function[0](*arguments, **options)


class _OfModule(torch.nn.Module):  # type: ignore[misc]
    """A module as a function of its inputs and of its `own` parameters. `rest` are those that are fixed."""

    def __init__(self, module: Any, own: Sequence[str], rest: Mapping[str, Any]) -> None:
        super().__init__()
        self.module, self._own, self._rest = module, own, rest

    def forward(self, run: Callable[[], Any]) -> Any:
        return run()

    def function(self, *arguments: Any, **options: Any) -> Any:
        """Return the module's result. Its parameters come after its inputs."""
        inputs = arguments[: len(arguments) - len(self._own)]
        return self.within(arguments, lambda: self.module(*inputs, **options))

    def within(self, arguments: Sequence[Any], run: Callable[[], Any]) -> Any:
        """Run something while the module has these parameters. A backward may compute with them as a forward does."""
        state = dict(zip(self._own, arguments[len(arguments) - len(self._own) :], strict=True))
        finest = [each.dtype.to_real() for each in arguments if is_floating(each)]
        for name, fixed in self._rest.items():
            copy = fixed.detach().clone()
            for dtype in finest if copy.is_floating_point() else []:
                copy = copy.to(torch.promote_types(copy.dtype, dtype))
            state[name] = copy
        return torch.func.functional_call(self, {f"module.{name}": each for name, each in state.items()}, (run,))


def _exact(tensor: Any) -> Array:
    """Return a parameter as an array. NumPy has no bfloat16: float32 holds its numbers."""
    return array_of(tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor)
