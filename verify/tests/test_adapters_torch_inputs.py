# mypy: allow-subclassing-any
"""verify.adapters.torch: tensors inside lists, dicts and options are checked by name, and those outside are named."""

from __future__ import annotations

import dataclasses
import functools
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify import gradcheck
from verify.adapters import layer_name
from verify.checker.certificate import Certificate

torch = pytest.importorskip("torch", reason="these are layers in PyTorch: pip install gradcert[oracle]")

from verify.adapters import torch as adapter  # noqa: E402  (it imports torch)

nn: Any = torch.nn
Function: Any = torch.autograd.Function
Module: Any = nn.Module


def check(target: Any, *inputs: Any, options: Any = None, **settings: Any) -> Certificate:
    """A check that does not raise, seed 0."""
    return result_of(adapter.gradcheck, target, inputs, options, seed=0, **settings)


def drawn(*shape: int, grad: bool = False, seed: int = 0) -> Any:
    """Normal numbers, always the same."""
    tensor = torch.tensor(np.random.default_rng(seed).standard_normal(shape), dtype=torch.float64)
    return tensor.requires_grad_(grad)


class Join(Function):
    """Two tensors, one after the other. Its gradients are `factor` times the right ones."""

    factor = 1

    @classmethod
    def forward(cls, ctx: Any, a: Any, b: Any) -> Any:
        ctx.at = len(a)
        return torch.cat([a, b])

    @classmethod
    def backward(cls, ctx: Any, dy: Any) -> Any:
        return cls.factor * dy[: ctx.at], dy[ctx.at :]


class WrongJoin(Join):
    """Twice the gradient of the first tensor."""

    factor = 2


@dataclasses.dataclass
class State:
    """Two tensors and a number."""

    h: Any
    c: Any
    steps: int = 1


Two = namedtuple("Two", "first second")


class Fuse(Module):
    """A module that takes a list and a tensor."""

    def __init__(self, join: Any) -> None:
        super().__init__()
        self.join, self.scale = join, nn.Parameter(drawn(5, seed=3))

    def forward(self, features: Any, x: Any) -> Any:
        return self.join.apply(*features) * x * self.scale


# Form -> a function of the Function under test, the inputs, and the names of the checked arrays.
NESTED: dict[str, tuple[Any, tuple[Any, ...], list[str]]] = {
    "list": (lambda f: lambda parts: f(*parts), ([drawn(2), drawn(3, seed=1)],), ["parts[0]", "parts[1]"]),
    "dict": (
        lambda f: lambda d: f(d["a"], d["b"]) * d["times"],
        ({"a": drawn(2), "b": drawn(3, seed=1), "times": 3},),
        ['d["a"]', 'd["b"]'],
    ),
    "list beside a tensor": (
        lambda f: lambda parts, ref: f(*parts) * ref,
        ((drawn(2), drawn(3, seed=1)), drawn(5, seed=2)),
        ["parts[0]", "parts[1]", "ref"],
    ),
    "dict of lists": (
        lambda f: lambda p: f(p["layers"][0], p["layers"][1]),
        ({"layers": [drawn(2), drawn(3, seed=1)]},),
        ['p["layers"][0]', 'p["layers"][1]'],
    ),
    "dataclass": (
        lambda f: lambda state: f(state.h, state.c) * state.steps,
        (State(drawn(2), drawn(3, seed=1), 2),),
        ["state.h", "state.c"],
    ),
    "named tuple": (
        lambda f: lambda pair: f(pair.first, pair.second),
        (Two(drawn(2), drawn(3, seed=1)),),
        ["pair.first", "pair.second"],
    ),
    "NumPy arrays in a list": (
        lambda f: lambda parts: f(*parts),
        ([drawn(2).numpy(), drawn(3, seed=1).numpy()],),
        ["parts[0]", "parts[1]"],
    ),
    "module": (
        lambda f: Fuse(Join if f == Join.apply else WrongJoin),
        ([drawn(2), drawn(3, seed=1)], drawn(5, seed=2)),
        ["features[0]", "features[1]", "x", "scale"],
    ),
}


@pytest.mark.parametrize(("wrap", "inputs", "names"), NESTED.values(), ids=NESTED)
def test_tensors_inside_containers_are_checked_each_by_its_name(wrap: Any, inputs: Any, names: list[str]) -> None:
    right = check(wrap(Join.apply), *inputs)
    assert (right.verdict, [result.name for result in right.arguments]) == ("PASS", names)
    wrong = check(wrap(WrongJoin.apply), *inputs)
    assert [result.name for result in wrong.arguments if result.verdict == "FAIL"] == names[:1]
    assert names[0] in str(wrong)


