"""The sections of the report, in order: their text, figures and tables."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report import claims, figures, flags, spread_figures, tables
from benchmarks.report.collect import JAX, READABLE, TORCH, Run
from benchmarks.report.contenders_figure import first
from benchmarks.report.drawing import Picture
from benchmarks.report.tables import Table


class Section(NamedTuple):
    """A title, a paragraph, figures, and tables. A table with a name is folded on the page."""

    title: str
    text: str
    figures: list[Picture]
    tables: dict[str, Table]


def sections(run: Run) -> list[Section]:
    """Return the sections for which the run has data. Tables of means are left out of a run with --small."""
    found = [*_against_others(run), *_of_the_run(run)]
    filled = [each._replace(tables={name: of for name, of in each.tables.items() if of.rows}) for each in found]
    return [each for each in filled if each.figures or each.tables]


def _against_others(run: Run) -> list[Section]:
    means = {} if run.small else {"": tables.summary(run)}
    return [
        Section(
            "Against every contender",
            "Forward and backward in one call. Each contender has its own layout and the same number of threads. "
            "They are timed in turn: a round of one, a round of the next, and again. Before, their results are "
            "compared: on small integers they agree in every entry. A line through a dot is its interval of 95 %, "
            "by a bootstrap over rounds. A dot with a name is an outlier: outside Tukey's fences of its contender, "
            "or beyond the axis. † marks a time below its bare product. The loops have no call for both passes, so "
            "their two medians are added.",
            _drawn(first(run)),
            {**means, "Every case, in time": tables.shapes(run)},
        ),
        Section(
            "Against the matrix product",
            "A convolution by a matrix product takes at least the time of the product, and that of reading and "
            "writing its arrays. Each dot is a convolution, forward and backward. Its traffic is that of arguments "
            "and results. A time below its bound is flagged, with what explains it.",
            _drawn(figures.roofline(run)),
            {
                "": flags.table(run, ("fast", *READABLE)),
                "Times of the libraries below their bound": flags.table(run, TORCH + JAX),
                "Every product": tables.products(run),
            },
        ),
        Section(
            "Against the loops",
            "The naive version of a layer is its formula in Python loops. It is timed at small sizes. "
            "The fast version of convolutions and max pooling is tuned. Their textbook version, im2col, stands "
            "beside it.",
            _drawn(figures.loops(run)),
            {"Every case": tables.loops(run)},
        ),
        Section(
            "How time grows",
            "A 3×3 convolution, forward and backward. One size grows and the others are constant. The exponent is "
            "the slope of a least-squares line in logarithms, with its interval of 95 % from the residuals.",
            _drawn(figures.growth(run)),
            {} if run.small else {"": tables.exponents(run)},
        ),
    ]


def _of_the_run(run: Run) -> list[Section]:
    return [
        Section(
            "Memory",
            "The peak of a forward and backward beside arguments and results. tracemalloc sees NumPy's arrays and "
            "nothing of PyTorch's or JAX's. So each call runs in a process of its own, and Linux counts by how much "
            "the process grows. What a library keeps from call to call is not counted. The table has both figures "
            "of ours.",
            _drawn(spread_figures.memory(run)),
            {"Every convolution": tables.memory(run)},
        ),
        Section(
            "The rounds",
            "A time is the median of 5 to 25 rounds. Each mark is a round, over the median of its contender.",
            _drawn(spread_figures.rounds(run)),
            {},
        ),
        Section(
            "Training",
            ("" if run.small else f"{claims.training(run)} ")
            + "Forward, backward and Adam on scikit-learn's digits, enlarged to 28×28. Images, batches, initial "
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


GOALS = (
    "The goals were set before the measurement. A goal without a measurement in this run is marked. Below two of them "
    "is a bound for any unfolded convolution with this BLAS: the ratio if each convolution took only its bare "
    "matrix products. Where our time is shorter, as for depthwise ones, it counts."
)


def _drawn(figure: Picture | None) -> list[Picture]:
    return [] if figure is None else [figure]
