"""Docstrings, which are plain text, become pages: no formula loses a symbol, and prose stays prose."""

from __future__ import annotations

import re

import pytest

from handbook.formula import columns, kept_as_text, latex, names_in
from handbook.prose import blocks, escaped, rst, sections
from verify.layers import LAYERS

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
