"""The main results of a run: three headline ratios, and the goals."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report.collect import JAX, TORCH, Row, Run, geometric_mean
from benchmarks.report.tables import Table, compared, convolutions, digits, growth, mean, mib, ratios

_EXTRA_BYTES = 64 << 20


class Headline(NamedTuple):
    """A number, what it measures, and how to read it."""

    figure: str
    what: str
    meaning: str


def headlines(run: Run) -> list[Headline]:
    """Return the three main ratios, without those that the run did not measure."""
    found = []
    if loops := [1 / ratio for row in run.rows if (ratio := row.ratio("naive"))]:
        meaning = (
            "The naive version of a layer is its formula in Python loops. This is its time over the fast version's."
        )
        found.append(Headline(f"{digits(geometric_mean(loops))}×", "the speed of the loops", meaning))
    rows = convolutions(run)
    if best := ratios(rows, TORCH + JAX):
        libraries = [name for name, layouts in (("PyTorch", TORCH), ("JAX", JAX)) if ratios(rows, layouts)]
        meaning = (
            f"Forward and backward of {len(best)} convolutions, over the best of {' and '.join(libraries)} in either "
            f"layout: from {digits(min(best))} to {digits(max(best))}. Below 1 we are faster."
        )
        found.append(Headline(f"{digits(geometric_mean(best))}×", f"the time of {' or '.join(libraries)}", meaning))
    elif bare := [ratio for row in run.rows if row.direction == "both" and (ratio := row.ratio("matmul"))]:
        meaning = "The time of forward and backward over that of the matrix products alone. 1 is the best possible."
        found.append(Headline(f"{digits(geometric_mean(bare))}×", "the time of the bare product", meaning))
    steps = {each.network: each.seconds for each in run.trainings if each.span == "epoch" and "torch" in each.seconds}
    if steps:
        each = {network: seconds["fast"] / seconds["torch"] for network, seconds in steps.items()}
        parts = " and ".join(f"{digits(ratio)} for {network}" for network, ratio in each.items())
        meaning = f"An epoch of the same images with the same optimiser: {parts}. Below 1 we are faster."
        found.append(Headline(f"{digits(geometric_mean(each.values()))}×", "the time of PyTorch's epoch", meaning))
    return found


def goals(run: Run) -> Table:
    """Return a row for each goal: what was aimed at, what was measured, and whether it is met."""
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
