"""Read one run: the JSON of pytest-benchmark as rows, roofs, trainings and checks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

TORCH, JAX = ("torch", "torch channels_last"), ("jax", "jax channels_last")
# Array versions that are to be read. They are timed where another version is the fast one.
READABLE = ("im2col", "vectorized")
# What contenders are called in sentences.
NAMES = {
    "naive": "the loops",
    **dict.fromkeys(READABLE, "im2col"),
    "fast": "ours",
    "matmul": "the bare product",
    "torch": "PyTorch",
    "torch channels_last": "PyTorch, channels last",
    "jax": "JAX",
    "jax channels_last": "JAX, channels last",
}


class Row(NamedTuple):
    """One pass of one case: median seconds, extra information and rounds in turn of each contender."""

    layer: str
    zoo: str
    case: str
    direction: str
    seconds: Mapping[str, float]
    info: Mapping[str, Mapping[str, Any]]
    rounds: Mapping[str, tuple[float, ...]] = {}

    @property
    def fast(self) -> float:
        """Seconds of our fast version."""
        return self.seconds["fast"]

    def best(self, names: Iterable[str]) -> float | None:
        """Return the shortest time among these contenders, or None if none of them was timed."""
        return min((self.seconds[name] for name in names if name in self.seconds), default=None)

    def ratio(self, *names: str) -> float | None:
        """Return our time over the best of theirs. Below 1 we are faster."""
        best = self.best(names)
        return None if best is None else self.fast / best

    @property
    def by_size(self) -> bool:
        """Whether the case belongs to a series in which one size grows."""
        return self.zoo.startswith("by ")


class Training(NamedTuple):
    """A step or an epoch of a network: the median seconds and the rounds in turn of each contender."""

    network: str
    span: str
    steps: int
    batch_size: int
    seconds: Mapping[str, float]
    rounds: Mapping[str, tuple[float, ...]] = {}


class Check(NamedTuple):
    """A gradcheck of one convolution, against PyTorch's fast mode."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    seconds: Mapping[str, float]


class Run(NamedTuple):
    """One run. `flops` and `bandwidth` are the roofs per second, or None if they were not measured.

    `work` has the operations and the bytes with which the roofs were measured.
    """

    machine: Mapping[str, str]
    rows: list[Row]
    trainings: list[Training]
    checks: list[Check]
    flops: float | None
    bandwidth: float | None
    work: Mapping[str, int] = {}

    @property
    def small(self) -> bool:
        """Whether the run had few images and few rounds, so that no claim follows from it."""
        return "caution" in self.machine


class NotARunError(ValueError):
    """The file is not a run of these benchmarks."""


