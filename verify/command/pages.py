"""The pages of `python -m verify run --html PATH` and `check --html PATH`: every row, and the certificates."""

from __future__ import annotations

from collections.abc import Sequence

from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS
from verify.command.run import ERROR, Row
from verify.pictures.page import Section, Table, certificate_page, message_section, rendered, section_of, shared

_HEADINGS = ("verdict", "layer", "version", "structure", "oracle", "cases", "miss", "time")


def rows_page(title: str, rows: Sequence[Row], summary: str, facts: Sequence[str] = ()) -> str:
    """A page of all rows. The certificate of a single row has the page to itself."""
    if len(rows) == 1 and rows[0].certificate is not None:
        return certificate_page(rows[0].certificate, title)
    verdict = next((each for each in (FAIL, ERROR, INCONCLUSIVE) if any(row.verdict == each for row in rows)), PASS)
    verdict = verdict if rows else "NOTHING CHECKED"
    told = [row for row in rows if row.certificate is not None or row.message]
    sections = [_section(row, verdict, shared(len(told))) for row in told]
    links = [f"#section-{told.index(row) + 1}" if row in told else "" for row in rows]
    cells = [_cells(row) for row in rows]
    return rendered(title, verdict, summary, sections, Table(_HEADINGS, cells, links), facts)


def _cells(row: Row) -> tuple[str, ...]:
    about = row.verdict, row.layer, row.version, row.structure, row.oracle, str(row.cases)
    return (*about, miss(row), f"{row.seconds:.1f} s")


def miss(row: Row) -> str:
    """What a PASS is worth: the probability that a wrong gradient passes, or after "<" the largest error that may."""
    if row.miss_probability is not None:
        return f"{row.miss_probability:.0e}"
    return "-" if row.detection_floor is None else f"<{row.detection_floor:.0e}"


def _section(row: Row, worst: str, cells: int) -> Section:
    """The certificate of a row; a report of all checks has the worst verdict of all rows."""
    title = f"{row.layer}, {row.version}".removesuffix(", ")
    if row.certificate is not None:
        return section_of(row.certificate, title, cells, row.message)
    return message_section(title, row.verdict if row.verdict == ERROR else worst, row.message)
