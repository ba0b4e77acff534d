"""The report: what it makes of a run that the benchmarks themselves wrote, and of ratios known beforehand."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.report import answers, collect, tables
from benchmarks.report.collect import Check, NotARunError, Row, Run, Training, geometric_mean, ratios, read
from verify.layers import LAYERS


def timed(version: str, median: float, direction: str = "both", case: str = "3->8", **info: Any) -> dict[str, Any]:
    """An entry of pytest-benchmark's JSON as bench_layers.py writes it."""
    noted = {"dtype": "float32", "shape": [8, 3, 9, 9], "bytes": 1000, "extra_bytes": 2**20, "flops": 10**6}
    noted |= {"gflop_per_s": 1.0, **info}
    zoo = info.get("zoo", "ResNet-50")
    return {
        "name": f"test_layer[{version}]",
        "fullname": f"bench_layers.py::test_layer[{version}]",
        "params": {"layer": "conv2d", "zoo": zoo, "direction": direction, "case": case, "version": version},
        "extra_info": noted,
        "stats": {"median": median},
    }


def written(path: Path, benchmarks: object) -> Path:
    """A file of pytest-benchmark's JSON with these entries."""
    blas = {"blas": "openblas", "version": "0.3", "kernel": "Zen", "threads": 2, "numpy": "2.4.0", "torch": "2.13"}
    machine = {"cpu": {"brand_raw": "A Processor", "count": 4}, "python_version": "3.12.1", "blas": blas}
    commit = {"id": "0123456789abcdef", "dirty": True}
    result = {"machine_info": machine, "benchmarks": benchmarks, "commit_info": commit, "datetime": "2026-01-02T03:04"}
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


@pytest.fixture
def known(tmp_path: Path) -> Run:
    """Ours takes 2 s and 6 s; PyTorch 4 and 3 at best, JAX 8 and 24, the bare product 1 and 6."""
    return read(
        written(
            tmp_path / "run.json",
            [
                *(
                    timed(version, s)
                    for version, s in (("fast", 2), ("torch", 5), ("torch channels_last", 4), ("jax", 8))
                ),
                timed("matmul", 1),
                *(
                    timed(version, s, case="8->8")
                    for version, s in (("fast", 6), ("torch", 3), ("jax channels_last", 24))
                ),
                timed("matmul", 6, case="8->8"),
                timed("naive", 300, "forward"),
                timed("fast", 0.1, "forward"),
            ],
        )
    )


def test_a_ratio_is_of_the_best_layout_and_the_best_library(known: Run) -> None:
    first, second, forward = known.rows
    assert first.ratio(*collect.TORCH) == 2 / 4
    assert first.ratio("torch") == 2 / 5
    assert first.ratio(*collect.JAX) == 2 / 8
    assert second.ratio(*collect.TORCH, *collect.JAX) == 6 / 3
    assert forward.ratio(*collect.TORCH) is None


def test_the_headlines_are_geometric_means(known: Run) -> None:
    loops, libraries = answers.headlines(known)
    assert loops[:2] == ("3,000×", "faster than the loops")
    assert libraries[:2] == ("1.00×", "the time of the better of PyTorch and JAX")  # sqrt(2/4 * 6/3) = 1
    assert (loops.side, libraries.side) == ("faster", "even")
    assert "2 convolutions" in libraries.meaning
    assert "from 0.50 to 2.00" in libraries.meaning


def test_goals_say_what_is_met_what_is_not_and_what_was_not_measured(known: Run) -> None:
    verdicts = {row[0].split(",")[0]: (row[1], row[3]) for row in answers.goals(known).rows}
    assert verdicts["convolutions over the best of PyTorch and JAX"] == ("1.00", "met")
    assert verdicts["the worst convolution"] == ("2.00", "not met")
    assert verdicts["a training step over PyTorch's"] == ("not measured", "")
    assert verdicts["extra memory of a convolution"] == ("1.00 MiB", "met")


