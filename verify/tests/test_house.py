"""The house rules that a machine can hold: who imports whom, and that what is written down is what is there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import cnn_core
import verify
from verify.layers import LAYERS, markdown_page
from verify.museum import EXHIBITS

ROOT = Path(__file__).parents[2]
CORE, VERIFY = Path(cnn_core.__file__).parent, Path(verify.__file__).parent

# Package -> what its modules may import beside the standard library, NumPy and themselves.
MAY_IMPORT = {
    CORE: set(),
    VERIFY / "checker": {"verify.diagnosis", "verify.pictures"},
    VERIFY / "diagnosis": {"verify.checker"},
    # Jinja2 and matplotlib are imported where a picture is made: see `needed`.
    VERIFY / "pictures": {"verify.checker", "verify.diagnosis", "verify.museum", "cnn_core", "rich_click"},
    VERIFY / "battery": {
        "verify.checker",
        "verify.adapters",
        "verify.entry",
        "verify.records",
        "verify.diagnosis.reproduction",
        "hypothesis",
        "pytest",
    },
    VERIFY / "adapters": {"verify.checker", "verify.entry", "verify.records", "torch", "jax"},
    VERIFY / "layers": {"cnn_core", "hypothesis", "verify.strategies"},
    VERIFY / "museum": {"cnn_core", "verify.checker", "verify.diagnosis.causes", "verify.layers", "verify.strategies"},
}

# Where the version stands.
_VERSIONS = (
    ("pyproject.toml", r'^version = "(.*)"$'),
    ("CITATION.cff", "^version: (.*)$"),
    ("CHANGELOG.md", r"^## ([\d.]+)"),
)


def _imports(path: Path) -> set[str]:
    """The modules a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update({node.module or ""} if node.module != "verify" else {f"verify.{a.name}" for a in node.names})
    return found


@pytest.mark.parametrize("package", MAY_IMPORT, ids=lambda package: package.name)
def test_imports_run_one_way(package: Path) -> None:
    own = ".".join(package.relative_to(package.parents[0 if package == CORE else 1]).parts)
    for path in package.rglob("*.py"):
        for module in _imports(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top == "numpy" or (module + ".").startswith(own + "."):
                continue
            if (path.name, module) == ("data.py", "sklearn"):
                continue  # its digits, imported only when they are asked for
            assert any((module + ".").startswith(name + ".") for name in MAY_IMPORT[package]), f"{path}: {module}"


def test_the_checkers_parts_know_only_what_they_need() -> None:
    checker = VERIFY / "checker"
    for path in checker.rglob("*.py"):
        imported = _imports(path)
        if path.name not in ("check.py", "attempts.py", "certificate.py"):  # the last asks for its text
            assert not any(module.startswith("verify.diagnosis") for module in imported), path
        if path.name != "certificate.py":
            assert not any(module.startswith("verify.pictures") for module in imported), path
        if path.parent.name == "references":
            others = {f"verify.checker.references.{each.stem}" for each in path.parent.glob("*.py")} - {"__init__"}
            assert not imported & (others | {"verify.checker.judge", "verify.checker.check"}), path
        if path.parent.name == "objections":
            assert not any(module.startswith(("verify.checker.judge", "verify.checker.check")) for module in imported)


def test_the_page_of_layers_shows_what_is_declared() -> None:
    page = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    assert page == markdown_page(), "python -m verify layers > docs/layers.md"


def test_the_museums_page_describes_every_exhibit_as_it_is() -> None:
    page = (ROOT / "docs" / "museum.md").read_text(encoding="utf-8")
    for exhibit in EXHIBITS.values():
        wrong = exhibit.wrong if exhibit.silent else f"{exhibit.wrong} (raised)"
        cells = f"`{exhibit.slug}`", f"`{exhibit.layer}`", wrong, exhibit.shows, exhibit.source
        assert f"| {' | '.join(cells)} |" in page, exhibit.slug


def test_the_citation_is_of_this_version() -> None:
    stated = [re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)[:1] for name, pattern in _VERSIONS]
    assert stated[0]
    assert stated == [stated[0]] * len(_VERSIONS)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layers_module_opens_with_formula_shapes_errors_and_source(layer: object) -> None:
    docstring = LAYERS[getattr(layer, "name")].module.__doc__ or ""  # noqa: B009  (the id above needs the object)
    for part in ("\n    y", "Shapes:", "Raises", "Source:"):
        assert part in docstring.replace("\n    loss", "\n    y"), part


def test_public_functions_say_what_they_do() -> None:
    for package in (CORE, VERIFY):
        for path in package.rglob("*.py"):
            if "tests" in path.relative_to(package).parts:
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), path
            for node in tree.body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    assert ast.get_docstring(node), f"{path}: {node.name}"
