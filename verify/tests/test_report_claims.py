"""What the report says in sentences: true of the run, flagged where it cannot be, and nothing of a run with --small."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.report import answers, claims, flags, tables
from benchmarks.report.collect import Check, Row, Run, Training
from verify.layers import LAYERS

NOTED = {"flops": 6_000, "bytes": 3_000, "extra_bytes": 2**20, "gflop_per_s": 7.0, "shape": [8, 3, 9, 9], "groups": 1}


def row(
    case: str = "3->8 3x3 on 9x9, N = 8",
    zoo: str = "ResNet-50",
    noted: Mapping[str, Any] = NOTED,
    **rounds: list[float],
) -> Row:
    """A convolution with these rounds, of which the second is the median."""
    seconds = {name: sorted(own)[1] for name, own in rounds.items()}
    info = dict.fromkeys(rounds, noted)
    return Row("conv2d", zoo, case, "both", seconds, info, {name: tuple(own) for name, own in rounds.items()})


def constant(seconds: float) -> list[float]:
    """Three equal rounds."""
    return [seconds] * 3


@pytest.fixture
def run() -> Run:
    """Three convolutions: one four times faster than PyTorch, one twice as slow as JAX, one that is not known."""
    rows = [
        row("a->b", fast=constant(1), torch=constant(4), jax=constant(8), matmul=constant(0.5)),
        row("c->d", fast=constant(6), torch=constant(9), jax=constant(3), matmul=constant(4)),
        row("e->f", fast=[1, 2, 4], torch=[2, 2, 1], matmul=constant(1)),
    ]
    growing = [row(str(n), "by batch", {**NOTED, "shape": [n]}, fast=constant(n**1.5)) for n in (8, 16, 32)]
    loops = [row("g", noted=NOTED, fast=constant(1), naive=constant(1400))._replace(direction="forward")]
    trainings = [Training("LeNet", "epoch", 10, 128, {"fast": 9, "torch": 6}, {})]
    checks = [
        Check((1, 2), (3, 4), {"ours": 3, "ours, our convolution": 1, "torch": 2}),
        Check((2, 2), (3, 4), {"ours": 2, "ours, our convolution": 1, "torch": 4}),
    ]
    return Run({}, rows + growing + loops, trainings, checks, 1e4, 1e4, {})


def test_convolutions_are_counted_by_the_side_of_their_interval(run: Run) -> None:
    assert claims.contenders(run).endswith("over 3 convolutions: faster in 1, slower in 1, undecided in 1.")
    assert claims.contenders(run).startswith("We take 0.79 (")  # the cube root of 1/4 * 6/3 * 2/2


def test_the_growth_is_said_with_its_interval(run: Run) -> None:
    assert claims.growth(run) == "Time grows with batch to the power 1.50."
    rough = [each._replace(seconds={"fast": each.fast * (1 + 0.1 * (i % 2))}) for i, each in enumerate(run.rows)]
    said = re.fullmatch(
        r"Time grows with batch to the power (.*) \((.*)–(.*)\)\.", claims.growth(run._replace(rows=rough))
    )
    assert said is not None
    value, low, high = map(float, said.groups())
    assert low < value < high


def test_checks_are_said_from_the_quickest_to_the_slowest(run: Run) -> None:
    assert claims.checks(run.checks) == "An exact check takes from 0.50 to 1.50 times as long as PyTorch's fast mode."


def test_training_is_said_of_an_epoch(run: Run) -> None:
    assert claims.training(run) == "An epoch takes 1.50 times as long as PyTorch's for LeNet."


def test_the_roofs_are_shared_out() -> None:
    said = claims.roofline({"arithmetic": [0.5, 0.25, 0.75], "memory": [0.1]})
    assert said == "Of 4 cases arithmetic bounds 3 and memory bounds 1. The median reaches 38% of its bound."


def test_layers_are_said_from_the_least_to_the_most() -> None:
    said = claims.loops({"relu": 300.0, "conv2d": 1400.0, "softmax": 3.5})
    assert said == "The fast version is 3.50 times (softmax) to 1,400 times (conv2d) as fast as the loops."
    assert claims.loops({"relu": 300.0}) == "The fast version of relu is 300 times as fast as the loops."


def test_the_most_memory_is_ours_first() -> None:
    said = claims.memory({"ours": 3 << 20, "im2col": 900 << 20})
    assert said == "Ours needs at most 3.00 MiB beside its arguments and results; im2col up to 900 MiB."


@pytest.mark.parametrize(
    ("product", "groups", "version", "reason"),
    [
        ([1.9, 2.1, 9], 1, "fast", "no difference: the interval of their ratio has 1 in it"),
        ([1.9, 4, 4], 1, "fast", "rounds of the product were disturbed: 2 of 3 are longer, its fastest is not"),
        (
            [3, 4, 5],
            1,
            "fast",
            "another algorithm: it multiplies in blocks, the product is of one large unfolded matrix",
        ),
        ([3, 4, 5], 32, "fast", "another algorithm: here the product is 32 small ones, one for each group"),
        ([3, 4, 5], 1, "im2col", "it does the same products in other shapes, or the machine was disturbed"),
        ([3, 4, 5], 1, "torch", "another algorithm, or a matrix product of its own that is faster than NumPy's"),
    ],
)
def test_a_time_below_its_product_is_flagged_with_the_reason(
    product: list[float], groups: int, version: str, reason: str
) -> None:
    times = {"fast": constant(9), "torch": constant(9), version: [1.99, 2, 2.01], "matmul": product}
    if reason.startswith("rounds"):  # paired with rounds of its own, so that the interval lies below 1
        times[version] = [1.8, 2, 2]
    found = row("a->b", "zoo", {**NOTED, "groups": groups}, **times)
    (flag,) = flags.flags(Run({}, [found], [], [], None, None))
    assert (flag.version, flag.bound, flag.factor) == (version, "bare product", 2 / sorted(product)[1])
    assert flag.reason == reason


def test_what_takes_as_long_as_its_product_or_longer_is_not_flagged() -> None:
    run = Run({}, [row(fast=constant(2), torch=constant(3), matmul=constant(2))], [], [], None, None)
    assert flags.flags(run) == []
    assert tables.products(run).rows[0][3] == "1.00"


def test_a_ratio_below_its_product_has_a_dagger_in_the_table() -> None:
    run = Run({}, [row(fast=constant(1), matmul=constant(2))], [], [], None, None)
    assert tables.products(run).rows[0][3] == "0.50 †"


def test_a_rate_above_the_machines_is_flagged() -> None:
    """6,000 operations in 2 s are 3,000 each second: above 2,000, below 4,000."""
    timed = row(fast=constant(2))
    assert flags.flags(Run({}, [timed], [], [], 4_000, 1)) == []
    (flag,) = flags.flags(Run({}, [timed], [], [], 2_000, 1))
    assert (flag.version, flag.bound) == ("fast", "fastest product")
    assert flag.factor == pytest.approx(2 / 3)


def test_a_small_run_claims_nothing(run: Run) -> None:
    small = run._replace(machine={"caution": "few images"})
    assert answers.headlines(run)
    assert answers.headlines(small) == []
    assert any(measured != "not measured" for _, measured, *_ in answers.goals(run).rows)
    assert {measured for _, measured, *_ in answers.goals(small).rows} == {"not measured"}
    drawn = pytest.importorskip(
        "benchmarks.report.sections", reason="the report is an extra: gradcert[report]"
    ).sections
    for claiming, section in zip(drawn(run), drawn(small), strict=True):
        assert "" not in section.tables or section.title in ("Training", "The verifier", "Against the matrix product")
        for claim, figure in zip(claiming.figures, section.figures, strict=True):
            assert figure.title == figure.shows == claim.shows
            assert claim.title != claim.shows
            assert not re.search(r"\d (?:times|%)", figure.title)


def test_layers_that_are_timed_have_names_for_the_figures() -> None:
    figure = pytest.importorskip("benchmarks.report.contenders_figure", reason="the report is an extra")
    assert figure.shown("64->64 3x3/2 g32 on 56x56, N = 8") == "64→64 3×3/2 g32 on 56×56, N = 8"
    assert len({figure.shown(case.name) for case in LAYERS["conv2d"].bench}) > 30