def test_the_best_of_two_libraries_is_not_measured_with_one(tmp_path: Path) -> None:
    run = read(written(tmp_path / "run.json", [timed("fast", 2), timed("torch", 4)]))
    verdicts = {row[0]: (row[1], row[3]) for row in answers.goals(run).rows}
    assert verdicts["the worst convolution"] == ("not measured", "")
    assert verdicts["convolutions over PyTorch's default layout, geometric mean"] == ("0.50", "met")
    (headline,) = answers.headlines(run)
    assert headline[:2] == ("2.00×", "faster than PyTorch")


def test_every_ratio_that_is_watched_has_a_name(known: Run) -> None:
    conv = "conv2d both, ResNet-50:"
    assert ratios(known) == {
        f"{conv} 3->8, over the bare product": 2,
        f"{conv} 3->8, over PyTorch": 0.5,
        f"{conv} 3->8, over JAX": 0.25,
        f"{conv} 8->8, over the bare product": 1,
        f"{conv} 8->8, over PyTorch": 2,
        f"{conv} 8->8, over JAX": 0.25,
        "conv2d forward, ResNet-50: 3->8, over naive": 0.1 / 300,
    }


@pytest.fixture
def whole() -> Run:
    """A run of every kind of row; no ratio is its own inverse, and none is another's."""

    def row(layer: str, direction: str, case: str, **seconds: float) -> Row:
        noted = {
            "flops": 12 << 20,
            "bytes": 3 << 20,
            "extra_bytes": 65 << 20,
            "gflop_per_s": 7.0,
            "shape": [8, 3, 9, 9],
        }
        return Row(layer, "ResNet-50", case, direction, seconds, {"fast": noted})

    rows = [
        row("conv2d", "both", "a", fast=6, torch=2, jax=5, matmul=4),
        row("conv2d", "forward", "a", fast=10, torch=1, matmul=4),
        row("conv2d", "forward", "b", fast=1, torch=1, matmul=5),
        row("max_pool2d", "both", "c", fast=8, torch=1),
        row("relu", "both", "d", fast=1, torch=2),
        row("relu", "both", "e", fast=1, torch=4),
    ]
    growing = [
        Row(
            "conv2d",
            "by batch",
            str(n),
            "both",
            {"fast": n**1.2, "torch": 1.0},
            {"fast": {**rows[0].info["fast"], "shape": [n]}},
        )
        for n in (8, 64)
    ]
    trainings = [
        Training("tutorial", "step", 1, 128, {"fast": 3, "torch": 2}),
        Training("LeNet", "step", 1, 128, {"fast": 1, "torch": 4}),
        Training("LeNet", "epoch", 10, 128, {"fast": 9, "torch": 2}),
    ]
    check = Check((1, 2), (3, 4), {"ours": 2, "ours, our convolution": 4, "torch": 100})
    return Run({}, rows + growing, trainings, [check], None, None)


def test_goals_take_the_worst_or_the_mean_as_they_say(whole: Run) -> None:
    assert [(row[1], row[3]) for row in answers.goals(whole).rows] == [
        ("3.00", "not met"),  # 6/2; PyTorch is the best
        ("2.00", ""),  # 4/2
        ("3.00", "not met"),
        ("3.00", "not met"),
        ("2.00", ""),
        ("2.50", "not met"),  # 10/4, not 1/5
        ("1.50", "not met"),  # 3/2, not 1/4
        ("1.00", "met"),  # the cube root of 8/1 * 1/2 * 1/4
        ("65.0 MiB", "not met"),
        ("1.20", "not met"),
    ]
    headline = answers.headlines(whole)[-1]  # an epoch, not a step
    assert (*headline[:2], headline.side) == ("4.50×", "slower than PyTorch's training", "slower")


def test_the_bound_is_our_own_time_where_that_is_less_than_the_products(whole: Run) -> None:
    row = whole.rows[0]._replace(seconds={"fast": 3, "torch": 2, "jax": 5, "matmul": 4})
    assert [each[1] for each in answers.goals(whole._replace(rows=[row])).rows[:5]] == ["1.50"] * 5


