"""One entry of one gradient wrong: who notices? gradcert and PyTorch's gradcheck on the same cases, in the same run.

The error is a billionth of that gradient's largest entry; on exact layers, for gradcert alone, also one
unit of the integers drawn. PyTorch checks the same pair through a torch.autograd.Function, at its defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from cnn_core import Implementation
from verify import gradcheck
from verify.layers import LAYERS, Case, Layer

RELATIVE = 1e-9


def cases(layer: Layer, count: int, first_seed: int = 0) -> list[Case]:
    """Cases of a layer whose gradients are not all empty or zero."""
    found: list[Case] = []

    @seed(first_seed)
    @settings(
        max_examples=4 * count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=layer.cases(), arrays_seed=st.integers(0, 2**32 - 1))
    def collect(case: Case, arrays_seed: int) -> None:
        redrawn = _redrawn(layer, case, arrays_seed)
        if len(found) < count and _places(layer, redrawn):
            found.append(redrawn)

    collect()
    return [found[i % len(found)] for i in range(count)]


def _redrawn(layer: Layer, case: Case, arrays_seed: int) -> Case:
    """The same shapes with normal entries: what PyTorch's differences need, no ties and no zeros."""
    generator = np.random.default_rng(arrays_seed)
    arrays = [generator.normal(size=a.shape) if a is not None and a.dtype.kind == "f" else a for a in case.arrays]
    return Case(tuple(arrays), case.options)


def planted(
    implementation: Implementation, which: int, flat: int, change: Callable[[Any], float]
) -> Callable[[Any, Any], Any]:
    """The backward with one entry of one gradient changed by change(gradient)."""

    def backward(dy: Any, cache: Any) -> Any:
        gradients = list(implementation.backward(dy, cache))
        wrong = np.array(gradients[which])
        wrong.flat[flat % wrong.size] += change(wrong)
        gradients[which] = wrong
        return tuple(gradients)

    return backward


def by_a_billionth(gradient: Any) -> float:
    """RELATIVE of the largest entry."""
    return float(RELATIVE * np.abs(gradient).max())


def _targets(case: Case) -> list[int]:
    return [k for k, a in enumerate(case.arrays) if a is not None and a.dtype.kind == "f"]


def _places(layer: Layer, case: Case) -> list[tuple[int, int]]:
    """The arrays, and the places of their gradients, of which a billionth can be wrong: not zero everywhere.

    A convolution whose windows all lie in the padding has no gradient, nor has the loss of a single class.
    """
    y, cache = layer.fast.forward(*case.arrays, **case.options)
    gradients = layer.fast.backward(np.random.default_rng(0).normal(size=y.shape), cache)
    places = [k for k, a in enumerate(case.arrays) if a is None or a.dtype.kind == "f"]
    return [(k, i) for i, (k, g) in enumerate(zip(places, gradients, strict=True)) if g is not None and np.any(g)]


def _fails(layer: Layer, backward: Callable[[Any, Any], Any], case: Case, number: int) -> bool:
    forward = layer.fast.forward
    found = gradcheck(forward, backward, *case, structure=layer.structure, seed=number, raise_on_failure=False)
    return found.verdict == "FAIL"


def torch_says(implementation: Implementation, backward: Callable[[Any, Any], Any], case: Case) -> bool | None:
    """Whether PyTorch's gradcheck, at its defaults, notices; None without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    floating = _targets(case)

    def apply_forward(context: Any, *tensors: Any) -> Any:
        arrays = list(case.arrays)
        for k, tensor in zip(floating, tensors, strict=True):
            arrays[k] = tensor.detach().numpy()
        y, context.cache = implementation.forward(*arrays, **case.options)
        return torch.from_numpy(np.array(y))

    def apply_backward(context: Any, *upstream: Any) -> Any:
        gradients = backward(upstream[0].numpy(), context.cache)
        return tuple(torch.from_numpy(np.array(g)) for g in gradients if g is not None)

    methods = {"forward": staticmethod(apply_forward), "backward": staticmethod(apply_backward)}
    function: Any = type("Planted", (torch.autograd.Function,), methods)
    tensors = tuple(torch.tensor(case.arrays[k], requires_grad=True) for k in floating)
    try:
        return not torch.autograd.gradcheck(function.apply, tensors, raise_exception=False)
    except RuntimeError:  # outputs of no entries
        return None


def measure(trials: int, torch_trials: int) -> dict[str, Any]:
    """`trials` planted errors for each layer, in its fast version; the first `torch_trials` shown to PyTorch, too."""
    rows = {}
    for layer in LAYERS.values():
        caught = units = unit_trials = theirs = shown = 0
        for number, case in enumerate(cases(layer, trials)):
            generator = np.random.default_rng(number)
            places = _places(layer, case)
            _, which = places[int(generator.integers(len(places)))]
            flat = int(generator.integers(1 << 30))
            wrong = planted(layer.fast, which, flat, by_a_billionth)
            caught += _fails(layer, wrong, case, number)
            if layer.structure != "analytic":
                unit_trials += 1
                units += _fails(layer, planted(layer.fast, which, flat, lambda gradient: 1.0), case, number)
            if number < torch_trials:
                answer = torch_says(layer.fast, wrong, case)
                theirs, shown = theirs + bool(answer), shown + (answer is not None)
        rows[layer.name] = {
            "trials": trials,
            "caught": caught,
            "one unit": f"{units} of {unit_trials}" if unit_trials else "-",
            "PyTorch caught": f"{theirs} of {shown}",
        }
    return {"least share caught": min(row["caught"] for row in rows.values()) / trials, "rows": rows}  # type: ignore[operator, type-var]
