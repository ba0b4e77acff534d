"""What docs/recipes.md shows is what is printed, and what it says of straight-through estimators is so."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
BLOCKS = re.findall(r"```python\n(.*?)```", RECIPES.read_text(encoding="utf-8"), re.DOTALL)
OF_TORCH = [block for block in BLOCKS if "torch" in block]


def run(session: str) -> int:
    """Run a session as doctest does, and return the number of failures, which are printed."""
    test = doctest.DocTestParser().get_doctest(session, {}, RECIPES.name, str(RECIPES), None)
    assert test.examples
    return doctest.DocTestRunner(verbose=False).run(test).failed


def test_the_recipes_without_pytorch_print_what_is_shown() -> None:
    assert run("\n".join(block for block in BLOCKS if block not in OF_TORCH)) == 0


def test_the_recipes_with_pytorch_print_what_is_shown() -> None:
    pytest.importorskip("torch")
    assert run("\n".join(BLOCKS)) == 0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("np.conj(2 * z)", "(2 * z)"),
        ("np.add.at(dx, columns, values[:, None] * dy[rows])", "dx[columns] += dy[rows]"),
        ("-2 * np.tanh(x) * slope, ddx * slope", "2 * np.tanh(x) * slope, ddx * slope"),
        ("return dy * mask, None", "return dy, None"),
        ("return 3 * dy", "return 2 * dy"),
    ],
)
def test_a_wrong_gradient_in_a_recipe_is_found(right: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    session = "\n".join(block for block in BLOCKS if block not in OF_TORCH)
    assert session.count(right) == 1
    assert run(session.replace(right, wrong)) > 0
    assert "GradientMismatch" in capsys.readouterr().out
