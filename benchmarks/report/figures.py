"""The figures of the page, beside the first: SVG that takes all its colours from the page around it."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.report import claims
from benchmarks.report.collect import TORCH, Row, Run, geometric_mean
from benchmarks.report.contenders_figure import shown
from benchmarks.report.drawing import INK, OURS, PYTORCH, SOFT, Picture, log_axis, picture
from benchmarks.report.intervals import slope
from benchmarks.report.tables import digits, sizes, spread


def loops(run: Run) -> Picture | None:
    """Return bars that show how many times faster than loops each layer is."""
    layers: dict[str, list[float]] = {}
    for row in run.rows:
        if "naive" in row.seconds:
            layers.setdefault(row.layer, []).append(row.seconds["naive"] / row.fast)
    if not layers:
        return None
    means = {layer: geometric_mean(ratios) for layer, ratios in layers.items()}
    means = dict(sorted(means.items(), key=lambda item: -item[1]))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        bars = axes.barh(list(means), list(means.values()), color=OURS, height=0.6)
        axes.bar_label(bars, [f"{digits(mean)}×" for mean in means.values()], padding=4)
        axes.set_xlim(1, max(means.values()) * (30 if narrow else 3))
        log_axis(axes, "x", "times as fast" if narrow else "times as fast as the naive loops, geometric mean")
        axes.set_ylim(len(means) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")

    shows = "How many times as fast as naive loops each layer is"
    title = shows if run.small else claims.loops(means)
    return picture("loops", title, shows, draw, 70 + 23 * len(means), 60 + 21 * len(means))


def roofline(run: Run) -> Picture | None:
    """Return the rate of each convolution against its arithmetic intensity, with the roofs of the machine."""
    rows = [
        row for row in run.rows if row.direction == "both" and row.layer == "conv2d" and row.info["fast"].get("flops")
    ]
    if not (rows and run.flops and run.bandwidth):
        return None
    peak, bandwidth = run.flops / 1e9, run.bandwidth / 1e9
    points = [(_intensity(row), row.info["fast"]["flops"] / row.fast / 1e9, row) for row in rows]
    shares: dict[str, list[float]] = {"arithmetic": [], "the traffic of their arrays": []}
    for x, rate, _ in points:
        bound = list(shares)[x < peak / bandwidth]
        shares[bound].append(rate / min(peak, bandwidth * x))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        _roofs(axes, peak, bandwidth, [x for x, _, _ in points], narrow)
        for memory, marker, label in (
            (False, "o", "ours, bounded by arithmetic"),
            (True, "D", "ours, bounded by memory"),
        ):
            own = [(x, rate) for x, rate, _ in points if (x < peak / bandwidth) == memory]
            if own:
                axes.plot(*zip(*own, strict=True), marker, color=OURS, label=label)
        theirs = [(x, row.info["fast"]["flops"] / best / 1e9) for x, _, row in points if (best := row.best(TORCH))]
        if theirs:
            axes.plot(
                *zip(*theirs, strict=True), "o", color=PYTORCH, fillstyle="none", label="PyTorch, the faster layout"
            )
        for number, (x, rate, row) in enumerate(_farthest(points, peak, bandwidth)):
            name = shown(row.case).split(" on ")[0]
            if not narrow:
                name += f": {'memory' if x < peak / bandwidth else 'arithmetic'}"
            right = x < math.sqrt(math.prod(axes.get_xlim())) or not narrow
            place = (7 if right else -7, -13 if number % 2 else 4)
            side = "left" if right else "right"
            axes.annotate(name, (x, rate), place, textcoords="offset points", fontsize=10.5, color=OURS, ha=side)
        log_axis(axes, "x", "operations for each byte of the arrays")
        log_axis(axes, "y", "GFLOP/s")
        figure.legend(loc="outside upper left", ncols=1 if narrow else 3, handletextpad=0.2)

    shows = "Roofline: rate of each convolution against its arithmetic intensity"
    return picture("roofline", shows if run.small else claims.roofline(shares), shows, draw, 460, 420)


def _intensity(row: Row) -> float:
    return float(row.info["fast"]["flops"] / row.info["fast"]["bytes"])


def _roofs(axes: Any, peak: float, bandwidth: float, intensities: list[float], narrow: bool) -> None:
    """Draw both roofs with what they are, and shade where memory is the lower one."""
    corner = peak / bandwidth
    left, right = min(*intensities, corner) / 2, max(*intensities, corner) * 2
    axes.plot((left, corner, right), (bandwidth * left, peak, peak), color=INK, linewidth=2)
    axes.axvspan(left, corner, color=SOFT, alpha=0.09, linewidth=0)
    axes.set_xlim(left, right)
    roofs = (f"{digits(peak)} GFLOP/s", f"{digits(bandwidth)} GB/s")
    if not narrow:
        roofs = (f"arithmetic: {roofs[0]}, a matrix product", f"memory: {roofs[1]},\na copy")
    middle = math.sqrt(left * corner)
    for text, x, y, place in ((roofs[0], right, peak, (-4, 6)), (roofs[1], middle, bandwidth * middle, (-8, 8))):
        axes.annotate(text, (x, y), place, textcoords="offset points", ha="right")


def _farthest(points: list[tuple[float, float, Row]], peak: float, bandwidth: float) -> list[tuple[float, float, Row]]:
    """Return the four points that are farthest below their roof."""
    return sorted(points, key=lambda point: point[1] / min(peak, bandwidth * point[0]))[:4]


def growth(run: Run) -> Picture | None:
    """Return the figure of time against batch, channels and image size."""
    series = {zoo: points for zoo, points in sizes(run).items() if len({size for size, _ in points}) > 1}
    if not series:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(len(series) if narrow else 1, 1 if narrow else len(series), squeeze=False)
        for axes, (zoo, points) in zip(grid.flat, series.items(), strict=True):
            _grows(axes, zoo, points)

    shows = "Time of a 3×3 convolution, forward and backward, while one size grows"
    return picture("growth", shows if run.small else claims.growth(run), shows, draw, 330, 270 * len(series))


def _grows(axes: Any, zoo: str, points: list[tuple[int, Row]]) -> None:
    lines = {"ours": (OURS, "o-", [(size, row.fast) for size, row in points])}
    if theirs := [(size, best) for size, row in points if (best := row.best(TORCH)) is not None]:
        lines["PyTorch"] = (PYTORCH, "o--", theirs)
    for name, (colour, style, line) in lines.items():
        found = slope(line)
        label = name if found is None else f"{name}: {spread(found)}"
        xs, ys = zip(*line, strict=True)
        axes.plot(xs, [y * 1e3 for y in ys], style, color=colour, label=label)
    log_axis(axes, "x", {"by batch": "images", "by channels": "channels", "by image size": "height and width"}[zoo])
    axes.set_xticks(sorted({size for size, _ in points}), minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    log_axis(axes, "y", "ms")
    axes.legend(loc="upper left", title="exponent", alignment="left", borderaxespad=0.2)


def checks(run: Run) -> Picture | None:
    """Return the time of a gradient check against the number of entries it checks."""
    if not run.checks:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        entries = [math.prod(each.x) + math.prod(each.w) for each in run.checks]
        for name, colour, label in (
            ("ours", OURS, "ours, exact"),
            ("torch", PYTORCH, "PyTorch, fast mode: one direction"),
        ):
            axes.plot(entries, [each.seconds[name] * 1e3 for each in run.checks], "o-", color=colour, label=label)
        log_axis(axes, "x", "entries of x and w")
        log_axis(axes, "y", "ms")
        figure.legend(loc="outside upper left", ncols=1 if narrow else 2)

    shows = "Time of a gradient check against its entries, ours and PyTorch's"
    return picture("checks", shows if run.small else claims.checks(run.checks), shows, draw, 380, 320)
