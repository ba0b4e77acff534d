"""Writes the page of a layer, and the table of all layers, from the declarations and the modules."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handbook import svg, windows
from handbook.code import tuned, versions
from handbook.markup import code, table, titled
from handbook.prose import Block, escaped, rst, sections
from verify.layers import LAYERS, Layer
from verify.museum import EQUIVALENT, EXHIBITS, FORWARD, GRADIENT, STATE, Exhibit

# The bound up to which the configurations of the layers are counted. All together take a quarter of a second.
BOUND = 2
# More rows than this are folded.
_MOST_ROWS = 12
_STRUCTURES = {
    "multilinear": "Linear in each array while the others are fixed. Its gradients are checked exactly, on integers.",
    "piecewise-linear": "Linear between kinks. Its gradients are checked exactly, on integers, at the kinks as well.",
    "analytic": "Smooth. Its gradients are checked by the complex step, to within the rounding of the arithmetic.",
}
_KINDS = {
    GRADIENT: "backward is wrong",
    FORWARD: "forward and backward are wrong alike",
    STATE: "depends on memory or on earlier calls",
    EQUIVALENT: "looks wrong and is right",
}
_THREAD = re.compile(r"(?<![\w/])([A-Za-z0-9][\w.-]*/[\w.-]+)#(\d+)")


def layer_page(layer: Layer, ratios: dict[str, Any] | None = None) -> str:
    """Return the page of a layer. `ratios` are those of a published benchmark."""
    found = sections(layer.module.__doc__ or "")
    opening, *formula = found["Formula"]
    known = (*layer.names, *layer.options, "y")
    parts = [
        f".. _layer-{layer.name}:\n",
        titled(layer.name, "="),
        rst([opening]),
        _facts(layer),
        titled("Formula"),
        rst(formula, known),
        _picture(layer),
        titled("Shapes and options"),
        rst(_unlabelled(found.get("Shapes", [])), known),
        rst(_unlabelled(found.get("Options", [])), known),
        _options(layer),
        titled("Errors"),
        rst(found.get("Errors", [])),
        titled("Code"),
        _call(layer),
        _code(layer),
        titled("How it is checked"),
        _checked(layer),
        _bugs(layer),
        _benchmarks(layer, ratios),
        titled("Source"),
        rst(_unlabelled(found["Source"])),
    ]
    return "\n".join(part for part in parts if part.strip())


def _unlabelled(found: Sequence[Block]) -> list[Block]:
    """Return the blocks without the label that repeats the heading."""
    if not found:
        return []
    first, *others = found
    line = re.sub(r"^(Source|Shapes): ", "", first.lines[0])
    return [first._replace(lines=(line, *first.lines[1:])), *others]


def _facts(layer: Layer) -> str:
    rows = [
        ("Arrays", f"``{layer.arguments}``"),
        ("Versions", ", ".join(f"``{each.name}``" for each in layer.implementations)),
        ("Structure", f":doc:`{layer.structure} </how/structures>`"),
        ("Compared with", ", ".join(_oracles(layer)) or "no library"),
    ]
    return "\n".join(f":{name}: {value}" for name, value in rows) + "\n"


def _oracles(layer: Layer) -> list[str]:
    onnx = f"ONNX ({', '.join(layer.onnx)})" if layer.onnx else ""
    return [name for name in ("PyTorch" * bool(layer.torch), "JAX" * bool(layer.jax), onnx) if name]


def _picture(layer: Layer) -> str:
    drawn = windows.pictures(layer.name)
    if not drawn:
        return ""
    html = "".join(map(svg.picture, drawn))
    return f"{titled('Picture')}\n.. raw:: html\n\n{textwrap.indent(html, '   ')}"


def _options(layer: Layer) -> str:
    if not layer.options:
        return "It has no options.\n"
    missing = inspect.Parameter.empty
    rows = [
        (f"``{name}``", "must be given" if default is missing else f"``{default!r}``")
        for name, default in layer.options.items()
    ]
    return table(("option", "default"), rows, classes="narrow")


def _call(layer: Layer) -> str:
    needed = [name for name, default in layer.options.items() if default is inspect.Parameter.empty]
    arrays = ", ".join(["*others" if name == "others" else name for name in layer.names])
    options = "".join(f", {name}={name}" for name in needed)
    gradients = [f"d{name}" for name in layer.names if name not in layer.constants]
    left = ", ".join("*dothers" if name == "dothers" else name for name in gradients)
    lines = [
        f"from cnn_core import {layer.name}",
        "",
        f"y, cache = {layer.name}.fast.forward({arrays}{options})",
        f"{left if len(gradients) > 1 else f'({left},)'} = {layer.name}.fast.backward(dy, cache)",
    ]
    names = [f"``{each.name}``" for each in layer.implementations]
    others = f"Instead of ``fast``, {', '.join(names[:-1])} or {names[-1]} may be written."
    return code("python", "\n".join(lines)) + f"\n``fast`` is ``{layer.fast.name}``. {others}\n"


def _code(layer: Layer) -> str:
    """Return a tab for each version, one for the checks of arguments, and what the tuned version imports, folded."""
    tabs = []
    for name, source in versions(layer.module).items():
        body = code("python", source)
        if name == "blocked":
            for path, text in tuned(layer.module).items():
                folded = textwrap.indent(code("python", text), "   ")
                body += f"\n.. dropdown:: {path}\n\n{folded}\n"
        tabs.append(f".. tab-item:: {name}\n\n{textwrap.indent(body, '   ')}\n")
    inner = textwrap.indent("\n".join(tabs), "   ")
    return f".. tab-set::\n\n{inner}\nAll of it is in ``cnn_core/{layer.name}.py``.\n"


def _checked(layer: Layer) -> str:
    lines = [f"{_STRUCTURES[layer.structure]}\n", code("text", f"python -m verify --layer {layer.name}")]
    oracles = _oracles(layer)
    if oracles:
        text = f"``tox -e oracle`` compares y and every gradient with {_and(oracles)}, at random calls."
        lines.append(text + "\n")
    if layer.scope:
        count = layer.configurations(BOUND)
        text = f"checks {count:,} configurations, whose sizes and options are at most {BOUND}. They are:"
        lines.append(f"``python -m verify sweep {layer.name} --bound {BOUND}`` {text}\n")
        lines.append(textwrap.indent(rst(_scope_text(layer)), "   "))
    return "\n".join(lines)


def _scope_text(layer: Layer) -> list[Block]:
    """Return what the scope's own docstring says is in it."""
    return sections(inspect.getdoc(layer.scope) or "")["Formula"]


