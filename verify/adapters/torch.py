"""Layers in PyTorch: functions of tensors, modules with their parameters, and autograd.Function.

The gradient is that of autograd, so a torch.autograd.Function is checked as training uses it.

- Tensors in lists, tuples, dicts and dataclasses are checked one by one, each by its name: parts[0], d["a"].
- Several results: all floating tensors with a gradient are checked, together as one vector and each alone. Alone, the
  upstream gradients of the others are undefined. If a result is complex, both parts are checked.
- Results without a gradient (detached, marked as non-differentiable, integers) are left out. The certificate says so.
- Modules that a function closes over, or that are among its inputs, have their parameters checked. A closed-over tensor
  that requires a gradient cannot be checked: the check is INCONCLUSIVE until it is an input, or requires none.
- Inputs without a connection to the result: autograd has no gradient for them. The adapter returns zero. It does so
  too where an operator of PyTorch has none, as torch.linalg.norm(x, 0).
- None: if the backward of a Function returns None for a connected input, that is a fault.
- Writes to an input: a write that autograd does not see (no in-place operation, no mark_dirty) is a fault.
- Dtypes: tensors are checked in their own dtype. float64 leaves the most room for exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from verify.adapters._pair import Pair, check_inputs
from verify.adapters._results import Answer, agree, asked, one_by_one
from verify.adapters._torch_pair import Target, made_pair
from verify.adapters._torch_tape import NoGradient, Results
from verify.adapters._torch_values import array_of, refuse_complex
from verify.adapters._tree import is_container, leaves, positions
from verify.checker.certificate import INCONCLUSIVE, Certificate
from verify.entry import SECOND

# Below 32,768 entries PyTorch's own loops take one thread (GRAIN_SIZE in ATen/Parallel.h). LAPACK takes more: on two
# busy cores a Cholesky factor of 4 x 4 took 21 ms with two threads, and 0.08 ms with one.
_GRAIN = 32768


def gradcheck(
    target: Any,
    inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    wrt: Sequence[int | str] | None = None,
    raise_on_failure: bool = True,
    **settings: Any,
) -> Certificate:
    """Check a function, a module or an autograd.Function at these inputs, and at the module's parameters.

    `inputs` and `options` are tensors, arrays and None, and lists and dicts of them. Anything else is passed unchanged.
    All parameters are checked. If some tensors require a gradient, only these are checked, as in
    torch.autograd.gradcheck. Otherwise every floating one is checked. `wrt` chooses other arrays, by position or name:
    that of a list or dict stands for all it holds. `settings` are those of `verify.gradcheck`.
    """
    __tracebackhide__ = True
    check_inputs(inputs)
    call = _Call(Target.of(target, inputs), inputs, options or {})
    chosen = call.positions(wrt)
    whole, results = call.pair(chosen, None)
    _probe(whole, call, chosen)

    def ask(result: int | None, seed: int | None) -> Answer:
        pair = whole if result is None else call.pair(chosen, result)[0]
        known = settings if seed is None else {**settings, "seed": seed}
        return asked(pair, call.values, call.options, chosen, known)

    def agrees(result: int) -> bool:
        return agree(whole, call.pair(chosen, result)[0], call.values, call.options, results.names, result)

    with _one_thread(call.values):
        answer = one_by_one(ask, results.names, agrees)
    certificate = _reworded(
        answer.certificate, call.fixed() if wrt is None and chosen is not None else (), results.coarse
    )
    return answer._replace(certificate=certificate).delivered(whole.forward, raise_on_failure=raise_on_failure)


def pair(
    target: Any,
    *,
    device: Any = "cpu",
    like: Sequence[Any] | None = None,
    keywords: Mapping[str, Any] | None = None,
    result: int | None = None,
) -> Pair:
    """Return the pair (forward, backward) of arrays. The parameters of a module come after its inputs.

    The module itself does not change: its parameters and buffers are not written to. Parameters that do not require
    a gradient are fixed, like buffers. Parameters and buffers get a dtype at least as fine as that of the inputs.

    `like` says which inputs the arrays make, with `...` for each array: like=([..., ...], 2) for a list of two arrays
    and a number. `keywords` does so for options. `result` is the number of the only result to take.
    """
    return made_pair(Target.of(target), Results(result), device=device, like=like, keywords=keywords)


def __getattr__(name: str) -> Any:
    if name == "gradgradcheck":
        raise AttributeError(f"there is no {name}: for second derivatives {SECOND}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Call:
    """A target with its inputs and options: the arrays among them, with their names.

    If no array is inside a list, a dict or the options, `values` are the inputs. Otherwise they are the arrays alone,
    and `like` and `keywords` say how the inputs and options are made of them.
    """

    def __init__(self, target: Target, inputs: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.target, self.options = target, dict(options)
        self.arguments = target.names(len(inputs))
        found = [leaves(each, name) for each, name in zip(inputs, self.arguments, strict=True)]
        named = [(k, *leaf) for k, some in enumerate(found) for leaf in some if is_array(leaf[1])]
        keyed = {key: [leaf for leaf in leaves(each, key) if is_array(leaf[1])] for key, each in options.items()}
        self.keywords = {key: self.options.pop(key) for key, some in keyed.items() if some}
        self.like: tuple[Any, ...] | None = None
        if self.keywords or any(is_container(inputs[k]) for k, _, _ in named):
            self.like = tuple(inputs)
            named += [(-1, *leaf) for some in keyed.values() for leaf in some]
        else:
            named = [(k, name, each) for k, (name, each) in enumerate(zip(self.arguments, inputs, strict=True))]
        self.owners, self.names = [k for k, _, _ in named], [name for _, name, _ in named]
        tensors = [each for _, _, each in named if isinstance(each, torch.Tensor)]
        self.device = next((each.device for each in tensors), "cpu")
        self.required = [isinstance(each, torch.Tensor) and each.requires_grad for _, _, each in named]
        self.values = [array_of(each, name) if isinstance(each, torch.Tensor) else each for _, name, each in named]

    def pair(self, chosen: tuple[int, ...] | None, result: int | None) -> tuple[Pair, Results]:
        """Return the pair of these arrays, and the results that its y is made of."""
        results = Results(result)
        of_call: dict[str, Any] = {"device": self.device, "like": self.like, "keywords": self.keywords}
        differentiated = None if chosen is None else frozenset(chosen)
        return made_pair(self.target, results, differentiated=differentiated, **of_call), results

    def positions(self, wrt: Sequence[int | str] | None) -> tuple[int, ...] | None:
        """Return the positions to check among arrays and parameters, or None for all that are floating."""
        names, count = [*self.names, *self.target.parameters], len(self.names)
        if wrt is not None:
            first = len(self.arguments)  # a parameter's position is that after the inputs
            owners = [*self.owners, *range(first, first + len(self.target.parameters))]
            chosen = positions(wrt, names, owners, self.arguments)
        elif any(self.required):
            chosen = [k for k in range(len(names)) if k >= count or self.required[k]]
        else:
            chosen = [k for k in range(count) if _is_floating(self.values[k])]
        for k in chosen:
            if k < count and np.iscomplexobj(self.values[k]):
                raise refuse_complex(names[k])
        return tuple(chosen) if wrt is not None or any(self.required) else None

    def fixed(self) -> tuple[str, ...]:
        """Return the names of the floating arrays that require no gradient."""
        known = zip(self.names, self.values, self.required, strict=True)
        return tuple(name for name, value, required in known if not required and _is_floating(value))


@contextmanager
def _one_thread(values: Sequence[Any]) -> Iterator[None]:
    """Let PyTorch compute small arrays with one thread. Threads that wait for each other make calls slower."""
    before = torch.get_num_threads()
    if sum(each.size for each in values if isinstance(each, np.ndarray)) < _GRAIN:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_array(value: Any) -> bool:
    """Whether it is a tensor or an array."""
    return isinstance(value, (torch.Tensor, np.ndarray))


def _is_floating(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc"


def _probe(whole: Pair, call: _Call, chosen: tuple[int, ...] | None) -> None:
    """Call the forward once, to learn of its results. Only NoGradient is raised: the check says what else is wrong."""
    bound, arrays, _ = whole.bound(call.values)
    if chosen == () or not any(_is_floating(each) for each in arrays):
        return
    try:
        bound.forward(*arrays, **call.options)
    except NoGradient:
        raise
    except Exception:
        return


def _reworded(certificate: Certificate, fixed: Sequence[str], coarse: str) -> Certificate:
    """Return the certificate with the reasons in PyTorch's words."""
    uncovered = tuple(
        each._replace(why="fixed: requires_grad is False")
        if each.name in fixed and each.why.startswith("fixed")
        else each
        for each in certificate.uncovered
    )
    arguments = certificate.arguments
    if coarse:
        note = f"{coarse}, too coarse for differences: let the layer compute and return float32 or float64"
        arguments = tuple(each._replace(note=note) if each.verdict == INCONCLUSIVE else each for each in arguments)
    return replace(certificate, uncovered=uncovered, arguments=arguments)