def read(path: Path) -> Run:
    """Return the run in a JSON file of pytest-benchmark.

    Raises NotARunError, with the reason, if the file is not a run of these benchmarks.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        machine, benchmarks = dict(result["machine_info"]), list(result["benchmarks"])
    except (ValueError, KeyError, TypeError):
        raise NotARunError(f"{path} is not the JSON of pytest-benchmark") from None
    if not benchmarks:
        raise NotARunError(f"{path} has no benchmark")
    found: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {test: {} for test in _KEYS}
    for benchmark in benchmarks:
        try:
            test, parameters = benchmark["name"].partition("[")[0], dict(benchmark["params"])
            version = parameters.pop("version", "")
            key = tuple(parameters[name] for name in _KEYS[test])
            seconds, info = float(benchmark["stats"]["median"]), dict(benchmark["extra_info"])
            rounds = tuple(map(float, benchmark["stats"].get("data", ())))
        except (KeyError, TypeError, AttributeError, ValueError):
            name = benchmark.get("fullname", "an entry") if isinstance(benchmark, dict) else "an entry"
            raise NotARunError(f"{path}: {name} is not a benchmark of this folder") from None
        found[test].setdefault(key, {})[version] = (seconds, info, rounds)
    for key, contenders in found["test_layer"].items():
        if "fast" not in contenders:
            raise NotARunError(f"{path}: {', '.join(key)}: the fast version is missing, found {', '.join(contenders)}")
    return _run(_machine(machine, result), found)


# Test function -> the parameters that, with the version, identify what it timed.
_KEYS = {
    "test_layer": ("layer", "zoo", "case", "direction"),
    "test_training": ("network", "span"),
    "test_gradcheck": ("size",),
    "test_machine": ("roof",),
}


def _run(machine: Mapping[str, str], found: Mapping[str, dict[tuple[Any, ...], dict[str, Any]]]) -> Run:
    def seconds(contenders: Mapping[str, Any]) -> dict[str, float]:
        return {version: timed[0] for version, timed in contenders.items()}

    def noted(contenders: Mapping[str, Any]) -> Any:
        return next(iter(contenders.values()))[1]

    def rounds(contenders: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        return {version: timed[2] for version, timed in contenders.items()}

    def each_second(roof: str, what: str) -> float | None:
        timed = found["test_machine"].get((roof,))
        return None if timed is None else noted(timed)[what] / seconds(timed)[""]

    return Run(
        machine,
        [
            Row(
                *(layer, zoo, _taken(case, noted(each)) if machine.get("caution") else case, direction),
                seconds(each),
                {version: timed[1] for version, timed in each.items()},
                rounds(each),
            )
            for (layer, zoo, case, direction), each in found["test_layer"].items()
        ],
        [
            Training(network, span, noted(each)["steps"], noted(each)["batch_size"], seconds(each), rounds(each))
            for (network, span), each in found["test_training"].items()
        ],
        [
            Check(tuple(noted(each)["x"]), tuple(noted(each)["w"]), seconds(each))
            for each in found["test_gradcheck"].values()
        ],
        each_second("matrix product", "flops"),
        each_second("copy", "bytes"),
        {
            what: noted(timed)[what]
            for roof, what in (("matrix product", "flops"), ("copy", "bytes"))
            if (timed := found["test_machine"].get((roof,))) is not None
        },
    )


def _taken(case: str, info: Mapping[str, Any]) -> str:
    """Return the name of a case with the number of images that a run with --small took."""
    return re.sub(r"N = \d+", f"N = {info['shape'][0]}", case)


def _machine(machine: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    """Return the machine and the versions of a run as text."""
    blas = {"blas": "unknown BLAS", "version": "", "kernel": "unknown", "threads": "unknown", **machine.get("blas", {})}
    commit = result.get("commit_info") or {}
    dtypes = {each["extra_info"]["dtype"] for each in result["benchmarks"] if "dtype" in each.get("extra_info", {})}
    cpu = machine.get("cpu", {})
    facts = {
        "processor": f"{cpu.get('brand_raw', machine.get('machine', 'unknown'))}, {cpu.get('count', '?')} cores",
        "threads": f"{blas['threads']} for each contender",
        "linear algebra": f"{blas['blas']} {blas['version']}, kernel {blas['kernel']}",
        "dtype": " and ".join(sorted(dtypes)),
        "versions": ", ".join(
            [f"Python {machine.get('python_version', 'unknown')}"]
            + [f"{name} {blas[key]}" for key, name in _LIBRARIES.items() if key in blas]
        ),
        "system": f"{machine.get('system', 'unknown')} on {machine.get('machine', 'unknown')}",
        "commit": str(commit.get("id", "unknown"))[:10] + (", with changes" if commit.get("dirty") else ""),
        "date": str(result.get("datetime", "unknown"))[:10],
    }
    if machine.get("small"):
        facts["caution"] = "few images and few rounds (--small): these numbers measure nothing"
    return facts


_LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


def geometric_mean(values: Iterable[float]) -> float:
    """Return exp of the mean logarithm. A ratio and its inverse cancel."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def ratios(run: Run) -> dict[str, float]:
    """Return every ratio to compare between runs, by name. A larger ratio is worse."""
    found: dict[str, float | None] = {}
    for row in run.rows:
        what = f"{row.layer} {row.direction}, {row.zoo}: {row.case}"
        found[f"{what}, over naive"] = row.ratio("naive")
        if row.direction == "both":
            found[f"{what}, over the bare product"] = row.ratio("matmul")
            found[f"{what}, over PyTorch"] = row.ratio(*TORCH)
            found[f"{what}, over JAX"] = row.ratio(*JAX)
    for training in run.trainings:
        if "torch" in training.seconds:
            ratio = training.seconds["fast"] / training.seconds["torch"]
            found[f"training {training.network}, {training.span}, over PyTorch"] = ratio
    for check in run.checks:
        found[f"gradcheck, x {check.x}, over PyTorch"] = check.seconds["ours"] / check.seconds["torch"]
    return {what: ratio for what, ratio in found.items() if ratio is not None}
