"""Run what a page of Markdown shows, and compare: Python sessions, files, and commands with their output.

A page's blocks are run in order, in one folder of their own and one Python session:

- ```` ```python ```` with `>>>` is a session. `...` in its output stands for anything.
- ```` ```python ```` that begins with `# NAME.py`, and ```` ```yaml ```` that begins with `# NAME.yml`, are files.
- ```` ```diff ```` that begins with `--- NAME` changes a file: its lines with `-` become those with `+`.
- ```` ```console ```` holds commands after `$`, each with its output.
- ```` ```sh ```` holds commands that set up a machine. They are not run here; `known_commands` looks at their words.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import verify

ROOT = Path(__file__).parents[2]
KINDS = ("python", "console", "diff", "yaml", "sh")
# What is installed in the environment of the oracles alone.
ORACLES = ("torch", "jax")
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\S+\.(?:py|yml))\n")
_COMMAND = re.compile(r"^\$ (.*)\n?", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: the word behind the fence, its text, and the number of its first line."""

    kind: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, or None."""
        found = _NAME.match(self.text)
        return found.group(1) if found else None


def blocks(page: str) -> list[Block]:
    """Return the blocks of code of a page. Directives of MyST, whose word is in braces, are none."""
    found = [
        Block(match.group(1).strip(), match.group(2), page.count("\n", 0, match.start(2)) + 1)
        for match in _FENCE.finditer(page)
    ]
    return [block for block in found if not (block.kind.startswith("{") and "code" not in block.kind)]


def oracles_of(some: list[Block]) -> list[list[str]]:
    """Return for each block the oracles that it needs: those that it names, or that a file it runs names."""
    files: dict[str, str] = {}
    needed = []
    for block in some:
        if block.file:
            files[block.file] = block.text
        text = block.text + "".join(source for name, source in files.items() if name in block.text)
        needed.append([name for name in ORACLES if re.search(rf"import {name}\b|\b{name}\.", text)])
    return needed


def without_oracles(some: list[Block]) -> list[Block]:
    """Return the blocks that run where no oracle is installed."""
    return [block for block, needed in zip(some, oracles_of(some), strict=True) if not needed]


def failures(some: list[Block], folder: Path) -> list[str]:
    """Run blocks in a folder, and return what did not print what is shown."""
    environment, session = _environment(folder), {"__name__": "__main__"}
    found: list[str] = []
    # A file that changes within a second, to the same length, would leave its old byte code in use.
    with contextlib.chdir(folder), mock.patch.object(sys, "dont_write_bytecode", True):
        for block in some:
            if block.file:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(block.text, encoding="utf-8")
                if block.kind == "yaml":
                    found += _workflow(block, folder, environment)
            elif block.kind == "diff":
                found += _change(block, folder)
            elif block.kind == "python":
                found += _session(block, session)
            elif block.kind == "console":
                found += _console(block, folder, environment)
    return found


def _session(block: Block, names: dict[str, Any]) -> Iterator[str]:
    """Run a session as doctest does. Names stay for the page's next session."""
    test = doctest.DocTestParser().get_doctest(block.text, names, "page", "page", block.line - 1)
    if not test.examples:
        yield f"line {block.line}: neither a session nor a file"
        return
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=printed.append, clear_globs=False)
    names.update(test.globs)
    yield from printed


def _change(block: Block, folder: Path) -> Iterator[str]:
    """Change a file as a block of kind diff says. Its lines must stand in the file once."""
    head, *lines = block.text.splitlines(keepends=True)
    path = folder / head.removeprefix("--- ").strip()
    old, new = ("".join(line[1:] for line in lines if line[0] in (" ", sign)) for sign in "-+")
    text = path.read_text(encoding="utf-8")
    if not old or text.count(old) != 1:
        yield f"line {block.line}: found {text.count(old)} times in {path.name}:\n{old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def _console(block: Block, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the commands of a block, and compare what each prints."""
    commands = list(_COMMAND.finditer(block.text))
    if not commands or commands[0].start():
        yield f"line {block.line}: a console begins with a command, $"
        return
    for command, following in zip(commands, [*commands[1:], None], strict=True):
        want = block.text[command.end() : following.start() if following else None]
        done = _run(command.group(1), folder, environment)
        # Progress goes to standard error, and only on a slow machine: it counts where the command fails.
        said = done.stdout + (done.stderr if done.returncode else "")
        got = "".join(f"{line.rstrip()}\n" for line in said.splitlines())
        if not doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS):
            yield f"line {block.line}: $ {command.group(1)}\nshown:\n{want}printed:\n{got}"


def steps(block: Block) -> list[str]:
    """Return the commands of a workflow."""
    return re.findall(r"^ *- run: (.*)$", block.text, re.MULTILINE)


def _workflow(block: Block, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the steps of a workflow, except those that install something."""
    for step in steps(block):
        if " pip install " in step:
            continue
        done = _run(step, folder, environment)
        if done.returncode:
            yield f"line {block.line}: {step} exits with {done.returncode}\n{done.stdout}{done.stderr}"


def _run(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def _environment(folder: Path) -> dict[str, str]:
    """Variables with which `python`, `pytest` and `gradcert` are this Python's, installed or not."""
    programs = folder / ".bin"
    programs.mkdir()
    for name, run in {"python": "", "pytest": "-m pytest", "gradcert": "-m verify"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {run} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return kept | {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(Path(verify.__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]),
        "PYTEST_ADDOPTS": "-p verify.plugin -p no:cacheprovider -p no:benchmark -p no:hypothesispytest -p no:randomly",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


def known_commands(block: Block) -> list[str]:
    """Return what is unknown in a block of kind sh: extras, environments of tox, and modules that are not there."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    unknown = []
    for line in block.text.splitlines():
        for extra in re.findall(r"\[([a-z,]+)\]", line):
            unknown += [each for each in extra.split(",") if not re.search(rf"^{each} = \[", project, re.MULTILINE)]
        unknown += [each for each in re.findall(r"tox -e (\S+)", line) if f"[testenv:{each}" not in tox]
        unknown += [each for each in re.findall(r"-m ([a-z_.]+)", line) if not _is_known(each)]
    return unknown


def _is_known(module: str) -> bool:
    return module in ("venv", "pip") or importlib.util.find_spec(module) is not None
