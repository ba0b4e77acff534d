"""The pages that the handbook derives: nothing is left out, and the pictures are true."""

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
from handbook import command_page, layer_page, reference, svg, windows
from handbook.advice import FIX
from handbook.code import tuned, versions
from handbook.pages import pages, write
from handbook.prose import escaped
from verify import adapters, layers, strategies
from verify.battery.checks import CHECKS
from verify.command.cli import cli
from verify.diagnosis.causes import CauseCode
from verify.layers import LAYERS
from verify.museum import EXHIBITS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages(DOCS)


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
    assert list(command_page.exit_codes()) == ["0", "1", "2", "3", "4", "5", "130"]
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
