"""The first figure: our time over that of every contender, for each convolution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.report import claims
from benchmarks.report.collect import JAX, READABLE, TORCH, Row, Run
from benchmarks.report.drawing import BAD, FAINT, INK, JAXS, PYTORCH, SOFT, Picture, picture, ratio_axis
from benchmarks.report.flags import Flag, flags
from benchmarks.report.intervals import Interval, ratio
from benchmarks.report.tables import convolutions, digits

# The range of the axis. Dots beyond it stand at its edge with their figure.
_LOW, _HIGH = 1 / 12, 12.0
_ROOM = 3.0  # a factor of the axis on the right, where names of outliers stand


class Mark(NamedTuple):
    """How a contender is drawn. The first of its versions is named in the legend, the fastest counts."""

    label: str
    short: str
    versions: Sequence[str]
    colour: str
    marker: str
    filled: bool = True


MARKS = (
    Mark("naive loops", "naive", ("naive",), INK, "s"),
    Mark("im2col, to be read", "im2col", READABLE, SOFT, "^"),
    Mark("PyTorch", "PyTorch", TORCH[:1], PYTORCH, "o"),
    Mark("PyTorch, channels last", "channels last", TORCH[1:], PYTORCH, "o", filled=False),
    Mark("JAX, the faster layout", "JAX", JAX, JAXS, "D"),
    Mark("bare matrix product", "product", ("matmul",), INK, "|"),
)


class Dot(NamedTuple):
    """One contender in one line. It has a name if it is an outlier or flagged."""

    mark: Mark
    line: int
    interval: Interval
    named: bool
    flagged: bool

    @property
    def x(self) -> float:
        """The place on the axis, at its edge if the value lies beyond."""
        return min(max(self.interval.value, _LOW * 1.05), _HIGH / 1.05)

    @property
    def at_edge(self) -> bool:
        """Whether the value lies beyond the axis."""
        return self.x != self.interval.value

    @property
    def figure(self) -> str:
        """By what factor we are faster or slower."""
        return f"{digits(max(self.interval.value, 1 / self.interval.value))}×" + " †" * self.flagged


def shown(case: str) -> str:
    """Return the name of a case with the signs that people write: "64→64 3×3 on 56×56, N = 8"."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", case).replace("->", "→")


def first(run: Run) -> Picture | None:
    """Return the figure, or None if no convolution was compared with a library."""
    groups = _groups(run)
    if not groups:
        return None
    lines: list[str | Row] = [each for name, rows in groups.items() for each in (name, *rows)]
    dots = _dots(lines, flags(run))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for mark in MARKS:
            own = [dot for dot in dots if dot.mark is mark]
            if own:
                _points(axes, mark, own)
        for line in range(len(lines)):
            _named(axes, [dot for dot in dots if dot.line == line], narrow)
        _names(axes, lines, narrow)
        ratio_axis(axes, _LOW, _HIGH * _ROOM, narrow)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=2 if narrow else 6, handletextpad=0.1, columnspacing=1.0)

    shows = "Our time over that of each contender, for each convolution, forward and backward"
    title = shows if run.small else claims.contenders(run)
    return picture("contenders", title, shows, draw, 150 + 23 * len(lines), 190 + 38 * len(lines))


def _groups(run: Run) -> dict[str, list[Row]]:
    """Return the convolutions by network. Those with naive loops have no call for both passes: theirs are added."""
    groups: dict[str, list[Row]] = {}
    for row in convolutions(run):
        groups.setdefault(row.zoo, []).append(row)
    if not groups:
        return {}
    loops = [row for row in run.rows if row.layer == "conv2d" and "naive" in row.seconds]
    both = {}
    for row in loops:
        both.setdefault(row.case, []).append(row)
    added = [_added(*pair) for pair in both.values() if len(pair) == 2]
    return {**({"small enough for loops": added} if added else {}), **groups}


