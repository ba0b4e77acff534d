"""python -m verify check: somebody's own layer, by its name."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import verify
from verify.command.cli import cli

LAYERS = """
    import sys
    import numpy as np

    class Linear:
        def __init__(self):
            self.W = np.ones((4, 3))
        def forward(self, x):
            self.x = x
            return x @ self.W
        def backward(self, dy):
            self.dW = self.x.T @ dy
            return dy @ self.W.T

    class Wrong(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW[1, 0] *= 1 + 1e-9
            return dx

    class Inside:
        layer = Linear()

    class Raising(Linear):
        def forward(self, x):
            raise ZeroDivisionError("no such luck")

    def forward(x, w, *, stride=1, mode="same"):
        print("a layer that prints")
        assert (stride, mode) == ((2, 1), "valid")
        return x @ w, (x, w)

    def backward(dy, cache):
        x, w = cache
        return dy @ w.T, x.T @ dy

    def power(x, exponent, w):
        return x ** exponent * w, (x, exponent, w)

    def power_backward(dy, cache):
        x, exponent, w = cache
        return dy * exponent * x ** (exponent - 1) * w, dy * x ** exponent

    def noisy(x):
        if x.dtype != np.float64:
            raise TypeError("real numbers only")
        return np.tanh(x) + 1e-3 * np.random.default_rng().standard_normal(x.shape), x

    def noisy_backward(dy, x):
        return dy * (1 - np.tanh(x) ** 2),

    def indices(i):
        return np.ones(2), None

    def cases():
        x = np.random.default_rng(0).standard_normal((5, 4))
        return [((x, np.ones((4, 2))), {"stride": (2, 1), "mode": "valid"}), (x, np.ones((4, 1)))]

    wrong_cases = [np.ones(3)]
    no_cases = []
    integers = [(np.arange(3),)]
"""


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """A stranger's file."""
    path = tmp_path / "strangers_layers.py"
    path.write_text(textwrap.dedent(LAYERS), encoding="utf-8")
    return path


def run(*arguments: object) -> Result:
    """`python -m verify check`, in this process."""
    return CliRunner().invoke(cli, ["check", *map(str, arguments)])


def text(result: Result) -> str:
    """What was printed, without the frame and the line breaks of a usage error."""
    return " ".join(result.output.replace("│", " ").split())


def test_a_right_layer_is_exit_code_0_with_its_certificate(layers: Path) -> None:
    result = run(f"{layers}:Linear", "--shape", "x=5,4")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("PASS: dx, dW (exact integers: a wrong gradient passes with probability at most ")
    assert ")\n  dx (5, 4): PASS\n" in result.output
    assert "\n  dW (4, 3): PASS" in result.output


def test_a_wrong_gradient_is_exit_code_1_with_the_worst_entry(layers: Path) -> None:
    result = run(f"{layers}:Wrong", "--shape", "x=5,4")
    assert result.exit_code == 1
    assert result.output.startswith("FAIL: dW is wrong in 1 of 12 entries; dW[1, 0] is ")
    assert "dW (4, 3): FAIL, worst entry dW[1, 0]" in result.output


def test_a_page_shows_one_certificate_or_all_cases(layers: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    path = tmp_path / "page.html"
    assert run(f"{layers}:Wrong", "--shape", "x=5,4", "--html", path).exit_code == 1
    page = path.read_text(encoding="utf-8")
    assert "dW is wrong in 1 of 12 entries" in page
    assert "dW, difference" in page
    assert "<table>" not in page
    options = "--option", "stride=(2, 1)", "--option", "mode=valid"
    assert run(f"{layers}:forward,backward", "--arrays", "cases", *options, "--html", path).exit_code == 0
    page = path.read_text(encoding="utf-8")
    assert page.count('<td class="verdict PASS">PASS</td>') > 1
    assert page.count("claimed, and found right") > 1
    assert run(f"{layers}:Raising", "--shape", "x=5,4", "--html", path).exit_code == 3
    assert "ZeroDivisionError: no such luck" in path.read_text(encoding="utf-8")
    assert run(f"{layers}:Wrong", "--shape", "x=5,4", "--checks", "--html", path).exit_code == 1
    assert '<span class="verdict FAIL">FAIL</span>' in path.read_text(encoding="utf-8")


def test_json_alone_on_standard_output_is_not_disturbed_by_a_page(layers: Path, tmp_path: Path) -> None:
    """The layer prints when the page asks it again."""
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    shapes = ["--shape", "x=5,4", "--shape", "w=4,2", "--option", "stride=(2, 1)", "--option", "mode=valid"]
    result = run(f"{layers}:forward,backward", *shapes, "--json", "-", "--html", tmp_path / "page.html")
    assert json.loads(result.stdout)["exit_code"] == 0


def test_a_name_may_be_dotted_or_two_functions_with_options(layers: Path) -> None:
    assert run(f"{layers}:Inside.layer", "--shape", "0=5,4").exit_code == 0
    shapes = ["--shape", "x=5,4", "--shape", "w=4,2"]
    result = run(f"{layers}:forward,backward", *shapes, "--option", "stride=(2, 1)", "--option", "mode=valid")
    assert result.exit_code == 0, result.output


def test_a_module_with_forward_and_backward_needs_no_name(layers: Path) -> None:
    result = run(layers, "--shape", "x=5,4", "--shape", "w=4,2", "--option", "stride=(2, 1)", "--option", "mode=valid")
    assert result.exit_code == 0, result.output


def test_an_option_goes_to_its_place_among_the_arrays(layers: Path) -> None:
    arguments = [f"{layers}:power,power_backward", "--shape", "w=5", "--shape", "x=5", "--option", "exponent=2"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"dx \(5,\): PASS.*\n  dw \(5,\): PASS", result.output)
    only = run(*arguments, "--wrt", "w")
    assert "dw (5,): PASS" in only.output
    assert "dx" not in only.output


def test_layers_of_the_core_are_checked_as_any_other() -> None:
    shapes = ["--shape", "x=2,3,8,8", "--shape", "w=4,3,3,3"]
    result = run("cnn_core.conv2d:im2col", *shapes, "--option", "stride=2")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("PASS: dx, dw (exact integers: ")
    assert "db" not in result.output
    bias = run("cnn_core.conv2d:im2col", *shapes, "--shape", "b=4", "--dtype", "float32", "--structure", "multilinear")
    assert "db (4,): PASS" in bias.output


def test_cases_beside_the_layer_are_all_checked_and_written_for_machines(layers: Path) -> None:
    arguments = ["--arrays", "cases", "--option", "stride=(2, 1)", "--option", "mode=valid", "--json", "-"]
    result = run(f"{layers}:forward,backward", *arguments)
    assert result.exit_code == 0, result.output
    results = json.loads(result.stdout)  # alone, though the layer prints
    assert (results["command"], results["exit_code"]) == ("check", 0)
    assert [row["certificate"]["arguments"][1]["shape"] for row in results["rows"]] == [[4, 2], [4, 1]]
    assert [row["verdict"] for row in results["rows"]] == ["PASS", "PASS"]
    assert "a layer that prints" in result.stderr


def test_what_is_drawn_depends_on_the_seed_alone(layers: Path) -> None:
    def drawn(seed: int) -> Any:
        arguments = ["--shape", "x=5", "--shape", "w=5", "--option", "exponent=2", "--json", "-", "--seed", seed]
        return json.loads(run(f"{layers}:power,power_backward", *arguments).stdout)["rows"][0]["certificate"]

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert one["arguments"] == again["arguments"]
    assert one["seed"], other["seed"] == (1, 2)


def test_a_layer_that_raises_is_exit_code_3_and_the_line_is_named(layers: Path) -> None:
    result = run(f"{layers}:Raising", "--shape", "x=5,4")
    assert result.exit_code == 3
    line = 1 + LAYERS.splitlines().index('            raise ZeroDivisionError("no such luck")')
    assert f"ERROR: ZeroDivisionError: no such luck\n  raised at {layers}:{line}, in forward" in result.output


@pytest.mark.parametrize(
    "code", ["raise RuntimeError('too early')", "import sys; sys.exit(0)", "import nowhere_at_all", "("]
)
def test_a_module_that_cannot_be_imported_is_exit_code_3(tmp_path: Path, code: str) -> None:
    path = tmp_path / "early.py"
    path.write_text(code, encoding="utf-8")
    result = run(f"{path}:Layer", "--shape", "x=2")
    assert result.exit_code == 3
    assert result.output.startswith("ERROR: ")
    assert "raised at" in result.output


def test_a_random_forward_is_exit_code_4(layers: Path) -> None:
    result = run(f"{layers}:noisy,noisy_backward", "--shape", "x=3")
    assert result.exit_code == 4
    assert result.output.startswith("INCONCLUSIVE")


def test_nothing_checked_is_exit_code_5(layers: Path) -> None:
    empty = run(f"{layers}:Linear", "--arrays", "no_cases")
    assert (empty.exit_code, empty.output) == (5, "NOTHING CHECKED: the list of cases is empty\n")
    integers = run(f"{layers}:indices,noisy_backward", "--arrays", "integers")
    assert integers.exit_code == 5
    assert "NOTHING CHECKED: nothing to check: no floating array was given" in integers.output


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("no_such_module:Layer", [], "there is no module 'no_such_module'"),
        ("cnn_core.no_such_module:Layer", [], "there is no module 'cnn_core.no_such_module'"),
        (":Layer", [], "'' is not a module"),
        ("no/such/file.py:Layer", [], "there is no file 'no/such/file.py'"),
        ("{layers}:Linar", [], "but Linear"),
        ("{layers}:cases", [], "is no layer: give a pair (forward, backward)"),
        ("{layers}:Linear", [], "--shape is missing for x: the forward takes x; it has its own parameters W (4, 3)"),
        ("cnn_core.conv2d:naive", ["--shape", "x=1,1,2,2"], "for w: the forward takes x, w, b (optional)"),
        ("{layers}:Linear", ["--shape", "W=4,3"], "--shape W=... names none of the arrays: the forward takes x"),
        ("{layers}:Linear", ["--shape", "1=4,3"], "--shape 1=... names none of the arrays"),
        ("{layers}:Linear", ["--shape", "x=5x4"], "--shape x=5x4 is not a shape"),
        ("{layers}:Linear", ["--shape", "x=-1"], "--shape x=-1 is not a shape"),
        ("{layers}:Linear", ["--shape", "5,4"], "--shape '5,4' is not NAME=VALUE, as in --shape x"),
        ("{layers}:Linear", ["--shape", "x=5,4", "--shape", "x=1,4"], "--shape x is given twice: 5,4 and 1,4"),
        ("{layers}:Linear", ["--shape", "x=5,4", "--shape", "0=1,4"], "--shape names one argument twice: x, 0"),
        ("{layers}:Linear", ["--shape", "x=5,4", "--arrays", "cases"], "give one of the two"),
        ("{layers}:Linear", ["--shape", "x=5,4", "--option", "a=[1"], "a=[1: '[1' is neither a Python literal nor"),
        ("{layers}:Linear", ["--shape", "x=100000,1000000"], "x=100000,1000000 has 1e+11 entries: too many to draw"),
        ("{layers}:power,", ["--shape", "x=2"], "is neither MODULE:NAME nor MODULE:FORWARD,BACKWARD"),
        ("{layers}:Linear", ["--shape", "x=5,4", "--wrt", "q"], "wrt holds 'q', which is none of the arrays: x, W"),
        (
            "{layers}:Linear",
            ["--arrays", "Linear"],
            "--arrays Linear is neither a list of cases nor a function without",
        ),
        ("{layers}:Linear", ["--arrays", "wrong_cases"], "wrong_cases[0] is a ndarray, neither (arrays, options) nor"),
        (
            "{layers}:power,power_backward",
            ["--shape", "x=2", "--shape", "w=2", "--option", "exponent=2", "--structure", "multilinear"],
            "multilinear does not hold: y",
        ),
        ("{layers}:Linear", ["--shape", "x=5,4", "--json", "no/such/folder.json"], "no/such/folder.json"),
        pytest.param(
            "{layers}:Linear",
            ["--shape", "x=5,4", "--html", "no/such/folder.html"],
            "--html 'no/such/folder.html'",
            marks=pytest.mark.skipif(importlib.util.find_spec("jinja2") is None, reason="pages are an extra"),
        ),
        ("{layers}:Linear", ["--shape", "x=5,4", "--miss-probability", "0"], "0"),
        ("{layers}:Linear", ["--shape", "x=5,4", "--miss-probability", "nan"], "nan is not a finite number"),
    ],
)
def test_usage_errors_quote_what_was_given(layers: Path, target: str, arguments: list[str], message: str) -> None:
    result = run(target.replace("{layers}", str(layers)), *arguments)
    assert result.exit_code == 2, result.output
    assert message in text(result)


