"""Writes the pages of the reference: functions by their docstrings, checks, the command line, exit codes, the JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import types
from typing import Any, NamedTuple

import numpy as np

from handbook.advice import FIX
from handbook.command_page import command_line
from handbook.markup import code, table, titled
from handbook.prose import blocks, escaped, rst
from verify import adapters, gradcheck, layers, plugin
from verify.battery.checks import CHECKS
from verify.battery.contracts import CONTRACTS
from verify.records import silently


class Page(NamedTuple):
    """A page of objects by their docstrings: the modules, and the names of each. No name stands for all public ones."""

    title: str
    modules: dict[str, tuple[str, ...]]


PAGES = {
    "gradcheck": Page("gradcheck", {"verify": ("gradcheck", "GradientMismatch", "Inconclusive", "StructureError")}),
    "certificate": Page(
        "Certificate",
        {
            "verify": ("Certificate",),
            "verify.checker.certificate": ("ArgumentResult", "Cause", "Uncovered", "Shown"),
            "verify.checker.point": ("Worst",),
        },
    ),
    "adapters": Page(
        "Adapters",
        {
            "verify.adapters": ("gradcheck", "adapt", *sorted({*adapters.__all__} - {"gradcheck", "adapt", "plain"})),
            "verify.adapters.plain": ("gradcheck", "pair"),
            "verify.adapters.torch": ("gradcheck", "pair"),
            "verify.adapters.jax": ("gradcheck", "pair"),
        },
    ),
    "battery": Page(
        "Battery",
        {
            "verify": ("check_layer", "parametrize_with_checks", "LayerReport", "LayerError"),
            "verify.battery.battery": ("CheckResult",),
        },
    ),
    "strategies": Page("Strategies", {"verify.strategies": ()}),
    "declarations": Page("Declarations of layers", {"verify.layers": tuple(layers.__all__)}),
    "core": Page(
        "Networks and training",
        {
            "cnn_core": ("Implementation",),
            "cnn_core.network": (),
            "cnn_core.graph": (),
            "cnn_core.optim": (),
            "cnn_core.data": (),
        },
    ),
}
# Modules that import a framework, which need not be installed where the handbook is built.
_OF_FRAMEWORKS = ("verify.adapters.torch", "verify.adapters.jax")


def pages() -> dict[str, str]:
    """Return the pages of the reference by their names."""
    found = {name: _page(page) for name, page in PAGES.items()}
    found["battery"] += _checks()
    found["certificate"] += _fields()
    return {
        **found,
        "command_line": command_line(),
        "pytest": _pytest(),
        "index": _index([*found, "command_line", "pytest"]),
    }


def _index(names: list[str]) -> str:
    tree = "\n".join(f"   {name}" for name in names)
    text = "Made from the docstrings, the declarations and the command line itself.\n"
    causes = "   Causes of a FAIL, and what to look for </causes>"
    return f"{titled('Reference', '=')}\n{text}\n.. toctree::\n   :maxdepth: 2\n\n{tree}\n{causes}\n"


def public(module: str, names: tuple[str, ...] = ()) -> list[str]:
    """Return these names, or all public functions and classes that a module defines, in its order."""
    if names:
        return list(names)
    return [
        name
        for name, value in vars(importlib.import_module(module)).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and getattr(value, "__module__", None) == module
    ]


def _page(page: Page) -> str:
    parts = [titled(page.title, "=")]
    for module, names in page.modules.items():
        if module != "verify" and len(page.modules) > 1:
            parts.append(titled(module))
        parts += [f".. currentmodule:: {module}\n"]
        if module in ("verify.adapters", "verify.strategies", *_OF_FRAMEWORKS) or not names or module.endswith("plain"):
            parts.append(f".. automodule:: {module}\n   :no-index:\n")
        parts += [_entry(module, name) for name in public(module, names)]
    return "\n".join(parts)


def _entry(module: str, name: str) -> str:
    if module in _OF_FRAMEWORKS:
        return f".. autofunction:: {module}.{name}\n"
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, types.FunctionType):
        return f".. autofunction:: {module}.{name}\n"
    if not inspect.isclass(value):
        text = 'Every layer\'s declaration by its name: ``LAYERS["conv2d"]``, in alphabetical order.'
        return f".. py:data:: {module}.{name}\n\n   {text}\n"
    shown = "   :members:\n" if not issubclass(value, Exception) else ""
    return f".. autoclass:: {module}.{name}\n{shown}"


def _checks() -> str:
    """Return a section for each check: what it asks, and how to fix what it finds."""
    parts = ["", titled("The checks"), f"``check_layer`` makes {len(CHECKS)} checks, each at every case.\n"]
    for name, check in CHECKS.items():
        asks = inspect.getdoc(CONTRACTS.get(name, check)) or ""
        parts += [f".. _check-{name}:\n", titled(name, "~"), rst(blocks(asks), formulas=False)]
        parts.append(f"**How to fix what it finds.** {escaped(FIX[name])}\n")
    return "\n".join(parts)


def _fields() -> str:
    """Return a table of the fields of a certificate, as they are in `to_dict` and in JSON."""
    with silently():
        wrong = gradcheck(
            lambda x: (x * x, x),
            lambda dy, x: (x * dy,),
            (np.array([1.0, 2.0, 3.0]),),
            seed=0,
            raise_on_failure=False,
        )
    plain = json.loads(wrong.to_json())
    rows = [(f"``{name}``", escaped(_kind(value))) for name, value in plain.items() if name != "wrong_entries"]
    rows.append(("``wrong_entries``", escaped(f"for each wrong gradient an {_kind(plain['wrong_entries']['x'])}")))
    shown = {
        name: value for name, value in plain.items() if name not in ("reproduction", "seconds", "shown", "arguments")
    }
    text = "``to_json`` of the gradient ``x * dy`` of ``x * x``, at 1, 2, 3. Long fields are left out:\n"
    return "\n".join(
        [
            "",
            titled("As JSON"),
            'What is not finite is a string: ``"nan"``, ``"inf"``. ``seconds`` differs from run to run.\n',
            table(("field", "type"), rows, classes="short"),
            text,
            code("json", json.dumps(shown, indent=1)),
        ]
    )


def _kind(value: Any) -> str:
    """Return the type of a value of JSON, with the fields of what a list holds."""
    if isinstance(value, dict):
        return "object: " + ", ".join(f"`{name}`" for name in value) if value else "object"
    if isinstance(value, list):
        return f"list: {_kind(value[0])}" if value else "list"
    names = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "number or null"}
    return names[type(value)]


def _pytest() -> str:
    parts = [
        titled("pytest plugin", "="),
        rst(blocks(inspect.getdoc(plugin) or ""), formulas=False),
        titled("Options and settings"),
        table(
            ("name", "meaning"), [(f"``{name}``", escaped(text)) for name, text in plugin_options()], classes="short"
        ),
        titled("The fixture gradcheck"),
        ".. autoclass:: verify.plugin.Gradcheck\n   :members: __call__, torch, jax, plain\n",
        "Layers are parametrized by :func:`verify.parametrize_with_checks`.\n",
    ]
    return "\n".join(parts)


def plugin_options() -> list[tuple[str, str]]:
    """Return the options and settings that the plugin adds to pytest, each with its help."""
    found: list[tuple[str, str]] = []

    class Parser:
        def getgroup(self, name: str, *_: Any, **__: Any) -> Parser:
            return self

        def addoption(self, *names: str, help: str = "", **_: Any) -> None:
            found.append((", ".join(names), help))

        def addini(self, name: str, help: str, **_: Any) -> None:
            found.append((name, help))

    plugin.pytest_addoption(Parser())  # type: ignore[arg-type]
    return found
