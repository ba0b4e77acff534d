"""A call of a function of tensors on arrays: its results as one array y, and the gradients that autograd gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from verify.adapters._torch_values import array_of, is_floating, tensor_of, write_back
from verify.adapters._tree import leaves
from verify.checker.certificate import Uncovered
from verify.checker.layer import ForwardRaised
from verify.checker.point import Array

# PyTorch's message about checkpoints of which only backward() may be asked; others write the same of their own.
_ONLY_BACKWARD = re.compile(r"compatible with (torch\.autograd)?\.grad\b")
_CHECKPOINT = (
    "a checkpoint in the layer allows backward() only, and the check asks torch.autograd.grad: "
    "write checkpoint(..., use_reentrant=False), which has the same gradient"
)
_COARSE = (torch.float16, torch.bfloat16, torch.complex32)


class NoGradient(ValueError):
    """No result of the function has a gradient."""


class Results:
    """The results of a function that y is made of: those that have a gradient, or one of them.

    The first call decides. A result without a gradient is left out, and `uncovered` says so.
    """

    def __init__(self, only: int | None) -> None:
        self.only = only
        self.uncovered: list[Uncovered] = []
        self.names: list[tuple[int, str]] = []
        self.coarse = ""  # the first result of two bytes an entry, with its dtype
        self._chosen: dict[tuple[str, ...], list[int]] = {}

    def of(self, result: Any) -> list[Any]:
        """Return the chosen tensors of a result. NoGradient if there is none, TypeError if none is floating."""
        found = [(_result_name(path), leaf) for path, leaf in leaves(result, "result")]
        key = tuple(f"{name} {getattr(leaf, 'ndim', '')}" for name, leaf in found)
        if key not in self._chosen:
            self._chosen[key] = self._choose(found)
        return [found[k][1] for k in self._chosen[key]]

    def _choose(self, found: list[tuple[str, Any]]) -> list[int]:
        floating = [k for k, (_, leaf) in enumerate(found) if is_floating(leaf)]
        if not floating:
            kinds = ", ".join(_kind(leaf) for _, leaf in found) or "nothing"
            raise TypeError(f"forward must return a floating tensor, or several, got {kinds}")
        for name, leaf in (found[k] for k in floating):
            if leaf.layout != torch.strided:
                raise TypeError(f"{name} is sparse ({leaf.layout}): return its values, or y.to_dense()")
        chosen = [k for k in floating if found[k][1].requires_grad]
        if not chosen:
            listed = ", ".join(f"{found[k][0]} ({found[k][1].dtype})" for k in floating)
            text = "it is detached, marked as non-differentiable, or does not depend on the inputs that are checked"
            raise NoGradient(f"nothing to check: {listed} has no gradient: {text}")
        self.names += [] if self.names else [(k, found[k][0]) for k in chosen]
        coarse = [k for k in chosen if found[k][1].dtype in _COARSE]
        if coarse:
            self.coarse = f"{found[coarse[0]][0]} is {found[coarse[0]][1].dtype}"
        for k, (name, leaf) in enumerate(found):
            if k in floating and k not in chosen:
                self.uncovered.append(Uncovered(name, "no gradient: detached, or marked as non-differentiable"))
            elif k not in chosen and isinstance(leaf, (torch.Tensor, np.ndarray, np.generic, float)):
                self.uncovered.append(Uncovered(name, f"no gradient: {_kind(leaf)}"))
        return chosen if self.only is None else [self.only]


def _result_name(path: str) -> str:
    """Return "result 1" for result[1]."""
    return re.sub(r"^result\[(\d+)\]", r"result \1", path)


def _kind(value: Any) -> str:
    return str(value.dtype) if hasattr(value, "dtype") else type(value).__name__


class Tape(NamedTuple):
    """The cache of a forward: the arrays, their tensors as leaves and as passed to the function, and the result."""

    arrays: tuple[Any, ...]
    leaves: tuple[Any, ...]
    given: tuple[Any, ...]
    y: Any
    sizes: tuple[int, ...]

    @classmethod
    def record(
        cls,
        function: Callable[..., Any],
        arrays: tuple[Any, ...],
        options: Mapping[str, Any],
        device: Any,
        results: Results,
        differentiated: frozenset[int] | None = None,
    ) -> Tape:
        """Call the function on copies of the arrays, as tensors, and return the tape.

        The tensors at the positions `differentiated` require a gradient, or all of them for None.
        """

        def required(k: int) -> bool:
            return differentiated is None or k in differentiated

        with torch.enable_grad():
            made = tuple(
                tensor_of(each, device, differentiated=required(k)) if isinstance(each, np.ndarray) else each
                for k, each in enumerate(arrays)
            )
            # Copies of the leaves, because autograd forbids in-place operations on a leaf.
            given = tuple(each.clone() if isinstance(each, torch.Tensor) else each for each in made)
            nodes = [getattr(each, "grad_fn", None) for each in given]
            chosen = results.of(function(*given, **options))
            y = _whole(chosen, real=any(is_floating(each) and not each.is_complex() for each in given))
        kept = tuple(None if _may_write(each, node) else each for each, node in zip(given, nodes, strict=True))
        sizes = tuple(each.numel() * (2 if each.is_complex() and not y.is_complex() else 1) for each in chosen)
        tape = cls(arrays, made, kept, y, sizes)
        tape.write_back()
        return tape

    def write_back(self) -> None:
        """Copy undeclared writes from the tensors to their arrays, so that the checker finds them."""
        for array, tensor in zip(self.arrays, self.given, strict=True):
            if isinstance(tensor, torch.Tensor):
                write_back(array, tensor)

    def variables(self) -> list[Any]:
        """Return the leaves to which autograd connects y."""
        return [node.variable for node in _nodes(self.y) if hasattr(node, "variable")]

    def gradients(self, dy: Array) -> tuple[Array | None, ...]:
        """Return the gradient of each floating array, and None for an array that is None or has no gradient."""
        wanted = [each for each in self.leaves if isinstance(each, torch.Tensor) and each.requires_grad]
        found: dict[int, Any] = {}
        if self.y.requires_grad and wanted:
            upstream = tensor_of(dy, self.y.device, differentiated=False)
            with _MissingGradients(self.y) as missing:
                gradients = _gradients(self.y, wanted, upstream)
            write_back(dy, upstream)
            self.write_back()
            found = {id(leaf): gradient for leaf, gradient in zip(wanted, gradients, strict=True)}
            faults = missing.leaves() if any(each is None for each in gradients) else set()
        else:
            faults = set()
        for leaf in wanted:  # a built-in operator without a gradient means zero
            if found.get(id(leaf)) is None and id(leaf) not in faults:
                found[id(leaf)] = torch.zeros_like(leaf)
        places = [leaf for leaf in self.leaves if leaf is None or is_floating(leaf)]
        return tuple(None if found.get(id(leaf)) is None else array_of(found[id(leaf)]) for leaf in places)


def _gradients(y: Any, wanted: list[Any], upstream: Any) -> Any:
    """Return the gradients of autograd. ForwardRaised, which is no fault of the layer, if it cannot be asked so."""
    try:
        gradients: tuple[Any, ...] = torch.autograd.grad(y, wanted, upstream, retain_graph=True, allow_unused=True)
        return gradients
    except RuntimeError as error:
        if not _ONLY_BACKWARD.search(str(error)):
            raise
        said = str(error).split(". ")[0]
        raise ForwardRaised("raised", None, None, f"PyTorch says {said}") from TypeError(_CHECKPOINT)


class _MissingGradients:
    """Notes which autograd.Function returns None for a connected input, while a backward runs."""

    def __init__(self, y: Any) -> None:
        self._functions = [node for node in _nodes(y) if isinstance(node, torch.autograd.function.BackwardCFunction)]
        self._handles: list[Any] = []
        self._missing: list[Any] = []

    def __enter__(self) -> _MissingGradients:
        self._handles = [node.register_hook(self._hook(node)) for node in self._functions]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, node: Any) -> Callable[[Any, Any], None]:
        def noted(returned: Any, upstream: Any) -> None:
            if any(each is not None for each in upstream):
                edges = zip(node.next_functions, returned, strict=False)
                self._missing += [following for (following, _), gradient in edges if gradient is None and following]

        return noted

    def leaves(self) -> set[int]:
        """Return the identities of the leaves behind the missing gradients."""
        behind = {node for start in self._missing for node in _behind(start)}
        return {id(node.variable) for node in behind if hasattr(node, "variable")}


def _nodes(y: Any) -> list[Any]:
    return [] if y.grad_fn is None else list(_behind(y.grad_fn))


def _behind(start: Any) -> dict[Any, None]:
    """Return the node and all that follow it in a backward, in order."""
    seen: dict[Any, None] = {}
    open_ = [start]
    while open_:
        node = open_.pop()
        if node is not None and node not in seen:
            seen[node] = None
            open_ += [following for following, _ in node.next_functions]
    return seen


def _may_write(tensor: Any, node: Any) -> bool:
    """Whether a write to the tensor is no fault: autograd knows of it, or it is fixed, as running statistics are."""
    declared = getattr(tensor, "grad_fn", None) is not node  # a declared write makes a new node
    return declared or (is_floating(tensor) and not tensor.requires_grad)


def _whole(tensors: list[Any], *, real: bool) -> Any:
    """Return the only tensor, or all of them as one vector.

    If `real`, a complex tensor is replaced by its real and imaginary parts. NumPy has no bfloat16: it gets float32.
    """
    if real:
        tensors = [torch.stack([each.real, each.imag], dim=-1) if each.is_complex() else each for each in tensors]
    tensors = [each.float() if each.dtype == torch.bfloat16 else each for each in tensors]
    return tensors[0] if len(tensors) == 1 else torch.cat([each.reshape(-1) for each in tensors])
