"""The pages that the handbook derives: nothing is left out, no formula loses a symbol, and the pictures are true."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnn_core
import verify
from handbook import layer_page, reference, svg, windows
from handbook.advice import FIX
from handbook.code import tuned, versions
from handbook.formula import columns, kept_as_text, latex, names_in
from handbook.pages import pages, write
from handbook.prose import blocks, escaped, rst, sections
from verify import adapters, layers, strategies
from verify.battery.checks import CHECKS
from verify.command.cli import cli
from verify.diagnosis.causes import CauseCode
from verify.layers import LAYERS
from verify.museum import EXHIBITS

DOCS = Path(__file__).parents[2] / "docs"

# Lines of formulas that stay as they are: cases in words, and Python.
KEPT = {
    "avg_pool2d": [
        "divisor_override, if it is given,",
        "else the number of taps that lie in xp, if count_include_pad,",
        "else the number of taps that lie in x.",
    ],
    "conv_transpose2d": ["over all that land there"],
    "dropout": ["mask = np.random.default_rng(seed).random(x.shape) >= p"],
}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages(DOCS)


def _lines(layer: str) -> list[str]:
    docstring = LAYERS[layer].module.__doc__ or ""
    return [line.strip() for block in blocks(docstring) if block.kind == "formula" for line in block.lines]


def _names(layer: str) -> frozenset[str]:
    return names_in(_lines(layer), (*LAYERS[layer].names, *LAYERS[layer].options, "y"))


# What a command of LaTeX stands for in the text of a formula. Others, such as \\frac, stand for signs and brackets.
COMMANDS = {
    **{
        name: name
        for name in ("exp", "log", "tanh", "sinh", "cosh", "max", "alpha", "beta", "pi", "Phi", "sum", "sqrt")
    },
    "varepsilon": "eps",
    "le": "<=",
    "ge": ">=",
    "ne": "!=",
    "in": "in",
    "lfloor": "floor",
    "lceil": "ceil",
}


def _symbols(text: str) -> list[str]:
    """Return the letters, digits and relations of a formula, or of its LaTeX, sorted: a fraction moves its parts."""
    text = re.sub(r"\\([A-Za-z]+)", lambda command: COMMANDS.get(command[1], ""), text)
    return sorted(re.sub(r"[^A-Za-z0-9<>=!+'|]", "", text))


@pytest.mark.parametrize("layer", LAYERS)
def test_no_formula_loses_a_symbol(layer: str) -> None:
    """A token that the reader of formulas does not know would vanish from the page without a warning."""
    for line in _lines(layer):
        if kept_as_text(line):
            continue
        found = "".join(latex(column, _names(layer)) for column in columns(line))
        assert _symbols(found) == _symbols(line.replace("//", "floor")), line
        assert found.count("{") == found.count("}"), line
        assert found.count(r"\left") == found.count(r"\right"), line


def test_only_these_lines_of_formulas_stay_as_they_are() -> None:
    kept = {layer: [line for line in _lines(layer) if kept_as_text(line)] for layer in LAYERS}
    assert {layer: lines for layer, lines in kept.items() if lines} == KEPT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "y[n, f] = b[f] + sum_i x[n, i] * w[f, i]",
            r"{y}_{n , f} = {b}_{f} + \sum_{i} \, {x}_{n , i} \cdot {w}_{f , i}",
        ),
        ("y = x[i*sH + p*dH]", r"y = {x}_{i \, s_H + p \, d_H}"),
        ("y = (1/m) sum_{i,j} x^2", r"y = \frac{1}{m} \, \sum_{i , j} \, x^{2}"),
        ("r = (x + eps)^(-1/2)", r"r = \left( x + \varepsilon \right)^{- 1 / 2}"),
        ("y = 1 / (1 + exp(-x))", r"y = \frac{1}{1 + \exp\left( - x \right)}"),
        ("y = log p / q", r"y = \log \, p / q"),
        ("y = (x - 1) // sH + 1", r"y = \left\lfloor \frac{x - 1}{s_H} \right\rfloor + 1"),
        ("y = floor(i * tH)", r"y = \left\lfloor i \cdot t_H \right\rfloor"),
        ("x where x > 0, else 0", r"x \text{ where } x > 0 ,\; \text{ else } 0"),
        ("sum over the axes of dy", r"\text{ sum over the axes of } \mathrm{d}y"),
        ("k of a channel, the array a with k", r"k \text{ of a channel } ,\; \text{ the array } a \text{ with } k"),
        ("y_c = [c = k] - dx_k", r"y_{c} = \left[ c = k \right] - \mathrm{d}x_{k}"),
        ("(s / c)' = 1", r"\left( \frac{s}{c} \right) ' = 1"),
    ],
)
def test_a_formula_becomes_latex(line: str, expected: str) -> None:
    assert latex(line, names_in([line], ("x", "y", "w", "b", "dy", "eps"))) == expected


def test_columns_are_three_blanks_apart_and_labels_are_columns() -> None:
    assert columns("1. h = z r:    dz = r  dh") == ['"1."', "h = z r:", "dz = r  dh"]
    assert columns("reflect:  t if t < 0") == ["reflect:", "t if t < 0"]
    assert columns("y = x") == ["y = x"]


def test_a_docstring_is_split_into_its_sections() -> None:
    text = "Name.\n\n    y = x\n\nShapes: x any.\nDtypes: all.\nOption: axis.\n\n- one\n  two\n\nRaises TypeError.\n"
    found = sections(f"{text}Source: a book.")
    assert {name: [block.kind for block in each] for name, each in found.items()} == {
        "Formula": ["text", "formula"],
        "Shapes": ["text", "text"],
        "Options": ["text", "list"],
        "Errors": ["text"],
        "Source": ["text"],
    }


def test_markup_in_prose_is_escaped_and_code_is_not() -> None:
    assert escaped("2*x_ of `a*b_`, |u|") == r"2\*x\_ of ``a*b_``, \|u\|"
    assert "`arXiv:1603.07285 <https://arxiv.org/abs/1603.07285>`__" in escaped("Paper, arXiv:1603.07285.")
    assert ".. code-block:: python" in rst(blocks("A.\n\n    x = 1\n"), formulas=False)
    assert ".. code-block:: text" in rst(blocks("A.\n\n    x = = 1\n"), formulas=False)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_has_a_page_with_all_its_parts(layer: str, made: dict[str, str]) -> None:
    page, declared = made[f"layers/{layer}.rst"], LAYERS[layer]
    assert page.startswith(f".. _layer-{layer}:\n\n{layer}\n{'=' * len(layer)}\n")
    for heading in (
        "Formula",
        "Shapes and options",
        "Errors",
        "Code",
        "How it is checked",
        "Bugs made in it",
        "Source",
    ):
        assert f"\n{heading}\n---" in page, heading
    assert ".. math::" in page
    for version in declared.implementations:
        assert f".. tab-item:: {version.name}\n" in page
    for option in declared.options:
        assert f"   * - ``{option}``\n" in page
    for exhibit in EXHIBITS.values():
        assert (f"``{exhibit.slug}``" in page) == (exhibit.layer == layer), exhibit.slug
    if declared.scope:
        assert f"{declared.configurations(layer_page.BOUND):,} configurations" in page
    assert f"   {layer}\n" in made["layers/index.rst"]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_tabs_show_every_definition_of_the_module_once(layer: str) -> None:
    module = LAYERS[layer].module
    found = versions(module)
    source = inspect.getsource(module)
    for name in re.findall(r"^(?:def|class) (\w+)", source, re.MULTILINE):
        assert any(re.search(rf"^(?:def|class) {name}\b", text, re.MULTILINE) for text in found.values()), name
    assert list(found) == [*(each.name for each in LAYERS[layer].implementations), "arguments"]
    for version, text in found.items():
        assert compile(text, version, "exec")
    assert "_vectorized" not in found["naive"]
    assert ("blocked" in found) == bool(tuned(module))


def test_every_cause_has_a_heading_that_the_layers_link_to(made: dict[str, str]) -> None:
    causes = (DOCS / "causes.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## `([a-z0-9-]+)`$", causes, re.MULTILINE)
    assert headings == [cause.code for cause in CauseCode]
    linked = {code for page in made.values() for code in re.findall(r"causes\.html#([a-z0-9-]+)", page)}
    assert linked == {exhibit.code.code for exhibit in EXHIBITS.values() if exhibit.code}


def test_every_check_says_what_it_asks_and_how_to_fix_what_it_finds(made: dict[str, str]) -> None:
    assert list(FIX) == list(CHECKS)
    page = made["reference/battery.rst"]
    for check, fix in FIX.items():
        section = page.split(f".. _check-{check}:\n")[1].split(".. _check-")[0]
        title, asks, fixing = section.strip().split("\n\n")[:3]
        assert title.startswith(f"{check}\n~~~")
        assert len(asks) > 20
        assert fixing == f"**How to fix what it finds.** {escaped(fix)}"


# Every name that ARCHITECTURE calls public, or that a module exports: modules are pages or sections.
PUBLIC = [
    *(f"verify.{name}" for name in verify.__all__ if name != "adapters"),
    *(f"verify.adapters.{name}" for name in adapters.__all__ if name != "plain"),
    *(f"verify.adapters.{kind}.{name}" for kind in ("plain", "torch", "jax") for name in ("gradcheck", "pair")),
    *(f"verify.layers.{name}" for name in layers.__all__),
    *(f"verify.strategies.{name}" for name in reference.public(strategies.__name__)),
    "cnn_core.Implementation",
    "cnn_core.network.chain",
    "cnn_core.graph.graph",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_entry(name: str, made: dict[str, str]) -> None:
    entry = re.compile(rf"^\.\. (?:auto\w+|py:data):: {re.escape(name)}$", re.MULTILINE)
    assert [path for path, page in made.items() if entry.search(page)], name


def test_every_layer_that_the_core_exports_has_a_page(made: dict[str, str]) -> None:
    assert {f"layers/{name}.rst" for name in cnn_core.__all__ if name != "Implementation"} < set(made)


def test_the_public_functions_of_a_module_are_its_own() -> None:
    found = reference.public("verify.strategies")
    assert "exact_integers" in found
    assert "Callable" not in found
    assert all(getattr(importlib.import_module("verify.strategies"), name).__doc__ for name in found)


def test_the_command_line_has_every_command_option_and_exit_code(made: dict[str, str]) -> None:
    page = made["reference/command_line.rst"]
    assert list(reference.exit_codes()) == ["0", "1", "2", "3", "4", "5", "130"]
    for name, command in cli.commands.items():
        section = page.split(f".. _command-{name}:\n")[1].split(".. _command-")[0]
        for option in (each for each in command.params if each.param_type_name == "option"):
            assert f"``{', '.join(option.opts)}" in section, option.opts
    assert "0x" not in page, "a default that is a function has no address"


def test_the_fields_of_a_certificate_are_listed(made: dict[str, str]) -> None:
    fields = vars(verify.gradcheck(lambda x: (2 * x, None), lambda dy, _: (2 * dy,), (np.ones(2),)))
    for field in (*fields, "headline", "not_checked"):
        assert f"   * - ``{field}``\n" in made["reference/certificate.rst"], field


def test_the_plugins_options_are_listed(made: dict[str, str]) -> None:
    assert [name for name, _ in reference.plugin_options()] == ["--gradcert-seed", "gradcert_junit"]
    assert "``gradcert_junit``" in made["reference/pytest.rst"]


def test_a_window_reads_what_its_output_depends_on() -> None:
    """The picture is drawn from the geometry. The gradient of the layer says the same."""
    rows, columns_ = windows.axes()
    x, w = np.zeros((1, 1, rows.size, columns_.size)), np.ones((1, 1, rows.kernel, columns_.kernel))
    y, cache = LAYERS["conv2d"].reference.forward(x, w, stride=rows.stride, padding=rows.before)
    assert y.shape[2:] == (rows.out, columns_.out)
    for output in np.ndindex(rows.out, columns_.out):
        dy = np.zeros_like(y)
        dy[0, 0][output] = 1
        dx = np.asarray(LAYERS["conv2d"].reference.backward(dy, cache)[0])
        inside = {(h - rows.before, v - columns_.before) for h, v in windows.reads(output)}
        read = {each for each in inside if each[0] in range(rows.size) and each[1] in range(columns_.size)}
        assert {tuple(each) for each in np.argwhere(dx[0, 0])} == read


@pytest.mark.parametrize("layer", ["max_pool2d", "adaptive_max_pool2d"])
def test_the_picture_shows_an_entry_that_wins_several_windows(layer: str) -> None:
    x, y, dy, dx, indices = windows.winners(layer)
    winners, counts = np.unique(indices, return_counts=True)
    assert counts.max() > 1
    assert dx.sum() == dy.sum()
    assert set(np.flatnonzero(dx)) == set(winners)
    np.testing.assert_array_equal(x.ravel()[indices], y)


def test_every_layer_with_windows_has_a_picture_with_words() -> None:
    assert {name for name, layer in LAYERS.items() if layer.scope} == {n for n in LAYERS if windows.pictures(n)}
    for layer in LAYERS:
        for grids in windows.pictures(layer):
            drawn = svg.picture(grids)
            assert len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]{10,}"', drawn)) == len(grids)
            assert 'class="cell read' in drawn or layer == "conv_transpose2d", layer
            assert all(len(row) == len(grid.cells[0]) for grid in grids for row in grid.cells)


def test_names_in_a_picture_are_escaped() -> None:
    drawn = svg.picture([svg.Grid("<x>", "a & b", '"q" <script>', [[svg.Cell("<1")]])])
    assert "<script>" not in drawn
    assert "&lt;x&gt;" in drawn
    assert "&lt;1" in drawn


RATIOS: dict[str, Any] = {
    "machine": {"processor": "a machine"},
    "ratios": {
        "relu both, LeNet: 128x6x28x28, over PyTorch": {"ratio": 1.234, "low": 1.1, "high": 1.3, "rounds": 9},
        "relu both, LeNet: 128x6x28x28, over naive": {"ratio": 0.001},
        "conv2d both, LeNet: 6->16, over JAX": 0.9,
    },
}


def test_a_published_benchmark_is_shown_and_none_is_not(tmp_path: Path) -> None:
    assert layer_page.read_ratios(tmp_path) is None
    assert "\nBenchmarks\n" not in layer_page.layer_page(LAYERS["relu"])
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "ratios.json").write_text(json.dumps(RATIOS), encoding="utf-8")
    page = layer_page.layer_page(LAYERS["relu"], layer_page.read_ratios(tmp_path))
    assert "1.23 (1.1 to 1.3)" in page
    assert "0.001" in page
    assert "6->16" not in page
    assert "\nBenchmarks\n" not in layer_page.layer_page(LAYERS["tanh"], RATIOS)
    assert "0.9" in layer_page.layer_page(LAYERS["conv2d"], RATIOS)


def test_threads_of_repositories_are_links() -> None:
    assert layer_page.linked("a; FluxML/NNlib.jl#205, b") == (
        "a; `FluxML/NNlib.jl#205 <https://github.com/FluxML/NNlib.jl/issues/205>`__, b"
    )


def test_pages_are_written_once_and_old_ones_removed(tmp_path: Path) -> None:
    """A page that did not change keeps its time, so that Sphinx does not read it again."""
    write(tmp_path)
    page = tmp_path / "layers" / "relu.rst"
    (tmp_path / "layers" / "gone.rst").write_text("Gone\n", encoding="utf-8")
    before = page.stat().st_mtime_ns
    write(tmp_path)
    assert page.stat().st_mtime_ns == before
    assert not (tmp_path / "layers" / "gone.rst").exists()