def test_it_runs_from_any_folder_whose_modules_it_finds(layers: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(verify.__file__).parents[1])}
    command = [sys.executable, "-m", "verify", "check", "strangers_layers:Wrong", "--shape", "x=5,4"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=layers.parent, env=environment)
    assert result.returncode == 1, result.stderr
    assert result.stdout.startswith("FAIL: dW is wrong in 1 of 12 entries; ")
    assert result.stderr == ""  # no progress where nobody looks


def test_a_module_of_the_current_folder_is_found_and_what_it_lacks_is_its_own_fault(
    layers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(layers.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert run("strangers_layers:Linear", "--shape", "x=5,4").exit_code == 0
    (layers.parent / "lacking.py").write_text("import nowhere_at_all", encoding="utf-8")
    lacking = run("lacking:Layer", "--shape", "x=5,4")
    assert lacking.exit_code == 3
    assert "ERROR: ModuleNotFoundError: No module named 'nowhere_at_all'" in lacking.output


def test_layers_of_pytorch_are_checked_by_their_names(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "strangers_torch.py"
    code = """
        import torch

        class Half(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                ctx.save_for_backward(x, w)
                return x @ w
            @staticmethod
            def backward(ctx, dy):
                x, w = ctx.saved_tensors
                return dy @ w.T, x.T @ dy / 2

        conv = torch.nn.Conv2d(3, 4, 3)

        def cases():
            return [((torch.ones(5, 4, dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64)), {})]
    """
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    module = run(f"{path}:conv", "--shape", "input=2,3,6,5")
    assert module.exit_code == 0, module.output
    assert "dweight (4, 3, 3, 3): PASS\n  dbias (4,): PASS" in module.output
    for arguments in (["--shape", "x=5,4", "--shape", "w=4,3"], ["--arrays", "cases"]):
        wrong = run(f"{path}:Half.apply", *arguments)
        assert wrong.exit_code == 1
        assert "dx (5, 4): PASS\n  dw (4, 3): FAIL, worst entry" in wrong.output


def test_layers_of_jax_are_checked_by_their_names(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    path = tmp_path / "strangers_jax.py"
    code = """
        import jax

        @jax.custom_vjp
        def product(x, w):
            return x @ w

        product.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, dy: (dy @ saved[1].T, 2 * saved[0].T @ dy))
    """
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    wrong = run(f"{path}:product", "--shape", "x=5,4", "--shape", "w=4,3")
    assert wrong.exit_code == 1
    assert "dx (5, 4): PASS\n  dw (4, 3): FAIL, worst entry" in wrong.output


def test_an_option_that_the_forward_does_not_know_is_usage(tmp_path: Path) -> None:
    path = tmp_path / "optioned.py"
    path.write_text("def f(x, *, scale=2):\n    return scale * x, scale\n\ndef b(dy, s):\n    return (s * dy,)\n")
    assert run(f"{path}:f,b", "--shape", "x=2,3", "--option", "scale=3").exit_code == 0
    result = run(f"{path}:f,b", "--shape", "x=2,3", "--option", "zz=3")
    assert result.exit_code == 2
    assert "unexpected keyword argument 'zz'" in text(result)


def test_an_option_that_a_layer_in_torch_does_not_know_is_usage(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the layer is one of PyTorch's")
    path = tmp_path / "in_torch.py"
    path.write_text("import torch\n\ndef f(x, scale=2):\n    return scale * x if scale != 5 else torch.sin(scale)\n")
    assert run(f"{path}:f", "--shape", "x=2,3", "--option", "scale=3").exit_code == 0
    unknown = run(f"{path}:f", "--shape", "x=2,3", "--option", "zz=3")
    assert unknown.exit_code == 2
    assert "forward does not take this call: f() got an unexpected keyword argument 'zz'" in text(unknown)
    assert run(f"{path}:f", "--shape", "x=2,3", "--option", "scale=5").exit_code == 3  # its own TypeError


def test_of_a_file_that_is_no_python_the_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import numpy as np\ndef f(x:\n    return 1\n")
    result = run(f"{path}:f,b", "--shape", "x=2,3")
    assert result.exit_code == 3
    assert "broken.py:2: def f(x:" in text(result)