def _and(words: Sequence[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


def linked(source: str) -> str:
    """Return the source of an exhibit with a link for each thread of a repository."""
    parts = re.split(_THREAD, source)
    text = escaped(parts[0])
    for repository, number, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        address = f"https://github.com/{repository}/issues/{number}"
        text += f"`{repository}#{number} <{address}>`__{_apart(escaped(rest))}"
    return text


def _apart(text: str) -> str:
    """Return text that may stand directly behind a link."""
    return f"\\ {text}" if text[:1].isalnum() else text


def exhibits_of(layer: Layer) -> list[Exhibit]:
    """Return the museum's bugs of a layer."""
    return [each for each in EXHIBITS.values() if each.layer == layer.name]


def _bugs(layer: Layer) -> str:
    found = exhibits_of(layer)
    heading = titled("Bugs made in it") + "\n"
    if not found:
        return f"{heading}The :doc:`museum </museum>` has none of this layer.\n"
    count = "One" if len(found) == 1 else str(len(found))
    text = f"{count} of the bugs of real code in the :doc:`museum </museum>`, which says which check sees each."
    return "\n".join([f"{heading}{text}\n", *map(_bug, found)])


def _bug(exhibit: Exhibit) -> str:
    """Return an exhibit as an entry of a definition list."""
    named = f"\n\n   Cause that a FAIL names: {_cause(exhibit)}." if exhibit.code else ""
    term = f"``{exhibit.slug}``, {_KINDS[exhibit.kind]}"
    text = f"{escaped(exhibit.wrong)}. When it shows: {escaped(exhibit.shows)}."
    return f"{term}\n   {text}{named}\n\n   Found in: {linked(exhibit.source)}.\n"


def _cause(exhibit: Exhibit) -> str:
    return "" if exhibit.code is None else f"`{exhibit.code.code} <../causes.html#{exhibit.code.code}>`__"


def read_ratios(docs: Path) -> dict[str, Any] | None:
    """Return the ratios of a published benchmark. Without one there is nothing to show."""
    path = docs / "benchmarks" / "ratios.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _benchmarks(layer: Layer, ratios: dict[str, Any] | None) -> str:
    by_case: dict[str, dict[str, str]] = {}
    for what, found in (ratios or {}).get("ratios", {}).items():
        case, _, contender = what.rpartition(", over ")
        if case.startswith(f"{layer.name} "):
            by_case.setdefault(case.removeprefix(f"{layer.name} "), {})[contender] = _ratio(found)
    if not by_case or ratios is None:
        return ""
    contenders = sorted({each for row in by_case.values() for each in row})
    rows = [(escaped(case), *(row.get(each, "") for each in contenders)) for case, row in by_case.items()]
    shown = table(("case", *contenders), rows, classes="ratios")
    if len(rows) > _MOST_ROWS:
        shown = f".. dropdown:: {len(rows)} cases\n\n{textwrap.indent(shown, '   ')}"
    machine = escaped(str(ratios.get("machine", {}).get("processor", "")))
    text = (
        f"Time of ``fast`` over that of another, on {machine}: below 1 ``fast`` is faster. In brackets: 95 % intervals."
    )
    return titled("Benchmarks") + f"\n{text} See :doc:`the report </benchmarks/index>`.\n\n{shown}\n"


def _ratio(found: Any) -> str:
    if not isinstance(found, dict):
        return f"{found:.3g}"
    interval = f" ({found['low']:.3g} to {found['high']:.3g})" if "low" in found else ""
    return f"{found['ratio']:.3g}{interval}"


def index_page() -> str:
    """Return the table of all layers, each with a link to its page."""
    rows = []
    for layer in LAYERS.values():
        count = f"{layer.configurations(BOUND):,}" if layer.scope else ""
        names = ", ".join(each.name for each in layer.implementations)
        bugs, link = str(len(exhibits_of(layer)) or ""), f":doc:`{layer.name} <{layer.name}>`"
        rows.append((link, f"``{layer.arguments}``", names, layer.structure, count, bugs))
    headings = ("layer", "arrays", "versions", "structure", "configurations", "bugs in the museum")
    text = (
        "Every layer is a module of ``cnn_core`` with a version in loops, ``naive``, and one or two as array "
        "operations. Options mean what they mean in ``torch.nn.functional``. The :doc:`structure </how/structures>` "
        "decides how the gradients are checked. The configurations counted here are those that "
        f"``python -m verify sweep LAYER --bound {BOUND}`` checks.\n"
    )
    tree = "\n".join(f"   {name}" for name in LAYERS)
    return f"{titled('Layers', '=')}\n{text}\n{table(headings, rows)}\n.. toctree::\n   :hidden:\n\n{tree}\n"
