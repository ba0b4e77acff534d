"""The figures of the checker, and the bounds that they must keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import verify.checker
from benchmarks.structure import measures
from cnn_core import conv2d
from verify.checker.check import gradcheck

CHECKER = Path(verify.checker.__file__ or "").parent

# The PASS of a small convolution is what a newcomer follows first, and keeps in mind. Asked were 8 and 36. Two
# attempts ended at 10 and 55: calling a layer with care takes 11 functions, exact numbers 17, refusing bad calls 5.
# What a PASS covers took three files and eleven functions more: guard.py, attempts.py, and backward asked again.
MOST_FILES_VISITED = 13
MOST_FUNCTIONS_VISITED = 66
# One reference, with what it imports, is what somebody who adds a reference reads.
MOST_LINES_OF_A_REFERENCE = 900
# References that need more, and how many.
# at_ties.py and differences.py import the objections of kinks and the ladder with its windows of float32.
MORE_LINES: dict[str, int] = {"references/at_ties.py": 915, "references/differences.py": 1010}
# judge.py decides about gradients. attempts.py states faults of the layer, check.py what several arguments say
# together. Another file is a second judge.
MOST_FILES_THAT_DECIDE = 3
# Code that asks which kind of point or reference it has knows more than the interface.
MOST_ISINSTANCE = 0
# A method that only raises stands for an interface that does not fit all of its references.
MOST_NOT_IMPLEMENTED = 0
# A checker that is to be trusted must be read whole. Asked were 3,000. Two attempts ended at 3,760, of which 2,450 are
# code: the others are docstrings, comments and blank. What a PASS covers, float32 through float64, and the rounding of
# right layers that an attack found took some 860 more. Gradients that vanish by symmetry took 25: a campaign found one.
# Pictures took 40: a certificate makes a page, and holds what computes its gradients for that.
# That y has no entries took 2: such a PASS says nothing of the layer.
MOST_LINES = 4727
# A function of more lines does not fit on one screen. A file of more lines holds two subjects.
MOST_LINES_OF_A_FUNCTION = 50
MOST_LINES_OF_A_FILE = 250
# No function is longer.
MOST_LONG_FUNCTIONS = 0
# No file is longer.
MOST_LONG_FILES = 0


class Figure(NamedTuple):
    """A figure, its bound, and the names that it counts."""

    what: str
    measured: int
    bound: int
    which: tuple[str, ...] = ()

    @property
    def exceeded(self) -> bool:
        """Whether the figure is above its bound."""
        return self.measured > self.bound


def small_convolution() -> None:
    """The check whose visits are counted. It raises unless the verdict is PASS."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 6, 5), (4, 3, 3, 2), (4,))]
    gradcheck(conv2d.im2col.forward, conv2d.im2col.backward, arrays, structure="multilinear", seed=0)


def figures(
    root: Path = CHECKER, package: str = "verify.checker", call: Callable[[], object] = small_convolution
) -> list[Figure]:
    """Every figure of a package; `call` is the check whose visits are counted."""
    visited, count = measures.visits(call, root, package), measures.lines(root)
    decide, kinds, raised = measures.deciding(root), measures.kinds_asked(root), measures.not_implemented(root)
    functions = measures.long_functions(root, MOST_LINES_OF_A_FUNCTION)
    files = measures.long_files(root, MOST_LINES_OF_A_FILE)
    by_file = Counter(path for path, *_ in visited.functions)
    visited_files = tuple(f"{path} {by_file[path]}" for path in sorted(visited.files))
    return [
        Figure(
            "files visited by the PASS of a small convolution", len(visited.files), MOST_FILES_VISITED, visited_files
        ),
        Figure("functions visited by it", len(visited.functions), MOST_FUNCTIONS_VISITED),
        *(
            Figure(
                f"lines that {path} needs",
                sum(count[part] for part in parts),
                MORE_LINES.get(path, MOST_LINES_OF_A_REFERENCE),
            )
            for path, parts in measures.needed(root, package).items()
        ),
        Figure("files that decide a verdict", len(decide), MOST_FILES_THAT_DECIDE, tuple(decide)),
        Figure("isinstance of kinds of points or references", len(kinds), MOST_ISINSTANCE, tuple(kinds)),
        Figure("raised NotImplementedError", len(raised), MOST_NOT_IMPLEMENTED, tuple(raised)),
        Figure("lines of the checker", sum(count.values()), MOST_LINES),
        Figure(
            f"functions over {MOST_LINES_OF_A_FUNCTION} lines", len(functions), MOST_LONG_FUNCTIONS, tuple(functions)
        ),
        Figure(f"files over {MOST_LINES_OF_A_FILE} lines", len(files), MOST_LONG_FILES, tuple(files)),
    ]


def table(found: Iterable[Figure]) -> str:
    """The figures as a table."""
    rows = ["| figure | measured | bound | which |", "| --- | ---: | ---: | --- |"]
    for each in found:
        measured = f"**{each.measured}**" if each.exceeded else f"{each.measured}"
        rows.append(f"| {each.what} | {measured} | {each.bound} | {', '.join(each.which)} |")
    return "\n".join(rows)