def test_tables_divide_the_way_their_headings_say(whole: Run) -> None:
    assert [row[-1] for row in tables.trainings(whole).rows] == ["1.50", "0.25", "4.50"]
    assert [row[-1] for row in tables.checks(whole).rows] == ["50.0"]
    assert tables.products(whole).rows[0][2:6] == ("2.50", "1.50", "7.00", "4.00")
    worst = {row[0]: row[-1] for row in tables.summary(whole).rows}
    assert worst == {"all convolutions": "3.00", "conv2d, ResNet-50": "3.00", "max_pool2d": "8.00", "relu": "0.50"}


def test_all_contenders_of_a_case_stand_side_by_side() -> None:
    seconds = {"naive": 1.0, "im2col": 2.0, "fast": 3.0, "matmul": 4.0, "torch": 5.0, "torch channels_last": 6.0}
    row = Row("conv2d", "LeNet", "a", "both", {**seconds, "jax": 7.0, "jax channels_last": 8.0}, {"fast": {}})
    run = Run({}, [row], [], [], None, None)
    assert tables.medians(run).rows[0][3:] == tuple(f"{n}.00 s" for n in range(1, 9))
    assert tables.shapes(run).rows[0][2:] == ("0.60", *(f"{n}.00 s" for n in range(2, 9)))
    assert tables.loops(run).rows[0][3:] == ("1.00 s", "2.00 s", "3.00 s", "0.33")


def test_what_is_watched_is_the_worse_the_larger_it_is(whole: Run) -> None:
    found = ratios(whole)
    assert found["training tutorial, step, over PyTorch"] == 3 / 2
    assert found["training LeNet, epoch, over PyTorch"] == 9 / 2
    assert found["gradcheck, x (1, 2), over PyTorch"] == 2 / 100


def test_roofs_are_of_each_second(tmp_path: Path) -> None:
    entries = [
        {
            "name": f"test_machine[{roof}]",
            "params": {"roof": roof},
            "extra_info": {what: size},
            "stats": {"median": 4.0},
        }
        for roof, what, size in (("matrix product", "flops", 12), ("copy", "bytes", 20))
    ]
    run = read(written(tmp_path / "run.json", [*entries, timed("fast", 1)]))
    assert (run.flops, run.bandwidth) == (3, 5)
    assert run.work == {"flops": 12, "bytes": 20}


def test_roofs_are_named_with_the_work_that_was_done() -> None:
    """With --small it is a small product, and the page must not call it a large one."""
    run = Run({}, [], [], [], 3e9, 5e9, {"flops": 2 * 128**3, "bytes": 2**20})
    assert tables.roofs(run) == {
        "multiplies at most": "3.00 GFLOP/s, by numpy.matmul of 128 × 128",
        "moves at most": "5.00 GB/s, read and written by a copy of 0.50 MiB, all threads",
    }
    assert tables.roofs(Run({}, [], [], [], None, None)) == {}


def test_exponents_are_fitted_in_logarithms(tmp_path: Path) -> None:
    rows = [
        timed(version, scale * n**power, case=f"N = {n}", zoo="by batch", shape=[n, 3, 9, 9])
        for n in (2, 8, 32)
        for version, scale, power in (("fast", 3, 1.0), ("torch", 2, 1.5))
    ]
    fitted = tables.growth(read(written(tmp_path / "run.json", rows)))
    assert list(fitted) == ["by batch"]
    assert fitted["by batch"] == pytest.approx((1.0, 1.5))


def test_one_size_has_no_exponent() -> None:
    assert tables.exponent([(2, 1.0), (2, 2.0)]) is None
    assert tables.exponent([]) is None


def test_a_ratio_and_its_inverse_cancel() -> None:
    assert geometric_mean([4, 1 / 4, 9, 1 / 9]) == pytest.approx(1)


