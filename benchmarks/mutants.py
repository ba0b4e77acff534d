"""Do the tests notice a wrong `cnn_core`? `python -m benchmarks.mutants [PATTERN ...] [--jobs N] [--report]`.

mutmut changes one thing in one function, some ten thousand times, and runs the tests that call this function. A mutant
that no test notices survives. Each survivor must stand in `docs/mutants.md`, with the reason why no caller can see it.
The exit code is 1 if one does not, or if a mutant listed there is noticed. It resumes: a mutant that has a result is
not run again unless a pattern names it ("cnn_core.relu.*"). `--report` compares the results there are, and runs none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPY = ROOT / "mutants"
PAGE = ROOT / "docs" / "mutants.md"
# `implement` runs when the layers are imported. mutmut forks after the imports, and would change it too late.
_AT_IMPORT = "cnn_core._arguments.x_implement__mutmut_"
_SURVIVED, _KILLED = 0, (1, 3)  # exit codes of pytest
# Above what all the tests take: an endless loop ends here, and counts as noticed.
_SECONDS = 600


class Mutant(NamedTuple):
    """One changed function, and the exit code of its tests: None if they did not run."""

    path: str
    name: str
    code: int | None

    @property
    def outcome(self) -> str:
        if self.code is None:
            return "not run"
        return "survived" if self.code == _SURVIVED else "killed" if self.code in _KILLED else "timeout"


class Row(NamedTuple):
    """A mutant as the page names it. Its number is left out, because a change above it in the function moves it."""

    function: str
    change: str


def results(copy: Path = COPY) -> list[Mutant]:
    """Return the mutants that mutmut has made, file by file."""
    found = []
    for path in sorted((copy / "cnn_core").rglob("*.py.meta")):
        source = str(path.relative_to(copy))[: -len(".meta")]
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        found += [Mutant(source, name, code) for name, code in codes.items()]
    return found


def row(mutant: Mutant) -> Row:
    """Return the function and what changes in it, as the page writes it."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    diff = get_diff_for_mutant(mutant.name, path=mutant.path).splitlines()
    was, becomes = (
        " ".join(line[1:].strip() for line in diff if line[:1] == sign and line[:3] != sign * 3) for sign in "-+"
    )
    return Row(_function(mutant), _shortened(was, becomes))


def _function(mutant: Mutant) -> str:
    """Return "cnn_core.relu._prepare" for "cnn_core.relu.x__prepare__mutmut_1"."""
    return mutant.name.rpartition("__mutmut_")[0].replace("ǁ", ".").replace(".x.", ".").replace(".x_", ".")


def _shortened(was: str, becomes: str, around: int = 24) -> str:
    """Return both texts without the ends that they share. Some letters of these stay."""
    start = next((k for k, (a, b) in enumerate(zip(was, becomes, strict=False)) if a != b), min(len(was), len(becomes)))
    most = min(len(was), len(becomes)) - start
    end = next((k for k in range(most) if was[-1 - k] != becomes[-1 - k]), most)
    left, right = max(0, start - around), max(0, end - around)
    one, two = (text[left : len(text) - right].replace("`", "'").replace("|", "¦") for text in (was, becomes))
    return f"`{one}` → `{two}`"


def listed(page: str) -> Counter[Row]:
    """Return the mutants in the page's table, and how many of each there are."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    return Counter(Row(function.strip("`"), change) for function, change, _ in cells)


def run(patterns: Sequence[str], jobs: int) -> int:
    """Run the mutants, and then those of what runs at import, each in a process of its own."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads would not survive a fork
    code = subprocess.run(["mutmut", "run", f"--max-children={jobs}", *patterns], cwd=ROOT, env=environment).returncode
    anew = [each for each in results() if each.name.startswith(_AT_IMPORT) and each.code == _SURVIVED]
    if code or (anew and _exit_code("none", environment) != 0):
        return code or 1
    for mutant in anew:
        path = COPY / f"{mutant.path}.meta"
        data = json.loads(path.read_text(encoding="utf-8"))
        data["exit_code_by_key"][mutant.name] = _exit_code(mutant.name, environment)
        path.write_text(json.dumps(data, indent=4), encoding="utf-8")
    return 0


def _exit_code(name: str, environment: dict[str, str]) -> int:
    """Run all the tests with a mutant in it from the first import on, and return the exit code as mutmut writes it."""
    from mutmut.configuration import config

    tests = [*config().pytest_add_cli_args, *config().pytest_add_cli_args_test_selection]
    changed = {**environment, "MUTANT_UNDER_TEST": name, "PYTHONPATH": str(COPY)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--rootdir=.", *tests]
    try:
        done = subprocess.run(command, cwd=COPY, env=changed, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return 36
    return _KILLED[0] if done.returncode else _SURVIVED  # a conftest that cannot be imported ends with 4


def counts(found: Sequence[Mutant]) -> str:
    """Return the table of outcomes, file by file, in Markdown."""
    outcomes = ("killed", "timeout", "survived", "not run")
    lines = [f"| file | mutants | {' | '.join(outcomes)} |", f"|---|{'---:|' * (1 + len(outcomes))}"]
    by_file = {path: [each for each in found if each.path == path] for path in dict.fromkeys(m.path for m in found)}
    for path, mutants in {**by_file, "all": list(found)}.items():
        count = Counter(each.outcome for each in mutants)
        if mutants:
            cells = " | ".join(f"{count[outcome]:,}" for outcome in outcomes)
            lines.append(f"| {path} | {len(mutants):,} | {cells} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the survivors are those listed, 1 if not, 2 if mutmut could not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="names of mutants, run again if they have run (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--report", action="store_true", help="run none")
    chosen = parser.parse_args(arguments)
    if not chosen.report and run(chosen.patterns, chosen.jobs):
        print("mutmut could not run: mutants would prove nothing", file=sys.stderr)
        return 2
    found, known = results(), listed(PAGE.read_text(encoding="utf-8"))
    pending = {_function(each) for each in found if each.outcome == "not run"}
    bad = 0
    for mutant in found:
        if mutant.outcome in ("survived", "timeout"):
            which = row(mutant)
            if known[which] > 0:  # one that is slower alone may end either way
                known[which] -= 1
            elif mutant.outcome == "survived":
                bad += 1
                print(f"SURVIVED  {mutant.name}\n| `{which.function}` | {which.change} | why? |")
    for which, count in known.items():
        if count > 0 and which.function not in pending:
            bad += 1
            print(f"LISTED, but it does not survive: {which.function}: {which.change}")
    print(counts(found))
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
