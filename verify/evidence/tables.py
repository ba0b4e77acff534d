"""What the museum shows: its rows, the tables on the screen, and the page of docs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from verify.museum import EQUIVALENT, EXHIBITS, FORWARD, GRADIENT, STATE
from verify.profiles import EXAMPLES

GRADIENTS = "gradients"
# The line of all checks above, at their own cases.
ALL = "gradcert, every check"
RIGHT = "right"


class Row(NamedTuple):
    """What is seen of a bug in one version of its layer, or of a version without one (kind "right")."""

    slug: str
    layer: str
    version: str
    kind: str
    check: str
    cases: int
    cause: str
    expected: str
    message: str

    @property
    def as_it_should_be(self) -> bool:
        """Whether a bug is seen, and what is right is not. A gradient check must not see a forward bug."""
        if self.kind == FORWARD and self.check == GRADIENTS:
            return False
        return bool(self.check) is (self.kind not in (RIGHT, EQUIVALENT))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields in plain types, with the exhibit's record."""
        record = EXHIBITS.get(self.slug)
        about = {} if record is None else {name: getattr(record, name) for name in _ABOUT}
        return {**self._asdict(), **about, "as_it_should_be": self.as_it_should_be}


_ABOUT = ("wrong", "shows", "source", "silent")


class Compared(NamedTuple):
    """What another checker did: at each exhibit, or at the right layers."""

    checker: str
    slug: str
    layer: str
    ordinary: bool | None
    drawn: int
    asked: int
    unanswered: int
    forwards: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all fields in plain types."""
        return self._asdict()


def table(rows: Sequence[Row]) -> Table:
    """The table of the screen: an exhibit a line, or a line for each answer if its versions give several."""
    made = Table(header_style="bold", box=None, pad_edge=False)
    for title in ("exhibit", "layer", "versions", "seen by"):
        made.add_column(title, overflow="fold")
    made.add_column("cases", justify="right")
    made.add_column("named as", overflow="fold")
    for first, versions, cases in _merged(rows):
        colour = "" if first.as_it_should_be else "[bold red]"
        made.add_row(f"{colour}{_named(first)}", first.layer, versions, f"{colour}{_seen(first)}", cases, _cause(first))
    return made


def _merged(rows: Sequence[Row]) -> Iterable[tuple[Row, str, str]]:
    """Put together the versions of an exhibit that give one answer: a row, the versions, the cases."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.slug, row.layer, row.check, row.cause].append(row)
    for several in groups.values():
        counts = sorted({row.cases for row in several})
        cases = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        yield several[0], ", ".join(row.version for row in several), cases


def _named(row: Row) -> str:
    return row.slug or "(no bug)"


def _seen(row: Row) -> str:
    return row.check or ("nothing to see" if row.kind in (RIGHT, EQUIVALENT) else "MISSED")


def _cause(row: Row) -> str:
    if not row.expected or row.cause == row.expected:
        return row.cause
    return f"{row.cause or 'no cause'} (is {row.expected})"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many bugs are seen, causes named, right layers accused."""
    planted = [row for row in rows if row.kind not in (RIGHT, EQUIVALENT)]
    right = [row for row in rows if row.kind in (RIGHT, EQUIVALENT)]
    coded = [row for row in planted if row.expected]
    seen, accused = (sum(bool(row.check) for row in several) for several in (planted, right))
    named = sum(row.cause == row.expected for row in coded)
    exhibits = len({row.slug for row in planted})
    return (
        f"{seen} of {len(planted)} planted bugs seen ({exhibits} exhibits, each in all versions); "
        f"the expected cause named first for {named} of {len(coded)}; {accused} of {len(right)} right versions accused"
    )


def further(rows: Sequence[Row], seeds: int) -> str:
    """What follows the summary: how often the fast version's bugs are seen at further seeds."""
    planted = [row for row in rows if row.kind not in (RIGHT, EQUIVALENT)]
    right = [row for row in rows if row.kind in (RIGHT, EQUIVALENT)]
    seen, accused = (sum(bool(row.check) for row in several) for several in (planted, right))
    missed = ", ".join(sorted({row.slug for row in planted if not row.check}))
    return (
        f"; at {seeds} further seeds, in the fast version, {seen} of {len(planted)} bugs seen"
        f"{missed and f' (missed: {missed})'}, {accused} of {len(right)} right versions accused"
    )


def beside(found: Sequence[Compared], rows: Sequence[Row]) -> Table:
    """The table of the screen that sets the checkers side by side."""
    titles, lines = _sums(found, rows)
    made = Table(header_style="bold", box=None, pad_edge=False)
    for title in titles:
        made.add_column(title, justify="left" if title == "checker" else "right", overflow="fold")
    for line in lines:
        made.add_row(*line)
    return made


