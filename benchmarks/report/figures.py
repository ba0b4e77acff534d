"""The figures of the page: SVG that takes all its colours from the page around it."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.report.collect import JAX, TORCH, Row, Run, geometric_mean
from benchmarks.report.tables import convolutions, digits, exponent, sizes

# Placeholder colours in matplotlib's output. The style sheet of the page replaces them.
INK, OURS, PYTORCH, JAXS, FAINT = "#010203", "#010204", "#010205", "#010206", "#010207"
_STYLE = {INK: "currentColor", OURS: "var(--ours)", PYTORCH: "var(--torch)", JAXS: "var(--jax)", FAINT: "var(--line)"}
_WIDTH = 5.2  # inches: 374 units, about the width of a telephone, where text then keeps its size

_RC = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


def loops(run: Run) -> str | None:
    """Return bars that show how many times faster than loops each layer is."""
    layers: dict[str, list[float]] = {}
    for row in run.rows:
        if "naive" in row.seconds:
            layers.setdefault(row.layer, []).append(row.seconds["naive"] / row.fast)
    if not layers:
        return None
    means = {layer: geometric_mean(ratios) for layer, ratios in layers.items()}

    def draw(axes: Any) -> None:
        bars = axes.barh(list(means), list(means.values()), color=OURS, height=0.6)
        axes.bar_label(bars, [f"{digits(mean)}×" for mean in means.values()], padding=4)
        axes.set_xlim(1, 6 * max(means.values()))
        _log_axis(axes, "x", "times as fast as the naive loops, geometric mean")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")

    return _svg("loops", draw, 0.6 + 0.32 * len(means), "How many times as fast as naive loops each layer is")


def ratios(run: Run) -> str | None:
    """Return our time over the best of PyTorch and of JAX, a line for each convolution."""
    rows = convolutions(run)
    if not rows:
        return None

    def draw(axes: Any) -> None:
        for names, colour, marker, label in ((TORCH, PYTORCH, "o", "over PyTorch"), (JAX, JAXS, "D", "over JAX")):
            points = [(ratio, y) for y, row in enumerate(rows) if (ratio := row.ratio(*names)) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colour, label=label)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), [row.case for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        _log_axis(axes, "x", "our time over theirs")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, handletextpad=0.2, borderpad=0)

    return _svg("ratios", draw, 1 + 0.19 * len(rows), "Our time over PyTorch's and JAX's for each convolution")


def roofline(run: Run) -> str | None:
    """Return the rate of each convolution against its arithmetic intensity, with the roofs of the machine."""
    rows = [
        row for row in run.rows if row.direction == "both" and row.layer == "conv2d" and "flops" in row.info["fast"]
    ]
    if not (rows and run.flops and run.bandwidth):
        return None
    peak, bandwidth = run.flops / 1e9, run.bandwidth / 1e9
    intensity = [row.info["fast"]["flops"] / row.info["fast"]["bytes"] for row in rows]

    def draw(axes: Any) -> None:
        ends = [min(*intensity, peak / bandwidth) / 2, max(*intensity, peak / bandwidth) * 2]
        corner = [ends[0], peak / bandwidth, ends[1]]
        axes.plot(corner, [min(peak, bandwidth * x) for x in corner], color=INK, linewidth=1.2)
        axes.plot(
            intensity, [row.info["fast"]["flops"] / row.fast / 1e9 for row in rows], "o", color=OURS, label="ours"
        )
        theirs = [
            (x, row.info["fast"]["flops"] / best / 1e9)
            for x, row in zip(intensity, rows, strict=True)
            if (best := row.best(TORCH))
        ]
        if theirs:
            axes.plot(*zip(*theirs, strict=True), "o", color=PYTORCH, fillstyle="none", label="PyTorch")
        _log_axis(axes, "x", "operations for each byte of the arrays")
        _log_axis(axes, "y", "GFLOP/s")
        axes.legend(loc="lower right")

    return _svg("roofline", draw, 3.4, "Roofline: rate of each convolution against its arithmetic intensity")


def growth(run: Run) -> list[str]:
    """Return figures of time against batch, channels and image size."""
    found = []
    for zoo, points in sizes(run).items():
        if len({size for size, _ in points}) > 1:
            found.append(_grows(zoo, points))
    return found


def _grows(zoo: str, points: list[tuple[int, Row]]) -> str:
    lines = {"ours": (OURS, "o-", [(size, row.fast) for size, row in points])}
    if theirs := [(size, best) for size, row in points if (best := row.best(TORCH)) is not None]:
        lines["PyTorch"] = (PYTORCH, "o--", theirs)

    def draw(axes: Any) -> None:
        for name, (colour, style, line) in lines.items():
            xs, ys = zip(*line, strict=True)
            axes.plot(xs, [y * 1e3 for y in ys], style, color=colour, label=f"{name}, exponent {exponent(line):.2f}")
        _log_axis(
            axes, "x", {"by batch": "images", "by channels": "channels", "by image size": "height and width"}[zoo]
        )
        axes.set_xticks(sorted({size for size, _ in points}))
        _log_axis(axes, "y", "ms")
        axes.legend(loc="upper left")

    return _svg(zoo, draw, 2.8, f"Time of a 3x3 convolution, forward and backward, {zoo}")


def checks(run: Run) -> str | None:
    """Return the time of a gradient check against the number of entries it checks."""
    if not run.checks:
        return None

    def draw(axes: Any) -> None:
        entries = [_product(each.x) + _product(each.w) for each in run.checks]
        for name, colour, label in (("ours", OURS, "ours"), ("torch", PYTORCH, "PyTorch")):
            axes.plot(entries, [each.seconds[name] * 1e3 for each in run.checks], "o-", color=colour, label=label)
        _log_axis(axes, "x", "entries of x and w")
        _log_axis(axes, "y", "ms")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.25), ncols=2)

    return _svg("checks", draw, 3.2, "Time of a gradient check against its entries, ours and PyTorch's")


def _product(shape: Iterable[int]) -> int:
    return list(itertools.accumulate(shape, int.__mul__))[-1]


_PLAIN = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def _log_axis(axes: Any, which: str, label: str) -> None:
    """Make an axis logarithmic, with plain numbers. Call it after everything is drawn."""
    axis = getattr(axes, f"{which}axis")
    limits = None if getattr(axes, f"get_autoscale{which}_on")() else axis.get_view_interval()
    axes.set(**{f"{which}scale": "log", f"{which}label": label})
    if limits is not None:
        axes.set(**{f"{which}lim": limits})
    low, high = axis.get_view_interval()
    if high / low < 30:  # powers of ten alone would give one tick or none
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(_PLAIN)
    axis.set_minor_formatter(NullFormatter())


def _svg(name: str, draw: Callable[[Any], None], height: float, title: str) -> str:
    """Return the figure as an SVG element without a size, with unique identifiers and a title for screen readers."""
    with mpl.rc_context({**_RC, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots())
        output = io.StringIO()
        figure.savefig(
            output, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = output.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img"><title>{title}</title>', text, count=1)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    for stand_in, colour in _STYLE.items():
        text = text.replace(stand_in, colour)
    return text.replace("xlink:href", "href")