def _added(forward: Row, backward: Row) -> Row:
    """Return forward and backward as one row: the sums of their medians, and of their rounds."""
    seconds = {name: forward.seconds[name] + backward.seconds[name] for name in forward.seconds}
    rounds = {
        name: tuple(a + b for a, b in zip(forward.rounds[name], backward.rounds[name], strict=False))
        for name in forward.rounds
    }
    return forward._replace(direction="both", seconds=seconds, rounds=rounds)


def _dots(lines: Sequence[str | Row], flagged: Sequence[Flag]) -> list[Dot]:
    dots = []
    for mark in MARKS:
        own = [
            (line, found)
            for line, row in enumerate(lines)
            if isinstance(row, Row) and (found := ratio(row, mark.versions)) is not None
        ]
        fences = _fences([found.value for _, found in own])
        for line, found in own:
            row = lines[line]
            impossible = mark.versions == ("matmul",) and any(
                each.row[:4] == row[:4] and each[1:3] == ("fast", "bare product") for each in flagged
            )
            outlying = not fences[0] <= found.value <= fences[1] or not _LOW < found.value < _HIGH
            dots.append(Dot(mark, line, found, outlying or impossible, impossible))
    return dots


def _fences(values: Sequence[float]) -> tuple[float, float]:
    """Return Tukey's fences in logarithms: 1.5 quartile distances beyond the quartiles."""
    low, high = np.percentile(np.log(values), (25, 75)) if values else (0.0, 0.0)
    return float(np.exp(low - 1.5 * (high - low))), float(np.exp(high + 1.5 * (high - low)))


def _points(axes: Any, mark: Mark, dots: Sequence[Dot]) -> None:
    for dot in dots:
        ends = np.clip((dot.interval.low, dot.interval.high), _LOW, _HIGH)
        axes.plot(ends, (dot.line, dot.line), "-", color=mark.colour, linewidth=1.4, alpha=0.75)
    bar = mark.marker == "|"
    axes.plot(
        [dot.x for dot in dots],
        [dot.line for dot in dots],
        mark.marker,
        color=mark.colour,
        label=mark.label,
        fillstyle="full" if mark.filled else "none",
        markersize=11 if bar else 7,
        markeredgewidth=2.2 if bar else 1.5,
    )


def _named(axes: Any, dots: Sequence[Dot], narrow: bool) -> None:
    """Name the outliers of one line: right of its last dot, left of a dot, or inward of one at the edge."""
    slower = [dot for dot in dots if dot.named and dot.x > 1]
    places = [([dot], dot.x, 1 if dot.at_edge else -1) for dot in dots if dot.named and dot.x < 1]
    if slower:
        places.append((slower, max(dot.x for dot in dots), 1))
    for named, x, away in places:
        words = [dot.figure if narrow else f"{dot.mark.short} {dot.figure}" for dot in named]
        axes.annotate(
            ", ".join(words),
            (x, named[0].line),
            (8 * away, 0),
            textcoords="offset points",
            ha="left" if away > 0 else "right",
            va="center",
            fontsize=11,
            color=BAD if any(dot.flagged for dot in named) else named[0].mark.colour,
        )


def _names(axes: Any, lines: Sequence[str | Row], narrow: bool) -> None:
    """Name the lines: left of the axes, or, where there is no room, above the dots."""
    axes.set_ylim(len(lines) - 0.4, -0.8)
    axes.tick_params(axis="y", length=0)
    if narrow:
        axes.set_yticks([])
        for line, row in enumerate(lines):
            heading = isinstance(row, str)
            text = row if isinstance(row, str) else shown(row.case)
            place = (0, 0) if heading else (0, 10)
            axes.annotate(
                text,
                (0.01, line),
                place,
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                weight="bold" if heading else "normal",
            )
    else:
        axes.set_yticks(range(len(lines)), [row if isinstance(row, str) else shown(row.case) for row in lines])
        for row, label in zip(lines, axes.get_yticklabels(), strict=True):
            if isinstance(row, str):
                label.set_fontweight("bold")
    for line, row in enumerate(lines):
        if not isinstance(row, str):
            axes.axhline(line, color=FAINT, linewidth=0.6, zorder=0)
