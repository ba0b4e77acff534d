# mypy: allow-subclassing-any
"""verify.adapters.torch: a backward that computes again, or that rounding alone keeps from 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify.checker.certificate import Certificate

torch = pytest.importorskip("torch", reason="these are layers in PyTorch: pip install gradcert[oracle]")

from torch.utils.checkpoint import checkpoint  # noqa: E402

from verify.adapters import torch as adapter  # noqa: E402  (it imports torch)

nn: Any = torch.nn
Function: Any = torch.autograd.Function
Module: Any = nn.Module


def check(target: Any, *inputs: Any, seed: int = 0) -> Certificate:
    """A check that does not raise."""
    return result_of(adapter.gradcheck, target, inputs, seed=seed)


def drawn(*shape: int) -> Any:
    """Normal numbers, always the same."""
    return torch.tensor(np.random.default_rng(0).standard_normal(shape), dtype=torch.float64)


def _of_ones(x: Any, w: Any, b: Any) -> Any:
    return nn.functional.layer_norm(x, (1,), w, b)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (_of_ones, ((1,), (1,), (1,))),
        (_of_ones, ((4, 1), (1,), (1,))),
        (lambda x, w, b: nn.functional.group_norm(x, 3, w, b), ((2, 3, 1), (3,), (3,))),
        (nn.functional.normalize, ((4, 1),)),
        (lambda x, y: nn.functional.cosine_similarity(x, y, dim=-1), ((4, 1), (4, 1))),
        (lambda x: x / x, ((5,),)),
    ],
)
def test_a_layer_that_is_constant_but_for_rounding_passes(layer: Any, shapes: Any) -> None:
    for seed in range(6):
        assert check(layer, *(drawn(*shape) for shape in shapes), seed=seed).verdict == "PASS"


def _checkpointed(function: Any, reentrant: bool) -> Any:
    return lambda x: checkpoint(function, x, use_reentrant=reentrant)


class Checkpointed(Module):
    """A module that computes its layer again in backward."""

    def __init__(self, layer: Any, reentrant: bool) -> None:
        super().__init__()
        self.layer, self.reentrant = layer, reentrant

    def forward(self, x: Any) -> Any:
        return checkpoint(self.layer, x, use_reentrant=self.reentrant)


def _layers() -> list[Any]:
    tanh = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return [torch.tanh, nn.Linear(3, 2).double(), tanh, nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double()]


@pytest.mark.parametrize("made", [_checkpointed, Checkpointed])
@pytest.mark.parametrize("layer", _layers())
def test_a_checkpoint_is_checked_or_refused_with_a_remedy(made: Any, layer: Any) -> None:
    assert check(made(layer, False), drawn(5, 3)).verdict == "PASS"
    with pytest.raises(TypeError, match="use_reentrant=False"):
        check(made(layer, True), drawn(5, 3))


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("Checkpointing is not compatible with .grad(), please use .backward() if possible", True),
        ("this layer is incompatible with torch.autograd.grad", True),
        ("the shapes are not compatible", False),
    ],
)
def test_a_backward_that_allows_no_autograd_grad_is_refused_and_one_that_breaks_fails(said: str, refused: bool) -> None:
    class Breaks(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            raise RuntimeError(said)

    if refused:
        with pytest.raises(TypeError, match="use_reentrant=False"):
            check(Breaks, drawn(3))
    else:
        assert check(Breaks, drawn(3)).verdict == "FAIL"


def test_a_backward_that_computes_with_the_modules_parameters_finds_those_of_the_forward() -> None:
    class Twice(Function):
        @staticmethod
        def forward(ctx: Any, layer: Any, factor: float, x: Any, w: Any) -> Any:
            ctx.layer, ctx.factor = layer, factor
            ctx.save_for_backward(x)
            return x @ layer.w

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            (x,) = ctx.saved_tensors
            return None, None, ctx.factor * dy @ ctx.layer.w.T, x.T @ dy

    class Layer(Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.w, self.factor = nn.Parameter(drawn(3, 2)), factor

        def forward(self, x: Any) -> Any:
            return Twice.apply(self, self.factor, x, self.w)

    assert check(Layer(1.0), drawn(4, 3)).verdict == "PASS"
    assert check(Layer(1.001), drawn(4, 3)).verdict == "FAIL"
