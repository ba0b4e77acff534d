"""python -m verify check: layers with state and names of their own, all checks, and what a file holds."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from verify.command.cli import cli, main

ROOT = Path(__file__).parents[2]
FILE = """
    import numpy as np

    class Stateful:
        def __init__(self, width=3, *, off=1):
            self.weights, self.running_mean, self.off = np.ones((4, width)), np.full(width, 0.5), off
            self.weights_gradient = np.zeros((4, width))
        def forward(self, x):
            self.x = x
            return x @ self.weights - self.running_mean.astype(x.dtype)
        def backward(self, dy):
            self.weights_gradient = self.weights_gradient + self.off * self.x.T @ dy
            return dy @ self.weights.T
        def zero_grad(self):
            self.weights_gradient = np.zeros_like(self.weights)

    class Named:
        def __init__(self, factor, kind="plain"):
            self.factor = factor if kind == "plain" else 0
        def __call__(self, x):
            return self.factor * x
        def zero_grad(self):
            pass
        def backward_pass(self, dy):
            return self.factor * dy

    def relu(x):
        return np.maximum(x, 0), x

    def relu_backward(dy, x):
        return (dy * (x > 0),)

    def forward_scale(x, s):
        return x * s, (x, s)

    def backward_scale(dy, cache):
        x, s = cache
        return dy * s, (dy * x).sum()

    def helper(x):
        return x

    class OneWay:
        def forward(self, x):
            return x

    instance = Named(3.0)
    numbers = [1, 2]
"""

STATE = ("--parameter", "weights=weights_gradient", "--fixed", "running_mean", "--reset", "zero_grad")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file with layers of several styles."""
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(FILE), encoding="utf-8")
    return path


def run(*arguments: object) -> Result:
    """`python -m verify check`, in this process."""
    return CliRunner().invoke(cli, ["check", *map(str, arguments)])


@pytest.mark.parametrize(("off", "code"), [(1, 0), (5, 1)])
def test_parameters_fixed_arrays_and_a_reset_are_named(mine: Path, off: int, code: int) -> None:
    result = run(f"{mine}:Stateful", "--init", f"off={off}", "--shape", "x=5,4", *STATE)
    assert result.exit_code == code, result.output
    assert f"dweights (4, 3): {'FAIL' if code else 'PASS'}" in result.output
    assert "drunning_mean" not in result.output


def test_what_is_not_checked_is_named_with_the_option_to_give(mine: Path) -> None:
    result = run(f"{mine}:Stateful", "--shape", "x=5,4", "--reset", "zero_grad")
    assert result.exit_code == 4, result.output
    assert "not checked: running_mean" in result.output
    assert "--fixed running_mean" in result.output
    assert "fixed=(" not in result.output
    assert run(f"{mine}:Stateful", "--shape", "x=5,4", "--reset", "zero_grad", "--fixed", "running_mean").exit_code == 0


def test_without_the_reset_the_gradients_pile_up(mine: Path) -> None:
    assert run(f"{mine}:Stateful", "--shape", "x=5,4", *STATE[:4]).exit_code == 1


@pytest.mark.parametrize(
    ("init", "shape"), [("", "(4, 3)"), ("2", "(4, 2)"), ("width=2, off=1", "(4, 2)"), ("5, off=1", "(4, 5)")]
)
def test_the_arguments_of_a_class_are_python_literals(mine: Path, init: str, shape: str) -> None:
    result = run(f"{mine}:Stateful", "--init", init, "--shape", "x=5,4", *STATE)
    assert result.exit_code == 0, result.output
    assert f"dweights {shape}: PASS" in result.output


def test_a_bare_word_is_a_string(mine: Path) -> None:
    names = ("--forward", "__call__", "--backward", "backward_pass", "--shape", "x=5")
    assert run(f"{mine}:Named", "--init", "2, plain", *names).exit_code == 0
    assert run(f"{mine}:instance", *names).exit_code == 0


def test_functions_of_a_module_can_be_named_as_the_two(mine: Path) -> None:
    alone = run(f"{mine}:relu", "--shape", "x=5")
    assert alone.exit_code == 2
    assert "relu is one of two functions: write" in " ".join(alone.output.replace("│", "").split())
    result = run(mine, "--forward", "relu", "--backward", "relu_backward", "--shape", "x=5")
    assert result.exit_code == 0, result.output


def test_a_file_without_a_name_lists_what_it_holds(mine: Path) -> None:
    result = run(mine)
    assert result.exit_code == 5
    listed = [line.replace(str(mine), "mine.py") for line in result.output.splitlines()]
    assert listed[1:] == [
        "  mine.py:Stateful --shape x=...    (a class)",
        '  mine.py:Named --forward __call__ --backward backward_pass --init "factor=..." --shape x=...    (a class)',
        "  mine.py:instance --forward __call__ --backward backward_pass --shape x=...    (an instance)",
        "  mine.py:relu,relu_backward --shape x=...    (two functions)",
        "  mine.py:forward_scale,backward_scale --shape x=... --shape s=...    (two functions)",
    ]