def test_the_machine_is_named(known: Run) -> None:
    assert known.machine == {
        "processor": "A Processor, 4 cores",
        "threads": "2 for each contender",
        "linear algebra": "openblas 0.3, kernel Zen",
        "dtype": "float32",
        "versions": "Python 3.12.1, NumPy 2.4.0, PyTorch 2.13",
        "system": "unknown on unknown",
        "commit": "0123456789, with changes",
        "date": "2026-01-02",
    }


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ([], "has no benchmark"),
        ([timed("naive", 3.0)], "conv2d, ResNet-50, 3->8, both: the fast version is missing, found naive"),
        ([{"fullname": "test_x.py::test_y", "params": None}], "test_x.py::test_y is not a benchmark of this folder"),
        ([{**timed("fast", 1), "name": "test_other"}], "is not a benchmark of this folder"),
        ([None], "an entry is not a benchmark of this folder"),
        (None, "is not the JSON of pytest-benchmark"),
    ],
)
def test_a_file_that_is_no_run_is_refused(tmp_path: Path, benchmarks: object, message: str) -> None:
    with pytest.raises(NotARunError, match=re.escape(message)):
        read(written(tmp_path / "run.json", benchmarks))


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "{}"])
def test_a_file_that_is_no_json_of_pytest_benchmark_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(NotARunError, match=r"is not the JSON of pytest-benchmark"):
        read(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (123.4, "123 s"), (0.002, "2.00 ms"), (1.5e-5, "15.0 µs"), (2e-8, "0.02 µs")]
)
def test_times_have_three_digits_and_a_unit(seconds: float | None, text: str) -> None:
    assert tables.time(seconds) == text


@pytest.mark.long
def test_what_the_benchmarks_write_the_report_reads(small_run: Path) -> None:
    run = read(small_run)
    assert {row.layer for row in run.rows if "naive" in row.seconds} == set(LAYERS)
    assert {each.network for each in run.trainings} == {"LeNet"}
    assert run.flops is not None
    assert run.bandwidth is not None
    assert "--small" in run.machine["caution"]
    conv = [row for row in run.rows if row.zoo == "LeNet" and row.layer == "conv2d" and row.direction == "both"]
    for row in conv:
        assert row.info["fast"]["gflop_per_s"] == pytest.approx(row.info["fast"]["flops"] / row.fast / 1e9)
        assert row.info["fast"]["share_of_matmul"] == pytest.approx(row.seconds["matmul"] / row.fast)
        assert row.info["fast"]["extra_bytes"] > 0


@pytest.mark.long
def test_the_command_writes_page_and_summary_with_the_numbers_of_the_run(small_run: Path) -> None:
    pytest.importorskip("matplotlib", reason="the report is an extra: pip install gradcert[report]")
    report = pytest.importorskip("benchmarks.report.__main__", reason="the report is an extra")
    result = CliRunner().invoke(report.main, [str(small_run)])
    assert result.exit_code == 0, result.output
    page, summary = (small_run.with_name(f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert summary in result.output
    run = read(small_run)
    assert "--small" in page
    for row in run.rows:
        assert f">{tables.time(row.fast)}</td>" in page
    pictures = ["naive loops", "Roofline", "3×3 convolution"]
    if find_spec("torch"):
        pictures += ["each contender", "gradient check", "Every round"]
    for picture in pictures:
        assert re.search(rf"<svg [^>]*><title>[^<]*{picture}", page)
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(set(identifiers)) == len(identifiers)
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page)) <= set(identifiers)
    assert "#0102" not in page  # a colour that stands for one of the style sheet


def test_a_wrong_file_is_wrong_usage(tmp_path: Path) -> None:
    report = pytest.importorskip("benchmarks.report.__main__", reason="the report is an extra: gradcert[report]")
    result = CliRunner().invoke(report.main, [str(written(tmp_path / "run.json", []))])
    assert result.exit_code == 2
    assert "has no benchmark" in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "report.html").exists()
