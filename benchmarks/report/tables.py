"""The tables of a run, in words and digits for page and Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.report.collect import JAX, TORCH, Row, Run, geometric_mean

_LIBRARIES = {"the best of all": TORCH + JAX, "PyTorch": TORCH, "PyTorch, default": TORCH[:1], "JAX": JAX}


class Table(NamedTuple):
    """Rows of text under headings; the first `labels` columns are words, the others digits."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    labels: int = 1


def convolutions(run: Run) -> list[Row]:
    """The convolutions among `compared`."""
    return [row for row in compared(run) if row.layer == "conv2d"]


def compared(run: Run, direction: str = "both") -> list[Row]:
    """The rows of one pass that a library was timed on, without those of growing size."""
    return [row for row in run.rows if row.direction == direction and not row.by_size and row.best(TORCH + JAX)]


def ratios(rows: Iterable[Row], names: Sequence[str]) -> list[float]:
    """Our time over the best of these contenders, where there is one."""
    return [ratio for row in rows if (ratio := row.ratio(*names)) is not None]


def mean(values: list[float]) -> float | None:
    """The geometric mean, if there are any."""
    return geometric_mean(values) if values else None


def loops(run: Run) -> Table:
    """Naive against fast."""
    rows = [row for row in run.rows if "naive" in row.seconds]
    return Table(
        ("layer", "case", "pass", "naive", "fast", "naive / fast"),
        [
            (r.layer, r.case, r.direction, time(r.seconds["naive"]), time(r.fast), digits(r.seconds["naive"] / r.fast))
            for r in rows
        ],
        3,
    )


def summary(run: Run) -> Table:
    """Our time over theirs by group of cases, forward and backward: the geometric mean, and the worst."""
    rows = compared(run)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"conv2d, {row.zoo}" if row.layer == "conv2d" else row.layer, []).append(row)
    groups = {"all convolutions": convolutions(run), **groups}
    body = []
    for name, group in groups.items():
        if group:
            worst = max(ratios(group, TORCH + JAX))
            means = (_text(mean(ratios(group, names))) for names in _LIBRARIES.values())
            body.append((name, str(len(group)), *means, digits(worst)))
    return Table(("our time over that of", "cases", *_LIBRARIES, "worst case"), body)


def shapes(run: Run) -> Table:
    """Forward and backward of every case that a library was timed on."""
    body = []
    for row in compared(run):
        theirs = (time(row.seconds.get(name)) for name in TORCH + JAX)
        body.append((row.layer, row.case, _text(row.ratio(*TORCH, *JAX)), time(row.fast), *theirs))
    return Table(("layer", "case", "fast / best", "fast", "PyTorch", "channels last", "JAX", "channels last"), body, 2)


def products(run: Run) -> Table:
    """Convolutions and linear layers against the bare matrix product of the same size, and their memory."""
    body = []
    for row in run.rows:
        if row.direction == "both" and "matmul" in row.seconds:
            forward = next((r for r in run.rows if r[:3] == row[:3] and r.direction == "forward"), None)
            info = row.info["fast"]
            body.append(
                (
                    row.layer,
                    row.case,
                    _text(forward and forward.ratio("matmul")),
                    _text(row.ratio("matmul")),
                    digits(info["gflop_per_s"]),
                    digits(info["flops"] / info["bytes"]),
                    mib(info["bytes"]),
                    mib(info["extra_bytes"]),
                )
            )
    headings = ("forward / product", "both / products", "GFLOP/s", "FLOP / byte", "arrays", "extra memory")
    return Table(("layer", "case", *headings), body, 2)


def sizes(run: Run) -> dict[str, list[tuple[int, Row]]]:
    """The rows in which one size grows: "by batch" -> (size, row)."""
    axes = {"by batch": 0, "by channels": 1, "by image size": 2}
    found: dict[str, list[tuple[int, Row]]] = {}
    for row in run.rows:
        if row.zoo in axes:
            found.setdefault(row.zoo, []).append((row.info["fast"]["shape"][axes[row.zoo]], row))
    return found


def growth(run: Run) -> dict[str, tuple[float | None, float | None]]:
    """The exponents of ours and of PyTorch's best layout: "by batch" -> slopes of log time against log size."""
    found = {}
    for zoo, points in sizes(run).items():
        ours = exponent([(size, row.fast) for size, row in points])
        theirs = exponent([(size, best) for size, row in points if (best := row.best(TORCH)) is not None])
        found[zoo] = (ours, theirs)
    return found


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The least-squares slope in log-log; None where fewer than two sizes differ."""
    if len({size for size, _ in points}) < 2:
        return None
    xs, ys = ([math.log(value) for value in values] for values in zip(*points, strict=True))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def exponents(run: Run) -> Table:
    """Fitted exponents, and what arithmetic alone would give."""
    expected = {"by batch": "1", "by channels": "2", "by image size": "2"}
    body = [(zoo, _text(ours), _text(theirs), expected[zoo]) for zoo, (ours, theirs) in growth(run).items()]
    return Table(("time grows", "fast", "PyTorch", "its products"), body)


def trainings(run: Run) -> Table:
    """Steps and epochs against PyTorch's."""
    body = []
    for each in run.trainings:
        fast, torch = each.seconds["fast"], each.seconds.get("torch")
        ratio = _text(torch and fast / torch)
        span = f"{each.span} ({each.steps} step{'s' * (each.steps > 1)} of {each.batch_size} images)"
        body.append((each.network, span, time(fast), time(torch), ratio))
    return Table(("network", "span", "fast", "PyTorch", "fast / PyTorch"), body, 2)


def checks(run: Run) -> Table:
    """The verifier against PyTorch's gradcheck."""
    body = []
    for each in run.checks:
        ours, own, torch = (each.seconds[name] for name in ("ours", "ours, our convolution", "torch"))
        what = "full Jacobian, slow mode" if each.mode == "slow" else "one direction, fast mode"
        shape = f"x {'×'.join(map(str, each.x))}, w {'×'.join(map(str, each.w))}"
        body.append((what, shape, time(ours), time(own), time(torch), digits(torch / ours)))
    headings = ("ours", "ours, our layer", "PyTorch", "PyTorch / ours")
    return Table(("check", "convolution", *headings), body, 2)


def medians(run: Run) -> Table:
    """Everything that was timed of the layers."""
    names = ("naive", "fast", "matmul", *TORCH, *JAX)
    headings = ("naive", "fast", "bare product", "PyTorch", "channels last", "JAX", "channels last")
    body = [
        (r.layer, f"{r.zoo}: {r.case}", r.direction, *(time(r.seconds.get(name)) for name in names)) for r in run.rows
    ]
    return Table(("layer", "case", "pass", *headings), body, 3)


def time(seconds: float | None) -> str:
    """Seconds with three digits and a unit; a dash for what was not timed."""
    if seconds is None:
        return "–"
    unit, name = next(((unit, name) for unit, name in ((1, "s"), (1e-3, "ms")) if seconds >= unit), (1e-6, "µs"))
    return f"{digits(seconds / unit)} {name}"


def digits(value: float) -> str:
    """Three digits, or all of the integer part."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _text(value: float | None) -> str:
    return "–" if value is None else digits(value)


def mib(size: float | None) -> str:
    """Bytes as MiB."""
    return "not measured" if size is None else f"{digits(size / 2**20)} MiB"