def test_tensors_in_options_are_checked_and_other_options_stay_options() -> None:
    def scaled(f: Any) -> Any:
        return lambda a, *, other, factor=1, extra=None: factor * f(a, other) + extra["shift"]

    options = {"other": drawn(3, seed=1), "factor": 3, "extra": {"shift": drawn(5, seed=2)}}
    right = check(scaled(Join.apply), drawn(2), options=options)
    assert [result.name for result in right.arguments] == ["a", "other", 'extra["shift"]']
    assert right.verdict == "PASS"
    assert check(scaled(WrongJoin.apply), drawn(2), options=options).verdict == "FAIL"
    only = {"other": drawn(3, seed=1, grad=True), "extra": {"shift": 0}}
    assert [result.name for result in check(scaled(Join.apply), drawn(2), options=only).arguments] == ["other"]


def test_of_leaves_of_which_some_require_a_gradient_the_others_are_fixed_and_named() -> None:
    parts = [drawn(2, grad=True), drawn(3, seed=1)]
    certificate = check(lambda parts: WrongJoin.apply(*parts), parts)
    assert [(result.name, result.verdict) for result in certificate.arguments] == [("parts[0]", "FAIL")]
    assert [str(each) for each in certificate.uncovered] == ["parts[1] (fixed: requires_grad is False)"]
    other = [drawn(2), drawn(3, seed=1, grad=True)]
    assert check(lambda parts: WrongJoin.apply(*parts), other).verdict == "PASS"


