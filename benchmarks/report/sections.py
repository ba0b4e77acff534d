"""The sections of the report, in order: their text, tables and figures."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report import answers, figures, tables
from benchmarks.report.collect import Run
from benchmarks.report.tables import Table


class Section(NamedTuple):
    """A title, a paragraph, figures, and tables. A table with a name is folded on the page."""

    title: str
    text: str
    figures: list[str]
    tables: dict[str, Table]


def sections(run: Run) -> list[Section]:
    """Return the sections for which the run has data."""
    found = [
        Section(
            "What was aimed at",
            "The goals were set before the measurement. A goal without a measurement in this run is marked. "
            "Below two of them is a bound for any unfolded convolution with this BLAS: the ratio if each convolution "
            "took only its bare matrix products. Where our time is shorter, as for depthwise ones, it counts.",
            [],
            {"": answers.goals(run)},
        ),
        Section(
            "Against PyTorch and JAX",
            "Forward and backward in one call. Every contender has its own layout and the same number of threads. "
            "Contenders are timed in turn: a round of one, a round of the next, and again. Before they are timed, "
            "their results are compared. On small integers they agree in every entry. Left of the line we are "
            "faster. The table gives geometric means.",
            _drawn(figures.ratios(run)),
            {"": tables.summary(run), "Every case, in time": tables.shapes(run)},
        ),
        Section(
            "Against the matrix product",
            "A convolution cannot be faster than its matrix products, nor faster than its arrays can be read and "
            "written. The line is the fastest rate of this machine. Each dot is a convolution, forward and backward. "
            "Extra memory is the peak without arguments and results.",
            _drawn(figures.roofline(run)),
            {"Every product": tables.products(run)},
        ),
        Section(
            "Against the loops",
            "The naive version of a layer is its formula in Python loops. It is timed at small sizes. "
            "The fast version of convolutions and pools is tuned. Their textbook version, im2col, stands beside it.",
            _drawn(figures.loops(run)),
            {"Every case": tables.loops(run)},
        ),
        Section(
            "How time grows",
            "A 3×3 convolution, forward and backward. One size grows and the others are constant. The exponent is "
            "the slope of a least-squares line in logarithms.",
            figures.growth(run),
            {"": tables.exponents(run)},
        ),
        Section(
            "Training",
            "Forward, backward and Adam on scikit-learn's digits, enlarged to 28×28. Images, batches, initial "
            "parameters and optimiser are the same for both. Before they are timed, both take the same steps.",
            [],
            {"": tables.trainings(run)},
        ),
        Section(
            "The verifier",
            "gradcheck against PyTorch's fast mode, for the same convolution. The fast mode compares along one "
            "direction. Ours compares exactly and states the probability of a missed error.",
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
