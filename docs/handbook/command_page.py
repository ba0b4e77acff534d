"""Writes the page of the command line from the commands themselves: options, exit codes, the JSON."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import rich_click as click

from handbook.markup import code, table, titled
from handbook.prose import blocks, escaped, rst
from verify.command.cli import cli
from verify.command.run import Row

# Of more choices than this an option is listed without them: of layers, of exhibits.
_MOST_CHOICES = 12
# What an option takes, by the name of its type.
_TAKEN = {"integer range": "N", "float range": "X", "file": "PATH", "directory": "FOLDER"}


def command_line() -> str:
    """Return the page of the command line: every command and option, the exit codes, and the JSON."""
    opening = "``python -m verify COMMAND``, or ``gradcert COMMAND`` once installed. Without a command it is ``run``.\n"
    parts = [titled("Command line", "="), opening, titled("Exit codes"), _exit_codes()]
    for name, command in cli.commands.items():
        parts += [f".. _command-{name}:\n", titled(name), rst(blocks(_help(command)), formulas=False)]
        parts += [_usage(name, command), _options(command)]
    return "\n".join([*parts, _json()])


def _help(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    return re.sub(r"\n?Exit codes: [^.]*\.", "", text)


def exit_codes() -> dict[str, str]:
    """Return the exit codes and their meanings, as the command's own help gives them."""
    listed = re.search(r"Exit codes: (.*?)\.", inspect.cleandoc(cli.help or ""), re.DOTALL)
    pairs = (
        (tuple(part.split(" ", 1)) for part in re.split(r",\s+", " ".join(listed[1].split())) if part) if listed else ()
    )
    return dict(pairs)


def _exit_codes() -> str:
    return table(
        ("code", "meaning"), [(f"``{number}``", meaning) for number, meaning in exit_codes().items()], classes="short"
    )


def _usage(name: str, command: click.Command) -> str:
    pieces = command.collect_usage_pieces(click.Context(command))
    return code("text", " ".join(["python -m verify", name, *pieces]))


def _options(command: click.Command) -> str:
    """Return a table of the options. What click holds of an option is in its `vars`: rich_click has no type for it."""
    rows = []
    for each in (vars(each) for each in command.params if each.param_type_name == "option"):
        taken = "" if each["is_flag"] else f" {_taken(each)}"
        text = [each["help"] or "", _choices(each["type"]), _default(each)]
        rows.append((f"``{', '.join(each['opts'])}{taken}``", escaped(" ".join(filter(None, text)))))
    return table(("option", "meaning"), rows, classes="short") if rows else "It has no options.\n"


def _taken(option: dict[str, Any]) -> str:
    return str(option["metavar"] or _TAKEN.get(option["type"].name, "NAME"))


def _choices(kind: Any) -> str:
    choices = getattr(kind, "choices", ())
    if not choices:
        return ""
    few = ", ".join(f"`{each}`" for each in choices)
    return f"One of {len(choices)} names." if len(choices) > _MOST_CHOICES else f"One of {few}."


def _default(option: dict[str, Any]) -> str:
    if not option["show_default"] or option["default"] is None:
        return ""
    return f"Default: {option['show_default'] if isinstance(option['show_default'], str) else option['default']}."


def _json() -> str:
    rows = [(f"``{field.name}``", escaped(str(field.type))) for field in dataclasses.fields(Row)]
    writing = [name for name, each in cli.commands.items() if any("--json" in option.opts for option in each.params)]
    commands = ", ".join(f"``{name}``" for name in writing)
    return "\n".join(
        [
            titled("The JSON"),
            f"With ``--json PATH`` these write one object: {commands}. It has ``command``, ``exit_code``, settings "
            "such as ``seed``, and ``rows``. A row of ``run`` has these fields:\n",
            table(("field", "type"), rows, classes="short"),
            "``certificate`` is that of the case that did not pass, or null. "
            "Its fields are those of :doc:`a certificate <certificate>`.\n",
        ]
    )
