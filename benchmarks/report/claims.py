"""The answer of each figure in a sentence, computed from the run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from benchmarks.report.collect import JAX, TORCH, Check, Row, Run
from benchmarks.report.intervals import mean, ratio, slope
from benchmarks.report.tables import convolutions, digits, sizes, spread


def libraries(rows: Iterable[Row]) -> str:
    """Return the libraries that were timed: "PyTorch and JAX"."""
    rows = list(rows)
    found = [name for name, layouts in (("PyTorch", TORCH), ("JAX", JAX)) if any(row.best(layouts) for row in rows)]
    return " and ".join(found)


def contenders(run: Run) -> str:
    """Return on how many convolutions we are faster or slower than the best library."""
    rows = convolutions(run)
    sides = [found.side for row in rows if (found := ratio(row, TORCH + JAX)) is not None]
    found = mean(rows, TORCH + JAX)
    assert found is not None
    best = "the better of PyTorch and JAX" if "and" in libraries(rows) else libraries(rows)
    even = f", undecided in {sides.count(0)}" if 0 in sides else ""
    return (
        f"We take {spread(found)} times as long as {best}, over {len(sides)} convolutions: "
        f"faster in {sides.count(-1)}, slower in {sides.count(1)}{even}."
    )


def loops(means: Mapping[str, float]) -> str:
    """Return by what factors the fast versions are faster than loops."""
    if len(means) == 1:
        ((layer, only),) = means.items()
        return f"The fast version of {layer} is {digits(only)} times as fast as the loops."
    slowest, fastest = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    return (
        f"The fast version is {digits(means[slowest])} times ({slowest}) to {digits(means[fastest])} times ({fastest}) "
        f"as fast as the loops."
    )


def roofline(shares: Mapping[str, list[float]]) -> str:
    """Return what bounds how many convolutions, and how much of the bound they reach. Shares are by what bounds."""
    every = [share for own in shares.values() for share in own]
    parts = [f"{of} bounds {len(own)}" for of, own in shares.items() if own]
    half = statistics.median(every)
    return f"Of {len(every)} cases {' and '.join(parts)}. The median reaches {half:.0%} of its bound."


def growth(run: Run) -> str:
    """Return the exponents of the series."""
    parts = []
    for zoo, points in sizes(run).items():
        found = slope([(size, row.fast) for size, row in points])
        if found is not None:
            parts.append(f"{zoo.removeprefix('by ')} to the power {spread(found)}")
    return f"Time grows with {', with '.join(parts)}." if parts else "Time against size"


def memory(most: Mapping[str, int]) -> str:
    """Return the largest extra memory of ours and of the others."""
    parts = [f"{name} up to {digits(size / 2**20)} MiB" for name, size in most.items() if name != "ours"]
    others = f"; {', '.join(parts)}" if parts else ""
    return f"Ours needs at most {digits(most['ours'] / 2**20)} MiB beside its arguments and results{others}."


def rounds(deviations: list[float], worst: tuple[str, float]) -> str:
    """Return how far rounds lie from their median. Deviations are round over median, less 1."""
    half = statistics.median(abs(each) for each in deviations)
    name, most = worst
    return f"Half of all rounds lie within {half:.1%} of their median. One took {digits(most)} times it: {name}."


def checks(found: list[Check]) -> str:
    """Return how long a gradient check takes against PyTorch's fast mode."""
    ratios = [each.seconds["ours"] / each.seconds["torch"] for each in found]
    spread = f"from {digits(min(ratios))} to {digits(max(ratios))}" if len(ratios) > 1 else digits(ratios[0])
    return f"An exact check takes {spread} times as long as PyTorch's fast mode."


def training(run: Run) -> str:
    """Return how long an epoch takes against PyTorch's."""
    parts = []
    for each in run.trainings:
        found = ratio(each, ("torch",))
        if each.span == "epoch" and found is not None:
            parts.append(f"{spread(found)} times as long as PyTorch's for {each.network}")
    return f"An epoch takes {' and '.join(parts)}." if parts else ""
