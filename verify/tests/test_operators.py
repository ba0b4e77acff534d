# mypy: allow-subclassing-any
"""benchmarks.calibrate.operators: what it plants is planted, what it prints is found; on operators of its own."""

from __future__ import annotations

import types
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the operators are PyTorch's: pip install gradcert[oracle]")

from benchmarks.calibrate import operator_errors, operator_samples, operators  # noqa: E402  (it is about torch)


def sample(*inputs: Any, **options: Any) -> Any:
    """A sample as PyTorch's database makes it."""
    return types.SimpleNamespace(input=inputs[0], args=inputs[1:], kwargs=options, output_process_fn_grad=lambda y: y)


def operator(name: str, function: Any, *samples: Any) -> Any:
    """An operator as in PyTorch's database."""
    return types.SimpleNamespace(
        name=name,
        formatted_name=name,
        op=function,
        gradcheck_wrapper=lambda op, *inputs, **options: op(*inputs, **options),
        sample_inputs=lambda device, dtype, requires_grad: iter(samples),
    )


def drawn(*shape: int) -> Any:
    """Normal numbers that require a gradient, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


Function: Any = torch.autograd.Function


class Doubled(Function):
    """A wrong sine."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return 2 * dy * ctx.saved_tensors[0].cos()


def run(monkeypatch: Any, *listed: Any) -> int:
    """The command on these operators."""
    monkeypatch.setattr(operators, "operators", lambda pattern, scale: list(listed))
    return operators.main([])


def test_right_operators_pass_and_their_planted_errors_are_found(monkeypatch: Any, capsys: Any) -> None:
    product = operator("matmul", torch.matmul, sample(drawn(3, 4), drawn(4, 2)))
    joined = operator("cat", torch.cat, sample([drawn(2), drawn(3)], dim=0))
    scaled = operator("where", lambda x, *, other: x * other, sample(drawn(3), other=drawn(3)))
    assert run(monkeypatch, product, joined, scaled) == 0
    said = capsys.readouterr().out
    assert "3 operators, 3 samples" in said
    for size in ("1e-06", "0.001", "-1"):
        assert f"planted errors of {size}: {{'FAIL': 3, 'right entry named': 3}}" in said


@pytest.mark.parametrize(("name", "code", "known"), [("sin", 1, False), ("nn.functional.hardsigmoid", 0, True)])
def test_a_wrong_operator_fails_the_command_unless_it_is_listed(
    monkeypatch: Any, capsys: Any, name: str, code: int, known: bool
) -> None:
    assert run(monkeypatch, operator(name, Doubled.apply, sample(drawn(3)))) == code
    said = capsys.readouterr().out
    assert f"FAIL {name}: analytic" in said
    assert ("(known: its backward takes 1/6 in float32)" in said) == known


def test_a_planted_error_that_is_not_found_fails_the_command(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(operators, "planted", lambda function, *_: function)
    assert run(monkeypatch, operator("sin", torch.sin, sample(drawn(3)))) == 1
    assert "missed: sin" in capsys.readouterr().out


def test_large_samples_and_samples_without_gradient_are_passed_over() -> None:
    listed = [sample(drawn(600)), sample(torch.ones(3)), *(sample(drawn(k)) for k in range(5))]
    found = list(operator_samples.samples(operator("sin", torch.sin, *listed)))
    assert [inputs[0].numel() for _, inputs, _ in found] == [1, 2, 3]


def test_a_sample_that_takes_too_long_is_a_timeout(monkeypatch: Any, capsys: Any) -> None:
    def forever(x: Any) -> Any:
        while True:
            x = x * 1

    assert operator_samples.checked((forever, (drawn(2),), {}), 0.2).verdict == "timeout"
    with operator_samples.limited(60):
        pass
    assert operator_samples.checked((torch.sin, (drawn(2),), {}), 60).verdict == "PASS"


def test_a_share_that_cannot_be_is_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        operators.main(["--scale", "0"])
    assert "--scale 0.0: must lie between 0 and 1" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--scale", "0.5"], ["--operators", "norm"], ["--no-errors"]])
def test_a_part_of_the_database_is_not_written(given: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit):
        operators.main([*given, "--write"])
    assert "--write: takes the whole database" in capsys.readouterr().err


def test_another_entry_or_another_tensor_than_the_planted_one_is_not_the_one_named(monkeypatch: Any) -> None:
    def other(*sample: Any) -> Any:
        found = operator_errors.place_of_largest(*sample)
        assert found is not None
        return found._replace(argument=1 - found.argument)

    monkeypatch.setattr(operators, "place_of_largest", other)
    assert run(monkeypatch, operator("mul", torch.mul, sample(drawn(3), drawn(3)))) == 1


def test_the_page_lists_each_failure_with_its_reason_and_what_became_of_the_errors(
    monkeypatch: Any, tmp_path: Any
) -> None:
    page = tmp_path / "operators.md"
    listed = [
        operator("nn.functional.hardsigmoid", Doubled.apply, sample(drawn(3)), sample(drawn(2))),
        operator("half", lambda x: x.half(), sample(drawn(3))),
        operator("sin", torch.sin, sample(drawn(3))),
        operator("round", torch.round, sample(drawn(3))),
    ]
    monkeypatch.setattr(operators, "PAGE", page)
    monkeypatch.setattr(operators, "operators", lambda pattern, scale: listed)
    assert operators.main(["--write"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "4 operators, 5 samples." in text
    assert "| `nn.functional.hardsigmoid` | 2 | its backward takes 1/6 in float32 |" in text
    assert "| `half` | INCONCLUSIVE | 1 | smooth; darg0; result is torch.float16, too coarse" in text
    assert "| 1e-06 | 1 | 1 | 1 | 0 | 0 |" in text
    assert "gradient is 0 (1 operators)" in text
