"""The calibration at a small size: it measures what it says, and what is wrong would show in it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.calibrate import black_box, causes, false_alarms, localisation, sabotage, sensitivity, tied
from benchmarks.calibrate.__main__ import FIGURES, PAGE, RESULTS, main, page, section
from benchmarks.calibrate.mutants import MUTANTS
from benchmarks.calibrate.zoo import ZOO, Known


@pytest.mark.parametrize("known", ZOO, ids=lambda known: known.name)
def test_derivatives_of_the_zoo_are_right(known: Known) -> None:
    """By a wider central difference than any that is calibrated, to its own truncation."""
    x = known.draw(np.random.default_rng(0))
    dy = np.random.default_rng(1).normal(size=known.f(x).shape)
    gradient = known.vjp(x, dy)
    for i in range(x.size):
        # h^2 f''' / 6 and eps f / h are each below 1e-4 of these functions' derivatives.
        h = 1e-4 * min(np.abs(x[i]), 1e-3 if "fast" in known.name else 0.1)
        ahead, behind = (known.f(np.where(np.arange(x.size) == i, x + side * h, x)) for side in (1, -1))
        difference = (dy * (ahead - behind)).sum() / (2 * h)
        noise = 1e-15 * np.abs(dy * known.f(x)).sum() / h
        assert abs(difference - gradient[i]) <= 1e-4 * np.abs(gradient).max() + noise


def test_thirty_functions_are_in_the_zoo() -> None:
    assert len({known.name for known in ZOO}) == 30


def test_the_black_box_is_covered_and_sharp() -> None:
    found = black_box.measure(4)
    assert found["covered"] == found["cases"] == 120
    assert found["median relative tolerance"] <= 1e-9


def test_too_small_a_safety_factor_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(black_box, "SAFETY", 0.01)
    assert black_box.measure(4)["covered"] < 120


@pytest.mark.long
def test_nobody_is_accused_for_a_spoilt_forward_and_floors_hold() -> None:
    found = sabotage.measure(180)
    assert found["checks"] == 180
    assert found["share of FAIL"] == 0
    assert found["share caught above the floor"] >= 0.99


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("weights, relu, weights", 93),  # along one direction two kinks cancel
        ("weights, relu, weights", 171),
        ("weights, relu, weights, tanh", 119),  # float32's noise hides that the kinks are not regular
        ("weights, relu, weights, tanh", 317),  # a sum is 0 in float32, and not in complex numbers
        ("median", 79),
        ("median", 105),
    ],
)
def test_a_right_gradient_where_most_kinks_meet_is_not_called_wrong(name: str, seed: int) -> None:
    assert false_alarms.verdict_at_ties(tied.TIED[name], seed) == "INCONCLUSIVE"


def test_an_error_far_below_the_floor_is_not_called_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sabotage.check(ZOO[0], "overflow", 0) == ("PASS", True)
    monkeypatch.setattr(sabotage, "PLANTED", 1e-3)
    assert sabotage.check(ZOO[0], "overflow", 0) == ("PASS", False)


def test_a_derivative_that_is_wrong_shows_as_accused() -> None:
    wrong = ZOO[0]._replace(vjp=lambda x, dy: 2 * ZOO[0].vjp(x, dy))
    assert sabotage.check(wrong, "overflow", 1)[0] == "FAIL"


@pytest.mark.long
def test_planted_errors_are_caught_and_right_layers_pass() -> None:
    found = sensitivity.measure(6, 0)
    assert found["least share caught"] == 1
    assert false_alarms.measure(60)["FAIL"] == 0


@pytest.mark.long
def test_localisation_stays_within_its_bound() -> None:
    found = localisation.measure(1)
    assert found["within"]
    assert found["entry right"] == 1


def test_an_entry_found_one_by_one_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_by_one(direction: Any, residual: Any, whole: Any) -> Any:
        errors = [abs(residual(np.where(np.arange(direction.size) == i, direction, 0))) for i in range(direction.size)]
        return (int(np.argmax(errors)),), max(errors)

    monkeypatch.setattr(localisation, "SIZES", (64,))
    monkeypatch.setattr(localisation, "FUNCTIONS", {"smooth": localisation.FUNCTIONS["smooth"]})
    assert localisation.measure(1)["within"]
    monkeypatch.setattr("verify.checker.references.differences.descend", one_by_one)
    assert not localisation.measure(1)["within"]


@pytest.mark.long
def test_causes_are_named_right_and_few_wrongly() -> None:
    found = causes.measure(1, first_seed=0)
    assert found["mutants that no case showed"] == "none"
    assert found["share right"] >= 0.95
    assert found["share confidently wrong"] <= 0.01
    assert found["correct layers accused"] == 0
    without = {code for code, row in found["rows"].items() if not row["mutants"]}
    assert not without


def test_a_cause_that_is_another_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finder that calls every wrong gradient transposed is right of those alone."""
    monkeypatch.setattr(causes, "guess", lambda *_, **__: "transposed")
    mutants = {each.name: each for each in MUTANTS}
    right, wrong = (
        causes.trials(mutants[f"linear: {name}"], causes.cases("linear", 0), 3, 0)
        for name in ("dw transposed", "gradient 1 negated")
    )
    assert (right["right"], right["wrong"]) == (3, 0)
    assert (wrong["right"], wrong["wrong"]) == (0, 3)


def test_a_section_says_claim_command_totals_and_rows() -> None:
    text = section("localisation", {"trials": (1,), "minutes": 0, "within": True, "rows": {"n = 1": {"of": 1.5}}})
    assert FIGURES["localisation"][0] in text
    assert "`python -m benchmarks.calibrate localisation`, trials 1, seeds from 0" in text
    assert "- within: True" in text
    assert "| n = 1 | 1.5 |" in text
    assert page({}).startswith("# Calibration")


def test_what_is_not_measured_cannot_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["spped"])
    assert raised.value.code == 2
    assert "unknown: spped" in capsys.readouterr().err


def test_the_page_is_made_of_what_was_measured() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULTS.read_text(encoding="utf-8")))
