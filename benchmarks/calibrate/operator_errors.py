"""Errors planted in the gradient of an operator, in one entry of one tensor."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.calibrate.operator_samples import tensors


class Place(NamedTuple):
    """An entry: the number of its tensor among all, and among those with a gradient, and the index in it."""

    tensor: int
    argument: int
    flat: int
    at: tuple[int, ...]


def _changing(index: int, factor: float) -> Any:
    """Return the identity whose backward multiplies one entry of the gradient."""
    import torch

    function_class: Any = torch.autograd.Function

    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    def backward(ctx: Any, dy: Any) -> Any:
        dx = dy.clone(memory_format=torch.contiguous_format)
        dx.view(-1)[index] *= factor
        return dx

    return type("Changed", (function_class,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def planted(function: Any, which: Any, index: int, error: float) -> Callable[..., Any]:
    """Return the function with a relative error in one entry of the gradient of the tensor number `which`."""
    changed = _changing(index, 1 + error)

    def wrong(*inputs: Any, **options: Any) -> Any:
        count = itertools.count()

        def visit(value: Any) -> Any:
            import torch

            if isinstance(value, torch.Tensor):
                return changed.apply(value) if next(count) == which else value
            if isinstance(value, (tuple, list)):
                return type(value)(map(visit, value))
            return {key: visit(each) for key, each in value.items()} if isinstance(value, dict) else value

        inputs, options = visit(inputs), visit(options)
        return function(*inputs, **options)

    return wrong


def place_of_largest(function: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Place | None:
    """Return the entry with the largest gradient. None if all are 0."""
    import torch

    held = [(k, each) for k, each in enumerate(tensors((inputs, options))) if each.requires_grad]
    wanted = [(k, place, each) for place, (k, each) in enumerate(held) if each.numel()]
    results = [each for each in tensors(function(*inputs, **options)) if each.requires_grad]
    torch.manual_seed(1)
    upstream = [torch.randn_like(each) for each in results]
    gradients = torch.autograd.grad(results, [each for *_, each in wanted], upstream, allow_unused=True)
    sizes = [0.0 if each is None else float(each.abs().max()) for each in gradients]
    best = int(np.argmax(sizes))
    if not sizes[best] > 0:
        return None
    flat = int(gradients[best].abs().reshape(-1).argmax())
    tensor, argument, entries = wanted[best]
    return Place(tensor, argument, flat, tuple(map(int, np.unravel_index(flat, entries.shape))))
