"""The main results of a run: three headline ratios, and the goals."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report import claims, intervals
from benchmarks.report.collect import JAX, TORCH, Row, Run
from benchmarks.report.intervals import Interval
from benchmarks.report.tables import Table, compared, convolutions, digits, growth, mean, mib, ratios

_EXTRA_BYTES = 64 << 20


class Headline(NamedTuple):
    """A number, what it measures, how to read it, and whether we are "faster", "slower" or "even"."""

    figure: str
    what: str
    meaning: str
    side: str


def headlines(run: Run) -> list[Headline]:
    """Return the main ratios that the run measured. A run with --small has none."""
    if run.small:
        return []
    found = []
    if (loops := intervals.mean(run.rows, ("naive",))) is not None:
        meaning = (
            "The naive version of a layer is its formula in Python loops. This is its time over the fast version's."
        )
        found.append(_headline(loops, "the loops", meaning))
    rows = convolutions(run)
    if (best := intervals.mean(rows, TORCH + JAX)) is not None:
        of = ratios(rows, TORCH + JAX)
        libraries = claims.libraries(rows)
        what = "the better of PyTorch and JAX" if "and" in libraries else libraries
        meaning = (
            f"Forward and backward of {len(of)} convolutions, against {libraries} in either layout. Our time is from "
            f"{digits(min(of))} to {digits(max(of))} times theirs.{_reach(best)}"
        )
        found.append(_headline(best, what, meaning))
    elif (bare := intervals.mean([row for row in run.rows if row.direction == "both"], ("matmul",))) is not None:
        meaning = f"The time of forward and backward over that of the matrix products alone.{_reach(bare)}"
        found.append(_headline(bare, "the bare product", meaning))
    epochs = [each for each in run.trainings if each.span == "epoch" and "torch" in each.seconds]
    if (training := intervals.mean(epochs, ("torch",))) is not None:
        each = " and ".join(f"{digits(of.seconds['fast'] / of.seconds['torch'])} for {of.network}" for of in epochs)
        meaning = (
            f"An epoch of the same images with the same optimiser, our time over theirs: {each}.{_reach(training)}"
        )
        found.append(_headline(training, "PyTorch's training", meaning))
    return found


def _headline(found: Interval, whom: str, meaning: str) -> Headline:
    even = found.side == 0
    side = "even" if even else "faster" if found.value < 1 else "slower"
    figure = digits(found.value if even else max(found.value, 1 / found.value))
    return Headline(f"{figure}×", f"the time of {whom}" if even else f"{side} than {whom}", meaning, side)


def _reach(found: Interval) -> str:
    return (
        "" if found.low == found.high else f" The mean's interval of 95 %: {digits(found.low)} to {digits(found.high)}."
    )


def goals(run: Run) -> Table:
    """Return a row for each goal: what was aimed at, what was measured, and whether it is met.

    A run with --small measures none of them.
    """
    if run.small:
        run = run._replace(rows=[], trainings=[], checks=[])
    conv, other = convolutions(run), [row for row in compared(run) if row.layer != "conv2d"]
    of_both = [row for row in conv if row.best(TORCH) and row.best(JAX)]
    best = ratios(of_both, TORCH + JAX)
    default = ratios(conv, TORCH[:1])
    forward = [row for row in compared(run, "forward") if row.layer == "conv2d" and row.zoo == "ResNet-50"]
    extra = [row.info["fast"]["extra_bytes"] for row in run.rows if row.layer == "conv2d"]
    steps = [
        each.seconds["fast"] / each.seconds["torch"]
        for each in run.trainings
        if each.span == "step" and "torch" in each.seconds
    ]
    exponent = growth(run).get("by batch", (None, None))[0]
    rows = [
        _goal("convolutions over the best of PyTorch and JAX, geometric mean", mean(best), 1.0),
        _bound(of_both, TORCH + JAX),
        _goal("the worst convolution", max(best, default=None), 1.5),
        _goal("convolutions over PyTorch's default layout, geometric mean", mean(default), 0.85),
        _bound(conv, TORCH[:1]),
        _goal(
            "forward of ResNet-50's shapes over the bare product, the worst",
            max(ratios(forward, ("matmul",)), default=None),
            1.3,
        ),
        _goal("a training step over PyTorch's, the worse of two networks", max(steps, default=None), 1.0),
        _goal("the other layers over PyTorch, geometric mean", mean(ratios(other, TORCH)), 1.5),
    ]
    memory = max(extra, default=None)
    met = None if memory is None else memory <= _EXTRA_BYTES
    rows.append(("extra memory of a convolution, the most", mib(memory), "≤ 64 MiB", _met(met)))
    met = None if exponent is None else 0.9 <= exponent <= 1.1
    rows.append(("time against batch, exponent", _figure(exponent), "0.9–1.1", _met(met)))
    return Table(("goal", "measured", "aimed at", ""), rows)


def _goal(what: str, measured: float | None, most: float) -> tuple[str, ...]:
    return what, _figure(measured), f"≤ {most}", _met(None if measured is None else measured <= most)


def _figure(measured: float | None) -> str:
    return "not measured" if measured is None else digits(measured)


def _bound(rows: list[Row], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ratio if each convolution took only its matrix products, or our time if that is shorter."""
    alone = [
        min(row.fast, row.seconds["matmul"]) / best
        for row in rows
        if "matmul" in row.seconds and (best := row.best(names))
    ]
    return "… if they took no longer than their bare matrix products", _figure(mean(alone)), "", ""


def _met(met: bool | None) -> str:
    return "" if met is None else "met" if met else "not met"
