# mypy: allow-subclassing-any
"""verify.adapters.torch: right layers of PyTorch pass, by the exact oracle where they can; wrong ones are named."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from helpers import result_of
from verify import check_layer
from verify.adapters import adapt
from verify.checker.certificate import Certificate, GradientMismatch

torch = pytest.importorskip("torch", reason="these are layers in PyTorch: pip install gradcert[oracle]")

from verify.adapters import torch as adapter  # noqa: E402  (it imports torch)

F, nn = torch.nn.functional, torch.nn
Function: Any = torch.autograd.Function
Linear: Any = nn.Linear


def check(target: Any, *inputs: Any, options: Any = None, **settings: Any) -> Certificate:
    """A check that does not raise, seed 0."""
    return result_of(adapter.gradcheck, target, inputs, options, seed=0, **settings)


def drawn(*shape: int, dtype: Any = torch.float64) -> Any:
    """Normal numbers, always the same."""
    return torch.tensor(np.random.default_rng(0).standard_normal(shape), dtype=dtype)


def function(forward: Any, backward: Any) -> Any:
    """An autograd.Function of x and w that saves both."""

    class Made(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return forward(x, w)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return backward(dy, *ctx.saved_tensors)

    return Made


def product(backward: Any) -> Any:
    """x @ w with this backward."""
    return function(lambda x, w: x @ w, backward)


class Strided(Function):
    """A convolution that takes its stride between the arrays, with a default after them."""

    @staticmethod
    def forward(ctx: Any, x: Any, stride: int, w: Any, padding: int = 0) -> Any:
        ctx.save_for_backward(x, w)
        ctx.options = stride, padding
        return F.conv2d(x, w, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, w = ctx.saved_tensors
        dx = nn.grad.conv2d_input(x.shape, w, dy, *ctx.options)
        return dx, None, nn.grad.conv2d_weight(x, w.shape, dy, *ctx.options), None


class Affine(Function):
    """x * slope + shift, with options only."""

    @staticmethod
    def forward(ctx: Any, x: Any, slope: int = 2, shift: int = 0) -> Any:
        ctx.slope = slope
        return x * slope + shift

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return ctx.slope * dy, None, None


class WithSetup(Function):
    """A product in the newer style, whose forward has no ctx."""

    @staticmethod
    def forward(x: Any, w: Any, factor: int = 1) -> Any:
        return factor * x @ w

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, w, ctx.factor = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, w = ctx.saved_tensors
        return ctx.factor * dy @ w.T, ctx.factor * x.T @ dy, None


class CountsOneImage(Strided):
    """Its filter gradient is assigned for each image where it should be added."""

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, w = ctx.saved_tensors
        for image, upstream in zip(x, dy, strict=True):
            dw = nn.grad.conv2d_weight(image[None], w.shape, upstream[None], *ctx.options)
        return nn.grad.conv2d_input(x.shape, w, dy, *ctx.options), None, dw, None


def test_a_convolution_module_is_exact_in_its_input_and_its_parameters() -> None:
    for dtype in (torch.float64, torch.float32):  # of the module: its parameters are taken in the input's
        module = nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=dtype)
        certificate = check(module, drawn(2, 3, 8, 8))
        assert certificate.oracle == "exact integers"
        assert [result.name for result in certificate.arguments] == ["input", "weight", "bias"]
        assert certificate.verdict == "PASS"


def test_parameters_of_modules_in_modules_have_dotted_names() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    certificate = check(module, drawn(2, 1, 8, 8))
    assert [result.name for result in certificate.arguments] == ["input", "0.weight", "0.bias"]
    assert certificate.verdict == "PASS"
    assert "d0.weight (2, 1, 3, 3): PASS" in str(certificate)


def test_relu_and_pooling_are_exact_ties_included() -> None:
    x = torch.tensor(np.random.default_rng(0).integers(-1, 2, (2, 1, 6, 6)), dtype=torch.float64)
    certificate = check(nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)), x)
    assert (certificate.verdict, certificate.oracle) == ("PASS", "exact gapped integers")


def test_batch_norm_in_training_passes_and_its_buffers_stay() -> None:
    module = nn.BatchNorm2d(3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    certificate = check(module, drawn(4, 3, 5, 5))
    assert (certificate.verdict, certificate.oracle) == ("PASS", "extrapolated differences")  # no complex batch norm
    assert [result.name for result in certificate.arguments] == ["input", "weight", "bias"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_function_that_takes_complex_numbers_is_checked_by_the_complex_step() -> None:
    certificate = check(lambda x, w: torch.tanh(x @ w), drawn(3, 4), drawn(4, 2))
    assert (certificate.verdict, certificate.oracle) == ("PASS", "complex step")
    assert [result.name for result in certificate.arguments] == ["x", "w"]


@pytest.mark.parametrize("target", [Strided, Strided.apply], ids=["class", "apply"])
def test_a_function_takes_what_is_no_tensor_by_position_or_by_name(target: Any) -> None:
    x, w = drawn(2, 3, 7, 6), drawn(4, 3, 3, 2)
    for certificate in (
        check(target, x, 2, w),
        check(target, x, 2, w, 1),
        check(target, x, 2, w, options={"padding": 1}),
    ):
        assert (certificate.verdict, certificate.oracle) == ("PASS", "exact integers")
        assert [result.name for result in certificate.arguments] == ["x", "w"]


def test_an_option_may_be_named_without_those_before_it() -> None:
    assert check(Affine, drawn(4), options={"shift": 3}).verdict == "PASS"


def test_a_function_whose_forward_has_no_ctx_is_known_by_it() -> None:
    certificate = check(WithSetup, drawn(5, 4), drawn(4, 3), options={"factor": 3})
    assert (certificate.verdict, [result.name for result in certificate.arguments]) == ("PASS", ["x", "w"])


def test_a_wrong_filter_gradient_is_named_with_its_worst_entry() -> None:
    with pytest.raises(GradientMismatch, match=r"dw \(4, 3, 3, 3\): FAIL, worst entry dw\[") as caught:
        adapter.gradcheck(CountsOneImage.apply, (drawn(2, 3, 8, 8), 2, drawn(4, 3, 3, 3)), seed=0)
    dx, dw = caught.value.certificate.arguments
    assert (dx.verdict, dw.verdict) == ("PASS", "FAIL")


@pytest.mark.parametrize(
    ("backward", "code", "argument"),
    [
        (lambda dy, x, w: (dy @ w.T, None), "no-gradient", "w"),
        (lambda dy, x, w: (dy @ w.T, x @ x.T), "wrong-shape", "w"),
        (lambda dy, x, w: (dy @ w.T,), "gradient-count", None),
        (lambda dy, x, w: (dy @ w.T, x.T @ dy, dy.mul_(2))[:2], "input-overwritten", "dy"),
        (lambda dy, x, w: (dy @ w.T, x.mul_(2).T @ dy), "input-overwritten", "x"),
    ],
)
def test_what_a_backward_may_not_do_is_a_fault_that_is_named(backward: Any, code: str, argument: str | None) -> None:
    certificate = check(product(backward), drawn(5, 4), drawn(4, 3))
    assert certificate.verdict == "FAIL"
    assert [(cause.code, cause.argument) for cause in certificate.causes] == [(code, argument)]


def test_a_forward_that_writes_to_its_input_unless_it_says_so_is_a_fault() -> None:
    wrong = check(
        function(lambda x, w: x.mul_(2) @ w, lambda dy, x, w: (2 * dy @ w.T, x.T @ dy)), drawn(5, 4), drawn(4, 3)
    )
    assert [(cause.code, cause.argument) for cause in wrong.causes] == [("input-overwritten", "x")]
    assert wrong.causes[0].explanation.startswith("forward wrote")

    class InPlace(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(3)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return 3 * dy

    assert check(InPlace, drawn(4)).verdict == "PASS"


def test_an_input_without_connection_has_gradient_zero() -> None:
    assert check(lambda x, unused: 2 * x, drawn(3), drawn(2)).verdict == "PASS"
    cut = check(lambda x, w: x * w.detach(), drawn(3), drawn(3))
    assert [result.verdict for result in cut.arguments] == ["PASS", "FAIL"]
    assert cut.worst is not None
    assert cut.worst.analytic == 0


def test_of_several_results_all_floating_ones_are_checked() -> None:
    right = check(lambda x: (2 * x, {"cube": x**3, "largest": x.argmax()}), drawn(4))
    assert right.verdict == "PASS"

    def hidden(x: Any) -> Any:
        return 2 * x, [product(lambda dy, a, b: (2 * dy @ b.T, a.T @ dy)).apply(x[None], torch.ones_like(x[:, None]))]

    assert check(hidden, drawn(4)).verdict == "FAIL"
    assert check(lambda x: hidden(x)[0], drawn(4)).verdict == "PASS"
    with pytest.raises(TypeError, match=r"must return a floating tensor, or several, got torch\.int64"):
        check(lambda x: x.argmax(), drawn(4))


def test_inputs_of_which_none_is_an_array_are_named_by_what_they_are() -> None:
    with pytest.raises(ValueError, match=r"none of the inputs \(x list\) is an array"):
        check(lambda x: 2 * x, [1.0, 2.0])


def test_of_a_complex_result_both_parts_are_checked() -> None:
    assert check(torch.fft.rfft, drawn(3, 8)).verdict == "PASS"
    forgetful = lambda x: torch.fft.rfft(x).real + 1j * torch.fft.rfft(x).imag.detach()  # noqa: E731
    assert check(forgetful, drawn(3, 8)).verdict == "FAIL"


def test_complex_constants_hide_no_part_of_a_result() -> None:
    x, z = drawn(3, 8), torch.complex(drawn(3, 8), drawn(8, 3).T)
    assert check(lambda x, z: x * z, x, z, wrt=[0]).verdict == "PASS"
    for forgetful in (lambda x, z: x * z.real + 1j * (x * z.imag).detach(), lambda x, z: (x * z).detach() + 0 * x):
        assert check(forgetful, x, z, wrt=[0]).verdict == "FAIL"


def test_integer_inputs_are_handed_through() -> None:
    labels = torch.tensor([0, 2, 1])
    certificate = check(nn.CrossEntropyLoss(), drawn(3, 4), labels)
    assert (certificate.verdict, [result.name for result in certificate.arguments]) == ("PASS", ["input"])
    embedding = check(nn.Embedding(5, 3, dtype=torch.float64), labels)
    assert (embedding.verdict, embedding.oracle) == ("PASS", "exact integers")
    assert [result.name for result in embedding.arguments] == ["weight"]


def test_none_is_handed_through_with_a_gradient_of_none() -> None:
    class Biased(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, b: Any) -> Any:
            ctx.has_bias = b is not None
            return 2 * x + (b if ctx.has_bias else 0)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return 2 * dy, dy.sum(0) if ctx.has_bias else None

    assert check(Biased, drawn(4, 3), None).verdict == "PASS"
    assert check(Biased, drawn(4, 3), drawn(3)).verdict == "PASS"


def test_what_requires_no_gradient_is_held() -> None:
    wrong_in_w = product(lambda dy, x, w: (dy @ w.T, 2 * x.T @ dy))
    x, w = drawn(5, 4).requires_grad_(), drawn(4, 3)
    assert [result.name for result in check(wrong_in_w, x, w).arguments] == ["x"]
    assert check(wrong_in_w, x, w, wrt=["w"]).verdict == "FAIL"
    assert check(wrong_in_w, x, w, wrt=[1]).verdict == "FAIL"
    assert [result.name for result in check(Strided, drawn(2, 3, 7, 6), 2, drawn(4, 3, 3, 2), wrt=[2]).arguments] == [
        "w"
    ]
    assert check(wrong_in_w, x.detach(), w).verdict == "FAIL"  # none requires one: all are checked
    module = nn.Linear(4, 3)
    module.bias.requires_grad_(False)
    assert [result.name for result in check(module, x).arguments] == ["input", "weight"]
    with pytest.raises(ValueError, match="wrt holds 'bias', which is none of the arrays: input, weight"):
        check(module, x, wrt=["bias"])


def test_an_input_by_the_name_of_a_parameter_does_not_hide_it() -> None:
    class Scale(Linear):
        def forward(self, weight: Any) -> Any:
            return super().forward(weight)

    certificate = check(Scale(4, 3), drawn(5, 4).requires_grad_())
    assert [(result.position, result.name) for result in certificate.arguments] == [
        (0, "weight"),
        (1, "weight"),
        (2, "bias"),
    ]


def test_views_do_and_the_callers_arrays_stay() -> None:
    wide = np.random.default_rng(0).standard_normal((4, 10))
    before = wide.copy()
    view = wide[::-1, ::2].T
    frozen = drawn(4, 3).numpy()
    frozen.flags.writeable = False
    assert check(product(lambda dy, x, w: (dy @ w.T, x.T @ dy)), view, frozen).verdict == "PASS"
    np.testing.assert_array_equal(wide, before)


def test_a_backward_that_reads_dy_as_if_it_were_contiguous_is_given_the_layout_of_dy() -> None:
    pair = adapter.pair(lambda x: x * 1)
    seen = []

    class Spy(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            seen.append(dy.stride())
            return dy

    pair = adapter.pair(Spy)
    y, cache = pair.forward(np.zeros((2, 3)))
    (dx,) = pair.backward(np.asfortranarray(np.ones((2, 3))), cache)
    assert seen == [(1, 2)]
    assert dx is not None
    np.testing.assert_array_equal(dx, 1)
    assert not np.shares_memory(dx, y)


def test_two_forwards_and_two_backwards_do_not_disturb_each_other() -> None:
    pair = adapter.pair(nn.Linear(4, 3, dtype=torch.float64))
    one, two = (pair.arrays((drawn(k, 4).numpy(),)) for k in (5, 6))
    y, cache = pair.forward(*one)
    pair.forward(*two)
    first, second = (pair.backward(np.ones_like(y), cache) for _ in range(2))
    for gradient, again, array in zip(first, second, one, strict=True):
        assert gradient is not None
        assert gradient.shape == array.shape
        np.testing.assert_array_equal(gradient, again)
    np.testing.assert_array_equal(first[1], np.ones((3, 5)) @ one[0])


def test_nothing_that_is_returned_shares_memory_with_anything() -> None:
    pair = adapter.pair(function(lambda x, w: (x + w).view_as(x), lambda dy, x, w: (dy, dy)))
    dx, dw = pair.backward(np.ones(3), pair.forward(np.ones(3), np.ones(3))[1])
    assert dx is not None
    assert dw is not None
    assert not np.shares_memory(dx, dw)
    exponential = adapter.pair(torch.exp)
    y, cache = exponential.forward(np.zeros(3))
    y[...] = 7  # autograd has saved it
    np.testing.assert_array_equal(exponential.backward(np.ones(3), cache), np.ones((1, 3)))


def test_gradients_are_found_where_the_caller_has_switched_them_off() -> None:
    with torch.no_grad():
        assert check(nn.Linear(4, 3), drawn(5, 4)).verdict == "PASS"


def test_a_dropout_that_is_random_is_inconclusive_and_says_why() -> None:
    certificate = check(nn.Dropout(0.5), drawn(8))
    assert certificate.verdict == "INCONCLUSIVE"
    assert "randomness" in str(certificate)


def test_adapt_knows_what_is_of_pytorch() -> None:
    partial = functools.partial(F.conv2d, stride=2)
    for target in (Strided, Strided.apply, nn.Linear(2, 1), drawn, torch.compiler.disable(drawn), torch.tanh, partial):
        assert type(adapt(target).forward).__name__ == "Forward"
    assert [each.name for each in adapt(Strided).inputs] == ["x", "stride", "w", "padding"]
    with pytest.raises(TypeError, match=r"Linear cannot be made without arguments, give an instance"):
        adapt(nn.Linear)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (drawn(3), r"inputs must be a tuple, as in \(x,\), got a tensor of shape \(3,\)"),
        ((drawn(3, dtype=torch.bfloat16),), "NumPy has no bfloat16: check the layer in float32 or float64"),
    ],
)
def test_inputs_that_cannot_be_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        adapter.gradcheck(lambda x: x, inputs)


def test_the_lines_that_reproduce_a_failure_begin_with_the_layer() -> None:
    class Scaled(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float) -> Any:
            ctx.factor = factor
            return factor * x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy, None

    certificate = result_of(adapter.gradcheck, Scaled, (torch.ones(3, dtype=torch.float64), 2.0))
    lines = certificate.reproduction.splitlines()
    assert len(lines) <= 10
    assert "forward, backward = adapters.torch.pair(layer).filled({1: 2.0})" in lines
    printed: list[Any] = []
    names = {"layer": Scaled, "print": lambda *values: printed.extend(values)}
    exec("\n".join(line for line in lines if not line.endswith("yours")), names)
    assert printed[1] == 2 * printed[0] != 0


def test_a_class_of_modules_is_made_where_it_needs_no_arguments() -> None:
    assert adapt(torch.nn.Tanh).inputs == adapt(torch.nn.Tanh()).inputs
    x = np.random.default_rng(0).normal(size=(2, 3))
    assert check_layer(torch.nn.Tanh, [((x,), {})], checks=["all-gradients-together"])
    with pytest.raises(TypeError, match="Linear cannot be made without arguments, give an instance"):
        adapt(torch.nn.Linear)
