"""The tables of a run, as text for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.report import intervals
from benchmarks.report.collect import JAX, READABLE, TORCH, Row, Run, geometric_mean
from benchmarks.report.intervals import Interval

_LIBRARIES = {"the best of all": TORCH + JAX, "PyTorch": TORCH, "PyTorch, default": TORCH[:1], "JAX": JAX}


class Table(NamedTuple):
    """Rows of text under headings. The first `labels` columns are words, the others are numbers."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    labels: int = 1


def convolutions(run: Run) -> list[Row]:
    """Return the convolutions among `compared`."""
    return [row for row in compared(run) if row.layer == "conv2d"]


def compared(run: Run, direction: str = "both") -> list[Row]:
    """Return the rows of one pass on which a library was timed, without the series of growing size."""
    return [row for row in run.rows if row.direction == direction and not row.by_size and row.best(TORCH + JAX)]


def ratios(rows: Iterable[Row], names: Sequence[str]) -> list[float]:
    """Return our time over the best of these contenders, for the rows in which one was timed."""
    return [ratio for row in rows if (ratio := row.ratio(*names)) is not None]


def mean(values: list[float]) -> float | None:
    """Return the geometric mean, or None without values."""
    return geometric_mean(values) if values else None


def loops(run: Run) -> Table:
    """Return the times of our versions: loops, fast, and the textbook's im2col where it is not the fast one."""
    body = []
    for row in run.rows:
        if "naive" in row.seconds:
            naive = row.seconds["naive"]
            times = (time(naive), time(row.best(READABLE)), time(row.fast))
            body.append((row.layer, row.case, row.direction, *times, digits(naive / row.fast)))
    return Table(("layer", "case", "pass", "naive", "im2col", "fast", "naive / fast"), body, 3)


def summary(run: Run) -> Table:
    """Return our time over theirs, forward and backward, by group of cases: geometric mean and worst case."""
    rows = compared(run)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"conv2d, {row.zoo}" if row.layer == "conv2d" else row.layer, []).append(row)
    groups = {"all convolutions": convolutions(run), **groups}
    body = []
    for name, group in groups.items():
        if group:
            worst = max(ratios(group, TORCH + JAX))
            means = (spread(intervals.mean(group, names)) for names in _LIBRARIES.values())
            body.append((name, str(len(group)), *means, digits(worst)))
    return Table(("our time over that of", "cases", *_LIBRARIES, "worst case"), body)


def shapes(run: Run) -> Table:
    """Return the times of forward and backward of every case on which a library was timed."""
    body = []
    for row in compared(run):
        theirs = (time(row.seconds.get(name)) for name in TORCH + JAX)
        bare = time(row.seconds.get("matmul"))
        ours = (spread(intervals.ratio(row, TORCH + JAX)), time(row.best(READABLE)), time(row.fast))
        body.append((row.layer, row.case, *ours, bare, *theirs))
    headings = ("fast / best", "im2col", "fast", "bare product", "PyTorch", "channels last", "JAX", "channels last")
    return Table(("layer", "case", *headings), body, 2)


def products(run: Run) -> Table:
    """Return convolutions and linear layers against the bare matrix product of their size, and their memory."""
    body = []
    for row in run.rows:
        if row.direction == "both" and "matmul" in row.seconds:
            forward = next((r for r in run.rows if r[:3] == row[:3] and r.direction == "forward"), None)
            info = row.info["fast"]
            body.append(
                (
                    row.layer,
                    row.case,
                    _flagged(forward and forward.ratio("matmul")),
                    _flagged(row.ratio("matmul")),
                    digits(info["gflop_per_s"]),
                    digits(info["flops"] / info["bytes"]),
                    mib(info["bytes"]),
                    mib(info["extra_bytes"]),
                )
            )
    headings = ("forward / product", "both / products", "GFLOP/s", "FLOP / byte", "arrays", "extra memory")
    return Table(("layer", "case", *headings), body, 2)


def sizes(run: Run) -> dict[str, list[tuple[int, Row]]]:
    """Return the rows in which one size grows: "by batch" -> [(size, row), ...]."""
    axes = {"by batch": 0, "by channels": 1, "by image size": 2}
    found: dict[str, list[tuple[int, Row]]] = {}
    for row in run.rows:
        if row.zoo in axes:
            found.setdefault(row.zoo, []).append((row.info["fast"]["shape"][axes[row.zoo]], row))
    return {zoo: sorted(points, key=lambda point: point[0]) for zoo, points in found.items()}


