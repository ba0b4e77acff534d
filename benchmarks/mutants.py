"""Do the tests notice a wrong layer, or a wrong checker? `python -m benchmarks.mutants [PATTERN ...] [--of checker]`.

mutmut changes one thing in one function, some ten thousand times, and runs the tests that call this function. A mutant
that no test notices survives. Each survivor must stand in `docs/mutants.md`, with the reason why no caller can see it.
The exit code is 1 if one does not, or if a mutant listed there is noticed. It resumes: a mutant that has a result is
not run again unless a pattern names it ("cnn_core.relu.*"). `--report` compares the results there are, and runs none.
`--sample N` runs N mutants drawn at random, and says what part of all may survive.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

# In place of a change: of a function that decides how fast something is computed, and not what.
ANY = "any"

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "mutants.md"
# `implement` runs when the layers are imported. mutmut forks after the imports, and would change it too late.
_AT_IMPORT = "cnn_core._arguments.x_implement__mutmut_"
# Exit codes of pytest, and of a process that a signal ended. Any other one is no proof that a test noticed: 33 and 5
# say that no test calls the function.
_SURVIVED, _KILLED, _TIMEOUT = 0, (1, 3, -11), (24, 36, 152, 255, -24, -9)
# Above what all the tests take: an endless loop ends here, and counts as noticed.
_SECONDS = 600


class Part(NamedTuple):
    """What is changed, the folder where mutmut runs, and the table of `pyproject.toml` that mutmut reads there.

    `slow` are tests that take too long for every mutant. They are asked about those that survive the others.
    """

    source: str
    folder: Path
    table: str
    slow: tuple[str, ...] = ()

    @property
    def copy(self) -> Path:
        """Where mutmut writes the changed sources and its results."""
        return self.folder / "mutants"


PARTS = {
    "core": Part("cnn_core", ROOT, "tool.mutmut"),
    "checker": Part(
        "verify/checker", ROOT / ".mutants-of-checker", "tool.gradcert.mutants-of-checker", ("corpus", "causes", "zoo")
    ),
}


class Mutant(NamedTuple):
    """One changed function, and the exit code of its tests: None if they did not run."""

    path: str
    name: str
    code: int | None

    @property
    def outcome(self) -> str:
        if self.code is None:
            return "not run"
        return "killed" if self.code in _KILLED else "timeout" if self.code in _TIMEOUT else "survived"


class Row(NamedTuple):
    """A mutant as the page names it. Its number is left out, because a change above it in the function moves it."""

    function: str
    change: str


def results(part: Part) -> list[Mutant]:
    """Return the mutants that mutmut has made, file by file."""
    found = []
    for path in sorted((part.copy / part.source).rglob("*.py.meta")):
        source = str(path.relative_to(part.copy))[: -len(".meta")]
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        found += [Mutant(source, name, code) for name, code in codes.items()]
    return found


def prepare(part: Part) -> None:
    """Make the folder where mutmut runs: the project as it is, with the table that mutmut reads."""
    if part.folder == ROOT:
        return
    part.folder.mkdir(exist_ok=True)
    for old in part.folder.iterdir():
        if old != part.copy:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(ROOT, part.folder, ignore=_ignored, dirs_exist_ok=True)
    path = part.folder / "pyproject.toml"
    text = path.read_text(encoding="utf-8").replace(f"[{PARTS['core'].table}]", "[tool.gradcert.mutants-of-core]")
    path.write_text(text.replace(f"[{part.table}]", f"[{PARTS['core'].table}]"), encoding="utf-8")


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Leave out what is no part of the project: caches, environments, and the folders of mutants."""
    return {name for name in names if name in ("mutants", "build", "__pycache__") or name.startswith(".")}


