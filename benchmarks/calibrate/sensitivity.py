"""Measures which errors of one entry gradcert and PyTorch's gradcheck catch, on the same cases in the same run.

The error is a billionth of the largest entry of its gradient. On exact layers gradcert is also tested with an
error of one unit of the drawn integers. PyTorch checks the same pair through a torch.autograd.Function, at its
defaults.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from cnn_core import Implementation
from verify import StructureError, gradcheck
from verify.layers import LAYERS, Case, Layer

RELATIVE = 1e-9


def cases(layer: Layer, count: int, first_seed: int = 0) -> list[Case]:
    """Return cases of a layer with at least one gradient that is not empty or zero."""
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
    """Return the case with normal entries. PyTorch's differences need arrays without ties and zeros."""
    generator = np.random.default_rng(arrays_seed)
    targets = _targets(layer, case)
    arrays = [
        np.asarray(generator.normal(size=a.shape)) if a is not None and k in targets else a
        for k, a in enumerate(case.arrays)
    ]
    return Case(tuple(arrays), case.options)


def planted(
    implementation: Implementation, which: int, flat: int, change: Callable[[Any], float]
) -> Callable[[Any, Any], Any]:
    """Return the backward with change(gradient) added to one entry of one gradient."""

    def backward(dy: Any, cache: Any) -> Any:
        gradients = list(implementation.backward(dy, cache))
        wrong = np.array(gradients[which])
        wrong.flat[flat % wrong.size] += change(wrong)
        gradients[which] = wrong
        return tuple(gradients)

    return backward


def by_a_billionth(gradient: Any) -> float:
    """Return RELATIVE times the largest entry."""
    return float(RELATIVE * np.abs(gradient).max())


def _targets(layer: Layer, case: Case) -> list[int]:
    """Return the positions of the arrays that are given and have a gradient."""
    return [k for k in layer.with_gradient(len(case.arrays)) if case.arrays[k] is not None]


def _places(layer: Layer, case: Case) -> list[tuple[int, int]]:
    """Return (array, gradient) positions of the gradients that are not zero everywhere.

    The gradient of a convolution is zero if all its windows lie in the padding. So is that of a loss with a
    single class.
    """
    y, cache = layer.fast.forward(*case.arrays, **case.options)
    gradients = layer.fast.backward(np.random.default_rng(0).normal(size=y.shape), cache)
    pairs = zip(layer.with_gradient(len(case.arrays)), gradients, strict=True)
    return [(k, i) for i, (k, g) in enumerate(pairs) if g is not None and np.any(g)]


def _fails(layer: Layer, backward: Callable[[Any, Any], Any], case: Case, number: int) -> bool:
    """Whether it is a FAIL. Where the structure declared does not suit the wrong backward, "auto" decides."""
    for structure in (layer.structure, "auto"):
        with contextlib.suppress(StructureError):
            call = layer.fast.forward, backward, *case
            return gradcheck(*call, structure=structure, seed=number, raise_on_failure=False).verdict == "FAIL"
    return False


def torch_says(layer: Layer, backward: Callable[[Any, Any], Any], case: Case) -> bool | None:
    """Return whether PyTorch's gradcheck, at its defaults, catches the error, or None without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    floating = _targets(layer, case)

    def apply_forward(context: Any, *tensors: Any) -> Any:
        arrays = list(case.arrays)
        for k, tensor in zip(floating, tensors, strict=True):
            arrays[k] = tensor.detach().numpy()
        y, context.cache = layer.fast.forward(*arrays, **case.options)
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
    """Return how many of `trials` planted errors in the fast version of each layer are caught.

    PyTorch checks the first `torch_trials` of them as well.
    """
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
            if layer.exact:
                unit_trials += 1
                units += _fails(layer, planted(layer.fast, which, flat, lambda gradient: 1.0), case, number)
            if number < torch_trials:
                answer = torch_says(layer, wrong, case)
                theirs, shown = theirs + bool(answer), shown + (answer is not None)
        rows[layer.name] = {
            "trials": trials,
            "caught": caught,
            "one unit": f"{units} of {unit_trials}" if unit_trials else "-",
            "PyTorch caught": f"{theirs} of {shown}",
        }
    return {"least share caught": min(row["caught"] for row in rows.values()) / trials, "rows": rows}  # type: ignore[operator, type-var]