def test_a_file_with_nothing_to_check_says_what_could_be(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("import math\nLIMIT = 3\n\ndef helper(x):\n    return x\n", encoding="utf-8")
    result = run(path)
    assert result.exit_code == 2
    assert "has nothing that could be checked" in " ".join(result.output.replace("│", " ").split())


def test_a_file_of_pytorch_lists_its_layers(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "in_torch.py"
    code = """
        import torch
        from torch import nn

        class Half(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x / 2
            @staticmethod
            def backward(ctx, dy):
                return dy / 2

        class Block(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.linear = nn.Linear(width, 2)
            def forward(self, x):
                return self.linear(x)

        def swish(x):
            return x * torch.sigmoid(x)
    """
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    result = run(path)
    listed = [line.replace(str(path), "in_torch.py") for line in result.output.splitlines()[1:]]
    assert listed == [
        "  in_torch.py:Half --shape x=...    (a class)",
        '  in_torch.py:Block --init "width=..." --shape ...    (a class)',
        "  in_torch.py:swish --shape x=...    (a function)",
    ]
    assert run(f"{path}:Block", "--init", "width=4", "--shape", "x=3,4").exit_code == 0


def test_all_checks_are_run_and_written_for_machines(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    result = run(f"{mine}:relu,relu_backward", "--shape", "x=3,4", "--checks", "--json", path)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("relu: 15 checks in ")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    verdicts = {row["version"]: row["verdict"] for row in rows}
    assert len(verdicts) == 15
    assert verdicts["gradients-at-zeros"] == "PASS"


def test_a_check_that_fails_is_exit_code_1_unless_it_is_expected_to(mine: Path) -> None:
    arguments = (f"{mine}:Stateful", "--shape", "x=5,4", *STATE, "--checks", "--batch", "0")
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert "another-forward-disturbs-nothing        1 case   FAIL" in result.output
    assert "gradients-of-an-empty-batch             1 case   PASS" in result.output
    expected = run(*arguments, "--expected-failure", "another-forward-disturbs-nothing=one instance, one cache")
    assert expected.exit_code == 0, expected.output
    assert "EXPECTED FAILURE  (one instance, one cache)" in expected.output


PACKAGE = """
    from {dots}base import Base

    class Double(Base):
        def forward(self, x):
            return 2 * x
        def backward(self, dy):
            return 2 * dy
"""


@pytest.mark.parametrize("dots", [".", ".."])
@pytest.mark.parametrize("packages", [True, False], ids=["packages", "folders"])
@pytest.mark.parametrize("base", ["class Base: pass", "import nowhere_at_all"], ids=["right", "wrong"])
def test_a_file_with_relative_imports_is_one_of_its_package(
    tmp_path: Path, dots: str, packages: bool, base: str
) -> None:
    folder = tmp_path / "outer" / "layers"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(textwrap.dedent(PACKAGE).replace("{dots}", dots), encoding="utf-8")
    (folder if dots == "." else folder.parent).joinpath("base.py").write_text(base, encoding="utf-8")
    for each in (folder, folder.parent) if packages else ():
        (each / "__init__.py").touch()
    command = [sys.executable, "-m", "verify", "check", "layers/mine.py:Double", "--shape", "x=3,4"]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent, env=environment)
    if base.startswith("class"):
        assert (done.returncode, done.stdout.split(":")[0]) == (0, "PASS"), done.stdout + done.stderr
    else:
        assert done.returncode == 3
        assert done.stdout.startswith("ERROR: ModuleNotFoundError: No module named 'nowhere_at_all'")


def test_a_relative_import_that_leads_nowhere_says_how_to_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "alone" / "mine.py"
    path.parent.mkdir()
    path.write_text("from ......far import Base\n", encoding="utf-8")
    result = run(f"{path}:Double", "--shape", "x=3")
    text = " ".join(result.output.replace("│", " ").split())
    assert result.exit_code == 2
    assert "mine.py has relative imports" in text
    assert "alone.mine:NAME" in text


def test_the_version_and_the_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert EntryPoint("gradcert", project["scripts"]["gradcert"], "console_scripts").load() is main
    for argument, text in (("--version", f"gradcert {project['version']}\n"), ("--help", "Usage: gradcert [OPTIONS]")):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/gradcert", argument])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--layer", "relu", "--implementation", "im2col"), "relu has no im2col, but naive, vectorized"),
        (
            ("--layer", "conv2d", "--implementation", "vectorized"),
            "conv2d has no vectorized, but naive, im2col, blocked",
        ),
        (("--layer", "digits", "--implementation", "im2col"), "digits has no im2col, but naive, fast"),
    ],
)
def test_a_version_that_a_layer_has_not_is_answered_with_those_it_has(
    arguments: tuple[str, ...], sentence: str
) -> None:
    if "digits" in arguments:
        pytest.importorskip("sklearn")
    result = CliRunner().invoke(cli, ["run", "--examples", "1", *arguments])
    assert result.exit_code == 5
    assert f"{sentence}\nnothing was checked\n" in result.output


def test_no_version_is_missed_where_a_layer_has_one() -> None:
    result = CliRunner().invoke(cli, ["run", "--examples", "1", "--layer", "relu", "--implementation", "fast"])
    assert result.exit_code == 0
    assert "has no" not in result.output