def row(mutant: Mutant, part: Part) -> Row:
    """Return the function and what changes in it, as the page writes it."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    with contextlib.chdir(part.folder):
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


def listed(page: str, part: Part) -> Counter[Row]:
    """Return the part's mutants in the page's tables, and how many of each there are."""
    package = part.source.replace("/", ".")
    lines = (line for line in page.splitlines() if line.startswith(f"| `{package}."))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return Counter(Row(function.strip("`"), change) for function, change, _ in cells)


def run(part: Part, patterns: Sequence[str], jobs: int) -> int:
    """Run the mutants. What survives and is not listed is asked again, each in a process of its own.

    That is so for all mutants of a part with slow tests, and otherwise for those of what runs at import.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads would not survive a fork
    command = ["mutmut", "run", f"--max-children={jobs}", *patterns]
    code = subprocess.run(command, cwd=part.folder, env=environment).returncode
    known = listed(PAGE.read_text(encoding="utf-8"), part)
    survived = [each for each in results(part) if each.outcome == "survived"]
    anew = [each for each in survived if (part.slow or each.name.startswith(_AT_IMPORT)) and not known[row(each, part)]]
    if code or (anew and _exit_code(part, "none", environment) != 0):
        return code or 1
    with ThreadPoolExecutor(jobs) as pool:
        codes = pool.map(lambda mutant: _exit_code(part, mutant.name, environment), anew)
        for mutant, again in zip(anew, codes, strict=True):
            path = part.copy / f"{mutant.path}.meta"
            data = json.loads(path.read_text(encoding="utf-8"))
            data["exit_code_by_key"][mutant.name] = again
            path.write_text(json.dumps(data, indent=4), encoding="utf-8")
    return 0


def _exit_code(part: Part, name: str, environment: dict[str, str]) -> int:
    """Run tests with a mutant in it from the first import on, and return the exit code as mutmut writes it."""
    settings = tomllib.loads((part.folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    slow = [str(path) for word in part.slow for path in sorted(part.copy.glob(f"verify/tests/test_{word}*.py"))]
    tests = [*settings["pytest_add_cli_args"], *(slow or settings["pytest_add_cli_args_test_selection"])]
    changed = {**environment, "MUTANT_UNDER_TEST": name, "PYTHONPATH": str(part.copy)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--rootdir=.", *tests]
    try:
        done = subprocess.run(command, cwd=part.copy, env=changed, capture_output=True, timeout=_SECONDS, check=False)
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


def drawn(part: Part, count: int, seed: int, jobs: int) -> list[str]:
    """Draw the names of mutants, all as likely.

    mutmut makes them first, and measures the tests. It ends with an error, because no mutant has the name.
    """
    run(part, ["none.*"], jobs)
    names = sorted(each.name for each in results(part))
    return random.Random(seed).sample(names, min(count, len(names)))


def share(killed: int, count: int, *, all_ran: bool) -> str:
    """Return the part of the mutants that is killed, and of a sample the least part of all (95 %, Wilson 1927)."""
    text = f"{killed:,} of {count:,} killed, {100 * killed / count:.1f} %"
    if all_ran:
        return text
    z2 = 1.645**2  # one-sided
    middle, spread = killed + z2 / 2, math.sqrt(z2 * (killed * (count - killed) / count + z2 / 4))
    return f"{text} (if they are a sample of all: at least {100 * (middle - spread) / (count + z2):.1f} %)"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the survivors are those listed, 1 if not, 2 if mutmut could not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="names of mutants, run again if they have run (default: all)")
    parser.add_argument("--of", choices=PARTS, default="core", help="what is changed (default: core)")
    parser.add_argument("--sample", type=int, metavar="N", help="run N mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--report", action="store_true", help="run none")
    chosen = parser.parse_args(arguments)
    part = PARTS[chosen.of]
    patterns = chosen.patterns
    if not chosen.report:
        prepare(part)
        if chosen.sample:
            patterns = drawn(part, chosen.sample, chosen.seed, chosen.jobs)
        if (chosen.sample and not patterns) or run(part, patterns, chosen.jobs):
            print("mutmut could not run: mutants would prove nothing", file=sys.stderr)
            return 2
    found, known = results(part), listed(PAGE.read_text(encoding="utf-8"), part)
    pending = {_function(each) for each in found if each.outcome == "not run"}
    ran = missed = equivalent = stale = 0
    for mutant in found:
        ran += mutant.outcome != "not run"
        if mutant.outcome in ("survived", "timeout"):
            which = row(mutant, part)
            if known[which] > 0 or known[Row(which.function, ANY)] > 0:  # one that is slower alone may end either way
                known[which] -= which in known
                equivalent += 1
            elif mutant.outcome == "survived":
                missed += 1
                print(f"SURVIVED  {mutant.name}\n| `{which.function}` | {which.change} | why? |")
    for which, count in known.items():
        if count > 0 and which.function not in pending and which.change != ANY:
            stale += 1
            print(f"LISTED, but it does not survive: {which.function}: {which.change}")
    print(counts(found))
    if ran > equivalent:
        noticed = share(ran - equivalent - missed, ran - equivalent, all_ran=ran == len(found))
        print(f"\nEquivalent: {equivalent:,}. Of the others {noticed}")
    return 1 if missed or stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