def test_a_fixed_tensor_requires_no_gradient_while_the_layer_is_called() -> None:
    asked = []

    class Asked(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(w)
            return x * w

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            asked.append(ctx.needs_input_grad)
            return dy * ctx.saved_tensors[0], None

    assert check(Asked, drawn(3, grad=True), drawn(3)).verdict == "PASS"
    assert set(asked) == {(True, False)}


@pytest.mark.parametrize(("wrt", "names"), [(["parts"], 2), ([0], 2), (["parts[1]"], 1), ([1], 1), (["ref"], 1)])
def test_wrt_takes_a_leaf_or_all_of_an_argument(wrt: Any, names: int) -> None:
    certificate = check(
        lambda parts, ref: Join.apply(*parts) * ref, [drawn(2), drawn(3, seed=1)], drawn(5, seed=2), wrt=wrt
    )
    assert (certificate.verdict, len(certificate.arguments)) == ("PASS", names)
    with pytest.raises(ValueError, match=r"wrt holds 'part', which is none of the arrays: parts\[0\], parts\[1\], ref"):
        check(lambda parts, ref: Join.apply(*parts) * ref, [drawn(2), drawn(3)], drawn(5), wrt=["part"])
    with pytest.raises(TypeError, match=r"wrt must be a sequence of names or positions, as in \['ref'\], got 'ref'"):
        check(lambda parts, ref: Join.apply(*parts) * ref, [drawn(2), drawn(3)], drawn(5), wrt="ref")


def test_the_containers_of_the_caller_stay_as_they_are() -> None:
    parts = {"a": [drawn(2), 3], "b": drawn(3, seed=1)}
    before = [id(parts["a"]), id(parts["a"][0]), id(parts["b"])]
    assert check(lambda d: Join.apply(d["a"][0] * d["a"][1], d["b"]), parts).verdict == "PASS"
    assert [id(parts["a"]), id(parts["a"][0]), id(parts["b"])] == before


@pytest.mark.parametrize("form", ["list", "dict", "list beside a tensor"])
def test_the_lines_that_reproduce_a_failure_make_the_containers(form: str) -> None:
    wrap, inputs, _ = NESTED[form]
    layer = wrap(WrongJoin.apply)
    lines = check(layer, *inputs).reproduction.splitlines()
    assert any("adapters.torch.pair(layer, like=" in line for line in lines)
    printed: list[Any] = []
    names = {"layer": layer, "print": lambda *values: printed.extend(values)}
    exec("\n".join(line for line in lines if not line.endswith("yours")), names)
    assert printed[0] == 2 * printed[1] != 0


W = drawn(4, 3, seed=1, grad=True)
NET = nn.Linear(4, 3).double()


class Wrong(Module):
    """A module with a wrong gradient of its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(drawn(2, seed=1))

    def forward(self, x: Any) -> Any:
        return WrongJoin.apply(self.shift, x)


def of_a_global(x: Any) -> Any:
    """Uses a tensor of its module."""
    return x @ W


class Holder:
    """A plain object with a tensor and a method."""

    def __init__(self) -> None:
        self.weight = W

    def product(self, x: Any) -> Any:
        return x @ self.weight

    __call__ = product


def closing(weight: Any) -> Any:
    """A function that closes over a list."""
    listed = [weight]
    return lambda x: x @ listed[0]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (of_a_global, "W"),
        (closing(W), "listed[0]"),
        (functools.partial(lambda x, w: x @ w, w=W), "w"),
        (Holder().product, "self.weight"),
        (Holder(), "self.weight"),
        (lambda x, weight=W: x @ weight.exp(), "weight"),
    ],
    ids=["global", "closure", "partial", "method", "object", "default"],
)
def test_a_tensor_that_a_function_closes_over_is_named_and_makes_no_pass(target: Any, name: str) -> None:
    certificate = check(target, drawn(5, 4))
    assert certificate.verdict == "INCONCLUSIVE"
    assert [each.name for each in certificate.uncovered if each.matters] == [name]
    assert "requires_grad_(False)" in str(certificate)
    assert check(target, drawn(5, 4, grad=True)).verdict == "INCONCLUSIVE"
    W.requires_grad_(False)  # the remedy
    try:
        assert check(target, drawn(5, 4)).verdict == "PASS"
    finally:
        W.requires_grad_(True)


def test_what_is_closed_over_and_not_used_or_detached_matters_not() -> None:
    assert check(lambda x: x @ W.detach(), drawn(5, 4)).verdict == "PASS"
    assert check(functools.partial(lambda x, w: 2 * x, w=W), drawn(5, 4)).verdict == "PASS"
    assert check(lambda x, w: x @ w, drawn(5, 4), W).verdict == "PASS"


def test_modules_that_a_function_closes_over_are_checked() -> None:
    right = check(lambda x: torch.tanh(NET(x)), drawn(5, 4))
    assert (right.verdict, [result.name for result in right.arguments]) == ("PASS", ["x", "NET.weight", "NET.bias"])
    given = check(lambda net, x: net["a"](x), {"a": NET}, drawn(5, 4))
    assert [result.name for result in given.arguments] == ["x", 'net["a"].weight', 'net["a"].bias']
    assert given.verdict == "PASS"
    wrong = Wrong()
    for target in (lambda x: wrong(x)[0:4], functools.partial(lambda net, x: net(x), wrong), wrong.forward):
        certificate = check(target, drawn(3))
        assert [result.verdict for result in certificate.arguments] == ["PASS", "FAIL"]
        assert certificate.arguments[1].name.endswith("shift")


def test_parameters_that_a_module_does_not_register_are_named() -> None:
    class Hiding(Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [NET]

        def forward(self, x: Any) -> Any:
            return self.layers[0](x)

    certificate = check(Hiding(), drawn(5, 4))
    assert certificate.verdict == "INCONCLUSIVE"
    assert [each.name for each in certificate.uncovered] == ["self.layers[0].weight", "self.layers[0].bias"]


def test_fixed_parameters_and_buffers_of_a_module_are_listed() -> None:
    module = nn.BatchNorm1d(3).double()
    module.bias.requires_grad_(False)
    certificate = check(module, drawn(4, 3))
    assert {each.name: each.why for each in certificate.uncovered} == {
        "bias": "fixed: requires_grad is False",
        "running_mean": "fixed: a buffer",
        "running_var": "fixed: a buffer",
    }
    assert certificate.verdict == "PASS"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((drawn(3) + 0j,), r"x is complex, and .* lambda re, im: layer\(torch\.complex\(re, im\)\)"),
        (([drawn(3), drawn(3) + 0j],), r"x\[1\] is complex, and gradients are checked at real arrays"),
        (
            (drawn(3, 3).to_sparse(),),
            r"x is sparse \(torch\.sparse_coo\): check a function of its values",
        ),
        (([drawn(3, 3).to_sparse()],), r"x\[0\] is sparse \(torch\.sparse_coo\): check a function of its values"),
        ((torch.ones(3, device="meta"),), "x is on the device meta and holds no numbers"),
    ],
)
def test_tensors_that_cannot_be_checked_are_refused_with_a_detour(inputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check(lambda x: x, *inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 1e-6}, "gradcheck takes no eps: leave it out: steps and tolerances follow"),
        ({"nondet_tol": 1e-3}, "gradcheck takes no nondet_tol: leave it out"),
        ({"check_forward_ad": True}, "gradcheck takes no check_forward_ad: backward is checked, and nothing else"),
        ({"raise_exception": False}, "gradcheck takes no raise_exception: write raise_on_failure="),
        ({"masked": True}, "gradcheck takes no masked: of a sparse tensor, check a function of its values"),
        ({"stride": 2}, "gradcheck takes no stride: .* one dict"),
    ],
)
def test_settings_of_other_checkers_get_a_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check(Join.apply, drawn(2), drawn(3), **settings)
    with pytest.raises(TypeError, match=message):
        check(lambda parts: Join.apply(*parts), [drawn(2), drawn(3)], **settings)
    assert check(Join.apply, drawn(2), drawn(3)).verdict == "PASS"


def test_a_pytorch_style_call_of_the_core_names_the_adapters() -> None:
    with pytest.raises(TypeError, match=r"write verify\.adapters\.gradcheck\(layer, inputs\)"):
        gradcheck(Join.apply, (drawn(2), drawn(3)))  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize(
    ("target", "name"), [(Join, "Join"), (WrongJoin.apply, "WrongJoin"), (Fuse(Join), "Fuse"), (closing, "closing")]
)
def test_a_layer_is_named_as_its_user_names_it(target: Any, name: str) -> None:
    assert layer_name(adapter.pair(target)) == name