def growth(run: Run) -> dict[str, tuple[float | None, float | None]]:
    """Return the slopes of log time against log size: "by batch" -> (ours, PyTorch's best layout)."""
    found = {}
    for zoo, points in sizes(run).items():
        ours = exponent([(size, row.fast) for size, row in points])
        theirs = exponent([(size, best) for size, row in points if (best := row.best(TORCH)) is not None])
        found[zoo] = (ours, theirs)
    return found


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the least-squares slope in logarithms, or None for fewer than two different sizes."""
    if len({size for size, _ in points}) < 2:
        return None
    xs, ys = ([math.log(value) for value in values] for values in zip(*points, strict=True))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def memory(run: Run) -> Table:
    """Return the peak memory of a forward and backward of each convolution, beside arguments and results."""
    body = []
    names = ("im2col", "fast", *TORCH, *JAX)
    for row in convolutions(run):
        resident = {name: info.get("extra_resident_bytes") for name, info in row.info.items()}
        if any(size is not None for size in resident.values()):
            counted = mib(row.info["fast"].get("extra_bytes"))
            body.append((row.case, counted, *(mib(resident.get(name), "–") for name in names)))
    theirs = ("PyTorch", "channels last", "JAX", "channels last")
    return Table(("convolution", "fast, by tracemalloc", "im2col", "fast", *theirs), body)


def roofs(run: Run) -> dict[str, str]:
    """Return the roofs of the machine, and the work with which they were measured."""
    found = {}
    if run.flops and "flops" in run.work:
        side = round((run.work["flops"] / 2) ** (1 / 3))
        found["multiplies at most"] = f"{digits(run.flops / 1e9)} GFLOP/s, by numpy.matmul of {side} × {side}"
    if run.bandwidth and "bytes" in run.work:
        size = mib(run.work["bytes"] / 2)
        found["moves at most"] = (
            f"{digits(run.bandwidth / 1e9)} GB/s, read and written by a copy of {size}, all threads"
        )
    return found


def exponents(run: Run) -> Table:
    """Return the fitted exponents, and the exponents of the arithmetic alone."""
    expected = {"by batch": "1", "by channels": "2", "by image size": "2"}
    body = []
    for zoo, points in sizes(run).items():
        ours = intervals.slope([(size, row.fast) for size, row in points])
        theirs = intervals.slope([(size, best) for size, row in points if (best := row.best(TORCH)) is not None])
        body.append((zoo, spread(ours), spread(theirs), expected[zoo]))
    return Table(("time grows", "fast", "PyTorch", "its products"), body)


def trainings(run: Run) -> Table:
    """Return the times of steps and epochs, ours and PyTorch's."""
    body = []
    for each in run.trainings:
        fast, torch = each.seconds["fast"], each.seconds.get("torch")
        ratio = spread(intervals.ratio(each, ("torch",)))
        span = f"{each.span} ({each.steps} step{'s' * (each.steps > 1)} of {each.batch_size} images)"
        body.append((each.network, span, time(fast), time(torch), ratio))
    return Table(("network", "span", "fast", "PyTorch", "fast / PyTorch"), body, 2)


def checks(run: Run) -> Table:
    """Return the times of gradient checks, ours and PyTorch's."""
    body = []
    for each in run.checks:
        ours, own, torch = (each.seconds[name] for name in ("ours", "ours, our convolution", "torch"))
        shape = f"x {'×'.join(map(str, each.x))}, w {'×'.join(map(str, each.w))}"
        body.append((shape, time(ours), time(own), time(torch), digits(torch / ours)))
    headings = ("ours", "ours, our layer", "PyTorch", "PyTorch / ours")
    return Table(("convolution", *headings), body, 1)


def medians(run: Run) -> Table:
    """Return every median time of the layers, all contenders of a case side by side."""
    names: tuple[tuple[str, ...], ...] = (("naive",), READABLE, ("fast",), ("matmul",))
    names += tuple((name,) for name in TORCH + JAX)
    headings = ("naive", "im2col", "fast", "bare product", "PyTorch", "channels last", "JAX", "channels last")
    body = [(r.layer, f"{r.zoo}: {r.case}", r.direction, *(time(r.best(each)) for each in names)) for r in run.rows]
    return Table(("layer", "case", "pass", *headings), body, 3)


def time(seconds: float | None) -> str:
    """Return seconds with three digits and a unit, or a dash for None."""
    if seconds is None:
        return "–"
    unit, name = next(((unit, name) for unit, name in ((1, "s"), (1e-3, "ms")) if seconds >= unit), (1e-6, "µs"))
    return f"{digits(seconds / unit)} {name}"


def digits(value: float) -> str:
    """Return three digits, or all digits of the integer part if there are more."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _text(value: float | None) -> str:
    return "–" if value is None else digits(value)


def spread(found: Interval | None) -> str:
    """Return a value with its interval, "1.24 (1.21–1.27)", alone if there is none, or a dash for None."""
    if found is None or math.isclose(found.low, found.high):
        return _text(found and found.value)
    return f"{digits(found.value)} ({digits(found.low)}–{digits(found.high)})"


def _flagged(ratio: float | None) -> str:
    """Return a ratio to the bare product, with a dagger if it is below 1."""
    return _text(ratio) + " †" * (ratio is not None and ratio < 1)


def mib(size: float | None, missing: str = "not measured") -> str:
    """Return bytes as MiB."""
    return missing if size is None else f"{digits(size / 2**20)} MiB"
