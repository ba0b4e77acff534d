"""Times that cannot be as they stand: shorter than the bare product of their size, or faster than the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.report.collect import JAX, NAMES, READABLE, TORCH, Row, Run
from benchmarks.report.intervals import ratio
from benchmarks.report.tables import Table, digits


class Flag(NamedTuple):
    """A contender of a row whose time is shorter than its bound, by what factor, and why that can be."""

    row: Row
    version: str
    bound: str
    factor: float
    reason: str


def flags(run: Run) -> list[Flag]:
    """Return every time below the bare product of its row, and every rate above the machine's fastest product."""
    found = []
    for row in run.rows:
        for version in ("fast", *READABLE, *TORCH, *JAX):
            if version not in row.seconds:
                continue
            seconds, product = row.seconds[version], row.seconds.get("matmul")
            if product is not None and seconds < product:
                found.append(Flag(row, version, "bare product", seconds / product, _reason(row, version)))
            flops = row.info["fast"].get("flops")
            if run.flops and flops and flops / seconds > run.flops:
                factor = run.flops / (flops / seconds)
                reason = f"{digits(flops / seconds / 1e9)} GFLOP/s: it does fewer operations than are counted, or the"
                found.append(
                    Flag(row, version, "fastest product", factor, f"{reason} roof was measured in a slow hour")
                )
    return found


def _reason(row: Row, version: str) -> str:
    """Return why a time can be shorter than the product, from what was measured."""
    own, product = row.seconds[version], row.rounds.get("matmul", ())
    found, groups = ratio(row, ("matmul",), version), row.info["fast"].get("groups", 1)
    if found is not None and found.low < found.high and found.side == 0:
        return "no difference: the interval of their ratio has 1 in it"
    if product and min(product) <= own:
        slower = sum(each > own for each in product)
        return f"rounds of the product were disturbed: {slower} of {len(product)} are longer, its fastest is not"
    if groups > 1:
        return f"another algorithm: here the product is {groups} small ones, one for each group"
    if version in READABLE:
        return "it does the same products in other shapes, or the machine was disturbed"
    if version == "fast":
        return "another algorithm: it multiplies in blocks, the product is of one large unfolded matrix"
    return "another algorithm, or a matrix product of its own that is faster than NumPy's"


def table(run: Run, versions: Sequence[str]) -> Table:
    """Return a row for each flag of these contenders."""
    body = [
        (row.layer, row.case, row.direction, NAMES[version], bound, reason, digits(factor))
        for row, version, bound, factor, reason in flags(run)
        if version in versions
    ]
    return Table(("layer", "case", "pass", "contender", "below its", "why that can be", "times"), body, 6)
