"""The comparison with a stored run: regressions fail, noise does not, and nothing is passed over in silence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_report import timed, written

from benchmarks.compare import baseline, compare, main, of_another_kind, report

NAMES = [f"case {i} over PyTorch" for i in range(100)]
DEVIATION = 0.03
# Five runs of 100 ratios have 400 degrees of freedom: a deviation found is off by 1 / sqrt(800) of it; five times that.
OFF = 5 / math.sqrt(2 * 4 * len(NAMES))


def noisy(seed: int, deviation: float = DEVIATION) -> dict[str, float]:
    """A run: the same ratios each time, with noise of this deviation."""
    noise = np.random.default_rng(seed).normal(0, deviation, len(NAMES))
    return {name: float((1 + i % 7) * np.exp(noise[i])) for i, name in enumerate(NAMES)}


MACHINE = {
    "processor": "A Processor, 4 cores",
    "threads": "2 for each contender",
    "linear algebra": "openblas 0.3, kernel Zen",
    "dtype": "float32",
}
STORED = baseline(MACHINE, [noisy(seed) for seed in range(5)])


def test_the_margin_follows_from_the_spread() -> None:
    z = 3.719  # the normal quantile of 1 - 0.01/100
    assert math.log(STORED.margins["PyTorch"]) == pytest.approx(z * math.sqrt(2) * DEVIATION, rel=OFF)
    quiet = baseline({}, [noisy(seed, DEVIATION / 10) for seed in range(5)])  # the same noise, a tenth of it
    assert math.log(quiet.margins["PyTorch"]) == pytest.approx(math.log(STORED.margins["PyTorch"]) / 10, rel=1e-9)


def test_what_is_noisier_has_a_larger_margin() -> None:
    """Ratios to the loops, ten times as noisy, do not widen the margin of the others."""
    loops = [
        {f"case {i} over naive": r for i, r in enumerate(noisy(seed, 10 * DEVIATION).values())} for seed in range(5, 10)
    ]
    both = baseline({}, [{**noisy(seed), **run} for seed, run in enumerate(loops)])
    z, fewer = 3.891, 3.719  # the normal quantiles of 1 - 0.01/200, and of 1 - 0.01/100: to 0.0005
    margin = math.log(both.margins["PyTorch"])
    assert margin == pytest.approx(math.log(STORED.margins["PyTorch"]) * z / fewer, rel=2 * 0.0005 / fewer)
    assert math.log(both.margins["naive"]) == pytest.approx(10 * margin, rel=2 * OFF)
    run = {what: ratio * both.margins["PyTorch"] * 1.001 for what, ratio in both.ratios.items()}
    assert set(compare(both, run).slower) == set(NAMES) - both.wider.keys()


def test_noise_below_the_margin_passes() -> None:
    """At most 1 % of comparisons fail by chance; more than 9 of 300 do so with a chance of 0.1 %."""
    failed = sum(bool(compare(STORED, noisy(seed)).slower) for seed in range(100, 400))
    assert failed <= 9


@pytest.mark.parametrize("broken", [np.nan, 1e9])
def test_a_planted_regression_fails_alone(broken: float) -> None:
    run = {name: STORED.ratios[name] for name in NAMES}
    run["case 42 over PyTorch"] *= (
        STORED.allowed("case 42 over PyTorch") / STORED.ratios["case 42 over PyTorch"] * 1.001
    )
    run["case 43 over PyTorch"] *= STORED.margins["PyTorch"] * 0.999
    run["case 7 over PyTorch"] = broken
    assert compare(STORED, run).slower in (
        ["case 42 over PyTorch", "case 7 over PyTorch"],
        ["case 7 over PyTorch", "case 42 over PyTorch"],
    )


def test_the_worst_is_named_first() -> None:
    run = {
        **STORED.ratios,
        "case 1 over PyTorch": 2 * STORED.allowed("case 1 over PyTorch"),
        "case 2 over PyTorch": 3 * STORED.allowed("case 2 over PyTorch"),
    }
    found = compare(STORED, run)
    assert found.slower == ["case 2 over PyTorch", "case 1 over PyTorch"]
    text = report(STORED, run, found)
    assert "| case 2 over PyTorch |" in text
    assert "2 of 100 slower" in text


def test_what_is_faster_is_no_regression() -> None:
    assert not compare(STORED, {name: ratio / 10 for name, ratio in STORED.ratios.items()}).slower


def test_missing_and_unknown_cases_are_named() -> None:
    run = {**STORED.ratios, "case new over PyTorch": 1.0}
    del run["case 3 over PyTorch"]
    found = compare(STORED, run)
    assert (found.slower, found.missing, found.unknown) == ([], ["case 3 over PyTorch"], ["case new over PyTorch"])
    text = report(STORED, run, found)
    assert "1 stored, but not in this run:\n- case 3 over PyTorch" in text
    assert "1 in this run, but not stored:\n- case new over PyTorch" in text


def test_a_ratio_that_jumps_between_the_stored_runs_keeps_its_own_margin() -> None:
    runs = [{**noisy(seed), "case 5 over PyTorch": 1.0 + (seed == 2)} for seed in range(5)]
    stored = baseline({}, runs)
    assert stored.wider["case 5 over PyTorch"] == pytest.approx(2)
    assert not any(compare(stored, run).slower for run in runs)


@pytest.mark.parametrize("runs", [[], [noisy(0)], [noisy(0), noisy(1)]])
def test_fewer_than_three_runs_have_no_margin(runs: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match=f"a margin needs at least 3 runs, got {len(runs)}"):
        baseline({}, runs)


def test_runs_of_different_cases_are_no_baseline() -> None:
    with pytest.raises(ValueError, match=r"'case 0 over PyTorch' and 0 more are not in all runs"):
        baseline({}, [noisy(0), {k: v for k, v in noisy(1).items() if k != "case 0 over PyTorch"}, noisy(2)])


def _run(path: Path, fast: float) -> str:
    return str(
        written(
            path,
            [timed("fast", fast), timed("torch", 1), timed("fast", fast, case="8->8"), timed("torch", 1, case="8->8")],
        )
    )


def test_the_command_stores_then_compares(tmp_path: Path) -> None:
    stored, invoke = str(tmp_path / "baseline.json"), CliRunner().invoke
    runs = [_run(tmp_path / f"{i}.json", fast) for i, fast in enumerate((1.0, 1.02, 0.99))]
    result = invoke(main, ["--store", *runs, "--baseline", stored])
    assert result.exit_code == 0, result.output
    assert json.loads(Path(stored).read_text(encoding="utf-8"))["machine"]["processor"] == "A Processor, 4 cores"
    for run in runs:
        assert invoke(main, [run, "--baseline", stored]).exit_code == 0
    result = invoke(main, [_run(tmp_path / "slow.json", 1.5), "--baseline", stored])
    assert result.exit_code == 1
    assert "| conv2d both, ResNet-50: 3->8, over PyTorch | 1 | 1.5 | 1.50 |" in result.output
    assert "2 of 2 slower" in result.output


def test_a_comparison_of_nothing_fails(tmp_path: Path) -> None:
    stored = tmp_path / "baseline.json"
    stored.write_text(json.dumps(STORED._asdict()), encoding="utf-8")
    result = CliRunner().invoke(main, [_run(tmp_path / "run.json", 1.0), "--baseline", str(stored)])
    assert result.exit_code == 1
    assert "nothing was compared" in result.stderr


def test_a_machine_is_of_the_same_kind_whatever_its_versions() -> None:
    assert not of_another_kind(
        MACHINE, {**MACHINE, "linear algebra": "openblas 0.4, kernel Zen", "versions": "NumPy 3"}
    )


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [
        ("processor", "Another, 4 cores", "processor 'A Processor, 4 cores', here 'Another, 4 cores'"),
        ("threads", "8 for each contender", "threads '2 for each contender', here '8 for each contender'"),
        ("linear algebra", "openblas 0.3, kernel Other", "kernel 'Zen', here 'Other'"),
        ("dtype", "float64", "dtype 'float32', here 'float64'"),
    ],
)
def test_a_run_on_another_kind_of_machine_is_told_apart(fact: str, value: str, message: str) -> None:
    assert of_another_kind(MACHINE, {**MACHINE, fact: value}) == [message]


def test_a_run_on_another_kind_of_machine_is_not_compared(tmp_path: Path) -> None:
    stored = tmp_path / "baseline.json"
    other = {**STORED.machine, "processor": "Another Processor"}
    stored.write_text(json.dumps(STORED._replace(machine=other)._asdict()), encoding="utf-8")
    result = CliRunner().invoke(main, [_run(tmp_path / "run.json", 1.0), "--baseline", str(stored)])
    assert result.exit_code == 2
    text = " ".join(result.stderr.replace("│", " ").split())
    assert "comes from another kind of machine (processor 'Another Processor', here 'A Processor, 4 cores'" in text


def test_a_run_that_measures_nothing_is_not_stored(tmp_path: Path) -> None:
    runs = [_run(tmp_path / f"{i}.json", 1.0) for i in range(3)]
    hasty = json.loads(Path(runs[1]).read_text(encoding="utf-8"))
    hasty["machine_info"]["small"] = True
    Path(runs[1]).write_text(json.dumps(hasty), encoding="utf-8")
    result = CliRunner().invoke(main, ["--store", *runs, "--baseline", str(tmp_path / "baseline.json")])
    assert result.exit_code == 2
    assert "a few images and rounds only" in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "baseline.json").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no baseline at"), ("{}", "is not a baseline"), ("not JSON", "is not a baseline")]
)
def test_what_is_no_baseline_is_wrong_usage(tmp_path: Path, content: str | None, message: str) -> None:
    stored = tmp_path / "baseline.json"
    if content is not None:
        stored.write_text(content, encoding="utf-8")
    result = CliRunner().invoke(main, [_run(tmp_path / "run.json", 1.0), "--baseline", str(stored)])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_two_runs_are_not_compared_with_the_baseline(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [_run(tmp_path / "run.json", 1.0)] * 2)
    assert result.exit_code == 2
    assert "one run is compared, got 2" in " ".join(result.stderr.replace("│", " ").split())
