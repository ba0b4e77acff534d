"""What a run says: the headlines, the goals and the tables, in words and digits for page and Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.report.collect import JAX, TORCH, Row, Run, geometric_mean

_LIBRARIES = {"the best of all": TORCH + JAX, "PyTorch": TORCH, "PyTorch, default": TORCH[:1], "JAX": JAX}
_EXTRA_BYTES = 64 << 20


class Headline(NamedTuple):
    """A number to remember, what it is a number of, and how to read it."""

    figure: str
    what: str
    meaning: str


class Table(NamedTuple):
    """Rows of text under headings; the first `labels` columns are words, the others digits."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    labels: int = 1


def convolutions(run: Run) -> list[Row]:
    """Forward and backward of the convolutions that were timed against a library, without the rows of growing size."""
    return [row for row in _compared(run) if row.layer == "conv2d"]


def _compared(run: Run, direction: str = "both") -> list[Row]:
    return [row for row in run.rows if row.direction == direction and not row.by_size and row.best(TORCH + JAX)]


def headlines(run: Run) -> list[Headline]:
    """The three ratios that answer first; those that the run did not measure are left out."""
    found = []
    if loops := [1 / ratio for row in run.rows if (ratio := row.ratio("naive"))]:
        meaning = (
            "A layer's naive version is its formula in Python loops; this is its time over that of the fast version."
        )
        found.append(Headline(f"{digits(geometric_mean(loops))}×", "the speed of the loops", meaning))
    if best := [ratio for row in convolutions(run) if (ratio := row.ratio(*TORCH, *JAX))]:
        meaning = (
            f"Forward and backward of {len(best)} convolutions, over the best of PyTorch in either layout and JAX: "
            f"from {digits(min(best))} to {digits(max(best))}. Below 1 we are faster."
        )
        found.append(Headline(f"{digits(geometric_mean(best))}×", "the time of PyTorch or JAX", meaning))
    elif bare := [ratio for row in run.rows if row.direction == "both" and (ratio := row.ratio("matmul"))]:
        meaning = "The time of forward and backward over that of the matrix products alone. At 1 nothing is lost."
        found.append(Headline(f"{digits(geometric_mean(bare))}×", "the time of the bare product", meaning))
    steps = {each.network: each.seconds for each in run.trainings if each.span == "epoch" and "torch" in each.seconds}
    if steps:
        each = {network: seconds["fast"] / seconds["torch"] for network, seconds in steps.items()}
        meaning = (
            f"An epoch of training over PyTorch's: {', '.join(f'{name} {digits(r)}' for name, r in each.items())}."
        )
        found.append(Headline(f"{digits(geometric_mean(each.values()))}×", "the time of PyTorch's epoch", meaning))
    return found


def goals(run: Run) -> Table:
    """What was aimed at, what was measured, and whether it is met; a goal that was not measured says so."""
    conv, other = convolutions(run), [row for row in _compared(run) if row.layer not in ("conv2d", "flatten")]
    best, default = _ratios(conv, TORCH + JAX), _ratios(conv, TORCH[:1])
    forward = [row for row in _compared(run, "forward") if row.layer == "conv2d" and row.zoo == "ResNet-50"]
    extra = [row.info["fast"]["extra_bytes"] for row in run.rows if row.layer == "conv2d"]
    steps = [
        each.seconds["fast"] / each.seconds["torch"]
        for each in run.trainings
        if each.span == "step" and "torch" in each.seconds
    ]
    exponent = growth(run).get("by batch", (None, None))[0]
    rows = [
        _goal("convolutions over the best of PyTorch and JAX, geometric mean", _mean(best), 1.0),
        _goal("the worst of them", max(best, default=None), 1.5),
        _goal("convolutions over PyTorch's default layout, geometric mean", _mean(default), 0.85),
        _goal(
            "forward of ResNet-50's shapes over the bare product, the worst",
            max(_ratios(forward, ("matmul",)), default=None),
            1.3,
        ),
        _goal("a training step over PyTorch's, the worse of two networks", max(steps, default=None), 1.0),
        _goal("the other layers over PyTorch, geometric mean", _mean(_ratios(other, TORCH)), 1.5),
    ]
    memory = max(extra, default=None)
    rows.append(
        (
            "extra memory of a convolution, the most",
            _mib(memory),
            "≤ 64 MiB",
            _met(None if memory is None else memory <= _EXTRA_BYTES),
        )
    )
    rows.append(
        (
            "time against batch, exponent",
            "not measured" if exponent is None else digits(exponent),
            "0.9–1.1",
            _met(None if exponent is None else 0.9 <= exponent <= 1.1),
        )
    )
    return Table(("goal", "measured", "aimed at", ""), rows)


def _goal(what: str, measured: float | None, most: float) -> tuple[str, ...]:
    if measured is None:
        return what, "not measured", f"≤ {most}", ""
    return what, digits(measured), f"≤ {most}", _met(measured <= most)


def _met(met: bool | None) -> str:
    return "" if met is None else "met" if met else "not met"


def _ratios(rows: Iterable[Row], names: Sequence[str]) -> list[float]:
    return [ratio for row in rows if (ratio := row.ratio(*names)) is not None]


def _mean(values: list[float]) -> float | None:
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
    rows = _compared(run)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"conv2d, {row.zoo}" if row.layer == "conv2d" else row.layer, []).append(row)
    groups = {"all convolutions": convolutions(run), **groups}
    body = []
    for name, group in groups.items():
        if group:
            worst = max(_ratios(group, TORCH + JAX))
            means = (_text(_mean(_ratios(group, names))) for names in _LIBRARIES.values())
            body.append((name, str(len(group)), *means, digits(worst)))
    return Table(("our time over that of", "cases", *_LIBRARIES, "worst case"), body)


def shapes(run: Run) -> Table:
    """Forward and backward of every case that a library was timed on."""
    body = []
    for row in _compared(run):
        theirs = (time(row.seconds.get(name)) for name in TORCH + JAX)
        body.append((row.layer, row.case, time(row.fast), *theirs, digits(row.ratio(*TORCH, *JAX) or math.nan)))
    return Table(("layer", "case", "fast", "PyTorch", "channels last", "JAX", "channels last", "fast / best"), body, 2)


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
                    _mib(info["bytes"]),
                    _mib(info["extra_bytes"]),
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


def _mib(size: float | None) -> str:
    return "not measured" if size is None else f"{digits(size / 2**20)} MiB"
