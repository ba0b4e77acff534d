"""A journal of work: a file to which each finished part is added as a line, so that a run goes on where it was."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cnn_core
import verify


class Journal:
    """The parts that are done, by number. The first line says of what work it is the journal.

    A line that was cut off when the run was killed is left out. A file of other work stays beside it, under a number.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.done: dict[int, list[Any]] = {}
        first = json.dumps(about)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        resumed = bool(lines) and lines[0] == first
        for line in lines[1:] if resumed else ():
            try:
                number, *record = json.loads(line)
            except ValueError:
                continue
            self.done[number] = record
        if lines and not resumed:
            path.rename(next(each for n in itertools.count(1) if not (each := Path(f"{path}.{n}")).exists()))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a" if resumed else "w", encoding="utf-8")
        self._file.write("\n" if resumed else f"{first}\n")  # a line that was cut off ends here

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, number: int, record: Sequence[Any]) -> None:
        """Write a finished part to the disk."""
        self.done[number] = list(record)
        self._file.write(json.dumps([number, *record]) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def code() -> str:
    """A digest of the layers, their declarations and the checker: parts done by another code are not done."""
    found = hashlib.sha256()
    core, checks = Path(cnn_core.__file__).parent, Path(verify.__file__).parent
    for path in (*sorted(core.rglob("*.py")), *sorted(checks.rglob("*.py"))):
        if "tests" not in path.relative_to(checks if checks in path.parents else core).parts:
            found.update(path.read_bytes())
    return found.hexdigest()[:16]
