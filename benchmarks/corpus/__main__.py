"""Run the frozen checks and print every difference: `python -m benchmarks.corpus [WORD ...] [--write]`.

Each WORD chooses the checks whose names contain it. The exit code is 1 if there is a difference.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter

from benchmarks.corpus.checks import checks
from benchmarks.corpus.outcomes import FROZEN, differences, load, run, save


def main(arguments: list[str] | None = None) -> int:
    """Run the checks, print the differences and their number by field, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="run the checks whose names contain a WORD")
    parser.add_argument("--write", action="store_true", help="freeze the new outcomes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: must be positive")
    chosen = [check for check in checks() if not options.words or any(word in check.name for word in options.words)]
    if not chosen:
        parser.error(f"no check has a name with {' or '.join(options.words)}")
    found = run(chosen, options.jobs)
    frozen = load() if FROZEN.exists() else {}
    counts: Counter[str] = Counter()
    for field, sentence in differences(frozen, found):
        counts[field] += 1
        print(sentence)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(o.verdict for o in found.values()).items())
    changed = ", ".join(f"{count} of {field}" for field, count in counts.items()) or "none"
    print(f"{len(found)} checks ({verdicts}); differences: {changed}")
    if options.write:
        save({**({} if not options.words else frozen), **found})
    return int(bool(counts) and not options.write)


if __name__ == "__main__":
    sys.exit(main())