def _sums(found: Sequence[Compared], rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The titles and lines of the comparison: a line for each checker."""
    titles = (
        "checker",
        "bugs seen at one ordinary call",
        "bugs seen at drawn cases",
        "right layers accused at one call",
        "right cases accused",
        "the same with ties",
        "not answered",
        "forwards a check",
        "ms a check",
    )
    seen = {row.slug: bool(row.check) for row in rows if row.kind in (GRADIENT, STATE)}
    clean = [row for row in rows if row.kind == RIGHT]
    accused = f"{sum(bool(row.check) for row in clean)} of {len(clean)}"
    lines: list[tuple[str, ...]] = [(ALL, "-", f"{sum(seen.values())} of {len(seen)}", "-", accused, *["-"] * 4)]
    for checker in dict.fromkeys(each.checker for each in found):
        mine = [each for each in found if each.checker == checker]
        bugs = [each for each in mine if _kind(each.slug) in (GRADIENT, STATE)]
        right, tied = ([each for each in mine if each.slug == slug] for slug in ("", "as drawn"))
        asked = sum(each.asked for each in mine)
        lines.append(
            (
                checker,
                f"{sum(each.ordinary is True for each in bugs)} of {len(bugs)}",
                f"{sum(each.drawn or each.ordinary is True for each in bugs)} of {len(bugs)}",
                f"{sum(each.ordinary is True for each in right)} of {len(right)}",
                f"{sum(each.drawn for each in right)} of {sum(each.asked - 1 for each in right)}",
                f"{sum(each.drawn for each in tied)} of {sum(each.asked for each in tied)}",
                f"{sum(each.unanswered for each in mine)} of {asked}",
                f"{statistics.median(each.forwards for each in mine):.0f}",
                f"{1000 * statistics.median(each.seconds for each in mine):.1f}",
            )
        )
    return titles, lines


_OPENING = """# Museum

Bugs of real code, planted in this project's layers. Each is a mutation that we wrote, with its public source.

`python -m verify museum --against torch,jax,autograd,numeric --seeds 20 --markdown docs/museum.md` measures all of it,
and writes this page: {examples} cases for each version, seed {seed}. Nothing here is typed by hand.

{summary}.

A forward bug is wrong in forward and backward alike. No gradient check can see it, and another check must. `versions`
compares the naive version with the other one. `value` is a call worked by hand. `PyTorch` compares y. `sizes` is
`gradcheck` at a benchmark's size. Other names are checks of the battery.
"""

_BESIDE = """
## Beside other checkers

Each checker gets a layer as its users would write it, with its own step and tolerance. An ordinary call has batch 1,
square arrays and default options. The {examples} drawn cases have the shapes and options of our strategies, and normal
numbers. A bug counts as seen where a checker objects or raises, and accepts the right layer. The column with ties has
the integers that our strategies draw. Forward bugs are left out: no gradient check sees them. The first line has all
checks of the table above, in all versions of a layer, at {all} cases. A right case there is a right version.
"""

_ALONE = """
`gradcert` is `gradcheck` alone here, at as many cases as the others. What it leaves, bugs of state and layout, of large
sizes and values, and what shows in few cases, the other checks of the first line see.
"""


def page(rows: Sequence[Row], found: Sequence[Compared], examples: int, seed: int, said: str) -> str:
    """The page of docs, in Markdown, with what was said of all rows."""
    hall = []
    for first, versions, cases in _merged([row for row in rows if row.slug]):
        about = EXHIBITS[first.slug]
        silent = "" if about.silent else " (raised)"
        cells = (f"`{first.slug}`", f"`{first.layer}`", about.wrong + silent, about.shows, about.source)
        hall.append((*cells, versions, _seen(first), cases, _cause(first)))
    titles = ("exhibit", "layer", "what is wrong", "shows when", "source", "versions", "seen by", "cases", "named as")
    parts = [_OPENING.format(examples=examples, seed=seed, summary=said), _markdown(titles, hall)]
    if found:
        parts += [_BESIDE.format(examples=EXAMPLES["quick"], all=examples), _markdown(*_sums(found, rows))]
        parts += [_ALONE, _markdown(*_by_exhibit(found))]
    return "\n".join(parts) + "\n"


def _kind(slug: str) -> str:
    return EXHIBITS[slug].kind if slug in EXHIBITS else RIGHT


def _by_exhibit(found: Sequence[Compared]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """For each exhibit what each checker saw: at the ordinary call, at drawn cases, or not."""
    checkers = tuple(dict.fromkeys(each.checker for each in found))
    lines = []
    for slug in dict.fromkeys(each.slug for each in found if each.slug in EXHIBITS):
        mine = {each.checker: each for each in found if each.slug == slug}
        cells = ("one call" if e.ordinary else "drawn" if e.drawn else "-" for e in (mine[name] for name in checkers))
        lines.append((f"`{slug}`", EXHIBITS[slug].kind, *cells))
    return ("exhibit", "kind", *checkers), lines


def _markdown(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = (titles, ("---",) * len(titles), *lines)
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
