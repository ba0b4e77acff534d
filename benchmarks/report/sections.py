"""The order of the report, in words: what each section shows, with which tables and figures."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report import answers, figures, tables
from benchmarks.report.collect import Run
from benchmarks.report.tables import Table


class Section(NamedTuple):
    """A title, a paragraph, figures, and tables; a table under a name is folded away on the page."""

    title: str
    text: str
    figures: list[str]
    tables: dict[str, Table]


def sections(run: Run) -> list[Section]:
    """What the run has something to say on."""
    found = [
        Section(
            "What was aimed at",
            "The goals were set before the measurement. A goal that was not measured in this run says so. Below two of "
            "them stands what would be measured if a convolution cost its bare matrix products alone, or what it "
            "costs where that is less, as of depthwise ones: no way to unfold does better with this BLAS.",
            [],
            {"": answers.goals(run)},
        ),
        Section(
            "Against PyTorch and JAX",
            "Forward and backward in one call, every contender in the layout that suits it, the same number of "
            "threads each, and in turn: a round of one, a round of the next, and again. Before they are timed, all "
            "results are compared; on small integers they agree in every entry. Left of the line "
            "we are faster; the table gives geometric means.",
            _drawn(figures.ratios(run)),
            {"": tables.summary(run), "Every case, in time": tables.shapes(run)},
        ),
        Section(
            "Against the matrix product",
            "A convolution cannot be faster than the matrix products it is made of, nor than its arrays can be read "
            "and written. The line is what this machine does at best; each dot is a convolution, forward and "
            "backward. Extra memory is the peak beyond arguments and results.",
            _drawn(figures.roofline(run)),
            {"Every product": tables.products(run)},
        ),
        Section(
            "Against the loops",
            "The naive version of a layer is its formula in Python loops. It is timed at sizes that it can bear.",
            _drawn(figures.loops(run)),
            {"Every case": tables.loops(run)},
        ),
        Section(
            "How time grows",
            "A 3×3 convolution, forward and backward, while one size grows and the others stay. The exponent is the "
            "slope of a least-squares line in logarithms.",
            figures.growth(run),
            {"": tables.exponents(run)},
        ),
        Section(
            "Training",
            "Forward, backward and Adam, over scikit-learn's digits enlarged to 28×28: the same images, batches, "
            "initial parameters and optimiser for both, which take the same steps before they are timed.",
            [],
            {"": tables.trainings(run)},
        ),
        Section(
            "The verifier",
            "gradcheck against PyTorch's of the same convolution: its slow mode takes two forwards for every entry, "
            "its fast mode compares along one direction. Ours compares exactly and states what it may have missed.",
            _drawn(figures.checks(run)),
            {"": tables.checks(run)},
        ),
        Section("All medians", "Of the layers, each over rounds in turn.", [], {"Open the table": tables.medians(run)}),
    ]
    kept = []
    for section in found:
        filled = {name: table for name, table in section.tables.items() if table.rows}
        if filled:
            kept.append(section._replace(tables=filled))
    return kept


def _drawn(figure: str | None) -> list[str]:
    return [] if figure is None else [figure]
