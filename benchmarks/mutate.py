"""Do the tests notice a checker that decides wrongly? `python -m benchmarks.mutate [WORD ...] [--jobs N]`.

Each inequality of `verify/checker` is turned, one at a time, in a copy of the project: `<` becomes `>=`, and so on. The
judge is also made to pass everything. The tests of the checker run on the copy until the first failure. A mutant that
no test notices is printed, and the exit code is 1. With words, only mutants whose name holds one of them are made.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CHECKER = Path("verify/checker")
JUDGE = CHECKER / "judge.py"
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
# The tests that run the checker, those that fail soonest first.
_TESTS = ("judge", "attempts", "objections", "reference", "linearity", "gradcheck", "arguments", "layer")
_MORE = ("locate", "certificate", "exact_numbers", "causes", "reproduction", "battery", "calibrate", "corpus")
# Well above what they take: an endless loop ends here, and counts as noticed.
_SECONDS = 300


class Mutant(NamedTuple):
    """A changed source of one file."""

    name: str
    path: Path
    source: str


def mutants(root: Path = ROOT) -> Iterator[Mutant]:
    """The checker with one inequality turned, for each; and with a judge that always passes."""
    for path in sorted((root / CHECKER).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        place = path.relative_to(root)
        count = len(_comparisons(ast.parse(source)))
        for number in range(count):
            tree = ast.parse(source)
            node, which = _comparisons(tree)[number]
            before = ast.unparse(node)
            node.ops[which] = _TURNED[type(node.ops[which])]()
            yield Mutant(f"{place}:{node.lineno}: {before} -> {ast.unparse(node)}", place, ast.unparse(tree))
    source = (root / JUDGE).read_text(encoding="utf-8")
    yield Mutant(f"{JUDGE}: passes every claim", JUDGE, source.replace("if interval.excess(claim) == 0:", "if True:"))


def _comparisons(tree: ast.AST) -> list[tuple[ast.Compare, int]]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Compare))
    return [(node, which) for node in nodes for which, op in enumerate(node.ops) if type(op) in _TURNED]


def is_noticed(mutant: Mutant) -> bool:
    """Whether a test fails on a copy of the project with this mutant in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".git", ".tox", ".venv", "build", "__pycache__", "*.egg-info", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=ignored)
        (copy / mutant.path).write_text(mutant.source, encoding="utf-8")
        tests = [str(path) for word in (*_TESTS, *_MORE) for path in sorted(copy.glob(f"verify/tests/test_{word}*.py"))]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not long", "--hypothesis-profile=quick"]
        try:
            run = subprocess.run([*command, *tests], cwd=copy, capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return True
        return run.returncode != 0


def main(arguments: list[str] | None = None) -> int:
    """Print the mutants that no test notices; 1 if there are any, 2 if a test fails without one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutate", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of mutants (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default: 2)")
    chosen = parser.parse_args(arguments)
    made = [each for each in mutants() if not chosen.words or any(word in each.name for word in chosen.words)]
    if is_noticed(Mutant("nothing changed", JUDGE, (ROOT / JUDGE).read_text(encoding="utf-8"))):
        print("a test fails although nothing is changed: mutants would prove nothing", file=sys.stderr)
        return 2
    missed = 0
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for mutant, noticed in zip(made, pool.map(is_noticed, made), strict=True):
            missed += not noticed
            print(f"{'noticed' if noticed else 'MISSED '}  {mutant.name}", flush=True)
    print(f"{len(made) - missed} of {len(made)} mutants noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
