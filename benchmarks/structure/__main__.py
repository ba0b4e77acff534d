"""Measure how much of the checker a reader has to read: `python -m benchmarks.structure`.

It prints a table of figures and bounds. The exit code is 1 if a figure exceeds its bound.
`python -m benchmarks.structure --constants` prints docs/constants.md instead.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.structure import constants
from benchmarks.structure.figures import figures, table


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, or the page of constants, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description=__doc__)
    parser.add_argument("--constants", action="store_true", help="print docs/constants.md")
    if parser.parse_args(arguments).constants:
        print(constants.page(constants.of_the_checker()), end="")
        return 0
    found = figures()
    exceeded = sum(each.exceeded for each in found)
    print(table(found))
    print(f"\n{exceeded} of {len(found)} figures exceed their bound")
    return int(exceeded > 0)


if __name__ == "__main__":
    sys.exit(main())
