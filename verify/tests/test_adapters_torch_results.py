# mypy: allow-subclassing-any
"""verify.adapters.torch: each result is checked alone as well. Those without a gradient are left out, and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify.checker.certificate import Certificate, GradientMismatch

torch = pytest.importorskip("torch", reason="these are layers in PyTorch: pip install gradcert[oracle]")

from verify.adapters import torch as adapter  # noqa: E402  (it imports torch)
from verify.adapters._results import MOST_ALONE  # noqa: E402

Function: Any = torch.autograd.Function


def check(target: Any, *inputs: Any, options: Any = None, **settings: Any) -> Certificate:
    """A check that does not raise, seed 0."""
    return result_of(adapter.gradcheck, target, inputs, options, seed=0, **settings)


def drawn(*shape: int, dtype: Any = torch.float64) -> Any:
    """Normal numbers, always the same."""
    return torch.tensor(np.random.default_rng(0).standard_normal(shape), dtype=dtype)


def marked(factor: int) -> Any:
    """x^3 beside a mean that is marked as without gradient."""

    class Marked(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            mean = x.mean()
            ctx.save_for_backward(x)
            ctx.mark_non_differentiable(mean)
            return x**3, mean

        @staticmethod
        def backward(ctx: Any, dy: Any, _: Any) -> Any:
            return factor * ctx.saved_tensors[0] ** 2 * dy

    return Marked


def two(backward: Any, *, materialize: bool = False) -> Any:
    """sin(x) and x^2, with a backward of (x, ds, dq)."""

    class TwoResults(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(materialize)
            ctx.save_for_backward(x)
            return x.sin(), x**2

        @staticmethod
        def backward(ctx: Any, ds: Any, dq: Any) -> Any:
            return backward(*ctx.saved_tensors, ds, dq)

    return TwoResults


# A layer with a factor, 3 in the right one; and what is said of the result that is left out.
WITHOUT = {
    "marked": (marked, "result 1 (no gradient: detached, or marked as non-differentiable)"),
    "detached": (
        lambda factor: lambda x: (x.detach() * 7, marked(factor).apply(x)[0]),
        "result 0 (no gradient: detached, or marked as non-differentiable)",
    ),
    "integers": (
        lambda factor: lambda x: (marked(factor).apply(x)[0], x.argmax()),
        "result 1 (no gradient: torch.int64)",
    ),
    "in a dict": (
        lambda factor: lambda x: {"loss": marked(factor).apply(x)[0], "accuracy": x.detach().mean()},
        'result["accuracy"] (no gradient: detached, or marked as non-differentiable)',
    ),
    "a number": (
        lambda factor: lambda x: (marked(factor).apply(x)[0], [x.mean().item()]),
        "result 1[0] (no gradient: float)",
    ),
}


@pytest.mark.parametrize(("layer", "said"), WITHOUT.values(), ids=WITHOUT)
def test_a_result_without_gradient_is_left_out_and_said(layer: Any, said: str) -> None:
    right = check(layer(3), drawn(3, 4))
    assert (right.verdict, [str(each) for each in right.uncovered]) == ("PASS", [said])
    assert f"not checked: {said}" in str(right)
    assert check(layer(2), drawn(3, 4)).verdict == "FAIL"


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (lambda x: x.detach() * 2, r"result \(torch\.float64\) has no gradient"),
        (lambda x: (x.detach(), x.argmax()), r"result 0 \(torch\.float64\) has no gradient"),
        (lambda x: {"a": torch.ones(2), "b": x.detach()}, r'result\["a"\] \(torch\.float32\), result\["b"\] '),
        (torch.no_grad()(lambda x: 2 * x), "it is detached, marked as non-differentiable, or does not depend on"),
    ],
)
def test_if_no_result_has_a_gradient_that_is_an_error(layer: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"nothing to check: .*{named}"):
        check(layer, drawn(3))


def zero(gradient: Any, factor: Any) -> Any:
    """The product, or zero for an undefined gradient."""
    return 0 if gradient is None else gradient * factor


def drops_a_term(x: Any, ds: Any, dq: Any) -> Any:
    """Right together, and alone without the second result."""
    return (zero(ds, x.cos()) + zero(dq, 2 * x)) if ds is not None else torch.zeros_like(x)


def breaks(x: Any, ds: Any, dq: Any) -> Any:
    """Right together, and it raises if one is undefined."""
    return ds * x.cos() + 2 * x * dq


def notices_zeros(x: Any, ds: Any, dq: Any) -> Any:
    """Right unless all of the first gradient is zero."""
    return (ds * x.cos() + 2 * x * dq) if ds.any() else ds


RIGHT = [
    two(lambda x, ds, dq: zero(ds, x.cos()) + zero(dq, 2 * x)),
    two(breaks, materialize=True),
    lambda x: (*torch.linalg.svd(x.reshape(2, -1), full_matrices=False)[1:2], x.sin()),
    lambda x: (x, x, {"y": 2 * x}),
    lambda x: x.exp().unbind(),
]


@pytest.mark.parametrize("layer", RIGHT)
def test_right_layers_of_several_results_pass(layer: Any) -> None:
    assert check(layer, drawn(4)).verdict == "PASS"


@pytest.mark.parametrize(
    ("layer", "code", "result"),
    [
        (two(breaks), "raised", 0),
        (two(drops_a_term), "zero", 1),
        (two(notices_zeros, materialize=True), "zero", 1),
        (lambda x: dict(zip("ba", two(drops_a_term).apply(x), strict=True)), "zero", 0),
    ],
)
def test_a_backward_that_is_wrong_with_one_result_alone_fails(layer: Any, code: str, result: int) -> None:
    certificate = check(layer, drawn(4))
    assert certificate.verdict == "FAIL"
    assert [cause.code for cause in certificate.causes] == [code]
    name = f"result {result}" if callable(getattr(layer, "apply", None)) else 'result["a"]'
    assert f"with {name} alone" in certificate.arguments[0].note
    assert certificate.causes[0].explanation.endswith(f"with {name} alone")


def test_what_a_backward_raises_with_one_result_alone_is_the_cause_of_the_exception() -> None:
    with pytest.raises(GradientMismatch) as caught:
        adapter.gradcheck(two(breaks), (drawn(4),), seed=0)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_function_used_for_one_of_its_results_is_checked_so() -> None:
    layer = two(drops_a_term)
    assert check(lambda x: layer.apply(x)[0], drawn(4)).verdict == "PASS"
    assert check(lambda x: layer.apply(x)[1], drawn(4)).verdict == "FAIL"


def test_pytorchs_own_group_norm_drops_a_term() -> None:
    def norm(x: Any) -> Any:
        return torch.native_group_norm(x, None, None, 2, 4, 9, 2, 1e-5)

    certificate = check(norm, drawn(2, 4, 3, 3))
    assert certificate.verdict == "FAIL"
    assert "with result 1 alone" in str(certificate)
    assert check(lambda x: norm(x)[0], drawn(2, 4, 3, 3)).verdict == "PASS"


def test_of_many_results_those_beyond_the_first_are_checked_if_they_are_not_the_same_alone() -> None:
    class Many(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return tuple((k + 1) * x for k in range(MOST_ALONE + 2))

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> Any:
            wrong = sum(bool(each.any()) for each in upstream) == 1 and upstream[-1].any()
            return sum((k + 1) * each for k, each in enumerate(upstream)) * (2 if wrong else 1)

    certificate = check(Many, drawn(2))
    assert certificate.verdict == "FAIL"
    assert f"with result {MOST_ALONE + 1} alone" in str(certificate)
    nine, eight = (check(lambda x, n=n: tuple(Many.apply(x)[:n]), drawn(2)) for n in (MOST_ALONE + 1, MOST_ALONE))
    assert nine.forward_calls == eight.forward_calls


def test_the_lines_that_reproduce_a_failure_take_the_one_result() -> None:
    layer = two(drops_a_term)
    lines = check(layer, drawn(4)).reproduction.splitlines()
    assert "forward, backward = adapters.torch.pair(layer, result=1)" in lines


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: torch.linalg.norm(x, 0),
        lambda x: torch.linalg.vector_norm(x, 0) + x.sum(),
        lambda x, w: torch.linalg.norm(x.clone(), 0) * w,
    ],
)
def test_an_undefined_gradient_of_a_built_in_operator_is_zero(layer: Any) -> None:
    inputs = [drawn(4)] * layer.__code__.co_argcount
    certificate = check(layer, *inputs)
    assert not [cause for cause in certificate.causes if cause.code == "no-gradient"]
    assert certificate.verdict != "FAIL"


def returning(*gradients: Any) -> Any:
    """x * w with these functions as its gradients, or None."""

    class Returning(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return tuple(None if each is None else each(dy, *ctx.saved_tensors) for each in gradients)

    return Returning


@pytest.mark.parametrize("around", [lambda x: x, torch.exp, lambda x: x.reshape(2, 2).T.reshape(4)])
def test_none_from_a_function_is_a_fault_however_its_input_was_made(around: Any) -> None:
    right = returning(lambda dy, x, w: dy * w, lambda dy, x, w: dy * x)
    wrong = returning(lambda dy, x, w: dy * w, None)
    assert check(lambda x, w: right.apply(x, around(w)), drawn(4), drawn(4)).verdict == "PASS"
    certificate = check(lambda x, w: wrong.apply(x, around(w)), drawn(4), drawn(4))
    assert ("no-gradient", "w") in [(cause.code, cause.argument) for cause in certificate.causes]
    # What else depends on w gives it a gradient, and the values say the rest.
    beside = check(lambda x, w: wrong.apply(x, w) + 2 * w, drawn(4), drawn(4))
    assert [cause.code for cause in beside.causes if cause.argument == "w"] != ["no-gradient"]
    assert beside.verdict == "FAIL"


@pytest.mark.filterwarnings("ignore:Casting complex values", "ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", [torch.sin, lambda x: (torch.tanh(x), x), lambda x: {"y": x.exp()}])
def test_a_coarse_result_is_named_by_its_dtype(layer: Any, dtype: Any) -> None:
    def cast(x: Any) -> Any:
        result = layer(x)
        return (
            result[0].to(dtype)
            if isinstance(result, tuple)
            else torch.as_tensor(result["y"] if isinstance(result, dict) else result).to(dtype)
        )

    certificate = check(cast, drawn(4))
    assert certificate.verdict == "INCONCLUSIVE"
    assert f"result is {dtype}, too coarse for differences" in certificate.arguments[0].note
    assert "float32 is too coarse" not in certificate.arguments[0].note
    assert check(lambda x: layer(x), drawn(4)).verdict == "PASS"


def test_a_sparse_result_is_refused_with_a_detour() -> None:
    with pytest.raises(TypeError, match=r"result is sparse \(torch\.sparse_coo\): return its values, or y\.to_dense"):
        check(lambda x: x.to_sparse(), drawn(3, 3))
    assert check(lambda x: x.to_sparse().to_dense(), drawn(3, 3)).verdict == "PASS"
