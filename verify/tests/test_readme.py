"""What the README shows is what is printed; what needs PyTorch is run where PyTorch is installed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
OF_TORCH = [block for block in BLOCKS if "import torch" in block]


def run(session: str) -> None:
    """Run a session as doctest does; a failure is printed."""
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", str(README), None)
    assert test.examples
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def test_the_session_without_pytorch_prints_what_is_shown() -> None:
    run("\n".join(block for block in BLOCKS if block not in OF_TORCH))


def test_the_session_with_pytorch_prints_what_is_shown() -> None:
    pytest.importorskip("torch")
    run("\n".join(OF_TORCH))
