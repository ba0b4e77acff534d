"""Figures of what lies behind a median: every round, and the memory beside arguments and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import claims
from benchmarks.report.collect import JAX, NAMES, READABLE, TORCH, Row, Run
from benchmarks.report.contenders_figure import shown
from benchmarks.report.drawing import FAINT, JAXS, OURS, PYTORCH, SOFT, Picture, log_axis, picture
from benchmarks.report.tables import convolutions

# Rounds slower than this, over the median, stand at the edge of the figure.
_SLOWEST = 1.6
_FASTEST = 0.8
_LEAST = 0.25  # MiB at the edge of the figure: less is nothing beside arrays of these sizes

_MEMORY = (
    ("ours", ("fast",), OURS, "o", True),
    ("im2col", READABLE, SOFT, "^", True),
    ("PyTorch", TORCH[:1], PYTORCH, "o", False),
    ("JAX", JAX, JAXS, "D", False),
)


def rounds(run: Run) -> Picture | None:
    """Return every round of our version and of the fastest library, over its own median."""
    rows = [row for row in convolutions(run) if row.rounds.get("fast")]
    if not rows:
        return None
    deviations, worst = [], ("", 0.0)
    for row in rows:
        for version, own in row.rounds.items():
            deviations += [each / row.seconds[version] - 1 for each in own]
            worst = max(
                worst,
                (f"{NAMES[version]}, {shown(row.case)}", max(own) / row.seconds[version]),
                key=lambda pair: pair[1],
            )

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for names, colour, shift, label in (
            (("fast",), OURS, 0.0 if narrow else -0.17, "ours"),
            (TORCH + JAX, PYTORCH, 0.27 if narrow else 0.17, "the fastest library"),
        ):
            points = [
                (min(max(each / row.seconds[name], _FASTEST), _SLOWEST), line + shift)
                for line, row in enumerate(rows)
                for name in [_fastest(row, names)]
                for each in row.rounds.get(name, ())
            ]
            axes.plot(*zip(*points, strict=True), "|", color=colour, label=label, markersize=8, markeredgewidth=1.3)
        axes.set_xlim(_FASTEST, _SLOWEST)
        ticks = (0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6) if not narrow else (0.8, 1, 1.2, 1.4, 1.6)
        axes.set_xticks(ticks, [f"{tick:g}" if tick < _SLOWEST else f"≥ {tick:g}" for tick in ticks])
        axes.set_xlabel("a round over the median of its rounds")
        _lines(axes, rows, narrow)
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.1)

    shows = "Every round of ours and of the fastest library, for each convolution"
    title = shows if run.small else claims.rounds(deviations, worst)
    return picture("rounds", title, shows, draw, 110 + 21 * len(rows), 110 + 36 * len(rows))


def _fastest(row: Row, names: Sequence[str]) -> str:
    return min((name for name in names if name in row.seconds), key=row.seconds.__getitem__)


def memory(run: Run) -> Picture | None:
    """Return the extra memory of each contender for each convolution, as the system counts it."""
    rows = [row for row in convolutions(run) if row.info["fast"].get("extra_resident_bytes") is not None]
    if not rows:
        return None
    found = {
        name: {line: max(size, 1) for line, row in enumerate(rows) if (size := _extra(row, versions)) is not None}
        for name, versions, *_ in _MEMORY
    }
    found = {name: sizes for name, sizes in found.items() if sizes}

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for name, _, colour, marker, filled in _MEMORY:
            if name in found:
                axes.plot(
                    [max(size / 2**20, _LEAST) for size in found[name].values()],
                    list(found[name]),
                    marker,
                    color=colour,
                    label=name,
                    fillstyle="full" if filled else "none",
                    markeredgewidth=1.5,
                )
        axes.set_xlim(_LEAST / 1.2, None)
        log_axis(axes, "x", "MiB beside arguments and results")
        _lines(axes, rows, narrow)
        figure.legend(loc="outside upper left", ncols=4, handletextpad=0.1, columnspacing=1.0)

    shows = "Peak memory of forward and backward beside arguments and results, for each convolution"
    title = shows if run.small else claims.memory({name: max(sizes.values()) for name, sizes in found.items()})
    return picture("memory", title, shows, draw, 110 + 21 * len(rows), 110 + 36 * len(rows))


def _extra(row: Row, versions: Sequence[str]) -> int | None:
    known = [row.info[name].get("extra_resident_bytes") for name in versions if name in row.info]
    return min((size for size in known if size is not None), default=None)


def _lines(axes: Any, rows: Sequence[Row], narrow: bool) -> None:
    """Name the lines: left of the axes, or, where there is no room, above the dots."""
    axes.set_ylim(len(rows) - 0.4, -0.9 if narrow else -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    names = [shown(row.case) for row in rows]
    if narrow:
        axes.set_yticks([])
        for line, name in enumerate(names):
            axes.annotate(
                name, (0.01, line), (0, 14), xycoords=("axes fraction", "data"), textcoords="offset points", va="center"
            )
    else:
        axes.set_yticks(range(len(names)), names)
    for line in range(len(names)):
        axes.axhline(line, color=FAINT, linewidth=0.6, zorder=0)
